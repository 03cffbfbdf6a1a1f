//! Standard input, output and error over the sallyport.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use enarx_sallyport::{Call, Handle};

use crate::error::{Errno, Result};
use crate::port::{MAX_TRANSFER, Operation, Port};

/// Standard output.
pub const STDOUT: Handle = Handle::STDOUT;
/// Standard error.
pub const STDERR: Handle = Handle::STDERR;

/// An output stream; clones share it.
#[derive(Clone)]
pub struct Output {
    port: Port,
    handle: Handle,
}

impl Output {
    /// The output stream of this handle.
    pub fn new(port: Port, handle: Handle) -> Self {
        Self { port, handle }
    }

    /// Writes all of `bytes`, however many.
    ///
    /// # Errors
    /// As [`Port::write`]: [`Errno::Pipe`] when nobody reads any more.
    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        self.port.write(self.handle, bytes)
    }
}

/// Bytes that a reader which only waits for readiness asks for ahead.
const READ_AHEAD: usize = 64 * 1024;

struct InputState {
    buffer: Vec<u8>,
    start: usize,
    pending: Option<Operation>,
    /// The end of the stream, or the error that ended it.
    ended: Option<Result<()>>,
}

/// Standard input; clones share it.
#[derive(Clone)]
pub struct Input {
    port: Port,
    handle: Handle,
    state: Arc<Mutex<InputState>>,
}

impl Input {
    /// The input stream of this handle.
    pub fn new(port: Port, handle: Handle) -> Self {
        Self {
            port,
            handle,
            state: Arc::new(Mutex::new(InputState {
                buffer: Vec::new(),
                start: 0,
                pending: None,
                ended: None,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, InputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, length: usize) -> Call {
        Call::StreamRead {
            stream: self.handle,
            length: u32::try_from(length.min(MAX_TRANSFER)).unwrap_or(u32::MAX),
        }
    }

    /// Reads into `output`, waiting until there is something; 0 is the end.
    ///
    /// # Errors
    /// What the host answers.
    pub fn read(&self, output: &mut [u8]) -> Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        let mut state = self.lock();
        if let Some(pending) = state.pending.take() {
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
        Ok(self.port.call(&self.request(length), &[], output)?.length)
    }

    /// Whether a read would not wait. Asks the host for bytes when there are none.
    pub fn poll_ready(&self) -> bool {
        let mut state = self.lock();
        if state.start < state.buffer.len() || state.ended.is_some() {
            return true;
        }
        if state.pending.is_none() {
            match self.port.start(&self.request(READ_AHEAD), &[]) {
                Ok(operation) => state.pending = Some(operation),
                Err(error) => {
                    state.ended = Some(Err(error));
                    return true;
                }
            }
        }
        state.poll_pending()
    }

    /// Reads what is there without waiting: at most `limit` bytes, none when nothing is there yet.
    ///
    /// # Errors
    /// [`Ended`] at the end of the stream, or with the error that ended it.
    pub fn read_available(&self, limit: usize) -> Result<Vec<u8>, Ended> {
        if limit == 0 || !self.poll_ready() {
            return Ok(Vec::new());
        }
        let mut state = self.lock();
        let mut bytes = vec![0; limit.min(state.buffer.len().saturating_sub(state.start))];
        if state.take(&mut bytes) > 0 {
            return Ok(bytes);
        }
        match state.ended {
            Some(Err(error)) => Err(Ended::Failed(error)),
            Some(Ok(())) => Err(Ended::End),
            None => Ok(Vec::new()),
        }
    }
}

/// Why an input stream gives no more.
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
        self.start = self.start.saturating_add(length);
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        length
    }

    /// Takes the answer of a pending read when it is there; whether it was.
    fn poll_pending(&mut self) -> bool {
        match self.pending.take() {
            Some(pending) if pending.is_ready() => {
                self.collect(pending);
                true
            }
            pending => {
                self.pending = pending;
                false
            }
        }
    }

    /// Waits for the answer of a read and takes it into the buffer.
    fn collect(&mut self, mut pending: Operation) {
        self.buffer.resize(READ_AHEAD, 0);
        let answer = pending.take(&mut self.buffer);
        self.start = 0;
        self.buffer
            .truncate(answer.map_or(0, |answer| answer.length));
        match answer {
            Ok(answer) if answer.length > 0 => {}
            Ok(_) => self.ended = Some(Ok(())),
            Err(error) => self.ended = Some(Err(error)),
        }
    }
}
