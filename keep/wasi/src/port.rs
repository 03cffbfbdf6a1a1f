//! The Keep's side of the sallyport as the heart uses it: blocking calls, pending operations,
//! timers, and a single-threaded executor that sleeps only when there is nothing to do.
//!
//! The host behind it is hostile. What it answers is checked by `enarx_sallyport`; a breach of the
//! protocol ends the Keep through [`Platform::violation`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use enarx_sallyport::keep::Violation;
use enarx_sallyport::{
    BUFFER_SIZE, Call, Doorbell, Handle, KeepEnd, Region, Reply, Status, SubmitError, Ticket,
};

use crate::error::{Errno, Result};

/// Most bytes that one call carries.
pub const MAX_TRANSFER: usize = BUFFER_SIZE as usize;

/// What the port needs of the ground it stands on.
pub trait Platform: Doorbell + Send {
    /// Ends the Keep because the host broke the protocol.
    fn violation(&self, violation: &Violation) -> !;
    /// Ends the Keep with this exit code.
    fn exit(&self, code: i32) -> !;
}

/// A completed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that were copied to the caller's buffer.
    pub length: usize,
    /// First value of the reply; its meaning depends on the call.
    pub value: u64,
    /// Second value of the reply.
    pub value2: u64,
}

struct Inner {
    end: KeepEnd<Region>,
    platform: Box<dyn Platform>,
    /// Replies that nobody has asked for yet.
    replies: Vec<Reply>,
    /// Calls whose reply nobody will ask for.
    abandoned: Vec<Ticket>,
    /// The earliest time at which a pending future wants to be polled again.
    deadline: Option<Instant>,
    writes: Writes,
}

/// Writes to output streams that the host has not answered yet.
#[derive(Default)]
struct Writes {
    in_flight: VecDeque<Write>,
    /// Errors of such writes, told to the next writer of the stream.
    failed: Vec<(Handle, Errno)>,
    /// Bytes written to any stream so far.
    total: u64,
}

struct Write {
    stream: Handle,
    ticket: Ticket,
    length: usize,
}

/// So many bytes of output are written one call after the other, so that a program sees the error
/// of its own write; only whoever writes more gets it with a later one.
const WRITE_THROUGH: u64 = 64 * 1024;

/// Looks at the completion ring before going to sleep: some ten microseconds.
const LOOKS: u32 = 1000;

/// Most writes on their way.
const WRITES_MAX: usize = 16;

impl Inner {
    fn submit(&mut self, call: &Call, input: &[&[u8]]) -> Result<Ticket> {
        loop {
            match self.end.submit(call, input) {
                Ok(ticket) => {
                    if self.end.doorbell_needed() {
                        self.platform.ring();
                    }
                    return Ok(ticket);
                }
                Err(SubmitError::Full) => {
                    if !self.reap() {
                        self.sleep(None);
                    }
                }
                Err(SubmitError::Length) => return Err(Errno::Invalid),
                Err(SubmitError::Violation(violation)) => self.platform.violation(&violation),
            }
        }
    }

