// SPDX-License-Identifier: Apache-2.0

//! Judges whether a report is genuine: AMD's root → intermediate → endorsement key → report, and the agreement of
//! certificate and report (57230 section 3). Product line and TCB are taken from signed places and must all agree.

use super::product::{Product, signing_key_name};
use super::revocation::{self, Issued};
use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::hex;
use crate::x509::{Cert, CheckedSignatures, EC_PUBLIC_KEY, common_name, small_integer};
use crate::{AmdEndorsements, Policy};
use der::Decode;
use der::asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef};
use enarx_snp::bits::SigningKey;
use enarx_snp::product::Generation;
use enarx_snp::report::Report;
use enarx_snp::simulated::is_simulated;
use enarx_snp::tcb::Component;
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use zerocopy::IntoBytes;

/// SHA-256 of the SubjectPublicKeyInfo of each product line's root key (ARK), as AMD's key distribution service
/// serves them and the registry crate `sev` carries them (a test compares).
pub static ROOTS: [(&str, &str); 3] = [
    (
        "Milan",
        "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    ),
    (
        "Genoa",
        "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    ),
    (
        "Turin",
        "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
    ),
];

/// Ends every name in a simulator's certificates, so that none passes for AMD's.
const SIMULATED: &str = "-simulated";

/// The extensions of endorsement key certificates (57230 table 11).
pub(super) mod oid {
    use der::asn1::ObjectIdentifier as Id;

    pub(in crate::snp) const STRUCT_VERSION: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.1");
    pub(in crate::snp) const PRODUCT_NAME: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.2");
    pub(in crate::snp) const BL_SPL: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
    pub(in crate::snp) const TEE_SPL: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
    pub(in crate::snp) const SNP_SPL: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
    pub(in crate::snp) const UCODE_SPL: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
    pub(in crate::snp) const FMC_SPL: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
    pub(in crate::snp) const HW_ID: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.4");
    pub(in crate::snp) const CSP_ID: Id = Id::new_unwrap("1.3.6.1.4.1.3704.1.5");
    pub(in crate::snp) const SECP384R1: Id = Id::new_unwrap("1.3.132.0.34");
}

pub(super) fn spl(component: Component) -> ObjectIdentifier {
    match component {
        Component::Fmc => oid::FMC_SPL,
        Component::Bootloader => oid::BL_SPL,
        Component::Tee => oid::TEE_SPL,
        Component::Snp => oid::SNP_SPL,
        Component::Microcode => oid::UCODE_SPL,
    }
}

/// The name of one of AMD's extensions; empty for other extensions.
pub(crate) fn extension_name(id: ObjectIdentifier) -> &'static str {
    match id {
        oid::STRUCT_VERSION => "structVersion",
        oid::PRODUCT_NAME => "productName",
        oid::BL_SPL => "blSPL",
        oid::TEE_SPL => "teeSPL",
        oid::SNP_SPL => "snpSPL",
        oid::UCODE_SPL => "ucodeSPL",
        oid::FMC_SPL => "fmcSPL",
        oid::HW_ID => "hwID",
        oid::CSP_ID => "cspID",
        _ => "",
    }
}

struct Chain {
    vek: Cert,
    ask: Cert,
    ark: Cert,
}

const FETCH: &str =
    "run `enarx certs fetch` for this report, or give --certs with vek.der, ask.der and ark.der";
/// As [`FETCH`], for a chip that no vendor has made.
const SIMULATOR_REMEDY: &str = "AMD has no certificates for a simulated chip: give --certs with the folder that \
                            `enarx run --attest-to` wrote";

/// Judges the chain and returns what is known about the CPU, if the report or its chain names a product.
pub(super) fn judge(
    report: &Report,
    endorsements: &AmdEndorsements,
    context: &Context<'_>,
    checks: &mut Checks,
) -> Option<Product> {
    let Context {
        policy,
        expected,
        signatures,
    } = context;
    let at = expected.at;
    let chain = certificates(report, endorsements, policy, checks);
    let line = chain.as_ref().and_then(|chain| {
        let simulated = simulated(&chain.ark, policy);
        checks.simulated = simulated;
        product_line(&chain.ark, simulated)
    });
    let found = product(report, line.as_deref(), policy, checks);
    let generation = found.as_ref().map(|product| product.first);
    let Some(chain) = chain else {
        for name in [
            "chain.root",
            "chain.names",
            "chain.ark-signature",
            "chain.ask-signature",
            "chain.vek-signature",
            "validity.ark",
            "validity.ask",
            "validity.vek",
            "crl.present",
            "agreement.key-kind",
            "agreement.product",
            "agreement.struct-version",
            "agreement.chip-id",
            "report.signature",
        ] {
            checks.skip(name, "a certificate is missing");
        }
        return found;
    };

    root(&chain.ark, line.as_deref(), checks);
    names(&chain, line.as_deref(), checks);
    let Chain { vek, ask, ark } = &chain;
    for (name, certificate, issuer) in [
        ("chain.ark-signature", ark, ark),
        ("chain.ask-signature", ask, ark),
        ("chain.vek-signature", vek, ask),
    ] {
        let good = certificate.is_signed_by(issuer, signatures);
        checks.test(
            name,
            good,
            "an RSA-PSS signature with SHA-384 of the issuer",
            if good {
                "good"
            } else {
                "not signed by the issuer"
            },
            FETCH,
        );
    }
    for (name, certificate) in [
        ("validity.ark", ark),
        ("validity.ask", ask),
        ("validity.vek", vek),
    ] {
        let (from, to) = certificate.validity();
        checks.limit_validity(to);
        let skew = policy.clock_skew_seconds;
        checks.test(
            name,
            from <= at.later(skew) && at.earlier(skew) <= to,
            format!("{from} to {to}"),
            at.to_string(),
            "check the clock, or fetch a current certificate",
        );
    }
    let issued = Issued { vek, ask, ark };
    revocation::judge(issued, &endorsements.crls, context, checks);
    agreement(report, vek, line.as_deref(), generation, policy, checks);
    signature(report, vek, signatures, checks);
    found
}

fn certificates(
    report: &Report,
    endorsements: &AmdEndorsements,
    policy: &Policy,
    checks: &mut Checks,
) -> Option<Chain> {
    let mut problems = Vec::new();
    let mut read = |name: &str, bytes: &Option<Vec<u8>>| match bytes.as_deref().map(Cert::parse) {
        Some(Ok(certificate)) => Some(certificate),
        Some(Err(error)) => {
            problems.push(format!("{name}: {error}"));
            None
        }
        None => {
            problems.push(format!("{name}: missing"));
            None
        }
    };
    let vek = read("endorsement key", &endorsements.vek);
    let ask = read("intermediate", &endorsements.ask);
    let ark = read("root", &endorsements.ark);
    let actual = if problems.is_empty() {
        "all".to_owned()
    } else {
        problems.join("; ")
    };
    checks.test(
        "chain.certificates",
        problems.is_empty(),
        "endorsement key, intermediate and root",
        actual,
        if is_simulated(&report.chip_id) {
            SIMULATOR_REMEDY.to_owned()
        } else if policy.insecure_simulated_roots.is_empty() {
            FETCH.to_owned()
        } else {
            // A report under a VLEK names no chip, a simulated one neither.
            format!("{FETCH}; of a simulated platform, those that `enarx run --attest-to` wrote")
        },
    );
    Some(Chain {
        vek: vek?,
        ask: ask?,
        ark: ark?,
    })
}

fn simulated(ark: &Cert, policy: &Policy) -> bool {
    let digest = ark.key_digest();
    policy
        .insecure_simulated_roots
        .iter()
        .any(|root| root.0 == digest)
}

/// The name without the simulator's suffix, which must be there exactly when the root is a simulator's.
fn plain(name: &str, simulated: bool) -> Option<&str> {
    match name.strip_suffix(SIMULATED) {
        Some(plain) => simulated.then_some(plain),
        None => (!simulated).then_some(name),
    }
}

fn product_line(ark: &Cert, simulated: bool) -> Option<String> {
    let name = common_name(ark.subject());
    plain(&name, simulated)?
        .strip_prefix("ARK-")
        .map(str::to_owned)
}

/// The product: from the report's CPUID where it has one, else from the product line of the root.
fn product(
    report: &Report,
    line: Option<&str>,
    policy: &Policy,
    checks: &mut Checks,
) -> Option<Product> {
    let (product, actual) = match (report.cpu(), line) {
        (Some(cpu), _) => {
            checks.claim(
                Claim::ReportCpuid,
                format!("{:02x}/{:02x}/{:02x}", cpu.family, cpu.model, cpu.stepping),
            );
            let actual = format!(
                "CPUID family {:#x}, model {:#x}, stepping {:#x}",
                cpu.family, cpu.model, cpu.stepping
            );
            (Product::of_cpu(cpu), actual)
        }
        (None, Some(line)) => (
            Product::of_line(line),
            "by the root; this report version names no CPU".to_owned(),
        ),
        (None, None) => (None, "neither report nor root name it".to_owned()),
    };
    let name = product
        .as_ref()
        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
    if product.is_some() {
        checks.claim(Claim::ReportProduct, &name);
    }
    let accepted = |g: &Generation| policy.snp.products.iter().any(|p| p == g.name);
    checks.test(
        "report.product",
        product
            .as_ref()
            .is_some_and(|product| product.generations().all(accepted)),
        policy.snp.products.join(" or "),
        format!("{name} ({actual})"),
        "use a CPU that snp.products names; a generation that is not known needs a newer version of this program",
    );
    product
}

fn root(ark: &Cert, line: Option<&str>, checks: &mut Checks) {
    let found = hex::encode(&ark.key_digest());
    checks.claim(Claim::ChainRoot, &found);
    if checks.simulated {
        let simulated = "a simulator's root that the policy names";
        checks.pass("chain.root", simulated, format!("simulated: key {found}"));
        return;
    }
    let pinned = ROOTS
        .iter()
        .find(|(name, _)| Some(*name) == line)
        .map(|(_, digest)| *digest);
    checks.test(
        "chain.root",
        pinned == Some(found.as_str()),
        format!("key {}", pinned.unwrap_or("of a known product line")),
        format!("key {found}"),
        "these certificates are not AMD's; for a simulated platform name its root in insecure-simulated-roots",
    );
}

fn names(chain: &Chain, line: Option<&str>, checks: &mut Checks) {
    let Chain { vek, ask, ark } = chain;
    let simulated = checks.simulated;
    let mut problems = Vec::new();
    if ark.issuer() != ark.subject() {
        problems.push("the root is not its own issuer");
    }
    if ask.issuer() != ark.subject() {
        problems.push("the intermediate is not issued by the root");
    }
    if vek.issuer() != ask.subject() {
        problems.push("the endorsement key is not issued by the intermediate");
    }
    if !ark.is_authority() || !ask.is_authority() {
        problems.push("root or intermediate is not a certificate authority");
    }
    for (certificate, problem) in [
        (ark, "the root has a critical extension that is not known"),
        (
            ask,
            "the intermediate has a critical extension that is not known",
        ),
        (
            vek,
            "the endorsement key has a critical extension that is not known",
        ),
    ] {
        if certificate.unknown_critical_extension().is_some() {
            problems.push(problem);
        }
    }
    if vek.is_authority() {
        problems.push("the endorsement key is a certificate authority");
    }
    let ask_name = common_name(ask.subject());
    let vek_name = common_name(vek.subject());
    let line = line.unwrap_or_default();
    let fits = match plain(&vek_name, simulated) {
        Some("SEV-VCEK") => plain(&ask_name, simulated) == Some(&format!("SEV-{line}")),
        Some("SEV-VLEK") => plain(&ask_name, simulated) == Some(&format!("SEV-VLEK-{line}")),
        _ => false,
    };
    if !fits {
        problems.push("the common names are not those of one product line");
    }
    let found = format!("{vek_name} ← {ask_name} ← {}", common_name(ark.subject()));
    let actual = if problems.is_empty() {
        found
    } else {
        format!("{found}: {}", problems.join(", "))
    };
    checks.test(
        "chain.names",
        problems.is_empty(),
        "endorsement key ← intermediate ← root of one product line",
        actual,
        "give the certificates that belong together, see `enarx inspect`",
    );
}

fn agreement(
    report: &Report,
    vek: &Cert,
    line: Option<&str>,
    generation: Option<&'static Generation>,
    policy: &Policy,
    checks: &mut Checks,
) {
    let name = common_name(vek.subject());
    let kind = plain(&name, checks.simulated).unwrap_or_default();
    let key = report.keys().signing_key();
    checks.test(
        "agreement.key-kind",
        matches!(
            (key, kind),
            (SigningKey::Vcek, "SEV-VCEK") | (SigningKey::Vlek, "SEV-VLEK")
        ),
        format!(
            "a certificate for a {}",
            signing_key_name(key).to_uppercase()
        ),
        format!("one for {name:?}"),
        "give the certificate of the key that signed the report",
    );
    provider(vek, policy, checks);
    let product_name = vek
        .extension(oid::PRODUCT_NAME)
        .and_then(|v| Ia5StringRef::from_der(v).ok())
        .map(|name| name.as_str().to_owned())
        .unwrap_or_default();
    // "Milan-B0": the line, then the stepping.
    let certified = product_name.split('-').next().unwrap_or_default();
    let by_cpuid = generation.map(|g| g.line);
    checks.test(
        "agreement.product",
        by_cpuid.is_some() && by_cpuid == line && line == Some(certified),
        format!("product line {}", by_cpuid.unwrap_or("of the report's CPU")),
        format!(
            "root {}, certificate {product_name}",
            line.unwrap_or("unknown")
        ),
        "give the certificates for this report's product line",
    );

    let Some(generation) = generation else {
        for name in ["agreement.struct-version", "agreement.chip-id"] {
            checks.skip(name, "the product is not known");
        }
        return;
    };
    let layout = generation.tcb;
    let version = vek.extension(oid::STRUCT_VERSION).and_then(small_integer);
    checks.test(
        "agreement.struct-version",
        version == Some(layout.struct_version()),
        layout.struct_version().to_string(),
        version.map_or_else(|| "none".to_owned(), |v| v.to_string()),
        "give the certificates for this report's product line",
    );
    for component in Component::ALL {
        let name = format!("agreement.tcb-{}", component.name());
        let certified = vek.extension(spl(component)).and_then(small_integer);
        match report.reported_tcb.get(layout, component) {
            Some(reported) => {
                checks.test(
                    name,
                    certified == Some(reported),
                    format!("{reported}, as reported"),
                    certified.map_or_else(|| "none".to_owned(), |v| v.to_string()),
                    "fetch the certificate for the reported TCB version",
                );
            }
            None if certified.is_none() => checks.skip(name, "this product has no such component"),
            None => checks.fail(
                name,
                "none, this product has no such component",
                certified.map(|v| v.to_string()).unwrap_or_default(),
                "give the certificate for this report's product line",
            ),
        }
    }
    chip(report, vek, generation, policy, checks);
}

/// Judges the cloud provider that a VLEK's certificate names; that of a VCEK names none.
fn provider(vek: &Cert, policy: &Policy, checks: &mut Checks) {
    const NAME: &str = "certificate.csp";
    let accepted = &policy.snp.allowed_csps;
    let found = vek
        .extension(oid::CSP_ID)
        .and_then(|v| Ia5StringRef::from_der(v).ok());
    if let Some(csp) = found {
        checks.claim(Claim::CertificateCsp, csp);
    }
    let found = found.map(|csp| csp.as_str());
    let shown = match found {
        Some(csp) => csp.to_owned(),
        None => "none, the certificate names no provider".to_owned(),
    };
    if accepted.is_empty() {
        checks.skip(NAME, format!("{shown}; the policy accepts any"));
        return;
    }
    checks.test(
        NAME,
        found.is_some_and(|csp| accepted.iter().any(|name| name == csp)),
        accepted.join(" or "),
        shown,
        "use a host whose key (VLEK) is of a provider that snp.allowed-csps names",
    );
}

fn chip(
    report: &Report,
    vek: &Cert,
    generation: &Generation,
    policy: &Policy,
    checks: &mut Checks,
) {
    let masked = report.chip_id.iter().all(|b| *b == 0);
    let by_vlek = report.keys().signing_key() == SigningKey::Vlek;
    if masked || !by_vlek {
        checks.claim(Claim::ReportChipId, hex::encode(&report.chip_id));
    }
    if by_vlek {
        let why = "a VLEK names no chip, so the chip id in the report proves nothing";
        checks.skip("agreement.chip-id", why);
        return;
    }
    if masked && policy.snp.insecure_allow_masked_chip_id {
        checks.skip(
            "agreement.chip-id",
            "the host masks it; the policy accepts that",
        );
        return;
    }
    // Older certificates wrap the identifier in an OCTET STRING, newer ones have it bare (57230 table 11).
    let certified = vek.extension(oid::HW_ID).map(|value| {
        if value.len() == generation.chip_id_len {
            value
        } else {
            <&OctetStringRef>::from_der(value).map_or(value, OctetStringRef::as_bytes)
        }
    });
    let (reported, rest) = report.chip_id.split_at(generation.chip_id_len.min(64));
    checks.test(
        "agreement.chip-id",
        !masked && certified == Some(reported) && rest.iter().all(|b| *b == 0),
        format!("{}, as reported", hex::encode(reported)),
        certified.map_or_else(|| "none".to_owned(), hex::encode),
        if masked {
            "have the host show the chip id (MASK_CHIP_ID off), or set snp.insecure-allow-masked-chip-id"
        } else {
            "fetch the certificate for this chip"
        },
    );
}

fn signature(report: &Report, vek: &Cert, signatures: &CheckedSignatures, checks: &mut Checks) {
    let key = vek.key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.decode_as().ok());
    let on_p384 = key.algorithm.oid == EC_PUBLIC_KEY && curve == Some(oid::SECP384R1);
    let verified = || {
        let key = VerifyingKey::from_sec1_bytes(key.subject_public_key.as_bytes()?).ok()?;
        if report.signature.reserved.iter().any(|b| *b != 0) {
            return None;
        }
        let (r, s) = report.signature.scalars()?;
        key.verify(report.signed(), &Signature::from_scalars(r, s).ok()?)
            .ok()
    };
    let known = || signatures.check_evidence(vek, report.as_bytes(), || verified().is_some());
    let good = on_p384 && known();
    checks.test(
        "report.signature",
        good,
        "an ECDSA signature of the endorsement key over the report",
        if good { "good" } else { "not signed by this endorsement key" },
        "the report was changed, or the certificate is of another chip or TCB version: fetch the one for this report",
    );
}
