//! The report of a Keep that ended by a fault, as a person reads it.

use std::fmt;

use enarx_exits::{FaultReport, Reason};

/// A fault report with its text.
pub struct Fault(pub FaultReport);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultReport {
            reason,
            vector,
            error_code,
            rip,
            cr2,
            rsp,
            cs,
        } = self.0;
        let Some(known) = Reason::from_number(reason) else {
            return write!(f, "the Keep ended by a fault of an unknown kind ({reason})");
        };
        write!(f, "the Keep ended: {}", known.text())?;
        match known {
            // A measured Keep tells its host no more.
            Reason::Unhandled | Reason::Unexpected | Reason::Kernel | Reason::StackOverflow
                if cs == 0 =>
            {
                write!(
                    f,
                    "\n  vector {vector} ({}); a measured Keep gives no addresses unless it was launched with --insecure-fault-addresses",
                    name(vector)
                )
            }
            Reason::Unhandled | Reason::Unexpected | Reason::Kernel | Reason::StackOverflow => {
                write!(
                    f,
                    "\n  vector {vector} ({}), error code {error_code:#x}, CPL {}\n  RIP {rip:#018x}  RSP {rsp:#018x}  CR2 {cr2:#018x}",
                    name(vector),
                    cs & 3
                )
            }
            Reason::OutOfMemory | Reason::NoRandomness | Reason::Secrets => Ok(()),
            Reason::Boot | Reason::Cpuid => write!(f, " (check {vector})"),
            Reason::Aborted => write!(f, " (signal {vector})"),
            Reason::Panic => write!(f, " (line {vector})"),
            Reason::Features => write!(f, " (SEV_STATUS {vector:#x})"),
            Reason::Ghcb => write!(f, " (exit {vector:#x})"),
            Reason::Validation | Reason::PageState => {
                write!(f, " (guest physical address {vector:#x})")
            }
            Reason::Vcpu => write!(f, " (vCPU {vector})"),
        }
    }
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "#DE, divide error",
        1 => "#DB, debug",
        2 => "NMI",
        3 => "#BP, breakpoint",
        4 => "#OF, overflow",
        5 => "#BR, bound range",
        6 => "#UD, invalid opcode",
        7 => "#NM, no FPU",
        8 => "#DF, double fault",
        10 => "#TS, invalid TSS",
        11 => "#NP, segment not present",
        12 => "#SS, stack segment",
        13 => "#GP, general protection",
        14 => "#PF, page fault",
        16 => "#MF, x87",
        17 => "#AC, alignment",
        18 => "#MC, machine check",
        19 => "#XF, SIMD",
        20 => "#VE, virtualization",
        21 => "#CP, control protection",
        28 => "#HV, hypervisor injection",
        29 => "#VC, VMM communication",
        30 => "#SX, security",
        256 => "system call",
        _ => "unknown",
    }
}
