// SPDX-License-Identifier: Apache-2.0

//! One process for each Keep: the VMM and its executor run in a child that is confined as a whole before the first
//! instruction of the guest, and the supervisor can end it whatever it does.
//!
//! A Keep may take over the process that serves it. Then it has a process without capabilities, without files but
//! those of its grant, under filters on every thread, and one descriptor to its supervisor, which takes a few
//! typed messages from it and trusts none of them.

pub mod child;
pub mod failure;
pub mod fork_error;
mod message;
mod spawn;
mod stop;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use enarx_backend::launch::{Images, Target};
use enarx_executor::fault::{HostFault, KeepFault, ProcessEnd};
use enarx_executor::launch::{Confined, GRACE, Launch, Outcome, Report, Run};
use enarx_executor::refused::Refused;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use child::SIGNAL_STATUS;
use failure::LaunchFailure;
use fork_error::ForkError;
use message::{Message, Reader, Received};
use spawn::Child;
use stop::Stop;

/// How long after its time limit a process that serves a Keep is still waited for: it ends its threads within
/// [`GRACE`].
const PATIENCE_AFTER_LIMIT: Duration = GRACE.saturating_add(Duration::from_millis(200));
/// How long a process that has said how its Keep ended may take to go. One with a thread in a system call that
/// cannot be interrupted goes when that call returns.
const EXIT_LIMIT: Duration = Duration::from_millis(200);

/// Why a Keep could not be launched, or could not be served to its end. `E` is the error by which the caller keeps a Keep
/// from running.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError<E> {
    /// The process that serves the Keep could not launch it.
    #[error(transparent)]
    Launch(#[from] LaunchFailure),
    /// The process could not be made.
    #[error("the process that serves the Keep could not be made: {0}")]
    Fork(#[from] ForkError),
    /// The process could not be watched.
    #[error("the process that serves the Keep could not be watched: {0}")]
    System(#[from] io::Error),
    /// The caller refused to run the Keep with this confinement.
    #[error("{0}")]
    Refused(E),
}

/// Launches a Keep in a process of its own and serves it to its end. Once that process is confined, `start` gets
/// the details; its error prevents the Keep from running.
///
/// If the grant has a listener, SIGTERM and SIGINT end that, and the Keep has the time [`Launch::grace`] to finish.
///
/// The calling program has one thread: a child of others could hang in a lock that none of its threads holds.
///
/// # Errors
/// [`SupervisorError`]; a Keep that ran has an outcome.
pub fn run<E>(
    target: Target,
    images: &Images,
    launch: Launch,
    start: impl FnOnce(&[Confined]) -> Result<(), E>,
) -> Result<Run, SupervisorError<E>> {
    serve(target, images, launch, start, || {})
}

/// Like [`run`]; `serving` is called when the Keep first accepts connections of the grant's listener. This is
/// reported by a process which the Keep may have taken over.
///
/// # Errors
/// As [`run`].
pub fn serve<E>(
    target: Target,
    images: &Images,
    mut launch: Launch,
    start: impl FnOnce(&[Confined]) -> Result<(), E>,
    serving: impl FnOnce(),
) -> Result<Run, SupervisorError<E>> {
    let deadline = launch
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout + PATIENCE_AFTER_LIMIT));
    let (socket, other_end) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)?;
    let (stop, serves) = match &launch.grant.listener {
        Some(listener) => {
            let (serves, end) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
            launch.grant.serves = Some(end);
            let stop = Stop::new(listener.as_fd(), launch.grace)?;
            (Some(stop), Some(serves))
        }
        None => (None, None),
    };
    let server = Server {
        stop,
        serves,
        serving: Some(serving),
    };
    let work = (target, launch, other_end);
    let (child, work) = spawn::fork(work, |(target, launch, socket)| {
        child::serve(target, images, launch, socket)
    })?;
    // The descriptors of the grant are the child's now.
    drop(work);
    supervise(&child, socket, deadline, server, start)
}

