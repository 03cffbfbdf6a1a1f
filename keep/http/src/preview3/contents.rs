// SPDX-License-Identifier: Apache-2.0

//! The contents of messages: a body as a stream of bytes, and its trailers as a future. As in 0.2, only as much is kept as the
//! slower side has not taken yet. `C` is the error code of the bindings, which name the types of messages.

use std::future::Future as _;
use std::iter;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use enarx_wasi::preview3::streams::{produce, waits};
use futures_channel::oneshot;
use hyper::header::TRAILER;
use wasmtime::component::{
    Accessor, AccessorTask, Destination, FutureConsumer, FutureProducer, FutureReader, HasData,
    Lift, Lower, Resource, Source, StreamConsumer, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};
use wasmtime::error::Context as _;
use wasmtime::{AsContextMut, StoreContextMut};

use crate::body::incoming::{End, FutureTrailers, IncomingBody, IncomingStream};
use crate::body::outgoing::{CompletionSender, Message, OutgoingBody, OutgoingStream, SentBody};
use crate::error::ErrorCode;
use crate::fields::{Fields, Owned};
use crate::view::Http;

/// Trailers, or the error that a body ended with.
pub type Trailers<C> = Result<Option<Resource<Fields>>, C>;

/// The part of a store's data that HTTP needs.
pub type Getter<T> = fn(&mut T) -> Http<'_>;

/// An error code of the bindings.
pub trait Code: Lift + Lower + Sync + Send + From<ErrorCode> + Into<ErrorCode> + 'static {}

impl<C: Lift + Lower + Sync + Send + From<ErrorCode> + Into<ErrorCode> + 'static> Code for C {}

/// The contents of a message.
pub enum Contents<C> {
    /// A peer sends them; `None` for an empty body.
    Received(Option<IncomingBody>),
    /// A component makes them.
    Made {
        /// The body; `None` for an empty one.
        stream: Option<StreamReader<u8>>,
        /// Its trailers.
        trailers: FutureReader<Trailers<C>>,
        /// Tells the component how they were sent.
        completion: oneshot::Sender<Transmission>,
    },
}

/// How contents that a component makes are sent.
pub enum Transmission {
    /// It is over, as their consumer reported.
    Over(Result<(), ErrorCode>),
    /// It continues.
    Underway {
        /// The end of the body, as the connection takes it; `None` if there is none.
        body: Option<oneshot::Receiver<Result<(), ErrorCode>>>,
        /// The end of the message, which comes later: a connection can fail after it has taken a whole body and
        /// before it has sent it.
        message: oneshot::Receiver<Result<(), ErrorCode>>,
    },
}

impl Transmission {
    /// Waits for the end. An error of the message itself is reported first, then the reason why it was not sent, then that
    /// its body was cut. A message that is dropped without a result was not sent completely.
    async fn end(self) -> Result<(), ErrorCode> {
        let (body, message) = match self {
            Self::Over(end) => return end,
            Self::Underway { body, message } => (body, message),
        };
        let cut = || Err(ErrorCode::ConnectionTerminated);
        let taken = match body {
            Some(body) => body.await.unwrap_or_else(|_| cut()),
            None => Ok(()),
        };
        if let Err(ErrorCode::HttpRequestBodySize(_) | ErrorCode::HttpResponseBodySize(_)) = taken {
            return taken;
        }
        message.await.unwrap_or_else(|_| cut()).and(taken)
    }
}

/// Contents that are sent to a peer.
pub struct Sent {
    /// The body, if there is one.
    pub body: Option<SentBody>,
    /// Ends when the body has ended, or never will.
    pub ended: Option<oneshot::Receiver<()>>,
    /// Tells the component how the message was sent, if the component made it. If dropped, it tells that it was not.
    pub completion: Option<CompletionSender>,
}

/// Tells how a message was sent, if anybody wants to know.
pub fn tell(completion: Option<CompletionSender>, outcome: Result<(), ErrorCode>) {
    if let Some(completion) = completion {
        // The component may not want to know.
        let _ = completion.send(outcome);
    }
}

impl<C: Code> Contents<C> {
    /// Contents that a component makes, and the future by which it learns how they were sent.
    ///
    /// # Errors
    /// When there is no room for the future.
    pub fn made(
        store: impl AsContextMut,
        stream: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers<C>>,
    ) -> wasmtime::Result<(Self, FutureReader<Result<(), C>>)> {
        let (completion, learnt) = oneshot::channel::<Transmission>();
        // A body that was never sent did not fail, as in Wasmtime's own `wasi:http`.
        let learnt = async {
            let end = match learnt.await {
                Ok(transmission) => transmission.end().await,
                Err(oneshot::Canceled) => Ok(()),
            };
            wasmtime::error::Ok(end.map_err(C::from))
        };
        let contents = Self::Made {
            stream,
            trailers,
            completion,
        };
        Ok((contents, FutureReader::new(store, learnt)?))
    }

