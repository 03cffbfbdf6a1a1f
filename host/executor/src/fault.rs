// SPDX-License-Identifier: Apache-2.0

//! The causes for a Keep's end other than its runtime's own exit: one type for every kind of Keep, with one
//! text for each cause.
//!
//! Numbers in it come from the Keep or the host; no decision depends on them.

use std::borrow::Cow;
use std::fmt;
use std::io;

use enarx_exits::{ExitFunction, FaultReport, Reason};
use enarx_sallyport::host::Violation;
use serde::{Deserialize, Serialize};

use crate::error::ExecutorError;
use crate::refused::Refused;

/// Why a Keep ended by a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeepFault {
    /// The microkernel, or a process Keep's host in its place, gave this reason.
    Reported {
        /// The reason.
        #[serde(with = "reason")]
        reason: Reason,
        /// Its detail, which SPEC.md of `enarx-exits` describes; `None` if it did not come with the reason.
        detail: Option<u64>,
    },
    /// The microkernel ended the Keep because of an exception.
    Exception {
        /// Its judgement of the exception.
        #[serde(with = "reason")]
        reason: Reason,
        /// The exception.
        exception: Exception,
    },
    /// The microkernel gave a reason that this version does not know.
    UnknownReason(u64),
    /// The guest requested its end through the GHCB protocol.
    Terminated(Termination),
    /// A triple fault: the CPU could not even deliver a double fault.
    TripleFault {
        /// Where it happened; `None` if the guest's registers cannot be read.
        context: Option<Context>,
        /// The vCPU's history; `None` outside of a Keep.
        history: Option<VcpuHistory>,
    },
    /// The guest used a page as a kind that it is not.
    MemoryFault(MemoryFault),
    /// The simulated SEV-SNP platform stopped the guest where hardware would.
    Simulated(SimulatedFault),
    /// The guest left in a way in which no Keep leaves.
    Exit(StrayExit),
    /// The Keep broke the rules of the sallyport's rings.
    Ring(#[serde(with = "violation")] Violation),
    /// The runtime of a process Keep sent a message that its doorbell does not have.
    Doorbell,
    /// The runtime made a system call that no Keep has, and this should end it.
    RefusedCall {
        /// The call.
        call: Refused,
        /// Where it was made; `None` if that is not known.
        rip: Option<u64>,
    },
    /// A filter stopped a system call of the runtime's process; `None` if it could not be reported which one.
    ForbiddenCall(Option<Refused>),
    /// The runtime aborted, and has said why in the log.
    Aborted,
    /// The runtime's process ended, although the Keep had not asked for its end.
    Process(ProcessEnd),
    /// The host could not continue, without a fault of the Keep.
    Host(HostFault),
}

/// An exception that ended a Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Vector.
    pub vector: u64,
    /// The interrupted state; `None` if the Keep gives no addresses.
    pub context: Option<ExceptionContext>,
}

/// The state that an exception interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionContext {
    /// Error code pushed by the CPU.
    pub error_code: u64,
    /// Privilege level, 0 to 3.
    pub cpl: u8,
    /// Registers.
    pub registers: Context,
}

/// Registers that show where a vCPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Address of the last page fault.
    pub cr2: u64,
}

/// Instruction pointer after an INIT (AMD64 APM volume 2, table 14-1), where no Keep has code.
const RESET_RIP: u64 = 0xfff0;

/// The history of a vCPU that ended its Keep, as its VMM saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuHistory {
    /// Its number.
    pub vcpu: u32,
    /// Functions that it called.
    pub calls: u64,
    /// The number of the last of them.
    pub last: u32,
    /// Kicks that were injected.
    pub kicks: u64,
    /// One of them with the last entry.
    pub kicked: bool,
}

/// How a guest ended itself by the GHCB protocol, or KVM says that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Termination {
    /// By a reason of the protocol itself (56421, table 4).
    Protocol(u8),
    /// For a reason that is not defined here.
    Unknown {
        /// The reason set.
        set: u8,
        /// The reason.
        code: u8,
    },
    /// Through the GHCB page instead of the MSR: KVM reports the page's address but not the reason.
    Page {
        /// Guest physical address of the GHCB.
        gpa: u64,
    },
    /// Another kind of event, which does not happen to a SEV-SNP guest.
    Event {
        /// `system_event.type` of `struct kvm_run`.
        kind: u32,
    },
}

