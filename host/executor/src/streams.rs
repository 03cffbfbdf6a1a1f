//! Streams: reading and writing without ever sleeping under the executor's lock.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, Result};

use super::buffer::Buffer;

/// Bytes that a pipe takes without blocking once it is ready (Linux `PIPE_BUF`,
/// include/uapi/linux/limits.h).
const READY_BYTES: u32 = 4096;

/// How a stream is used so that no call blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// A file on a disk, `/dev/null` and the like: never waits for somebody else.
    Direct,
    /// The description is ours and non-blocking: `EAGAIN` says that it is not ready.
    NonBlocking,
    /// The description is shared with other programs, so its flags are left alone: asked by poll(2) first.
    AskFirst,
}

/// A standard stream or a connection of the Keep.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    readiness: Readiness,
}

impl Stream {
    /// A stream that the Keep reads.
    pub fn input(fd: OwnedFd) -> Self {
        let readiness = match kind(&fd) {
            Kind::Immediate => Readiness::Direct,
            Kind::Named | Kind::Other => Readiness::AskFirst,
        };
        Self {
            fd: Arc::new(fd),
            readiness,
        }
    }

    /// A socket of the Keep's own, which is non-blocking.
    pub fn socket(fd: Arc<OwnedFd>) -> Self {
        Self {
            fd,
            readiness: Readiness::NonBlocking,
        }
    }

    /// A stream that the Keep writes.
    ///
    /// A pipe or terminal is opened once more: a description of our own can be non-blocking without
    /// a change for the other programs that use it.
    pub fn output(fd: OwnedFd) -> Self {
        let (fd, readiness) = match kind(&fd) {
            Kind::Immediate => (fd, Readiness::Direct),
            Kind::Named => match reopen(&fd) {
                Ok(own) => (own, Readiness::NonBlocking),
                Err(_) => (fd, Readiness::AskFirst),
            },
            Kind::Other => (fd, Readiness::AskFirst),
        };
        Self {
            fd: Arc::new(fd),
            readiness,
        }
    }

    /// Reads what is there, at most the buffer; 0 bytes at the end of the stream.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is there yet, and the errors of read(2).
    pub fn read(&self, buffer: Buffer) -> Result<u32> {
        self.ask(PollFlags::IN)?;
        buffer.read(&*self.fd)
    }

    /// Writes all of the buffer from byte `written` on, and counts in it.
    ///
    /// # Errors
    /// `EAGAIN` when the reader has to make room first, and the errors of write(2).
    pub fn write(&self, buffer: Buffer, length: u32, written: &mut u32) -> Result<()> {
        let limit = match self.readiness {
            Readiness::AskFirst => READY_BYTES,
            Readiness::Direct | Readiness::NonBlocking => length,
        };
        while *written < length {
            self.ask(PollFlags::OUT)?;
            match buffer.rest(*written, limit).write(&*self.fd)? {
                0 => return Err(Errno::IO),
                count => *written += count,
            }
        }
        Ok(())
    }

    fn ask(&self, events: PollFlags) -> Result<()> {
        if self.readiness != Readiness::AskFirst {
            return Ok(());
        }
        let mut fds = [PollFd::new(&*self.fd, events)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => Err(Errno::AGAIN),
            Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

enum Kind {
    /// Never makes a caller wait for somebody else.
    Immediate,
    /// A pipe or terminal, which has a name under `/proc/self/fd`.
    Named,
    /// Anything else, sockets for instance.
    Other,
}

fn kind(fd: &OwnedFd) -> Kind {
    let Ok(stat) = fstat(fd) else {
        return Kind::Other;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice | FileType::Directory => Kind::Immediate,
        FileType::CharacterDevice if !rustix::termios::isatty(fd) => Kind::Immediate,
        FileType::CharacterDevice | FileType::Fifo => Kind::Named,
        _ => Kind::Other,
    }
}

fn reopen(fd: &OwnedFd) -> Result<OwnedFd> {
    rustix::fs::open(
        format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()),
        OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
