// SPDX-License-Identifier: Apache-2.0

//! Ending a server with a signal: SIGTERM and SIGINT end its listener, which makes the Keep finish.
//!
//! The signals are blocked before the process that serves the Keep is made, so that it inherits this: a terminal sends
//! SIGINT to all of them.

#![expect(
    unsafe_code,
    reason = "sets of signals and descriptors of signals have no safe interface"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

/// A listener that ends when this program is told to.
#[derive(Debug)]
pub struct Stop {
    listener: OwnedFd,
    signals: OwnedFd,
    set: libc::sigset_t,
    grace: Duration,
}

impl Stop {
    /// Takes SIGTERM and SIGINT for `listener`, whose server has the time `grace` to finish.
    ///
    /// # Errors
    /// The system's.
    pub fn new(listener: BorrowedFd<'_>, grace: Duration) -> io::Result<Self> {
        let listener = listener.try_clone_to_owned()?;
        let mut set = MaybeUninit::uninit();
        // SAFETY: the calls fill the set, change the mask of this thread, and make a descriptor that nobody owns.
        let (descriptor, set) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            let set = set.assume_init();
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            (libc::signalfd(-1, &raw const set, flags), set)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            listener,
            // SAFETY: it was just made.
            signals: unsafe { OwnedFd::from_raw_fd(descriptor) },
            set,
            grace,
        })
    }

    /// The descriptor that is readable once such a signal has come.
    pub fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Ends the listener, for this program and for the Keep; returns how long the server has now. Another signal has its
    /// ordinary effect.
    ///
    /// # Errors
    /// The system's.
    pub fn end(self) -> io::Result<Duration> {
        let mut taken = [0; size_of::<libc::signalfd_siginfo>()];
        // The one that came is taken: unblocked, it would end this program.
        while rustix::io::read(&self.signals, &mut taken).is_ok() {}
        // SAFETY: changes the mask of this thread by the set that was filled above.
        if unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const self.set, null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        shutdown(&self.listener, Shutdown::Both)?;
        Ok(self.grace)
    }
}
