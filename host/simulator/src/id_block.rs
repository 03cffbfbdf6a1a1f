// SPDX-License-Identifier: Apache-2.0

//! The check of an ID block (56860 SNP_LAUNCH_FINISH): a statement signed by the guest's owner. Keys and signatures
//! are untrusted data.

use crate::status::Status;
use enarx_snp::bits::GuestPolicy;
use enarx_snp::id_block::{CURVE_P384, ID_BLOCK_VERSION, IdAuth, IdBlock, PublicKey};
use enarx_snp::report::{ALGO_ECDSA_P384_SHA384, Signature};
use p384::ecdsa::VerifyingKey;
use p384::ecdsa::signature::Verifier;
use sha2::{Digest, Sha384};
use zerocopy::IntoBytes;

/// The signers of the ID block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signers {
    /// SHA-384 of the ID key.
    pub id_key: [u8; 48],
    /// SHA-384 of the author key, when there is one.
    pub author_key: Option<[u8; 48]>,
}

/// Checks an ID block against launch digest and policy, and its signatures. The author key counts when its algorithm
/// is set: AUTHOR_KEY_EN of the command is said by that.
///
/// # Errors
/// The firmware's status: [`Status::InvalidParam`], [`Status::PolicyFailure`], [`Status::BadMeasurement`],
/// [`Status::BadSignature`].
pub fn check(
    block: &IdBlock,
    auth: &IdAuth,
    digest: &[u8; 48],
    policy: GuestPolicy,
) -> Result<Signers, Status> {
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if block.version.get() != ID_BLOCK_VERSION
        || auth.id_key_algo.get() != ALGO_ECDSA_P384_SHA384
        || !zero(&auth.reserved0)
        || !zero(&auth.reserved1)
        || !zero(&auth.reserved2)
    {
        return Err(Status::InvalidParam);
    }
    if block.policy.get() != policy.0 {
        return Err(Status::PolicyFailure);
    }
    if block.launch_digest != *digest {
        return Err(Status::BadMeasurement);
    }
    verify(&auth.id_key, &auth.id_block_signature, block.as_bytes())?;
    let author_key = match auth.author_key_algo.get() {
        0 => None,
        ALGO_ECDSA_P384_SHA384 => {
            let signed = auth.id_key.as_bytes();
            verify(&auth.author_key, &auth.id_key_signature, signed)?;
            Some(key_digest(&auth.author_key))
        }
        _ => return Err(Status::InvalidParam),
    };
    Ok(Signers {
        id_key: key_digest(&auth.id_key),
        author_key,
    })
}

/// SHA-384 over the whole structure (56860 ATTESTATION_REPORT, ID_KEY_DIGEST).
fn key_digest(key: &PublicKey) -> [u8; 48] {
    Sha384::digest(key.as_bytes()).into()
}

fn verify(key: &PublicKey, signature: &Signature, signed: &[u8]) -> Result<(), Status> {
    if key.curve.get() != CURVE_P384 || key.reserved.iter().any(|byte| *byte != 0) {
        return Err(Status::InvalidParam);
    }
    // Points and scalars have the same form in these structures: little-endian, zero-extended.
    let point = Signature {
        r: key.qx,
        s: key.qy,
        reserved: [0; 368],
    };
    let (x, y) = point.scalars().ok_or(Status::InvalidParam)?;
    let mut sec1 = [4; 97];
    sec1.iter_mut()
        .skip(1)
        .zip(x.iter().chain(&y))
        .for_each(|(to, from)| *to = *from);
    let key = VerifyingKey::from_sec1_bytes(&sec1).map_err(|_| Status::InvalidParam)?;
    let (r, s) = signature.scalars().ok_or(Status::BadSignature)?;
    p384::ecdsa::Signature::from_scalars(r, s)
        .and_then(|signature| key.verify(signed, &signature))
        .map_err(|_| Status::BadSignature)
}
