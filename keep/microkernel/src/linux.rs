//! The part of the Linux x86-64 ABI that the runtime sees: numbers of system calls, error
//! numbers, flags. Source of the numbers: Linux UAPI headers, `asm/unistd_64.h` and
//! `asm-generic/errno-base.h`, `asm-generic/mman*.h`, `linux/futex.h`, `linux/sched.h`.

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

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = $number;)*
    };
}

/// System-call numbers.
#[allow(missing_docs, reason = "the names are Linux's")]
pub mod nr {
    numbers! {
        READ = 0; WRITE = 1; CLOSE = 3; FSTAT = 5; POLL = 7; MMAP = 9; MPROTECT = 10;
        MUNMAP = 11; BRK = 12; RT_SIGACTION = 13; RT_SIGPROCMASK = 14; RT_SIGRETURN = 15;
        IOCTL = 16; SCHED_YIELD = 24; MREMAP = 25; MADVISE = 28; NANOSLEEP = 35; GETPID = 39;
        CLONE = 56; EXIT = 60; UNAME = 63; READLINK = 89; GETTIMEOFDAY = 96; SYSINFO = 99;
        SIGALTSTACK = 131; PRCTL = 157; ARCH_PRCTL = 158; GETTID = 186; TIME = 201; FUTEX = 202;
        SCHED_GETAFFINITY = 204; SET_TID_ADDRESS = 218; CLOCK_GETTIME = 228; CLOCK_GETRES = 229;
        CLOCK_NANOSLEEP = 230; EXIT_GROUP = 231; TGKILL = 234; OPENAT = 257; NEWFSTATAT = 262;
        SET_ROBUST_LIST = 273; PRLIMIT64 = 302; GETRANDOM = 318;
        /// Enarx: [`crate::exits::Function::Ring`].
        RING = 0x454e_0002;
        /// Enarx: [`crate::exits::Function::Wait`].
        WAIT = 0x454e_0003;
        /// Enarx: an attestation report over the 64 bytes at the first argument, to the second.
        REPORT = 0x454e_0004;
        /// Enarx: the derived key for the request at the first argument, to the second.
        DERIVED_KEY = 0x454e_0005;
        /// Enarx: the runtime image has been copied out of the shared memory.
        IMAGE_LOADED = 0x454e_0006;
    }
}

/// Flags and other constants.
#[allow(missing_docs, reason = "the names are Linux's")]
pub mod flag {
    numbers! {
        PROT_READ = 1; PROT_WRITE = 2; PROT_EXEC = 4;
        MAP_FIXED = 0x10; MAP_ANONYMOUS = 0x20; MAP_FIXED_NOREPLACE = 0x10_0000;
        MADV_DONTNEED = 4; MADV_FREE = 8;
        MREMAP_MAYMOVE = 1; MREMAP_FIXED = 2;
        FUTEX_WAIT = 0; FUTEX_WAKE = 1; FUTEX_WAIT_BITSET = 9; FUTEX_WAKE_BITSET = 10;
        FUTEX_PRIVATE = 128; FUTEX_CLOCK_REALTIME = 256;
        CLONE_VM = 0x100; CLONE_FS = 0x200; CLONE_FILES = 0x400; CLONE_SIGHAND = 0x800;
        CLONE_THREAD = 0x1_0000; CLONE_SYSVSEM = 0x4_0000; CLONE_SETTLS = 0x8_0000;
        CLONE_PARENT_SETTID = 0x10_0000; CLONE_CHILD_CLEARTID = 0x20_0000;
        CLONE_DETACHED = 0x40_0000; CLONE_CHILD_SETTID = 0x100_0000;
        ARCH_SET_GS = 0x1001; ARCH_SET_FS = 0x1002; ARCH_GET_FS = 0x1003;
        SIGILL = 4; SIGABRT = 6; SIGBUS = 7; SIGFPE = 8; SIGSEGV = 11;
        SA_ONSTACK = 0x0800_0000; SA_NODEFER = 0x4000_0000; SA_RESTORER = 0x0400_0000;
        SS_ONSTACK = 1; SS_DISABLE = 2;
        CLOCK_REALTIME = 0; CLOCK_MONOTONIC = 1; CLOCK_PROCESS_CPUTIME = 2;
        CLOCK_THREAD_CPUTIME = 3; CLOCK_MONOTONIC_RAW = 4; CLOCK_REALTIME_COARSE = 5;
        CLOCK_MONOTONIC_COARSE = 6; CLOCK_BOOTTIME = 7;
        TIMER_ABSTIME = 1;
        RLIMIT_STACK = 3;
    }
}
