// SPDX-License-Identifier: Apache-2.0

//! A connection of the host, as hyper reads and writes it, and hyper's clock and tasks on the port.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use enarx_sallyport::types::ShutdownHow;
use enarx_sallyport::{Call, Handle};
use enarx_wasi::error::Errno;
use enarx_wasi::port::{MAX_TRANSFER, Operation, Port, Spawner, Timer};
use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes that are asked for at once.
const READ: u32 = 32 * 1024;

/// Longest time that a peer may take none of the sent data.
const WRITE_LIMIT: Duration = Duration::from_mins(1);

/// Longest time, and most bytes, that are read and discarded before a connection is closed: a peer that still sends
/// would get a reset, and might never read the last answer (RFC 9112, section 9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// First bytes of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn error(errno: Errno) -> io::Error {
    let kind = match errno {
        Errno::ConnectionReset => io::ErrorKind::ConnectionReset,
        Errno::ConnectionAborted => io::ErrorKind::ConnectionAborted,
        Errno::Pipe => io::ErrorKind::BrokenPipe,
        Errno::TimedOut => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, errno)
}

fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

/// The end of a connection.
enum Closing {
    /// The host is told that nothing more is sent.
    Telling(Operation),
    /// The peer's rest is thrown away.
    Lingering(Timer, usize),
    /// It is over.
    Over,
}

/// A connection; closed when dropped.
pub struct Stream {
    port: Port,
    handle: Handle,
    reading: Option<Operation>,
    /// Bytes that were read and not taken.
    buffer: Bytes,
    writing: Option<(Operation, usize)>,
    /// When the peer is waited for no longer.
    limit: Option<Timer>,
    closing: Option<Closing>,
}

impl Stream {
    /// The connection of a handle of the host's.
    pub fn new(port: &Port, handle: Handle) -> Self {
        Self {
            port: port.clone(),
            handle,
            reading: None,
            buffer: Bytes::new(),
            writing: None,
            limit: None,
            closing: None,
        }
    }

    /// Waits for bytes; none at the end.
    ///
    /// # Errors
    /// The host's.
    pub fn poll_fill(&mut self, context: &Context<'_>) -> Poll<io::Result<Bytes>> {
        let operation = match &mut self.reading {
            Some(operation) => operation,
            reading => {
                let call = Call::StreamRead {
                    stream: self.handle,
                    length: READ,
                };
                reading.insert(self.port.start(&call, &[]).map_err(error)?)
            }
        };
        if !operation.poll_ready(context) {
            return Poll::Pending;
        }
        let answer = operation.take_bytes();
        self.reading = None;
        Poll::Ready(answer.map(|(_, bytes)| bytes.into()).map_err(error))
    }

    /// Waits until a peer has begun, and returns whether it speaks HTTP/2 from the start.
    ///
    /// # Errors
    /// The host's.
    pub fn poll_is_http2(&mut self, context: &Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let length = self.buffer.len().min(PREFACE.len());
            if self.buffer.get(..length) != PREFACE.get(..length) {
                return Poll::Ready(Ok(false));
            }
            if length == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            let more = ready!(self.poll_fill(context))?;
            if more.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.buffer = [&*self.buffer, &*more].concat().into();
        }
    }

    /// Waits until the host has taken what was written.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((operation, length)) = &mut self.writing else {
            return Poll::Ready(Ok(()));
        };
        if !operation.poll_ready(context) {
            let port = &self.port;
            let limit = &mut self.limit;
            let limit = limit.get_or_insert_with(|| port.sleep_until(after(WRITE_LIMIT)));
            ready!(Pin::new(limit).poll(context));
            return Poll::Ready(Err(error(Errno::TimedOut)));
        }
        self.limit = None;
        let outcome = match operation.take(&mut []) {
            Ok(answer) if answer.value == *length as u64 => Ok(()),
            Ok(_) => Err(Errno::Io),
            Err(errno) => Err(errno),
        };
        self.writing = None;
        Poll::Ready(outcome.map_err(error))
    }

    fn poll_write_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[&[u8]],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(context))?;
        let length = parts.iter().map(|part| part.len()).sum();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let call = Call::StreamWrite {
            stream: self.handle,
            length: u32::try_from(length).map_err(|_| error(Errno::Invalid))?,
        };
        let operation = self.port.start(&call, parts).map_err(error)?;
        self.writing = Some((operation, length));
        Poll::Ready(Ok(length))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.port.post(&Call::Close {
            handle: self.handle,
        });
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = ready!(self.poll_fill(context))?;
        }
        let length = self.buffer.len().min(buffer.remaining());
        buffer.put_slice(self.buffer.get(..length).unwrap_or_default());
        self.buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = bytes.get(..MAX_TRANSFER).unwrap_or(bytes);
        self.poll_write_parts(context, &[bytes])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = MAX_TRANSFER;
        let mut parts = Vec::with_capacity(slices.len());
        for slice in slices {
            let part: &[u8] = slice.get(..room).unwrap_or(slice);
            room -= part.len();
            parts.push(part);
            if room == 0 {
                break;
            }
        }
        self.poll_write_parts(context, &parts)
    }

    /// Nothing is held back here: written bytes are in the ring. The next write, or the end of the connection,
    /// waits until the host has taken them, and fails if that failed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(context))?;
        loop {
            let next = match &mut self.closing {
                None => {
                    let call = Call::Shutdown {
                        handle: self.handle,
                        how: ShutdownHow::Send,
                    };
                    Closing::Telling(self.port.start(&call, &[]).map_err(error)?)
                }
                Some(Closing::Telling(operation)) => {
                    if !operation.poll_ready(context) {
                        return Poll::Pending;
                    }
                    match operation.take(&mut []) {
                        Ok(_) => {
                            let (time, bytes) = LINGER;
                            Closing::Lingering(self.port.sleep_until(after(time)), bytes)
                        }
                        // A peer that has gone is told nothing.
                        Err(_) => Closing::Over,
                    }
                }
                Some(Closing::Lingering(timer, left)) => {
                    let (over, left) = (Pin::new(timer).poll(context).is_ready(), *left);
                    if over || left == 0 {
                        self.closing = Some(Closing::Over);
                        continue;
                    }
                    let length = ready!(self.poll_fill(context)).map_or(0, |bytes| bytes.len());
                    if let Some(Closing::Lingering(_, left)) = &mut self.closing {
                        *left = if length == 0 {
                            0
                        } else {
                            left.saturating_sub(length)
                        };
                    }
                    continue;
                }
                Some(Closing::Over) => return Poll::Ready(Ok(())),
            };
            self.closing = Some(next);
        }
    }
}

/// The clock of hyper.
#[derive(Clone)]
pub struct Clock(pub Port);

impl hyper::rt::Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(after(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(self.0.sleep_until(deadline)))
    }
}

/// A sleep of hyper.
struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl hyper::rt::Sleep for Sleep {}

/// Starts the tasks of hyper.
#[derive(Clone)]
pub struct Starter(pub Spawner);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Starter {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
