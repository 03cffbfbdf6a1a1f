// SPDX-License-Identifier: Apache-2.0

//! The terms of a contract that the Keep itself, or a report, can contradict.

use core::fmt::{self, Display};

/// A term that a report or a Keep can contradict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The technology that signs reports.
    Tee,
    /// The launch digest.
    Measurement,
    /// The guest policy.
    GuestPolicy,
    /// The privilege level of the report, which is 0.
    Vmpl,
    /// The CPU's generation.
    Product,
    /// The reported TCB version.
    Tcb,
    /// The number of virtual CPUs.
    Vcpus,
    /// The memory in bytes.
    Memory,
}

impl Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tee => "the TEE",
            Self::Measurement => "the launch digest",
            Self::GuestPolicy => "the guest policy",
            Self::Vmpl => "the VMPL",
            Self::Product => "the CPU's generation",
            Self::Tcb => "the lowest TCB version",
            Self::Vcpus => "virtual CPUs",
            Self::Memory => "memory in bytes",
        })
    }
}
