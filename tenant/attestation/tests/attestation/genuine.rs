// SPDX-License-Identifier: Apache-2.0

//! Evidence from genuine hardware and cases derived from it: each must yield the expected verdict.

use crate::vectors::{self, Case};
use base64ct::{Base64, Encoding};
use enarx_attestation::{
    Endorsements, Expected, Outcome, Overall, Policy, Timestamp, Verdict, Verifier,
};

/// A time at which all certificates of the SEV-SNP cases without their own clock are valid.
const AMD_TIME: Timestamp = Timestamp(1_790_000_000);

fn time(case: &Case) -> Timestamp {
    case.expected
        .get("verify_at_unix")
        .and_then(serde_json::Value::as_u64)
        .map_or(AMD_TIME, Timestamp)
}

fn verify(case: &Case, policy: Policy) -> Verdict {
    Verifier::new(policy).verify(
        &case.evidence,
        &case.endorsements,
        &Expected::at(time(case)),
    )
}

#[track_caller]
fn assert_fails(case: &str, verdict: &Verdict, names: &[&str]) {
    for name in names {
        let check = verdict
            .check(name)
            .unwrap_or_else(|| panic!("{case}: no check {name}"));
        assert_eq!(check.outcome, Outcome::Fail, "{case}: {name}\n{verdict}");
    }
}

/// The checks that must fail in a derived SEV-SNP case, by the end of its name.
const SNP_NEGATIVE: [(&str, &[&str]); 9] = [
    ("-measurement", &["report.signature"]),
    ("-reportdata", &["report.signature"]),
    ("-policydebug", &["report.signature"]),
    ("-sigr", &["report.signature"]),
    ("-truncated", &["evidence.format"]),
    (
        "-wrongca",
        &["chain.names", "chain.vek-signature", "agreement.product"],
    ),
    ("-wrongvek", &["report.signature", "agreement.chip-id"]),
    ("-vektamper", &["chain.vek-signature"]),
    ("-vcek-invalid-new", &["chain.vek-signature"]),
];

#[test]
fn every_snp_case_has_its_verdict() {
    let folder = vectors::folder();
    let mut count = 0;
    for case in Case::all(&folder).iter().filter(|case| case.is_snp()) {
        let expected = case.text("verdict").expect("a verdict");
        let verdict = verify(case, Policy::insecure_authenticity_only());
        if expected.starts_with("ACCEPT") {
            assert_eq!(verdict.overall, Overall::Valid, "{}\n{verdict}", case.name);
            assert_claims_match(case, &verdict);
        } else {
            assert_eq!(
                verdict.overall,
                Overall::Invalid,
                "{}\n{verdict}",
                case.name
            );
            let (_, names) = SNP_NEGATIVE
                .iter()
                .find(|(end, _)| case.name.ends_with(end))
                .unwrap_or_else(|| panic!("no expectation for {}", case.name));
            assert_fails(&case.name, &verdict, names);
        }
        if expected.contains("REJECT default policy") {
            let verdict = verify(case, Policy::default());
            assert_eq!(verdict.overall, Overall::Invalid);
            assert_fails(&case.name, &verdict, &["guest-policy.debug"]);
        }
        count += 1;
    }
    assert!(count >= 38, "only {count} cases");
}

/// The check that must fail in a derived quote case, by the end of its name, with its TCB status if it has one.
const QUOTE_NEGATIVE: [(&str, &[&str]); 14] = [
    (
        "-attkeyflip",
        &[
            "quote.qe-binding",
            "quote.signature",
            "collateral.verification",
        ],
    ),
    ("-bodyflip", &["quote.signature", "collateral.verification"]),
    ("-crledit", &["collateral.verification"]),
    ("-expired", &["collateral.verification"]),
    ("-notyet", &["collateral.verification"]),
    (
        "-headerver",
        &["quote.signature", "collateral.verification"],
    ),
    (
        "-qeauthflip",
        &["quote.qe-binding", "collateral.verification"],
    ),
    ("-qeidsig", &["collateral.verification"]),
    (
        "-qereportflip",
        &["quote.qe-signature", "collateral.verification"],
    ),
    ("-sigflip", &["quote.signature", "collateral.verification"]),
    ("-tcbinfoedit", &["collateral.verification"]),
    ("-truncated", &["evidence.format"]),
    (
        "-third-cc-api-quote",
        &["quote.pck-chain", "collateral.verification"],
    ),
    (
        "-third-fortanix-quote_pck_cert_chain",
        &["collateral.verification"],
    ),
];

