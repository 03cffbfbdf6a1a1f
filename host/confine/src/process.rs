// SPDX-License-Identifier: Apache-2.0

//! Confines a whole process before it serves a Keep: every thread that it starts afterwards inherits everything.
//!
//! Only for a process of one thread: Landlock and filters are a thread's own.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{DumpableBehavior, chdir, chroot, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::SeccompAction;

use super::ConfineError;
use super::landlock::{self, Enforcement, Tcp};
use super::seccomp::{Allow, apply, calls, compile, refuse, wide, word};

/// Flags of pthread_create(3) for clone(2): a thread, never a process.
pub const THREAD: u64 = wide(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);

/// The calls by which a confined process starts threads and confines them further.
pub fn threads() -> impl Iterator<Item = Allow> {
    let control = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS].map(word);
    // Filters can only be added; the argument is in memory, where it cannot be compared. With a new
    // thread the C library counts processors, for its heaps.
    calls(&[
        libc::SYS_clone3,
        libc::SYS_sched_getaffinity,
        libc::SYS_seccomp,
    ])
    .chain([
        Allow::call(libc::SYS_clone).long(0, &[THREAD]),
        Allow::call(libc::SYS_prctl).word(0, &control),
    ])
}

/// The remedy for an error of making a process or a thread, as the end of its sentence: there are as many as may be (`EAGAIN`,
/// fork(2), pthread_create(3)). Empty for other errors.
#[must_use]
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            ": as many processes and threads run as this user or this control group may have; end some, or raise the \
            limit (`ulimit -u`, pids.max)"
        }
        _ => "",
    }
}

/// Gives up all capabilities, and keeps other processes of the same user from tracing this one.
///
/// # Errors
/// [`ConfineError::Privileges`].
pub fn give_up_privileges() -> Result<(), ConfineError> {
    let refused = |errno: rustix::io::Errno| ConfineError::Privileges(io::Error::from(errno));
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).map_err(refused)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused)
}

/// Hides all file names from the process except those in a folder of /proc, which are the numbers of its own
/// descriptors. Landlock forbids opening files that are not granted, but not querying names, attributes and link
/// targets, or setting times. Without permission to do this (`EPERM`: no user namespace, and not root), only Landlock
/// applies.
fn leave_names() -> io::Result<()> {
    match chroot("/proc/self/fdinfo") {
        Ok(()) => Ok(chdir("/")?),
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Leaves the process the granted directories (each with true if it is read-only), what `tcp` says of TCP, and the calls
/// that are `allowed`. It loses all capabilities and, where it may, the names of all other files, and cannot be traced by its
/// user's other processes.
///
/// # Errors
/// [`ConfineError`]: the process is confined in part only, and must not serve a Keep.
pub fn confine<'a>(
    directories: impl IntoIterator<Item = (BorrowedFd<'a>, bool)>,
    tcp: &Tcp,
    allowed: impl IntoIterator<Item = Allow>,
) -> Result<Enforcement, ConfineError> {
    // With its first thread the C library sets handlers of signals and counts processors, which is forbidden afterwards.
    let first = std::thread::Builder::new()
        .spawn(|| drop(vec![0_u8; 64]))
        .map_err(ConfineError::Privileges)?;
    // In parallel, because both take a third of a millisecond.
    let filter = compile(allowed, SeccompAction::Trap)?;
    first
        .join()
        .map_err(|_| ConfineError::Privileges(io::ErrorKind::Other.into()))?;
    // The flags of clone3(2) are in memory, so the C library is made to use clone(2).
    let no_clone3 = refuse(
        &[libc::SYS_clone3],
        SeccompAction::Errno(word(libc::ENOSYS)),
    )?;
    leave_names().map_err(ConfineError::Privileges)?;
    give_up_privileges()?;
    let landlock = landlock::restrict(directories, tcp)?;
    apply(&no_clone3)?;
    apply(&filter)?;
    Ok(landlock)
}
