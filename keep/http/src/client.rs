// SPDX-License-Identifier: Apache-2.0

//! Requests of a component to other servers, by `wasi:http/outgoing-handler` of 0.2 and `wasi:http/client` of 0.3, over TLS and in
//! clear.
//!
//! A connection is kept for the next requests of the same instance to the same server; HTTP/2, which both ends may
//! choose over TLS, has many of them at once on one. Uses of the network that the configuration does not permit are
//! refused here, and by the host again. Data from the network is not trusted, and neither are addresses that the host
//! has looked up. Certificates are checked here, in the Keep, against the issuers that the configuration names, at the
//! time that the tenant has given, or by the host's clock if the host configures the Keep. The host can see and change
//! data that is sent without TLS.

use std::error::Error as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_configuration::{Certificate, Network};
use enarx_sallyport::Call;
use enarx_tls::web::{self, WebError};
use enarx_wasi::budget::Allowance;
use enarx_wasi::clock::Clocks;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{Port, Spawner};
use futures_channel::oneshot;
use h2::Reason;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};

use crate::account::{Held, Use};
use crate::body::incoming::IncomingBody;
use crate::charge::Charge;
use crate::coding::{self, CodingError};
use crate::error::{DnsErrorPayload, ErrorCode, connection_error, tls_error};
use crate::fields::Fields;
use crate::kept::{Connection, Destination, Kept, Next, STREAMS, Sender};
use crate::messages::{IncomingResponse, Outcome, OutgoingRequest, RequestOptions};
use crate::reply::Reply;
use crate::secure::{Secure, Transport};
use crate::stream::{Clock, Starter, Stream};
use crate::target::{absolute, server_of};
use crate::traffic::{BUFFER, CONNECTION_MEMORY, HEADERS_MAX, PING, SEND_BUFFER, TLS_MEMORY};

/// Longest time for a connection, the first byte of a response, and the next one, unless the component says otherwise:
/// as in Wasmtime's own `wasi:http`.
const LIMIT: Duration = Duration::from_mins(10);

/// Bytes of a response that a server may send before the component has read any: over HTTP/2 they cover one round trip
/// to a distant server at a few megabytes per second.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Memory that is counted for a request, in bytes, until its response has been read: its headers and those of the
/// response, the part of its body in flight, and [`STREAM_WINDOW`]. Bytes that the component has written and nobody
/// has taken are counted with the body.
const REQUEST_MEMORY: u64 = 384 * 1024;

/// Port of a server that names none (RFC 9110, sections 4.2.1 and 4.2.2).
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The way to other servers.
pub struct ServerAccess {
    /// The way out of the Keep.
    pub port: Port,
    /// The permitted use of the network.
    pub network: Network,
    /// Starts the tasks of connections.
    pub spawner: Spawner,
    /// The issuers of certificates.
    pub trust: Arc<Trust>,
    /// The connections of earlier requests of this instance.
    pub kept: Kept,
}

/// Issuers whose certificates are accepted, read when the first request over TLS is made.
pub struct Trust {
    issuers: Vec<Certificate>,
    clocks: Clocks,
    client: OnceLock<Result<web::Client, WebError>>,
}

impl Trust {
    /// Trust in these issuers, by these clocks.
    pub fn new(issuers: Vec<Certificate>, clocks: Clocks) -> Arc<Self> {
        Arc::new(Self {
            issuers,
            clocks,
            client: OnceLock::new(),
        })
    }

    /// The client's end of a connection to a server of this name.
    fn connect(&self, name: &str) -> Result<web::Session, WebError> {
        let client = self.client.get_or_init(|| {
            let issuers = self.issuers.iter().map(|issuer| issuer.0.as_slice());
            web::Client::new(issuers, &[web::HTTP2, web::HTTP1], self.clocks.for_tls())
        });
        client.as_ref().map_err(Clone::clone)?.connect(name)
    }
}

