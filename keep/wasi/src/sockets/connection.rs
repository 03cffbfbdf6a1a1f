// SPDX-License-Identifier: Apache-2.0

//! A TCP connection, in clear or with TLS around it: bytes in, bytes out, without waiting. The peer is not trusted, nor the
//! host that carries the bytes.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use enarx_sallyport::Call;
use enarx_sallyport::types::ShutdownHow;
use enarx_tls::web::{Session, WebError};

use super::socket::Socket;
use crate::budget::{Budget, Share};
use crate::error::{Errno, Result};
use crate::port::queue::{FAST_STREAM_BYTES, Queue};
use crate::port::{MAX_TRANSFER, Operation};

/// Bytes that are requested at once.
const READ: u32 = 32 << 10;
/// Memory that is counted for a connection, in bytes: bytes that were read and not taken.
const CLEAR_MEMORY: u64 = READ as u64;
/// The same with TLS, which adds an incomplete handshake message or record, and encrypted bytes
/// that are not sent.
const TLS_MEMORY: u64 = CLEAR_MEMORY + (128 << 10);

/// A write that the host has not answered yet.
struct Writing {
    operation: Operation,
    length: usize,
}

/// A TCP connection. An error is that of each later call, too.
pub struct Connection {
    socket: Arc<Socket>,
    tls: Option<Box<Session>>,
    /// Reads in flight; several only while it is fast.
    reading: Queue,
    /// Bytes of the peer; those before `taken` were taken.
    received: Vec<u8>,
    taken: usize,
    /// The end of the peer's data.
    ended: Option<Result<()>>,
    writing: Option<Writing>,
    /// Bytes that are encrypted and not yet with the host.
    sending: Vec<u8>,
    /// Why nothing is sent any more.
    failed: Option<Errno>,
    /// Nothing more is written; the peer gets the end once everything is sent.
    ends: bool,
    ending: Option<Operation>,
    /// The program does not wait at this connection.
    pub nonblocking: bool,
    /// Memory for its buffers.
    _share: Share,
}

/// Requests bytes from the host, which is not notified yet.
fn start_read(socket: &Socket) -> Result<Operation> {
    let call = Call::StreamRead {
        stream: socket.handle,
        length: READ,
    };
    socket.port.prepare(&call, &[])
}

/// Why a handshake did not succeed.
pub enum HandshakeError {
    /// The connection failed.
    Connection(Errno),
    /// TLS says no.
    Tls(WebError),
}

impl From<Errno> for HandshakeError {
    fn from(errno: Errno) -> Self {
        Self::Connection(errno)
    }
}

impl Connection {
    /// An established connection.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] when its buffers do not fit in the budget.
    pub(crate) fn new(socket: Arc<Socket>, tls: Option<Session>, budget: &Budget) -> Result<Self> {
        let bytes = if tls.is_some() {
            TLS_MEMORY
        } else {
            CLEAR_MEMORY
        };
        Ok(Self {
            socket,
            tls: tls.map(Box::new),
            reading: Queue::default(),
            received: Vec::new(),
            taken: 0,
            ended: None,
            writing: None,
            sending: Vec::new(),
            failed: None,
            ends: false,
            ending: None,
            nonblocking: false,
            _share: Share::take(budget, bytes).ok_or(Errno::NoMemory)?,
        })
    }

    /// Waits for bytes of the host; false at their end.
    fn poll_fill(&mut self, context: &Context<'_>) -> Poll<Result<bool>> {
        loop {
            if self.taken < self.received.len() {
                return Poll::Ready(Ok(true));
            }
            if let Some(ended) = self.ended {
                return Poll::Ready(ended.map(|()| false));
            }
            if self.reading.is_empty() {
                self.reading.push(start_read(&self.socket)?, READ as usize);
            }
            if !self.reading.poll_answered(&self.socket.port, context) {
                return Poll::Pending;
            }
            let answer = self.reading.pop().map(|mut it| it.operation.take_bytes());
            match answer {
                None => return Poll::Pending,
                Some(Ok((_, bytes))) if bytes.is_empty() => self.ended = Some(Ok(())),
                Some(Ok((_, bytes))) => (self.received, self.taken) = (bytes, 0),
                Some(Err(errno)) => self.ended = Some(Err(errno)),
            }
            if self.ended.is_some() {
                self.reading.clear();
            } else if self.received.len() >= FAST_STREAM_BYTES {
                let socket = &self.socket;
                self.reading.fill(READ as usize, || start_read(socket));
            }
        }
    }

    /// Passes received bytes to TLS, and sends its output.
    fn digest(&mut self, context: &Context<'_>) -> Result<(), WebError> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        let mut rest = self.received.get(self.taken..).unwrap_or_default();
        let outcome = tls.receive(&mut rest);
        self.taken = self.received.len().saturating_sub(rest.len());
        // A peer that takes nothing any more may still send.
        let _ = self.poll_sent(context);
        outcome
    }

    /// Waits until the host has been given everything that there is for the peer.
    ///
    /// # Errors
    /// The host's.
    pub fn poll_sent(&mut self, context: &Context<'_>) -> Poll<Result<()>> {
        loop {
            if let Some(failed) = self.failed {
                return Poll::Ready(Err(failed));
            }
            if let Some(Writing { operation, length }) = &mut self.writing {
                if !operation.poll_ready(context) {
                    return Poll::Pending;
                }
                self.failed = match operation.take(&mut []) {
                    Ok(answer) if answer.value == *length as u64 => None,
                    Ok(_) => Some(Errno::Io),
                    Err(errno) => Some(errno),
                };
                self.writing = None;
                continue;
            }
            if self.sending.is_empty()
                && let Some(tls) = &mut self.tls
            {
                tls.outgoing(&mut self.sending);
            }
            if self.sending.is_empty() {
                if self.ends && self.ending.is_none() {
                    self.ending = Some(self.socket.shutdown(ShutdownHow::Send)?);
                }
                return Poll::Ready(Ok(()));
            }
            let length = self.sending.len().min(MAX_TRANSFER);
            let rest = self.sending.split_off(length);
            let first = std::mem::replace(&mut self.sending, rest);
            self.start_write(&first)?;
        }
    }