/// The server that a Keep may be.
struct Server<B> {
    /// Ends its listener, until it was told to end; `None` for a Keep that is none.
    stop: Option<Stop>,
    /// Readable once it takes connections, or can no more; until then.
    serves: Option<OwnedFd>,
    serving: Option<B>,
}

impl<B: FnOnce()> Server<B> {
    /// Tells that it takes connections, if it does.
    fn has_begun(&mut self, serves: &OwnedFd) {
        let mut told = [0];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(serves, &mut told));
        if let (Ok(1), Some(serving)) = (read, self.serving.take()) {
            serving();
        }
    }
}

/// Takes the messages of a process until its Keep has ended.
fn supervise<E>(
    child: &Child,
    socket: OwnedFd,
    mut deadline: Option<Instant>,
    mut server: Server<impl FnOnce()>,
    start: impl FnOnce(&[Confined]) -> Result<(), E>,
) -> Result<Run, SupervisorError<E>> {
    let mut reader = Reader::new(socket);
    let mut start = Some(start);
    let mut stopped = false;
    loop {
        let ended = |outcome: Outcome| Run {
            outcome,
            report: Report::default(),
        };
        let signals = server.stop.as_ref().map(Stop::signals);
        let serves = server.serves.as_ref().map(AsFd::as_fd);
        let others: Vec<_> = signals.into_iter().chain(serves).collect();
        match reader.next(deadline, &others)? {
            Received::Message(Message::Confined(confined)) => {
                // Once: a process that asks again is not itself any more.
                let Some(start) = start.take() else { continue };
                tracing::debug!(
                    ?confined,
                    "the process that serves the Keep waits to run it"
                );
                start(&confined).map_err(SupervisorError::Refused)?;
                reader.go()?;
            }
            Received::Message(Message::Ended(run)) => {
                child.wait(Some(EXIT_LIMIT));
                return Ok(*run);
            }
            Received::Message(Message::Failed(failure)) => return Err(failure.into()),
            Received::Forbidden(number) => {
                let call = Refused {
                    number: number.into(),
                    errno: None,
                };
                let fault = KeepFault::Host(HostFault::ForbiddenCall(call));
                return Ok(ended(fault.into()));
            }
            Received::End => {
                let end = child.wait(Some(EXIT_LIMIT)).unwrap_or(ProcessEnd::Unknown);
                return Ok(ended(KeepFault::Host(HostFault::Vmm(end)).into()));
            }
            Received::Other(0) if server.stop.is_some() => {
                let Some(stop) = server.stop.take() else {
                    continue;
                };
                let end = Instant::now().checked_add(stop.end()? + PATIENCE_AFTER_LIMIT);
                // The earlier one.
                if deadline.is_none_or(|limit| end.is_some_and(|end| end < limit)) {
                    (deadline, stopped) = (end, true);
                }
            }
            Received::Other(_) => {
                if let Some(serves) = server.serves.take() {
                    server.has_begun(&serves);
                }
            }
            Received::TimedOut if stopped => {
                tracing::warn!("the server did not finish in its time of grace and was ended");
                return Ok(ended(Outcome::Exit(0)));
            }
            Received::TimedOut => return Ok(ended(Outcome::TimedOut)),
        }
    }
}

impl Child {
    /// Waits until the process has ended, but no longer than `limit`; `None` if it has not, or its end cannot be learnt.
    fn wait(&self, limit: Option<Duration>) -> Option<ProcessEnd> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [PollFd::from_borrowed_fd(self.pidfd(), PollFlags::IN)];
        let ended = rustix::io::retry_on_intr(|| poll(&mut fds, limit.as_ref())).ok()?;
        if ended == 0 {
            return None;
        }
        let status = waitid(WaitId::PidFd(self.pidfd()), WaitIdOptions::EXITED).ok()??;
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) if code > SIGNAL_STATUS => ProcessEnd::Signal(code - SIGNAL_STATUS),
            (Some(code), _) => ProcessEnd::Status(code),
            (None, Some(signal)) => ProcessEnd::Signal(signal),
            (None, None) => ProcessEnd::Unknown,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended and was waited for is no process any more.
        let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
        self.wait(Some(EXIT_LIMIT));
    }
}
