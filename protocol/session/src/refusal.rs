// SPDX-License-Identifier: Apache-2.0

//! Why a session ends without success. Every reason has a name that frames, logs, audit records and tests use; SPEC.md
//! lists them all.

use crate::deployment_error::DeploymentError;
use crate::refused::{Refused, Sentence};
use crate::told::{Format, State};
use crate::unfit::Unfit;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use enarx_contract::ContractError;
use enarx_contract::canonical::{CanonicalError, Name};

/// Why a session ends without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The other end violated the protocol.
    #[error("the other end violates the protocol: {0}")]
    Protocol(String),
    /// The connection ended before the session did.
    #[error("the connection ended before the session did")]
    Truncated,
    /// The other end was silent for too long.
    #[error("no {0} in time")]
    Timeout(&'static str),
    /// A newer connection of the same tenant took over.
    #[error("a newer session took over")]
    Replaced,
    /// As many connections as a Keep has already.
    #[error("the Keep has no room for another session now")]
    Full,
    /// The TLS library gave no keying material.
    #[error("the TLS connection provides no keying material (exporter)")]
    Exporter,
    /// Another version of the protocol.
    #[error("version {found} of the session is not known")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The verdict is too old for anything more to be sent.
    #[error("the verdict has expired; attest the Keep again")]
    MaxAge,
    /// Another Keep than before: its key, its launch or its application differ.
    #[error("this is not the Keep of the earlier session: its {0} differs")]
    Continuity(&'static str),
    /// The owner of this key may have no session.
    #[error("the contract admits another tenant")]
    Tenant,
    /// The answer to another ATTEST.
    #[error("evidence number {found} in answer to request {expected}")]
    Sequence {
        /// The requested number.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// Evidence of another kind than the contract says.
    #[error("evidence of the format {0}")]
    Format(Format),
    /// A Keep in use where an unused one was expected, or the other way round.
    #[error("the Keep is {0:?}")]
    State(State),
    /// The verifier refused the evidence.
    #[error("the evidence is refused: {}", .0.join(", "))]
    Evidence(Vec<String>),
    /// The verifier did not compare a value that makes the session safe.
    #[error("{0} was not checked")]
    Unchecked(&'static str),
    /// The Keep could not get a report in time.
    #[error("the Keep cannot get a report now")]
    Busy,
    /// The Keep has given up the key of reports, because it runs native code.
    #[error("the Keep runs native code, and no longer gives evidence")]
    Native,
    /// The contract does not match this Keep or this deployment.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The Keep has an application already, or another tenant is delivering one.
    #[error("the Keep is taken")]
    Taken,
    /// The deployment is not one, or not for this contract.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Bytes that were delivered are not those that the deployment names.
    #[error("what was delivered is not what the deployment names")]
    Digest,
    /// More than this Keep has room for, or something that it cannot run.
    #[error(transparent)]
    Release(#[from] Unfit),
    /// Offsets that no session of this application can have.
    #[error("the offsets of ATTACH are not those of any session")]
    Offset,
    /// Nothing to attach to, or to stop.
    #[error("no application was started")]
    NotStarted,
    /// The receipt is not valid.
    #[error("the receipt is not valid: {0}")]
    Receipt(&'static str),
    /// The other end refused. Its text is printable, and no more trustworthy than that end.
    #[error("the other end refuses: {} ({})", .0.sentence, .0.code.as_str())]
    Peer(Refused),
}

impl Refusal {
    /// The name of the refusal, stable. That of [`Self::Evidence`] is the first check that failed; that of [`Self::Peer`]
    /// the one that the other end gave, in its own words: [`Self::is_claimed_by_peer`].
    pub fn code(&self) -> &str {
        match self {
            Self::Protocol(_) => "session.protocol",
            Self::Truncated => "session.truncated",
            Self::Timeout(_) => "session.timeout",
            Self::Replaced => "session.replaced",
            Self::Full => "session.full",
            Self::Exporter => "session.exporter",
            Self::Version { .. } => "session.version",
            Self::MaxAge => "session.max-age",
            Self::Continuity(_) => "session.continuity",
            Self::Tenant => "session.tenant",
            Self::Sequence { .. } => "evidence.sequence",
            Self::Format(_) => "evidence.format",
            Self::State(_) => "evidence.state",
            Self::Evidence(failed) => failed.first().map_or("evidence.refused", String::as_str),
            Self::Unchecked(_) => "evidence.unchecked",
            Self::Busy => "evidence.busy",
            Self::Native => "evidence.native",
            Self::Contract(error) => error.code(),
            Self::Taken => "release.taken",
            Self::Deployment(error) => error.code(),
            Self::Digest => "release.digest",
            Self::Release(_) => "release.refused",
            Self::Offset => "attach.offset",
            Self::NotStarted => "attach.state",
            Self::Receipt(name) => name,
            Self::Peer(refused) => refused.code.as_str(),
        }
    }

    /// True if only the other end claims this.
    pub fn is_claimed_by_peer(&self) -> bool {
        matches!(self, Self::Peer(_))
    }

    /// A fault of the other end.
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

impl From<CanonicalError> for Refusal {
    fn from(error: CanonicalError) -> Self {
        Self::Protocol(alloc::format!("{error}"))
    }
}

impl Refused {
    /// The document for a refusal.
    #[must_use]
    pub fn new(refusal: &Refusal) -> Self {
        let (expected, actual) = match refusal {
            Refusal::Contract(ContractError::Terms {
                expected, found, ..
            }) => (Some(Sentence::new(expected)), Some(Sentence::new(found))),
            _ => (None, None),
        };
        Self {
            code: Name::cleaned(refusal.code()),
            sentence: Sentence::new(&refusal.to_string()),
            expected,
            actual,
        }
    }
}