/// Sends a request; the response arrives later, and its headers count towards the memory that the component may hold.
///
/// # Errors
/// [`ErrorCode`] for a request that cannot be sent.
pub fn send(
    way: &ServerAccess,
    held: &Allowance,
    request: OutgoingRequest,
    options: &RequestOptions,
) -> Result<oneshot::Receiver<Outcome>, ErrorCode> {
    if !way.network.tcp {
        return Err(ErrorCode::HttpRequestDenied);
    }
    let is_secure = match &request.target.scheme {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        // As Wasmtime's own has it.
        Some(scheme) if *scheme != Scheme::HTTPS => return Err(ErrorCode::HttpProtocolError),
        _ => true,
    };
    let authority = request.target.authority.as_deref().unwrap_or_default();
    let authority =
        Authority::try_from(server_of(authority)).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let to = Destination {
        is_secure,
        name: authority.host().trim_matches(['[', ']']).to_owned(),
        number: authority
            .port_u16()
            .unwrap_or(if is_secure { HTTPS_PORT } else { HTTP_PORT }),
    };
    let limits = Limits {
        connect: options.connect.unwrap_or(LIMIT),
        first_byte: options.first_byte.unwrap_or(LIMIT),
        between_bytes: options.between_bytes.unwrap_or(LIMIT),
    };
    // Before it is a task: a component makes more of them than have had their turn.
    let memory = way.kept.charge(REQUEST_MEMORY);
    let memory = memory.ok_or(ErrorCode::ConnectionLimitReached)?;
    let message = message(request)?;
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let server = Server {
        port: way.port.clone(),
        spawner: way.spawner.clone(),
        to,
        authority,
        host,
        kept: way.kept.clone(),
        trust: is_secure.then(|| Arc::clone(&way.trust)),
        lookup: way.network.name_lookup,
        held: held.clone(),
    };
    let (mut sender, receiver) = oneshot::channel();
    way.spawner.spawn(async move {
        let response = {
            let mut response = pin!(server.ask(message, memory, &limits));
            std::future::poll_fn(|context| {
                // A component that has given it up waits for nothing.
                if sender.poll_canceled(context).is_ready() {
                    return Poll::Ready(None);
                }
                response.as_mut().poll(context).map(Some)
            })
            .await
        };
        if let Some(response) = response {
            let _ = sender.send(response);
        }
    });
    Ok(receiver)
}

/// Sends a server two requests without TLS, and reads all that it answers; returns the length of the bodies.
#[cfg(feature = "fuzzing")]
pub async fn ask_twice(way: &ServerAccess, held: &Allowance) -> usize {
    let mut count = 0;
    for _ in 0..2 {
        let request = OutgoingRequest {
            target: crate::target::Target {
                scheme: Some(Scheme::HTTP),
                authority: Some("192.0.2.1".to_owned()),
                ..Default::default()
            },
            headers: Fields::new(held),
            body: None,
        };
        let Ok(receiver) = send(way, held, request, &RequestOptions::default()) else {
            continue;
        };
        let Ok(Ok(IncomingResponse {
            body: Some(body), ..
        })) = receiver.await
        else {
            continue;
        };
        let (mut stream, mut trailers) = body.split();
        let mut take = |bytes: &[u8]| {
            count += bytes.len();
            bytes.len()
        };
        while std::future::poll_fn(|context| stream.poll_bytes(context, &mut take)).await {}
        let _ = std::future::poll_fn(|context| trailers.poll_end(context)).await;
    }
    count
}

/// The request, except the parts that depend on the version of HTTP.
fn message(request: OutgoingRequest) -> Result<Request<Reply>, ErrorCode> {
    let path = request.target.path.as_deref().unwrap_or("/");
    let uri: Uri = absolute(path)
        .parse()
        .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    if request.body.is_none() && request.headers.content_length().is_some_and(|it| it > 0) {
        // The server would wait for it, and treat the next request as its content.
        return Err(ErrorCode::HttpRequestBodySize(Some(0)));
    }
    let body = request.body.map_or_else(Reply::none, Reply::request);
    let mut message = Request::new(body);
    *message.method_mut() = request.target.method;
    *message.uri_mut() = uri;
    *message.headers_mut() = request.headers.into_map();
    Ok(message)
}

/// The limits of time of a request.
struct Limits {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

/// The reason why there is no response.
struct Failed {
    code: ErrorCode,
    /// The request, if the server has seen nothing of it.
    unsent: Option<Box<Request<Reply>>>,
}

impl From<ErrorCode> for Failed {
    fn from(code: ErrorCode) -> Self {
        Self { code, unsent: None }
    }
}

/// True if the server of HTTP/2 says that it has done nothing with the request (RFC 9113, section 8.7).
fn was_not_processed(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(Reason::NO_ERROR) => error.is_go_away(),
                Some(Reason::REFUSED_STREAM) => error.is_reset(),
                _ => false,
            }
    })
}