#[test]
fn every_quote_has_its_verdict() {
    let folder = vectors::folder();
    let mut count = 0;
    for case in Case::all(&folder).iter().filter(|case| !case.is_snp()) {
        let name = &case.name;
        let authentic = verify(case, Policy::insecure_authenticity_only());
        let default = verify(case, Policy::default());
        let expected = case.text("verdict").expect("a verdict");
        if name.starts_with("neg-") {
            assert_eq!(expected, "REJECT", "{name}");
            assert_eq!(authentic.overall, Overall::Invalid, "{name}\n{authentic}");
            if let Some((_, checks)) = QUOTE_NEGATIVE.iter().find(|(end, _)| name.ends_with(end)) {
                assert_fails(name, &authentic, checks);
            } else {
                assert_eq!(name, "neg-third-intel-quote-tdx", "no expectation");
            }
        } else {
            genuine_quote(case, &authentic, &default);
        }
        count += 1;
    }
    assert!(count >= 53, "only {count} cases");
}

fn genuine_quote(case: &Case, authentic: &Verdict, default: &Verdict) {
    let name = &case.name;
    let error = case.text("expected_error").unwrap_or_default();
    for check in [
        "quote.pck-chain",
        "quote.qe-signature",
        "quote.qe-binding",
        "quote.signature",
    ] {
        // Without a clock of the case, a certificate may have expired today.
        if case.expected.get("verify_at_unix").is_some() || check != "quote.pck-chain" {
            let outcome = authentic.check(check).unwrap().outcome;
            let skipped = check == "quote.qe-signature" && outcome == Outcome::Skipped;
            assert!(
                outcome == Outcome::Pass || skipped,
                "{name}: {check}\n{authentic}"
            );
        }
    }
    if case.endorsements.intel.is_none() {
        assert!(
            case.text("verdict")
                .unwrap()
                .starts_with("signature+PCK chain ACCEPT")
        );
        assert_fails(name, authentic, &["collateral.present"]);
    } else if error.ends_with("No matching TCB level found") {
        assert_eq!(authentic.overall, Overall::Invalid, "{name}\n{authentic}");
        assert_eq!(authentic.tcb_status.as_deref(), Some("TCB_NOT_SUPPORTED"));
        assert_fails(name, authentic, &["quote.tcb-level"]);
    } else {
        // Evidence that only a policy refuses is authentic: debugging, service TDs, old TCB levels.
        assert_eq!(authentic.overall, Overall::Valid, "{name}\n{authentic}");
        let policy_check = match error {
            "" => None,
            e if e.ends_with("Debug mode is enabled") => Some("sgx.debug"),
            e if e.ends_with("Invalid MR service TD") => Some("tdx.service-td"),
            other => panic!("{name}: no expectation for {other}"),
        };
        if let Some(check) = policy_check {
            assert_fails(name, default, &[check]);
        } else {
            let status = case.text("expected_status").expect("a status");
            assert_eq!(authentic.tcb_status.as_deref(), Some(status), "{name}");
            let advisories = case.expected["advisories"].as_array().unwrap();
            assert_eq!(authentic.advisories.len(), advisories.len(), "{name}");
            assert!(
                advisories
                    .iter()
                    .all(|a| authentic.advisories.iter().any(|b| a == b))
            );
            let overall = match status {
                "UpToDate" => Overall::Valid,
                "SWHardeningNeeded" => Overall::Degraded,
                _ => Overall::Invalid,
            };
            assert_eq!(default.overall, overall, "{name}\n{default}");
        }
    }
    let claim = |key: &str| authentic.claims.get(key).map(String::as_str);
    assert_eq!(
        claim("guest.report-data"),
        case.text("report_data"),
        "{name}"
    );
    assert_eq!(claim("tdx.mrtd"), case.text("mrtd"), "{name}");
    assert_eq!(claim("sgx.mrenclave"), case.text("mrenclave"), "{name}");
}

fn assert_claims_match(case: &Case, verdict: &Verdict) {
    let claim = |name: &str| verdict.claims.get(name).map(String::as_str);
    assert_eq!(
        claim("guest.measurement"),
        case.text("measurement"),
        "{}",
        case.name
    );
    assert_eq!(
        claim("guest.report-data"),
        case.text("report_data"),
        "{}",
        case.name
    );
    assert_eq!(
        claim("report.chip-id"),
        case.text("chip_id"),
        "{}",
        case.name
    );
    assert_eq!(claim("guest-policy"), case.text("policy"), "{}", case.name);
    assert_eq!(
        claim("platform-info"),
        case.text("platform_info"),
        "{}",
        case.name
    );
}

