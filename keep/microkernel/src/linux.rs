// SPDX-License-Identifier: Apache-2.0

//! The part of the Linux x86-64 ABI that the runtime sees: error numbers and flags; the numbers of the
//! calls are in `enarx-syscall`. Source of the numbers: Linux UAPI headers, `asm-generic/errno-base.h`,
//! `asm-generic/mman*.h`, `linux/futex.h`, `linux/sched.h`.

use enarx_syscall as nr;

/// Error numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Errno {
    /// Operation not permitted.
    Perm = 1,
    /// No such file or directory.
    NoEnt = 2,
    /// Input/output error.
    Io = 5,
    /// Bad file descriptor.
    BadF = 9,
    /// Try again.
    Again = 11,
    /// Out of memory.
    NoMem = 12,
    /// Permission denied.
    Access = 13,
    /// Bad address.
    Fault = 14,
    /// Device or resource busy.
    Busy = 16,
    /// File exists.
    Exist = 17,
    /// Invalid argument.
    Inval = 22,
    /// No such device of this kind (`ioctl`).
    NoTty = 25,
    /// Function not implemented.
    NoSys = 38,
    /// Timed out.
    TimedOut = 110,
}

impl Errno {
    /// True if a system call failed because there is no such call, or no such file or device, in any
    /// Keep.
    #[must_use]
    pub const fn means_absent(self) -> bool {
        matches!(self, Self::NoSys | Self::NoEnt | Self::BadF | Self::NoTty)
    }
}

/// System calls whose failure means nothing: those that code tries, at the start or before another, and
/// can do without (the C library's `readlink` of its program's name, and `clone3` before `clone`;
/// Wasmtime's `memfd_create` before it copies a memory's image), and those of Enarx that need a secure
/// processor.
pub const MAY_FAIL: [u64; 5] = [
    nr::READLINK,
    nr::CLONE3,
    nr::MEMFD_CREATE,
    nr::REPORT,
    nr::DERIVED_KEY,
];

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = $number;)*
    };
}

/// Flags and other constants.
#[allow(missing_docs, reason = "the names are Linux's")]
pub mod flag {
    pub use enarx_syscall::memory::{
        MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, PROT_EXEC, PROT_READ, PROT_WRITE,
    };

    numbers! {
        MADV_DONTNEED = 4;
        FUTEX_WAIT = 0; FUTEX_WAKE = 1; FUTEX_WAIT_BITSET = 9; FUTEX_WAKE_BITSET = 10;
        FUTEX_PRIVATE = 128; FUTEX_CLOCK_REALTIME = 256;
        CLONE_VM = 0x100; CLONE_FS = 0x200; CLONE_FILES = 0x400; CLONE_SIGHAND = 0x800;
        CLONE_THREAD = 0x1_0000; CLONE_SYSVSEM = 0x4_0000; CLONE_SETTLS = 0x8_0000;
        CLONE_PARENT_SETTID = 0x10_0000; CLONE_CHILD_CLEARTID = 0x20_0000;
        CLONE_DETACHED = 0x40_0000; CLONE_CHILD_SETTID = 0x100_0000;
        ARCH_SET_GS = 0x1001; ARCH_SET_FS = 0x1002; ARCH_GET_FS = 0x1003;
        SIGILL = 4; SIGFPE = 8; SIGSEGV = 11;
        SA_ONSTACK = 0x0800_0000;
        SS_DISABLE = 2;
        CLOCK_REALTIME = 0; CLOCK_MONOTONIC = 1; CLOCK_PROCESS_CPUTIME = 2;
        CLOCK_THREAD_CPUTIME = 3; CLOCK_MONOTONIC_RAW = 4; CLOCK_REALTIME_COARSE = 5;
        CLOCK_MONOTONIC_COARSE = 6; CLOCK_BOOTTIME = 7;
        TIMER_ABSTIME = 1;
        RLIMIT_STACK = 3;
        PR_SET_NAME = 15;
    }
}