    /// Gives them to a component, which says by `handled` how it got on with them.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn consume<T: 'static>(
        self,
        mut store: impl AsContextMut<Data = T>,
        getter: Getter<T>,
        handled: FutureReader<Result<(), C>>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers<C>>)> {
        match self {
            Self::Received(body) => {
                // A peer is not told.
                handled.pipe(&mut store, Handled::new(None))?;
                open(store, getter, body)
            }
            Self::Made {
                stream,
                trailers,
                completion,
            } => {
                handled.pipe(&mut store, Handled::new(Some(completion)))?;
                let stream = match stream {
                    Some(stream) => stream,
                    None => StreamReader::new(store, iter::empty())?,
                };
                Ok((stream, trailers))
            }
        }
    }

    /// Sends them, as fast as the component and the peer allow.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn send<T: 'static>(
        self,
        mut store: impl AsContextMut<Data = T>,
        getter: Getter<T>,
        kind: Message,
        headers: &Fields,
    ) -> wasmtime::Result<Sent> {
        let has_trailers = headers.has(TRAILER.as_str());
        let (stream, trailers, made) = match self {
            Self::Received(body) if body.as_ref().is_none_or(IncomingBody::is_empty) => {
                return Ok(Sent {
                    body: None,
                    ended: None,
                    completion: None,
                });
            }
            Self::Received(body) => {
                let (stream, trailers) = open(&mut store, getter, body)?;
                (Some(stream), trailers, None)
            }
            Self::Made {
                stream,
                trailers,
                completion,
            } => (stream, trailers, Some(completion)),
        };
        let (completion, message) = oneshot::channel();
        let completion = made.is_some().then_some(completion);
        let underway = |body| {
            if let Some(made) = made {
                // The component may not want to know.
                let _ = made.send(Transmission::Underway { body, message });
            }
        };
        if stream.is_none() && !has_trailers {
            underway(None);
            let told_of = None;
            trailers.pipe(store, TrailersConsumer::new(getter, told_of))?;
            return Ok(Sent {
                body: None,
                ended: None,
                completion,
            });
        }
        let (mut body, sent) = OutgoingBody::new(kind, headers.content_length());
        let (taken, learnt) = oneshot::channel();
        body.tell(taken);
        underway(Some(learnt));
        let (streaming, streamed) = oneshot::channel();
        let to = match &stream {
            Some(_) => body.stream(getter(store.as_context_mut().data_mut()).held)?,
            None => None,
        };
        match (stream, to) {
            (Some(stream), Some(to)) => {
                let streaming = Some(streaming);
                stream.pipe(&mut store, Consumer { to, streaming })?;
            }
            _ => drop(streaming),
        }
        let (sender, receiver) = oneshot::channel();
        let told_of = Some(sender);
        trailers.pipe(&mut store, TrailersConsumer::new(getter, told_of))?;
        let (ending, ended) = oneshot::channel();
        store.as_context_mut().spawn(Finish {
            body,
            streamed,
            trailers: receiver,
            _ending: ending,
        })?;
        Ok(Sent {
            body: Some(sent),
            ended: Some(ended),
            completion,
        })
    }

    /// Ends them: nobody wants them.
    ///
    /// # Errors
    /// When they are not the store's.
    pub fn close(self, mut store: impl AsContextMut) -> wasmtime::Result<()> {
        if let Self::Made {
            stream,
            mut trailers,
            ..
        } = self
        {
            if let Some(mut stream) = stream {
                stream.close(&mut store)?;
            }
            trailers.close(store)?;
        }
        Ok(())
    }
}

/// The stream and the trailers of a body that a peer sends.
fn open<T: 'static, C: Code>(
    mut store: impl AsContextMut<Data = T>,
    getter: Getter<T>,
    body: Option<IncomingBody>,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers<C>>)> {
    let Some(body) = body else {
        let stream = StreamReader::new(&mut store, iter::empty())?;
        let trailers = async { wasmtime::error::Ok(Ok(None)) };
        return Ok((stream, FutureReader::new(store, trailers)?));
    };
    let (from, trailers) = body.split();
    let (streaming, streamed) = oneshot::channel();
    let producer = Producer {
        from,
        _streaming: streaming,
    };
    let stream = StreamReader::new(&mut store, producer)?;
    let producer = TrailersProducer {
        getter,
        streamed: Some(streamed),
        trailers,
        code: PhantomData,
    };
    Ok((stream, FutureReader::new(store, producer)?))
}

/// The body of a peer, for a component.
struct Producer {
    from: IncomingStream,
    /// Goes away with this.
    _streaming: oneshot::Sender<()>,
}

impl<D> StreamProducer<D> for Producer {
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
            self.from.poll_bytes(context, |bytes| place.put(bytes))
        })
    }
}

/// A peer's trailers, for a component: delivered once it has seen the end of the stream, or has dropped
/// it.
struct TrailersProducer<T, C> {
    getter: Getter<T>,
    /// `None` once the stream has gone.
    streamed: Option<oneshot::Receiver<()>>,
    trailers: FutureTrailers,
    code: PhantomData<fn() -> C>,
}

