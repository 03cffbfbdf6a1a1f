// SPDX-License-Identifier: Apache-2.0

//! Other verifiers on the same evidence: virtee's `sev` and `dcap-qvl`. They agree, or the difference is listed.

use crate::vectors::{self, Case};
use enarx_attestation::{Expected, Overall, Policy, Timestamp, Verifier, intel, snp};
use sev::certs::snp::{Certificate, Chain, Verifiable, builtin, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;
use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Encode};

fn key_digest(certificate: &[u8]) -> String {
    let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    let key = certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .unwrap();
    enarx_attestation::hex::encode(&Sha256::digest(key))
}

#[test]
fn the_pinned_roots_are_those_of_other_verifiers() {
    let builtin = [
        ("Milan", builtin::milan::ark()),
        ("Genoa", builtin::genoa::ark()),
        ("Turin", builtin::turin::ark()),
    ];
    for ((line, digest), (name, certificate)) in snp::ROOTS.iter().zip(builtin) {
        assert_eq!(*line, name);
        assert_eq!(*digest, key_digest(&certificate.unwrap().to_der().unwrap()));
    }
    let folder = vectors::folder();
    let root = std::fs::read(folder.join("roots/intel-sgx-root-ca.der")).unwrap();
    assert_eq!(intel::ROOT, key_digest(&root));
}

/// Returns the verdict of `sev`: chain and signature, nothing else.
fn sev_accepts(case: &Case) -> bool {
    let amd = &case.endorsements.amd;
    let der = |bytes: &Option<Vec<u8>>| Certificate::from_der(bytes.as_deref()?).ok();
    let accepted = || {
        let chain = Chain {
            ca: ca::Chain {
                ark: der(&amd.ark)?,
                ask: der(&amd.ask)?,
            },
            vek: der(&amd.vek)?,
        };
        let report = AttestationReport::from_bytes(&case.evidence).ok()?;
        (&chain, &report).verify().ok()
    };
    accepted().is_some()
}

#[test]
fn sev_agrees_on_every_report() {
    let folder = vectors::folder();
    let verifier = Verifier::new(Policy::insecure_authenticity_only());
    for case in Case::all(&folder).iter().filter(|case| case.is_snp()) {
        let at = case
            .expected
            .get("verify_at_unix")
            .and_then(serde_json::Value::as_u64);
        let at = Timestamp(at.unwrap_or(1_790_000_000));
        let ours = verifier.verify(&case.evidence, &case.endorsements, &Expected::at(at));
        assert_eq!(
            ours.overall == Overall::Valid,
            sev_accepts(case),
            "{}\n{ours}",
            case.name
        );
    }
}

#[test]
fn dcap_qvl_agrees_on_every_quote_with_collateral() {
    let folder = vectors::folder();
    for case in Case::all(&folder).iter().filter(|case| !case.is_snp()) {
        let Some(collateral) = &case.endorsements.intel else {
            continue;
        };
        let at = case.expected["verify_at_unix"].as_u64().unwrap();
        let ours = |policy| {
            Verifier::new(policy).verify(
                &case.evidence,
                &case.endorsements,
                &Expected::at(Timestamp(at)),
            )
        };
        let theirs = serde_json::from_slice(collateral)
            .map_err(|e| e.to_string())
            .and_then(|collateral| {
                dcap_qvl::verify::verify(&case.evidence, &collateral, at).map_err(|e| e.to_string())
            });
        let authentic = ours(Policy::insecure_authenticity_only());
        if let Ok(report) = theirs {
            assert_eq!(
                authentic.overall,
                Overall::Valid,
                "{}\n{authentic}",
                case.name
            );
            assert_eq!(authentic.tcb_status, Some(report.status), "{}", case.name);
            assert_eq!(authentic.advisories, report.advisory_ids, "{}", case.name);
        } else {
            // Debugging and service TDs are for a policy to judge here: default refuses them as dcap-qvl does.
            let default = ours(Policy::default());
            assert_eq!(
                default.overall,
                Overall::Invalid,
                "{}\n{default}",
                case.name
            );
        }
    }
}
