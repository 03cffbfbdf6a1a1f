// SPDX-License-Identifier: Apache-2.0

//! Genuine evidence with one byte changed: no panic, never valid.

use crate::vectors::{self, Case};
use enarx_attestation::{Expected, Overall, Policy, Timestamp, Verdict, Verifier};

/// The bytes of a case that are changed.
type Select = fn(&mut Case) -> &mut Vec<u8>;

/// Changes each byte in turn and passes the verdicts to `judge`.
fn each_byte(case: &Case, at: u64, select: Select, mut judge: impl FnMut(usize, Verdict)) {
    let verifier = Verifier::new(Policy::insecure_authenticity_only());
    let mut changed = Case {
        name: case.name.clone(),
        evidence: case.evidence.clone(),
        endorsements: case.endorsements.clone(),
        expected: serde_json::Value::Null,
    };
    for offset in 0..select(&mut changed).len() {
        let mask = 1 << (offset % 8);
        select(&mut changed)[offset] ^= mask;
        judge(
            offset,
            verifier.verify(
                &changed.evidence,
                &changed.endorsements,
                &Expected::at(Timestamp(at)),
            ),
        );
        select(&mut changed)[offset] ^= mask;
    }
}

#[test]
fn no_changed_byte_of_a_report_or_its_certificates_is_accepted() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-turin-v5-vcek-85da705e");
    // 2026-09-21: its certificates are in force.
    let at = 1_790_000_000;
    let selections: [(&str, Select); 4] = [
        ("report", |c| &mut c.evidence),
        ("vek", |c| c.endorsements.amd.vek.as_mut().unwrap()),
        ("ask", |c| c.endorsements.amd.ask.as_mut().unwrap()),
        ("ark", |c| c.endorsements.amd.ark.as_mut().unwrap()),
    ];
    for (name, select) in selections {
        each_byte(&case, at, select, |offset, verdict| {
            assert_eq!(
                verdict.overall,
                Overall::Invalid,
                "{name} at {offset:#x}\n{verdict}"
            );
        });
    }
}

/// Offset in a quote after which its certificates begin: header, report and signatures before
/// them have more bytes.
const CERTIFICATES: usize = 1000;

/// No changed byte of a quote is accepted as something else.
fn quote(name: &str) {
    let folder = vectors::folder();
    let case = Case::load(&folder, name);
    let at = case.expected["verify_at_unix"].as_u64().unwrap();
    let genuine = Verifier::new(Policy::insecure_authenticity_only()).verify(
        &case.evidence,
        &case.endorsements,
        &Expected::at(Timestamp(at)),
    );
    assert_eq!(genuine.overall, Overall::Valid);
    each_byte(
        &case,
        at,
        |c| &mut c.evidence,
        |offset, verdict| {
            // The text around the certificates in PEM, after the signed part, may change without changing their
            // meaning.
            let same = verdict == genuine && offset > CERTIFICATES;
            assert!(
                verdict.overall == Overall::Invalid || same,
                "{name} at {offset:#x}\n{verdict}"
            );
        },
    );
}

#[test]
fn no_changed_tdx_quote_is_accepted_as_something_else() {
    quote("tdx-v4-b0c06f000000-3ab56d67");
}

#[test]
fn no_changed_sgx_quote_is_accepted_as_something_else() {
    quote("sgx-v3-00606a000000-b69ac41b");
}

#[test]
fn truncated_evidence_is_refused() {
    let folder = vectors::folder();
    for name in ["snp-milan-v3-vcek-05b7438a", "tdx-v5-90c06f000000-d0010db6"] {
        let case = Case::load(&folder, name);
        let verifier = Verifier::new(Policy::insecure_authenticity_only());
        for len in 0..case.evidence.len() {
            let verdict = verifier.verify(
                &case.evidence[..len],
                &case.endorsements,
                // 2025-06-19: certificates and collateral of both are in force.
                &Expected::at(Timestamp(1_750_327_295)),
            );
            assert_eq!(verdict.overall, Overall::Invalid, "{name} of {len} bytes");
        }
    }
}
