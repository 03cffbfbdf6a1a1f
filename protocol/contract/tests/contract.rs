// SPDX-License-Identifier: Apache-2.0

//! Contracts from outside: form, signatures, what a Keep refuses, and SPEC.md.

use enarx_contract::canonical::{Base64, CanonicalError, Hex, Name};
use enarx_contract::{
    Agreement, Backend, Contract, ContractError, Countersignature, Directory, Doors, Host, Image,
    KeepFacts, MAX_ENCODED, MinTcb, Platform, PublicKey, Resources, SPKI_SIZE, Side, Signature,
    Tee, Tenant, Term, Terms, Times, signing_input,
};
use enarx_documents::plain_table;
use enarx_snp::report::{REPORT_LEN, Report};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use zerocopy::FromBytes;

const SPEC: &str = include_str!("../SPEC.md");

fn secret(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).expect("a scalar of the curve")
}

fn key(seed: u8) -> PublicKey {
    let point = secret(seed).verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    PublicKey::from_coordinates(x.try_into().unwrap(), y.try_into().unwrap())
}

fn sign(seed: u8, message: &[u8]) -> Signature {
    let signature: p256::ecdsa::Signature = secret(seed).sign(message);
    Hex(signature.to_bytes().into())
}

const TENANT: u8 = 1;
const HOST: u8 = 2;
const STRANGER: u8 = 3;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn terms() -> Terms {
    Terms {
        version: 1,
        id: Hex([7; 16]),
        host: Host {
            key: key(HOST),
            name: name("host.example"),
        },
        tenant: Tenant::Named(key(TENANT)),
        platform: Platform {
            tee: Tee::Snp,
            backend: Backend::Snp,
            product: Some(name("milan")),
            guest_policy: Some(Hex(0x3_0000u64.to_be_bytes())),
            min_tcb: Some(MinTcb {
                fmc: None,
                bootloader: 4,
                tee: 0,
                snp: 24,
                microcode: 219,
            }),
        },
        image: Some(Image {
            release: None,
            measurement: Hex([0x4d; 48]),
        }),
        resources: Resources {
            vcpus: 2,
            memory: 1 << 30,
        },
        doors: Doors {
            listen: vec!["443/tcp".parse().unwrap()],
            connect: vec!["db.example:5432".parse().unwrap()],
            resolve: vec!["*.example".parse().unwrap()],
            directories: vec![Directory {
                name: "/data".to_owned(),
                read_only: true,
            }],
        },
        times: Times {
            not_before: 1000,
            not_after: 2000,
            unprovisioned_seconds: 60,
            detached_seconds_max: 600,
            runtime_seconds_max: 86_400,
        },
        class: name("standard"),
    }
}

fn contract() -> Contract {
    Contract::new(terms()).unwrap()
}

fn own() -> KeepFacts {
    KeepFacts {
        tee: Tee::Snp,
        vcpus: 2,
        memory: 1 << 30,
    }
}

fn report(contract: &Contract) -> Report {
    let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).unwrap();
    report.version.set(5);
    report.policy.set(0x3_0000);
    report.measurement = [0x4d; 48];
    report.host_data = contract.digest().0;
    report.cpuid_family = 0x19;
    report.cpuid_model = 1;
    report.reported_tcb.0 = [4, 0, 0, 0, 0, 0, 24, 219];
    report
}

/// The error for terms that differ from good ones by `change`.
fn refusal(change: impl FnOnce(&mut Terms)) -> String {
    let mut terms = terms();
    change(&mut terms);
    let error = Contract::new(terms).expect_err("they make no sense");
    format!("{}: {error}", error.code())
}

#[test]
fn a_contract_is_its_bytes() {
    let contract = contract();
    let again = Contract::decode(contract.bytes()).unwrap();
    assert_eq!(again, contract);
    assert_eq!(
        contract.digest().0,
        <[u8; 32]>::from(Sha256::digest(contract.bytes()))
    );
    assert_eq!(contract.keep_id().0, contract.digest().0[..16]);
    // The same terms under another id are another contract, with another Keep.
    let mut other = terms();
    other.id = Hex([8; 16]);
    assert_ne!(Contract::new(other).unwrap().keep_id(), contract.keep_id());
}