/// An access to a page in another state than the guest thinks it is (`KVM_EXIT_MEMORY_FAULT`).
/// The microkernel asks before it converts, so this is its defect or an attack on it: the Keep
/// ends, and nothing is converted silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFault {
    /// Guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub size: u64,
    /// The guest took the page for private; else for shared.
    pub as_private: bool,
    /// The state of the page at launch; `None` if there is no memory.
    pub began_private: Option<bool>,
}

/// An access that SEV-SNP hardware would not complete, or a request by the GHCB protocol (AMD publication 56421) with which
/// no host goes on, as the simulated platform sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SimulatedFault {
    /// The page does not belong to the guest.
    NotPrivate {
        /// Guest physical address.
        gpa: u64,
    },
    /// The page is not validated.
    NotValidated {
        /// Guest physical address.
        gpa: u64,
    },
    /// An instruction of SNP on an address outside of the direct map.
    OutsideDirectMap,
    /// A write to this I/O port, which the host does not have.
    Port(u16),
    /// A vCPU should start from a VMSA where there is no memory.
    NoVmsa {
        /// Guest physical address.
        gpa: u64,
    },
    /// The GHCB MSR was written with a value that is not a supported request.
    GhcbRequest {
        /// The value.
        value: u64,
    },
    /// A request names a vCPU that the Keep does not have.
    NoVcpu {
        /// Its number.
        vcpu: u32,
    },
    /// The GHCB is not the one that is registered for the vCPU.
    GhcbNotRegistered {
        /// Guest physical address of the GHCB.
        gpa: u64,
    },
    /// The GHCB has another version of the protocol than SNP needs.
    GhcbVersion {
        /// The version found.
        found: u16,
        /// The version of SNP.
        needed: u16,
    },
    /// A page for the host is private: on hardware the host would see other data than the guest wrote.
    HostPagePrivate {
        /// Guest physical address.
        gpa: u64,
    },
    /// A page for the host is not memory.
    NoHostPage {
        /// Guest physical address.
        gpa: u64,
    },
    /// A vCPU should start from a page that is not a VMSA: its VMRUN would fail.
    NotVmsa {
        /// Guest physical address.
        gpa: u64,
    },
}

/// An exit that no Keep makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrayExit {
    /// A call of a function that the VMM does not have.
    Function(u32),
    /// A write of this many bytes to the port of the functions.
    PortSize(usize),
    /// Returned memory that does not belong to the Keep.
    Discard {
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        length: u64,
    },
    /// RDMSR of this register.
    ReadMsr(u32),
    /// WRMSR of this register.
    WriteMsr(u32),
    /// A hypercall of this number, which KVM was not asked to forward.
    Hypercall(u64),
    /// A system event of this type (`KVM_EXIT_SYSTEM_EVENT`).
    SystemEvent(u32),
    /// Access to this guest physical address, which KVM could not complete (`KVM_EXIT_MEMORY_FAULT`).
    Memory(u64),
    /// Any other exit, by the name that `kvm-ioctls` has for it.
    Other(String),
}

/// The end of a process that had not asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    /// By this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// In a way that the kernel does not report.
    Unknown,
}

/// Why the host could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostFault {
    /// KVM refused to do this.
    Kvm {
        /// The step, as the end of the sentence "KVM could not …".
        step: Cow<'static, str>,
        /// KVM's error number.
        errno: i32,
    },
    /// `KVM_RUN` failed.
    Run {
        /// KVM's error number.
        errno: i32,
        /// The guest is encrypted: its registers cannot be read, and KVM gives its reasons only in the
        /// kernel log.
        protected: bool,
    },
    /// The CPU refused to enter the guest (`KVM_EXIT_FAIL_ENTRY`).
    Entry {
        /// `hardware_entry_failure_reason`.
        reason: u64,
        /// The host's processor.
        processor: u32,
    },
    /// KVM could not go on with the guest (`KVM_EXIT_INTERNAL_ERROR`).
    Internal {
        /// `internal.suberror`.
        suberror: u32,
        /// The words of `internal.data` that KVM filled.
        data: Vec<u64>,
        /// Where; `None` if the guest's registers cannot be read.
        context: Option<Context>,
    },
    /// A thread that serves the Keep panicked.
    Panicked,
    /// A filter stopped a system call of a thread that serves the Keep.
    ForbiddenCall(Refused),
    /// The process that serves the Keep ended without a message.
    Vmm(ProcessEnd),
    /// The executor could not go on with a request. The text is that of its [`ExecutorError`].
    Executor(String),
    /// A thread that serves the Keep could not be confined. The text is that of the error.
    Unconfined(String),
    /// A thread that serves the Keep, or its vCPU, could not be made. The text is that of the error.
    NoThread(String),
    /// The end of a process Keep's runtime could not be learnt.
    NoEnd {
        /// The error number of waitid(2).
        errno: i32,
    },
}

