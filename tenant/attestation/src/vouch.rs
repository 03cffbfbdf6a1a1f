// SPDX-License-Identifier: Apache-2.0

//! Checks that endorsements are the vendor's, without evidence, before a store keeps them. Trusts only the
//! pinned roots. Time and revocation are not checked here: the verifier judges them when it uses the
//! endorsements.

use crate::hex;
use crate::intel;
use crate::pem;
use crate::snp::{EndorsementId, ROOTS, identify};
use crate::x509::{Cert, CheckedSignatures, Crl, common_name};
use dcap_qvl::QuoteCollateralV3;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};

/// Why endorsements are not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VouchError {
    /// They cannot be read.
    #[error("it cannot be read: {0}")]
    Format(String),
    /// A root of an unknown party.
    #[error("the root key {found} is not the vendor's")]
    Root {
        /// SHA-256 of the root's public key.
        found: String,
    },
    /// The certificate of the issuer is not at hand.
    #[error("its issuer is missing: give {0}, too")]
    IssuerMissing(EndorsementId),
    /// The issuer's key did not sign it.
    #[error("it is not signed by {0}")]
    NotSigned(String),
    /// A simulated platform's, which verifiers accept only from the command line.
    #[error("it belongs to the simulated platform: give it to `enarx verify --certs`")]
    Simulated,
}

/// Finds the certificate with this identifier, wherever it is.
pub type Issuers<'a> = &'a dyn Fn(&EndorsementId) -> Option<Vec<u8>>;

/// Checks that a certificate of AMD's kind is signed by its issuer, and so on to the pinned root of its product line. No
/// signature that `known` has is checked again.
///
/// # Errors
/// [`VouchError`].
pub fn certificate(
    bytes: &[u8],
    issuers: Issuers<'_>,
    known: &CheckedSignatures,
) -> Result<EndorsementId, VouchError> {
    let certificate = Cert::parse(bytes).map_err(|e| VouchError::Format(e.to_string()))?;
    let none = || VouchError::Format("not a certificate of AMD's key hierarchy".to_owned());
    let id = identify(bytes).ok_or_else(none)?;
    let issuer = match &id {
        EndorsementId::Ark { line } => {
            root(&certificate, line)?;
            return signed(certificate.is_signed_by(&certificate, known), &id).map(|()| id);
        }
        EndorsementId::Ask { line } | EndorsementId::Asvk { line } => {
            EndorsementId::Ark { line: line.clone() }
        }
        EndorsementId::Vcek { line, .. } => EndorsementId::Ask { line: line.clone() },
        EndorsementId::Vlek { line, .. } => EndorsementId::Asvk { line: line.clone() },
    };
    let by = found(&issuer, issuers, known)?;
    let good = by.is_authority() && certificate.is_signed_by(&by, known);
    signed(good, &issuer).map(|()| id)
}

/// Checks that a revocation list is signed by the authority of AMD that it names. No signature that `known` has is checked
/// again.
///
/// # Errors
/// [`VouchError`].
pub fn list(
    bytes: &[u8],
    issuers: Issuers<'_>,
    known: &CheckedSignatures,
) -> Result<(), VouchError> {
    let list = Crl::parse(bytes).map_err(|e| VouchError::Format(e.to_string()))?;
    let name = common_name(&list.inner.tbs_cert_list.issuer);
    let none = || VouchError::Format("not a revocation list of AMD".to_owned());
    let issuer = EndorsementId::authority(&name).ok_or_else(none)?;
    let by = found(&issuer, issuers, known)?;
    signed(list.is_signed_by(&by, known), &issuer)
}

