// SPDX-License-Identifier: Apache-2.0

//! The tenant's ends of the standard streams. Standard input is read ahead by one window, which the session
//! keeps, and one chunk; output counts as received when it has been written and flushed.

use crate::fault::Fault;
use enarx_session::tenant::{Released, Session};
use enarx_session::{Moment, WINDOW};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

/// Bytes of standard input that are read at once.
const CHUNK: usize = 16 << 10;

/// Written bytes after which an output is flushed, also when more is there: before the Keep waits for credit.
const FLUSH: usize = WINDOW as usize / 4;

/// The standard streams of the application, at the tenant.
#[derive(Debug)]
pub struct Streams<I, O, E> {
    /// Standard input; `tokio::io::empty()` for none.
    pub stdin: I,
    /// Standard output.
    pub stdout: O,
    /// Standard error.
    pub stderr: E,
}

/// Standard input to be sent to the session.
pub(crate) struct Source<I> {
    reader: I,
    chunk: Zeroizing<Vec<u8>>,
    from: usize,
    to: usize,
    ended: bool,
}

impl<I: AsyncRead + Unpin> Source<I> {
    pub(crate) fn new(reader: I) -> Self {
        Self {
            reader,
            chunk: Zeroizing::new(vec![0; CHUNK]),
            from: 0,
            to: 0,
            ended: false,
        }
    }

    /// Moves input to the session as far as it takes it, and returns whether something moved.
    ///
    /// # Errors
    /// [`Fault::Input`].
    pub(crate) fn poll(
        &mut self,
        session: &mut Session<Released>,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Result<bool, Fault> {
        let mut moved = false;
        loop {
            let waiting = self.chunk.get(self.from..self.to).unwrap_or_default();
            if !waiting.is_empty() {
                let count = session.stdin(waiting, now);
                self.from = self.from.saturating_add(count);
                moved |= count > 0;
            }
            // The rest waits until the Keep has read some.
            if self.ended || self.from < self.to {
                return Ok(moved);
            }
            let mut buffer = ReadBuf::new(&mut self.chunk);
            match Pin::new(&mut self.reader).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Err(error)) => return Err(Fault::Input(error.kind())),
                Poll::Ready(Ok(())) => {
                    self.from = 0;
                    self.to = buffer.filled().len();
                }
            }
            moved = true;
            if self.to == 0 {
                self.ended = true;
                session.end_stdin();
            }
        }
    }
}

/// An output to be written for the tenant. The session's credit limits the bytes waiting here to one
/// window.
pub(crate) struct Sink<O> {
    writer: O,
    waiting: VecDeque<u8>,
    unflushed: usize,
}

/// Standard input of a deployment that is left: nothing comes, and it does not end.
pub(crate) struct SilentInput;

impl AsyncRead for SilentInput {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl<O: AsyncWrite + Unpin> Sink<O> {
    pub(crate) fn new(writer: O) -> Self {
        Self {
            writer,
            waiting: VecDeque::new(),
            unflushed: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// True if everything has been written and flushed.
    pub(crate) fn is_done(&self) -> bool {
        self.open() == 0
    }

    /// Bytes that have not been both written and flushed.
    pub(crate) fn open(&self) -> u64 {
        self.waiting.len() as u64 + self.unflushed as u64
    }

    /// Writes what can be written, and returns how many bytes are through, and whether something moved.
    ///
    /// # Errors
    /// [`Fault::Output`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<(usize, bool), Fault> {
        let fault = |error: std::io::Error| Fault::Output(error.kind());
        let (mut through, mut moved) = (0, false);
        loop {
            let (front, _) = self.waiting.as_slices();
            if front.is_empty() && self.unflushed == 0 {
                return Ok((through, moved));
            }
            if front.is_empty() || self.unflushed >= FLUSH {
                match Pin::new(&mut self.writer).poll_flush(cx).map_err(fault)? {
                    Poll::Pending => return Ok((through, moved)),
                    Poll::Ready(()) => through += std::mem::take(&mut self.unflushed),
                }
            } else {
                match Pin::new(&mut self.writer)
                    .poll_write(cx, front)
                    .map_err(fault)?
                {
                    Poll::Pending => return Ok((through, moved)),
                    Poll::Ready(0) => return Err(Fault::Output(ErrorKind::WriteZero)),
                    Poll::Ready(count) => {
                        let count = count.min(self.waiting.len());
                        self.waiting.drain(..count);
                        self.unflushed += count;
                    }
                }
            }
            moved = true;
        }
    }
}
