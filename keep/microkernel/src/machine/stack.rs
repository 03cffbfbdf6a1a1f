// SPDX-License-Identifier: Apache-2.0

//! Data at fixed places: this vCPU's number by its stack, the boot page, the clock page.

#![expect(unsafe_code, reason = "symbols and RSP have no safe interface")]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

use enarx_boot::boot_page::BootInfo;
use enarx_boot::layout::{STACK_STRIDE, STACKS_VIRTUAL, stack_bottom};
use enarx_microkernel::clock::Clock;
use zerocopy::{FromBytes, FromZeros};

use super::symbols::{BOOT_PAGE, CLOCK_PAGE};

/// The number of this vCPU: each has its own kernel stack.
pub fn current_vcpu() -> usize {
    let stack: u64;
    // SAFETY: reading RSP has no effect.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    ((stack - STACKS_VIRTUAL) / STACK_STRIDE) as usize
}

/// Zeroes this vCPU's kernel stack below the caller's frame.
#[inline(never)]
pub fn wipe() {
    let bottom = stack_bottom(current_vcpu() as u64);
    // SAFETY: below the stack pointer lies nothing that is used again: there is no red zone, and this
    // function pushes nothing afterwards.
    unsafe {
        asm!("mov rcx, rsp", "sub rcx, rdi", "shr rcx, 3", "rep stosq", inout("rdi") bottom => _,
            in("rax") 0u64, out("rcx") _, options(nostack));
    }
}

/// The boot page's contents.
pub fn boot_info() -> BootInfo {
    // SAFETY: the page is part of the image, written by the launcher before the first entry and
    // by nobody afterwards.
    let page = unsafe { &BOOT_PAGE };
    // The page is larger than the structure; a zeroed one is refused at boot.
    BootInfo::read_from_prefix(page).map_or_else(|_| BootInfo::new_zeroed(), |(info, _)| info)
}

/// The word of the clock page with the latest time given out. User code writes it, too, hence an atomic.
pub fn last_time() -> &'static AtomicU64 {
    let page = (&raw mut CLOCK_PAGE).cast::<u64>();
    // SAFETY: the page is part of the image and so lives forever; this word is only accessed with
    // atomics.
    unsafe { AtomicU64::from_ptr(page.add(3)) }
}

/// Publishes the clock's parameters to user code.
pub fn set_clock(clock: &Clock) {
    let page = (&raw mut CLOCK_PAGE).cast::<u64>();
    // SAFETY: the page is part of the image and this is called once, before user code runs.
    unsafe {
        page.write_volatile(clock.start);
        page.add(1).write_volatile(clock.multiplier);
        page.add(2).write_volatile(clock.wall_ns);
    }
}