impl KeepFault {
    /// The fault that a report of the microkernel describes.
    #[must_use]
    pub fn reported(report: FaultReport) -> Self {
        let FaultReport {
            reason,
            vector,
            error_code,
            rip,
            cr2,
            rsp,
            cs,
        } = report;
        let Some(reason) = Reason::from_number(reason) else {
            return Self::UnknownReason(reason);
        };
        match reason {
            Reason::Unhandled | Reason::Unexpected | Reason::Kernel | Reason::StackOverflow => {
                let registers = Context { rip, rsp, cr2 };
                let context = ExceptionContext {
                    error_code,
                    cpl: (cs & 3).to_le_bytes()[0],
                    registers,
                };
                // A measured Keep tells its host no more.
                let context = (cs != 0).then_some(context);
                Self::Exception {
                    reason,
                    exception: Exception { vector, context },
                }
            }
            _ => Self::Reported {
                reason,
                detail: Some(vector),
            },
        }
    }

    /// A failure of KVM at a step, the end of the sentence "KVM could not …".
    #[must_use]
    pub const fn kvm(step: &'static str, errno: i32) -> Self {
        Self::Host(HostFault::Kvm {
            step: Cow::Borrowed(step),
            errno,
        })
    }

    /// A thread that serves the Keep could not be confined.
    #[must_use]
    pub fn unconfined(error: impl fmt::Display) -> Self {
        Self::Host(HostFault::Unconfined(error.to_string()))
    }

    /// A thread that serves the Keep could not be made.
    #[must_use]
    pub fn no_thread(error: impl fmt::Display) -> Self {
        Self::Host(HostFault::NoThread(error.to_string()))
    }

    /// The reason of the microkernel; `None` if something else ended the Keep.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Reported { reason, .. } | Self::Exception { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// The exception; `None` if something else ended the Keep.
    #[must_use]
    pub const fn exception(&self) -> Option<Exception> {
        match self {
            Self::Exception { exception, .. } => Some(*exception),
            _ => None,
        }
    }
}

impl From<ExecutorError> for KeepFault {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Violation(violation) => Self::Ring(violation),
            ExecutorError::Answer(_) | ExecutorError::System(_) => {
                Self::Host(HostFault::Executor(error.to_string()))
            }
        }
    }
}

impl fmt::Display for KeepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported { reason, detail } => {
                write!(f, "the Keep ended: {}", reason.text())?;
                detail.map_or(Ok(()), |detail| write_detail(f, *reason, detail))
            }
            Self::Exception { reason, exception } => {
                write!(f, "the Keep ended: {}\n  {exception}", reason.text())
            }
            Self::UnknownReason(reason) => {
                write!(f, "the Keep ended by a fault of an unknown kind ({reason})")
            }
            Self::Terminated(termination) => write!(f, "the Keep ended: {termination}"),
            Self::TripleFault { context, history } => {
                f.write_str("the Keep ended: a triple fault in its microkernel")?;
                if context.is_none() {
                    f.write_str(
                        "; the guest is encrypted, so its registers cannot be read: see the last line of its log",
                    )?;
                }
                match context {
                    Some(Context { rip: RESET_RIP, .. }) => f.write_str(
                        "\n  its registers are lost: for AMD's CPUs, KVM resets the vCPU first",
                    )?,
                    context => write_context(f, *context)?,
                }
                history.map_or(Ok(()), |history| write!(f, "\n  {history}"))
            }
            Self::MemoryFault(fault) => write!(f, "the Keep ended: {fault}"),
            Self::Simulated(fault) => write!(f, "the Keep ended (simulated): {fault}"),
            Self::Exit(exit) => write!(f, "the Keep was ended: {exit}"),
            Self::Ring(violation) => write!(
                f,
                "the Keep broke the protocol with its host and was ended: {violation}"
            ),
            Self::Doorbell => f.write_str(
                "the Keep broke the protocol with its host and was ended: it rang its doorbell in an unknown way",
            ),
            Self::RefusedCall { call, rip } => {
                let at = rip.map_or_else(String::new, |rip| format!(" at {rip:#x}"));
                write!(
                    f,
                    "the Keep was ended: its runtime made the system call {call}{at}, which Keeps do not have; it \
                    would continue with the error, and fail where it needs the answer"
                )
            }
            Self::ForbiddenCall(call) => {
                f.write_str("the runtime made ")?;
                match call {
                    Some(call) => write!(f, "the forbidden system call {call}")?,
                    None => f.write_str("a forbidden system call")?,
                }
                f.write_str(" and was ended; please report this")
            }
            Self::Aborted => {
                f.write_str("the runtime aborted; its last messages are above")
            }
            Self::Process(end) => write!(f, "{end}"),
            Self::Host(fault) => write!(f, "{fault}"),
        }
    }
}

