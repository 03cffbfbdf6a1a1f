// SPDX-License-Identifier: Apache-2.0

//! One vCPU: its registers that only the microkernel reaches, and the memory that it shares with the host.

#![expect(unsafe_code, reason = "instructions have no safe interface")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use enarx_boot::layout::{EXIT_VIRTUAL, NO_FAULT};
use enarx_exits::{COUNTERS_OFFSET, EXIT_MEMORY_SIZE, FACTS_OFFSET, HostFacts};
use enarx_microkernel::kind::HAS_SNP;
use enarx_microkernel::snp::ControlState;
use enarx_snp::ghcb::MSR_GHCB;

/// The CPU of one vCPU.
pub struct Machine {
    vcpu: usize,
}

impl Machine {
    /// The machine as vCPU `vcpu` sees it.
    pub const fn new(vcpu: usize) -> Self {
        Self { vcpu }
    }

    /// The number of this vCPU.
    pub const fn vcpu(&self) -> usize {
        self.vcpu
    }

    /// Sets CR4 and XCR0.
    pub fn set_control(registers: &ControlState) {
        let (cr4, xcr0) = (registers.cr4(), registers.xcr0());
        // SAFETY: by their type the values are those of the launch with more protections and more vector
        // state; nothing that the microkernel uses is taken away.
        unsafe {
            asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
            asm!("xsetbv", in("ecx") 0, in("rax") xcr0, in("rdx") xcr0 >> 32,
                options(nostack, preserves_flags));
        }
    }
}

/// The word at byte offset `offset` of the exit memory.
pub fn exit_word(offset: usize) -> &'static AtomicU64 {
    let offset = (offset & (EXIT_MEMORY_SIZE - 8)) as u64;
    // SAFETY: the launcher maps the exit memory at EXIT_VIRTUAL for the life of the Keep; the offset
    // is a multiple of 8 inside of it. The host writes the memory too, hence atomics.
    unsafe { &*((EXIT_VIRTUAL + offset) as *const AtomicU64) }
}

/// Counts an entry from user code: a system call or an exception. The counters are in shared memory, so this
/// exists only under plain KVM: the host of a measured Keep would see each entry, which causes no exit, as it
/// happens.
pub fn count(system_call: bool) {
    if !HAS_SNP {
        let offset = COUNTERS_OFFSET + if system_call { 0 } else { 8 };
        exit_word(offset).fetch_add(1, Ordering::Relaxed);
    }
}

/// The host's facts, each word read once.
pub fn host_facts() -> HostFacts {
    let word = |index: usize| exit_word(FACTS_OFFSET + index * 8).load(Ordering::Relaxed);
    HostFacts {
        tsc_khz: word(0),
        wall_ns: word(1),
        memory_end: word(2),
        vcpus: word(3),
        processors: word(4),
    }
}

/// The address of the last page fault; [`NO_FAULT`] if there was none since [`forget_fault`].
pub fn fault_address() -> u64 {
    let address;
    // SAFETY: reading CR2 has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// Sets the fault address to [`NO_FAULT`]: a page fault that the host injects, which leaves CR2 alone,
/// does not find the address of a genuine one.
pub fn forget_fault() {
    // SAFETY: the CPU does not use CR2.
    unsafe { asm!("mov cr2, {}", in(reg) NO_FAULT, options(nomem, nostack, preserves_flags)) };
}

/// The x87 and SSE state of a new process (AMD64 APM volume 2, section 11.5), in the format of FXSAVE64:
/// FCW 0x037f, MXCSR 0x1f80.
#[repr(C, align(16))]
struct FpuState([u8; 512]);

static INITIAL: FpuState = {
    let mut bytes = [0; 512];
    [bytes[0], bytes[1]] = [0x7f, 0x03];
    [bytes[24], bytes[25]] = [0x80, 0x1f];
    FpuState(bytes)
};

/// Gives the x87 and SSE state of a new process to the thread that is about to run.
pub fn reset_fpu() {
    // SAFETY: the area is 512 bytes, 16-byte aligned and valid; the microkernel itself uses no FPU
    // register.
    unsafe {
        asm!("fxrstor64 [{}]", in(reg) INITIAL.0.as_ptr(), options(nostack, preserves_flags));
    };
}

/// The model-specific registers that the microkernel reaches. None changes how it executes itself: it uses neither
/// segment base, and SYSCALL enters where the launch says, or in the simulated build at an invalid opcode.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Msr {
    /// FS base (AMD64 APM volume 2, section 4.5.3).
    FsBase = 0xc000_0100,
    /// GS base.
    GsBase = 0xc000_0101,
    /// The GHCB register.
    Ghcb = MSR_GHCB,
    /// SEV_STATUS (AMD64 APM volume 2, section 15.34.10), to be read.
    SevStatus = 0xc001_0131,
    /// LSTAR.
    #[cfg(feature = "simulated")]
    Lstar = 0xc000_0082,
}

impl Msr {
    /// Writes the register; a segment base must be canonical.
    pub fn write(self, value: u64) {
        // SAFETY: none of these registers changes how the microkernel executes (see [`Msr`]).
        unsafe {
            asm!("wrmsr", in("ecx") self as u32, in("rax") value, in("rdx") value >> 32,
                options(nostack, preserves_flags));
        }
    }

    /// Reads the register.
    pub fn read(self) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reading has no effect.
        unsafe {
            asm!("rdmsr", in("ecx") self as u32, out("eax") low, out("edx") high,
                options(nostack, preserves_flags));
        }
        u64::from(low) | (u64::from(high) << 32)
    }
}
