// SPDX-License-Identifier: Apache-2.0

//! The start of a runtime's process: the descriptors and rules that it gets, and its way from the fork to the runtime's first
//! instruction. The child is this program's code until then, and believed; from then on it is hostile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use enarx_confine::landlock;
use enarx_executor::refused::RefusedCalls;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child::{self, Plan, Stage};
use crate::error::LaunchError;
use crate::filter::Filters;
use crate::reaper::Reaper;

/// Longest time that a child may take until it has confined itself.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The descriptors and rules of a process that is not spawned yet.
pub(crate) struct Parts {
    image: OwnedFd,
    null: OwnedFd,
    /// The end of `last_words` that the child writes to.
    stderr: OwnedFd,
    last_words: OwnedFd,
    socket: OwnedFd,
    childs_socket: OwnedFd,
    landlock: Option<OwnedFd>,
    filters: Filters,
}

impl Parts {
    /// Makes the parts for the program `runtime`.
    ///
    /// # Errors
    /// [`LaunchError::System`], [`LaunchError::Confine`].
    pub(crate) fn new(runtime: &[u8], refused_calls: RefusedCalls) -> Result<Self, LaunchError> {
        let image = seal_image(runtime).map_err(LaunchError::system(
            "the runtime's image could not be put into memory, to which a limit of file sizes (ulimit -f) applies, too",
        ))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(LaunchError::system("/dev/null could not be opened"))?;
        let (last_words, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(LaunchError::system("a pipe could not be made"))?;
        let (socket, childs_socket) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(LaunchError::system("the doorbell could not be made"))?;
        Ok(Self {
            image,
            null,
            stderr,
            last_words,
            socket,
            childs_socket,
            landlock: landlock::deny_all()?,
            filters: Filters::new(refused_calls)?,
        })
    }

    /// Spawns the process over the shared `region`, with at most `memory` bytes and `threads` threads. Returns it
    /// with this side's end of the doorbell.
    ///
    /// # Errors
    /// [`LaunchError::System`].
    pub(crate) fn spawn(
        self,
        region: BorrowedFd<'_>,
        memory: u64,
        threads: u64,
    ) -> Result<(Reaper, OwnedFd), LaunchError> {
        // The child's ends are closed on this side when this returns: then its end is seen here.
        let child = child::spawn(&Plan {
            region,
            socket: self.childs_socket.as_fd(),
            image: self.image.as_fd(),
            null: self.null.as_fd(),
            stderr: self.stderr.as_fd(),
            landlock: self.landlock.as_ref().map(AsFd::as_fd),
            refuse: &self.filters.refuse,
            notify: &self.filters.notify,
            kill: &self.filters.kill,
            memory,
            threads,
        })
        .map_err(LaunchError::system(
            "the runtime's process could not be made",
        ))?;
        Ok((Reaper::new(child, self.last_words), self.socket))
    }
}

/// Waits until the child has confined itself, and lets it become the runtime. Returns its report of its
/// confinement, and the listener for forbidden calls if it has one; `None` if the time limit was reached first.
///
/// # Errors
/// [`LaunchError::Start`], [`LaunchError::System`].
pub(crate) fn admit(
    socket: &OwnedFd,
    deadline: Option<Instant>,
) -> Result<Option<(u8, Option<OwnedFd>)>, LaunchError> {
    let Some((had, listener)) = take_report(socket, deadline)? else {
        return Ok(None);
    };
    if let Some(listener) = &listener
        && !allow_start(socket, listener, deadline)?
    {
        return Ok(None);
    }
    Ok(Some((had, listener)))
}

/// How often sealing is tried, and the pause between two tries: a second in all.
const SEAL_TRIES: u32 = 50;
const SEAL_PAUSE: Duration = Duration::from_millis(20);

/// The image in a memory file that nobody can change any more.
fn seal_image(bytes: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let image = match memfd_create(c"enarx-runtime", flags | MemfdFlags::EXEC) {
        // Linux before 6.3 knows no such flag and makes every memory file executable.
        Err(Errno::INVAL) => memfd_create(c"enarx-runtime", flags)?,
        result => result?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&image, rest))?;
        rest = rest.get(count..).unwrap_or(&[]);
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    // Memory that the kernel is just moving cannot be sealed: it says so for a moment.
    for _ in 0..SEAL_TRIES {
        match fcntl_add_seals(&image, seals) {
            Err(Errno::BUSY) => thread::sleep(SEAL_PAUSE),
            other => return other.map(|()| image),
        }
    }
    Err(Errno::BUSY)
}

/// Waits until the child has confined itself; `None` when the time limit was reached first.
fn take_report(
    socket: &OwnedFd,
    deadline: Option<Instant>,
) -> Result<Option<(u8, Option<OwnedFd>)>, LaunchError> {
    if !await_child(&mut [PollFd::new(socket, PollFlags::IN)], deadline)? {
        return Ok(None);
    }
    let mut message = [0; 6];
    let (count, listener) = child::receive_report(socket.as_fd(), &mut message).map_err(
        LaunchError::system("the runtime's start could not be observed"),
    )?;
    match message.get(..count) {
        Some(&[child::CONFINED, report]) => Ok(Some((report, listener))),
        bytes => Err(bytes
            .and_then(failure)
            .unwrap_or_else(|| not_started("it ended early", libc::ECHILD))),
    }
}

/// Waits until the child is about to become the runtime, and lets it; false when the time limit was reached
/// first.
fn allow_start(
    socket: &OwnedFd,
    listener: &OwnedFd,
    deadline: Option<Instant>,
) -> Result<bool, LaunchError> {
    let mut fds = [socket, listener].map(|fd| PollFd::new(fd, PollFlags::IN));
    if !await_child(&mut fds, deadline)? {
        return Ok(false);
    }
    // Otherwise it has ended, or says what failed, which is read later.
    if fds[1].revents().contains(PollFlags::IN) {
        child::allow_start(listener.as_fd()).map_err(|source| LaunchError::Start {
            what: "its start could not be allowed",
            source,
        })?;
    }
    Ok(true)
}

/// Waits for a word of a child that starts; false when the time limit was reached first.
fn await_child(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool, LaunchError> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = Timespec::try_from(left.unwrap_or(START_LIMIT).min(START_LIMIT)).ok();
    let ready = rustix::io::retry_on_intr(|| poll(fds, limit.as_ref())).map_err(
        LaunchError::system("the runtime's start could not be awaited"),
    )?;
    match deadline {
        _ if ready > 0 => Ok(true),
        Some(deadline) if deadline <= Instant::now() => Ok(false),
        _ => Err(not_started("it took too long", libc::ETIMEDOUT)),
    }
}

/// The failure that a child reports.
pub(crate) fn failure(message: &[u8]) -> Option<LaunchError> {
    match *message {
        [child::FAILED, stage, a, b, c, d] => Some(not_started(
            Stage::describe(stage),
            i32::from_le_bytes([a, b, c, d]),
        )),
        _ => None,
    }
}

fn not_started(what: &'static str, errno: i32) -> LaunchError {
    LaunchError::Start {
        what,
        source: io::Error::from_raw_os_error(errno),
    }
}
