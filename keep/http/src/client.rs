// SPDX-License-Identifier: Apache-2.0

//! Requests of a component to other servers, by `wasi:http/outgoing-handler` of 0.2 and `wasi:http/client` of 0.3, over TLS and in
//! clear.
//!
//! Each has a connection of its own. What the configuration does not permit of the network is refused here, and by the host
//! again. Data from the network is not trusted, addresses that the host has found least of all. Certificates are checked
//! here, in the Keep, against the issuers that the configuration names; by the time that the tenant has told, or by the
//! host's clock where the host configures the Keep. The host sees and changes what is sent in clear.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_configuration::{Certificate, Network};
use enarx_sallyport::Call;
use enarx_tls::web::{self, WebError};
use enarx_wasi::clock::Clocks;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{Port, Spawner};
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};

use crate::bindings::http::types::{DnsErrorPayload, ErrorCode};
use crate::body::{IncomingBody, error_code, tls_error_code};
use crate::fields::Fields;
use crate::reply::Reply;
use crate::secure::{Secure, Transport};
use crate::stream::Stream;
use crate::types::{IncomingResponse, OutgoingRequest, RequestOptions};

/// Longest time for a connection, the first byte of a response, and the next one, unless the component says otherwise: as
/// Wasmtime's own `wasi:http` has it.
const LIMIT: Duration = Duration::from_mins(10);

/// Port of a server that names none (RFC 9110, sections 4.2.1 and 4.2.2).
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The way to other servers.
pub struct Way {
    /// The way out of the Keep.
    pub port: Port,
    /// The permitted use of the network.
    pub network: Network,
    /// Starts the tasks of connections.
    pub spawner: Spawner,
    /// The issuers of certificates.
    pub trust: Arc<Trust>,
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
            web::Client::new(issuers, &[web::HTTP1], self.clocks.for_tls())
        });
        client.as_ref().map_err(Clone::clone)?.connect(name)
    }
}

/// A response, or the error there is instead.
pub type Outcome = Result<IncomingResponse, ErrorCode>;

/// Sends a request; the response comes later.
///
/// # Errors
/// [`ErrorCode`] for what cannot be sent.
pub fn send(
    way: &Way,
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
    let authority = Authority::try_from(authority).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let server = Server {
        port: way.port.clone(),
        spawner: way.spawner.clone(),
        name: authority.host().trim_matches(['[', ']']).to_owned(),
        number: authority
            .port_u16()
            .unwrap_or(if is_secure { HTTPS_PORT } else { HTTP_PORT }),
        trust: is_secure.then(|| Arc::clone(&way.trust)),
        lookup: way.network.name_lookup,
    };
    let limits = Limits {
        connect: options.connect.unwrap_or(LIMIT),
        first_byte: options.first_byte.unwrap_or(LIMIT),
        between_bytes: options.between_bytes.unwrap_or(LIMIT),
    };
    let message = message(request, &authority)?;
    let (mut sender, receiver) = oneshot::channel();
    way.spawner.spawn(async move {
        let response = {
            let mut response = pin!(server.ask(message, &limits));
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

/// The request as it is sent.
fn message(request: OutgoingRequest, authority: &Authority) -> Result<Request<Reply>, ErrorCode> {
    let path = request.target.path.as_deref().unwrap_or("/");
    let uri: Uri = match path {
        "" => Uri::from_static("/"),
        path if path.starts_with('?') => format!("/{path}")
            .try_into()
            .map_err(|_| ErrorCode::HttpRequestUriInvalid)?,
        path => path
            .try_into()
            .map_err(|_| ErrorCode::HttpRequestUriInvalid)?,
    };
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let body = request.body.map_or_else(Reply::none, Reply::request);
    let mut message = Request::new(body);
    *message.method_mut() = request.target.method;
    *message.uri_mut() = uri;
    *message.headers_mut() = request.headers.into_map();
    message.headers_mut().insert(HOST, host);
    Ok(message)
}

/// The limits of time of a request.
struct Limits {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

/// Another server.
struct Server {
    port: Port,
    spawner: Spawner,
    name: String,
    number: u16,
    /// Present if it is asked over TLS.
    trust: Option<Arc<Trust>>,
    /// True if its name may be looked up.
    lookup: bool,
}

impl Server {
    async fn ask(&self, message: Request<Reply>, limits: &Limits) -> Outcome {
        let connected = self.within(limits.connect, self.transport()).await;
        let stream = connected.unwrap_or(Err(ErrorCode::ConnectionTimeout))?;
        let exchanged = self.within(limits.first_byte, self.exchange(stream, message));
        let response = exchanged
            .await
            .unwrap_or(Err(ErrorCode::HttpResponseTimeout))?;
        let (parts, body) = response.into_parts();
        Ok(IncomingResponse {
            status: parts.status,
            headers: Fields::received(&parts.headers),
            body: Some(IncomingBody::new(&self.port, body, limits.between_bytes)),
        })
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

    async fn exchange(
        &self,
        stream: Transport,
        message: Request<Reply>,
    ) -> Result<Response<Incoming>, ErrorCode> {
        let handshake = http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| error_code(&error))?;
        self.spawner.spawn(async move {
            // The response, or its body, has the error.
            let _ = connection.await;
        });
        let response = sender.send_request(message).await;
        response.map_err(|error| error_code(&error))
    }

    async fn transport(&self) -> Result<Transport, ErrorCode> {
        Ok(match &self.trust {
            None => Transport::Clear(self.connect().await?),
            Some(trust) => Transport::Secure(Box::new(self.connect_securely(trust).await?)),
        })
    }

    /// Connects, and finishes the handshake of TLS with the server of that name.
    async fn connect_securely(&self, trust: &Trust) -> Result<Secure, ErrorCode> {
        let tls = trust.connect(&self.name);
        let tls = tls.map_err(|error| tls_error_code(&error))?;
        let mut stream = Secure::new(self.connect().await?, tls);
        let Err(error) = stream.handshake().await else {
            return Ok(stream);
        };
        // The server is told, and nobody waits for that.
        self.spawner.spawn(stream.close());
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        Err(tls.map_or(ErrorCode::ConnectionTerminated, tls_error_code))
    }

    /// Connects to the first of its addresses that answers.
    async fn connect(&self) -> Result<Stream, ErrorCode> {
        let mut failed = ErrorCode::DestinationNotFound;
        for address in self.addresses().await? {
            match self.connect_to(address).await {
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
            address: SocketAddr::new(address, self.number).into(),
        };
        let mut operation = self.port.start(&connect, &[])?;
        operation.ready().await;
        operation.take(&mut [])?;
        Ok(stream)
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, ErrorCode> {
        if let Ok(address) = self.name.parse() {
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
        let mut operation = self.port.resolve(&self.name).map_err(failed)?;
        operation.ready().await;
        operation.take_addresses().map_err(failed)
    }
}
