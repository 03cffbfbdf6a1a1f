//! The backends: what may stand between an application and the host it runs on.

use std::fmt;

use crate::doctor;
use crate::launch::{Launch, LaunchError, Outcome};
use crate::{kvm, process};

/// A kind of Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// An encrypted and measured virtual machine on AMD SEV-SNP.
    Snp,
    /// A virtual machine on the simulated SEV-SNP platform.
    Simulated,
    /// A virtual machine on `/dev/kvm`.
    Kvm,
    /// A confined process.
    Process,
}

impl Backend {
    /// All backends.
    pub const ALL: &'static [Self] = &[Self::Snp, Self::Simulated, Self::Kvm, Self::Process];
    /// The backends that are chosen without being asked for, the best first.
    pub const CHOSEN: &'static [Self] = &[Self::Snp, Self::Kvm, Self::Process];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Simulated => "sim",
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }

    /// What it protects, and what it does not, for one line on standard error.
    pub const fn protection(self) -> &'static str {
        match self {
            Self::Snp => "protects the application from the host and the host from the application",
            Self::Simulated => {
                "SIMULATED SEV-SNP, for development: protects the host from the application; does NOT protect the application from the host"
            }
            Self::Kvm | Self::Process => {
                "protects the host from the application; does NOT protect the application from the host"
            }
        }
    }

    /// Whether the hardware protects the application from the host.
    pub const fn protects_application(self) -> bool {
        matches!(self, Self::Snp)
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
        Backend::Snp => Ok(kvm::run_snp(launch)?),
        Backend::Simulated => Ok(kvm::run_simulated(launch)?),
        Backend::Kvm => Ok(kvm::run(launch)?),
        Backend::Process => process::run(launch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_the_next_best_is_taken() {
        assert_eq!(Backend::CHOSEN.first(), Some(&Backend::Snp));
        for backend in Backend::ALL {
            let report = doctor::examine_for(&doctor::Host::new(), backend.name());
            let report = report.expect("every backend is examined");
            assert!(report.built_in);
            assert_eq!(
                report.protects_application,
                backend.protects_application(),
                "{backend}"
            );
            match (report.obstacle(), backend.check()) {
                (None, Ok(())) => {}
                (Some(check), Err(LaunchError::Unusable { what, .. })) => {
                    assert_eq!(what, check.name);
                }
                (found, answer) => panic!("{backend}: {found:?}, {answer:?}"),
            }
        }
        let best = Backend::best();
        let passed_over = Backend::CHOSEN.iter().take_while(|other| **other != best);
        for backend in passed_over {
            assert!(backend.check().is_err(), "{backend} is better than {best}");
        }
    }
}
