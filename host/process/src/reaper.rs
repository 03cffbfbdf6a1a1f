// SPDX-License-Identifier: Apache-2.0

//! A runtime's process until its end: its memory as reported by the kernel, its last messages, its status. It is
//! always killed and reaped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Instant;

use enarx_executor::SharedExecutor;
use enarx_executor::launch::GRACE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use crate::child::Child;

/// Most bytes of a runtime's last messages: the capacity of a pipe (pipe(7)).
const LAST_WORDS: usize = 64 << 10;
/// Largest text of `/proc/PID/status` that is read, in bytes: several times what it has.
const STATUS_SIZE: usize = 16 << 10;

/// Opens `/proc/PID/status` of a child. Its number there may differ from that in the namespace of this process; the
/// kernel tells the former for the child's descriptor (pidfd_open(2)).
fn open_status(child: &Child) -> io::Result<File> {
    let info = format!("/proc/self/fdinfo/{}", child.pidfd.as_raw_fd());
    let info = std::fs::read_to_string(info)?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    let number = number.ok_or(io::ErrorKind::NotFound)?.trim();
    File::open(format!("/proc/{number}/status"))
}

/// A child that is killed and reaped in any case.
pub(crate) struct Reaper {
    child: Child,
    /// The kernel's report on it (proc(5), `/proc/PID/status`); opened before the host's side is confined.
    status: Option<File>,
    /// The pipe of its standard error. Output beyond its capacity is lost.
    last_words: OwnedFd,
    reaped: bool,
}

impl Reaper {
    /// Takes charge of a child and of the pipe with its last words.
    pub(crate) fn new(child: Child, last_words: OwnedFd) -> Self {
        Self {
            status: open_status(&child).ok(),
            child,
            last_words,
            reaped: false,
        }
    }

    /// The descriptor of the process.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Bytes of writable private memory, which is what the limit counts; `None` when it has ended.
    pub(crate) fn memory(&self) -> Option<u64> {
        let mut text = [0; STATUS_SIZE];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        let status = String::from_utf8_lossy(text.get(..length)?);
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmData:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        kilobytes.checked_mul(1024)
    }

    /// Logs the runtime's messages when it failed. `memory_used_up`: the outcome says that in a sentence.
    pub(crate) fn log_last_words(&self, executor: &SharedExecutor, memory_used_up: bool) {
        let mut words = vec![0; LAST_WORDS];
        let read = || rustix::io::read(&self.last_words, &mut words);
        if let Ok(length) = rustix::io::retry_on_intr(read) {
            let words = &words[..length];
            executor.log_last_words(if memory_used_up {
                without_failed_allocation(words)
            } else {
                words
            });
        }
    }

    /// Kills the process if it still runs; one that has ended keeps the status that it ended with.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }

    /// Kills the process if it still runs, and waits for its end, but not beyond `limit`: then a thread of
    /// its own does.
    ///
    /// # Errors
    /// The system's; `ETIMEDOUT` when the process has not ended yet.
    pub(crate) fn end(&mut self, limit: Instant) -> rustix::io::Result<WaitIdStatus> {
        self.kill();
        self.reaped = true;
        let left = limit.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let pidfd = &self.child.pidfd;
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, left.as_ref()))? > 0 {
            return wait_for(pidfd);
        }
        if let Ok(pidfd) = pidfd.try_clone() {
            let reaper = thread::Builder::new().name("enarx-reaper".into());
            // Without a thread, it is reaped when this program ends.
            let _ = reaper.spawn(move || wait_for(&pidfd));
        }
        Err(Errno::TIMEDOUT)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.end(Instant::now() + GRACE);
        }
    }
}

/// The status of a process that has ended, or ends.
fn wait_for(pidfd: &OwnedFd) -> rustix::io::Result<WaitIdStatus> {
    let id = WaitId::PidFd(pidfd.as_fd());
    rustix::io::retry_on_intr(|| waitid(id.clone(), WaitIdOptions::EXITED))?.ok_or(Errno::CHILD)
}

/// Last words without those about an allocation that failed, with which the runtime aborts.
fn without_failed_allocation(words: &[u8]) -> &[u8] {
    const BEGIN: &[u8] = b"memory allocation of ";
    let begin = words.windows(BEGIN.len()).position(|part| part == BEGIN);
    begin.and_then(|end| words.get(..end)).unwrap_or(words)
}