#[test]
fn the_same_terms_in_other_bytes_are_not_the_contract() {
    let bytes = String::from_utf8(contract().bytes().to_vec()).unwrap();
    for other in [
        bytes.replacen(':', ": ", 1),
        format!("{bytes}\n"),
        bytes.replacen(r#""version":1"#, r#""version":1.0"#, 1),
        bytes.replacen("standard", r"\u0073tandard", 1),
        bytes.replacen(r#""release":null,"#, "", 1),
        bytes.replacen('{', r#"{"price":1,"#, 1),
        bytes.replacen('{', r#"{"version":1,"#, 1),
        bytes.replacen(r#"{"key":"3059"#, r#"{"key":"3058"#, 1),
    ] {
        assert_ne!(other, bytes);
        let error = Contract::decode(other.as_bytes()).expect_err(&other);
        assert_eq!(error.code(), "contract.form", "{other}");
    }
    let long = vec![b' '; MAX_ENCODED + 1];
    assert_eq!(
        Contract::decode(&long),
        Err(ContractError::Form(CanonicalError::TooLong {
            length: MAX_ENCODED + 1,
            limit: MAX_ENCODED
        }))
    );
}

#[test]
fn a_tenant_has_exactly_two_forms() {
    let bytes = String::from_utf8(contract().bytes().to_vec()).unwrap();
    let named = format!(r#""tenant":{{"key":"{}"}}"#, Hex(*key(TENANT).spki()));
    let with = |tenant: &str| Contract::decode(bytes.replace(&named, tenant).as_bytes());
    assert_eq!(with(&named), Ok(contract()));
    let open = with(r#""tenant":{"open":true}"#).unwrap();
    assert_eq!(open.terms().tenant, Tenant::Open);
    for other in [
        r#""tenant":{"open":false}"#.to_owned(),
        r#""tenant":{}"#.to_owned(),
        r#""tenant":null"#.to_owned(),
        named.replace('}', r#","open":true}"#),
    ] {
        assert_eq!(
            with(&other).map_err(|error| error.code()),
            Err("contract.form"),
            "{other}"
        );
    }
    // A Keep accepts only a session of its tenant.
    let (tenant, stranger) = (key(TENANT), key(STRANGER));
    let named = contract();
    assert!(named.terms().admits(&tenant, None));
    assert!(!named.terms().admits(&stranger, None));
    assert!(open.terms().admits(&stranger, None));
    assert!(open.terms().admits(&stranger, Some(&stranger)));
    assert!(
        !open.terms().admits(&tenant, Some(&stranger)),
        "it is taken"
    );
}

#[test]
fn terms_without_a_meaning_are_refused() {
    for (expected, found) in [
        ("contract.version", refusal(|t| t.version = 2)),
        (
            "`platform.backend`",
            refusal(|t| t.platform.backend = Backend::Sim),
        ),
        (
            "`platform.backend`",
            refusal(|t| t.platform.tee = Tee::None),
        ),
        ("`platform.product`", refusal(|t| t.platform.product = None)),
        (
            "`platform.product`",
            refusal(|t| t.platform.product = Some(name("rome"))),
        ),
        (
            "`platform.guest_policy`",
            refusal(|t| t.platform.guest_policy = None),
        ),
        ("`platform.min_tcb`", refusal(|t| t.platform.min_tcb = None)),
        (
            "`platform.min_tcb.fmc`",
            refusal(|t| t.platform.min_tcb.as_mut().unwrap().fmc = Some(1)),
        ),
        (
            "`platform.min_tcb.fmc`",
            refusal(|t| t.platform.product = Some(name("turin"))),
        ),
        ("`image`", refusal(|t| t.image = None)),
        ("`resources.vcpus`", refusal(|t| t.resources.vcpus = 0)),
        ("`resources.vcpus`", refusal(|t| t.resources.vcpus = 63)),
        ("`resources.memory`", refusal(|t| t.resources.memory = 0)),
        ("contract.form", refusal(|t| t.resources.memory = 1 << 53)),
        ("`times.not_after`", refusal(|t| t.times.not_after = 999)),
        (
            "`times.unprovisioned_seconds`",
            refusal(|t| t.times.unprovisioned_seconds = 0),
        ),
        (
            "`times.runtime_seconds_max`",
            refusal(|t| t.times.runtime_seconds_max = 0),
        ),
        ("`doors`", refusal(|t| t.class = name("probe"))),
        (
            "`doors.resolve`",
            refusal(|t| t.doors.resolve = vec![t.doors.resolve[0].clone(); 257]),
        ),
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_contract_without_a_tee_names_nothing_that_is_measured() {
    let mut terms = terms();
    terms.platform = Platform {
        tee: Tee::None,
        backend: Backend::Process,
        product: None,
        guest_policy: None,
        min_tcb: None,
    };
    terms.image = None;
    let contract = Contract::new(terms).unwrap();
    let own = KeepFacts {
        tee: Tee::None,
        ..own()
    };
    assert_eq!(contract.check_keep(&own, None), Ok(()));
    let report = report(&contract);
    for refused in [
        contract.check_keep(&own, Some(&report)),
        contract.check_keep(&self::own(), Some(&report)),
        contract.check_report(&report),
    ] {
        assert_eq!(refused.map_err(|error| error.code()), Err("contract.terms"));
    }
}

#[test]
fn each_side_signs_only_for_itself_and_this_contract() {
    let contract = contract();
    let tenant = sign(TENANT, &signing_input(Side::Tenant, contract.digest()));
    let host = sign(HOST, &signing_input(Side::Host, contract.digest()));
    assert_eq!(contract.verify_tenant(&key(TENANT), &tenant), Ok(()));
    assert_eq!(contract.verify_host(&host), Ok(()));
    // The host's signature is not valid as the tenant's, with either key.
    assert_eq!(
        contract.verify_tenant(&key(TENANT), &host),
        Err(ContractError::Signature(Side::Tenant))
    );
    let swapped = sign(HOST, &signing_input(Side::Tenant, contract.digest()));
    assert_eq!(
        contract.verify_host(&swapped),
        Err(ContractError::Signature(Side::Host))
    );
    let stranger = sign(STRANGER, &signing_input(Side::Tenant, contract.digest()));
    assert_eq!(
        contract.verify_tenant(&key(STRANGER), &stranger),
        Err(ContractError::TenantKey),
        "a named contract has its tenant"
    );
    let mut other = terms();
    other.tenant = Tenant::Open;
    let open = Contract::new(other).unwrap();
    assert_eq!(
        open.verify_host(&host).map_err(|e| e.code()),
        Err("contract.host-signature")
    );
    assert_eq!(
        open.verify_tenant(&key(STRANGER), &stranger)
            .map_err(|e| e.code()),
        Err("contract.tenant-signature"),
        "over another contract"
    );
    let claim = sign(STRANGER, &signing_input(Side::Tenant, open.digest()));
    assert_eq!(open.verify_tenant(&key(STRANGER), &claim), Ok(()));
    // A key off the curve and a signature of zeros verify nothing, and panic nowhere.
    let bad = PublicKey::from_coordinates(&[1; 32], &[1; 32]);
    assert!(!bad.verifies(b"", &claim));
    assert!(!key(TENANT).verifies(b"", &Hex([0; 64])));
    assert!(!key(TENANT).verifies(b"", &Hex([0xff; 64])));
}

#[test]
fn an_agreement_keeps_the_bytes_and_checks_what_is_there() {
    let contract = contract();
    let signature = |seed, side| sign(seed, &signing_input(side, contract.digest()));
    let agreement = Agreement {
        contract: Base64(contract.bytes().to_vec()),
        tenant: Some(Countersignature {
            key: key(TENANT),
            signature: signature(TENANT, Side::Tenant),
        }),
        host: None,
    };
    let read = Agreement::decode(&agreement.encode().unwrap()).unwrap();
    assert_eq!(read, agreement);
    assert_eq!(read.verify(), Ok(contract.clone()));
    let forged = Agreement {
        host: Some(signature(STRANGER, Side::Host)),
        ..read
    };
    assert_eq!(forged.verify(), Err(ContractError::Signature(Side::Host)));
    let signed = Agreement {
        host: Some(signature(HOST, Side::Host)),
        ..forged
    };
    assert_eq!(signed.verify(), Ok(contract));
}

#[test]
fn a_keep_of_other_terms_is_refused_term_by_term() {
    let contract = contract();
    let good = report(&contract);
    assert_eq!(contract.check_keep(&own(), Some(&good)), Ok(()));
    let term = |result: Result<(), ContractError>| match result {
        Err(ContractError::Terms { term, .. }) => term,
        other => panic!("{other:?}"),
    };
    for (expected, change) in [
        (
            Term::Measurement,
            (|r| r.measurement[0] ^= 1) as fn(&mut Report),
        ),
        (Term::GuestPolicy, |r| r.policy.set(0xB_0000)),
        (Term::Vmpl, |r| r.vmpl.set(1)),
        (Term::Vmpl, |r| r.vmpl.set(u32::MAX)),
        (Term::Product, |r| r.cpuid_model = 0x11),
        (Term::Product, |r| r.cpuid_family = 0x10),
        // It does not name its CPU, so a check cannot be made.
        (Term::Product, |r| r.version.set(2)),
        (Term::Tcb, |r| r.reported_tcb.0[0] = 3),
        (Term::Tcb, |r| r.reported_tcb.0[6] = 23),
        (Term::Tcb, |r| {
            r.reported_tcb.0 = [255, 255, 0, 0, 0, 0, 255, 218];
        }),
    ] {
        let mut report = good;
        change(&mut report);
        assert_eq!(term(contract.check_keep(&own(), Some(&report))), expected);
        assert_eq!(term(contract.check_report(&report)), expected);
    }
    let mut higher = good;
    higher.reported_tcb.0 = [5, 1, 0, 0, 0, 0, 25, 220];
    assert_eq!(contract.check_report(&higher), Ok(()));
    for (expected, own) in [
        (
            Term::Tee,
            KeepFacts {
                tee: Tee::Simulated,
                ..own()
            },
        ),
        (
            Term::Tee,
            KeepFacts {
                tee: Tee::None,
                ..own()
            },
        ),
        (Term::Vcpus, KeepFacts { vcpus: 1, ..own() }),
        (
            Term::Memory,
            KeepFacts {
                memory: (1 << 30) - 1,
                ..own()
            },
        ),
    ] {
        assert_eq!(term(contract.check_keep(&own, Some(&good))), expected);
    }
    assert_eq!(term(contract.check_keep(&own(), None)), Term::Tee);
    let mut other = good;
    other.host_data[31] ^= 1;
    let refused = contract.check_keep(&own(), Some(&other));
    assert_eq!(
        refused.map_err(|error| error.code()),
        Err("contract.host-data")
    );
}

#[test]
fn a_contract_is_valid_between_its_times() {
    let times = terms().times;
    for (now, holds) in [
        (999, false),
        (1000, true),
        (2000, true),
        (2001, false),
        (u64::MAX, false),
    ] {
        assert_eq!(times.admit(now).is_ok(), holds, "{now}");
    }
    assert_eq!(
        times.admit(0).map_err(|error| error.code()),
        Err("contract.times")
    );
}

#[test]
fn keys_have_one_form() {
    let spki = *key(TENANT).spki();
    assert_eq!(PublicKey::from_spki(&spki), Some(key(TENANT)));
    for at in 0..27 {
        let mut other = spki;
        other[at] ^= 1;
        assert_eq!(PublicKey::from_spki(&other), None, "byte {at}");
    }
    assert_eq!(PublicKey::from_spki(&spki[..SPKI_SIZE - 1]), None);
    assert_eq!(
        PublicKey::from_spki(&[spki.as_slice(), &[0]].concat()),
        None
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes: not a contract, or one that encodes to the same bytes.
    #[test]
    fn decoding_is_total_and_accepts_one_form(
        flips in proptest::collection::vec((0usize..2000, any::<u8>()), 0..4),
        cut in 0usize..2500,
    ) {
        let mut bytes = contract().bytes().to_vec();
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        if let Ok(contract) = Contract::decode(&bytes) {
            prop_assert_eq!(contract.bytes(), &bytes[..]);
            let again = Contract::new(contract.terms().clone()).unwrap();
            prop_assert_eq!(again.bytes(), &bytes[..]);
        }
    }
}

/// The first cells of the table after a marker, without backticks.
fn names(marker: &str) -> Vec<String> {
    let rows = plain_table(SPEC, marker).into_iter();
    rows.filter_map(|row| row.into_iter().next()).collect()
}

#[test]
fn the_table_of_refusals_lists_every_name() {
    let source = include_str!("../src/error.rs");
    let mut known: Vec<_> = source
        .split('"')
        .filter(|text| {
            text.strip_prefix("contract.").is_some_and(|rest| {
                rest.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            })
        })
        .map(str::to_owned)
        .collect();
    let mut listed = names("<!-- refusals:");
    known.sort_unstable();
    listed.sort_unstable();
    assert!(known.len() >= 10);
    assert_eq!(listed, known);
}

#[test]
fn the_table_of_fields_is_the_document() {
    let text = String::from_utf8(contract().bytes().to_vec()).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut fields = Vec::new();
    for (field, value) in document.as_object().unwrap() {
        match value.as_object() {
            Some(inner) => fields.extend(inner.keys().map(|key| format!("{field}.{key}"))),
            None => fields.push(field.clone()),
        }
    }
    let mut listed = names("<!-- fields:");
    // The other form of the tenant.
    listed.retain(|field| field != "tenant.open");
    listed.sort_unstable();
    fields.sort_unstable();
    assert_eq!(listed, fields);
}
