// SPDX-License-Identifier: Apache-2.0

//! The loader as a program: its entry, its system calls, its copies. The logic is in the library of this crate.

#![expect(
    unsafe_code,
    reason = "the entry, system calls and copies out of shared memory have no safe interface"
)]
#![no_std]
#![no_main]
// The host decides over the input of this code: it refuses, and does not panic.
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

// The memory functions that the compiler calls.
use enarx_bare as _;
use enarx_boot::image_info::ImageInfo;
use enarx_exits::exit_code;
use enarx_loader::load::{LoaderSystem, load};
use enarx_syscall as nr;
use enarx_syscall::memory::{
    MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE,
};
use zerocopy::FromBytes;

// The stack is the one that the runtime will use: it is left unchanged.
global_asm!(
    r#"
    .section .text
    .globl enarx_loader_entry
enarx_loader_entry:
    mov rdi, rsp
    and rsp, -16
    call {start}
    ud2

    .section .info, "a"
    .globl enarx_loader_info
enarx_loader_info:
    .skip 4096
    "#,
    start = sym start,
);

// SAFETY: a page of 4096 bytes, defined by the assembly above.
unsafe extern "C" {
    #[link_name = "enarx_loader_info"]
    static INFO: [u8; 4096];
}

/// Makes a system call; its result, or an error number made negative.
///
/// # Safety
/// The call takes no memory away that this program uses, and its pointers are valid.
unsafe fn system_call(number: u64, a: u64, b: u64, c: u64, d: u64) -> u64 {
    let result;
    // SAFETY: the caller vouches for the call; the microkernel destroys RCX and R11 only.
    unsafe {
        asm!("syscall", inout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") u64::MAX, in("r9") 0u64, out("rcx") _, out("r11") _,
            options(nostack));
    }
    result
}

/// Ends the Keep with a sentence on standard error.
fn end(sentence: &str) -> ! {
    let bytes = sentence.as_bytes();
    // SAFETY: the bytes live during the call, which reads them.
    unsafe { system_call(nr::WRITE, 2, bytes.as_ptr() as u64, bytes.len() as u64, 0) };
    loop {
        // SAFETY: takes a number.
        unsafe { system_call(nr::EXIT_GROUP, exit_code::FAULT.into(), 0, 0, 0) };
    }
}

/// The system that the loader runs on.
struct Memory;

/// Memory that [`Memory::map`] has mapped for the runtime: this program has nothing in it.
struct Mapped {
    start: u64,
    size: u64,
}

impl LoaderSystem for Memory {
    type Mapped = Mapped;

    fn map(&mut self, start: u64, size: u64) -> Option<Mapped> {
        let rights = PROT_READ | PROT_WRITE;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        // SAFETY: by its flags the call replaces no memory.
        let mapped = unsafe { system_call(nr::MMAP, start, size, rights, flags) == start };
        mapped.then_some(Mapped { start, size })
    }

    fn protect(&mut self, memory: Mapped, execute: bool) -> bool {
        let rights = PROT_READ | if execute { PROT_EXEC } else { 0 };
        // SAFETY: this program uses nothing of that memory.
        unsafe { system_call(nr::MPROTECT, memory.start, memory.size, rights, 0) == 0 }
    }

    fn copy(
        &mut self,
        shared: u64,
        memory: &mut Mapped,
        to: u64,
        length: u64,
        seen: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let inside = to
            .checked_sub(memory.start)
            .and_then(|before| before.checked_add(length))
            .is_some_and(|end| end <= memory.size);
        if !inside {
            return false;
        }
        // SAFETY: the target lies in memory that was mapped, and nothing refers to it; the source is memory shared with
        // the host, only ever read by this instruction.
        unsafe {
            asm!("rep movsb", inout("rcx") length => _, inout("rsi") shared => _,
                inout("rdi") to => _, options(nostack, preserves_flags));
        }
        let length = usize::try_from(length).unwrap_or(0);
        // SAFETY: the bytes were just written, are private, and are not written while `seen` runs.
        seen(unsafe { core::slice::from_raw_parts(to as *const u8, length) });
        true
    }

    fn fetch(&mut self, shared: u64, to: &mut [u8]) {
        // SAFETY: the target is a slice of ours; the source as in `copy`.
        unsafe {
            asm!("rep movsb", inout("rcx") to.len() => _, inout("rsi") shared => _,
                inout("rdi") to.as_mut_ptr() => _, options(nostack, preserves_flags));
        }
    }
}

/// Loads the runtime and enters it on this stack.
extern "C" fn start(stack: u64) -> ! {
    // SAFETY: the page is part of the measured image and never written.
    let page = unsafe { &INFO };
    let Ok((info, _)) = ImageInfo::ref_from_prefix(page) else {
        end("enarx-loader: the information page is misaligned\n");
    };
    match load(&mut Memory, info) {
        Ok(entry) => {
            // SAFETY: enters the runtime. This program is unmapped, and goes no further unless the call is refused.
            unsafe { system_call(nr::IMAGE_LOADED, entry, stack, 0, 0) };
            end("enarx-loader: the runtime was not entered\n")
        }
        Err(error) => end(error.sentence()),
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    end("enarx-loader: a defect of the loader\n")
}
