// SPDX-License-Identifier: Apache-2.0

//! Where everything lies: guest physical and virtual addresses of a Keep.
//!
//! One source for the microkernel, for the VMM that launches it and for the measurement.

/// Size of a page, in bytes.
pub const PAGE: u64 = 4096;
/// Size of a large page, in bytes.
pub const LARGE: u64 = 2 << 20;
/// Size of a huge page, in bytes (only used by the direct map).
pub const HUGE: u64 = 1 << 30;

/// End of the launch area, the guest physical memory that holds the microkernel, its tables and
/// the first page tables. It begins at 0.
pub const LAUNCH_END: u64 = LARGE;
/// Guest physical address of the memory shared with the host: the sallyport region, then the exit
/// memory (`enarx-exits`). Under SNP its pages are shared pages.
pub const SHARED_PHYSICAL: u64 = LAUNCH_END;
/// Size of the sallyport region, in bytes.
pub const SALLYPORT_SIZE: u64 = 10 << 20;
/// Guest physical address of the exit memory, one large page.
pub const EXIT_PHYSICAL: u64 = SHARED_PHYSICAL + SALLYPORT_SIZE;
/// End of the shared memory. Everything after it is the runtime image and free frames.
pub const SHARED_END: u64 = EXIT_PHYSICAL + LARGE;

/// Virtual address of the microkernel image (`kernel.ld` links it here); its physical base is
/// [`KERNEL_PHYSICAL`].
pub const KERNEL_VIRTUAL: u64 = 0xffff_ffff_8000_0000;
/// Guest physical address of the first page of the microkernel image.
pub const KERNEL_PHYSICAL: u64 = 0x1_0000;
/// Virtual address of the direct map: all guest physical memory, as the microkernel sees it.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Guest physical memory that the direct map covers, in bytes.
pub const DIRECT_MAP_SIZE: u64 = 512 * HUGE;

/// Virtual address of the kernel stacks, one every [`STACK_STRIDE`] bytes with an unmapped guard
/// page below each.
pub const STACKS_VIRTUAL: u64 = KERNEL_VIRTUAL + LARGE;
/// Distance from one kernel stack to the next, in bytes.
pub const STACK_STRIDE: u64 = 0x8000;
/// Virtual address of the exit memory (`enarx-exits`).
pub const EXIT_VIRTUAL: u64 = KERNEL_VIRTUAL + 2 * LARGE;

/// Lowest address of a vCPU's kernel stack.
#[must_use]
pub const fn stack_bottom(vcpu: u64) -> u64 {
    STACKS_VIRTUAL + vcpu * STACK_STRIDE + PAGE
}

/// Address of the task state segment of a vCPU that the microkernel has started: a page of its own, two
/// above the kernel stack.
#[must_use]
pub const fn own_tss(vcpu: u64) -> u64 {
    stack_bottom(vcpu) + KERNEL_STACK + PAGE
}

/// Most virtual CPUs of a Keep.
pub const MAX_VCPUS: usize = 64;
/// Size of one vCPU's kernel stack, in bytes.
pub const KERNEL_STACK: u64 = 0x4000;
/// Bytes at the top of each kernel stack that the SYSCALL entry uses: where the stack begins, and
/// room for the user stack pointer.
pub const STACK_RECORD: u64 = 16;

/// First user address; the pages below stay unmapped so that null pointers fault.
pub const USER_START: u64 = 0x1_0000;
/// End of user addresses: the last page below the canonical hole is never mapped, because a
/// SYSCALL at its end would return to a non-canonical address.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// First address that `mmap` chooses, before randomisation.
pub const MMAP_START: u64 = 0x1000_0000_0000;
/// End of the addresses that `mmap` chooses.
pub const MMAP_END: u64 = 0x6000_0000_0000;
/// User address of the sallyport region.
pub const SALLYPORT_USER: u64 = 0x7000_0000_0000;
/// User address of the user pages of the microkernel image: vDSO, system-call page, clock page.
pub const VDSO_USER: u64 = 0x7000_1000_0000;
/// User address of the runtime image in the memory shared with the host, from where the loader of a
/// measured Keep copies it.
pub const IMAGE_USER: u64 = 0x7000_2000_0000;
/// Top of the runtime's first stack.
pub const STACK_TOP: u64 = 0x7000_4000_0000;
/// Size of the runtime's first stack, in bytes.
pub const STACK_SIZE: u64 = 8 << 20;
/// Size of the first thread's alternate signal stack, in bytes.
pub const SIGNAL_STACK_SIZE: u64 = LARGE;
/// The alternate signal stack that the first thread has from the start; unmapped addresses lie between
/// it and the first stack.
pub const SIGNAL_STACK: u64 = STACK_TOP - STACK_SIZE - LARGE - SIGNAL_STACK_SIZE;

/// The value of CR2 while no page fault is being dealt with: an address that no user access can have.
pub const NO_FAULT: u64 = 0xffff_ffff_ffff_f000;

const _: () = assert!(KERNEL_PHYSICAL.is_multiple_of(PAGE) && KERNEL_PHYSICAL < LAUNCH_END);
const _: () = assert!(STACKS_VIRTUAL + MAX_VCPUS as u64 * STACK_STRIDE <= EXIT_VIRTUAL);
const _: () = assert!(own_tss(0) + PAGE <= STACKS_VIRTUAL + STACK_STRIDE);
const _: () = assert!(SALLYPORT_SIZE.is_multiple_of(LARGE));
const _: () = assert!(STACK_TOP.is_multiple_of(LARGE) && STACK_SIZE.is_multiple_of(LARGE));

/// Rounds `value` up to a multiple of `align`, a power of two; `None` on overflow.
#[must_use]
pub const fn round_up(value: u64, align: u64) -> Option<u64> {
    match value.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}
