// SPDX-License-Identifier: Apache-2.0

//! How the microkernel calls the VMM: one 32-bit write to an I/O port (under SNP through the GHCB), with
//! arguments in a record per vCPU in the exit memory, which is shared with the host.
//!
//! The host reads and writes that memory at will: the microkernel takes single words from it by
//! value and uses them only as the function's description allows.

#![no_std]
#![forbid(unsafe_code)]

pub mod exit_code;
pub mod process;
pub mod simulated;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use enarx_boot::layout::{LARGE, MAX_VCPUS};

/// The I/O port; the value written is a [`ExitFunction`].
pub const PORT: u16 = 0x0e00;

/// Size of the record of one vCPU in the exit page.
pub const RECORD_SIZE: usize = 64;
/// Offset of the host's facts in the exit memory, after the records.
pub const FACTS_OFFSET: usize = MAX_VCPUS * RECORD_SIZE;
/// Offset of the microkernel's counters in the exit memory: system calls, then exceptions, as 64-bit
/// words; for `--timings`, under plain KVM only.
pub const COUNTERS_OFFSET: usize = FACTS_OFFSET + 64;
/// Offset of the guest physical address, a 64-bit word, up to which the Keep's memory is in place. Under
/// plain KVM, whose memory records cost time and memory, the Keep asks for the rest when it needs it
/// ([`ExitFunction::Memory`]); otherwise the word is ignored.
pub const MEMORY_THERE_OFFSET: usize = COUNTERS_OFFSET + 16;
/// Offset of the GHCBs in the exit memory (SNP), one page for each vCPU.
pub const GHCB_OFFSET: usize = 0x1_0000;
/// Offset of the page in the exit memory (SNP) that carries a guest message to the firmware; the
/// answer comes in the page after it.
pub const MESSAGE_OFFSET: usize = GHCB_OFFSET + MAX_VCPUS * 4096;
/// Size of the exit memory, in bytes.
pub const EXIT_MEMORY_SIZE: usize = 2 << 20;

