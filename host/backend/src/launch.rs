// SPDX-License-Identifier: Apache-2.0

//! A Keep of any kind: the input of its launch, and the reasons for a failure.

use enarx_doctor::Backend;
pub use enarx_launch::Runtime;
use enarx_launch::measured;
use enarx_vmm::error::KvmError;
use enarx_vmm::launch::Measured;
use enarx_vmm::platform::simulated::Simulated;

/// The programs of a Keep, ELF executables; each backend uses those that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// The runtime.
    pub runtime: Runtime<'static>,
    /// The microkernel for SEV-SNP.
    pub microkernel: &'static [u8],
    /// The microkernel for plain KVM.
    pub microkernel_plain: &'static [u8],
    /// The microkernel for the simulated platform.
    pub microkernel_simulated: &'static [u8],
    /// The loader of a measured Keep.
    pub loader: &'static [u8],
}

impl Images {
    /// The programs of a Keep in a virtual machine with this microkernel.
    pub(crate) const fn with(&self, microkernel: &'static [u8]) -> measured::Images<'static> {
        measured::Images {
            microkernel,
            loader: self.loader,
            runtime: self.runtime,
        }
    }
}

/// A backend, with the parameters that only it needs.
#[derive(Clone, Debug)]
pub enum Target {
    /// SEV-SNP.
    Snp(Measured),
    /// This simulated machine.
    Simulated(Simulated, Measured),
    /// Plain KVM.
    Kvm,
    /// A confined process.
    Process,
}

impl Target {
    /// The backend.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match self {
            Self::Snp(_) => Backend::Snp,
            Self::Simulated(..) => Backend::Simulated,
            Self::Kvm => Backend::Kvm,
            Self::Process => Backend::Process,
        }
    }
}

/// Why a Keep could not be launched, or could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// This machine lacks something that the backend needs.
    #[error(
        "backend {backend} does not work here: {what}: {found}; next: {next} (all of it: `enarx doctor`)"
    )]
    Unusable {
        /// The backend.
        backend: &'static str,
        /// The requirement.
        what: &'static str,
        /// The finding.
        found: String,
        /// The remedy.
        next: String,
    },
    /// The virtual machine could not be launched.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The process could not be started or served.
    #[error(transparent)]
    Process(#[from] enarx_process::error::LaunchError),
}
