// SPDX-License-Identifier: Apache-2.0

//! Messages of a process that serves a Keep to its supervisor: length and JSON, and the record of a forbidden system
//! call. The supervisor answers one byte, once.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use enarx_confine::report::RECORD_START;
use enarx_executor::launch::{Confined, Run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::failure::LaunchFailure;

/// Longest message that a supervisor takes, in bytes: its process may be a Keep's.
const MAX_MESSAGE: usize = 1 << 20;

/// The answer by which a Keep may run.
const GO: u8 = 1;

/// A message to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The process is confined in these ways, and waits for its answer.
    Confined(Vec<Confined>),
    /// The Keep has ended.
    Ended(Box<Run>),
    /// The Keep could not be launched.
    Failed(LaunchFailure),
}

/// Data that a supervisor has received.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// A filter stopped this system call, and its process with it.
    Forbidden(u32),
    /// The process has ended, or sent something that is not a message.
    End,
    /// The time is over.
    TimedOut,
    /// The first of the other descriptors that is readable, by its place among them.
    Other(usize),
}

/// Sends a message.
///
/// # Errors
/// The system's.
pub fn send(socket: impl AsFd, message: &Message) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(|_| ErrorKind::InvalidData)?;
    let bytes = [&length.to_le_bytes(), json.as_slice()].concat();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&socket, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Waits for the answer; false when there is no supervisor any more.
pub fn await_go(socket: impl AsFd) -> bool {
    let mut answer = [0];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&socket, &mut answer));
    read == Ok(1) && answer == [GO]
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    bytes: Vec<u8>,
}

impl Reader {
    /// The end that is `socket`.
    pub fn new(socket: OwnedFd) -> Self {
        let bytes = Vec::new();
        Self { socket, bytes }
    }

    /// Lets the Keep run.
    ///
    /// # Errors
    /// The system's.
    pub fn go(&self) -> io::Result<()> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.socket, &[GO])) {
            // It has ended in the meantime, which is noticed next.
            Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next message, or until one of the others is readable. A message comes first.
    ///
    /// # Errors
    /// The system's.
    pub fn next(
        &mut self,
        deadline: Option<Instant>,
        others: &[BorrowedFd<'_>],
    ) -> io::Result<Received> {
        loop {
            if let Some(received) = take(&mut self.bytes) {
                return Ok(received);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds: Vec<_> = [self.socket.as_fd()]
                .iter()
                .chain(others)
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            if rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref()))? == 0 {
                return Ok(Received::TimedOut);
            }
            let first = fds.iter().position(|fd| !fd.revents().is_empty());
            if let Some(other) = first.and_then(|first| first.checked_sub(1)) {
                return Ok(Received::Other(other));
            }
            let mut piece = [0; 4096];
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut piece)) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
                Ok(length) => self
                    .bytes
                    .extend_from_slice(piece.get(..length).unwrap_or(&[])),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Takes a complete message from the received bytes; `None` if there is none yet.
fn take(bytes: &mut Vec<u8>) -> Option<Received> {
    let (start, rest) = bytes.split_first_chunk::<4>()?;
    if *start == RECORD_START {
        let number = rest.first_chunk::<4>()?;
        return Some(Received::Forbidden(u32::from_le_bytes(*number)));
    }
    let length = usize::try_from(u32::from_le_bytes(*start)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Some(Received::End);
    }
    let json = rest.get(..length)?;
    let received = serde_json::from_slice(json).map_or(Received::End, Received::Message);
    bytes.drain(..4 + length);
    Some(received)
}

#[cfg(test)]
mod tests {
    use enarx_confine::report::record;
    use enarx_executor::fault::{KeepFault, ProcessEnd};
    use enarx_executor::launch::{Outcome, Report};

    use super::*;

    fn pair() -> (OwnedFd, Reader) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (one.into(), Reader::new(other.into()))
    }

    #[test]
    fn messages_arrive_in_order_and_whole() {
        let (sender, mut reader) = pair();
        let run = Run {
            outcome: Outcome::Fault(KeepFault::Process(ProcessEnd::Signal(9))),
            report: Report {
                confinement: vec![Confined::new("seccomp", true)],
                ..Report::default()
            },
        };
        let confined = run.report.confinement.clone();
        send(&sender, &Message::Confined(confined.clone())).unwrap();
        send(&sender, &Message::Ended(Box::new(run.clone()))).unwrap();
        drop(sender);
        match reader.next(None, &[]).unwrap() {
            Received::Message(Message::Confined(found)) => assert_eq!(found, confined),
            other => panic!("{other:?}"),
        }
        match reader.next(None, &[]).unwrap() {
            Received::Message(Message::Ended(found)) => assert_eq!(*found, run),
            other => panic!("{other:?}"),
        }
        assert!(matches!(reader.next(None, &[]).unwrap(), Received::End));
    }

    #[test]
    fn a_message_is_received_before_other_events() {
        let (sender, mut reader) = pair();
        let (never, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let (happened, other_end) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(other_end);
        let others = [never.as_fd(), happened.as_fd()];
        let next = |reader: &mut Reader| reader.next(None, &others).unwrap();
        send(&sender, &Message::Confined(Vec::new())).unwrap();
        assert!(matches!(next(&mut reader), Received::Message(_)));
        assert!(matches!(next(&mut reader), Received::Other(1)));
    }

    #[test]
    fn a_process_that_was_taken_over_ends_only_its_keep() {
        for bytes in [
            &b"\x05\0\0\0hello"[..],
            b"\xfe\xff\xff\xff",
            b"\x02\0\0\0{}",
            b"\x02\0",
            b"",
        ] {
            let (sender, mut reader) = pair();
            rustix::io::write(&sender, bytes).unwrap();
            drop(sender);
            assert!(matches!(reader.next(None, &[]).unwrap(), Received::End));
        }
        let (sender, mut reader) = pair();
        rustix::io::write(&sender, &record(257)).unwrap();
        assert!(matches!(
            reader.next(None, &[]).unwrap(),
            Received::Forbidden(257)
        ));
        let (_sender, mut reader) = pair();
        let now = Some(Instant::now());
        assert!(matches!(reader.next(now, &[]).unwrap(), Received::TimedOut));
    }
}
