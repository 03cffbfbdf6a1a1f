// SPDX-License-Identifier: Apache-2.0

//! The provider against Project Wycheproof, a collection of cases that implementations got wrong: everything in it that
//! the session uses, and the P-256 of ordinary TLS. The cases are the crate's; each set asserts how many were tried.

use graviola::aead::AesGcm;
use graviola::hashing::Sha256;
use graviola::key_agreement::{mlkem768, p256, x25519};
use graviola::signing::ecdsa::{P256, VerifyingKey};
use rustls_graviola::kx::X25519MLKEM768;
use wycheproof::{TestResult, aead, ecdh, ecdsa, mlkem, xdh};

/// Bytes of a key of AES-256.
const KEY: usize = 32;

#[test]
fn signatures_over_p256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
    let mut tried = 0;
    for group in &set.test_groups {
        let key = VerifyingKey::<P256>::from_x962_uncompressed(&group.key.key).unwrap();
        for test in &group.tests {
            let verified = key.verify_asn1::<Sha256>(&[&test.msg], &test.sig);
            assert_eq!(
                verified.is_ok(),
                test.result == TestResult::Valid,
                "{}: {}",
                test.tc_id,
                test.comment
            );
            tried += 1;
        }
    }
    assert!(tried >= 480, "{tried}");
}

#[test]
fn records_under_aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut tried = 0;
    for group in &set.test_groups {
        // TLS 1.3 has only nonces of 12 and tags of 16 bytes, and the types accept no others.
        if (group.key_size, group.nonce_size, group.tag_size) != (8 * KEY, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let cipher = AesGcm::new(&test.key);
            let nonce: [u8; 12] = test.nonce.as_slice().try_into().unwrap();
            let what = format!("{}: {}", test.tc_id, test.comment);
            let mut opened = test.ct.to_vec();
            let result = cipher.decrypt(&nonce, &test.aad, &mut opened, &test.tag);
            if test.result != TestResult::Valid {
                assert!(result.is_err(), "{what}");
                tried += 1;
                continue;
            }
            result.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(opened, test.pt.to_vec(), "{what}");
            let (mut sealed, mut tag) = (test.pt.to_vec(), [0; 16]);
            cipher.encrypt(&nonce, &test.aad, &mut sealed, &mut tag);
            assert_eq!(
                (sealed, tag.to_vec()),
                (test.ct.to_vec(), test.tag.to_vec()),
                "{what}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 60, "{tried}");
}

#[test]
fn agreement_over_x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let what = format!("{}: {}", test.tc_id, test.comment);
        let own = x25519::StaticPrivateKey::try_from_slice(&test.private_key).unwrap();
        let peer = x25519::PublicKey::try_from_slice(&test.public_key).unwrap();
        // A point of low order gives zeros, which TLS refuses (RFC 8446, section 7.4.2).
        let zero = test.shared_secret.iter().all(|byte| *byte == 0);
        match own.diffie_hellman(&peer) {
            Ok(shared) => assert_eq!(
                shared.as_bytes().to_vec(),
                test.shared_secret.to_vec(),
                "{what}"
            ),
            Err(_) => assert!(zero, "{what}"),
        }
        assert!(!zero || own.diffie_hellman(&peer).is_err(), "{what}");
        tried += 1;
    }
    assert!(tried >= 510, "{tried}");
}

#[test]
fn agreement_over_p256() {
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let what = format!("{}: {}", test.tc_id, test.comment);
        // A number there, 32 bytes here.
        let digits = test
            .private_key
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0);
        let digits: Vec<u8> = digits.collect();
        let mut scalar = vec![0; 32 - digits.len()];
        scalar.extend(digits);
        let own = p256::StaticPrivateKey::from_bytes(&scalar).unwrap();
        let shared = p256::PublicKey::from_x962_uncompressed(&test.public_key)
            .and_then(|peer| own.diffie_hellman(&peer));
        match (shared, test.result) {
            (Ok(shared), TestResult::Valid) => {
                assert_eq!(shared.0.to_vec(), test.shared_secret.to_vec(), "{what}");
            }
            // Compressed points, above all.
            (Err(_), TestResult::Invalid | TestResult::Acceptable) => {}
            (shared, result) => panic!("{what}: {} where it is {result:?}", shared.is_ok()),
        }
        tried += 1;
    }
    assert!(tried >= 350, "{tried}");
}

