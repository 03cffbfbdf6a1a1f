// SPDX-License-Identifier: Apache-2.0

//! P-256 key pairs: generated, stored by callers that need it, and used for TLS and for signatures on documents. TLS
//! puts 64 spaces and a context before signed data, documents a domain string, so neither signature can replace the
//! other.

use crate::{TlsError, check_cpu};
use enarx_contract::canonical::Hex;
use enarx_contract::{PublicKey, SPKI_SIZE, Signature};
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey};
use rustls::sign::Signer;
use rustls::{SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// The signature scheme of the session.
pub(crate) const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Room for a private key in PKCS #8, in bytes: it has 138.
const PKCS8_ROOM: usize = 256;

/// Longest signature in ASN.1, in bytes: two integers of up to 33 bytes, with their tags (RFC 3279, section 2.2.3).
const ASN1_SIGNATURE: usize = 72;

/// A P-256 key pair, of a Keep, a tenant or a host. Its copies share the private key, which is wiped with the last of
/// them.
#[derive(Clone)]
pub struct Key(Arc<Pair>);

struct Pair {
    /// Wipes itself.
    signing: SigningKey<P256>,
    public: PublicKey,
}

impl Key {
    /// Makes a new key pair.
    ///
    /// # Errors
    /// [`TlsError::Cpu`]; [`TlsError::Random`].
    pub fn generate() -> Result<Self, TlsError> {
        check_cpu()?;
        let signing = SigningKey::generate().map_err(|_| TlsError::Random)?;
        Self::new(signing)
    }

    /// Reads a key pair from PKCS #8 (RFC 5208, or RFC 5958 with a public key, which must be the right one).
    ///
    /// # Errors
    /// [`TlsError::Cpu`]; [`TlsError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TlsError> {
        check_cpu()?;
        let signing = SigningKey::from_pkcs8_der(der).map_err(|_| TlsError::Key)?;
        Self::new(signing)
    }

    fn new(signing: SigningKey<P256>) -> Result<Self, TlsError> {
        let mut room = [0; SPKI_SIZE];
        let spki = signing.to_spki_der(&mut room).map_err(|_| TlsError::Key)?;
        let public = PublicKey::from_spki(spki).ok_or(TlsError::Key)?;
        Ok(Self(Arc::new(Pair { signing, public })))
    }

    /// The key pair in PKCS #8 (RFC 5208). The bytes are wiped when they are dropped.
    ///
    /// # Errors
    /// [`TlsError::Key`] when the pair cannot be encoded.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let mut room = Zeroizing::new([0; PKCS8_ROOM]);
        let der = self.0.signing.to_pkcs8_der(&mut *room);
        Ok(Zeroizing::new(der.map_err(|_| TlsError::Key)?.to_vec()))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public
    }

    /// Signs `message` by ECDSA with SHA-256. The caller puts a domain string first.
    ///
    /// # Errors
    /// [`TlsError::Random`].
    pub fn sign(&self, message: &[u8]) -> Result<Signature, TlsError> {
        let mut signature = [0; 64];
        self.0
            .signing
            .sign::<Sha256>(&[message], &mut signature)
            .map_err(|_| TlsError::Random)?;
        Ok(Hex(signature))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "private {:?}", self.0.public)
    }
}

/// A key as one connection uses it; it remembers that it has signed the handshake.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionKey {
    key: Key,
    shown: Arc<AtomicBool>,
}

impl ConnectionKey {
    pub(crate) fn new(key: &Key) -> Self {
        Self {
            key: key.clone(),
            shown: Arc::default(),
        }
    }

    /// True if the handshake was signed with this key. A server need not ask a client for one.
    pub(crate) fn has_signed(&self) -> bool {
        self.shown.load(Ordering::Relaxed)
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public()
    }
}

impl rustls::sign::SigningKey for ConnectionKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SCHEME)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for ConnectionKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut room = [0; ASN1_SIGNATURE];
        let signing = &self.key.0.signing;
        let signature = signing
            .sign_asn1::<Sha256>(&[message], &mut room)
            .map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        self.shown.store(true, Ordering::Relaxed);
        Ok(signature.to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}
