// SPDX-License-Identifier: Apache-2.0

//! The independent peer: plain rustls over AWS-LC, which follows the profile unless a test says otherwise.

use crate::end::End;
use enarx_contract::PublicKey;
use enarx_session::{ALPN, EXPORTER_LABEL};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error,
    NamedGroup, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::sync::Arc;

/// The form in which a peer sends its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// A raw public key.
    Raw,
    /// A certificate.
    X509,
    /// Nothing; a server requests nothing.
    Nothing,
}

/// The properties of an independent peer.
pub struct Profile {
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub suites: Vec<CipherSuite>,
    pub groups: Vec<NamedGroup>,
    pub alpn: Vec<Vec<u8>>,
    pub shows: KeyForm,
    pub algorithm: &'static rcgen::SignatureAlgorithm,
    /// A key that is sent in place of its own, without its private key.
    pub stolen: Option<PublicKey>,
    /// The number of times it sends its key.
    pub times: usize,
    /// The one signature scheme that it requests, without requiring a key.
    pub asks_for: Option<SignatureScheme>,
    /// Tickets that a server sends.
    pub tickets: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            versions: vec![&rustls::version::TLS13],
            suites: vec![CipherSuite::TLS13_AES_256_GCM_SHA384],
            groups: vec![NamedGroup::X25519MLKEM768],
            alpn: vec![ALPN.to_vec()],
            shows: KeyForm::Raw,
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            stolen: None,
            times: 1,
            asks_for: None,
            tickets: 0,
        }
    }
}

/// The independent peer.
pub struct Independent {
    pub tls: rustls::Connection,
    spki: Vec<u8>,
}

impl Independent {
    pub fn client(profile: &Profile) -> Self {
        let (certified, spki) = profile.key();
        let config = ClientConfig::builder_with_provider(profile.provider())
            .with_protocol_versions(&profile.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any::new(profile)));
        let resolver: Arc<dyn ResolvesClientCert> = match profile.shows {
            KeyForm::Raw => Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)),
            KeyForm::X509 => Arc::new(SingleCertAndKey::from((*certified).clone())),
            KeyForm::Nothing => Arc::new(Nothing),
        };
        let mut config = config.with_client_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&profile.alpn);
        let name = ServerName::try_from("keep.invalid").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Self {
            tls: tls.into(),
            spki,
        }
    }

    pub fn server(profile: &Profile) -> Self {
        let (certified, spki) = profile.key();
        let config = ServerConfig::builder_with_provider(profile.provider())
            .with_protocol_versions(&profile.versions)
            .unwrap();
        let config = match profile.shows {
            KeyForm::Nothing => config.with_no_client_auth(),
            KeyForm::Raw | KeyForm::X509 => {
                config.with_client_cert_verifier(Arc::new(Any::new(profile)))
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = match profile.shows {
            KeyForm::X509 => Arc::new(SingleCertAndKey::from((*certified).clone())),
            KeyForm::Raw | KeyForm::Nothing => {
                Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified))
            }
        };
        let mut config = config.with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&profile.alpn);
        config.send_tls13_tickets = profile.tickets;
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        Self {
            tls: tls.into(),
            spki,
        }
    }

    /// Its key, as the other end sees it.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_spki(&self.spki).expect("a P-256 key")
    }

    /// The key that it sees.
    pub fn peer(&self) -> PublicKey {
        let keys = self.tls.peer_certificates().expect("a key");
        assert_eq!(keys.len(), 1);
        PublicKey::from_spki(&keys[0]).expect("a P-256 key")
    }

    /// The exporter, computed independently.
    pub fn exporter(&self) -> [u8; 32] {
        self.tls
            .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
            .expect("a completed handshake")
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
    }
}

impl End for Independent {
    fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut plaintext = Vec::new();
        while !bytes.is_empty() {
            let count = self.tls.read_tls(&mut bytes).map_err(|e| e.to_string())?;
            let state = self.tls.process_new_packets().map_err(|e| e.to_string())?;
            let from = plaintext.len();
            plaintext.resize(from + state.plaintext_bytes_to_read(), 0);
            self.tls
                .reader()
                .read_exact(&mut plaintext[from..])
                .unwrap();
            if count == 0 {
                break;
            }
        }
        Ok(plaintext)
    }

    fn give(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }
}

impl Profile {
    fn provider(&self) -> Arc<CryptoProvider> {
        let all = CryptoProvider {
            cipher_suites: aws_lc_rs::ALL_CIPHER_SUITES.to_vec(),
            kx_groups: aws_lc_rs::ALL_KX_GROUPS.to_vec(),
            ..aws_lc_rs::default_provider()
        };
        let suites = self.suites.iter().map(|wanted| {
            let found = all.cipher_suites.iter().find(|it| it.suite() == *wanted);
            *found.expect("a suite of the other library")
        });
        let groups = self.groups.iter().map(|wanted| -> &dyn SupportedKxGroup {
            let found = all.kx_groups.iter().find(|it| it.name() == *wanted);
            *found.expect("a group of the other library")
        });
        Arc::new(CryptoProvider {
            cipher_suites: suites.collect(),
            kx_groups: groups.collect(),
            ..aws_lc_rs::default_provider()
        })
    }

    fn key(&self) -> (Arc<CertifiedKey>, Vec<u8>) {
        let pair = KeyPair::generate_for(self.algorithm).unwrap();
        let der = PrivatePkcs8KeyDer::from(pair.serialize_der());
        let key = aws_lc_rs::sign::any_supported_type(&der.into()).unwrap();
        let spki = match self.stolen {
            Some(key) => key.spki().to_vec(),
            None => key.public_key().unwrap().to_vec(),
        };
        let shown = match self.shows {
            KeyForm::X509 => {
                let parameters = CertificateParams::new(vec!["keep.invalid".to_owned()]).unwrap();
                parameters.self_signed(&pair).unwrap().der().clone()
            }
            KeyForm::Raw | KeyForm::Nothing => CertificateDer::from(spki.clone()),
        };
        (
            Arc::new(CertifiedKey::new(vec![shown; self.times], key)),
            spki,
        )
    }
}

/// A client that claims a raw public key, and sends none.
#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A verifier that accepts any key, and checks its signature with AWS-LC.
#[derive(Debug)]
struct Any {
    shows: KeyForm,
    asks_for: Option<SignatureScheme>,
}

impl Any {
    fn new(profile: &Profile) -> Self {
        Self {
            shows: profile.shows,
            asks_for: profile.asks_for,
        }
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        if self.shows == KeyForm::X509 {
            verify_tls13_signature(message, shown, signed, &algorithms)
        } else {
            let spki = SubjectPublicKeyInfoDer::from(shown.as_ref());
            verify_tls13_signature_with_raw_key(message, &spki, signed, &algorithms)
        }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        if let Some(scheme) = self.asks_for {
            return vec![scheme];
        }
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, shown, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.shows != KeyForm::X509
    }
}

impl ClientCertVerifier for Any {
    fn client_auth_mandatory(&self) -> bool {
        self.asks_for.is_none()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, shown, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.shows != KeyForm::X509
    }
}
