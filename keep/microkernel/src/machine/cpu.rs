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

use enarx_boot::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, EXIT_VIRTUAL, LARGE, MAX_VCPUS, NO_FAULT, PAGE,
};
use enarx_exits::{
    COUNTERS_OFFSET, EXIT_MEMORY_SIZE, ExitFunction, FACTS_OFFSET, HostFacts, MEMORY_THERE_OFFSET,
    PORT, RECORD_SIZE, Reason,
};
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::ghcb::Call;
use enarx_microkernel::snp::{Instructions, pages};

use super::snp;

/// The CPU of one vCPU.
pub struct Machine {
    vcpu: usize,
}

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;

impl Machine {
    /// The machine as vCPU `vcpu` sees it.
    pub const fn new(vcpu: usize) -> Self {
        Self { vcpu }
    }

    /// Makes a frame the Keep's own under SNP, or ends the Keep.
    #[inline(never)]
    fn make_private(&mut self, frame: u64, size: u64) {
        if let Err(fatal) = pages::accept(self, snp::root(), frame, size) {
            crate::end_with(self, &fatal.0);
        }
    }

    /// The number of this vCPU.
    pub const fn vcpu(&self) -> usize {
        self.vcpu
    }

    /// Sets CR4 and XCR0.
    pub fn set_control(cr4: u64, xcr0: u64) {
        // SAFETY: the values are those of the launch with more protections and more vector state;
        // nothing that the microkernel uses is taken away.
        unsafe {
            asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
            asm!("xsetbv", in("ecx") 0, in("rax") xcr0, in("rdx") xcr0 >> 32,
                options(nostack, preserves_flags));
        }
    }
}

/// The C-bit of a physical address is part of the page tables' entries, not of the direct map.
fn direct(physical: u64) -> *mut u64 {
    (DIRECT_MAP + (physical & (DIRECT_MAP_SIZE - 1))) as *mut u64
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
    if cfg!(feature = "plain") {
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

/// Writes a model-specific register: FS_BASE and GS_BASE, which the microkernel itself does not
/// use, with canonical user addresses; the GHCB register; LSTAR in the simulated build.
pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: see above; none of them changes how the microkernel itself executes.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("rax") value, in("rdx") value >> 32,
            options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register of the SNP guest.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: called for SEV_STATUS and the GHCB register only; reading has no effect.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
            options(nostack, preserves_flags));
    }
    u64::from(low) | (u64::from(high) << 32)
}

impl Platform for Machine {
    #[inline]
    fn accept(&mut self, frame: u64, size: u64) {
        if snp::active() {
            self.make_private(frame, size);
        } else if frame >= exit_word(MEMORY_THERE_OFFSET).load(Ordering::Relaxed) {
            // A host that does not give it ends the Keep with the first access.
            self.exit(ExitFunction::Memory, &[frame + size]);
        }
    }

    fn read(&self, physical: u64) -> u64 {
        // SAFETY: `physical` comes from the frame allocator or from page tables that only the
        // microkernel writes (contract of `Platform`), so the direct map covers it with memory.
        unsafe { direct(physical).read_volatile() }
    }

    fn write(&mut self, physical: u64, value: u64) {
        // SAFETY: as in `read`; no Rust reference points into the direct map.
        unsafe { direct(physical).write_volatile(value) }
    }

    fn run_length(&self, physical: u64, most: u64, value: u64) -> u64 {
        let left: u64;
        let stopped: u8;
        // SAFETY: as in `read`; the words lie in one page. String instructions, because on hosts
        // that emulate CPL0 every instruction counts.
        unsafe {
            asm!("cmp rax, rax", "repe scasq", "setne {}", out(reg_byte) stopped,
                inout("rcx") most => left, inout("rdi") direct(physical) => _, in("rax") value,
                options(nostack, readonly));
        }
        most - left - u64::from(stopped)
    }

    fn fill_run(&mut self, physical: u64, count: u64, value: u64) {
        // SAFETY: as in `write`; the words lie in one page.
        unsafe {
            asm!("rep stosq", inout("rcx") count => _, inout("rdi") direct(physical) => _,
                in("rax") value, options(nostack, preserves_flags));
        }
    }

    fn fill_rising(&mut self, physical: u64, count: u64, first: u64) {
        if count == 0 {
            return;
        }
        // SAFETY: as in `write`; the words lie in one page.
        unsafe {
            asm!("2:", "stosq", "add rax, {page}", "dec {count}", "jnz 2b", page = const PAGE,
                count = inout(reg) count => _, inout("rdi") direct(physical) => _,
                inout("rax") first => _, options(nostack));
        }
    }

    fn read_bytes(&self, physical: u64, to: &mut [u8]) {
        if let Ok(word) = <&mut [u8; 4]>::try_from(&mut *to)
            && physical.is_multiple_of(4)
        {
            // SAFETY: as in `read`; one aligned access, because this may be a futex.
            *word = unsafe { direct(physical).cast::<u32>().read_volatile() }.to_ne_bytes();
            return;
        }
        copy(direct(physical).cast(), to.as_mut_ptr(), to.len());
    }

    fn write_bytes(&mut self, physical: u64, from: &[u8]) {
        copy(from.as_ptr(), direct(physical).cast(), from.len());
    }

    fn zero_large(&mut self, physical: u64) {
        if snp::active() {
            self.clear_large(DIRECT_MAP + pages::plain(physical));
        } else {
            self.exit(ExitFunction::Discard, &[physical, LARGE]);
        }
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
        if snp::active() {
            if !self
                .ghcb_exit(&Call::port_out(PORT, function as u32))
                .accepted()
            {
                snp::terminate(Reason::Ghcb as u64);
            }
        } else {
            #[cfg(feature = "plain")]
            // SAFETY: the VMM serves this port; it may change shared memory, nothing else of ours.
            unsafe {
                asm!("out dx, eax", in("dx") PORT, in("eax") function as u32, options(nostack));
            };
            #[cfg(not(feature = "plain"))]
            snp::terminate(Reason::Ghcb as u64);
        }
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
        write_msr(FS_BASE, base);
    }

    fn fs_base(&self) -> u64 {
        let base;
        // SAFETY: CR4.FSGSBASE is set by the launch; reading has no effect.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    }

    fn set_gs_base(&mut self, base: u64) {
        write_msr(GS_BASE, base);
    }
}

/// Copies between kernel memory and one page of the direct map, word by word: on hosts that
/// emulate CPL0 a byte costs as much as a word.
fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the callers pass a slice and a part of one page, which do not overlap: slices lie in
    // the kernel's own image and stacks, user frames never do.
    unsafe {
        asm!("mov rax, rcx", "shr rcx, 3", "rep movsq", "mov rcx, rax", "and ecx, 7", "rep movsb",
            inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _, out("rax") _,
            options(nostack));
    }
}
