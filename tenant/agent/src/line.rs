// SPDX-License-Identifier: Apache-2.0

//! One HTTPS connection to a manager: HTTP/1.1 with hyper over TLS with the pinned certificate, every wait bounded. The
//! task that uses it also drives it.

use crate::fault::Fault;
use crate::pin;
use crate::target::Target;
use enarx_contract::canonical::printable;
use enarx_manager_api::body::whole;
use enarx_manager_api::{PROTOCOL, limit};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, Builder, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE,
    USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time for the TCP connection, name lookup included, and as much for the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Largest head of an answer in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Bytes that are read from the connection at once. The TLS library asks for a quarter of a record at a time, which
/// would cost four times the system calls.
const READ: usize = 64 << 10;

/// Longest text of the HTTP library that an error keeps, in characters.
const MESSAGE: usize = 160;

/// The outer connection, when it has become the relay of a session.
pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

type Body = Full<Bytes>;

/// A connection to a manager.
pub(crate) struct Line {
    sender: SendRequest<Body>,
    connection: http1::Connection<TokioIo<Stream>, Body>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// JSON; empty: no body.
    pub(crate) body: Vec<u8>,
    /// How long the whole answer may take.
    pub(crate) within: Duration,
    /// Name of the answer in messages.
    pub(crate) what: &'static str,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Line {
    /// Connects to the manager of this host.
    ///
    /// # Errors
    /// [`Fault::Name`], [`Fault::Unreachable`], [`Fault::Unanswered`], [`Fault::Timeout`], [`Fault::Pin`], [`Fault::OuterTls`].
    pub(crate) async fn open(target: &Target) -> Result<Self, Fault> {
        let name = pin::server_name(target)?;
        let connector = TlsConnector::from(Arc::new(pin::config(target)?));
        let connect = async {
            let named = lookup_host((target.host(), target.port())).await;
            let addresses: Vec<_> = named.map_err(|_| Fault::Name)?.collect();
            let tcp = TcpStream::connect(&addresses[..]).await;
            tcp.map_err(|error| unreached(&error))
        };
        let tcp = timeout(CONNECT, connect)
            .await
            .map_err(|_| Fault::Timeout("connection"))??;
        // Without it small frames wait for each other; a system that refuses is slower, not wrong.
        let _ = tcp.set_nodelay(true);
        let tcp = BufReader::with_capacity(READ, tcp);
        let tls = timeout(CONNECT, connector.connect(name, tcp))
            .await
            .map_err(|_| Fault::Timeout("TLS handshake"))?
            .map_err(|error| pin::handshake(&error, target))?;
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| fault(&error))?;
        Ok(Self { sender, connection })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// [`Fault::Timeout`], [`Fault::Unanswered`], [`Fault::Api`].
    pub(crate) async fn ask(&mut self, target: &Target, ask: &Ask) -> Result<Answer, Fault> {
        let request = request(target, ask)?;
        timeout(ask.within, self.exchange(request))
            .await
            .map_err(|_| Fault::Timeout(ask.what))?
    }

