// SPDX-License-Identifier: Apache-2.0

//! Bodies that a component writes for a peer. Neither is trusted.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use enarx_wasi::budget::{Allowance, Full, Holding};
use futures_channel::oneshot;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamError, StreamResult};

use crate::error::{ErrorCode, stream_error};
use crate::fields::Owned;
use crate::lock::lock;

/// Bytes that a component may write before the peer has taken any of them.
pub const WRITTEN_MAX: usize = 64 * 1024;

/// Bytes that are counted for a piece of a body in addition to its own: its entry, and the allocator's
/// overhead.
const PIECE: usize = 128;

/// A body that the component writes and the connection sends.
struct Written {
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    waiting: usize,
    /// Bytes written so far.
    total: u64,
    /// The length that the headers promise.
    promised: Option<u64>,
    end: Option<Result<Option<Owned>, Unfinished>>,
    /// True once there was a chance to send the bytes that were written before the body was dropped.
    had_turn: bool,
    /// When the connection took bytes last, or began to have some to take.
    moved: Instant,
    /// The connection takes no more.
    refused: bool,
    /// The length that was written instead of the promised one.
    wrong_length: Option<u64>,
    /// Tells how the body was taken, if anybody wants to know.
    completion: Option<CompletionSender>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The memory for `pieces`, once there can be any.
    memory: Option<Holding>,
}

/// The sender of an end, good or bad: of a body that the connection takes, or of its message.
pub type CompletionSender = oneshot::Sender<Result<(), ErrorCode>>;

impl Written {
    /// Bytes that may be written now.
    fn room(&self) -> usize {
        let taken = self.pieces.len().saturating_mul(PIECE);
        WRITTEN_MAX.saturating_sub(taken.saturating_add(self.waiting))
    }

    /// True if the component may write more.
    fn is_open(&self) -> bool {
        !self.refused && self.wrong_length.is_none()
    }

    /// Takes bytes, for which there is room.
    ///
    /// # Errors
    /// The length, if it is more than the headers promise.
    fn put(&mut self, bytes: Bytes) -> Result<(), u64> {
        let total = self.total.saturating_add(bytes.len() as u64);
        if self.promised.is_some_and(|promised| total > promised) {
            self.wrong_length = Some(total);
            return Err(total);
        }
        self.total = total;
        if !bytes.is_empty() {
            if self.waiting == 0 {
                self.moved = Instant::now();
            }
            self.waiting = self.waiting.saturating_add(bytes.len());
            self.pieces.push_back(bytes);
            self.wake_reader();
        }
        Ok(())
    }

    /// True if all of it was taken.
    fn is_whole(&self) -> bool {
        let ended = matches!(self.end, Some(Ok(_))) || self.promised == Some(self.total);
        ended && self.pieces.is_empty()
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

/// The component gave up a body that it had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the component did not finish the body")]
pub struct Unfinished;

/// A message whose body a component writes: the code for a wrong length depends on it.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// A request.
    Request,
    /// A response.
    Response,
}

impl Message {
    fn wrong_length(self, length: u64) -> ErrorCode {
        match self {
            Self::Request => ErrorCode::HttpRequestBodySize(Some(length)),
            Self::Response => ErrorCode::HttpResponseBodySize(Some(length)),
        }
    }
}

/// A body that a component writes. Dropped before it was finished, it ends its connection.
pub struct OutgoingBody {
    written: Arc<Mutex<Written>>,
    message: Message,
    has_stream: bool,
}

impl OutgoingBody {
    /// A body, of the length that the headers promise if they do; and the end that is sent.
    pub fn new(message: Message, promised: Option<u64>) -> (Self, SentBody) {
        let written = Arc::new(Mutex::new(Written {
            pieces: VecDeque::new(),
            waiting: 0,
            total: 0,
            promised,
            end: None,
            had_turn: false,
            moved: Instant::now(),
            refused: false,
            wrong_length: None,
            completion: None,
            reader: None,
            writer: None,
            memory: None,
        }));
        let body = Self {
            written: Arc::clone(&written),
            message,
            has_stream: false,
        };
        (body, SentBody(written))
    }

    /// Its stream, once, with memory for bytes that are written and not sent.
    ///
    /// # Errors
    /// [`Full`].
    pub fn stream(&mut self, allowance: &Allowance) -> Result<Option<OutgoingStream>, Full> {
        if self.has_stream {
            return Ok(None);
        }
        let memory = allowance.take(WRITTEN_MAX as u64)?;
        lock(&self.written).memory = Some(memory);
        self.has_stream = true;
        Ok(Some(OutgoingStream {
            written: Arc::clone(&self.written),
            message: self.message,
        }))
    }

    /// Has it told how the connection took the body.
    pub fn tell(&self, completion: CompletionSender) {
        lock(&self.written).completion = Some(completion);
    }

