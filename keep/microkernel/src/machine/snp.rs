// SPDX-License-Identifier: Apache-2.0

//! The instructions of an SNP guest, and the GHCB: the implementation of [`Instructions`].
//!
//! The `simulated` build plays PVALIDATE, RMPADJUST and the clearing of large pages by registers of
//! the simulated platform, and its VMGEXIT is empty: the write of the GHCB register is the exit.

#![expect(unsafe_code, reason = "instructions have no safe interface")]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use enarx_boot::address::Gpa;
use enarx_boot::boot_page::BootInfo;
use enarx_boot::layout::{EXIT_PHYSICAL, MAX_VCPUS};
#[cfg(not(feature = "plain"))]
use enarx_exits::{ExitFunction, PORT};
use enarx_exits::{GHCB_OFFSET, MESSAGE_OFFSET, Reason};
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::frame::LargeFrame;
use enarx_microkernel::launch::{BootPage, Launch};
use enarx_microkernel::snp::boot;
use enarx_microkernel::snp::ghcb::{Answer, BUFFER, BUFFER_WORDS, Call};
use enarx_microkernel::snp::instructions::{Entry, Instructions, NewVmsa, Unvalidated, Validated};
use enarx_snp::ghcb::Field;
use enarx_snp::ghcb::msr::Request;

use super::cpu::{Machine, Msr, exit_word};
use super::end::begin_end;
use super::stack::boot_info;
use super::symbols::{enarx_entry, enarx_syscall, system_call_entry};

/// The first vCPU has its GHCB: the host can be asked by it.
static HAS_GHCB: AtomicBool = AtomicBool::new(false);

/// The reason set of our termination codes: 0 belongs to the protocol, 1 is ours.
const REASON_SET: u8 = 1;

/// True if the host can be asked by the GHCB.
pub fn has_ghcb() -> bool {
    HAS_GHCB.load(Ordering::Relaxed)
}

/// Guest physical address of a vCPU's GHCB, and its offset in the exit memory.
fn ghcb(vcpu: usize) -> (Gpa, usize) {
    let offset = GHCB_OFFSET + (vcpu % MAX_VCPUS) * 4096;
    (Gpa::new(EXIT_PHYSICAL + offset as u64), offset)
}

/// Makes the first vCPU one of an SNP guest.
pub fn start(machine: &mut Machine, launch: &Launch) -> Result<(), Fatal> {
    boot::negotiate(machine, launch, ghcb(0).0)?;
    HAS_GHCB.store(true, Ordering::Relaxed);
    Ok(())
}

/// Registers the GHCB of a further vCPU.
pub fn start_further(machine: &mut Machine, vcpu: usize) -> Result<(), Fatal> {
    boot::register_ghcb(machine, ghcb(vcpu).0)
}

/// Asks the VMM for a function by the GHCB; the Keep ends if the host refuses the exit itself.
#[cfg(not(feature = "plain"))]
pub fn port_exit(machine: &mut Machine, function: ExitFunction) {
    let answer = machine.ghcb_exit(&Call::port_out(PORT, function as u32));
    if !answer.accepted() {
        terminate(Reason::Ghcb as u64);
    }
}

/// Ends the Keep without the GHCB.
pub fn terminate(reason: u64) -> ! {
    begin_end();
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

impl BootPage for Machine {
    fn boot_info(&self) -> BootInfo {
        boot_info()
    }
}

impl Instructions for Machine {
    fn pvalidate(&mut self, page: &Unvalidated) -> Validated {
        instructions::pvalidate(page)
    }

    fn rmpadjust(&mut self, page: &NewVmsa) -> u64 {
        instructions::rmpadjust(page)
    }

    fn clear_large(&mut self, frame: LargeFrame) {
        instructions::clear_large(frame);
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
        let address = address.get();
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

    fn put_message(&mut self, words: &[[u8; 8]]) {
        for (index, word) in words.iter().take(4096 / 8).enumerate() {
            let at = MESSAGE_OFFSET + index * 8;
            exit_word(at).store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
    }

    fn take_message(&self, to: &mut [[u8; 8]]) {
        for (index, word) in to.iter_mut().take(4096 / 8).enumerate() {
            let at = MESSAGE_OFFSET + 4096 + index * 8;
            *word = exit_word(at).load(Ordering::Relaxed).to_le_bytes();
        }
    }

    fn entry_point(&self) -> Entry {
        Entry {
            rip: enarx_entry as *const () as u64,
            lstar: system_call_entry(enarx_syscall as *const () as u64),
        }
    }
}

#[cfg(not(feature = "simulated"))]
mod instructions {
    use super::{LargeFrame, NewVmsa, Unvalidated, Validated, asm};
    use enarx_boot::layout::LARGE;

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
                inout("rax") page.address().get() => code, in("ecx") u32::from(page.is_large()),
                in("edx") 1u32, options(nostack));
        }
        Validated {
            code: u32::try_from(code & 0xffff_ffff).unwrap_or(u32::MAX),
            unchanged: carry != 0,
        }
    }

    pub fn rmpadjust(page: &NewVmsa) -> u64 {
        let code: u64;
        // SAFETY: by its type the page has no other user; its role changes, its contents stay.
        unsafe {
            asm!(".byte 0xf3, 0x0f, 0x01, 0xfe", inout("rax") page.frame().mapped().get() => code, in("rcx") 0u64,
                in("rdx") NewVmsa::ATTRIBUTES, options(nostack));
        }
        // The code is in EAX.
        code & 0xffff_ffff
    }

    pub fn clear_large(frame: LargeFrame) {
        let address = frame.mapped().get();
        // SAFETY: by its type the frame belongs to the Keep and is in the direct map; its new user does not
        // have it yet.
        unsafe {
            asm!("rep stosq", inout("rcx") LARGE / 8 => _, inout("rdi") address => _,
                in("rax") 0u64, options(nostack, preserves_flags));
        }
    }
}

#[cfg(feature = "simulated")]
pub mod instructions {
    use super::{LargeFrame, NewVmsa, Unvalidated, Validated, asm};
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
        let answer = play(PVALIDATE, page.address().get() | flags, 0);
        Validated {
            code: u32::try_from(answer & 0xffff_ffff).unwrap_or(u32::MAX),
            unchanged: answer >> 32 != 0,
        }
    }

    pub fn rmpadjust(page: &NewVmsa) -> u64 {
        play(RMPADJUST, page.frame().mapped().get(), NewVmsa::ATTRIBUTES)
    }

    pub fn clear_large(frame: LargeFrame) {
        play(CLEAR, frame.mapped().get(), 0);
    }

    /// Returns the quirks of this host's virtual CPUs.
    pub fn quirks() -> u64 {
        play(QUIRKS, 0, 0)
    }
}
