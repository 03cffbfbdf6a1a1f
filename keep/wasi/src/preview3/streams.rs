// SPDX-License-Identifier: Apache-2.0

//! Streams of bytes between a component and the core, and the futures that return how they ended.
//!
//! Bytes move directly between the component's memory and the sallyport or a file system, at most a transfer of the sallyport at a time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::error::{Errno, Result};
use crate::fs::Descriptor;
use crate::port::MAX_TRANSFER;
use crate::stream::{Ended, Input, Output};

/// Most bytes that move at a time: what one call of the sallyport carries.
const PIECE: usize = MAX_TRANSFER;

/// The error that ended a stream. A stream that ends without one, or that is dropped, ended well.
pub struct Outcome(Option<oneshot::Sender<Errno>>);

impl Outcome {
    /// Reports an error; the first one counts. The other end may be gone: a component need not ask.
    pub fn fail(&mut self, errno: Errno) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(errno);
        }
    }
}

/// The place where a stream's error is reported, and the component's future, which gets it as `code` converts
/// it.
pub fn outcome<C: 'static>(
    code: fn(Errno) -> C,
) -> (
    Outcome,
    impl Future<Output = wasmtime::Result<std::result::Result<(), C>>> + Send + 'static,
) {
    let (sender, receiver) = oneshot::channel();
    let future = async move { Ok(receiver.await.map_or(Ok(()), |errno| Err(code(errno)))) };
    (Outcome(Some(sender)), future)
}

/// The result of a stream that has nothing yet, or must stop waiting.
pub fn waits(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish {
        Poll::Ready(Ok(StreamResult::Cancelled))
    } else {
        Poll::Pending
    }
}

/// The place of a component for the bytes that it takes now.
pub struct Place<'a, D: 'static, B> {
    destination: Destination<'a, u8, B>,
    store: StoreContextMut<'a, D>,
    /// Their number, at most 64 KiB; none if it only waits until there are some.
    pub room: usize,
}

impl<D, B> Place<'_, D, B> {
    /// Puts bytes there, as many as there is room for; their number.
    pub fn put(self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..self.room).unwrap_or(bytes);
        let mut destination = self.destination.as_direct(self.store, bytes.len());
        let Some(place) = destination.remaining().get_mut(..bytes.len()) else {
            return 0;
        };
        place.copy_from_slice(bytes);
        destination.mark_written(bytes.len());
        bytes.len()
    }
}

/// Moves a piece that a component reads. `read` puts it into the destination: true if the stream continues,
/// false at its end.
pub fn produce<'a, D, B>(
    destination: Destination<'a, u8, B>,
    mut store: StoreContextMut<'a, D>,
    finish: bool,
    read: impl FnOnce(Place<'a, D, B>) -> Poll<bool>,
) -> Poll<wasmtime::Result<StreamResult>> {
    let remaining = destination.remaining(store.as_context_mut());
    let place = Place {
        destination,
        store,
        room: remaining.unwrap_or(PIECE).min(PIECE),
    };
    match read(place) {
        Poll::Ready(true) => Poll::Ready(Ok(StreamResult::Completed)),
        Poll::Ready(false) => Poll::Ready(Ok(StreamResult::Dropped)),
        Poll::Pending => waits(finish),
    }
}

/// Standard input.
pub struct InputProducer {
    input: Input,
    outcome: Outcome,
}

impl InputProducer {
    /// The rest of `input`.
    pub fn new(input: Input, outcome: Outcome) -> Self {
        Self { input, outcome }
    }
}

impl<D> StreamProducer<D> for InputProducer {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        produce(destination, store, finish, |place| {
            // A request stays a request: nothing is lost when a read is given up.
            let read = ready!(pin!(self.input.read_some(place.room)).poll(context));
            Poll::Ready(match read {
                Ok(bytes) => {
                    place.put(&bytes);
                    true
                }
                Err(Ended::End) => false,
                Err(Ended::Failed(errno)) => {
                    self.outcome.fail(errno);
                    false
                }
            })
        })
    }
}

/// Moves a piece that a component writes; `write` returns how many bytes it took.
fn consume<D>(
    store: StoreContextMut<'_, D>,
    source: Source<'_, u8>,
    outcome: &mut Outcome,
    write: impl FnOnce(&[u8]) -> Result<usize>,
) -> StreamResult {
    let mut source = source.as_direct(store);
    let bytes = source.remaining();
    let piece = bytes.get(..PIECE).unwrap_or(bytes);
    // No bytes: the component only asks if there is room, and learns where there can be none.
    let most = piece.len();
    match write(piece) {
        Ok(count) => {
            source.mark_read(count.min(most));
            StreamResult::Completed
        }
        Err(errno) => {
            outcome.fail(errno);
            StreamResult::Dropped
        }
    }
}

/// Standard output or error.
pub struct OutputConsumer {
    output: Output,
    outcome: Outcome,
}

impl OutputConsumer {
    /// Writes to `output`.
    pub fn new(output: Output, outcome: Outcome) -> Self {
        Self { output, outcome }
    }
}

impl Drop for OutputConsumer {
    /// The stream has ended: a component that asks how hears of its last bytes, too.
    fn drop(&mut self) {
        if let Err(errno) = self.output.flush() {
            self.outcome.fail(errno);
        }
    }
}

impl<D> StreamConsumer<D> for OutputConsumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { output, outcome } = &mut *self;
        Poll::Ready(Ok(consume(store, source, outcome, |bytes| {
            output.write_all(bytes).map(|()| bytes.len())
        })))
    }
}

/// The bytes of a file.
pub struct FileProducer {
    file: Arc<Descriptor>,
    /// Where the next read happens.
    position: u64,
    outcome: Outcome,
}

impl FileProducer {
    /// The bytes of a file from `position` on.
    pub fn new(file: Arc<Descriptor>, position: u64, outcome: Outcome) -> Self {
        Self {
            file,
            position,
            outcome,
        }
    }
}

impl<D> StreamProducer<D> for FileProducer {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut destination = destination.as_direct(store, PIECE);
        let place = destination.remaining();
        let length = place.len().min(PIECE);
        let place = place.get_mut(..length).unwrap_or_default();
        // No bytes: a file never lets wait.
        if place.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.file.read_at(self.position, place) {
            Ok(0) => StreamResult::Dropped,
            Ok(count) => {
                destination.mark_written(count.min(length));
                self.position = self.position.saturating_add(count as u64);
                StreamResult::Completed
            }
            Err(errno) => {
                self.outcome.fail(errno);
                StreamResult::Dropped
            }
        }))
    }
}

/// A file that is written.
pub struct FileConsumer {
    file: Arc<Descriptor>,
    /// Where the next write happens; `None` is the end.
    position: Option<u64>,
    outcome: Outcome,
}

impl FileConsumer {
    /// Writes from `position` on, or always at the end.
    pub fn new(file: Arc<Descriptor>, position: Option<u64>, outcome: Outcome) -> Self {
        Self {
            file,
            position,
            outcome,
        }
    }
}

impl<D> StreamConsumer<D> for FileConsumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self {
            file,
            position,
            outcome,
        } = &mut *self;
        Poll::Ready(Ok(consume(store, source, outcome, |bytes| {
            let count = match position {
                Some(position) => file.write_at(*position, bytes),
                None => file.append(bytes),
            }?;
            if count == 0 && !bytes.is_empty() {
                return Err(Errno::NoSpace);
            }
            if let Some(position) = position {
                *position = position.saturating_add(count as u64);
            }
            Ok(count)
        })))
    }
}
