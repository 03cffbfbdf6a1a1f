// SPDX-License-Identifier: Apache-2.0

//! The registers of interrupted user code, as the entry code leaves them on the kernel stack.

use zerocopy::FromBytes;

/// The registers of interrupted user code, in the order in which the entry code pushes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Exception vector; [`SYSTEM_CALL`] for a SYSCALL.
    pub vector: u64,
    /// Error code of the exception; 0 if there is none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub flags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<Registers>() == 22 * 8);

impl Registers {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        zerocopy::transmute!([0u64; 22])
    }
}

/// [`Registers::vector`] of a system call.
pub const SYSTEM_CALL: u64 = 256;

/// Exception vectors (AMD64 APM volume 2, section 8.2).
pub mod vector {
    /// #DE, divide error.
    pub const DIVIDE: u64 = 0;
    /// #UD, invalid opcode.
    pub const INVALID_OPCODE: u64 = 6;
    /// #PF, page fault.
    pub const PAGE_FAULT: u64 = 14;
    /// #VC, VMM communication.
    pub const VMM_COMMUNICATION: u64 = 29;
}
