// SPDX-License-Identifier: Apache-2.0

//! The checks of a peer's raw public key: its form, that it signed this handshake, and in the Keep whose it is. Certificates are
//! not read at all.

use crate::key::SCHEME;
use enarx_contract::PublicKey;
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

/// The rule by which the owner of a key may have a session.
pub(crate) type Admits = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// Length of an uncompressed P-256 point with its tag (SEC 1, section 2.3.3), at the end of SubjectPublicKeyInfo.
const POINT_SIZE: usize = 65;

/// The tenant's check of the Keep's key: any P-256 key. It is meaningful only after the verdict.
#[derive(Debug)]
pub(crate) struct AnyKeep;

/// The Keep's check of the tenant's key.
pub(crate) struct Tenant(pub(crate) Admits);

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant")
    }
}

/// The one raw public key that a peer showed.
pub(crate) fn key(
    end_entity: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<PublicKey, Error> {
    PublicKey::from_spki(end_entity)
        .filter(|_| others.is_empty())
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Checks the signature of CertificateVerify (RFC 8446, section 4.4.3); a point off the curve fails here.
fn verify(
    message: &[u8],
    end_entity: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    if signed.scheme != SCHEME {
        return Err(bad());
    }
    let key = key(end_entity, &[])?;
    let (_, point) = key
        .spki()
        .split_last_chunk::<POINT_SIZE>()
        .ok_or_else(bad)?;
    let key = VerifyingKey::<P256>::from_x962_uncompressed(point).map_err(|_| bad())?;
    key.verify_asn1::<Sha256>(&[message], signed.signature())
        .map_err(|_| bad())?;
    Ok(HandshakeSignatureValid::assertion())
}

fn no_tls12() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

impl ServerCertVerifier for AnyKeep {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        key(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Tenant {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = key(end_entity, intermediates)?;
        if (self.0)(&key) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
