// SPDX-License-Identifier: Apache-2.0

//! The publisher's keys, and detached signatures: ECDSA over P-384 with SHA-384 (FIPS 186-5) of a file's bytes as they
//! are. A signature is a small TOML file that names its key. Keys and signatures are hostile until read; a signature
//! counts only under a key that the caller trusts.

use enarx_attestation::hex::Hex;
use p384::ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};
use p384::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of the seed of a private key: a P-384 scalar.
pub const SEED_LEN: usize = 48;
/// The format's name in a signature file.
const FORMAT: &str = "enarx-signature-1";
/// Bytes of the largest key or signature file.
const MAX_LEN: usize = 16 << 10;

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key on P-384 in PKCS#8, as PEM.
    #[error(
        "not a private key on P-384 in PKCS#8 (PEM); `enarx release keygen` or `openssl genpkey` makes one"
    )]
    Private,
    /// Not a public key on P-384 as SubjectPublicKeyInfo, as PEM.
    #[error("not a public key on P-384 (PEM, SubjectPublicKeyInfo)")]
    Public,
    /// Not a scalar of P-384: zero, or not below the group's order.
    #[error("this seed is not a valid P-384 scalar; use another one")]
    Seed,
    /// A key that cannot be written.
    #[error("the key cannot be encoded")]
    Encoding,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signature file.
    #[error("the signature file cannot be read: {0}; take it from the publisher again")]
    Format(String),
    /// A signature file of another format.
    #[error(
        "the signature file has the format {found:?}, this program knows {FORMAT:?}; update it"
    )]
    UnknownFormat {
        /// The format found.
        found: String,
    },
    /// The file is signed with another key than those that are trusted.
    #[error(
        "signed with the key {signed_by}, but {} is trusted; take the publisher's public key from where you trust it",
        or(trusted)
    )]
    WrongKey {
        /// Fingerprint of the key that the signature names.
        signed_by: Hex<32>,
        /// Fingerprints of the trusted keys.
        trusted: Vec<Hex<32>>,
    },
    /// The signature does not fit the file.
    #[error(
        "the signature does not match: the file or its signature was changed; take both from the publisher again"
    )]
    Changed,
}

fn or(fingerprints: &[Hex<32>]) -> String {
    let all: Vec<_> = fingerprints.iter().map(ToString::to_string).collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(" or ")
    }
}

/// A publisher's private key.
#[derive(Debug, Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// The key with this seed, which must come from a good random number generator.
    ///
    /// # Errors
    /// [`KeyError::Seed`], which no good generator ever meets.
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> Result<Self, KeyError> {
        SigningKey::from_slice(seed)
            .map(Self)
            .map_err(|_| KeyError::Seed)
    }

    /// Reads PKCS#8 as PEM.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|_| KeyError::Private)
    }

    /// This key as PEM (PKCS#8). With it anybody can release in the publisher's name.
    ///
    /// # Errors
    /// [`KeyError::Encoding`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        pem.map_err(|_| KeyError::Encoding)
    }

    /// The public key to it.
    ///
    /// # Errors
    /// [`KeyError::Encoding`].
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::new(*self.0.verifying_key())
    }
}

/// A publisher's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    fingerprint: Hex<32>,
}

impl PublicKey {
    fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        let info = key.to_public_key_der().map_err(|_| KeyError::Encoding)?;
        Ok(Self {
            key,
            fingerprint: Hex(Sha256::digest(info.as_bytes()).into()),
        })
    }

    /// Reads a SubjectPublicKeyInfo as PEM.
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(pem)
            .map_err(|_| KeyError::Public)
            .and_then(Self::new)
    }

    /// This key as PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// [`KeyError::Encoding`].
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.key
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Encoding)
    }

    /// SHA-256 of the SubjectPublicKeyInfo in DER, by which people compare keys.
    #[must_use]
    pub fn fingerprint(&self) -> Hex<32> {
        self.fingerprint
    }
}

/// A signature file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    /// [`FORMAT`].
    format: String,
    /// Fingerprint of the key; a hint for the error's sentence, the signature itself decides.
    key: Hex<32>,
    /// The numbers r and s, 48 bytes each with the highest first.
    signature: Hex<96>,
}

/// Signs these bytes; the text of the signature file. The same key and bytes give the same text (RFC 6979).
///
/// # Errors
/// [`KeyError::Encoding`].
pub fn sign(bytes: &[u8], key: &PrivateKey) -> Result<String, KeyError> {
    let signature: Signature = key.0.sign(bytes);
    let file = SignatureFile {
        format: FORMAT.to_owned(),
        key: key.public()?.fingerprint(),
        signature: Hex(signature.to_bytes().into()),
    };
    toml::to_string(&file).map_err(|_| KeyError::Encoding)
}