/// The same request without a body.
fn copy(request: &Request<Reply>) -> Request<Reply> {
    let mut copy = Request::new(Reply::none());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// The connection for a request.
struct Found {
    connection: Connection,
    one: Use,
    /// It has served an earlier request, or serves another one now.
    is_kept: bool,
}

/// Another server.
struct Server {
    port: Port,
    spawner: Spawner,
    to: Destination,
    /// Its name and port, as the request has them.
    authority: Authority,
    /// The same as a header.
    host: HeaderValue,
    kept: Kept,
    /// Present if it is asked over TLS.
    trust: Option<Arc<Trust>>,
    /// True if its name may be looked up.
    lookup: bool,
    /// Memory for headers that the component keeps.
    held: Allowance,
}

impl Server {
    async fn ask(&self, message: Request<Reply>, memory: Charge, limits: &Limits) -> Outcome {
        let (response, one) = self.response(message, limits).await?;
        let (mut parts, body) = response.into_parts();
        coding::check(&parts.headers).map_err(|wrong| {
            ErrorCode::HttpResponseTransferCoding(match wrong {
                CodingError::Unknown(name) => Some(name),
                CodingError::Doubtful => None,
            })
        })?;
        if parts.headers.contains_key(TRANSFER_ENCODING) {
            // RFC 9112, section 6.3: it says nothing.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let headers = Fields::kept(&parts.headers, &self.held);
        let headers = headers.map_err(|_| ErrorCode::ConnectionLimitReached)?;
        let body = IncomingBody::new(&self.port, body, limits.between_bytes);
        Ok(IncomingResponse {
            status: parts.status,
            headers,
            body: Some(body.holding(Held::new(one, memory))),
        })
    }

    fn memory(&self, bytes: u64) -> Result<Charge, ErrorCode> {
        let memory = self.kept.charge(bytes);
        memory.ok_or(ErrorCode::ConnectionLimitReached)
    }

    /// The response, over a kept connection or a new one. If a server closes a kept connection without having read the
    /// request, the request is sent once more (RFC 9110, section 9.2.2).
    async fn response(
        &self,
        mut message: Request<Reply>,
        limits: &Limits,
    ) -> Result<(Response<Incoming>, Use), ErrorCode> {
        let mut after = 0;
        loop {
            let found = self.within(limits.connect, self.connection(after)).await;
            let found = found.unwrap_or(Err(ErrorCode::ConnectionTimeout))?;
            let exchange = self.exchange(found.connection, &found.one, message);
            let exchanged = self.within(limits.first_byte, exchange).await;
            match exchanged.unwrap_or(Err(ErrorCode::HttpResponseTimeout.into())) {
                Ok(response) => return Ok((response, found.one)),
                Err(Failed {
                    unsent: Some(unsent),
                    ..
                }) if found.is_kept && after == 0 => {
                    message = *unsent;
                    after = self.kept.last();
                }
                Err(Failed { code, .. }) => return Err(code),
            }
        }
    }

    /// Waits for a future, but no longer than a time.
    async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let now = Instant::now();
        let mut end = self.port.sleep_until(now.checked_add(limit).unwrap_or(now));
        let mut future = pin!(future);
        std::future::poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut end).poll(context).map(|()| None)
        })
        .await
    }

    /// Sends a request, and waits for the head of its response.
    async fn exchange(
        &self,
        mut connection: Connection,
        one: &Use,
        message: Request<Reply>,
    ) -> Result<Response<Incoming>, Failed> {
        let is_http2 = connection.sender.is_http2();
        let message = self.addressed(message, is_http2)?;
        let again = (is_http2 && message.body().is_end_stream()).then(|| copy(&message));
        let message = message.map(|body| body.over(one.clone()));
        match connection.sender.send(message).await {
            Ok(response) => {
                if !is_http2 {
                    let (port, spawner) = (&self.port, &self.spawner);
                    self.kept.keep(&self.to, connection, port, spawner);
                }
                Ok(response)
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = failed.into_error();
                let unsent = unsent.or_else(|| again.filter(|_| was_not_processed(&error)));
                Err(Failed {
                    code: connection_error(&error),
                    unsent: unsent.map(Box::new),
                })
            }
        }
    }

    /// A request as a version of HTTP names its server: HTTP/1.1 by a header, HTTP/2 in a whole URI.
    fn addressed(
        &self,
        mut message: Request<Reply>,
        is_http2: bool,
    ) -> Result<Request<Reply>, ErrorCode> {
        if !is_http2 {
            message.headers_mut().insert(HOST, self.host.clone());
            return Ok(message);
        }
        message.headers_mut().remove(HOST);
        let mut parts = message.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        *message.uri_mut() = parts
            .try_into()
            .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
        Ok(message)
    }

    /// A connection of a number beyond `after` that was kept, or a new one.
    async fn connection(&self, after: u64) -> Result<Found, ErrorCode> {
        let making = match self.kept.next(&self.to, after).await {
            Next::Kept(connection, one) => {
                return Ok(Found {
                    connection,
                    one,
                    is_kept: true,
                });
            }
            Next::New(making) => making,
        };
        let (port, spawner) = (&self.port, &self.spawner);
        let memory = if self.to.is_secure {
            CONNECTION_MEMORY + TLS_MEMORY
        } else {
            CONNECTION_MEMORY
        };
        let memory = self.memory(memory)?;
        let stream = self.transport().await?;
        let sender = if stream.is_http2() {
            let (interval, patience) = PING;
            let handshake = http2::Builder::new(Starter(spawner.clone()))
                .timer(Clock(port.clone()))
                .max_header_list_size(HEADERS_MAX)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(STREAM_WINDOW * STREAMS)
                .max_send_buf_size(SEND_BUFFER)
                .keep_alive_interval(interval)
                .keep_alive_timeout(patience)
                .handshake(stream);
            let (sender, connection) = handshake.await.map_err(|error| connection_error(&error))?;
            self.run(connection);
            Sender::Http2(sender)
        } else {
            let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(stream);
            let (sender, connection) = handshake.await.map_err(|error| connection_error(&error))?;
            self.run(connection);
            Sender::Http1(sender)
        };
        let (connection, one) = making.made(sender, memory, port, spawner);
        Ok(Found {
            connection,
            one,
            is_kept: false,
        })
    }

    /// Has a connection go on to its end.
    fn run(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        self.spawner.spawn(async move {
            // The response, or its body, has the error.
            let _ = connection.await;
        });
    }

    async fn transport(&self) -> Result<Transport, ErrorCode> {
        Ok(match &self.trust {
            None => Transport::Clear(self.connect().await?),
            Some(trust) => Transport::Secure(Box::new(self.connect_securely(trust).await?)),
        })
    }

    /// Connects, and finishes the handshake of TLS with the server of that name.
    async fn connect_securely(&self, trust: &Trust) -> Result<Secure, ErrorCode> {
        let tls = trust.connect(&self.to.name);
        let tls = tls.map_err(|error| tls_error(&error))?;
        let mut stream = Secure::new(self.connect().await?, tls);
        let Err(error) = stream.handshake().await else {
            return Ok(stream);
        };
        // The server is told, and nobody waits for that.
        self.spawner.spawn(stream.close());
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        Err(tls.map_or(ErrorCode::ConnectionTerminated, tls_error))
    }

    /// Connects to the first of its addresses that answers.
    async fn connect(&self) -> Result<Stream, ErrorCode> {
        let mut failed = ErrorCode::DestinationNotFound;
        for address in self.addresses().await? {
            // One of IPv4 in the clothes of IPv6 is reached by a socket of IPv4.
            match self.connect_to(address.to_canonical()).await {
                Ok(stream) => return Ok(stream),
                Err(errno) => {
                    failed = match errno {
                        Errno::ConnectionRefused => ErrorCode::ConnectionRefused,
                        Errno::TimedOut => ErrorCode::ConnectionTimeout,
                        Errno::HostUnreachable | Errno::NetworkUnreachable => {
                            ErrorCode::DestinationIpUnroutable
                        }
                        Errno::Access | Errno::NotPermitted => ErrorCode::DestinationIpProhibited,
                        Errno::TooManyDescriptors => ErrorCode::ConnectionLimitReached,
                        _ => ErrorCode::DestinationUnavailable,
                    }
                }
            }
        }
        Err(failed)
    }

    async fn connect_to(&self, address: IpAddr) -> Result<Stream, Errno> {
        let open = Call::TcpOpen {
            ipv6: address.is_ipv6(),
        };
        let answer = self.port.call(&open, &[], &mut [])?;
        let handle = self.port.handle(&answer);
        let stream = Stream::new(&self.port, handle);
        let connect = Call::TcpConnect {
            handle,
            address: SocketAddr::new(address, self.to.number).into(),
        };
        let mut operation = self.port.start(&connect, &[])?;
        operation.ready().await;
        operation.take(&mut [])?;
        Ok(stream)
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, ErrorCode> {
        if let Ok(address) = self.to.name.parse() {
            return Ok(vec![address]);
        }
        if !self.lookup {
            return Err(ErrorCode::HttpRequestDenied);
        }
        let failed = |errno| match errno {
            Errno::Again | Errno::TimedOut => ErrorCode::DnsTimeout,
            Errno::NotPermitted => ErrorCode::HttpRequestDenied,
            errno => ErrorCode::DnsError(DnsErrorPayload {
                rcode: Some(errno.to_string()),
                info_code: None,
            }),
        };
        let mut operation = self.port.resolve(&self.to.name).map_err(failed)?;
        operation.ready().await;
        operation.take_addresses().map_err(failed)
    }
}
