// SPDX-License-Identifier: Apache-2.0

//! The signatures inside a quote: root → PCK certificate → quoting enclave → attestation key → report (Intel SGX ECDSA
//! quote library reference, quote format). Everything here comes from the host; the root's key is pinned.

use super::quote::Quote;
use crate::Timestamp;
use crate::checks::Checks;
use crate::hex;
use crate::pem;
use crate::x509::{Cert, CheckedSignatures, EC_PUBLIC_KEY, SECP256R1, common_name};
use dcap_qvl::quote::{AuthData, AuthDataV3};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// SHA-256 of the SubjectPublicKeyInfo of the Intel SGX Root CA, as Intel publishes it and the registry crate
/// `dcap-qvl` carries it (a test compares).
pub static ROOT: &str = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e";

/// Offset of REPORTDATA in an SGX report body.
const REPORT_DATA: usize = 320;

/// Judges the signatures. `chain` is the PCK chain of the collateral, which replaces that of the quote. Certificates
/// may be issued up to `skew` seconds in the future.
pub(super) fn judge(
    quote: &Quote<'_>,
    chain: Option<&str>,
    at: Timestamp,
    skew: u32,
    cache: &CheckedSignatures,
    checks: &mut Checks,
) {
    const CHANGED: &str = "the quote was changed on its way: take it again";
    let auth = match &quote.parts.auth_data {
        AuthData::V3(auth) => Cow::Borrowed(auth),
        AuthData::V4(auth) => Cow::Owned(auth.clone().into_v3()),
    };
    let expected = "PCK certificate ← PCK CA ← Intel SGX Root CA, in force";
    let pck = match certificates(&auth, chain).and_then(|c| judge_chain(c, at, skew, cache)) {
        Ok((pck, until)) => {
            checks.limit_validity(until);
            checks.pass("quote.pck-chain", expected, common_name(pck.issuer()));
            Some(pck)
        }
        Err(problem) => {
            checks.fail(
                "quote.pck-chain",
                expected,
                problem,
                "have the host embed the PCK certificate chain (type 5), or give it in the collateral",
            );
            None
        }
    };

    let expected = "a signature of the PCK key over the quoting enclave's report";
    match pck {
        None => checks.skip("quote.qe-signature", "there is no PCK certificate to trust"),
        Some(pck) => {
            let good = key(&pck)
                .is_some_and(|key| verifies(&key, &auth.qe_report, &auth.qe_report_signature));
            let actual = if good {
                "good"
            } else {
                "not signed by the PCK key"
            };
            checks.test("quote.qe-signature", good, expected, actual, CHANGED);
        }
    }

    let binding = Sha256::new()
        .chain_update(auth.ecdsa_attestation_key)
        .chain_update(&auth.qe_auth_data.data)
        .finalize();
    let bound = auth.qe_report.split_at(REPORT_DATA).1.split_at(32);
    let good = bound.0 == binding.as_slice() && bound.1.iter().all(|b| *b == 0);
    checks.test(
        "quote.qe-binding",
        good,
        "the quoting enclave vouches for the attestation key",
        if good {
            "good"
        } else {
            "it vouches for another key"
        },
        CHANGED,
    );

    let mut sec1 = [4; 65];
    sec1[1..].copy_from_slice(&auth.ecdsa_attestation_key);
    let signed = quote
        .bytes
        .get(..quote.parts.signed_length())
        .unwrap_or(&[]);
    let good = VerifyingKey::from_sec1_bytes(&sec1)
        .is_ok_and(|key| verifies(&key, signed, &auth.ecdsa_signature));
    checks.test(
        "quote.signature",
        good,
        "a signature of the attestation key over header and report",
        if good {
            "good"
        } else {
            "not signed by the attestation key"
        },
        CHANGED,
    );
}

fn verifies(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

fn key(certificate: &Cert) -> Option<VerifyingKey> {
    let key = certificate.key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.decode_as().ok());
    if key.algorithm.oid != EC_PUBLIC_KEY || curve != Some(SECP256R1) {
        return None;
    }
    VerifyingKey::from_sec1_bytes(key.subject_public_key.as_bytes()?).ok()
}

fn certificates(auth: &AuthDataV3, chain: Option<&str>) -> Result<Vec<Cert>, String> {
    /// Certification data: the PCK certificate chain as PEM (Intel SGX ECDSA quote library reference, table 9).
    const PCK_CHAIN: u16 = 5;
    let data = &auth.certification_data;
    let text: &[u8] = match chain {
        Some(chain) => chain.as_bytes(),
        None if data.cert_type == PCK_CHAIN => &data.body.data,
        None => {
            return Err(format!(
                "the quote carries certification data of type {}",
                data.cert_type
            ));
        }
    };
    let documents = pem::documents(text).map_err(|e| e.to_string())?;
    documents
        .iter()
        .map(|document| Cert::from_der(&document.bytes).map_err(|e| e.to_string()))
        .collect()
}

/// Judges the chain; the PCK certificate, and the end of the one that ends first.
fn judge_chain(
    chain: Vec<Cert>,
    at: Timestamp,
    skew: u32,
    cache: &CheckedSignatures,
) -> Result<(Cert, Timestamp), String> {
    let [pck, ca, root] = <[Cert; 3]>::try_from(chain)
        .map_err(|chain| format!("{} certificates instead of 3", chain.len()))?;
    if hex::encode(&root.key_digest()) != ROOT {
        return Err(format!(
            "the root {} is not Intel's",
            common_name(root.subject())
        ));
    }
    let mut until = Timestamp::LAST_DATE;
    for (certificate, issuer) in [(&root, &root), (&ca, &root), (&pck, &ca)] {
        let name = common_name(certificate.subject());
        if certificate.issuer() != issuer.subject() || !issuer.is_authority() {
            return Err(format!(
                "{name} is not issued by {}",
                common_name(issuer.subject())
            ));
        }
        if let Some(id) = certificate.unknown_critical_extension() {
            return Err(format!(
                "{name} has the critical extension {id}, which is not known"
            ));
        }
        if !certificate.is_signed_by(issuer, cache) {
            return Err(format!(
                "{name} is not signed by {}",
                common_name(issuer.subject())
            ));
        }
        let (from, to) = certificate.validity();
        if at.later(skew) < from || to < at {
            return Err(format!("{name} is valid from {from} to {to}, not at {at}"));
        }
        until = until.min(to);
    }
    Ok((pck, until))
}
