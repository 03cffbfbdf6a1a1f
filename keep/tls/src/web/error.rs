// SPDX-License-Identifier: Apache-2.0

//! Why a certificate, a key or a connection of ordinary TLS was refused. Every reason has a name.

use crate::error::MESSAGE_LIMIT;
use crate::{Alert, TlsError};
use enarx_contract::canonical::printable;
use rustls::Error;

/// Why a certificate, a key or a connection of ordinary TLS was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// There is no cryptography.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server's own certificate is not valid.
    #[error(
        "the server's certificate is not readable: give a chain of X.509 certificates, the server's own first"
    )]
    Chain,
    /// The private key cannot be used.
    #[error(
        "the private key cannot be used: give one of RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519, without a \
         passphrase"
    )]
    Key,
    /// Certificate and key are not a pair.
    #[error(
        "the private key does not belong to the certificate: give the two that were made for each other"
    )]
    Pair,
    /// There is no issuer whose certificates are accepted.
    #[error("no certificate issuer is known: give some with --tls-roots")]
    NoIssuers,
    /// The server has a name that no certificate can have.
    #[error("the server's name is neither a DNS name nor an IP address")]
    Name,
    /// The other end's certificate is not accepted. The text is the TLS library's.
    #[error("the server's certificate is not accepted: {0}")]
    Untrusted(String),
    /// The other end has refused, by this alert.
    #[error("the other end has refused the connection: {0}")]
    Alert(Alert),
    /// Bytes that are not TLS, or violate it.
    #[error("the other end violates TLS 1.3: {0}")]
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
            Self::Alert(_) => "tls.alert",
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
            Error::AlertReceived(alert) => Self::Alert((*alert).into()),
            other => Self::protocol(other),
        }
    }
}