    /// Ends the body.
    ///
    /// # Errors
    /// An `ErrorCode`, when it is shorter than the headers promise; then it ends its connection.
    pub fn finish(self, trailers: Option<Owned>) -> Result<(), ErrorCode> {
        let mut written = lock(&self.written);
        if written.promised.is_some_and(|it| it != written.total) {
            let length = written.total;
            written.wrong_length.get_or_insert(length);
            return Err(self.message.wrong_length(length));
        }
        written.end = Some(Ok(trailers));
        written.wake_reader();
        Ok(())
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        let mut written = lock(&self.written);
        if let Some(length) = written.wrong_length
            && let Some(completion) = written.completion.take()
        {
            // Nobody may want to know.
            let _ = completion.send(Err(self.message.wrong_length(length)));
        }
        if written.end.is_none() {
            written.end = Some(Err(Unfinished));
            written.wake_reader();
        }
    }
}

/// The stream of a body that a component writes. An error is told once, then the stream is closed.
pub struct OutgoingStream {
    written: Arc<Mutex<Written>>,
    message: Message,
}

impl OutgoingStream {
    /// The body, unless the stream is closed.
    fn open(&self) -> StreamResult<MutexGuard<'_, Written>> {
        let written = Some(lock(&self.written));
        written.filter(|it| it.is_open()).ok_or(StreamError::Closed)
    }

    /// Waits until bytes may be written; returns how many, none if nobody takes them any more.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let mut written = lock(&self.written);
        if !written.is_open() {
            return Poll::Ready(0);
        }
        if written.room() > 0 {
            return Poll::Ready(written.room());
        }
        written.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Writes bytes, for which there is room; false if they are more than the headers promise.
    pub fn put(&mut self, bytes: Bytes) -> bool {
        lock(&self.written).put(bytes).is_ok()
    }
}

#[async_trait]
impl Pollable for OutgoingStream {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| self.poll_room(context).map(|_| ())).await;
    }
}

#[async_trait]
impl OutputStream for OutgoingStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.open()?;
        if bytes.len() > written.room() {
            return Err(StreamError::trap(
                "more is written than check-write permits",
            ));
        }
        let put = written.put(bytes);
        put.map_err(|length| stream_error(self.message.wrong_length(length)))
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Bytes are sent as soon as the peer takes them.
        self.open().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.open()?.room())
    }
}

/// The end of a body that is sent.
pub struct SentBody(Arc<Mutex<Written>>);

/// The progress of a body that is sent.
pub struct SentProgress(Weak<Mutex<Written>>);

impl SentProgress {
    /// When bytes were taken last, and true if more wait to be taken; `None` if the body has gone.
    pub fn last(&self) -> Option<(Instant, bool)> {
        let written = self.0.upgrade()?;
        let written = lock(&written);
        Some((written.moved, written.waiting > 0))
    }

    /// Stops the component from writing more.
    pub fn give_up(&self) {
        if let Some(written) = self.0.upgrade() {
            let mut written = lock(&written);
            written.refused = true;
            written.wake_writer();
        }
    }
}

impl SentBody {
    /// Its progress, for somebody else.
    pub fn progress(&self) -> SentProgress {
        SentProgress(Arc::downgrade(&self.0))
    }

