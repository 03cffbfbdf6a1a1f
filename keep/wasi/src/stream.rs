// SPDX-License-Identifier: Apache-2.0

//! Standard input, output and error: over the sallyport to the host, or in a session to the Keep's tenant.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_sallyport::{Call, Handle};

use crate::budget::{Budget, Share};
use crate::error::{Errno, Result};
use crate::port::queue::{FAST_STREAM_BYTES, Queue, Queued};
use crate::port::{MAX_TRANSFER, Operation, Port};

/// Standard output.
pub const STDOUT: Handle = Handle::STDOUT;
/// Standard error.
pub const STDERR: Handle = Handle::STDERR;

/// Standard streams that lead to the Keep's tenant. Nothing of them passes through the host in the clear.
///
/// Input is requested within futures of the port: an implementation only waits for operations or deadlines
/// of that port. Output waits by itself.
pub trait Session: Send + Sync {
    /// Takes all of these bytes of standard output or error, waiting for room.
    fn write(&self, output: Handle, bytes: &[u8]);
    /// Reads standard input; 0 at its end, `None` if there is nothing yet.
    fn poll_read(&self, buffer: &mut [u8]) -> Option<usize>;
    /// True if a read would not wait.
    fn poll_readable(&self) -> bool;
    /// As [`Self::poll_readable`]; if a read would wait, the task of `context` is woken when it no longer would. One task
    /// reads: a later one takes the place of an earlier.
    fn poll_readable_for(&self, context: &Context<'_>) -> bool;
    /// The time that is left to the program, once it is to end by itself; until then the task of `context` is woken when it
    /// is. One task waits for this, as above.
    fn poll_grace_for(&self, context: &Context<'_>) -> Option<Duration>;
    /// Learns that the program runs from now on, and the phases that led there with their microseconds.
    fn started(&self, phases: &[(&'static str, u64)]);
}

/// The other end of the standard streams.
#[derive(Clone, Default)]
pub enum Standard {
    /// The host.
    #[default]
    Host,
    /// The tenant.
    Session(Arc<dyn Session>),
}

impl Standard {
    /// Standard input.
    pub fn stdin(&self, port: &Port) -> Input {
        let source = match self {
            Self::Host => return Input::shared(port.clone(), Handle::STDIN),
            Self::Session(session) => Source::Session(Arc::clone(session)),
        };
        Input::new(port.clone(), source)
    }

    /// Standard output.
    pub fn stdout(&self, port: &Port) -> Output {
        self.output(port, Handle::STDOUT)
    }

    /// Standard error.
    pub fn stderr(&self, port: &Port) -> Output {
        self.output(port, Handle::STDERR)
    }

    /// Waits until the program should end by itself; returns the time that it has. The host ends the
    /// resources that it has granted, and gives no notice here.
    pub async fn grace(&self) -> Duration {
        std::future::poll_fn(|context| match self {
            Self::Host => Poll::Pending,
            Self::Session(session) => session
                .poll_grace_for(context)
                .map_or(Poll::Pending, Poll::Ready),
        })
        .await
    }

    fn output(&self, port: &Port, handle: Handle) -> Output {
        Output {
            port: port.clone(),
            handle,
            to: self.clone(),
        }
    }
}

/// An output stream; clones share it.
#[derive(Clone)]
pub struct Output {
    port: Port,
    handle: Handle,
    to: Standard,
}

impl Output {
    /// The output stream of the host with this handle.
    pub fn new(port: Port, handle: Handle) -> Self {
        Self {
            port,
            handle,
            to: Standard::Host,
        }
    }

    /// Writes all of `bytes`, however many.
    ///
    /// # Errors
    /// As [`Port::write`]: [`Errno::Pipe`] if nobody reads any more. A session gives no such error: the
    /// program waits.
    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        match &self.to {
            Standard::Host => self.port.write(self.handle, bytes),
            Standard::Session(session) => {
                session.write(self.handle, bytes);
                Ok(())
            }
        }
    }

    /// Waits until the host has all written bytes.
    ///
    /// # Errors
    /// That of an earlier write, not reported yet, as [`Port::flush`].
    pub fn flush(&self) -> Result<()> {
        match &self.to {
            Standard::Host => self.port.flush(self.handle),
            Standard::Session(_) => Ok(()),
        }
    }
}

/// Bytes that are requested at once if nobody else could want them.
pub const READ_AHEAD: usize = MAX_TRANSFER;

/// Memory of a stream that is read ahead, in bytes: bytes that were read and not taken. Bytes in flight are
/// in the sallyport.
const AHEAD_MEMORY: u64 = READ_AHEAD as u64;

/// How long a read waits at most for bytes that were there a moment ago: another program that has the same
/// stream may have taken them.
const SHARED_INPUT_WAIT: Duration = Duration::from_millis(100);

struct InputState {
    buffer: Vec<u8>,
    start: usize,
    /// Reads in flight; several only while the stream is read ahead.
    pending: Queue,
    /// The host said that a read would not wait, and nobody has read since.
    ready: bool,
    /// The end of the stream, or the error that ended it.
    ended: Option<Result<()>>,
    /// The bytes of the last answer.
    last: usize,
    /// Memory for reading ahead, while it is used.
    ahead: Option<Share>,
}

/// An input stream; clones share it.
#[derive(Clone)]
pub struct Input {
    port: Port,
    source: Source,
    state: Arc<Mutex<InputState>>,
}

/// The other end of an input stream.
#[derive(Clone)]
enum Source {
    /// A stream of the host.
    Host {
        handle: Handle,
        /// Counts bytes taken from the host ahead of the program; `None` if there is no reading ahead.
        ahead: Option<Budget>,
    },
    /// The tenant.
    Session(Arc<dyn Session>),
}

impl Input {
    /// A stream that others may read after the program, such as standard input: bytes that the program does
    /// not request stay there.
    pub fn shared(port: Port, handle: Handle) -> Self {
        Self::new(
            port,
            Source::Host {
                handle,
                ahead: None,
            },
        )
    }

    /// A stream that only the program reads. While it is fast, it is read ahead, as far as the budget
    /// allows.
    pub fn own(port: Port, handle: Handle, budget: &Budget) -> Self {
        Self::new(
            port,
            Source::Host {
                handle,
                ahead: Some(budget.clone()),
            },
        )
    }

    fn new(port: Port, source: Source) -> Self {
        Self {
            port,
            source,
            state: Arc::new(Mutex::new(InputState {
                buffer: Vec::new(),
                start: 0,
                pending: Queue::default(),
                ready: false,
                ended: None,
                last: 0,
                ahead: None,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, InputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests bytes from the host, or with a length of 0 whether there are any. The host is not notified
    /// yet.
    fn start(&self, handle: Handle, length: usize) -> Result<Operation> {
        self.port.prepare(&request(handle, length), &[])
    }

    /// As [`Self::start`], if nothing is in flight. If that fails, the stream ends.
    fn start_first(&self, state: &mut InputState, handle: Handle, length: usize) {
        match self.start(handle, length) {
            Ok(operation) => state.pending.push(operation, length),
            Err(error) => state.ended = Some(Err(error)),
        }
    }

    /// Reads into `output`, waiting until there is something; 0 is the end.
    ///
    /// # Errors
    /// The host's answer, if it is an error.
    pub fn read(&self, output: &mut [u8]) -> Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        let handle = match &self.source {
            Source::Host { handle, .. } => *handle,
            Source::Session(session) => {
                let read = std::future::poll_fn(|_| {
                    session.poll_read(output).map_or(Poll::Pending, Poll::Ready)
                });
                return Ok(self.port.block_on(read));
            }
        };
        let mut state = self.lock();
        state.forget_readiness();
        if !state.is_known()
            && let Some(pending) = state.pending.pop()
        {
            state.collect(pending);
        }
        let buffered = state.take(output);
        if buffered > 0 {
            return Ok(buffered);
        }
        if let Some(end) = state.ended {
            return end.map(|()| 0);
        }
        let length = output.len().min(MAX_TRANSFER);
        let output = output.get_mut(..length).unwrap_or_default();
        Ok(self
            .port
            .call(&request(handle, length), &[], output)?
            .length)
    }

    /// True if a read would not wait. Asks the host when nothing is known.
    pub fn poll_ready(&self) -> bool {
        let (handle, ahead) = match &self.source {
            Source::Host { handle, ahead } => (*handle, ahead.is_some()),
            Source::Session(session) => return session.poll_readable(),
        };
        let mut state = self.lock();
        if state.is_known() {
            return true;
        }
        if state.pending.is_empty() {
            self.start_first(&mut state, handle, if ahead { READ_AHEAD } else { 0 });
            if state.ended.is_some() {
                return true;
            }
            // A program that polls with a time limit of zero must find existing data, however long the host
            // takes to report it.
            if !ahead && !state.pending.is_answered(&self.port) {
                self.port.settle();
            }
        }
        state.pending.is_answered(&self.port) && state.poll_pending()
    }

    /// As [`Self::poll_ready`]; if a read would wait, the task of `context` is woken when it no longer would.
    pub fn poll_ready_for(&self, context: &Context<'_>) -> bool {
        if let Source::Session(session) = &self.source {
            return session.poll_readable_for(context);
        }
        loop {
            if self.poll_ready() {
                return true;
            }
            match self.lock().pending.first() {
                Some(first) if first.operation.poll_ready(context) => {}
                _ => return false,
            }
        }
    }

    /// Reads available bytes without waiting: at most `limit` bytes, none if there are none yet.
    ///
    /// # Errors
    /// [`Ended`] at the end of the stream, or with the error that ended it.
    pub fn read_available(&self, limit: usize) -> Result<Vec<u8>, Ended> {
        if limit > 0 && !self.poll_ready() {
            return Ok(Vec::new());
        }
        if let Source::Session(session) = &self.source {
            return give_of_session(&**session, limit);
        }
        if limit > 0 && self.lock().only_ready() {
            self.ask(limit);
            let deadline = Instant::now() + SHARED_INPUT_WAIT;
            self.port.block_on(std::future::poll_fn(|_| {
                if self.lock().poll_pending() || self.port.poll_deadline(deadline) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        }
        self.give(limit)
    }

    /// As [`Self::read_available`], but waits until something is there. For `limit` 0, until a read would
    /// not wait.
    ///
    /// # Errors
    /// As [`Self::read_available`].
    pub async fn read_some(&self, limit: usize) -> Result<Vec<u8>, Ended> {
        if limit > 0 {
            self.ask(limit);
        }
        std::future::poll_fn(|context| {
            if self.poll_ready_for(context) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if let Source::Session(session) = &self.source {
            return give_of_session(&**session, limit);
        }
        self.give(limit)
    }

    /// Gives available bytes, possibly none; the next ones are requested first, if the stream is read
    /// ahead.
    fn give(&self, limit: usize) -> Result<Vec<u8>, Ended> {
        let mut state = self.lock();
        if let Source::Host {
            handle,
            ahead: Some(budget),
        } = &self.source
            && state.should_read_ahead(budget)
        {
            // A large piece goes to the program as it came. Small ones are copied out of a larger one, which takes fewer calls.
            let length = if limit < READ_AHEAD / 2 {
                READ_AHEAD
            } else {
                limit.min(READ_AHEAD)
            };
            state.pending.fill(length, || self.start(*handle, length));
        }
        state.give(limit)
    }

    /// Requests bytes from the host, unless some are available or in flight, or are read ahead anyway.
    fn ask(&self, limit: usize) {
        let Source::Host {
            handle,
            ahead: None,
        } = self.source
        else {
            return;
        };
        let mut state = self.lock();
        if state.start < state.buffer.len() || state.ended.is_some() {
            return;
        }
        state.forget_readiness();
        if state.pending.is_empty() {
            self.start_first(&mut state, handle, limit);
        }
    }
}

fn request(handle: Handle, length: usize) -> Call {
    Call::StreamRead {
        stream: handle,
        length: u32::try_from(length.min(MAX_TRANSFER)).unwrap_or(u32::MAX),
    }
}

/// Gives available standard input of a session: at most `limit` bytes, possibly none.
fn give_of_session(session: &dyn Session, limit: usize) -> Result<Vec<u8>, Ended> {
    let mut bytes = vec![0; limit.min(READ_AHEAD)];
    let Some(count) = session.poll_read(&mut bytes) else {
        return Ok(Vec::new());
    };
    if count == 0 && limit > 0 {
        return Err(Ended::End);
    }
    bytes.truncate(count);
    Ok(bytes)
}

/// The reason why an input stream gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its end was reached.
    End,
    /// It failed.
    Failed(Errno),
}

impl InputState {
    /// Moves buffered bytes to `output`.
    fn take(&mut self, output: &mut [u8]) -> usize {
        let available = self.buffer.get(self.start..).unwrap_or_default();
        let length = available.len().min(output.len());
        if let (Some(to), Some(from)) = (output.get_mut(..length), available.get(..length)) {
            to.copy_from_slice(from);
        }
        self.pass(length);
        length
    }

    /// Forgets buffered bytes that were given.
    fn pass(&mut self, length: usize) {
        self.start = self.start.saturating_add(length);
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// True if there are bytes, an end, or the host says that there is one of them.
    fn is_known(&self) -> bool {
        self.start < self.buffer.len() || self.ended.is_some() || self.ready
    }

    /// True if only the host says so.
    fn only_ready(&self) -> bool {
        self.ready && self.start >= self.buffer.len() && self.ended.is_none()
    }

    /// Forgets the host's statement about the stream, which is no longer true once somebody reads.
    fn forget_readiness(&mut self) {
        self.ready = false;
        self.pending.pop_readiness();
    }

    /// Gives available bytes, possibly none. An error is reported once, then the stream has ended.
    fn give(&mut self, limit: usize) -> Result<Vec<u8>, Ended> {
        let available = self.buffer.len().saturating_sub(self.start);
        if available == 0
            && let Some(end) = self.ended
        {
            self.ended = Some(Ok(()));
            return Err(match end {
                Ok(()) => Ended::End,
                Err(error) => Ended::Failed(error),
            });
        }
        if self.start == 0 && available <= limit {
            return Ok(std::mem::take(&mut self.buffer));
        }
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let bytes = rest.get(..limit).unwrap_or(rest).to_vec();
        self.pass(bytes.len());
        Ok(bytes)
    }

    /// True if the stream gives much, and there is memory to read it ahead.
    fn should_read_ahead(&mut self, budget: &Budget) -> bool {
        if self.last < FAST_STREAM_BYTES || self.ended.is_some() {
            self.ahead = None;
        } else if self.ahead.is_none() {
            self.ahead = Share::take(budget, AHEAD_MEMORY);
        }
        self.ahead.is_some()
    }

    /// Takes the answer of a pending request. False if it is not there yet, or nothing is pending.
    fn poll_pending(&mut self) -> bool {
        let answered = self.pending.pop_answered();
        let is_answered = answered.is_some();
        if let Some(pending) = answered {
            self.collect(pending);
        }
        is_answered
    }

    /// Waits for the answer to a request and takes it.
    fn collect(&mut self, pending: Queued) {
        let Queued {
            mut operation,
            length,
        } = pending;
        operation.wait();
        let answer = operation.take_bytes();
        self.last = 0;
        match answer {
            Ok(_) if length == 0 => self.ready = true,
            Ok((_, bytes)) if bytes.is_empty() => self.ended = Some(Ok(())),
            Ok((_, bytes)) => {
                self.last = bytes.len();
                (self.buffer, self.start) = (bytes, 0);
            }
            Err(error) => self.ended = Some(Err(error)),
        }
        if self.ended.is_some() {
            self.pending.clear();
        }
    }
}
