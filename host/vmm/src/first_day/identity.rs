// SPDX-License-Identifier: Apache-2.0

//! An ID block that anybody can sign: it makes the firmware compare a launch with a digest, and proves nothing to a
//! tenant.
#![forbid(unsafe_code)]

use enarx_snp::bits::GuestPolicy;
use enarx_snp::id_block::{CURVE_P384, ID_BLOCK_VERSION, IdAuth, IdBlock, PublicKey};
use enarx_snp::report::Signature;
use p384::SecretKey;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{self, SigningKey};
use zerocopy::{FromZeros, IntoBytes};

/// Number of ECDSA on P-384 with SHA-384 (56860, `ID_KEY_ALGO` and `AUTHOR_KEY_ALGO`).
const ECDSA_P384: u32 = 1;

/// The public key as the firmware takes it: two numbers, the lowest byte first.
fn public(key: &SigningKey) -> PublicKey {
    let point = key.verifying_key().to_sec1_bytes();
    let mut public = PublicKey::new_zeroed();
    public.curve.set(CURVE_P384);
    // After the byte that says "uncompressed", the most significant bytes come first.
    let coordinates = point.get(1..).unwrap_or_default().chunks(48);
    for (coordinate, field) in coordinates.zip([&mut public.qx, &mut public.qy]) {
        for (byte, value) in field.iter_mut().zip(coordinate.iter().rev()) {
            *byte = *value;
        }
    }
    public
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    let signature: ecdsa::Signature = key.sign(bytes);
    let (r, s) = signature.split_bytes();
    Signature::from_scalars(&r.into(), &s.into())
}

/// The identity of a launch with this digest and policy, signed with keys that are not secret; `None` if they are
/// not valid keys.
pub fn identity(launch_digest: [u8; 48], policy: GuestPolicy) -> Option<(IdBlock, IdAuth)> {
    let key = |scalar: [u8; 48]| Some(SigningKey::from(SecretKey::from_slice(&scalar).ok()?));
    let (id, author) = (key([0x11; 48])?, key([0x22; 48])?);
    let mut block = IdBlock::new_zeroed();
    block.launch_digest = launch_digest;
    block.version.set(ID_BLOCK_VERSION);
    block.policy.set(policy.0);
    let mut auth = IdAuth::new_zeroed();
    auth.id_key_algo.set(ECDSA_P384);
    auth.author_key_algo.set(ECDSA_P384);
    auth.id_block_signature = sign(&id, block.as_bytes());
    auth.id_key = public(&id);
    auth.id_key_signature = sign(&author, auth.id_key.as_bytes());
    auth.author_key = public(&author);
    Some((block, auth))
}

#[cfg(test)]
mod tests {
    use p384::ecdsa::VerifyingKey;
    use p384::ecdsa::signature::Verifier;

    use super::*;

    #[test]
    fn the_signatures_verify() {
        let (block, auth) = identity([7; 48], GuestPolicy(0x3_0000)).unwrap();
        for (key, signature, bytes) in [
            (&auth.id_key, &auth.id_block_signature, block.as_bytes()),
            (
                &auth.author_key,
                &auth.id_key_signature,
                auth.id_key.as_bytes(),
            ),
        ] {
            let coordinate =
                |field: &[u8; 72]| field[..48].iter().rev().copied().collect::<Vec<u8>>();
            let point = [vec![4], coordinate(&key.qx), coordinate(&key.qy)].concat();
            let key = VerifyingKey::from_sec1_bytes(&point).unwrap();
            let (r, s) = signature.scalars().unwrap();
            let signature = ecdsa::Signature::from_scalars(r, s).unwrap();
            key.verify(bytes, &signature).unwrap();
        }
    }
}