#[test]
fn a_vlek_is_refused_once_it_has_expired() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-milan-v3-vlek-decdab94");
    let verifier = Verifier::new(Policy::insecure_authenticity_only());
    let at = |unix| {
        verifier.verify(
            &case.evidence,
            &case.endorsements,
            &Expected::at(Timestamp(unix)),
        )
    };
    assert_eq!(at(1_736_460_861).overall, Overall::Valid);
    // 2025-12-10T22:14:21Z and an hour; the signatures come from the cache, the validity does not.
    let late = at(1_765_404_861 + 3600);
    assert_eq!(late.overall, Overall::Invalid);
    assert_fails(&case.name, &late, &["validity.vek"]);
}

#[test]
fn nothing_is_valid_without_its_endorsements() {
    let folder = vectors::folder();
    for case in Case::all(&folder) {
        let verdict = Verifier::new(Policy::insecure_authenticity_only()).verify(
            &case.evidence,
            &Endorsements::default(),
            &Expected::at(time(&case)),
        );
        assert_eq!(verdict.overall, Overall::Invalid, "{}", case.name);
    }
}

#[test]
fn genuine_revocation_lists_are_used() {
    let folder = vectors::folder();
    let mut case = Case::load(&folder, "snp-milan-v2-vcek-377e6241");
    let list = std::fs::read(folder.join("roots/amd-milan-crl-2022.der")).unwrap();
    let other = std::fs::read(folder.join("roots/amd-genoa-crl-2022.der")).unwrap();
    case.endorsements.amd.crls = vec![list.into(), other.into()];
    let at = |unix| {
        Verifier::new(Policy::default()).verify(
            &case.evidence,
            &case.endorsements,
            &Expected::at(Timestamp(unix)),
        )
    };
    // In force from 2022-05-09 to 2023-05-09.
    let fresh = at(1_667_260_800);
    for name in ["crl.present", "crl.signature", "crl.fresh", "crl.ask"] {
        assert_eq!(
            fresh.check(name).unwrap().outcome,
            Outcome::Pass,
            "{name}\n{fresh}"
        );
    }
    // The root's list says nothing of endorsement keys, whose serial numbers are all 0.
    assert_eq!(fresh.check("crl.vek").unwrap().outcome, Outcome::Skipped);
    let stale = at(1_700_000_000);
    assert_fails(&case.name, &stale, &["crl.present", "crl.fresh"]);
}

/// DER as PEM with this many columns.
fn pem(label: &str, der: &[u8], columns: usize, end: &str) -> String {
    let digits = Base64::encode_string(der);
    let lines = digits.as_bytes().chunks(columns);
    let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
    let body = lines.join(end);
    format!("-----BEGIN {label}-----{end}{body}{end}-----END {label}-----{end}")
}

#[test]
fn certificates_are_read_from_pem_of_every_layout() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-turin-v5-vcek-85da705e");
    let judged = |text: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut endorsements = case.endorsements.clone();
        let amd = &mut endorsements.amd;
        for certificate in [&mut amd.vek, &mut amd.ask, &mut amd.ark] {
            *certificate = certificate.as_deref().map(text);
        }
        Verifier::new(Policy::insecure_authenticity_only()).verify(
            &case.evidence,
            &endorsements,
            &Expected::at(AMD_TIME),
        )
    };
    let label = "CERTIFICATE";
    for columns in [64, 76, 48, 1, 10_000] {
        for end in ["\n", "\r\n", " \n", "\n\n"] {
            let verdict = judged(&|der| pem(label, der, columns, end).into_bytes());
            assert_eq!(
                verdict.overall,
                Overall::Valid,
                "{columns} {end:?}\n{verdict}"
            );
        }
    }
    // As `openssl x509 -text` writes it, with a byte order mark, after an empty line.
    for before in [
        "Certificate:\n    Data:\n        Version: 3 (0x2)\n",
        "\u{feff}",
        "\n \n",
    ] {
        let text = |der: &[u8]| (before.to_owned() + &pem(label, der, 64, "\n")).into_bytes();
        assert_eq!(judged(&text).overall, Overall::Valid, "{before:?}");
    }
    // Another label, two documents, none: named in the verdict.
    let two = |der: &[u8]| pem(label, der, 64, "\n").repeat(2).into_bytes();
    for wrong in [&two as &dyn Fn(&[u8]) -> Vec<u8>, &|der| {
        pem("X509 CRL", der, 64, "\n").into_bytes()
    }] {
        let verdict = judged(wrong);
        assert_fails("PEM", &verdict, &["chain.certificates"]);
        assert!(
            verdict.to_string().contains("instead of one CERTIFICATE"),
            "{verdict}"
        );
    }
}
