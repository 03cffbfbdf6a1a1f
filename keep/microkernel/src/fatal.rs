//! The end of a Keep that cannot go on, as the VMM is told it.

use crate::registers::Registers;
use enarx_exits::{FaultReport, Reason};

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
