// SPDX-License-Identifier: Apache-2.0

//! A connection with TLS, as hyper reads and writes it, or one without. The host carries encrypted bytes;
//! the peer is identified by its certificate, or is unknown.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use enarx_tls::web::{HTTP2, Session, WebError};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::stream::Stream;

/// A connection of either kind. One type, so that the runtime has the code of HTTP once.
pub enum Transport {
    /// In clear.
    Clear(Stream),
    /// Over TLS.
    Secure(Box<Secure>),
}

impl Transport {
    /// True if both ends have agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        match self {
            Self::Clear(_) => false,
            Self::Secure(stream) => stream.is_http2(),
        }
    }
}

/// A connection whose bytes are encrypted.
pub struct Secure {
    stream: Stream,
    tls: Session,
    /// Bytes of the peer that were not taken yet.
    received: Bytes,
    /// Bytes for the peer; those before `sent` are with the host.
    sending: Vec<u8>,
    sent: usize,
}

/// An error of the other end's, or of TLS itself, as hyper passes it on.
fn error(error: WebError) -> io::Error {
    let kind = match error {
        WebError::Cut => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

impl Secure {
    /// A connection that begins.
    pub fn new(stream: Stream, tls: Session) -> Self {
        Self {
            stream,
            tls,
            received: Bytes::new(),
            sending: Vec::new(),
            sent: 0,
        }
    }

    /// Waits until the handshake is complete.
    ///
    /// # Errors
    /// The host's, or a [`WebError`]: then there may be an alert for the peer, which [`Self::close`] sends.
    pub async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            loop {
                if let Poll::Ready(Err(error)) = self.poll_send(context) {
                    return Poll::Ready(Err(error));
                }
                if !self.tls.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_receive(context))?;
            }
        })
        .await
    }

    /// Sends what there is, and ends the connection.
    pub async fn close(mut self) {
        // A peer that reads nothing any more gets no message.
        let _ = poll_fn(|context| Pin::new(&mut self).poll_shutdown(context)).await;
    }

    /// True if both ends have agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.tls.protocol() == Some(HTTP2)
    }

    /// Takes bytes of the peer, waiting for some.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            self.received = ready!(self.stream.poll_fill(context))?;
            if self.received.is_empty() {
                return Poll::Ready(Err(error(WebError::Cut)));
            }
        }
        let mut rest = &*self.received;
        let taken = self.tls.receive(&mut rest);
        let left = rest.len();
        self.received
            .advance(self.received.len().saturating_sub(left));
        Poll::Ready(taken.map_err(error))
    }

    /// Waits until the host has been given all that there is for the peer.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.sent >= self.sending.len() {
                self.sending.clear();
                self.sent = 0;
                self.tls.outgoing(&mut self.sending);
            }
            let rest = self.sending.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            self.sent = self.sent.saturating_add(count);
        }
    }
}

impl Read for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let plaintext = self.tls.plaintext();
            if !plaintext.is_empty() {
                let length = plaintext.len().min(buffer.remaining());
                buffer.put_slice(plaintext.get(..length).unwrap_or_default());
                self.tls.consume(length);
                return Poll::Ready(Ok(()));
            }
            if self.tls.is_closed_by_peer() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(context))?;
            // Messages of TLS itself go out while the peer is listened to.
            if let Poll::Ready(Err(error)) = self.poll_send(context) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl Write for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let length = self.tls.write(bytes);
        if length == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.close();
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Read for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
