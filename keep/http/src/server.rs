// SPDX-License-Identifier: Apache-2.0

//! The server: connections of the listener that the host has granted, and an instance of the component for each request.
//!
//! Everything waits independently, on all available threads: a silent peer and a waiting request delay nobody; a
//! computing request occupies one thread. A failing component ends its own request, never the server.
//!
//! HTTP/1.1 and HTTP/2: over TLS the one that both ends have chosen, in clear HTTP/2 for peers that begin with its
//! preface. A handshake is part of its connection's task, so a peer that does not finish one delays nobody,
//! either.
//!
//! An HTTP/2 peer can cause much work with few bytes, so each way to do that has a limit here; what h2 itself
//! limits (frames of headers that do not end, settings, pings) stays as it is there.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_tls::web;
use enarx_wasi::Exit;
use enarx_wasi::budget::Budget;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{Port, Spawner, Tasks};
use enarx_wasi::stream::Output;
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use wasmtime::{Store, Trap};

use crate::charge::Charge;
use crate::door::Door;
use crate::handler::Handler;
use crate::limits::{Ending, Places};
use crate::messages::{Answer, IncomingRequest, NoAnswer};
use crate::refusal::refused;
use crate::reply::Reply;
use crate::secure::{Secure, Transport};
use crate::stream::{Clock, Starter, Stream};
use crate::traffic::{
    BUFFER, CONNECTION_MEMORY, Flight, HEADERS_MAX, PATIENCE, PING, SEND_BUFFER, TLS_MEMORY,
    Traffic, Verdict,
};
use crate::view::View;

/// Memory that is counted for a request in flight, in bytes, in addition to its instance: its headers and those of
/// the response, and the buffered part of its body. Bytes that the component has written and the peer has not
/// taken are counted with that body.
const REQUEST_MEMORY: u64 = 192 * 1024;
/// How long a peer has for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the last frames of a peer whose connection ends.
const LAST: Duration = Duration::from_secs(1);

/// Time that a component without an answer has to reach its own end, which shows the reason.
const OWN_END: Duration = Duration::from_secs(1);
/// Longest time, and most bytes, for which a body is accepted that is sent to nobody, as in the response to HEAD:
/// then its component ends as if its peer had gone. Many such bodies never end.
const UNSENT: (Duration, usize) = (Duration::from_secs(10), 1024 * 1024);

/// Most requests at a time on one connection: the fewest that RFC 9113 (section 6.5.2) recommends.
const STREAMS: u32 = 100;
/// Bytes of a request's body that a peer may send before the component has read any: the protocol's initial value
/// (RFC 9113, section 6.9.2).
const STREAM_WINDOW: u32 = 65_535;
/// The same for all requests of a connection together: four that nobody reads leave no room for others.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Requests that a peer may begin and reset faster than they are processed, before its connection ends: h2's
/// default.
const RESETS: usize = 20;
/// Errors of a peer that end a request but not yet its connection: an honest peer makes none. hyper permits 1,024.
const ERRORS: usize = 100;

/// How long nothing is accepted when the host has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A maker of the stores of instances.
pub trait Instances: Send + Sync + 'static {
    /// The state of a store.
    type State: View;

    /// The memory of all instances, which also covers connections and requests.
    fn budget(&self) -> &Budget;

    /// A store for one instance, whose own requests are tasks of `spawner`.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn store(&self, spawner: &Spawner) -> wasmtime::Result<Store<Self::State>>;
}

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Most requests in flight, answered or waiting; more are refused with status 503.
    pub requests: usize,
    /// Most instances at a time; more requests wait.
    pub instances: usize,
    /// Longest time for a request, if there is one.
    pub timeout: Option<Duration>,
    /// Time for requests that have begun once the server has to end.
    pub grace: Duration,
    /// The server's TLS; without it, it speaks in clear.
    pub tls: Option<web::Server>,
}

