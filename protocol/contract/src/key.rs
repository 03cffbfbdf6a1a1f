// SPDX-License-Identifier: Apache-2.0

//! Keys of tenant, host and Keep, as the bytes that raw public keys have in TLS (RFC 7250): SubjectPublicKeyInfo of
//! P-256. The format is checked here; the user of the key checks that the point is on the curve.

use crate::canonical::Hex;
use core::fmt;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature as P256Signature, VerifyingKey};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// Length of a SubjectPublicKeyInfo with an uncompressed P-256 point, in bytes (RFC 5480).
pub const SPKI_SIZE: usize = 91;

/// The bytes before the coordinates: algorithm id-ecPublicKey, curve secp256r1, a bit string with an uncompressed
/// point (RFC 5480, SEC 1 2.3.3).
const PREFIX: [u8; SPKI_SIZE - 64] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Length of the coordinates with their tag, in bytes (SEC 1 2.3.3).
const POINT_SIZE: usize = 65;

/// A P-256 public key as SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PublicKey(Hex<SPKI_SIZE>);

impl PublicKey {
    /// The key with this SubjectPublicKeyInfo; `None` when it is not one of P-256 with an uncompressed point.
    pub fn from_spki(bytes: &[u8]) -> Option<Self> {
        let spki: [u8; SPKI_SIZE] = bytes.try_into().ok()?;
        spki.starts_with(&PREFIX).then_some(Self(Hex(spki)))
    }

    /// The key with these coordinates, big-endian.
    pub fn from_coordinates(x: &[u8; 32], y: &[u8; 32]) -> Self {
        let mut spki = [0; SPKI_SIZE];
        let (prefix, point) = spki.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(&PREFIX);
        let (first, second) = point.split_at_mut(32);
        first.copy_from_slice(x);
        second.copy_from_slice(y);
        Self(Hex(spki))
    }

    /// SubjectPublicKeyInfo, 91 bytes.
    pub fn spki(&self) -> &[u8; SPKI_SIZE] {
        &self.0.0
    }

    /// SHA-256 of SubjectPublicKeyInfo.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.spki()).into()
    }

    /// True if `signature` is this key's over `message` (ECDSA with SHA-256). False for a point off the curve.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let point = &self.spki()[SPKI_SIZE - POINT_SIZE..];
        let Ok(key) = VerifyingKey::from_sec1_bytes(point) else {
            return false;
        };
        P256Signature::from_slice(&signature.0)
            .is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key sha256:{}", Hex(self.digest()))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Hex::<SPKI_SIZE>::deserialize(deserializer)?;
        Self::from_spki(&bytes.0).ok_or_else(|| D::Error::custom("not a P-256 key"))
    }
}

/// An ECDSA signature over P-256: `r` and `s`, big-endian, 32 bytes each. Not unique: from one signature anybody
/// can make a second for the same message, so do not use it as an identifier.
pub type Signature = Hex<64>;
