//! The instructions of an SNP guest, and the GHCB: the implementation of [`Instructions`].
//!
//! The `simulated` build plays PVALIDATE, RMPADJUST and the clearing of large pages by registers of
//! the simulated platform, and its VMGEXIT is empty: the write of the GHCB register is the exit.

#![expect(
    unsafe_code,
    reason = "the instructions of SEV-SNP have no safe interface"
)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use enarx_boot::boot_page::BootInfo;
use enarx_boot::layout::{EXIT_PHYSICAL, MAX_VCPUS};
use enarx_exits::{GHCB_OFFSET, MESSAGE_OFFSET, Reason};
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::boot;
use enarx_microkernel::snp::ghcb::{Answer, BUFFER, BUFFER_WORDS, Call};
use enarx_microkernel::snp::instructions::{Entry, Instructions, NewVmsa, Unvalidated, Validated};
use enarx_snp::ghcb::Field;
use enarx_snp::ghcb::msr::Request;

use super::cpu::{Machine, Msr, exit_word};
use super::entry::{enarx_entry, enarx_syscall};

/// The C-bit once this is known to be an SNP guest; 0 before, and under plain KVM.
static C_BIT: AtomicU64 = AtomicU64::new(0);
/// The root page table, with the C-bit.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// The reason set of our termination codes: 0 is the protocol's own, 1 is ours.
const REASON_SET: u8 = 1;

/// Whether this is an SNP guest.
pub fn active() -> bool {
    !cfg!(feature = "plain") && C_BIT.load(Ordering::Relaxed) != 0
}

/// The root page table of an SNP guest.
pub fn root() -> u64 {
    ROOT.load(Ordering::Relaxed)
}

/// Guest physical address of a vCPU's GHCB, and its offset in the exit memory.
fn ghcb(vcpu: usize) -> (u64, usize) {
    let offset = GHCB_OFFSET + (vcpu % MAX_VCPUS) * 4096;
    (EXIT_PHYSICAL + offset as u64, offset)
}

/// Makes the first vCPU one of an SNP guest.
pub fn start(machine: &mut Machine, info: &BootInfo) -> Result<(), Fatal> {
    boot::negotiate(machine, info, ghcb(0).0)?;
    ROOT.store(info.root | info.c_bit, Ordering::Relaxed);
    C_BIT.store(info.c_bit, Ordering::Relaxed);
    Ok(())
}

/// Registers the GHCB of a further vCPU.
pub fn start_further(machine: &mut Machine, vcpu: usize) -> Result<(), Fatal> {
    boot::register_ghcb(machine, ghcb(vcpu).0)
}

/// Clears the user half of the root page table of an SNP guest.
pub fn take_user_memory() {
    if active() {
        Machine::new(0).fill_run(root(), 256, 0);
    }
}

/// Ends the Keep without the GHCB.
pub fn terminate(reason: u64) -> ! {
    crate::begin_end();
    let reason = u8::try_from(reason).unwrap_or(Reason::Panic as u8);
    let request = Request::Terminate {
        set: REASON_SET,
        reason,
    };
    loop {
        Msr::Ghcb.write(request.encode());
        instructions::vmgexit();
    }
}

impl Instructions for Machine {
    fn pvalidate(&mut self, page: &Unvalidated) -> Validated {
        instructions::pvalidate(page)
    }

    fn rmpadjust(&mut self, page: &NewVmsa) -> u64 {
        instructions::rmpadjust(page)
    }

    fn clear_large(&mut self, address: u64) {
        instructions::clear_large(address);
    }

    fn sev_status(&self) -> u64 {
        Msr::SevStatus.read()
    }

    fn msr_protocol(&mut self, request: u64) -> u64 {
        Msr::Ghcb.write(request);
        instructions::vmgexit();
        Msr::Ghcb.read()
    }

    fn ghcb_exit(&mut self, call: &Call<'_>) -> Answer {
        let (address, offset) = ghcb(self.vcpu());
        let put = |at: usize, word| exit_word(offset + at).store(word, Ordering::Relaxed);
        for (index, &word) in call.buffer.iter().take(BUFFER_WORDS).enumerate() {
            put(BUFFER + index * 8, word);
        }
        for (at, word) in call.words(address) {
            put(at, word);
        }
        Msr::Ghcb.write(Request::Ghcb { gpa: address }.encode());
        instructions::vmgexit();
        let take = |at: usize| exit_word(offset + at).load(Ordering::Relaxed);
        Answer {
            info1: take(Field::SwExitInfo1 as usize),
            info2: take(Field::SwExitInfo2 as usize),
            buffer: take(BUFFER),
        }
    }

