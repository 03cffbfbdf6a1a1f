// SPDX-License-Identifier: Apache-2.0

//! Performs the requests of one Keep: the host's end of the sallyport.
//!
//! Trusts nothing from the Keep. Every request is checked against the [`Grant`](grant::Grant); malformed or ungranted
//! requests complete with a status, and a Keep that breaks the ring's rules is ended.
//!
//! It has no threads: the threads of the VMM call [`SharedExecutor::drain`] or [`SharedExecutor::wait`]. A
//! thread holds the lock for a few requests at a time, and does not sleep with it, except in a file system
//! that blocks, or in a stream whose data another program took first. So ending the Keep needs no lock of a
//! serving thread: [`SharedExecutor::interrupt`], a signal ([`crate::interrupt`]), and the log's last lines.

pub mod addresses;
mod answer;
mod buffer;
mod error;
mod executor;
pub mod fault;
mod files;
pub mod grant;
mod handles;
pub mod interfaces;
pub mod interrupt;
pub mod launch;
mod log;
pub mod lookups;
mod names;
mod network;
mod pending;
pub mod poller;
mod quota;
pub mod rate;
pub mod refused;
mod resolver;
mod shared;
mod sleep;
mod sockets;
mod step;
mod streams;
#[cfg(test)]
mod tests;
pub mod traffic;
mod watch;

use enarx_confine::seccomp::{Allow, calls, word};

use crate::grant::Services;

pub use crate::error::ExecutorError;
pub use crate::handles::DESCRIPTORS;
pub use crate::shared::SharedExecutor;
pub use crate::step::Progress;

/// Returns the calls allowed to threads that use an executor with these permissions, besides what any thread may
/// ([`enarx_confine::seccomp::thread`]).
pub fn allowed(services: impl Into<Services>) -> impl Iterator<Item = Allow> {
    let Services {
        network,
        door,
        listener,
    } = services.into();
    // With TCP it may accept on any socket that listens.
    let accept = [door, listener].into_iter().flatten();
    let accept = accept.filter(move |_| !network.tcp);
    let accept = accept.map(|it| Allow::call(libc::SYS_accept4).descriptor(0, it));
    // A server signals to a peer that its answer is complete before it closes the connection.
    let shutdown = listener.map(|_| Allow::call(libc::SYS_shutdown));
    let shutdown = shutdown.filter(|_| !network.tcp && !network.udp);
    // A debug build of the standard library asks for a descriptor's flags before it closes it.
    let flags = Allow::call(libc::SYS_fcntl).word(1, &[word(libc::F_GETFD)]);
    calls(SYSTEM_CALLS)
        .chain([flags])
        .chain(accept)
        .chain(shutdown)
        .chain(network::allowed(network))
}

/// System calls that the executor makes in any case.
const SYSTEM_CALLS: &[i64] = &[
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
];