/// Checks that TCB info, QE identity and revocation lists of collateral are signed under Intel's pinned root.
///
/// # Errors
/// [`VouchError`].
pub fn collateral(bytes: &[u8]) -> Result<(), VouchError> {
    let collateral: QuoteCollateralV3 =
        serde_json::from_slice(bytes).map_err(|e| VouchError::Format(e.to_string()))?;
    let cache = &CheckedSignatures::default();
    for (name, text, signature, chain) in [
        (
            "TCB info",
            &collateral.tcb_info,
            &collateral.tcb_info_signature,
            &collateral.tcb_info_issuer_chain,
        ),
        (
            "QE identity",
            &collateral.qe_identity,
            &collateral.qe_identity_signature,
            &collateral.qe_identity_issuer_chain,
        ),
    ] {
        let (signer, _) = intel_chain(chain, cache)?;
        let good = intel_key(&signer).is_some_and(|key| {
            Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
        });
        if !good {
            let signer = common_name(signer.subject());
            return Err(VouchError::NotSigned(format!("{signer} ({name})")));
        }
    }
    let (authority, root) = intel_chain(&collateral.pck_crl_issuer_chain, cache)?;
    for (bytes, issuer) in [
        (&collateral.pck_crl, &authority),
        (&collateral.root_ca_crl, &root),
    ] {
        let list = Crl::parse(bytes).map_err(|e| VouchError::Format(e.to_string()))?;
        if !list.is_signed_by(issuer, cache) {
            let issuer = common_name(issuer.subject());
            return Err(VouchError::NotSigned(format!("{issuer} (revocation list)")));
        }
    }
    Ok(())
}

fn signed(good: bool, issuer: &EndorsementId) -> Result<(), VouchError> {
    if good {
        Ok(())
    } else {
        Err(VouchError::NotSigned(issuer.to_string()))
    }
}

fn root(certificate: &Cert, line: &str) -> Result<(), VouchError> {
    if is_simulated(line) {
        return Err(VouchError::Simulated);
    }
    let found = hex::encode(&certificate.key_digest());
    if ROOTS.contains(&(line, found.as_str())) {
        Ok(())
    } else {
        Err(VouchError::Root { found })
    }
}

/// True for a simulator's product line.
fn is_simulated(line: &str) -> bool {
    line.ends_with("-simulated")
}

/// The certificate of an issuer that is itself vouched for.
fn found(
    issuer: &EndorsementId,
    issuers: Issuers<'_>,
    known: &CheckedSignatures,
) -> Result<Cert, VouchError> {
    if is_simulated(issuer.line()) {
        return Err(VouchError::Simulated);
    }
    let bytes = issuers(issuer).ok_or_else(|| VouchError::IssuerMissing(issuer.clone()))?;
    // Up one step each time, to the root at the latest.
    if certificate(&bytes, issuers, known)? != *issuer {
        return Err(VouchError::IssuerMissing(issuer.clone()));
    }
    Cert::parse(&bytes).map_err(|e| VouchError::Format(e.to_string()))
}

/// The first certificate of a chain of two, and Intel's root, which issued it.
fn intel_chain(chain: &str, cache: &CheckedSignatures) -> Result<(Cert, Cert), VouchError> {
    let format = |error: String| VouchError::Format(error);
    let documents = pem::documents(chain.as_bytes()).map_err(|e| format(e.to_string()))?;
    let certificates = documents.iter().map(|d| Cert::from_der(&d.bytes));
    let certificates: Vec<_> = certificates
        .collect::<Result<_, _>>()
        .map_err(|e| format(e.to_string()))?;
    let [first, root] = <[Cert; 2]>::try_from(certificates).map_err(|all| {
        format(format!(
            "a chain of {} certificates instead of 2",
            all.len()
        ))
    })?;
    let found = hex::encode(&root.key_digest());
    if found != intel::ROOT {
        return Err(VouchError::Root { found });
    }
    let issued = first.issuer() == root.subject() && first.is_signed_by(&root, cache);
    if !issued || !root.is_signed_by(&root, cache) {
        return Err(VouchError::NotSigned(common_name(root.subject())));
    }
    Ok((first, root))
}

fn intel_key(certificate: &Cert) -> Option<VerifyingKey> {
    VerifyingKey::from_sec1_bytes(certificate.key().subject_public_key.as_bytes()?).ok()
}