    /// Starts a write of at most [`MAX_TRANSFER`] bytes.
    fn start_write(&mut self, bytes: &[u8]) -> Result<()> {
        let call = Call::StreamWrite {
            stream: self.socket.handle,
            length: u32::try_from(bytes.len()).map_err(|_| Errno::Invalid)?,
        };
        self.writing = Some(Writing {
            operation: self.socket.port.start(&call, &[bytes])?,
            length: bytes.len(),
        });
        Ok(())
    }

    /// Waits until the handshake is complete.
    pub(super) fn poll_handshake(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            if let Poll::Ready(Err(errno)) = self.poll_sent(context) {
                return Poll::Ready(Err(errno.into()));
            }
            if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.poll_fill(context))? {
                return Poll::Ready(Err(HandshakeError::Tls(WebError::Cut)));
            }
            if let Err(error) = self.digest(context) {
                return Poll::Ready(Err(HandshakeError::Tls(error)));
            }
        }
    }

    /// Waits until there is something to read; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// Errors of the host; [`Errno::ConnectionReset`] if TLS was cut off, so that a part does not
    /// look complete, and [`Errno::ConnectionAborted`] for bytes that are not the peer's.
    pub fn poll_readable(&mut self, context: &Context<'_>) -> Poll<Result<usize>> {
        if self.tls.is_none() {
            let more = ready!(self.poll_fill(context))?;
            let count = self.received.len().saturating_sub(self.taken);
            return Poll::Ready(Ok(if more { count } else { 0 }));
        }
        // The end of a handshake may be among them.
        let _ = self.poll_sent(context);
        loop {
            if let Some(tls) = &mut self.tls {
                let count = tls.plaintext().len();
                if count > 0 || tls.is_closed_by_peer() {
                    return Poll::Ready(Ok(count));
                }
            }
            let error = if !ready!(self.poll_fill(context))? {
                Errno::ConnectionReset
            } else if self.digest(context).is_err() {
                Errno::ConnectionAborted
            } else {
                continue;
            };
            self.taken = self.received.len();
            self.ended = Some(Err(error));
        }
    }

    /// The bytes that can be read now, as far as they lie in one piece.
    fn readable(&mut self) -> &[u8] {
        match &mut self.tls {
            None => self.received.get(self.taken..).unwrap_or_default(),
            Some(tls) => tls.plaintext(),
        }
    }

    /// Reads, waiting until there is something; 0 is the end. With `peeks` it can be read again.
    ///
    /// # Errors
    /// As [`Self::poll_readable`].
    pub fn poll_read(
        &mut self,
        context: &Context<'_>,
        buffer: &mut [u8],
        peeks: bool,
    ) -> Poll<Result<usize>> {
        ready!(self.poll_readable(context))?;
        let mut bytes = self.readable();
        // Reading from memory does not fail.
        let count = io::Read::read(&mut bytes, buffer).unwrap_or(0);
        match &mut self.tls {
            _ if peeks => {}
            None => self.taken = self.taken.saturating_add(count),
            Some(tls) => tls.consume(count),
        }
        Poll::Ready(Ok(count))
    }

    /// Waits until something can be written.
    ///
    /// # Errors
    /// The host's; [`Errno::Pipe`] after the end.
    pub fn poll_writable(&mut self, context: &Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_sent(context))?;
        Poll::Ready(if self.ends { Err(Errno::Pipe) } else { Ok(()) })
    }

    /// Writes bytes, waiting until there is room for some; they are sent by [`Self::poll_sent`].
    ///
    /// # Errors
    /// As [`Self::poll_writable`].
    pub fn poll_write(&mut self, context: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        ready!(self.poll_writable(context))?;
        let bytes = bytes.get(..MAX_TRANSFER).unwrap_or(bytes);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(tls) = &mut self.tls else {
            self.start_write(bytes)?;
            return Poll::Ready(Ok(bytes.len()));
        };
        let count = tls.write(bytes);
        if count == 0 {
            return Poll::Ready(Err(Errno::Pipe));
        }
        Poll::Ready(match self.poll_sent(context) {
            Poll::Ready(Err(errno)) => Err(errno),
            _ => Ok(count),
        })
    }

    /// Cancels the bytes in flight to the host, for a connection without TLS; returns how many of
    /// them the host has.
    ///
    /// # Errors
    /// The host's.
    pub fn take_back(&mut self) -> Result<usize> {
        let Some(mut writing) = self.writing.take() else {
            return Ok(0);
        };
        let taken = match writing.operation.take_back() {
            // The host says so.
            Ok(count) if count > writing.length => Err(Errno::Io),
            taken => taken,
        };
        self.failed = taken.err();
        taken
    }

    /// Ends reading.
    pub fn end_reading(&mut self) {
        self.reading.clear();
        self.taken = self.received.len();
        self.ended = Some(Ok(()));
    }

    /// Ends writing: the peer gets the end once everything is sent, which [`Self::poll_sent`]
    /// drives.
    pub fn end_writing(&mut self) {
        self.ends = true;
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
    }

    /// Waits until the host has everything, the end too.
    pub fn poll_ended(&mut self, context: &Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_sent(context))?;
        match &self.ending {
            Some(operation) if !operation.poll_ready(context) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}