/// Why a server ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// There is no listener.
    #[error("the host gave no socket to listen on: start servers with `enarx serve`")]
    NoListener,
    /// The host has ended the socket that the Keep had opened.
    #[error("the host ended the socket at which the server listened: {0}")]
    Ended(Errno),
}

/// A server, for the threads that run it.
pub struct Serving<I: Instances> {
    tasks: Tasks,
    server: Arc<Server<I>>,
}

impl<I: Instances> Serving<I> {
    /// A server that nothing runs yet.
    pub fn new(
        port: &Port,
        handler: Handler<I::State>,
        instances: I,
        settings: Settings,
        log: Output,
    ) -> Self {
        let tasks = Tasks::default();
        let server = Arc::new(Server {
            port: port.clone(),
            spawner: tasks.spawner(),
            handler,
            instances,
            log,
            connections: Places::new(settings.connections),
            in_flight: Places::new(settings.requests),
            running: Places::new(settings.instances),
            settings,
            last: AtomicU64::new(0),
            ending: Ending::default(),
            is_cut_off: AtomicBool::new(false),
        });
        Self { tasks, server }
    }

    /// Serves connections until the door is closed; then finishes requests that have begun.
    ///
    /// # Errors
    /// `ServeError`.
    pub fn run(&self, door: Door) -> Result<(), ServeError> {
        let (sender, mut ended) = oneshot::channel();
        let server = Arc::clone(&self.server);
        self.tasks.run(&self.server.port, async move {
            // It is waited for below.
            let _ = sender.send(server.run(door).await);
        });
        ended.try_recv().ok().flatten().unwrap_or(Ok(()))
    }

    /// Serves one connection to its end, and none of the listener.
    #[cfg(feature = "fuzzing")]
    pub fn run_one(&self, connection: impl Connection, is_http2: bool) {
        let server = Arc::clone(&self.server);
        self.tasks.run(&self.server.port, async move {
            server.speak(connection, is_http2).await;
        });
    }

    /// Serves on this thread too, until the server has ended. True if requests were cut off: then the thread of
    /// [`Self::run`] may be one that computes for such a request, and goes on with that.
    pub fn help(&self) -> bool {
        self.tasks.help(&self.server.port);
        self.server.is_cut_off.load(Ordering::Relaxed)
    }
}

/// The state that all connections share.
struct Server<I: Instances> {
    port: Port,
    spawner: Spawner,
    handler: Handler<I::State>,
    instances: I,
    settings: Settings,
    log: Output,
    connections: Places,
    in_flight: Places,
    running: Places,
    /// The number of the last request, by which the log names it.
    last: AtomicU64,
    ending: Ending,
    /// Requests did not end in the time of grace.
    is_cut_off: AtomicBool,
}

/// The way to a peer.
pub trait Connection: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static {}

impl<C: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static> Connection for C {}

/// The consequence of an error of accepting: the specification of the sallyport lists those that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// One connection is lost.
    One,
    /// The host has no room.
    NoRoom,
    /// The listener has ended.
    Ended,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ConnectionAborted
            | Errno::ConnectionReset
            | Errno::Interrupted
            | Errno::Again
            | Errno::TimedOut
            | Errno::HostUnreachable
            | Errno::NetworkUnreachable => Self::One,
            Errno::TooManyDescriptors | Errno::NoMemory => Self::NoRoom,
            _ => Self::Ended,
        }
    }
}

