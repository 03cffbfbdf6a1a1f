// SPDX-License-Identifier: Apache-2.0

//! The backends: the possible barriers between an application and the host on which it runs.

use std::fmt;

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
    /// The backends that are chosen automatically, the best first.
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

    /// The protection that it gives, and does not give, for one line on standard error.
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

    /// True if the hardware protects the application from the host.
    pub const fn protects_application(self) -> bool {
        matches!(self, Self::Snp)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