/// The cases of a set for ML-KEM-768.
fn ml_kem(name: mlkem::TestName) -> Vec<mlkem::Test> {
    let set = mlkem::TestSet::load(name).unwrap();
    let groups = set.test_groups.into_iter();
    groups.flat_map(|group| group.tests).collect()
}

fn fixed<const N: usize>(bytes: Option<&wycheproof::ByteString>) -> Option<[u8; N]> {
    bytes?.as_slice().try_into().ok()
}

#[test]
fn keys_of_ml_kem_768() {
    let tests = ml_kem(mlkem::TestName::MlKem768KeyGenSeed);
    for test in &tests {
        let key = mlkem768::DecapKey::keygen_internal(&fixed(test.seed.as_ref()).unwrap());
        let expected = test.encaps_key.as_ref().unwrap();
        assert_eq!(
            key.encapsulation_key().as_bytes().to_vec(),
            expected.to_vec()
        );
        let expected = test.decaps_key.as_ref().unwrap();
        assert_eq!(key.as_bytes().to_vec(), expected.to_vec());
    }
    assert!(tests.len() >= 100, "{}", tests.len());
}

#[test]
fn secrets_taken_out_of_ml_kem_768() {
    let tests = ml_kem(mlkem::TestName::MlKem768);
    let mut tried = 0;
    for test in &tests {
        let what = format!("{}: {}", test.tc_id, test.comment);
        let seed = fixed(test.seed.as_ref());
        let ciphertext = fixed::<1088>(test.ct.as_ref());
        let (Some(seed), Some(ciphertext)) = (seed, ciphertext) else {
            // Another length, which the types do not accept.
            assert_eq!(test.result, TestResult::Invalid, "{what}");
            continue;
        };
        let shared = mlkem768::DecapKey::keygen_internal(&seed).decaps(&ciphertext.into());
        let is_expected = shared.as_ref()[..] == test.shared_secret.as_ref().unwrap()[..];
        assert_eq!(is_expected, test.result == TestResult::Valid, "{what}");
        tried += 1;
    }
    assert!(tried >= 150, "{tried}");
}

#[test]
fn secrets_put_into_ml_kem_768() {
    let tests = ml_kem(mlkem::TestName::MlKem768Encaps);
    let (mut tried, mut overflows) = (0, 0);
    for test in &tests {
        let what = format!("{}: {}", test.tc_id, test.comment);
        let Some(bytes) = fixed(test.encaps_key.as_ref()) else {
            assert_eq!(test.result, TestResult::Invalid, "{what}");
            continue;
        };
        let key = mlkem768::EncapKey::from_bytes(&bytes);
        if test.result == TestResult::Invalid {
            assert!(key.is_err(), "{what}");
            overflows += 1;
            // As in the session: the first part of a tenant's share.
            let own = x25519::PrivateKey::new_random().unwrap().public_key();
            let share = [&bytes[..], &own.as_bytes()].concat();
            assert!(X25519MLKEM768.start_and_complete(&share).is_err(), "{what}");
            continue;
        }
        let message = mlkem768::Message(fixed(test.msg.as_ref()).unwrap());
        let (shared, ciphertext) = key.unwrap().encaps_internal(message);
        assert_eq!(
            ciphertext.as_ref()[..],
            test.ct.as_ref().unwrap()[..],
            "{what}"
        );
        assert_eq!(
            shared.as_ref()[..],
            test.shared_secret.as_ref().unwrap()[..],
            "{what}"
        );
        tried += 1;
    }
    assert!(tried > 0 && overflows >= 100, "{tried}, {overflows}");
}

#[test]
fn a_share_with_a_point_of_low_order_is_refused() {
    let key = mlkem768::DecapKey::generate().unwrap().encapsulation_key();
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut tried = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let share = [&key.as_bytes()[..], &test.public_key].concat();
        let zero = test.shared_secret.iter().all(|byte| *byte == 0);
        let agreed = X25519MLKEM768.start_and_complete(&share);
        assert_eq!(agreed.is_err(), zero, "{}: {}", test.tc_id, test.comment);
        tried += u32::from(zero);
    }
    assert!(tried >= 10, "{tried}");
}