    /// Waits until the connection takes a request.
    async fn ready(&mut self) -> Result<(), Fault> {
        let sender = &mut self.sender;
        let ready = async { sender.ready().await.map_err(|error| fault(&error)) };
        drive(&mut self.connection, ready).await
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Answer, Fault> {
        self.ready().await?;
        let response = self.sender.send_request(request);
        let work = async {
            let response: Response<Incoming> = response.await.map_err(|error| fault(&error))?;
            let status = response.status();
            let body = whole(response.into_body(), limit::ANSWER)
                .await
                .map_err(|error| Fault::Api(printable(&error.to_string(), MESSAGE)))?;
            Ok(Answer { status, body })
        };
        drive(&mut self.connection, work).await
    }

    /// Asks for the relay to a Keep, and gives the connection out once the manager has switched to it.
    ///
    /// # Errors
    /// [`Fault::Relay`] for every answer except 101 to this protocol, and for bytes after it: the Keep speaks second.
    /// [`Fault::Unanswered`] when the connection ends before an answer.
    pub(crate) async fn relay(mut self, target: &Target, ask: &Ask) -> Result<Stream, Fault> {
        let mut request = request(target, ask)?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        timeout(ask.within, async {
            self.ready().await?;
            let response = self.sender.send_request(request);
            let response = drive(&mut self.connection, async {
                response.await.map_err(|error| relay_fault(&error))
            })
            .await?;
            admit(response.status(), response.headers())?;
            let parts = self
                .connection
                .without_shutdown()
                .await
                .map_err(|error| relay_fault(&error))?;
            if !parts.read_buf.is_empty() {
                return Err(Fault::Relay(
                    "bytes before the session has begun".to_owned(),
                ));
            }
            Ok(parts.io.into_inner())
        })
        .await
        .map_err(|_| Fault::Timeout(ask.what))?
    }
}

/// Checks the head of the answer to a request for the relay.
fn admit(status: StatusCode, headers: &HeaderMap) -> Result<(), Fault> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::Relay(format!("status {}", status.as_u16())));
    }
    let protocol = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    if protocol != Some(PROTOCOL.as_bytes()) {
        return Err(Fault::Relay("status 101 to another protocol".to_owned()));
    }
    Ok(())
}

/// The request in HTTP.
fn request(target: &Target, ask: &Ask) -> Result<Request<Body>, Fault> {
    let illegal = |_| Fault::Api("a request that HTTP cannot express".to_owned());
    let mut token = HeaderValue::try_from(format!("Bearer {}", target.token()))
        .map_err(|_| Fault::Api("a token that HTTP cannot express".to_owned()))?;
    token.set_sensitive(true);
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(&ask.path)
        .header(HOST, target.name())
        .header(AUTHORIZATION, token)
        .header(USER_AGENT, concat!("enarx/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json");
    if !ask.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(ask.body.clone()));
    request.body(body).map_err(illegal)
}

/// Does `work` while the connection is served.
async fn drive<T>(
    connection: &mut http1::Connection<TokioIo<Stream>, Body>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let mut work = pin!(work);
    let mut served = false;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = work.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if served {
            return Poll::Pending;
        }
        match connection.poll_without_shutdown(cx) {
            Poll::Pending => Poll::Pending,
            // `work` may have been given the rest of the answer just now.
            Poll::Ready(result) => {
                served = true;
                match (work.as_mut().poll(cx), result) {
                    (Poll::Ready(done), _) => Poll::Ready(done),
                    (Poll::Pending, Err(error)) => Poll::Ready(Err(fault(&error))),
                    (Poll::Pending, Ok(())) => {
                        Poll::Ready(Err(Fault::Unanswered(ErrorKind::ConnectionAborted)))
                    }
                }
            }
        }
    })
    .await
}

/// The fault for a failed TCP connection. A connection that was reset had been accepted: its end came before the system
/// reported its beginning.
fn unreached(error: &std::io::Error) -> Fault {
    let kind = error.kind();
    Fault::unanswered(kind).unwrap_or(Fault::Unreachable(kind))
}

/// The fault that an error of the HTTP library is.
fn fault(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        return Fault::Api(printable(&error.to_string(), MESSAGE));
    }
    Fault::Unanswered(ErrorKind::ConnectionAborted)
}

/// The same, for the connection to the relay.
fn relay_fault(error: &hyper::Error) -> Fault {
    match fault(error) {
        Fault::Api(text) => Fault::Relay(text),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_connection_is_retried_and_a_refused_one_is_not() {
        for (kind, code) in [
            (ErrorKind::ConnectionReset, "manager.unanswered"),
            (ErrorKind::ConnectionAborted, "manager.unanswered"),
            (ErrorKind::ConnectionRefused, "manager.unreachable"),
            (ErrorKind::HostUnreachable, "manager.unreachable"),
        ] {
            assert_eq!(unreached(&kind.into()).code(), code, "{kind}");
        }
    }
}
