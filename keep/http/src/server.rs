// SPDX-License-Identifier: Apache-2.0

//! The server: connections of the listener that the host has granted, and an instance of the component for each request.
//!
//! Everything waits on one thread, each part for itself: a peer that says nothing, and a request that waits, hold up
//! nobody. A component that fails ends its own request, never the server.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_sallyport::types::ADDRESS_SIZE;
use enarx_sallyport::{Call, Handle};
use enarx_wasi::Exit;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{Port, Spawner, Tasks};
use enarx_wasi::stream::Output;
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use wasmtime::{Store, Trap};

use crate::bindings::ProxyPre;
use crate::limits::{Ending, Places};
use crate::reply::Reply;
use crate::stream::{Clock, Stream};
use crate::types::{Answer, IncomingRequest, NoAnswer, ResponseOutparam, View};

/// Longest time for the headers of a request; a connection may also be idle so long.
const HEADERS: Duration = Duration::from_secs(30);
/// Most bytes of the headers of a request.
const HEADERS_MAX: usize = 32 * 1024;
/// Bytes that are kept of a connection in either direction.
const BUFFER: usize = 64 * 1024;
/// Most connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long nothing is accepted when the host has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the stores of instances.
pub trait Instances: Send + Sync + 'static {
    /// The state of a store.
    type State: View;

    /// A store for one instance, whose own requests are tasks of `spawner`.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn store(&self, spawner: &Spawner) -> wasmtime::Result<Store<Self::State>>;
}

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most requests that are answered at a time; more wait.
    pub requests: usize,
    /// Longest time for a request, if there is one.
    pub timeout: Option<Duration>,
    /// How long requests that have begun may take once the server is to end.
    pub grace: Duration,
}

/// Why a server ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// There is no listener.
    #[error("the host gave no socket to listen on: start servers with `enarx serve`")]
    NoListener,
}

/// Serves connections until the host ends the listener; then finishes what has begun.
///
/// # Errors
/// `ServeError`.
pub fn serve<I: Instances>(
    port: &Port,
    proxy: ProxyPre<I::State>,
    instances: I,
    settings: Settings,
    log: Output,
) -> Result<(), ServeError> {
    let tasks = Tasks::default();
    let server = Arc::new(Server {
        port: port.clone(),
        spawner: tasks.spawner(),
        proxy,
        instances,
        log,
        connections: Places::new(CONNECTIONS),
        requests: Places::new(settings.requests),
        settings,
        last: AtomicU64::new(0),
        ending: Ending::default(),
    });
    let (sender, mut ended) = oneshot::channel();
    tasks.run(port, async move {
        // It is waited for below.
        let _ = sender.send(server.run().await);
    });
    ended.try_recv().ok().flatten().unwrap_or(Ok(()))
}

/// The state that all connections share.
struct Server<I: Instances> {
    port: Port,
    spawner: Spawner,
    proxy: ProxyPre<I::State>,
    instances: I,
    settings: Settings,
    log: Output,
    connections: Places,
    requests: Places,
    /// The number of the last request, by which the log names it.
    last: AtomicU64,
    ending: Ending,
}

/// The consequence of an error of accepting (accept(2)).
enum Refused {
    /// That of one connection.
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
    /// Serves until the listener ends, and finishes.
    async fn run(self: Arc<Self>) -> Result<(), ServeError> {
        loop {
            let place = self.connections.take().await;
            match self.accept().await {
                Ok(stream) => {
                    let server = Arc::clone(&self);
                    self.spawner.spawn(async move {
                        server.connection(stream).await;
                        drop(place);
                    });
                }
                Err(Errno::BadDescriptor) => return Err(ServeError::NoListener),
                Err(errno) => match errno.into() {
                    Refused::One => {}
                    Refused::NoRoom => self.port.sleep_until(after(PAUSE)).await,
                    Refused::Ended => break,
                },
            }
        }
        self.ending.begin();
        let end = self.port.sleep_until(after(self.settings.grace));
        if before(pin!(self.connections.all_free()), end)
            .await
            .is_none()
        {
            self.say(format_args!(
                "the time of grace is over: {} connections are cut off",
                self.connections.taken()
            ));
        }
        Ok(())
    }

    /// Waits for a connection.
    async fn accept(&self) -> Result<Stream, Errno> {
        let call = Call::TcpAccept {
            handle: Handle::LISTENER,
        };
        let mut operation = self.port.start(&call, &[])?;
        operation.ready().await;
        let mut peer = [0; ADDRESS_SIZE as usize];
        let answer = operation.take(&mut peer)?;
        // A handle has 32 bits; the port has checked the value.
        let handle = u32::try_from(answer.value).unwrap_or_else(|_| self.port.bad_reply());
        Ok(Stream::new(&self.port, Handle(handle)))
    }