fn write_detail(f: &mut fmt::Formatter<'_>, reason: Reason, detail: u64) -> fmt::Result {
    match reason {
        Reason::OutOfMemory | Reason::NoRandomness | Reason::Secrets => Ok(()),
        Reason::Boot | Reason::Cpuid => write!(f, " (check {detail})"),
        Reason::Aborted => write!(f, " (signal {detail})"),
        Reason::Panic => write!(f, " (line {detail})"),
        Reason::Features => write!(f, " (SEV_STATUS {detail:#x})"),
        Reason::Ghcb => write!(f, " (exit {detail:#x})"),
        Reason::Validation | Reason::PageState => {
            write!(f, " (guest physical address {detail:#x})")
        }
        Reason::Vcpu => write!(f, " (vCPU {detail})"),
        Reason::Unhandled | Reason::Unexpected | Reason::Kernel | Reason::StackOverflow => {
            write!(f, " (vector {detail})")
        }
    }
}

fn write_context(f: &mut fmt::Formatter<'_>, context: Option<Context>) -> fmt::Result {
    context.map_or(Ok(()), |context| write!(f, "\n  {context}"))
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rip, rsp, cr2 } = self;
        write!(f, "RIP {rip:#018x}  RSP {rsp:#018x}  CR2 {cr2:#018x}")
    }
}

impl fmt::Display for VcpuHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            calls,
            last,
            kicks,
            kicked,
        } = self;
        write!(f, "vCPU {vcpu} after {calls} calls")?;
        if let Some(last) = ExitFunction::from_number(*last) {
            write!(f, ", the last one {}", last.name())?;
        }
        let when = if *kicked { ", one just before" } else { "" };
        write!(f, ", and {kicks} kicks{when}")
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vector, context } = self;
        write!(f, "vector {vector} ({})", vector_name(*vector))?;
        match context {
            None => f.write_str(
                "; a measured Keep gives no addresses unless it was launched with --insecure-fault-addresses",
            ),
            Some(ExceptionContext {
                error_code,
                cpl,
                registers,
            }) => write!(f, ", error code {error_code:#x}, CPL {cpl}\n  {registers}"),
        }
    }
}

/// The mnemonic and name of an exception (AMD64 APM volume 2, table 8-1); 256 is the microkernel's.
fn vector_name(vector: u64) -> &'static str {
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

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(0) => f.write_str("it asked for it, without a reason"),
            Self::Protocol(1) => f.write_str(
                "this host does not speak its version of the GHCB protocol; use a newer kernel",
            ),
            Self::Protocol(2) => {
                f.write_str("this host lacks a SEV-SNP feature that it needs; use a newer kernel")
            }
            Self::Protocol(code) => write!(f, "reason {code} of the GHCB protocol"),
            Self::Unknown { set, code } => write!(f, "reason {code} of the unknown set {set}"),
            Self::Page { gpa } => write!(
                f,
                "it asked for it by its GHCB at {gpa:#x}; the reason is in the host's kernel log"
            ),
            Self::Event { kind } => write!(f, "KVM reports system event {kind}"),
        }
    }
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |private| if private { "private" } else { "shared" };
        write!(
            f,
            "it used {:#x} bytes at {:#x} as {} memory, ",
            self.size,
            self.gpa,
            name(self.as_private)
        )?;
        match self.began_private {
            Some(private) => write!(
                f,
                "which they are not (they began as {}), without asking to change them; please report this",
                name(private)
            ),
            None => f.write_str("but there is no memory; please report this"),
        }
    }
}