impl<T: 'static, C: Code> TrailersProducer<T, C> {
    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Some(streamed) = &mut self.streamed {
            // It goes away, and says nothing.
            let _ = ready!(Pin::new(streamed).poll(context));
            self.streamed = None;
        }
        let end = ready!(self.trailers.poll_end(context));
        Poll::Ready(end.unwrap_or(Ok(None)))
    }
}

impl<T: 'static, C: Code> FutureProducer<T> for TrailersProducer<T, C> {
    type Item = Trailers<C>;

    fn poll_produce(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, T>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Option<Trailers<C>>>> {
        let trailers = match self.poll_trailers(context) {
            Poll::Ready(Ok(None)) => Ok(None),
            Poll::Ready(Ok(Some(map))) => {
                let Http { table, held, .. } = (self.getter)(store.data_mut());
                Ok(Some(table.push(Fields::kept(&map, held)?)?))
            }
            Poll::Ready(Err(code)) => Err(code.into()),
            Poll::Pending if finish => return Poll::Ready(Ok(None)),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Ok(Some(trailers)))
    }
}

/// The body of a component, for a peer.
struct Consumer {
    to: OutgoingStream,
    /// Goes away at the end.
    streaming: Option<oneshot::Sender<()>>,
}

impl<D> StreamConsumer<D> for Consumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = match self.to.poll_room(context) {
            Poll::Ready(room) => room,
            Poll::Pending => return waits(finish),
        };
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let bytes = Bytes::copy_from_slice(bytes.get(..room).unwrap_or(bytes));
        let count = bytes.len();
        if room == 0 || !self.to.put(bytes) {
            self.streaming = None;
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        source.mark_read(count);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// A component's trailers, for a peer. There is no way to send an error.
struct TrailersConsumer<T, C> {
    getter: Getter<T>,
    /// `None` if nobody wants them.
    told_of: Option<oneshot::Sender<Option<Owned>>>,
    code: PhantomData<fn() -> C>,
}

impl<T, C> TrailersConsumer<T, C> {
    fn new(getter: Getter<T>, told_of: Option<oneshot::Sender<Option<Owned>>>) -> Self {
        Self {
            getter,
            told_of,
            code: PhantomData,
        }
    }
}

/// The value that a component writes to a future.
fn value<T: Lift + 'static, D>(
    store: &mut StoreContextMut<'_, D>,
    mut source: Source<'_, T>,
) -> wasmtime::Result<T> {
    let mut value = None;
    source.read(store, &mut value)?;
    value.context("a future without a value")
}

impl<T: 'static, C: Code> FutureConsumer<T> for TrailersConsumer<T, C> {
    type Item = Trailers<C>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        mut store: StoreContextMut<'_, T>,
        source: Source<'_, Trailers<C>>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let trailers = match value(&mut store, source)? {
            Ok(Some(fields)) => {
                let Http { table, held, .. } = (self.getter)(store.data_mut());
                let fields = table.delete(fields)?;
                // Nobody sees those of a message without a body.
                let is_wanted = self.told_of.is_some();
                is_wanted.then(|| fields.owned(held)).transpose()?
            }
            Ok(None) => None,
            Err(_) => {
                self.told_of = None;
                return Poll::Ready(Ok(()));
            }
        };
        if let Some(told_of) = self.told_of.take() {
            // The body has gone.
            let _ = told_of.send(trailers);
        }
        Poll::Ready(Ok(()))
    }
}

/// The result from a component that has consumed contents, for their producer.
struct Handled<C> {
    /// `None` if nobody wants to know.
    completion: Option<oneshot::Sender<Transmission>>,
    code: PhantomData<fn() -> C>,
}

impl<C> Handled<C> {
    fn new(completion: Option<oneshot::Sender<Transmission>>) -> Self {
        Self {
            completion,
            code: PhantomData,
        }
    }
}

impl<D, C: Code> FutureConsumer<D> for Handled<C> {
    type Item = Result<(), C>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        mut store: StoreContextMut<'_, D>,
        source: Source<'_, Self::Item>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let handled = value(&mut store, source)?;
        if let Some(completion) = self.completion.take() {
            // It may not want to know.
            let handled = handled.map_err(|code| code.into().passed_on());
            let _ = completion.send(Transmission::Over(handled));
        }
        Poll::Ready(Ok(()))
    }
}

/// Finishes a body when its stream has ended and its trailers have arrived. It is a task of the store: if
/// the component has failed, or has no more time, the task does not run any more, and the body is not
/// finished.
struct Finish {
    body: OutgoingBody,
    /// Ends with the stream.
    streamed: oneshot::Receiver<()>,
    trailers: oneshot::Receiver<Option<Owned>>,
    /// Goes away with this.
    _ending: oneshot::Sender<()>,
}

impl<T: 'static, D: HasData + ?Sized> AccessorTask<T, D> for Finish {
    async fn run(self, _store: &Accessor<T, D>) -> wasmtime::Result<()> {
        // The stream's end is told by going away.
        let _ = self.streamed.await;
        if let Ok(trailers) = self.trailers.await {
            // A body of the wrong length ends its connection, and the component gets the error.
            let _ = self.body.finish(trailers);
        }
        Ok(())
    }
}
