// SPDX-License-Identifier: Apache-2.0

//! The CPU and the Keep's memory, as the library sees them: the implementation of [`Platform`].
//!
//! Physical memory is reached through the direct map by volatile accesses; user addresses are
//! never dereferenced, so SMAP stays in force throughout.

#![expect(unsafe_code, reason = "instructions have no safe interface")]

use core::arch::asm;
use core::sync::atomic::Ordering;

use enarx_boot::address::PhysAddr;
use enarx_boot::layout::{DIRECT_MAP, MAX_VCPUS, PAGE};
use enarx_boot::page_table::ADDRESS;
use enarx_exits::{ExitFunction, MEMORY_THERE_OFFSET, RECORD_SIZE};
use enarx_microkernel::frame::{Place, Slot, Words};
use enarx_microkernel::platform::Platform;

use super::cpu::{Machine, Msr, exit_word};
use super::end::ended;
use super::stack;

/// The direct map's pointer to memory of a frame. The C-bit is part of the entries, not of the address.
fn direct(address: PhysAddr) -> *mut u64 {
    (DIRECT_MAP + address.gpa().get()) as *mut u64
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
        // SAFETY: as in `write`; the words lie in one frame. First the remainder modulo 16, then 16 at a time, because
        // on hosts that emulate CPL0 every instruction counts.
        unsafe {
            asm!("jrcxz 3f", "2:", "stosq", "add rax, {page}", "loop 2b", "3:", "test edx, edx", "jz 5f",
                "4:", ".rept 16", "stosq", "add rax, {page}", ".endr", "dec edx", "jnz 4b", "5:", page = const PAGE,
                inout("rcx") words.count() % 16 => _, inout("rdx") words.count() / 16 => _,
                inout("rdi") direct(words.first().address()) => _,
                inout("rax") first => _, options(nostack));
        }
    }

    fn change_run(&mut self, words: Words, kept: u64, set: u64) -> u64 {
        let (at, left) = (direct(words.first().address()), words.count());
        let rest: u64;
        // SAFETY: as in `write`; the words lie in one frame, and the first is read if there is one. Few instructions for each,
        // because on hosts that emulate CPL0 every instruction counts.
        unsafe {
            asm!("jrcxz 3f", "mov {first}, [rsi]", "2:", "lodsq", "mov {other}, rax", "xor {other}, {first}",
                "test {other}, {flags}", "jnz 3f", "and rax, {kept}", "or rax, {set}", "stosq", "loop 2b", "3:",
                first = out(reg) _, other = out(reg) _, flags = in(reg) !ADDRESS, kept = in(reg) kept, set = in(reg) set,
                inout("rcx") left => rest, inout("rsi") at => _, inout("rdi") at => _, out("rax") _, options(nostack));
        }
        left - rest
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
        let record = (self.vcpu() % MAX_VCPUS) * RECORD_SIZE;
        for (index, &arg) in args.iter().take(7).enumerate() {
            exit_word(record + index * 8).store(arg, Ordering::Relaxed);
        }
        #[cfg(feature = "plain")]
        // SAFETY: the VMM serves this port; it may change shared memory, nothing else of ours.
        unsafe {
            asm!("out dx, eax", in("dx") enarx_exits::PORT, in("eax") function as u32, options(nostack));
        };
        #[cfg(not(feature = "plain"))]
        super::snp::port_exit(self, function);
        exit_word(record + 56).load(Ordering::Relaxed)
    }

    fn wipe_stack(&mut self) {
        stack::wipe();
    }

    fn ended(&self) -> bool {
        ended()
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
        let last = stack::last_time().fetch_max(now, Ordering::SeqCst);
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
