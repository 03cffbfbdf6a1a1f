// SPDX-License-Identifier: Apache-2.0

//! The instructions of the CPU, and the memory behind them: the implementation of [`Platform`].
//!
//! Physical memory is reached through the direct map by volatile accesses; user addresses are
//! never dereferenced, so SMAP stays in force throughout.

#![expect(
    unsafe_code,
    reason = "privileged instructions and physical memory have no safe interface"
)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use enarx_boot::address::PhysAddr;
use enarx_boot::layout::{DIRECT_MAP, EXIT_VIRTUAL, MAX_VCPUS, NO_FAULT, PAGE};
use enarx_exits::{
    COUNTERS_OFFSET, EXIT_MEMORY_SIZE, ExitFunction, FACTS_OFFSET, HostFacts, MEMORY_THERE_OFFSET,
    RECORD_SIZE,
};
use enarx_microkernel::frame::{Place, Slot, Words};
use enarx_microkernel::kind::HAS_SNP;
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::ControlState;
use enarx_snp::ghcb::MSR_GHCB;

#[cfg(not(feature = "plain"))]
use super::snp;

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

/// The direct map's pointer to memory of a frame. The C-bit is part of the entries, not of the address.
fn direct(address: PhysAddr) -> *mut u64 {
    (DIRECT_MAP + address.gpa().get()) as *mut u64
}

/// The word at byte offset `offset` of the exit memory.
pub fn exit_word(offset: usize) -> &'static AtomicU64 {
    let offset = (offset & (EXIT_MEMORY_SIZE - 8)) as u64;
    // SAFETY: the launcher maps the exit memory at EXIT_VIRTUAL for the life of the Keep; the offset
    // is a multiple of 8 inside of it. The host writes the memory too, hence atomics.
    unsafe { &*((EXIT_VIRTUAL + offset) as *const AtomicU64) }
}

/// Counts an entry from user code: by a system call, or by an exception. The counters lie in shared memory, so
/// only under plain KVM: the host of a measured Keep would see each entry, which is no exit, as it happens.
pub fn count(system_call: bool) {
    if !HAS_SNP {
        let offset = COUNTERS_OFFSET + if system_call { 0 } else { 8 };
        exit_word(offset).fetch_add(1, Ordering::Relaxed);
    }
}

/// The host's facts, each word taken once.
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

impl Platform for Machine {
    fn memory_there(&self) -> u64 {
        exit_word(MEMORY_THERE_OFFSET).load(Ordering::Relaxed)
    }

    #[inline]
    fn read(&self, slot: Slot) -> u64 {
        // SAFETY: a slot is an aligned word of a frame, which is the Keep's, and which the direct map has.
        unsafe { direct(slot.address()).read_volatile() }
    }

    #[inline]
    fn write(&mut self, slot: Slot, value: u64) {
        // SAFETY: as in `read`; no Rust reference points into the direct map.
        unsafe { direct(slot.address()).write_volatile(value) }
    }

    fn run_length(&self, words: Words, value: u64) -> u64 {
        let left: u64;
        let stopped: u8;
        // SAFETY: as in `read`; the words lie in one frame. String instructions, because on hosts
        // that emulate CPL0 every instruction counts.
        unsafe {
            asm!("cmp rax, rax", "repe scasq", "setne {}", out(reg_byte) stopped,
                inout("rcx") words.count() => left,
                inout("rdi") direct(words.first().address()) => _, in("rax") value,
                options(nostack, readonly));
        }
        words.count() - left - u64::from(stopped)
    }

    fn fill_run(&mut self, words: Words, value: u64) {
        // SAFETY: as in `write`; the words lie in one frame.
        unsafe {
            asm!("rep stosq", inout("rcx") words.count() => _,
                inout("rdi") direct(words.first().address()) => _,
                in("rax") value, options(nostack, preserves_flags));
        }
    }

    fn fill_rising(&mut self, words: Words, first: u64) {
        // SAFETY: as in `write`; the words lie in one frame. First those that are no part of 16, then 16 at a time,
        // because on hosts that emulate CPL0 every instruction counts.
        unsafe {
            asm!("jrcxz 3f", "2:", "stosq", "add rax, {page}", "loop 2b", "3:", "test edx, edx", "jz 5f",
                "4:", ".rept 16", "stosq", "add rax, {page}", ".endr", "dec edx", "jnz 4b", "5:", page = const PAGE,
                inout("rcx") words.count() % 16 => _, inout("rdx") words.count() / 16 => _,
                inout("rdi") direct(words.first().address()) => _,
                inout("rax") first => _, options(nostack));
        }
    }

