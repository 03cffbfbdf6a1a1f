// SPDX-License-Identifier: Apache-2.0

//! Why a Keep in a process could not be started or served.

use std::io;

use enarx_confine::ConfineError;
use enarx_confine::process::remedy;

/// Why a Keep could not be started, or could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The host's system refused something that the launch needs.
    #[error("{what}: {source}{remedy}", remedy = remedy(source))]
    System {
        /// The step that was refused.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The threads that serve the Keep could not be confined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The runtime could not be started.
    #[error("the runtime could not be started: {what}: {source}; see `enarx doctor`")]
    Start {
        /// The step that failed.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl LaunchError {
    /// For `map_err`: names what was refused.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }
}