/// Checks a signature file over these bytes; the trusted key that made it.
pub(crate) fn check<'k>(
    bytes: &[u8],
    signature: &[u8],
    trusted: &'k [PublicKey],
) -> Result<&'k PublicKey, SignatureError> {
    let file = read(signature)?;
    let key = trusted
        .iter()
        .find(|key| key.fingerprint == file.key)
        .ok_or_else(|| SignatureError::WrongKey {
            signed_by: file.key,
            trusted: trusted.iter().map(PublicKey::fingerprint).collect(),
        })?;
    Signature::from_slice(&file.signature.0)
        .and_then(|signature| key.key.verify(bytes, &signature))
        .map_err(|_| SignatureError::Changed)?;
    Ok(key)
}

fn read(signature: &[u8]) -> Result<SignatureFile, SignatureError> {
    /// Only the format, whatever else there is.
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let format = |error: &str| SignatureError::Format(error.to_owned());
    if signature.len() > MAX_LEN {
        return Err(format("it is too large"));
    }
    let text = str::from_utf8(signature).map_err(|_| format("it is not text in UTF-8"))?;
    let head: Head = toml::from_str(text).map_err(|e| format(e.message()))?;
    if head.format != FORMAT {
        return Err(SignatureError::UnknownFormat { found: head.format });
    }
    toml::from_str(text).map_err(|e| format(e.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&[seed; SEED_LEN]).unwrap()
    }

    #[test]
    fn keys_round_trip_and_bad_ones_are_errors() {
        let private = key(1);
        let pem = private.to_pem().unwrap();
        assert_eq!(PrivateKey::from_pem(&pem).unwrap().0, private.0);
        let public = private.public().unwrap();
        let pem = public.to_pem().unwrap();
        assert_eq!(PublicKey::from_pem(&pem), Ok(public));
        assert_eq!(PublicKey::from_pem("key"), Err(KeyError::Public));
        assert_eq!(
            PrivateKey::from_pem(&pem).map(|_| ()),
            Err(KeyError::Private)
        );
        for seed in [[0; SEED_LEN], [0xFF; SEED_LEN]] {
            assert_eq!(
                PrivateKey::from_seed(&seed).map(|_| ()),
                Err(KeyError::Seed)
            );
        }
    }

    #[test]
    fn a_signature_is_valid_only_for_its_bytes_and_key() {
        let (signer, other) = (key(1), key(2));
        let keys = [other.public().unwrap(), signer.public().unwrap()];
        let text = sign(b"bytes", &signer).unwrap();
        assert_eq!(text, sign(b"bytes", &signer).unwrap());
        let signature = text.as_bytes();
        assert_eq!(check(b"bytes", signature, &keys), Ok(&keys[1]));
        assert_eq!(
            check(b"bites", signature, &keys),
            Err(SignatureError::Changed)
        );
        assert_eq!(
            check(b"bytes", signature, &keys[..1]),
            Err(SignatureError::WrongKey {
                signed_by: keys[1].fingerprint(),
                trusted: vec![keys[0].fingerprint()],
            })
        );
        // One that only claims to be of a trusted key.
        let claimed = text.replace(
            &keys[1].fingerprint().to_string(),
            &keys[0].fingerprint().to_string(),
        );
        assert_eq!(
            check(b"bytes", claimed.as_bytes(), &keys),
            Err(SignatureError::Changed)
        );
    }

    #[test]
    fn changed_signature_files_are_errors() {
        let signer = key(3);
        let keys = [signer.public().unwrap()];
        let text = sign(b"bytes", &signer).unwrap();
        let future = text.replace(FORMAT, "enarx-signature-2") + "more = 1\n";
        assert_eq!(
            check(b"bytes", future.as_bytes(), &keys),
            Err(SignatureError::UnknownFormat {
                found: "enarx-signature-2".to_owned()
            })
        );
        let more = text.clone() + "more = 1\n";
        let large = "#".repeat(MAX_LEN) + &text;
        for bad in [&more, &large, "", "format = 1"] {
            let error = check(b"bytes", bad.as_bytes(), &keys).unwrap_err();
            assert!(matches!(error, SignatureError::Format(_)), "{error}");
        }
        // Every character of the text, changed to its neighbour or cut off after it.
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            assert!(check(b"bytes", &changed, &keys).is_err(), "{index}");
            let cut = check(b"bytes", &text.as_bytes()[..index], &keys);
            assert!(cut.is_err() || text[index..].trim().is_empty(), "{index}");
        }
    }

    #[test]
    fn signatures_of_another_implementation_are_valid() {
        // Made with OpenSSL 3: tests/openssl/make has the commands.
        let key = PublicKey::from_pem(include_str!("../tests/openssl/key.pub.pem")).unwrap();
        let signature = include_bytes!("../tests/openssl/message.sig");
        assert_eq!(
            check(b"enarx", signature, std::slice::from_ref(&key)),
            Ok(&key)
        );
    }
}
