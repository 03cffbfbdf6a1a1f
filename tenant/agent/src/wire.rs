// SPDX-License-Identifier: Apache-2.0

//! The connection with the Keep: TLS over the bytes that the manager forwards. Every byte from the peer is
//! hostile; the buffers have fixed lengths, and a peer that does not read delays only itself.

use crate::fault::Fault;
use enarx_session::Refusal;
use enarx_tls::{Connection, Facts, Key};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroizing;

/// Bytes of each buffer: one TLS record with room to spare (RFC 8446 section 5.1).
const BUFFER: usize = 32 << 10;

/// A buffer with bytes between two marks.
struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    from: usize,
    to: usize,
}

impl Buffer {
    fn new() -> Self {
        Self {
            bytes: Zeroizing::new(vec![0; BUFFER]),
            from: 0,
            to: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.from = self.from.saturating_add(count).min(self.to);
    }

    /// Replaces the content with the output of `fill`.
    fn refill(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.from = 0;
        self.to = fill(&mut self.bytes).min(self.bytes.len());
    }
}

/// A TLS connection over a stream.
pub(crate) struct Wire<S> {
    io: S,
    tls: Connection,
    input: Buffer,
    output: Buffer,
    plain: Buffer,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more can be sent. Bytes that the peer sent before are still read.
    broken: bool,
    flushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// The tenant's end of a connection over `io`.
    ///
    /// # Errors
    /// [`Fault::Tls`].
    pub(crate) fn tenant(io: S, key: &Key) -> Result<Self, Fault> {
        Ok(Self {
            io,
            tls: Connection::tenant(key)?,
            input: Buffer::new(),
            output: Buffer::new(),
            plain: Buffer::new(),
            ended: false,
            broken: false,
            flushed: true,
        })
    }

    /// Goes on with the handshake until it is complete.
    ///
    /// # Errors
    /// [`Fault::Tls`]; [`Refusal::Truncated`] when the connection ends before.
    pub(crate) async fn handshake(&mut self) -> Result<Facts, Fault> {
        std::future::poll_fn(|cx| {
            loop {
                // Both directions have to be polled, whether one is pending or not.
                let _ = self.poll_send(cx);
                if let Some(facts) = self.tls.facts() {
                    return Poll::Ready(Ok(facts.clone()));
                }
                ready!(self.poll_input(cx));
                self.take_input()?;
                if self.ended && self.input.is_empty() && self.tls.facts().is_none() {
                    return Poll::Ready(Err(Refusal::Truncated.into()));
                }
            }
        })
        .await
    }

    /// Takes plaintext for the Keep, and returns how many bytes were taken; the rest has to wait until
    /// pending bytes have been sent.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.broken {
            return 0;
        }
        self.tls.write(bytes)
    }

    /// Tells the Keep that nothing more comes.
    pub(crate) fn close(&mut self) {
        self.tls.close();
    }

    /// True if nothing more can be sent.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Sends pending bytes. Ready when none are left.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.broken {
            if self.output.is_empty() {
                let tls = &mut self.tls;
                self.output.refill(|buffer| tls.outgoing(buffer));
            }
            if self.output.is_empty() {
                if !self.flushed {
                    let result = ready!(Pin::new(&mut self.io).poll_flush(cx));
                    self.broken |= result.is_err();
                    self.flushed = true;
                }
                break;
            }
            match ready!(Pin::new(&mut self.io).poll_write(cx, self.output.filled())) {
                Ok(count) if count > 0 => self.output.consume(count),
                _ => self.broken = true,
            }
            self.flushed = false;
        }
        Poll::Ready(())
    }

    /// Waits for plaintext, which [`Self::plaintext`] then has. False at the end of the connection.
    ///
    /// # Errors
    /// [`Fault::Tls`].
    pub(crate) fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        loop {
            if self.plain.is_empty() {
                let tls = &mut self.tls;
                self.plain.refill(|buffer| tls.read(buffer));
            }
            if !self.plain.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if self.tls.is_closed_by_peer() || (self.ended && self.input.is_empty()) {
                return Poll::Ready(Ok(false));
            }
            ready!(self.poll_input(cx));
            self.take_input()?;
        }
    }

    /// The plaintext that has not been consumed yet.
    pub(crate) fn plaintext(&self) -> &[u8] {
        self.plain.filled()
    }

    /// Records that the first `count` bytes of the plaintext have been consumed.
    pub(crate) fn consume(&mut self, count: usize) {
        self.plain.consume(count);
    }

    /// Waits for bytes of the peer, or for their end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended || !self.input.is_empty() {
            return Poll::Ready(());
        }
        let mut buffer = ReadBuf::new(&mut self.input.bytes);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            // An error cuts the connection like an end: TLS says whether it was complete.
            Poll::Ready(_) => {}
        }
        let count = buffer.filled().len();
        self.ended |= count == 0;
        self.input.refill(|_| count);
        Poll::Ready(())
    }

    /// Gives TLS as many bytes as it has room for.
    fn take_input(&mut self) -> Result<(), Fault> {
        let mut rest = self.input.filled();
        let before = rest.len();
        let result = self.tls.receive(&mut rest);
        let taken = before.saturating_sub(rest.len());
        self.input.consume(taken);
        Ok(result?)
    }
}
