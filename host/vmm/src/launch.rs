//! What a Keep is launched with, and how it ended: the types shared by every backend.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::confine::ConfineError;
use crate::grant::Grant;
use crate::kvm::KvmError;
use crate::kvm::hostility::Hostility;

/// Exit code of the command when a Keep ended by a fault that is not the application's.
pub const EXIT_FAULT: u8 = 70;
/// Exit code of the command when the time limit was reached.
pub const EXIT_TIMEOUT: u8 = 124;

/// Everything a backend needs to start a Keep.
#[derive(Debug)]
pub struct Launch {
    /// The programs of the Keep.
    pub images: Images,
    /// The simulated machine; other backends do not use it.
    pub simulated: Simulated,
    /// HOST_DATA of a measured launch: it stands in the Keep's reports, unmeasured.
    pub host_data: [u8; 32],
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
    /// The fault report of a measured Keep has addresses; its measurement says so. Others always have them.
    pub fault_addresses: bool,
    /// Wall-clock limit of the whole run.
    pub timeout: Option<Duration>,
    /// Print counters and the split of the start time on standard error.
    pub timings: bool,
}

/// The programs of a Keep, ELF executables; each backend uses those that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// The runtime, an executable for Linux x86-64.
    pub runtime: &'static [u8],
    /// The microkernel for SEV-SNP.
    pub microkernel: &'static [u8],
    /// The microkernel for plain KVM.
    pub microkernel_plain: &'static [u8],
    /// The microkernel for the simulated platform.
    pub microkernel_simulated: &'static [u8],
    /// The loader of a measured Keep.
    pub loader: &'static [u8],
}

/// The machine that the simulated platform plays.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Where its keys are kept.
    pub folder: PathBuf,
    /// What it is like.
    pub settings: enarx_simulator::Settings,
    /// Launch with the debug bit in the guest policy.
    pub debug: bool,
    /// What its VMM does beside its work; tests play attacks by it.
    pub hostility: Option<Arc<dyn Hostility>>,
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
