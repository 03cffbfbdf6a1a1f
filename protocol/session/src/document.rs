// SPDX-License-Identifier: Apache-2.0

//! The documents in control frames: canonical JSON (`enarx_contract::canonical`), each within the limit of its frame.

use crate::frame::Kind;
use crate::refusal::Refusal;
use crate::told::State;
use alloc::vec::Vec;
use enarx_contract::canonical::{self, Base64, Hex, Name, integer};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::refused::{MAX_SENTENCE, Refused, Sentence};
pub use crate::told::Format;

/// Most entries of STARTED.
pub const MAX_TIMINGS: usize = 16;

/// Encodes the document of a frame of `kind`.
pub(crate) fn encode<T: Serialize>(kind: Kind, document: &T) -> Result<Vec<u8>, Refusal> {
    Ok(canonical::encode(document, kind.lengths().1)?)
}

/// Decodes the document of a frame of `kind`.
///
/// # Errors
/// [`Refusal::Protocol`].
pub fn decode<T: Serialize + DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, Refusal> {
    canonical::decode(payload, kind.lengths().1)
        .map_err(|error| Refusal::protocol(alloc::format!("{}: {error}", kind.name())))
}

/// ATTEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attest {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Number of this ATTEST on its connection, from 1.
    #[serde(with = "integer")]
    pub seq: u64,
    /// Random.
    pub nonce: Hex<32>,
}

/// EVIDENCE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The `seq` of the ATTEST that is answered.
    #[serde(with = "integer")]
    pub seq: u64,
    /// State of the Keep.
    #[serde(with = "state")]
    pub state: State,
    /// The format of the evidence.
    pub format: Format,
    /// The report; `None` exactly for [`Format::None`].
    pub report: Option<Base64>,
    /// SHA-256 of the deployment; `None` exactly for [`State::Unprovisioned`].
    pub deployment: Option<Hex<32>>,
}

mod state {
    use super::{Deserialize, Deserializer, Error, Serializer, State};

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands out references"
    )]
    pub(super) fn serialize<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*state as u8)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<State, D::Error> {
        match u8::deserialize(from)? {
            1 => Ok(State::Unprovisioned),
            2 => Ok(State::Provisioned),
            _ => Err(D::Error::custom("no state of a Keep")),
        }
    }
}

/// Bytes to be delivered: RELEASE for the deployment, BLOB for each of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// SHA-256; of a secret its commitment.
    pub digest: Hex<32>,
    /// Length in bytes.
    #[serde(with = "integer")]
    pub size: u64,
}

/// STARTED.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Phases of the start and how long each took, in microseconds.
    pub timings: Vec<Timing>,
}

/// A phase of the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Its name.
    pub phase: Name,
    /// Its length in microseconds.
    #[serde(with = "integer")]
    pub us: u64,
}

/// ATTACH: how much of the application's output the tenant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Bytes of standard output.
    #[serde(with = "integer")]
    pub stdout: u64,
    /// Bytes of standard error.
    #[serde(with = "integer")]
    pub stderr: u64,
}

/// ATTACHED: where the streams continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// Bytes of standard input that the Keep has received.
    #[serde(with = "integer")]
    pub stdin: u64,
    /// Standard input has ended: nothing more is taken.
    pub stdin_ended: bool,
    /// Bytes of standard input that may be sent at first.
    pub credit: u32,
    /// Offset of the first byte of standard output that follows; later than requested if bytes were dropped.
    #[serde(with = "integer")]
    pub stdout: u64,
    /// The same for standard error.
    #[serde(with = "integer")]
    pub stderr: u64,
}

/// STOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Milliseconds that the application has to end by itself, at most [`crate::time::MAX_GRACE`].
    pub grace_ms: u32,
}

/// How an application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitKind {
    /// By itself.
    Exited,
    /// By a trap.
    Trapped,
    /// By the Keep, after STOP or because nobody attached.
    Stopped,
    /// By the Keep, when the contract's time for it was over.
    Expired,
    /// It never ran.
    Failed,
}

/// EXIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// How.
    pub kind: ExitKind,
    /// The exit code.
    pub code: u32,
}

/// BYE: the tenant's, and the Keep's with the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bye {
    /// SHA-256 of the payload of RECEIPT: the tenant has everything, and the Keep may end. `None`: the application runs
    /// on without this session.
    pub receipt: Option<Hex<32>>,
}

impl Evidence {
    /// Checks that the fields fit each other.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.report.is_some() != (self.format == Format::Snp) {
            return Err(Refusal::protocol(
                "EVIDENCE whose report does not fit its format",
            ));
        }
        if self.deployment.is_some() != (self.state == State::Provisioned) {
            return Err(Refusal::protocol(
                "EVIDENCE whose deployment does not fit its state",
            ));
        }
        Ok(())
    }
}

impl Started {
    /// Checks the number of entries.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.timings.len() > MAX_TIMINGS {
            return Err(Refusal::protocol("STARTED with too many timings"));
        }
        Ok(())
    }
}
