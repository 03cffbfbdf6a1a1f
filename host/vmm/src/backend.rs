//! The backends: what may stand between an application and the host it runs on.

use std::fmt;

use crate::doctor;
use crate::launch::{Launch, LaunchError, Outcome};
use crate::{kvm, process};

/// A kind of Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A virtual machine on the simulated SEV-SNP platform.
    Simulated,
    /// A virtual machine on `/dev/kvm`.
    Kvm,
    /// A confined process.
    Process,
}

impl Backend {
    /// All backends.
    pub const ALL: &'static [Self] = &[Self::Simulated, Self::Kvm, Self::Process];
    /// The backends that are chosen without being asked for, the best first.
    pub const CHOSEN: &'static [Self] = &[Self::Kvm, Self::Process];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simulated => "sim",
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }

    /// What it protects, and what it does not, for one line on standard error.
    pub const fn protection(self) -> &'static str {
        match self {
            Self::Simulated => {
                "SIMULATED SEV-SNP, for development: protects the host from the application; does NOT protect the application from the host"
            }
            Self::Kvm | Self::Process => {
                "protects the host from the application; does NOT protect the application from the host"
            }
        }
    }

    /// Whether a Keep of this kind can be launched here.
    ///
    /// # Errors
    /// [`LaunchError`]: what is in the way.
    pub fn check(self) -> Result<(), LaunchError> {
        let report = doctor::examine_for(&doctor::Host::new(), self.name());
        match report.as_ref().and_then(doctor::BackendReport::obstacle) {
            None => Ok(()),
            Some(check) => Err(LaunchError::Unusable {
                backend: self.name(),
                what: check.name,
                found: check.found.clone(),
                next: check.next.clone().unwrap_or_default(),
            }),
        }
    }

    /// The best backend of this machine.
    pub fn best() -> Self {
        let usable = Self::CHOSEN.iter().find(|backend| backend.check().is_ok());
        usable.copied().unwrap_or(Self::Process)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Launches a Keep and serves it to its end.
///
/// # Errors
/// [`LaunchError`] when it could not be launched or served.
pub fn run(backend: Backend, launch: Launch) -> Result<Outcome, LaunchError> {
    match backend {
        Backend::Simulated => Ok(kvm::run_simulated(launch)?),
        Backend::Kvm => Ok(kvm::run(launch)?),
        Backend::Process => process::run(launch),
    }
}