    fn put_message(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks(8);
        for index in 0..4096 / 8 {
            let mut word = [0; 8];
            if let Some(chunk) = words.next()
                && let Some(place) = word.get_mut(..chunk.len())
            {
                place.copy_from_slice(chunk);
            }
            let at = MESSAGE_OFFSET + index * 8;
            exit_word(at).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }

    fn take_message(&self, to: &mut [u8]) {
        for (index, chunk) in to.chunks_mut(8).take(4096 / 8).enumerate() {
            let word = exit_word(MESSAGE_OFFSET + 4096 + index * 8).load(Ordering::Relaxed);
            for (place, byte) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *place = byte;
            }
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            rip: enarx_entry as *const () as u64,
            lstar: crate::system_call_entry(enarx_syscall as *const () as u64),
        }
    }
}

#[cfg(not(feature = "simulated"))]
mod instructions {
    use super::{NewVmsa, Unvalidated, Validated, asm};

    /// The last read of the host's answer must not move before this, nor a write after it.
    pub fn vmgexit() {
        // SAFETY: VMGEXIT (REP VMMCALL) gives the host what is in the GHCB, which is shared memory
        // anyway; on return all registers are as before (AMD64 APM volume 2, section 15.35.5).
        unsafe { asm!("rep vmmcall", options(nostack)) };
    }

    pub fn pvalidate(page: &Unvalidated) -> Validated {
        let (code, carry): (u64, u8);
        // SAFETY: changes the state of a private page, no contents; by its type the ledger allows it.
        unsafe {
            asm!(".byte 0xf2, 0x0f, 0x01, 0xff", "setc {carry}", carry = out(reg_byte) carry,
                inout("rax") page.address() => code, in("ecx") u32::from(page.is_large()),
                in("edx") 1u32, options(nostack));
        }
        Validated {
            code: u32::try_from(code & 0xffff_ffff).unwrap_or(u32::MAX),
            unchanged: carry != 0,
        }
    }

    pub fn rmpadjust(page: &NewVmsa) -> u64 {
        let code: u64;
        // SAFETY: by its type the page is nobody else's; it gets another role, its contents stay.
        unsafe {
            asm!(".byte 0xf3, 0x0f, 0x01, 0xfe", inout("rax") page.address() => code, in("rcx") 0u64,
                in("rdx") NewVmsa::ATTRIBUTES, options(nostack));
        }
        // The code is in EAX.
        code & 0xffff_ffff
    }

    pub fn clear_large(address: u64) {
        // SAFETY: the caller has just validated the 2 MiB at this address of the direct map, and
        // nothing refers to them.
        unsafe {
            asm!("rep stosq", inout("rcx") (2usize << 20) / 8 => _, inout("rdi") address => _,
                in("rax") 0u64, options(nostack, preserves_flags));
        }
    }
}

#[cfg(feature = "simulated")]
pub mod instructions {
    use super::{NewVmsa, Unvalidated, Validated, asm};
    use enarx_exits::simulated::{CLEAR, PVALIDATE, QUIRKS, RMPADJUST};

    pub fn vmgexit() {}

    fn play(register: u32, rbx: u64, rsi: u64) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: the register is the simulated platform's; RBX, which the compiler keeps to
        // itself, is exchanged before and after.
        unsafe {
            asm!("xchg {rbx}, rbx", "rdmsr", "xchg {rbx}, rbx", rbx = inout(reg) rbx => _,
                in("ecx") register, in("rsi") rsi, out("eax") low, out("edx") high,
                options(nostack));
        }
        u64::from(low) | (u64::from(high) << 32)
    }

    pub fn pvalidate(page: &Unvalidated) -> Validated {
        let flags = u64::from(page.is_large()) | 2;
        let answer = play(PVALIDATE, page.address() | flags, 0);
        Validated {
            code: u32::try_from(answer & 0xffff_ffff).unwrap_or(u32::MAX),
            unchanged: answer >> 32 != 0,
        }
    }

    pub fn rmpadjust(page: &NewVmsa) -> u64 {
        play(RMPADJUST, page.address(), NewVmsa::ATTRIBUTES)
    }

    pub fn clear_large(address: u64) {
        play(CLEAR, address, 0);
    }

    /// What is odd about this host's virtual CPUs.
    pub fn quirks() -> u64 {
        play(QUIRKS, 0, 0)
    }
}
