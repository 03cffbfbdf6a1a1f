// SPDX-License-Identifier: Apache-2.0

//! Keys: stored, read, and used for signatures that another library (RustCrypto, in `protocol/contract`) verifies.

use crate::pair::key;
use enarx_tls::{Key, TlsError};
use rcgen::{KeyPair, PublicKeyData};

#[test]
fn a_key_is_the_same_after_storing() {
    let key = key();
    let stored = key.to_pkcs8().unwrap();
    let read = Key::from_pkcs8(&stored).unwrap();
    assert_eq!(read.public(), key.public());
    let signature = read.sign(b"message").unwrap();
    assert!(key.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"massage", &signature));
    // Other libraries read it, and vice versa.
    let other = KeyPair::try_from(stored.as_slice()).unwrap();
    assert!(other.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256));
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let read = Key::from_pkcs8(&other.serialize_der()).unwrap();
    assert_eq!(
        read.public().spki().as_slice(),
        other.subject_public_key_info()
    );
}

#[test]
fn an_invalid_p256_key_is_refused() {
    let stored = key().to_pkcs8().unwrap();
    for length in 0..stored.len() {
        let refused = Key::from_pkcs8(&stored[..length]);
        assert_eq!(refused.unwrap_err(), TlsError::Key, "{length} bytes");
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let other = KeyPair::generate_for(algorithm).unwrap().serialize_der();
        assert_eq!(Key::from_pkcs8(&other).unwrap_err(), TlsError::Key);
    }
    // For another private key: the last byte belongs to the public one.
    let mut mixed = stored.to_vec();
    *mixed.last_mut().unwrap() ^= 1;
    assert_eq!(Key::from_pkcs8(&mixed).unwrap_err(), TlsError::Key);
}

#[test]
fn keys_are_shown_without_secrets() {
    let key = key();
    assert_eq!(
        format!("{key:?}"),
        format!("private {:?}", key.public()),
        "the digest of the public key"
    );
}

#[test]
fn no_two_keys_and_no_two_signatures_are_the_same() {
    let (one, other) = (key(), key());
    assert_ne!(one.public(), other.public());
    assert_ne!(one.sign(b"message"), one.sign(b"message"));
}