    /// Serves one connection to its end.
    async fn connection(self: Arc<Self>, stream: Stream) {
        let service = service_fn(|request| Arc::clone(&self).respond(request));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(Clock(self.port.clone()))
                .header_read_timeout(HEADERS)
                .max_header_size(HEADERS_MAX)
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

    /// Answers a request.
    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let (parts, body) = request.into_parts();
        if let Some(status) = refused(&parts) {
            return Ok(plain(status));
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let limit = self.settings.timeout.map(after);
        let is_head = parts.method == Method::HEAD;
        let (outparam, answer) = oneshot::channel();
        let (whole, watched) = oneshot::channel();
        let server = Arc::clone(&self);
        self.spawner.spawn(async move {
            let handled = server.handle(parts, body, outparam);
            let end = server.until(pin!(handled), watched, limit).await;
            server.tell(number, &end);
        });
        let answer = match limit {
            None => Some(answer.await),
            Some(limit) => before(answer, self.port.sleep_until(limit)).await,
        };
        let late = || limit.is_some_and(|limit| Instant::now() >= limit);
        Ok(match answer {
            Some(Ok(Ok(response))) => {
                let mut reply = Response::new(Reply::none());
                *reply.status_mut() = response.status;
                *reply.headers_mut() = response.headers.into_map();
                match response.body {
                    // The component's bytes are taken, and not sent.
                    Some(body) if is_head => self.spawner.spawn(Reply::body(body, whole).drained()),
                    Some(body) => *reply.body_mut() = Reply::body(body, whole),
                    None => whole_without_body(whole),
                }
                reply
            }
            Some(Ok(Err(NoAnswer::NoInstance))) => plain(StatusCode::SERVICE_UNAVAILABLE),
            Some(Ok(Err(NoAnswer::Code(_)))) => {
                self.say(format_args!(
                    "request {number}: the component answered an error"
                ));
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
            None => plain(StatusCode::GATEWAY_TIMEOUT),
            Some(Err(oneshot::Canceled)) if late() => plain(StatusCode::GATEWAY_TIMEOUT),
            Some(Err(oneshot::Canceled)) => plain(StatusCode::INTERNAL_SERVER_ERROR),
        })
    }

    /// Has an instance of its own handle a request.
    async fn handle(
        &self,
        parts: Parts,
        body: Incoming,
        outparam: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        let _place = self.requests.take().await;
        let made = match self.instances.store(&self.spawner) {
            Ok(mut store) => {
                let proxy = self.proxy.instantiate_async(&mut store).await;
                proxy.map(|proxy| (store, proxy))
            }
            Err(error) => Err(error),
        };
        let (mut store, proxy) = match made {
            Ok(made) => made,
            Err(error) => {
                if !error.is::<Trap>() {
                    // Another one may find the memory that this one did not.
                    let _ = outparam.send(Err(NoAnswer::NoInstance));
                }
                return Err(error.context("no instance could be made"));
            }
        };
        let http = store.data_mut().http();
        let request = IncomingRequest::new(&self.port, parts, body);
        let request = http.table.push(request)?;
        let is_set = Arc::new(AtomicBool::new(false));
        let outparam = http.table.push(ResponseOutparam {
            sender: outparam,
            is_set: Arc::clone(&is_set),
        })?;
        let handler = proxy.wasi_http_incoming_handler();
        handler.call_handle(&mut store, request, outparam).await?;
        if !is_set.load(Ordering::Relaxed) {
            wasmtime::bail!("the component gave no answer");
        }
        Ok(())
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
                    // Whoever answers has seen the end of the time first.
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

    /// Tells the log how a request ended, if it is worth a line. Nothing of the request is in it.
    fn tell(&self, number: u64, end: &End) {
        match end {
            End::Gone | End::Done(Ok(())) => {}
            End::Late => self.say(format_args!(
                "request {number} was ended: it took longer than --timeout"
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

/// The status of a request that no component sees; `None` for one that is in order.
fn refused(parts: &Parts) -> Option<StatusCode> {
    if parts.method == Method::CONNECT {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    let hosts = parts.headers.get_all(HOST).iter();
    let wanted = match parts.version {
        // RFC 9112, section 3.2: one, even beside a whole URI.
        Version::HTTP_11 => 1..=1,
        _ => 0..=1,
    };
    let readable = parts
        .headers
        .get(HOST)
        .is_none_or(|host| host.to_str().is_ok());
    (!wanted.contains(&hosts.count()) || !readable).then_some(StatusCode::BAD_REQUEST)
}

/// A response of the server's own, after which the connection ends: the rest of the request is not read.
fn plain(status: StatusCode) -> Response<Reply> {
    let reason = status.canonical_reason().unwrap_or("error");
    let mut response = Response::new(Reply::text(format!("{} {reason}\n", status.as_u16())));
    *response.status_mut() = status;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}
