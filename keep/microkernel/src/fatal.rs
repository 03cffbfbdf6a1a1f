// SPDX-License-Identifier: Apache-2.0

//! The end of a Keep that cannot continue, as reported to the VMM.

use crate::linux::Errno;
use crate::registers::Registers;
use enarx_exits::{BootCheck, FaultReport, Reason};

/// The Keep cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub FaultReport);

impl Fatal {
    /// A report without registers.
    #[must_use]
    pub fn new(reason: Reason, detail: u64) -> Self {
        Self(FaultReport {
            reason: reason as u64,
            vector: detail,
            ..FaultReport::default()
        })
    }

    /// The launch or the host's facts make no sense.
    #[must_use]
    pub fn boot(check: BootCheck) -> Self {
        Self::new(Reason::Boot, check as u64)
    }

    /// A report about an interrupted context.
    #[must_use]
    pub fn at(reason: Reason, registers: &Registers, cr2: u64) -> Self {
        Self(FaultReport {
            reason: reason as u64,
            vector: registers.vector,
            error_code: registers.error_code,
            rip: registers.rip,
            cr2,
            rsp: registers.rsp,
            cs: registers.cs,
        })
    }
}

/// Why a system call, or its access to user memory, does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The program gets the error.
    Errno(Errno),
    /// The Keep cannot continue: a fresh page could not be accepted. [`crate::frames::Frames::failure`] has
    /// the report, so that this result is one word on the path of every call.
    Fatal,
}

impl From<Errno> for CallError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}