impl<I: Instances> Server<I> {
    /// Serves until the door is shut, and finishes.
    async fn run(self: Arc<Self>, door: Door) -> Result<(), ServeError> {
        let mut grace = self.settings.grace;
        let mut ended = Ok(());
        loop {
            let next = async {
                let place = self.connections.take().await;
                (place, door.accept().await)
            };
            let (place, accepted) = match door.before_end(next).await {
                Ok(next) => next,
                Err(left) => {
                    // A host that ends this Keep after that time should find that the server has already ended.
                    grace = left.saturating_sub(LAST.min(left / 4));
                    break;
                }
            };
            match accepted {
                Ok(stream) => {
                    let memory = match self.settings.tls {
                        Some(_) => CONNECTION_MEMORY + TLS_MEMORY,
                        None => CONNECTION_MEMORY,
                    };
                    let Some(memory) = Charge::take(self.instances.budget(), memory) else {
                        drop(stream);
                        self.port.sleep_until(after(PAUSE)).await;
                        continue;
                    };
                    let server = Arc::clone(&self);
                    self.spawner.spawn(async move {
                        server.connection(stream).await;
                        drop((place, memory));
                    });
                }
                Err(Errno::BadDescriptor) if !door.is_own() => {
                    return Err(ServeError::NoListener);
                }
                Err(errno) => match errno.into() {
                    Refused::One => {}
                    Refused::NoRoom => self.port.sleep_until(after(PAUSE)).await,
                    Refused::Ended => {
                        // The end of what it has granted is the host's to say.
                        if door.is_own() {
                            ended = Err(ServeError::Ended(errno));
                        }
                        break;
                    }
                },
            }
        }
        drop(door);
        self.ending.begin();
        let end = self.port.sleep_until(after(grace));
        if before(pin!(self.connections.all_free()), end)
            .await
            .is_none()
        {
            self.is_cut_off.store(true, Ordering::Relaxed);
            self.say(format_args!(
                "the time of grace is over; connections cut off: {}",
                self.connections.taken()
            ));
        }
        ended
    }

    /// Serves one connection to its end.
    async fn connection(self: Arc<Self>, mut stream: Stream) {
        let Some(tls) = &self.settings.tls else {
            let begun = std::future::poll_fn(|context| stream.poll_is_http2(context));
            if let Some(Ok(is_http2)) = self.begins(pin!(begun), PATIENCE).await {
                self.speak(Transport::Clear(stream), is_http2).await;
            }
            return;
        };
        let Ok(tls) = tls.accept() else { return };
        let begun = async {
            let mut stream = Secure::new(stream, tls);
            if stream.handshake().await.is_ok() {
                return Some(stream);
            }
            // It gets the reason, if TLS has an alert for it.
            stream.close().await;
            None
        };
        if let Some(stream) = self.begins(pin!(begun), HANDSHAKE).await.flatten() {
            let is_http2 = stream.is_http2();
            self.speak(Transport::Secure(Box::new(stream)), is_http2)
                .await;
        }
    }

    async fn speak(self: Arc<Self>, stream: impl Connection, is_http2: bool) {
        if is_http2 {
            self.http2(stream).await;
        } else {
            self.http1(stream).await;
        }
    }