    /// Collects completions; whether there was any.
    fn reap(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.end.reap() {
                Ok(Some(reply)) => {
                    any = true;
                    if let Some(place) = self.abandoned.iter().position(|t| *t == reply.ticket) {
                        self.abandoned.swap_remove(place);
                        self.end.release(reply.ticket);
                    } else {
                        self.replies.push(reply);
                    }
                }
                Ok(None) => return any,
                Err(violation) => self.platform.violation(&violation),
            }
        }
    }

    fn take(&mut self, ticket: Ticket) -> Option<Reply> {
        let place = self.replies.iter().position(|r| r.ticket == ticket)?;
        Some(self.replies.swap_remove(place))
    }

    /// Waits for a completion: for a moment by looking, where the host polls, then asleep.
    fn sleep(&mut self, timeout: Option<Duration>) {
        if self.end.host_polls() {
            for _ in 0..LOOKS {
                if self.end.has_completions() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        self.platform.wait(self.end.completions_seen(), timeout);
    }

    fn wait_for(&mut self, ticket: Ticket) -> Reply {
        loop {
            self.reap();
            if let Some(reply) = self.take(ticket) {
                return reply;
            }
            self.sleep(None);
        }
    }

    fn finish(&mut self, reply: &Reply, output: &mut [u8]) -> Result<Answer> {
        let answer = self.read(reply, output);
        self.end.release(reply.ticket);
        answer
    }

    fn read(&mut self, reply: &Reply, output: &mut [u8]) -> Result<Answer> {
        if reply.status != Status::Ok {
            return Err(errno(reply.status));
        }
        let length = output.len().min(reply.length as usize);
        if let Some(output) = output.get_mut(..length) {
            self.end
                .read_reply(reply, 0, output)
                .map_err(|_| Errno::Io)?;
        }
        Ok(Answer {
            length,
            value: reply.value,
            value2: reply.value2,
        })
    }
}

impl Inner {
    /// Writes to an output stream: in the order of the calls, also between streams.
    fn write(&mut self, stream: Handle, bytes: &[u8]) -> Result<()> {
        if self.writes.in_flight.iter().any(|w| w.stream != stream) {
            self.settle_writes(0);
        }
        for chunk in bytes.chunks(MAX_TRANSFER) {
            let call = Call::StreamWrite {
                stream,
                // At most MAX_TRANSFER.
                length: u32::try_from(chunk.len()).map_err(|_| Errno::Invalid)?,
            };
            let ticket = self.submit(&call, &[chunk])?;
            self.writes.in_flight.push_back(Write {
                stream,
                ticket,
                length: chunk.len(),
            });
            let allowed = if self.writes.total < WRITE_THROUGH {
                0
            } else {
                WRITES_MAX
            };
            self.writes.total = self.writes.total.saturating_add(chunk.len() as u64);
            self.settle_writes(allowed);
            let failed = &mut self.writes.failed;
            if let Some(place) = failed.iter().position(|(other, _)| *other == stream) {
                return Err(failed.swap_remove(place).1);
            }
        }
        Ok(())
    }

    /// Collects answered writes, and waits until at most `allowed` are on their way.
    fn settle_writes(&mut self, allowed: usize) {
        self.reap();
        while let Some(write) = self.writes.in_flight.front() {
            let ticket = write.ticket;
            let reply = match self.take(ticket) {
                Some(reply) => reply,
                None if self.writes.in_flight.len() > allowed => self.wait_for(ticket),
                None => return,
            };
            let answer = self.finish(&reply, &mut []);
            let Some(write) = self.writes.in_flight.pop_front() else {
                return;
            };
            let outcome = match answer {
                Ok(answer) if answer.value == write.length as u64 => continue,
                Ok(_) => Errno::Io,
                Err(error) => error,
            };
            self.writes.failed.push((write.stream, outcome));
        }
    }
}

/// A handle of the sallyport; clones share it.
#[derive(Clone)]
pub struct Port(Arc<Mutex<Inner>>);

impl Port {
    /// Takes the Keep's end of a region.
    pub fn new(end: KeepEnd<Region>, platform: Box<dyn Platform>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            end,
            platform,
            replies: Vec::new(),
            abandoned: Vec::new(),
            deadline: None,
            writes: Writes::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call and waits for its end; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// What the host answers, or [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn call(&self, call: &Call, input: &[&[u8]], output: &mut [u8]) -> Result<Answer> {
        let mut inner = self.lock();
        let ticket = inner.submit(call, input)?;
        let reply = inner.wait_for(ticket);
        inner.finish(&reply, output)
    }

    /// Writes all of `bytes` to an output stream. What is written to several streams reaches the
    /// host in the order of the calls; it is with the host at the latest when the Keep ends.
    ///
    /// # Errors
    /// What the host answers to this write or, once much has been written, to an earlier one.
    pub fn write(&self, stream: Handle, bytes: &[u8]) -> Result<()> {
        self.lock().write(stream, bytes)
    }

    /// Posts a call whose answer is collected later.
    ///
    /// # Errors
    /// [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn start(&self, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        let ticket = self.lock().submit(call, input)?;
        Ok(Operation {
            port: self.clone(),
            ticket: Some(ticket),
        })
    }

    /// Posts a call whose answer does not matter.
    pub fn post(&self, call: &Call) {
        let mut inner = self.lock();
        if let Ok(ticket) = inner.submit(call, &[]) {
            inner.abandon(ticket);
        }
    }

    /// Asks to be polled again at `deadline`; whether it has passed.
    pub fn poll_deadline(&self, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            return true;
        }
        let mut inner = self.lock();
        inner.deadline = Some(inner.deadline.map_or(deadline, |other| other.min(deadline)));
        false
    }

    /// Waits until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        std::future::poll_fn(|_| {
            if self.poll_deadline(deadline) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Runs a future to its end. Whatever its parts wait for is an [`Operation`], a deadline of
    /// this port, or a waker of their own.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            self.lock().deadline = None;
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            if woken.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let mut inner = self.lock();
            if !inner.reap() {
                let timeout = inner
                    .deadline
                    .map(|deadline| deadline.saturating_duration_since(Instant::now()));
                inner.sleep(timeout);
                inner.reap();
            }
        }
    }

    /// Ends the Keep because the bytes of a reply do not decode.
    pub fn bad_reply(&self) -> ! {
        let mut inner = self.lock();
        let violation = inner.end.condemn();
        inner.platform.violation(&violation)
    }

    /// Ends the Keep: the host learns the code first.
    pub fn exit(&self, code: i32) -> ! {
        let mut inner = self.lock();
        inner.settle_writes(0);
        // The host may be told by the platform as well, so a full ring does no harm.
        let _ = inner.submit(&Call::Exit { code }, &[]);
        inner.platform.exit(code)
    }
}

