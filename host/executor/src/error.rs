// SPDX-License-Identifier: Apache-2.0

//! The errors that end a Keep: its own breach of the protocol, or a failure of its host.

use enarx_sallyport::host::{CompleteError, Violation};
use rustix::io::Errno;

/// Why a Keep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The Keep broke the rules of the ring.
    #[error("the Keep broke the protocol with its host and was ended: {0}")]
    Violation(#[from] Violation),
    /// The executor gave a reply that the request does not allow: its own fault.
    #[error("the host answered a request of the Keep wrongly: {0}; please report this")]
    Answer(#[from] CompleteError),
    /// A system call of the executor itself failed.
    #[error("the host could not wait for the Keep's input and output: {0}")]
    System(#[from] Errno),
}
