//! The report of a Keep that ended by a fault, as a person reads it.

use std::fmt;

use enarx_microkernel::exits::{FaultReport, Reason};

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
        let registers = |f: &mut fmt::Formatter<'_>| {
            if cs == 0 {
                // A measured Keep tells its host no more.
                return write!(
                    f,
                    "\n  vector {vector} ({}); a measured Keep gives no addresses unless it was launched with --insecure-fault-addresses",
                    name(vector)
                );
            }
            write!(
                f,
                "\n  vector {vector} ({}), error code {error_code:#x}, CPL {}\n  RIP {rip:#018x}  RSP {rsp:#018x}  CR2 {cr2:#018x}",
                name(vector),
                cs & 3
            )
        };
        match Reason::from_number(reason) {
            Some(Reason::Unhandled) => {
                write!(
                    f,
                    "the Keep ended: its program faulted and has no handler for it"
                )?;
                registers(f)
            }
            Some(Reason::Unexpected) => {
                write!(
                    f,
                    "the Keep ended: an exception without a cause that the microkernel could verify"
                )?;
                registers(f)
            }
            Some(Reason::Kernel) => {
                write!(f, "the Keep ended: an exception in its microkernel")?;
                registers(f)
            }
            Some(Reason::OutOfMemory) => write!(
                f,
                "the Keep ended: its memory is used up; give it more with --memory"
            ),
            Some(Reason::Boot) => write!(
                f,
                "the Keep ended at boot: the launch makes no sense to its microkernel (check {vector})"
            ),
            Some(Reason::NoRandomness) => write!(
                f,
                "the Keep ended: the CPU's random number generator (RDRAND) does not deliver, or not random numbers"
            ),
            Some(Reason::Aborted) => {
                write!(f, "the Keep ended: its runtime aborted (signal {vector})")
            }
            Some(Reason::Panic) => {
                write!(
                    f,
                    "the Keep ended: its microkernel gave up (line {vector}); please report this"
                )
            }
            Some(Reason::StackOverflow) => {
                write!(f, "the Keep ended: the stack of its runtime overflowed")?;
                registers(f)
            }
            Some(Reason::Features) => write!(
                f,
                "the Keep ended: SEV-SNP is not active, or with other features than the launch asked for (SEV_STATUS {vector:#x})"
            ),
            Some(Reason::Ghcb) => write!(
                f,
                "the Keep ended: its host answered against the GHCB protocol (exit {vector:#x})"
            ),
            Some(Reason::Validation) => write!(
                f,
                "the Keep ended: the page at {vector:#x} is not the one that it had validated, or could not be"
            ),
            Some(Reason::PageState) => write!(
                f,
                "the Keep ended: its host did not change the state of the pages at {vector:#x}"
            ),
            Some(Reason::Cpuid) => write!(
                f,
                "the Keep ended: the CPUID page is malformed or lacks a feature (check {vector})"
            ),
            Some(Reason::Secrets) => {
                write!(f, "the Keep ended: the firmware's secrets page is empty")
            }
            Some(Reason::Vcpu) => write!(
                f,
                "the Keep ended: vCPU {vector} could not be started, or was started by its host"
            ),
            None => write!(f, "the Keep ended by a fault of an unknown kind ({reason})"),
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
