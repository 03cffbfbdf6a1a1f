// SPDX-License-Identifier: Apache-2.0

//! Says which system call a filter has stopped, instead of a mute end. This is for people: a program that was taken over
//! can forge it.

#![expect(
    unsafe_code,
    reason = "a signal handler and its installation have no safe interface"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// `si_code` of a `SIGSYS` that a filter sent (Linux, include/uapi/asm-generic/siginfo.h).
const SYS_SECCOMP: libc::c_int = 1;
/// Byte offset of `si_syscall` in `siginfo_t` on x86-64 (the same file: after `si_call_addr`).
const SI_SYSCALL: usize = 24;

/// How long a part of the sentence may wait for its reader, in milliseconds.
const WRITE_TIMEOUT_MS: libc::c_int = 100;

const _: () = assert!(size_of::<libc::siginfo_t>() == 128);

/// The exit code of a program that made a forbidden system call.
static EXIT_CODE: AtomicI32 = AtomicI32::new(1);

/// The descriptor that takes a [`record`] instead of a sentence on standard error; -1 for none.
static RECORDS: AtomicI32 = AtomicI32::new(-1);

/// First bytes of a [`record`].
pub const RECORD_START: [u8; 4] = [0xff; 4];

/// A forbidden system call as bytes: [`RECORD_START`], and its number in little-endian order.
#[must_use]
pub const fn record(number: u32) -> [u8; 8] {
    let [first, second, third, fourth] = RECORD_START;
    let [a, b, c, d] = number.to_le_bytes();
    [first, second, third, fourth, a, b, c, d]
}

/// As [`report_violations`], for a process with a supervisor: a [`record`] goes to `descriptor`, which must stay
/// open for as long as the process lives.
///
/// # Errors
/// The system's.
pub fn record_violations(descriptor: BorrowedFd<'static>, exit_code: u8) -> io::Result<()> {
    RECORDS.store(descriptor.as_raw_fd(), Ordering::Relaxed);
    report_violations(exit_code)
}

/// From now on a forbidden system call of a confined thread ends the program with one sentence and
/// `exit_code`. It changes the program's disposition of `SIGSYS`: for programs, not for libraries.
///
/// # Errors
/// The system's.
pub fn report_violations(exit_code: u8) -> io::Result<()> {
    EXIT_CODE.store(exit_code.into(), Ordering::Relaxed);
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros are a valid `sigaction`: no flags, an empty mask, the default action.
    let action = unsafe { action.assume_init_mut() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = stopped;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler is async-signal-safe and has the type that `SA_SIGINFO` asks for.
    if unsafe { libc::sigaction(libc::SIGSYS, action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn stopped(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a `siginfo_t` of 128 bytes, valid during the handler; `si_syscall` is an
    // aligned 32-bit field of it for this cause, and zero-filled bytes otherwise.
    let (code, number) = unsafe {
        (
            (*info).si_code,
            info.byte_add(SI_SYSCALL).cast::<u32>().read(),
        )
    };
    // Somebody else's SIGSYS has no number.
    let number = if code == SYS_SECCOMP { number } else { 0 };
    let records = RECORDS.load(Ordering::Relaxed);
    if records >= 0 {
        let record = record(number);
        // SAFETY: write(2) and _exit(2) are async-signal-safe, and allowed to every confined thread; `record` lives
        // during the call.
        unsafe {
            libc::write(records, record.as_ptr().cast(), record.len());
            libc::_exit(EXIT_CODE.load(Ordering::Relaxed));
        }
    }
    // Linux has fewer than 10,000 calls; of a higher number the last digits do.
    let mut digits = [b'0'; 4];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    let parts: [&[u8]; 3] = [
        b"enarx: stopped: a thread that serves the Keep made the forbidden system call ",
        &digits,
        b"; please report this\n",
    ];
    for part in parts {
        let mut stderr = libc::pollfd {
            fd: 2,
            events: libc::POLLOUT,
            revents: 0,
        };
        // The end does not wait for a reader that does not read.
        // SAFETY: poll(2) and write(2) are async-signal-safe, and allowed to every confined thread; `stderr`
        // and `part` live during the calls.
        unsafe {
            if libc::poll(&raw mut stderr, 1, WRITE_TIMEOUT_MS) == 1 {
                libc::write(2, part.as_ptr().cast(), part.len());
            }
        }
    }
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(EXIT_CODE.load(Ordering::Relaxed)) };
}
