// SPDX-License-Identifier: Apache-2.0

//! The manager's certificate for the outer TLS, which protects tokens and metadata: its own, which clients pin by its
//! digest, or one that the host's owner gives.

use crate::{ManagerError, StateError};
use enarx_contract::canonical::Hex;
use enarx_tls::Key;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
    date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

/// Length of an uncompressed P-256 point with its tag, in bytes (SEC 1 2.3.3).
const POINT_SIZE: usize = 65;

/// Name in the self-signed certificate. Clients only check the digest (RFC 2606 reserves `.invalid`).
const NAME: &str = "enarx-manager.invalid";

/// A certificate chain, the leaf first, with the leaf's private key.
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    file: PathBuf,
}

/// [`Key`], as the certificate's maker wants it.
struct Signer {
    key: Key,
    point: [u8; POINT_SIZE],
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .key
            .sign(message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        let signature = p256::ecdsa::Signature::from_slice(&signature.0)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// Makes a self-signed certificate of this key, DER. It has no end that matters: clients pin it.
pub(crate) fn self_signed(key: &Key) -> Result<Vec<u8>, StateError> {
    let make = || {
        let public = key.public();
        let point = public.spki().last_chunk::<POINT_SIZE>();
        let signer = Signer {
            key: key.clone(),
            point: *point.ok_or(rcgen::Error::UnsupportedSignatureAlgorithm)?,
        };
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
        // A positive number in sixteen bytes.
        serial[0] = serial[0] & 0x3f | 0x40;
        let mut parameters = CertificateParams::new(vec![NAME.to_string()])?;
        parameters.serial_number = Some(SerialNumber::from_slice(&serial));
        parameters.not_before = date_time_ymd(2025, 1, 1);
        parameters.not_after = date_time_ymd(2099, 12, 31);
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, NAME);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&signer)?;
        Ok(certificate.der().to_vec())
    };
    make().map_err(|error: rcgen::Error| StateError::Certificate(error.to_string()))
}

impl Certificate {
    /// The self-made certificate with its key.
    pub(crate) fn own(der: Vec<u8>, key: &Key, file: PathBuf) -> Result<Self, StateError> {
        let pkcs8 = key.to_pkcs8()?;
        Ok(Self {
            chain: vec![CertificateDer::from(der)],
            key: PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into(),
            file,
        })
    }

    /// A certificate chain and a key from PEM files.
    pub(crate) fn given(chain: &Path, key: &Path) -> Result<Self, ManagerError> {
        let refuse = |path: &Path, reason: String| ManagerError::Certificate {
            path: path.to_owned(),
            reason,
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(chain, error.to_string()))?;
        if certificates.is_empty() {
            return Err(refuse(chain, "it has no certificate".to_string()));
        }
        Ok(Self {
            chain: certificates,
            key: PrivateKeyDer::from_pem_file(key)
                .map_err(|error| refuse(key, error.to_string()))?,
            file: chain.to_owned(),
        })
    }

    /// SHA-256 of the leaf, DER.
    pub(crate) fn fingerprint(&self) -> Hex<32> {
        let leaf = self.chain.first().map_or(&[][..], AsRef::as_ref);
        Hex(Sha256::digest(leaf).into())
    }

    /// TLS 1.3 with this certificate, for HTTP/1.1.
    pub(crate) fn server(self) -> Result<Arc<ServerConfig>, ManagerError> {
        let file = self.file;
        let config = || {
            let mut config = ServerConfig::builder_with_provider(enarx_tls::provider())
                .with_protocol_versions(&[&version::TLS13])?
                .with_no_client_auth()
                .with_single_cert(self.chain, self.key)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        };
        config().map_err(
            |error: tokio_rustls::rustls::Error| ManagerError::Certificate {
                path: file,
                reason: error.to_string(),
            },
        )
    }
}