impl Inner {
    fn abandon(&mut self, ticket: Ticket) {
        if self.take(ticket).is_some() {
            self.end.release(ticket);
        } else {
            self.abandoned.push(ticket);
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A posted call. Dropping it gives up its answer.
pub struct Operation {
    port: Port,
    ticket: Option<Ticket>,
}

impl Operation {
    /// Whether the answer is there.
    pub fn is_ready(&self) -> bool {
        let mut inner = self.port.lock();
        inner.reap();
        inner
            .replies
            .iter()
            .any(|reply| Some(reply.ticket) == self.ticket)
    }

    /// Waits until the answer is there.
    pub async fn ready(&self) {
        std::future::poll_fn(|_| {
            if self.is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes the answer, waiting for it without yielding; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// What the host answers; [`Errno::Invalid`] when the answer was taken before.
    pub fn take(&mut self, output: &mut [u8]) -> Result<Answer> {
        let ticket = self.ticket.take().ok_or(Errno::Invalid)?;
        let mut inner = self.port.lock();
        let reply = inner.wait_for(ticket);
        inner.finish(&reply, output)
    }

    /// Asks the host to end the call early.
    pub fn cancel(&self) {
        if let Some(ticket) = self.ticket {
            self.port.post(&Call::Cancel { id: ticket.id() });
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.cancel();
            self.port.lock().abandon(ticket);
        }
    }
}

/// The error number of a host's answer.
fn errno(status: Status) -> Errno {
    match status {
        // A way out of the directory is what Wasmtime calls not permitted.
        Status::Permission | Status::NotCapable => Errno::NotPermitted,
        Status::NoEntry | Status::Stale | Status::NameUnresolvable => Errno::NoEntry,
        Status::Interrupted => Errno::Interrupted,
        Status::BadHandle => Errno::BadDescriptor,
        Status::Again | Status::ResolverFailure => Errno::Again,
        Status::NoMemory | Status::NoBuffers => Errno::NoMemory,
        Status::Access => Errno::Access,
        Status::Busy => Errno::Busy,
        Status::Exists => Errno::Exists,
        Status::CrossDevice => Errno::CrossDevice,
        Status::NotDirectory => Errno::NotDirectory,
        Status::IsDirectory => Errno::IsDirectory,
        Status::Invalid => Errno::Invalid,
        Status::TooManyFiles | Status::TooManyHandles => Errno::TooManyDescriptors,
        Status::TextBusy => Errno::TextBusy,
        Status::FileTooLarge => Errno::FileTooLarge,
        Status::NoSpace | Status::Quota => Errno::NoSpace,
        Status::IllegalSeek => Errno::InvalidSeek,
        Status::ReadOnly => Errno::ReadOnly,
        Status::TooManyLinks => Errno::TooManyLinks,
        Status::Pipe => Errno::Pipe,
        Status::Range => Errno::Range,
        Status::NameTooLong => Errno::NameTooLong,
        Status::NotImplemented
        | Status::NotSupported
        | Status::ProtocolOption
        | Status::ProtocolNotSupported
        | Status::AddressFamily => Errno::NotSupported,
        Status::NotEmpty => Errno::NotEmpty,
        Status::Loop => Errno::Loop,
        Status::Overflow => Errno::Overflow,
        Status::IllegalSequence => Errno::IllegalByteSequence,
        Status::NotSocket => Errno::NotSocket,
        Status::MessageSize => Errno::MessageSize,
        Status::AddressInUse => Errno::AddressInUse,
        Status::AddressNotAvailable => Errno::AddressNotAvailable,
        Status::NetworkUnreachable | Status::NetworkDown => Errno::NetworkUnreachable,
        Status::ConnectionAborted => Errno::ConnectionAborted,
        Status::ConnectionReset | Status::NetworkReset => Errno::ConnectionReset,
        Status::NotConnected => Errno::NotConnected,
        Status::TimedOut => Errno::TimedOut,
        Status::ConnectionRefused => Errno::ConnectionRefused,
        Status::HostUnreachable => Errno::HostUnreachable,
        Status::Already => Errno::Already,
        Status::InProgress => Errno::InProgress,
        Status::Cancelled => Errno::Cancelled,
        _ => Errno::Io,
    }
}
