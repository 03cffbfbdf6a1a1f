// SPDX-License-Identifier: Apache-2.0

//! Creates the process that serves a Keep, and removes what it inherited.

#![expect(
    unsafe_code,
    reason = "fork, descriptors by number and the environment's bytes have no safe interface"
)]

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};

use crate::fork_error::ForkError;

/// The process that serves a Keep. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    pidfd: OwnedFd,
}

impl Child {
    /// Names the process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Creates a process that runs `body` with `work` and ends, at the latest with the calling thread. The caller gets its
/// own `work` back.
///
/// # Errors
/// [`ForkError`].
pub fn fork<W>(work: W, body: impl FnOnce(W) -> Infallible) -> Result<(Child, W), ForkError> {
    // Nothing unwinds into the caller's frames, which are the parent's.
    let in_child = AssertUnwindSafe(|| match split() {
        Ok(None) => {
            body(work);
            unreachable!("the body ends the process")
        }
        other => (other, work),
    });
    match catch_unwind(in_child) {
        Ok((Ok(Some(child)), work)) => Ok((child, work)),
        Ok((Err(error), _)) => Err(error),
        Ok((Ok(None), _)) | Err(_) => exit(1),
    }
}

/// Creates a process that continues as this one does, and ends with the calling thread at the latest. Returns twice: the
/// child in this process, and `None` in the child.
///
/// # Errors
/// [`ForkError`].
pub fn split() -> Result<Option<Child>, ForkError> {
    let threads = fs::read_dir("/proc/self/task").map_err(ForkError::Proc)?;
    if threads.count() != 1 {
        return Err(ForkError::Threads);
    }
    let parent = pidfd_open(getpid(), PidfdFlags::empty())?;
    // SAFETY: this program has one thread (checked above), so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let asked = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            // The parent may have died before. It may have no number in this namespace (getppid(2) then returns 0), but its
            // descriptor still names it.
            if asked.is_err() || has_ended(&parent) {
                exit(1)
            }
            Ok(None)
        }
        pid => {
            let pid =
                Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            // It is our child and not reaped, so the number still names it.
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Some(Child { pidfd }))
        }
    }
}

/// True if the process of this descriptor has ended, even if nobody has waited for it; or if this cannot be determined.
fn has_ended(process: &OwnedFd) -> bool {
    // It is readable from then on (pidfd_open(2)).
    let mut process = [PollFd::new(process, PollFlags::IN)];
    poll(&mut process, Some(&Timespec::default())) != Ok(0)
}

/// The namespaces that a process has created for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Namespaces of users, processes, IPC and host names; the next child is the first process in them.
    pub own: bool,
    /// A network namespace, without any address, and without the abstract Unix sockets of the host.
    pub network: bool,
}

/// Moves this process to new namespaces of users, processes, IPC and host names, and with `network` to a new network
/// namespace, as far as this machine allows it.
pub fn leave_namespaces(network: bool) -> Namespaces {
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    // A machine may forbid user namespaces, or limit the number of network namespaces.
    for users in [libc::CLONE_NEWUSER, 0] {
        for networks in [libc::CLONE_NEWNET, 0] {
            if networks != 0 && !network {
                continue;
            }
            let others = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
            // SAFETY: takes numbers; this process has one thread, and no memory is involved.
            if unsafe { libc::unshare(users | networks | others) } != 0 {
                continue;
            }
            if users != 0 {
                // Without a mapped user ID, no further namespaces can be created within this one; the runtime of a
                // process Keep creates some.
                let _ = fs::write("/proc/self/setgroups", "deny");
                let _ = fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()));
                let _ = fs::write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()));
            }
            return Namespaces {
                own: true,
                network: networks != 0,
            };
        }
    }
    Namespaces::default()
}

/// Ends this process at once: the kernel releases its resources.
pub fn exit(code: i32) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(code) }
}

/// Closes all descriptors but these.
///
/// # Errors
/// The system's.
///
/// # Safety
/// Nothing that is used afterwards owns another descriptor. In a child that was just created, that includes everything
/// in the frames of its parent.
pub unsafe fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first: libc::c_uint = 0;
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first > last {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    for fd in kept {
        let fd = fd.unsigned_abs();
        if let Some(last) = fd.checked_sub(1) {
            close(first, last)?;
        }
        first = fd + 1;
    }
    close(first, libc::c_uint::MAX)
}

// SAFETY: the declaration of environ(7).
unsafe extern "C" {
    /// The environment (environ(7)).
    static mut environ: *mut *mut libc::c_char;
}

/// Empties the environment and overwrites its bytes: secrets are kept there.
///
/// # Safety
/// This program has one thread, and no reference into the environment.
pub unsafe fn clear_environment() {
    // SAFETY: `environ` is null or a list of strings that ends with null (environ(7)); each ends with zero and is
    // this process's to write. No other thread reads them.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            let mut byte = *next;
            while *byte != 0 {
                byte.write_volatile(0);
                byte = byte.add(1);
            }
            next = next.add(1);
        }
        if !environ.is_null() {
            *environ = std::ptr::null_mut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_shows_before_it_is_waited_for() {
        assert!(!has_ended(
            &pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
        ));
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(!has_ended(&pidfd));
        child.kill().unwrap();
        let ended = std::iter::repeat_with(|| has_ended(&pidfd));
        assert!(ended.take(1_000_000).any(|ended| ended));
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
    }
}
