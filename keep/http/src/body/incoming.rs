// SPDX-License-Identifier: Apache-2.0

//! Bodies that a peer sends, as streams of the component. The peer is not trusted.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use enarx_wasi::port::{Port, Timer};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, StreamError, StreamResult};

use crate::account::Held;
use crate::error::{ErrorCode, connection_error, stream_error};
use crate::lock::lock;

/// How a body ended: with trailers, without, or by an error.
pub type End = Result<Option<HeaderMap>, ErrorCode>;

/// A body that a peer sends.
struct Received {
    /// `None` once it has ended.
    body: Option<Incoming>,
    /// Bytes that the component has not taken yet.
    buffer: Bytes,
    end: Option<End>,
    port: Port,
    /// Longest time between two pieces of it.
    between_bytes: Duration,
    /// When the next piece is waited for no longer.
    limit: Option<Timer>,
    /// Its part of a connection and its memory, held until it has ended.
    held: Option<Held>,
}

impl Received {
    /// Waits until there are bytes, or the end is known.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.buffer.is_empty() {
            let Some(body) = &mut self.body else { break };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.limit = None;
                    match frame.into_data() {
                        Ok(bytes) => self.buffer = bytes,
                        Err(frame) => self.finish(Ok(frame.into_trailers().ok())),
                    }
                }
                Poll::Ready(Some(Err(error))) => self.finish(Err(connection_error(&error))),
                Poll::Ready(None) => self.finish(Ok(None)),
                Poll::Pending => {
                    let (port, between) = (&self.port, self.between_bytes);
                    let limit = self.limit.get_or_insert_with(|| {
                        let now = Instant::now();
                        port.sleep_until(now.checked_add(between).unwrap_or(now))
                    });
                    if Pin::new(limit).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.finish(Err(ErrorCode::ConnectionReadTimeout));
                }
            }
        }
        Poll::Ready(())
    }

    fn finish(&mut self, end: End) {
        self.body = None;
        self.limit = None;
        self.held = None;
        self.end = Some(end);
    }
}

/// The body of a request or response that comes in.
pub struct IncomingBody {
    received: Arc<Mutex<Received>>,
    /// The component has its stream.
    has_stream: bool,
}

impl IncomingBody {
    /// The body that `body` receives, with this time limit for its next piece.
    pub fn new(port: &Port, body: Incoming, between_bytes: Duration) -> Self {
        Self {
            received: Arc::new(Mutex::new(Received {
                body: Some(body),
                buffer: Bytes::new(),
                end: None,
                port: port.clone(),
                between_bytes,
                limit: None,
                held: None,
            })),
            has_stream: false,
        }
    }

    /// The same, with a value that is held until it has ended.
    #[must_use]
    pub fn holding(self, held: Held) -> Self {
        if !self.is_empty() {
            lock(&self.received).held = Some(held);
        }
        self
    }

    /// True if it is known to be empty.
    pub fn is_empty(&self) -> bool {
        let received = lock(&self.received);
        let is_over = received.body.as_ref().is_some_and(Body::is_end_stream);
        is_over && received.buffer.is_empty()
    }

    /// Its stream, once.
    pub fn stream(&mut self) -> Option<IncomingStream> {
        let first = !std::mem::replace(&mut self.has_stream, true);
        first.then(|| IncomingStream::new(&self.received))
    }

    /// Its stream and its trailers at once.
    pub fn split(self) -> (IncomingStream, FutureTrailers) {
        let stream = IncomingStream::new(&self.received);
        (stream, self.trailers())
    }

    /// Its trailers, which arrive after the rest of it was skipped.
    pub fn trailers(self) -> FutureTrailers {
        FutureTrailers {
            received: self.received,
            taken: false,
        }
    }
}

/// The stream of a body that comes in. An error is told once, then the stream is closed.
pub struct IncomingStream {
    received: Arc<Mutex<Received>>,
    closed: bool,
}

impl IncomingStream {
    fn new(received: &Arc<Mutex<Received>>) -> Self {
        Self {
            received: Arc::clone(received),
            closed: false,
        }
    }

    /// Waits for bytes; `take` is given them, and says how many it took. False at the end.
    pub fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<bool> {
        let mut received = lock(&self.received);
        ready!(received.poll(context));
        let length = received.buffer.len();
        if length > 0 {
            let taken = take(&received.buffer).min(length);
            received.buffer.advance(taken);
        }
        Poll::Ready(length > 0)
    }
}

#[async_trait]
impl Pollable for IncomingStream {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| lock(&self.received).poll(context)).await;
    }
}

#[async_trait]
impl InputStream for IncomingStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut received = lock(&self.received);
        // Waiters are woken by `ready`, which polls again.
        if size > 0
            && received
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        {
            return Ok(Bytes::new());
        }
        if !received.buffer.is_empty() {
            let length = received.buffer.len().min(size);
            return Ok(received.buffer.split_to(length));
        }
        match &received.end {
            Some(Err(code)) if !self.closed => {
                self.closed = true;
                Err(stream_error(code.clone()))
            }
            Some(_) => Err(StreamError::Closed),
            None => Ok(Bytes::new()),
        }
    }
}

/// The trailers of a body that comes in.
pub struct FutureTrailers {
    received: Arc<Mutex<Received>>,
    taken: bool,
}

impl FutureTrailers {
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut received = lock(&self.received);
        loop {
            if received.poll(context).is_pending() {
                return Poll::Pending;
            }
            if received.end.is_some() {
                return Poll::Ready(());
            }
            received.buffer.clear();
        }
    }

    /// Waits for the trailers, which are there once.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        ready!(self.poll(context));
        Poll::Ready(lock(&self.received).end.take())
    }

    /// The trailers, once; `None` while they are not there yet.
    pub fn get(&mut self) -> Option<Result<End, ()>> {
        if self.taken {
            return Some(Err(()));
        }
        if self
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            return None;
        }
        self.taken = true;
        lock(&self.received).end.take().map(Ok)
    }
}

#[async_trait]
impl Pollable for FutureTrailers {
    async fn ready(&mut self) {
        if !self.taken {
            std::future::poll_fn(|context| self.poll(context)).await;
        }
    }
}
