// SPDX-License-Identifier: Apache-2.0

//! The outer TLS: the manager is known by the SHA-256 of its certificate, and by nothing else. It protects the token and
//! hides who talks to whom; the session inside has its own TLS and believes none of this.

use crate::fault::Fault;
use crate::target::Target;
use enarx_contract::canonical::{Hex, printable};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Longest text of the TLS library that an error keeps, in characters.
const MESSAGE: usize = 160;

/// The ALPN name of the manager's protocol (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// Another certificate than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not the pinned one")]
struct Mismatch(Hex<32>);

/// Accepts the pinned certificate, and the signature of its key.
#[derive(Debug)]
struct Pinned {
    pin: Hex<32>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Hex(Sha256::digest(end_entity).into());
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(
            OtherError(Arc::new(Mismatch(found))),
        )))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not supported".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The configuration for the manager of this host.
///
/// # Errors
/// [`Fault::Tls`] if this CPU lacks features that the cryptography needs;
/// [`Fault::OuterTls`].
pub(crate) fn config(target: &Target) -> Result<ClientConfig, Fault> {
    enarx_tls::check_cpu()?;
    let provider = enarx_tls::provider();
    let verifier = Pinned {
        pin: target.pin(),
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| outer(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// The name of the host, as used in TLS.
///
/// # Errors
/// [`Fault::OuterTls`].
pub(crate) fn server_name(target: &Target) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(target.host().to_owned()).map_err(|error| outer(&error))
}

/// The fault that a failed handshake is.
pub(crate) fn handshake(error: &std::io::Error, target: &Target) -> Fault {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            match other.downcast_ref::<Mismatch>() {
                Some(Mismatch(found)) => Fault::Pin {
                    expected: target.pin(),
                    found: *found,
                },
                None => outer(error),
            }
        }
        // An alert, or something that is not TLS.
        Some(_) => outer(error),
        None => Fault::unanswered(error.kind()).unwrap_or_else(|| outer(error)),
    }
}

fn outer(error: &impl ToString) -> Fault {
    Fault::OuterTls(printable(&error.to_string(), MESSAGE))
}
