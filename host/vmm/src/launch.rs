//! What a Keep is launched with, and how it ended: the types shared by every backend.

use std::io;
use std::time::Duration;

use crate::confine::ConfineError;
use crate::grant::Grant;
use crate::kvm::KvmError;

/// Exit code of the command when a Keep ended by a fault that is not the application's.
pub const EXIT_FAULT: u8 = 70;
/// Exit code of the command when the time limit was reached.
pub const EXIT_TIMEOUT: u8 = 124;

/// Everything a backend needs to start a Keep.
#[derive(Debug)]
pub struct Launch {
    /// The runtime image, an ELF executable for Linux x86-64.
    pub runtime: &'static [u8],
    /// The microkernel image, an ELF executable; the process backend does not use it.
    pub microkernel: &'static [u8],
    /// What the host does for this Keep, and nothing else.
    pub grant: Grant,
    /// Object `Configuration` of the sallyport.
    pub configuration: Vec<u8>,
    /// Object `Application` of the sallyport.
    pub application: Vec<u8>,
    /// Memory of the Keep, in bytes.
    pub memory: u64,
    /// Virtual CPUs of the Keep, at least 1.
    pub vcpus: u32,
    /// Wall-clock limit of the whole run.
    pub timeout: Option<Duration>,
    /// Print counters and the split of the start time on standard error.
    pub timings: bool,
}

/// How a Keep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime ended with this exit code.
    Exit(i32),
    /// The Keep ended itself, or was ended, because of a fault; the text is the report.
    Fault(String),
    /// The time limit was reached.
    TimedOut,
}

/// Why a Keep could not be launched, or could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The host's system refused something that the launch needs.
    #[error("{what}: {source}")]
    System {
        /// What was refused.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The VMM could not confine itself.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The runtime could not be started.
    #[error("the runtime could not be started: {what}: {source}; see `enarx doctor`")]
    Start {
        /// What failed.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// This machine lacks something that the backend needs.
    #[error(
        "backend {backend} does not work here: {what}: {found}; next: {next} (all of it: `enarx doctor`)"
    )]
    Unusable {
        /// The backend.
        backend: &'static str,
        /// What it needs.
        what: &'static str,
        /// What was found.
        found: String,
        /// What to do.
        next: String,
    },
    /// The virtual machine could not be launched.
    #[error(transparent)]
    Kvm(#[from] KvmError),
}

impl LaunchError {
    /// For `map_err`: names what was refused.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }
}
