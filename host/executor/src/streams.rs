// SPDX-License-Identifier: Apache-2.0

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
    /// A file on a disk, `/dev/null` and the like: never blocks.
    Direct,
    /// The description is ours and non-blocking: `EAGAIN` says that it is not ready.
    NonBlocking,
    /// The description is shared with other programs, so its flags are left alone: asked by poll(2) first.
    AskFirst,
}

/// The direction in which a Keep may use a stream, whatever its description is open for: a terminal is open for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Read it.
    Input,
    /// Write it.
    Output,
    /// Both: a connection.
    Both,
}

/// A standard stream or a connection of the Keep.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    readiness: Readiness,
    direction: Direction,
}

impl Stream {
    /// A stream that the Keep reads.
    pub fn input(fd: OwnedFd) -> Self {
        Self::standard(fd, Direction::Input)
    }

    /// A socket of the Keep itself, which is non-blocking.
    pub fn socket(fd: Arc<OwnedFd>) -> Self {
        Self {
            fd,
            readiness: Readiness::NonBlocking,
            direction: Direction::Both,
        }
    }

    /// True if a Keep may use it in this direction.
    pub fn is_open_for(&self, direction: Direction) -> bool {
        self.direction == direction || self.direction == Direction::Both
    }

    /// A stream that the Keep writes.
    pub fn output(fd: OwnedFd) -> Self {
        Self::standard(fd, Direction::Output)
    }

    /// A pipe or terminal is opened once more: a description of our own can be non-blocking without
    /// a change for the other programs that use it.
    fn standard(fd: OwnedFd, direction: Direction) -> Self {
        let access = if direction == Direction::Input {
            OFlags::RDONLY
        } else {
            OFlags::WRONLY
        };
        let (fd, readiness) = match kind(&fd) {
            Kind::Immediate => (fd, Readiness::Direct),
            Kind::Named => match reopen(&fd, access) {
                Ok(own) => (own, Readiness::NonBlocking),
                Err(_) => (fd, Readiness::AskFirst),
            },
            Kind::Other => (fd, Readiness::AskFirst),
        };
        Self {
            fd: Arc::new(fd),
            readiness,
            direction,
        }
    }

    /// Reads what is there, at most the buffer; 0 bytes at the end of the stream. With an empty buffer
    /// nothing is read: it succeeds when a read would not wait.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is there yet, and the errors of read(2).
    pub fn read(&self, buffer: Buffer) -> Result<u32> {
        if buffer.is_empty() {
            return self.poll(PollFlags::IN).map(|()| 0);
        }
        self.ask(PollFlags::IN)?;
        buffer.read(&*self.fd).map_err(not_ready_if_interrupted)
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
            match buffer
                .rest(*written, limit)
                .write(&*self.fd)
                .map_err(not_ready_if_interrupted)?
            {
                0 => return Err(Errno::IO),
                count => *written += count,
            }
        }
        Ok(())
    }

    /// Writes what can be written at once, some of the bytes at least.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_now(&self, bytes: &[u8]) -> Result<usize> {
        self.ask(PollFlags::OUT)?;
        let piece = bytes.get(..READY_BYTES as usize).unwrap_or(bytes);
        rustix::io::write(&*self.fd, piece).map_err(not_ready_if_interrupted)
    }

    fn ask(&self, events: PollFlags) -> Result<()> {
        if self.readiness != Readiness::AskFirst {
            return Ok(());
        }
        self.poll(events)
    }

    fn poll(&self, events: PollFlags) -> Result<()> {
        let mut fds = [PollFd::new(&*self.fd, events)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => Err(Errno::AGAIN),
            Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// A signal ends a call that slept after all, because another program was faster to take what poll(2)
/// had seen: the stream is not ready. Nothing is repeated, since the Keep may be about to be ended.
fn not_ready_if_interrupted(errno: Errno) -> Errno {
    match errno {
        Errno::INTR => Errno::AGAIN,
        other => other,
    }
}

enum Kind {
    /// Never blocks the caller.
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

fn reopen(fd: &OwnedFd, access: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(
        format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()),
        access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use enarx_sallyport::{REGION_SIZE, Region, Slot};

    use super::*;
    use crate::interrupt::Interruptible;

    /// A stream whose calls block, as if another program took the data between poll(2) and the call.
    fn stolen(fd: impl Into<OwnedFd>) -> Stream {
        Stream {
            fd: Arc::new(fd.into()),
            readiness: Readiness::Direct,
            direction: Direction::Both,
        }
    }

    #[test]
    fn a_signal_ends_a_call_that_sleeps_and_it_is_not_repeated() {
        let words: Vec<AtomicU64> = (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let region = Region::from_static(Box::leak(words.into_boxed_slice())).unwrap();
        let buffer = Buffer::new(region, Slot::new(0).unwrap(), 0, 100).unwrap();
        let (empty, _writer) = pipe().unwrap();
        let (_reader, full) = pipe().unwrap();
        let bytes = vec![0; 64 << 10];
        assert_eq!(rustix::io::write(&full, &bytes).unwrap(), bytes.len());
        let (reads, writes) = (stolen(empty), stolen(full));
        let calls: [&(dyn Fn() -> Result<()> + Sync); 3] = [
            &|| reads.read(buffer).map(drop),
            &|| writes.write(buffer, 100, &mut 0),
            &|| writes.write_now(&[0; 100]).map(drop),
        ];
        for call in calls {
            let inside = AtomicBool::new(false);
            let sleeper = Interruptible::default();
            thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    sleeper.run(|| {
                        inside.store(true, Ordering::SeqCst);
                        call()
                    })
                });
                while !inside.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                while !thread.is_finished() {
                    sleeper.interrupt();
                    thread::sleep(Duration::from_micros(100));
                }
                assert_eq!(thread.join().unwrap(), Err(Errno::AGAIN));
            });
        }
    }
}