impl fmt::Display for SimulatedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPrivate { gpa } => {
                write!(f, "the page at {gpa:#x} is shared: make it private first")
            }
            Self::NotValidated { gpa } => {
                write!(
                    f,
                    "the page at {gpa:#x} is not validated: validate it first"
                )
            }
            Self::OutsideDirectMap => {
                f.write_str("an instruction of SNP outside of the direct map")
            }
            Self::Port(port) => write!(f, "it wrote port {port:#x}"),
            Self::NoVmsa { gpa } => write!(f, "there is no memory for a VMSA at {gpa:#x}"),
            Self::GhcbRequest { value } => write!(
                f,
                "the guest wrote {value:#x} to the GHCB MSR, which is not a request that this host serves"
            ),
            Self::NoVcpu { vcpu } => write!(f, "there is no vCPU {vcpu}"),
            Self::GhcbNotRegistered { gpa } => write!(
                f,
                "the GHCB at {gpa:#x} is not registered for this vCPU: register it first"
            ),
            Self::GhcbVersion { found, needed } => write!(
                f,
                "the GHCB has protocol version {found}; SNP needs {needed}"
            ),
            Self::HostPagePrivate { gpa } => write!(
                f,
                "the page at {gpa:#x} is meant for the host, but private: share it first"
            ),
            Self::NoHostPage { gpa } => write!(f, "there is no shared memory at {gpa:#x}"),
            Self::NotVmsa { gpa } => write!(
                f,
                "the page at {gpa:#x} is not a VMSA: validate it and mark it by RMPADJUST first"
            ),
        }
    }
}

impl fmt::Display for StrayExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(number) => write!(f, "it asked for function {number}"),
            Self::PortSize(size) => write!(f, "it wrote {size} bytes to its port, not 4"),
            Self::Discard { .. } => f.write_str("it gave back memory that is not its own"),
            Self::ReadMsr(register) => write!(f, "it read the register {register:#x}"),
            Self::WriteMsr(register) => write!(f, "it wrote the register {register:#x}"),
            Self::Hypercall(number) => write!(
                f,
                "KVM forwarded hypercall {number}, which it was not asked for"
            ),
            Self::SystemEvent(kind) => write!(f, "KVM reported system event {kind}"),
            Self::Memory(gpa) => write!(f, "KVM could not complete an access to {gpa:#x}"),
            Self::Other(exit) => write!(f, "it left its bounds: {exit}"),
        }
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "the runtime ended with status {code} without a message"),
            Self::Signal(libc::SIGKILL) => f.write_str(
                "the runtime was killed from outside (SIGKILL): most likely this machine ran out of memory; free some, or lower --memory",
            ),
            Self::Signal(signal) => {
                write!(f, "the runtime died of signal {signal}; please report this")
            }
            Self::Unknown => f.write_str("the runtime ended for an unknown reason"),
        }
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kvm { step, errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "KVM could not {step}: {error}")
            }
            Self::Run { errno, protected } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "KVM could not run the Keep: {error}")?;
                f.write_str(run_remedy(*errno, *protected))
            }
            Self::Entry { reason, processor } => write!(
                f,
                "the CPU refused to enter the Keep (reason {reason:#x}, on the host's processor {processor}); `sudo \
                dmesg | tail` has the state that it refused where kvm_amd or kvm_intel is loaded with \
                dump_invalid_vmcb=1 or dump_invalid_vmcs=1"
            ),
            Self::Internal {
                suberror,
                data,
                context,
            } => {
                write!(
                    f,
                    "the Keep ended: KVM cannot go on (internal error {suberror}, {}",
                    internal_error(*suberror)
                )?;
                for (index, word) in data.iter().enumerate() {
                    let begin = if index == 0 { "; data" } else { "," };
                    write!(f, "{begin} {word:#x}")?;
                }
                f.write_str("); please report this, with `sudo dmesg | tail`")?;
                write_context(f, *context)
            }
            Self::Panicked => f.write_str(
                "the host abandoned the Keep: one of its threads panicked; please report this",
            ),
            Self::ForbiddenCall(call) => write!(
                f,
                "stopped: a thread that serves the Keep made the forbidden system call {call}; please report this"
            ),
            Self::Vmm(ProcessEnd::Signal(libc::SIGKILL)) => f.write_str(
                "the process that serves the Keep was killed from outside (SIGKILL): most likely this machine ran out \
                of memory; free some, or lower --memory",
            ),
            Self::Vmm(ProcessEnd::Signal(signal)) => write!(
                f,
                "the process that serves the Keep died of signal {signal}; please report this"
            ),
            Self::Vmm(ProcessEnd::Status(_) | ProcessEnd::Unknown) => f.write_str(
                "the process that serves the Keep ended without a message; please report this",
            ),
            Self::Executor(error) | Self::Unconfined(error) | Self::NoThread(error) => {
                f.write_str(error)
            }
            Self::NoEnd { errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "the runtime's exit status could not be read: {error}")
            }
        }
    }
}