    /// Waits until a peer has begun; `None` if the server ends before, or the peer takes too long.
    async fn begins<T>(
        &self,
        mut begun: Pin<&mut impl Future<Output = T>>,
        limit: Duration,
    ) -> Option<T> {
        let mut ended = pin!(self.ending.begun());
        let mut late = self.port.sleep_until(after(limit));
        std::future::poll_fn(|context| {
            if let Poll::Ready(begun) = begun.as_mut().poll(context) {
                return Poll::Ready(Some(begun));
            }
            if ended.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut late).poll(context).map(|()| None)
        })
        .await
    }

    async fn http1(self: Arc<Self>, stream: impl Connection) {
        let traffic = Traffic::new(Instant::now());
        let service =
            service_fn(|request| Arc::clone(&self).respond(Arc::clone(&traffic), request));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(Clock(self.port.clone()))
                .header_read_timeout(PATIENCE)
                .max_header_size(usize::try_from(HEADERS_MAX).unwrap_or(usize::MAX))
                .max_buf_size(BUFFER)
                .serve_connection(stream, service)
        );
        let mut ended = pin!(self.ending.begun());
        let mut told = false;
        // Errors of a connection are its peer's to see.
        let _ = std::future::poll_fn(|context| {
            if !told && ended.as_mut().poll(context).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(context)
        })
        .await;
    }

    async fn http2(self: Arc<Self>, stream: impl Connection) {
        let traffic = Traffic::new(Instant::now());
        let (interval, patience) = PING;
        let service =
            service_fn(|request| Arc::clone(&self).respond(Arc::clone(&traffic), request));
        let mut connection = pin!(
            http2::Builder::new(Starter(self.spawner.clone()))
                .timer(Clock(self.port.clone()))
                .max_header_list_size(HEADERS_MAX)
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .max_pending_accept_reset_streams(RESETS)
                .max_local_error_reset_streams(ERRORS)
                .keep_alive_interval(interval)
                .keep_alive_timeout(patience)
                .serve_connection(stream, service)
        );
        let mut ended = pin!(self.ending.begun());
        let (mut told, mut quiet) = (false, false);
        let mut judged = self.port.sleep_until(after(PATIENCE));
        std::future::poll_fn(|context| {
            if !told && ended.as_mut().poll(context).is_ready() {
                told = true;
                quiet = traffic.is_quiet();
                connection.as_mut().graceful_shutdown();
                judged.reset(after(LAST));
            }
            if connection.as_mut().poll(context).is_ready() || traffic.is_abused() {
                return Poll::Ready(());
            }
            while Pin::new(&mut judged).poll(context).is_ready() {
                // It was told to finish and sends nothing, and its last response had the same time to be sent.
                if told && quiet && traffic.is_quiet() {
                    return Poll::Ready(());
                }
                quiet = traffic.is_quiet();
                match traffic.judge(Instant::now()) {
                    Verdict::IsStuck => return Poll::Ready(()),
                    Verdict::IsIdle => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                        context.waker().wake_by_ref();
                        judged.reset(after(LAST));
                    }
                    Verdict::GoesOn(_) if told => judged.reset(after(LAST)),
                    Verdict::GoesOn(next) => judged.reset(next),
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Answers a request.
    async fn respond(
        self: Arc<Self>,
        traffic: Arc<Traffic>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let (parts, body) = request.into_parts();
        if let Some(status) = refused(&parts) {
            return Ok(plain(status));
        }
        let Some(place) = self.in_flight.try_take() else {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE));
        };
        let Some(memory) = Charge::take(self.instances.budget(), REQUEST_MEMORY) else {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE));
        };
        let mut flight = Flight::new(&traffic, place, memory);
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let limit = self.settings.timeout.map(after);
        let is_head = parts.method == Method::HEAD;
        let (outparam, answer) = oneshot::channel();
        let (whole, watched) = oneshot::channel();
        let server = Arc::clone(&self);
        self.spawner.spawn_long(async move {
            let handled = server.handle(parts, body, outparam);
            let end = server.until(pin!(handled), watched, limit).await;
            server.tell(number, &end);
        });
        let answer = match limit {
            None => Some(answer.await),
            Some(limit) => before(answer, self.port.sleep_until(limit)).await,
        };
        let late = || limit.is_some_and(|limit| Instant::now() >= limit);
        let mut progress = None;
        let response = match answer {
            Some(Ok(Ok(response))) if response.status.is_informational() => {
                self.say(format_args!(
                    "request {number}: the component answered with status {}, which is not a final response (RFC 9110, section 15.2)",
                    response.status.as_u16()
                ));
                self.let_end(whole);
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Some(Ok(Ok(response))) => {
                let mut reply = Response::new(Reply::none());
                let promised = response.headers.content_length();
                let is_bare = is_head || is_bare(response.status);
                *reply.status_mut() = response.status;
                *reply.headers_mut() = response.headers.into_map();
                if matches!(
                    response.status,
                    StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT
                ) {
                    // RFC 9110, sections 8.6 and 15.3.6.
                    reply.headers_mut().remove(CONTENT_LENGTH);
                }
                match response.body {
                    Some(body) if is_bare => {
                        flight.answered(None);
                        self.take_unsent(Reply::body(body, whole).holding(flight));
                        return Ok(reply);
                    }
                    Some(body) => {
                        progress = Some(body.progress());
                        *reply.body_mut() = Reply::body(body, whole);
                        reply
                    }
                    None => {
                        whole_without_body(whole);
                        if is_bare || promised.is_none_or(|length| length == 0) {
                            reply
                        } else {
                            self.say(format_args!(
                                "request {number}: the component promised a body and made none"
                            ));
                            plain(StatusCode::INTERNAL_SERVER_ERROR)
                        }
                    }
                }
            }
            Some(Ok(Err(NoAnswer::NoInstance))) => plain(StatusCode::SERVICE_UNAVAILABLE),
            Some(Ok(Err(NoAnswer::Error))) => {
                self.say(format_args!(
                    "request {number}: the component answered an error"
                ));
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
            None => plain(StatusCode::GATEWAY_TIMEOUT),
            Some(Err(oneshot::Canceled)) if late() => plain(StatusCode::GATEWAY_TIMEOUT),
            Some(Err(oneshot::Canceled)) => {
                self.let_end(whole);
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        flight.answered(progress);
        Ok(response.map(|reply| reply.holding(flight)))
    }

    /// Consumes a body that is sent to nobody, so that its component can continue.
    fn take_unsent(&self, body: Reply) {
        let (time, bytes) = UNSENT;
        let end = self.port.sleep_until(after(time));
        self.spawner.spawn(async move {
            // Whichever ends first.
            let _ = before(pin!(body.drained(bytes)), end).await;
        });
    }

    /// Has an instance of its own handle a request.
    async fn handle(
        &self,
        parts: Parts,
        body: Incoming,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        let _place = self.running.take().await;
        let made = match self.instances.store(&self.spawner) {
            Ok(mut store) => {
                let instance = self.handler.instantiate(&mut store).await;
                instance.map(|instance| (store, instance))
            }
            Err(error) => Err(error),
        };
        let (mut store, instance) = match made {
            Ok(made) => made,
            Err(error) => {
                if !error.is::<Trap>() {
                    // Another one may find the memory that this one did not.
                    let _ = answer.send(Err(NoAnswer::NoInstance));
                }
                return Err(error.context("no instance could be made"));
            }
        };
        let is_secure = self.settings.tls.is_some();
        let request = IncomingRequest::new(&self.port, parts, body, is_secure);
        instance.handle(&mut store, request, answer).await
    }

    /// Waits for the end of a request's work: its own, its peer's, or that of its time.
    async fn until(
        &self,
        mut work: Pin<&mut impl Future<Output = wasmtime::Result<()>>>,
        mut watched: oneshot::Receiver<()>,
        limit: Option<Instant>,
    ) -> End {
        let is_late = || limit.is_some_and(|limit| Instant::now() >= limit);
        let mut limit = limit.map(|limit| self.port.sleep_until(limit));
        let mut is_watched = true;
        std::future::poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(End::Done(result));
            }
            if is_watched {
                match Pin::new(&mut watched).poll(context) {
                    Poll::Ready(Ok(())) => is_watched = false,
                    // The task that answers has seen the end of the time first.
                    Poll::Ready(Err(oneshot::Canceled)) if is_late() => {
                        return Poll::Ready(End::Late);
                    }
                    Poll::Ready(Err(oneshot::Canceled)) => return Poll::Ready(End::Gone),
                    Poll::Pending => {}
                }
            }
            match &mut limit {
                Some(limit) => Pin::new(limit).poll(context).map(|()| End::Late),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Lets the work of an unanswered request reach its own end, which shows the reason: with WASI 0.3 the answer
    /// is dropped earlier.
    fn let_end(&self, mut whole: oneshot::Sender<()>) {
        let over = self.port.sleep_until(after(OWN_END));
        self.spawner.spawn(async move {
            before(whole.cancellation(), over).await;
        });
    }

    /// Logs how a request ended, if it is worth a line. The line has no data of the request.
    fn tell(&self, number: u64, end: &End) {
        match end {
            End::Gone | End::Done(Ok(())) => {}
            End::Late => self.say(format_args!(
                "request {number} was ended: it took longer than the time of a request"
            )),
            End::Done(Err(error)) => match (error.downcast_ref(), error.downcast_ref::<Trap>()) {
                (Some(Exit(0)), _) => {}
                (Some(exit), _) => self.say(format_args!("request {number}: {exit}")),
                (_, Some(trap)) => self.say(format_args!("request {number} trapped: {trap}")),
                _ => self.say(format_args!(
                    "request {number} failed: {}",
                    error.root_cause()
                )),
            },
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        // A log that nobody reads changes nothing for the peers.
        let _ = self.log.write_all(format!("enarx: {what}\n").as_bytes());
    }
}

/// How a request's work ended.
enum End {
    /// By itself.
    Done(wasmtime::Result<()>),
    /// The peer has gone.
    Gone,
    /// Its time was over.
    Late,
}

fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

/// Waits for a future or for the end of a time; `None` if that came first.
async fn before<T>(
    mut future: impl Future<Output = T> + Unpin,
    mut end: impl Future<Output = ()> + Unpin,
) -> Option<T> {
    std::future::poll_fn(|context: &mut Context<'_>| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut end).poll(context).map(|()| None)
    })
    .await
}

/// A response without a body was sent as a whole when its head is.
fn whole_without_body(whole: oneshot::Sender<()>) {
    // The component has ended already: nobody listens.
    let _ = whole.send(());
}

/// True for a response that has no body, whatever the component writes (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
fn is_bare(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// A response by the server itself. An HTTP/1.1 connection ends after it: the rest of the request is not read.
fn plain(status: StatusCode) -> Response<Reply> {
    let reason = status.canonical_reason().unwrap_or("error");
    let mut response = Response::new(Reply::text(format!("{} {reason}\n", status.as_u16())));
    *response.status_mut() = status;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

#[cfg(test)]
mod tests {
    use enarx_documents::plain_table;
    use enarx_sallyport::{Call, Status};
    use enarx_sallyport_host::liar::{Answer, Liar};

    use super::*;

    const SPEC: &str = include_str!("../../../protocol/sallyport/SPEC.md");

    #[test]
    fn the_specification_lists_the_temporary_errors_of_accepting() {
        let rows = plain_table(SPEC, "<!-- accepting:");
        let [one, room] = &rows[..] else {
            panic!("{rows:?}")
        };
        let is_in = |row: &[String], name: &str| row[0].split(", ").any(|it| it == name);
        // It is not about sockets, and shares its error number with one that is.
        let others = [Status::Ok, Status::ResolverFailure];
        let statuses = Status::ALL.iter().filter(|it| !others.contains(it));
        let statuses: Vec<_> = statuses.copied().collect();
        let mut answers = statuses.clone().into_iter();
        let (port, _) = Liar::start(move |_, _| answers.next().map(Answer::error));
        let mut counts = [0; 2];
        for status in statuses {
            let errno = port.call(&Call::ClockWall, &[], &mut []).unwrap_err();
            let name = format!("{status:?}");
            let expected = match (is_in(one, &name), is_in(room, &name)) {
                (false, false) => Refused::Ended,
                (true, false) => Refused::One,
                (false, true) => Refused::NoRoom,
                (true, true) => panic!("{name} is listed twice"),
            };
            assert_eq!(Refused::from(errno), expected, "{name}");
            for (count, row) in counts.iter_mut().zip([one, room]) {
                *count += usize::from(is_in(row, &name));
            }
        }
        // Every name of the lists is that of a status.
        assert_eq!(counts, [one, room].map(|row| row[0].split(", ").count()));
    }
}