/// Defines an enum of numbers that cross the border, with the conversion back.
macro_rules! numbered {
    (
        $(#[$meta:meta])* $name:ident: $repr:ty {
            $($(#[$doc:meta])* $variant:ident = $number:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr($repr)]
        pub enum $name {
            $($(#[$doc])* $variant = $number,)*
        }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that SPEC.md gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// The value of this number; `None` if there is none.
            #[must_use]
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// A request of the microkernel to the VMM.
    ExitFunction: u32 {
        /// The Keep ends; `args[0]` is the exit code.
        Exit = 1,
        /// The Keep ends by a fault; `args` is a [`FaultReport`].
        Fault = 2,
        /// The submission ring has new requests.
        Ring = 3,
        /// Sleep until the completion ring's tail differs from `args[0]`, at most `args[1]`
        /// nanoseconds (all ones: no limit).
        Wait = 4,
        /// Sleep until this vCPU's token is set, at most `args[0]` nanoseconds (all ones: no
        /// limit), and take the token.
        Park = 5,
        /// Set the token of vCPU `args[0]`, starting the vCPU if it has not run yet.
        Unpark = 6,
        /// Interrupt the vCPUs of mask `args[0]` by [`KICK_VECTOR`], so that they flush their TLBs.
        Kick = 7,
        /// Give zeroed memory for `args[1]` bytes at guest physical address `args[0]` (2 MiB
        /// multiples). Plain KVM only, where the host is trusted with memory anyway.
        Discard = 8,
        /// Write `args[0]` (at most 48) bytes, packed in `args[1..7]`, to the Keep's log.
        Log = 9,
        /// Have the Keep's memory in place up to guest physical address `args[0]`, a multiple of 2 MiB,
        /// and say so at [`MEMORY_THERE_OFFSET`]. Plain KVM only, as [`Self::Discard`].
        Memory = 10,
        /// The runtime made a system call that a Keep does not have: number `args[0]`, error number
        /// `args[1]`, instruction pointer `args[2]`, its first arguments `args[3..7]`. For developers,
        /// whose runtime might otherwise work on their machine but not in a Keep. Never on genuine
        /// SEV-SNP.
        Refused = 11,
    }
}

/// Bytes that one [`ExitFunction::Log`] carries.
pub const LOG_BYTES: usize = 48;

/// The one interrupt vector whose handler does anything: flush the TLB and acknowledge.
pub const KICK_VECTOR: u8 = 32;

/// The record of one vCPU in the exit page.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// Arguments of the function.
    pub args: [u64; 7],
    /// The VMM's answer.
    pub result: u64,
}

const _: () = assert!(size_of::<Record>() == RECORD_SIZE);

/// The host's statements about itself; untrusted, unmeasured.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HostFacts {
    /// Frequency of the time-stamp counter, in kHz.
    pub tsc_khz: u64,
    /// Wall-clock time at launch, in nanoseconds since the UNIX epoch.
    pub wall_ns: u64,
    /// End of the Keep's memory, a guest physical address, a multiple of 2 MiB.
    pub memory_end: u64,
    /// vCPUs that may be started, 1 to [`MAX_VCPUS`].
    pub vcpus: u64,
    /// Processors that the host offers this Keep: the available parallelism that the runtime sees.
    pub processors: u64,
}

const _: () = assert!(FACTS_OFFSET + size_of::<HostFacts>() <= COUNTERS_OFFSET);
const _: () = assert!(MEMORY_THERE_OFFSET + 8 <= GHCB_OFFSET);
const _: () = assert!(MESSAGE_OFFSET + 2 * 4096 <= EXIT_MEMORY_SIZE);
const _: () = assert!(EXIT_MEMORY_SIZE as u64 == LARGE);

/// Why the microkernel ended the Keep: the arguments of [`ExitFunction::Fault`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FaultReport {
    /// A [`Reason`].
    pub reason: u64,
    /// Exception vector, or detail of the reason.
    pub vector: u64,
    /// Error code pushed by the CPU.
    pub error_code: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Fault address.
    pub cr2: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Code segment: its two low bits are the privilege level; 0 if the report says nothing of an
    /// interrupted context.
    pub cs: u64,
}

const _: () = assert!(size_of::<FaultReport>() == 7 * 8);

impl FaultReport {
    /// The report that these arguments carry.
    #[must_use]
    pub const fn from_args(args: [u64; 7]) -> Self {
        zerocopy::transmute!(args)
    }

    /// The report without details that a host need not know: only reason, and vector or detail.
    #[must_use]
    pub fn without_addresses(self) -> Self {
        Self {
            reason: self.reason,
            vector: self.vector,
            ..Self::default()
        }
    }

    /// The report as arguments.
    #[must_use]
    pub const fn args(self) -> [u64; 7] {
        zerocopy::transmute!(self)
    }
}

numbered! {
    /// Why the microkernel ended the Keep.
    Reason: u64 {
        /// An exception at CPL3 whose cause was verified, but for which the runtime has no handler.
        Unhandled = 1,
        /// An exception whose cause could not be verified, or which must not happen at all.
        Unexpected = 2,
        /// An exception in the microkernel itself.
        Kernel = 3,
        /// The Keep's memory is used up.
        OutOfMemory = 4,
        /// The boot page or the host's facts make no sense; `vector` is a [`BootCheck`].
        Boot = 5,
        /// The random number generator of the CPU fails.
        NoRandomness = 6,
        /// The runtime aborted (`tgkill`); `vector` is the signal.
        Aborted = 7,
        /// A Rust panic in the microkernel; `vector` is the line.
        Panic = 8,
        /// The stack of the runtime overflowed into its guard page.
        StackOverflow = 9,
        /// SEV-SNP is not active, or its features differ from those of the launch; `vector` is
        /// SEV_STATUS.
        Features = 10,
        /// The host's GHCB protocol lacks something, or it answered against the protocol; `vector` is
        /// the exit code.
        Ghcb = 11,
        /// A page could not be validated, or had been validated before: the host replayed or remapped
        /// memory; `vector` is the page's guest physical address.
        Validation = 12,
        /// The host did not change the state of pages; `vector` is the guest physical address of the
        /// first that it was asked for.
        PageState = 13,
        /// The CPUID page is malformed; `vector` is a [`CpuidCheck`].
        Cpuid = 14,
        /// The secrets page is malformed or empty.
        Secrets = 15,
        /// A vCPU was started that the microkernel did not request, or a requested one could not be started.
        Vcpu = 16,
    }
}

numbered! {
    /// The check that failed, the detail of [`Reason::Boot`].
    BootCheck: u64 {
        /// Magic number and flags of the boot page, and a C-bit under SEV-SNP only.
        BootPage = 1,
        /// The free pages of the launch area.
        LaunchArea = 2,
        /// The free memory.
        FreeMemory = 3,
        /// The heap.
        Heap = 4,
        /// The entry of the first program, its stack and the random bytes on it.
        UserState = 5,
        /// The host's memory size.
        MemoryEnd = 6,
        /// The host's number of vCPUs.
        Vcpus = 7,
        /// The host's number of processors.
        Processors = 8,
        /// The host's frequency of the time-stamp counter, or its wall-clock time.
        Clock = 9,
        /// The C-bit, and the pages and ranges that only a launch under SEV-SNP has.
        SnpLaunch = 10,
        /// The microkernel is built for another platform.
        Platform = 11,
        /// The root page table.
        Tables = 12,
    }
}

numbered! {
    /// The check that failed, the detail of [`Reason::Cpuid`].
    CpuidCheck: u64 {
        /// The number of functions.
        Count = 1,
        /// RDRAND and XSAVE.
        RandomAndXsave = 2,
        /// FSGSBASE.
        Fsgsbase = 3,
        /// SMEP, SMAP and UMIP.
        Protections = 4,
    }
}

impl Reason {
    /// The reason as the end of the sentence "the Keep ended: …": the one text of the VMM, of the
    /// documents and of the tests.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unhandled => "its program faulted and has no handler for it",
            Self::Unexpected => "an exception without a cause that the microkernel could verify",
            Self::Kernel => "an exception in its microkernel",
            Self::OutOfMemory => "its memory is used up; give it more with --memory",
            Self::Boot => "the launch makes no sense to its microkernel",
            Self::NoRandomness => {
                "the CPU's random number generator (RDRAND) fails, or returns numbers that are not random"
            }
            Self::Aborted => "its runtime aborted",
            Self::Panic => "its microkernel gave up; please report this",
            Self::StackOverflow => "the stack of its runtime overflowed",
            Self::Features => {
                "SEV-SNP is not active, or its features differ from those of the launch"
            }
            Self::Ghcb => "its host violated the GHCB protocol",
            Self::Validation => "a page is not the one that was validated, or cannot be validated",
            Self::PageState => "its host did not change the state of pages",
            Self::Cpuid => "the CPUID page is malformed or lacks a feature",
            Self::Secrets => "the firmware's secrets page is malformed or empty",
            Self::Vcpu => "a vCPU could not be started, or was started by its host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_value_and_the_others_have_none() {
        for number in 0..64 {
            let function = ExitFunction::ALL
                .iter()
                .find(|value| **value as u32 == number);
            assert_eq!(ExitFunction::from_number(number), function.copied());
            let number = u64::from(number);
            let reason = Reason::ALL.iter().find(|value| **value as u64 == number);
            assert_eq!(Reason::from_number(number), reason.copied());
        }
        assert_eq!((ExitFunction::ALL.len(), Reason::ALL.len()), (11, 16));
    }
}