/// Names of `KVM_INTERNAL_ERROR_…` (Linux `linux/kvm.h`).
const fn internal_error(suberror: u32) -> &'static str {
    match suberror {
        1 => "an instruction that it cannot emulate",
        2 => "an exception while it emulated two",
        3 => "a fault while it delivered an event",
        4 => "an exit that it does not expect",
        _ => "of an unknown kind",
    }
}

/// The next step after `KVM_RUN` failed, as the end of a sentence.
const fn run_remedy(errno: i32, protected: bool) -> &'static str {
    match (errno, protected) {
        (libc::EINVAL, true) => {
            "; the guest's GHCB is not registered, its request or its VMSA is not valid, or its launch is not \
            finished: `sudo dmesg | grep -e vmgexit -e SEV` says which; please report this"
        }
        (libc::EFAULT | libc::EHWPOISON, _) => {
            "; memory of the Keep could not be brought in: `sudo dmesg | tail` says why; free memory on the host, and \
            look for memory errors"
        }
        (libc::ENOMEM, _) => "; free memory on the host",
        (libc::EBUSY, true) => {
            "; the secure processor is dead or has too many commands to do: `sudo dmesg | grep -i ccp`"
        }
        (_, true) => {
            "; the kernel gives the reason only in its log: `sudo dmesg | grep -e kvm -e SEV`; please report this"
        }
        (_, false) => "; please report this, with `sudo dmesg | tail`",
    }
}

/// A reason as its number.
mod reason {
    use enarx_exits::Reason;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub fn serialize<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*reason as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Reason::from_number(number).ok_or_else(|| D::Error::custom("no such reason"))
    }
}

