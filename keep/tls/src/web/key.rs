// SPDX-License-Identifier: Apache-2.0

//! The private key of a certificate. It is read here and not by the TLS library, which would leave a copy in memory.

use graviola::Error as GraviolaError;
use graviola::hashing::{Sha256, Sha384};
use graviola::signing::ecdsa::{P256, P384, SigningKey as Ecdsa};
use graviola::signing::eddsa::Ed25519SigningKey;
use graviola::signing::rsa;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Longest ECDSA signature in ASN.1, in bytes: that of P-384, two integers of up to 49 bytes, with their tags (RFC 3279,
/// section 2.2.3).
const ECDSA_SIGNATURE: usize = 104;
/// Room for a public key of a curve, in bytes: that of P-384 has 120.
const CURVE_SPKI: usize = 128;
/// Most bytes of an RSA public key other than its modulus.
const RSA_SPKI: usize = 64;

/// A private key, which wipes itself; clones share it.
#[derive(Clone)]
pub(super) struct PrivateKey(Arc<Kind>);

enum Kind {
    Rsa(Box<rsa::SigningKey>),
    P256(Ecdsa<P256>),
    P384(Ecdsa<P384>),
    Ed25519(Ed25519SigningKey),
}

impl PrivateKey {
    /// Reads a key in PKCS #8, PKCS #1 (RSA) or SEC1 (curves).
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        type Read = fn(&[u8]) -> Result<Kind, GraviolaError>;
        let forms: [Read; 7] = [
            |der| Ecdsa::from_pkcs8_der(der).map(Kind::P256),
            |der| Ecdsa::from_pkcs8_der(der).map(Kind::P384),
            |der| rsa::SigningKey::from_pkcs8_der(der).map(|key| Kind::Rsa(Box::new(key))),
            |der| Ed25519SigningKey::from_pkcs8_der(der).map(Kind::Ed25519),
            |der| Ecdsa::from_sec1_der(der).map(Kind::P256),
            |der| Ecdsa::from_sec1_der(der).map(Kind::P384),
            |der| rsa::SigningKey::from_pkcs1_der(der).map(|key| Kind::Rsa(Box::new(key))),
        ];
        let kind = forms.iter().find_map(|read| read(der).ok())?;
        Some(Self(Arc::new(kind)))
    }

    /// The schemes by which it signs in TLS 1.3 (RFC 8446, section 4.2.3), the best first.
    fn schemes(&self) -> &'static [SignatureScheme] {
        match *self.0 {
            Kind::Rsa(_) => &[
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
            ],
            Kind::P256(_) => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Kind::P384(_) => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            Kind::Ed25519(_) => &[SignatureScheme::ED25519],
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "private key of {:?}", self.algorithm())
    }
}

impl SigningKey for PrivateKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes().iter().find(|it| offered.contains(it))?;
        Some(Box::new(Signing {
            key: self.clone(),
            scheme,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'static>> {
        let mut room = [0; CURVE_SPKI];
        let spki = match &*self.0 {
            Kind::Rsa(key) => {
                let mut room = vec![0; key.modulus_len_bytes().checked_add(RSA_SPKI)?];
                key.public_key().to_spki_der(&mut room).map(<[u8]>::to_vec)
            }
            Kind::P256(key) => key.to_spki_der(&mut room).map(<[u8]>::to_vec),
            Kind::P384(key) => key.to_spki_der(&mut room).map(<[u8]>::to_vec),
            Kind::Ed25519(key) => key.public_key().to_spki_der(&mut room).map(<[u8]>::to_vec),
        };
        spki.ok().map(SubjectPublicKeyInfoDer::from)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match *self.0 {
            Kind::Rsa(_) => SignatureAlgorithm::RSA,
            Kind::P256(_) | Kind::P384(_) => SignatureAlgorithm::ECDSA,
            Kind::Ed25519(_) => SignatureAlgorithm::ED25519,
        }
    }
}

/// A key with the scheme that a handshake has chosen.
#[derive(Debug)]
struct Signing {
    key: PrivateKey,
    scheme: SignatureScheme,
}

impl Signer for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut room = [0; ECDSA_SIGNATURE];
        let signature = match &*self.key.0 {
            Kind::Rsa(key) => {
                let mut room = vec![0; key.modulus_len_bytes()];
                let signature = match self.scheme {
                    SignatureScheme::RSA_PSS_SHA512 => key.sign_pss_sha512(&mut room, message),
                    SignatureScheme::RSA_PSS_SHA384 => key.sign_pss_sha384(&mut room, message),
                    _ => key.sign_pss_sha256(&mut room, message),
                };
                signature.map(<[u8]>::to_vec)
            }
            Kind::P256(key) => {
                let signature = key.sign_asn1::<Sha256>(&[message], &mut room);
                signature.map(<[u8]>::to_vec)
            }
            Kind::P384(key) => {
                let signature = key.sign_asn1::<Sha384>(&[message], &mut room);
                signature.map(<[u8]>::to_vec)
            }
            Kind::Ed25519(key) => Ok(key.sign(message).to_vec()),
        };
        signature.map_err(|_| Error::FailedToGetRandomBytes)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
