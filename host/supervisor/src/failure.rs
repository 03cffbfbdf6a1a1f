// SPDX-License-Identifier: Apache-2.0

//! A launch that failed in the process that serves a Keep, in the form in which the supervisor receives it.
//!
//! The errors themselves contain values that cannot be sent to another process, so each kind is sent as its
//! text. A Keep that took over its process can send any of them: no decision depends on the text.

use enarx_backend::launch::LaunchError;
use serde::{Deserialize, Serialize};

/// Why the process that serves a Keep could not launch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LaunchFailure {
    /// The process could not give up what it inherited. The text is the system's.
    #[error("the process that serves the Keep could not be set up: {0}")]
    SetUp(String),
    /// This machine lacks something: the text of [`LaunchError::Unusable`].
    #[error("{0}")]
    Unusable(String),
    /// A virtual machine could not be launched: the text of [`LaunchError::Kvm`].
    #[error("{0}")]
    VirtualMachine(String),
    /// The runtime's process could not be started: the text of [`LaunchError::Process`].
    #[error("{0}")]
    Process(String),
}

impl From<LaunchError> for LaunchFailure {
    fn from(error: LaunchError) -> Self {
        let kind = match error {
            LaunchError::Unusable { .. } => Self::Unusable,
            LaunchError::Kvm(_) => Self::VirtualMachine,
            LaunchError::Process(_) => Self::Process,
        };
        kind(error.to_string())
    }
}
