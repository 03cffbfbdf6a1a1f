// SPDX-License-Identifier: Apache-2.0

//! The numbers of the system calls of a Keep: the border between CPL3 (runtime and loader) and the
//! microkernel. Those of Linux are in `asm/unistd_64.h`; Enarx's own are outside Linux's range, with "EN"
//! in the upper half.
#![no_std]
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "the names are Linux's")]

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = $number;)*
    };
}

numbers! {
    READ = 0; WRITE = 1; CLOSE = 3; FSTAT = 5; POLL = 7; MMAP = 9; MPROTECT = 10;
    MUNMAP = 11; BRK = 12; RT_SIGACTION = 13; RT_SIGPROCMASK = 14; RT_SIGRETURN = 15;
    IOCTL = 16; SCHED_YIELD = 24; MADVISE = 28; NANOSLEEP = 35; GETPID = 39;
    CLONE = 56; EXIT = 60; READLINK = 89; GETTIMEOFDAY = 96; SYSINFO = 99;
    SIGALTSTACK = 131; PRCTL = 157; ARCH_PRCTL = 158; GETTID = 186; TIME = 201; FUTEX = 202;
    SCHED_GETAFFINITY = 204; SET_TID_ADDRESS = 218; CLOCK_GETTIME = 228; CLOCK_GETRES = 229;
    CLOCK_NANOSLEEP = 230; EXIT_GROUP = 231; TGKILL = 234; OPENAT = 257; NEWFSTATAT = 262;
    SET_ROBUST_LIST = 273; PRLIMIT64 = 302; GETRANDOM = 318; MEMFD_CREATE = 319; CLONE3 = 435;
    /// Enarx: rings the doorbell.
    RING = 0x454e_0002;
    /// Enarx: `(seen, nanoseconds, until)`: sleeps until the tail of the completion ring is not `seen`, or for that
    /// time; all ones: without limit. The third is the number of an `enarx_sallyport::Until`.
    WAIT = 0x454e_0003;
    /// Enarx: an attestation report over the 64 bytes at the first argument, to the second.
    REPORT = 0x454e_0004;
    /// Enarx: the derived key for the request at the first argument, to the second.
    DERIVED_KEY = 0x454e_0005;
    /// Enarx: the runtime image has been copied out of the shared memory; goes on at the first argument
    /// with the stack pointer of the second.
    IMAGE_LOADED = 0x454e_0006;
    /// Enarx: from now on this Keep has no reports and no derived keys.
    LAST_REPORT = 0x454e_0007;
}

/// Flags of calls about memory (Linux `asm-generic/mman-common.h`).
pub mod memory {
    numbers! {
        PROT_READ = 1; PROT_WRITE = 2; PROT_EXEC = 4;
        MAP_PRIVATE = 2; MAP_FIXED = 0x10; MAP_ANONYMOUS = 0x20; MAP_FIXED_NOREPLACE = 0x10_0000;
    }
}
