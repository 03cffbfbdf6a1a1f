// SPDX-License-Identifier: Apache-2.0

//! Why a certificate, a key or a connection of ordinary TLS was refused. Every reason has a name.

use crate::TlsError;
use crate::error::MESSAGE_LIMIT;
use enarx_contract::canonical::printable;
use rustls::{AlertDescription, Error};

/// Why a certificate, a key or a connection of ordinary TLS was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// There is no cryptography.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server's own certificate is none.
    #[error(
        "the server's certificate is not readable: give a chain of X.509 certificates, the server's own first"
    )]
    Chain,
    /// The private key is none that can be used.
    #[error(
        "the private key is none that can be used: give one of RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519, without a \
         passphrase"
    )]
    Key,
    /// Certificate and key are not a pair.
    #[error(
        "the private key does not belong to the certificate: give the two that were made for each other"
    )]
    Pair,
    /// There is no issuer whose certificates are accepted.
    #[error("no issuer of certificates is known: give some with --tls-roots")]
    NoIssuers,
    /// The server has a name that no certificate can have.
    #[error("the server's name is neither a name of DNS nor an address")]
    Name,
    /// The other end's certificate is not accepted. The text is the TLS library's.
    #[error("the server's certificate is not accepted: {0}")]
    Untrusted(String),
    /// The other end has refused, by this alert (RFC 8446, section 6).
    #[error("the other end has refused the connection: {text}")]
    Alert {
        /// Its number.
        number: u8,
        /// Its name.
        text: String,
    },
    /// Bytes that are not TLS, or not as it has to be.
    #[error("the other end does not keep to TLS 1.3: {0}")]
    Protocol(String),
    /// The connection ended, and the other end had not said that it would.
    #[error("the connection was cut")]
    Cut,
}

impl WebError {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tls(error) => error.code(),
            Self::Chain => "tls.chain",
            Self::Key => "tls.key",
            Self::Pair => "tls.pair",
            Self::NoIssuers => "tls.no-issuers",
            Self::Name => "tls.name",
            Self::Untrusted(_) => "tls.untrusted",
            Self::Alert { .. } => "tls.alert",
            Self::Protocol(_) => "tls.protocol",
            Self::Cut => "tls.cut",
        }
    }

    pub(super) fn protocol(error: &impl ToString) -> Self {
        Self::Protocol(printable(&error.to_string(), MESSAGE_LIMIT))
    }

    /// The name of the library's error.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(why) => {
                Self::Untrusted(printable(&why.to_string(), MESSAGE_LIMIT))
            }
            Error::AlertReceived(alert) => Self::alert(*alert),
            other => Self::protocol(other),
        }
    }

    fn alert(alert: AlertDescription) -> Self {
        let number = alert.into();
        Self::Alert {
            number,
            text: alert_name(number).into(),
        }
    }
}

/// The name of an alert (RFC 8446, section 6; others in the registry of TLS alerts at IANA).
fn alert_name(number: u8) -> &'static str {
    match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => "an alert without a name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_the_name_of_its_number_whatever_the_library_calls_it() {
        for (alert, number, name) in [
            (AlertDescription::HandshakeFailure, 40, "handshake_failure"),
            (AlertDescription::UnknownCA, 48, "unknown_ca"),
            (
                AlertDescription::CertificateRequired,
                116,
                "certificate_required",
            ),
            (
                AlertDescription::Unknown(200),
                200,
                "an alert without a name",
            ),
        ] {
            let text = name.to_owned();
            assert_eq!(WebError::alert(alert), WebError::Alert { number, text });
        }
    }
}