    /// True if all of the body was taken.
    pub fn is_whole(&self) -> bool {
        lock(&self.0).is_whole()
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let mut written = lock(&self.0);
        if let Some(bytes) = written.pieces.pop_front() {
            written.waiting = written.waiting.saturating_sub(bytes.len());
            written.moved = Instant::now();
            written.wake_writer();
            written.had_turn = false;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let had_turn = std::mem::replace(&mut written.had_turn, true);
        match &mut written.end {
            Some(Ok(trailers)) => {
                Poll::Ready(trailers.take().map(|it| Ok(Frame::trailers(it.map))))
            }
            Some(Err(_)) if !had_turn => {
                // The connection ends at an error, without what it has not sent yet.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Err(unfinished)) => Poll::Ready(Some(Err(*unfinished))),
            None => {
                written.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let written = lock(&self.0);
        written.pieces.is_empty() && matches!(written.end, Some(Ok(None)))
    }

    fn size_hint(&self) -> SizeHint {
        let written = lock(&self.0);
        match written.end {
            Some(Ok(None)) => SizeHint::with_exact(written.waiting as u64),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        let mut written = lock(&self.0);
        if let Some(completion) = written.completion.take() {
            let whole = written.is_whole();
            // Nobody may want to know. The connection has all of it then, and may still fail.
            let _ = completion.send(whole.then_some(()).ok_or(ErrorCode::ConnectionTerminated));
        }
        written.refused = true;
        written.pieces.clear();
        written.waiting = 0;
        written.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_wasi::budget::Budget;

    /// A body, its stream, its other end, and the notification that it was sent.
    type Sending = (
        OutgoingBody,
        OutgoingStream,
        SentBody,
        oneshot::Receiver<Result<(), ErrorCode>>,
    );

    /// Memory for one body.
    fn allowance() -> Allowance {
        let one = WRITTEN_MAX as u64;
        Allowance::new(&Budget::new(one), one)
    }

    fn sending(promised: Option<u64>) -> Sending {
        let (mut body, sent) = OutgoingBody::new(Message::Response, promised);
        let stream = body.stream(&allowance()).unwrap().unwrap();
        let (completion, learnt) = oneshot::channel();
        body.tell(completion);
        (body, stream, sent, learnt)
    }

    fn take(sent: &mut SentBody) -> Option<Bytes> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(sent).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    fn room(stream: &mut OutgoingStream) -> Poll<usize> {
        stream.poll_room(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_that_was_taken_whole_is_reported_as_such() {
        for promised in [None, Some(5)] {
            let (body, mut stream, mut sent, mut learnt) = sending(promised);
            assert!(stream.put(Bytes::from_static(b"bytes")));
            body.finish(None).unwrap();
            assert_eq!(take(&mut sent).unwrap(), "bytes");
            assert!(learnt.try_recv().unwrap().is_none());
            drop(sent);
            assert!(matches!(learnt.try_recv(), Ok(Some(Ok(())))));
        }
    }

    #[test]
    fn an_abandoned_body_is_reported_as_cut() {
        let (body, mut stream, sent, mut learnt) = sending(None);
        assert!(stream.put(Bytes::from_static(b"bytes")));
        body.finish(None).unwrap();
        drop(sent);
        assert!(matches!(
            learnt.try_recv(),
            Ok(Some(Err(ErrorCode::ConnectionTerminated)))
        ));
        assert_eq!(room(&mut stream), Poll::Ready(0));
    }

    #[test]
    fn a_body_of_a_wrong_length_is_reported_and_not_finished() {
        for (bytes, length) in [(&b"four"[..], 4), (b"longer", 6)] {
            let (body, mut stream, mut sent, mut learnt) = sending(Some(5));
            assert_eq!(stream.put(Bytes::from_static(bytes)), length < 5);
            assert!(body.finish(None).is_err());
            match learnt.try_recv() {
                Ok(Some(Err(ErrorCode::HttpResponseBodySize(Some(reported))))) => {
                    assert_eq!(reported, length);
                }
                other => panic!("{other:?}"),
            }
            while take(&mut sent).is_some() {}
            assert!(!sent.is_whole());
        }
    }

    #[test]
    fn a_failed_stream_reports_its_failure_once() {
        let (_body, mut stream, _sent, _learnt) = sending(Some(1));
        assert!(stream.check_write().is_ok_and(|room| room > 2));
        let more = stream.write(Bytes::from_static(b"xy"));
        assert!(matches!(more, Err(StreamError::LastOperationFailed(_))));
        let less = stream.write(Bytes::from_static(b"x"));
        assert!(matches!(less, Err(StreamError::Closed)));
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        assert!(matches!(stream.flush(), Err(StreamError::Closed)));
    }

    #[test]
    fn bytes_that_the_peer_has_not_taken_are_kept() {
        let (_body, mut stream, mut sent, _learnt) = sending(None);
        while let Poll::Ready(room) = room(&mut stream) {
            assert!(stream.put(vec![b'x'; room.min(1000)].into()));
        }
        let taken = take(&mut sent).unwrap();
        // As much as it was, or a little less: the last piece was counted with more than there was room for.
        let Poll::Ready(room) = room(&mut stream) else {
            panic!("no room");
        };
        assert!(
            (taken.len()..=taken.len() + PIECE).contains(&room),
            "{room}"
        );
    }

    #[test]
    fn many_small_pieces_are_counted_with_their_overhead() {
        let (_body, mut stream, _sent, _learnt) = sending(None);
        let mut pieces = 0;
        while room(&mut stream).is_ready() {
            assert!(stream.put(Bytes::from_static(b"x")));
            pieces += 1;
        }
        assert_eq!(pieces, WRITTEN_MAX.div_ceil(PIECE + 1));
    }

    #[test]
    fn a_body_that_waits_takes_memory_until_it_has_gone() {
        let memory = allowance();
        let (mut body, sent) = OutgoingBody::new(Message::Request, None);
        // One that nothing was written to takes none.
        assert!(memory.take(WRITTEN_MAX as u64).is_ok());
        let stream = body.stream(&memory).unwrap().unwrap();
        assert!(body.stream(&memory).unwrap().is_none());
        assert!(memory.take(1).is_err());
        let (mut other, _sent) = OutgoingBody::new(Message::Request, None);
        assert!(other.stream(&memory).is_err());
        drop((stream, body));
        assert!(memory.take(1).is_err());
        drop(sent);
        assert!(other.stream(&memory).unwrap().is_some());
    }
}