/// A violation of the ring's rules as its place in a list.
mod violation {
    use enarx_sallyport::host::Violation;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const ALL: [Violation; 5] = [
        Violation::IndexOutOfRange,
        Violation::SlotOutOfRange,
        Violation::SlotInFlight,
        Violation::IdMismatch,
        Violation::CompletionOverflow,
    ];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub fn serialize<S: Serializer>(
        violation: &Violation,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let place = ALL.iter().position(|known| known == violation);
        serializer.serialize_u64(place.unwrap_or(ALL.len()) as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Violation, D::Error> {
        let place = usize::deserialize(deserializer)?;
        let known = ALL.get(place).copied();
        known.ok_or_else(|| D::Error::custom("no such violation"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_text_and_its_detail() {
        let mut texts = BTreeSet::new();
        for reason in Reason::ALL {
            let report = FaultReport {
                reason: *reason as u64,
                vector: 14,
                ..FaultReport::default()
            };
            let fault = KeepFault::reported(report);
            assert_eq!(fault.reason(), Some(*reason));
            let text = fault.to_string();
            let start = format!("the Keep ended: {}", reason.text());
            assert!(text.starts_with(&start), "{text}");
            texts.insert(text);
        }
        assert_eq!(texts.len(), Reason::ALL.len());
        let unknown = FaultReport {
            reason: 999,
            ..FaultReport::default()
        };
        assert_eq!(KeepFault::reported(unknown), KeepFault::UnknownReason(999));
    }

    #[test]
    fn addresses_are_shown_if_there_are_any() {
        let report = FaultReport {
            reason: Reason::Unexpected as u64,
            vector: 13,
            error_code: 0x678,
            rip: 0x1234,
            cr2: 0x5678,
            rsp: 0x9abc,
            cs: 0x2b,
        };
        let text = KeepFault::reported(report).to_string();
        for part in [
            "vector 13 (#GP, general protection), error code 0x678, CPL 3",
            "RIP 0x0000000000001234  RSP 0x0000000000009abc  CR2 0x0000000000005678",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let hidden = KeepFault::reported(report.without_addresses());
        assert_eq!(hidden.exception().and_then(|found| found.context), None);
        let text = hidden.to_string();
        assert!(text.contains("vector 13") && text.contains("gives no addresses"));
        for part in ["RIP", "RSP", "CR2", "0x", "1234"] {
            assert!(!text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_details_of_a_failed_kvm_run_are_printed() {
        let internal = HostFault::Internal {
            suberror: 4,
            data: vec![0x403, 7],
            context: None,
        };
        let entry = HostFault::Entry {
            reason: u64::MAX,
            processor: 12,
        };
        let run = |errno, protected| HostFault::Run { errno, protected };
        for (fault, parts) in [
            (
                internal,
                ["an exit that it does not expect", "data 0x403, 0x7)"],
            ),
            (entry, ["reason 0xffffffffffffffff", "processor 12"]),
            (
                run(libc::EINVAL, true),
                ["Invalid argument (os error 22)", "grep -e vmgexit -e SEV"],
            ),
            (
                run(libc::EINVAL, false),
                ["Invalid argument (os error 22)", "dmesg | tail"],
            ),
            (run(libc::EBUSY, true), ["os error 16", "secure processor"]),
        ] {
            let text = KeepFault::Host(fault).to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn a_triple_fault_tells_what_is_known_of_its_vcpu() {
        let triple = |context, history| KeepFault::TripleFault { context, history }.to_string();
        let at = |rip| {
            Some(Context {
                rip,
                rsp: 0x1000,
                cr2: 0x2000,
            })
        };
        let encrypted = triple(None, None);
        assert!(
            encrypted.contains("registers cannot be read"),
            "{encrypted}"
        );
        let found = triple(at(0xffff_ffff_8000_1234), None);
        assert!(found.contains("RIP 0xffffffff80001234"), "{found}");
        // Registers after a reset would lead astray.
        let reset = triple(at(RESET_RIP), None);
        assert!(reset.contains("registers are lost"), "{reset}");
        assert!(!reset.contains("RIP"), "{reset}");
        let history = VcpuHistory {
            vcpu: 2,
            calls: 17,
            last: ExitFunction::Park as u32,
            kicks: 3,
            kicked: true,
        };
        let all = triple(at(RESET_RIP), Some(history));
        let told = "vCPU 2 after 17 calls, the last one Park, and 3 kicks, one just before";
        assert!(all.ends_with(told), "{all}");
        let nothing = triple(None, Some(VcpuHistory::default()));
        assert!(
            nothing.ends_with("vCPU 0 after 0 calls, and 0 kicks"),
            "{nothing}"
        );
    }

    #[test]
    fn each_fault_of_the_simulated_platform_has_its_text() {
        let gpa = 0x1234_5000;
        let faults = [
            SimulatedFault::NotPrivate { gpa },
            SimulatedFault::NotValidated { gpa },
            SimulatedFault::NoVmsa { gpa },
            SimulatedFault::GhcbNotRegistered { gpa },
            SimulatedFault::HostPagePrivate { gpa },
            SimulatedFault::NoHostPage { gpa },
            SimulatedFault::NotVmsa { gpa },
            SimulatedFault::GhcbRequest { value: gpa },
        ];
        let mut texts = BTreeSet::new();
        for fault in faults {
            let text = KeepFault::Simulated(fault).to_string();
            assert!(text.starts_with("the Keep ended (simulated): "), "{text}");
            assert!(text.contains("0x12345000"), "{text}");
            texts.insert(text);
        }
        assert_eq!(texts.len(), faults.len());
        let old = SimulatedFault::GhcbVersion {
            found: 1,
            needed: 2,
        };
        assert_eq!(
            old.to_string(),
            "the GHCB has protocol version 1; SNP needs 2"
        );
    }

    #[test]
    fn calls_are_named() {
        let call = Refused {
            number: 257,
            errno: Some(2),
        };
        let rip = Some(0x1234);
        let text = KeepFault::RefusedCall { call, rip }.to_string();
        assert!(text.contains("the system call openat (257): ENOENT at 0x1234"));
        let text = KeepFault::ForbiddenCall(Some(Refused {
            errno: None,
            ..call
        }))
        .to_string();
        assert!(text.contains("the forbidden system call openat (257) and was ended"));
    }
}
