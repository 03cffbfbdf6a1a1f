// SPDX-License-Identifier: Apache-2.0

//! Why a key or a connection was refused. Every reason has a name, as those of the session have.

use crate::Alert;
use enarx_contract::canonical::printable;
use enarx_session::Refusal;
use rustls::Error;

/// Longest text of the TLS library that an error keeps, in characters.
pub(crate) const MESSAGE_LIMIT: usize = 160;

/// Why a key or a connection was refused. Before the verdict a tenant's peer may be anybody, the host included: then
/// the error is the host's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The CPU lacks features that the cryptography needs.
    #[error(
        "this CPU lacks instructions that the cryptography needs (AES, PCLMULQDQ, ADX, AVX2, BMI1, BMI2): use a newer CPU, \
         or a virtual machine that exposes them"
    )]
    Cpu,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// Bytes that are not a private key of P-256.
    #[error("not a private key of P-256 in PKCS #8: make a new one")]
    Key,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(Fault),
    /// The other end speaks another protocol, or names none.
    #[error("the other end does not speak enarx-session/1")]
    Alpn,
    /// The connection gives no keying material to bind evidence to.
    #[error("the TLS connection provides no keying material (exporter)")]
    Exporter,
    /// The owner of this key may have no session.
    #[error("the contract admits another tenant")]
    Tenant,
    /// Bytes that are no records of this connection, or an alert in the middle of it.
    #[error("the TLS connection is broken: {0}")]
    Record(Fault),
}

/// Why a handshake failed, or the connection broke after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The other end sent an alert, and has ended the connection by it.
    #[error("the other end sent the alert {0}")]
    Alert(Alert),
    /// More bytes without any plaintext than a connection takes.
    #[error("an endless series of empty records")]
    Endless,
    /// The other end did not ask for a key.
    #[error("the other end did not ask for a key")]
    NotAsked,
    /// The other end showed no key.
    #[error("the other end showed no key")]
    NoKey,
    /// Any other reason of the TLS library's, in its words.
    #[error("{0}")]
    Library(String),
}

impl Fault {
    /// The library's words, as many as are kept.
    pub(crate) fn library(error: &impl ToString) -> Self {
        Self::Library(printable(&error.to_string(), MESSAGE_LIMIT))
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert((*alert).into()),
            other => Self::library(other),
        }
    }
}

impl TlsError {
    /// The name of the error, stable: logs, audit records and tests use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cpu => "tls.cpu",
            Self::Random => "tls.random",
            Self::Key => "tls.key",
            Self::Handshake(_) => "session.handshake",
            Self::Alpn => "session.alpn",
            Self::Exporter => "session.exporter",
            Self::Tenant => "session.tenant",
            Self::Record(_) => "session.protocol",
        }
    }

    /// The refusal of the session that this is, where there is one of the same name.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Exporter => Some(Refusal::Exporter),
            Self::Tenant => Some(Refusal::Tenant),
            Self::Record(fault) => Some(Refusal::Protocol(fault.to_string())),
            Self::Cpu | Self::Random | Self::Key | Self::Handshake(_) | Self::Alpn => None,
        }
    }
    /// A handshake that the TLS library does not go on with.
    pub(crate) fn handshake(error: &impl ToString) -> Self {
        Self::Handshake(Fault::library(error))
    }
}