    fn read_bytes(&self, from: Place, to: &mut [u8]) -> usize {
        let address = from.address();
        if let Ok(word) = <&mut [u8; 4]>::try_from(&mut *to)
            && address.get().is_multiple_of(4)
        {
            // SAFETY: as in `read`; one aligned access, because this may be a futex.
            *word = unsafe { direct(address).cast::<u32>().read_volatile() }.to_ne_bytes();
            return word.len();
        }
        let count = to.len().min(room(from));
        // SAFETY: `count` bytes lie in the slice and in the frame, as in `read`. They do not overlap: slices lie in the
        // kernel's own image and stacks, user frames never do.
        unsafe { copy(direct(address).cast(), to.as_mut_ptr(), count) };
        count
    }

    fn write_bytes(&mut self, to: Place, from: &[u8]) -> usize {
        let count = from.len().min(room(to));
        // SAFETY: as in `read_bytes`, the other way.
        unsafe { copy(from.as_ptr(), direct(to.address()).cast(), count) };
        count
    }

    fn flush(&mut self) {
        // SAFETY: CR3 keeps its value; the kernel's own mappings do not change.
        unsafe {
            asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
        }
    }

    fn exit(&mut self, function: ExitFunction, args: &[u64]) -> u64 {
        let record = (self.vcpu % MAX_VCPUS) * RECORD_SIZE;
        for (index, &arg) in args.iter().take(7).enumerate() {
            exit_word(record + index * 8).store(arg, Ordering::Relaxed);
        }
        #[cfg(feature = "plain")]
        // SAFETY: the VMM serves this port; it may change shared memory, nothing else of ours.
        unsafe {
            asm!("out dx, eax", in("dx") enarx_exits::PORT, in("eax") function as u32, options(nostack));
        };
        #[cfg(not(feature = "plain"))]
        snp::port_exit(self, function);
        exit_word(record + 56).load(Ordering::Relaxed)
    }

    fn wipe_stack(&mut self) {
        super::stack::wipe();
    }

    fn ended(&self) -> bool {
        crate::ended()
    }

    fn random(&mut self) -> Option<u64> {
        // Retries as Intel's DRNG guide asks (section 5.2.1), with room.
        for _ in 0..64 {
            let (word, ok): (u64, u8);
            // SAFETY: RDRAND writes a register and the flags.
            unsafe {
                asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) ok, options(nomem, nostack));
            };
            if ok == 1 {
                return Some(word);
            }
            core::hint::spin_loop();
        }
        None
    }

    fn tsc(&self) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reading the counter has no effect.
        unsafe {
            asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        };
        u64::from(low) | (u64::from(high) << 32)
    }

    fn latest(&mut self, now: u64) -> u64 {
        let last = super::stack::last_time().fetch_max(now, Ordering::SeqCst);
        last.max(now)
    }

    fn set_fs_base(&mut self, base: u64) {
        Msr::FsBase.write(base);
    }

    fn fs_base(&self) -> u64 {
        let base;
        // SAFETY: CR4.FSGSBASE is set by the launch; reading has no effect.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    }

    fn set_gs_base(&mut self, base: u64) {
        Msr::GsBase.write(base);
    }
}

/// Bytes from `place` to the end of its frame.
#[allow(clippy::cast_possible_truncation, reason = "at most 4096")]
const fn room(place: Place) -> usize {
    place.room() as usize
}

/// Copies between kernel memory and one page of the direct map, word by word: on hosts that
/// emulate CPL0 a byte costs as much as a word.
///
/// # Safety
/// `length` bytes from `from` on can be read, those from `to` on can be written, and the two do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller vouches for both ranges; nothing else is touched.
    unsafe {
        asm!("mov rax, rcx", "shr rcx, 3", "rep movsq", "mov rcx, rax", "and ecx, 7", "rep movsb",
            inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _, out("rax") _,
            options(nostack));
    }
}
