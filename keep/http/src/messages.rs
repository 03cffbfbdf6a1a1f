// SPDX-License-Identifier: Apache-2.0

//! Requests and responses, as resources of a component and as the server and the client have them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use enarx_wasi::port::Port;
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

use crate::body::incoming::IncomingBody;
use crate::body::outgoing::SentBody;
use crate::error::ErrorCode;
use crate::fields::Fields;
use crate::target::Target;

/// Longest time between two pieces of the body of a request that is waited for.
const BETWEEN_BYTES: Duration = Duration::from_mins(1);

/// A request that came in.
pub struct IncomingRequest {
    /// The method.
    pub method: Method,
    /// It came over TLS.
    pub is_secure: bool,
    /// The path and query.
    pub path: Option<String>,
    /// The server that it is for.
    pub authority: Option<String>,
    /// The headers.
    pub headers: Fields,
    /// The body, until the component has it.
    pub body: Option<IncomingBody>,
}

impl IncomingRequest {
    /// The request of a peer; `is_secure` if it came over TLS.
    pub fn new(port: &Port, parts: Parts, body: Incoming, is_secure: bool) -> Self {
        let authority = match parts.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => parts.headers.get(HOST).and_then(|host| host.to_str().ok()),
        };
        Self {
            authority: authority.map(str::to_owned),
            path: parts.uri.path_and_query().map(|it| it.as_str().to_owned()),
            method: parts.method,
            is_secure,
            headers: Fields::received(&parts.headers),
            body: Some(IncomingBody::new(port, body, BETWEEN_BYTES)),
        }
    }
}

/// The answer to a request.
pub type Answer = Result<OutgoingResponse, NoAnswer>;

/// The error in place of a response.
pub enum NoAnswer {
    /// The component has an error instead.
    Error,
    /// There is no instance of the component for the request.
    NoInstance,
}

/// Where a component puts its answer.
pub struct ResponseOutparam {
    /// Takes the answer.
    pub sender: oneshot::Sender<Answer>,
    /// Says afterwards that there was one.
    pub is_set: Arc<AtomicBool>,
}

/// A response that a component makes.
pub struct OutgoingResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Fields,
    /// The body; `None` if the component never asked for it.
    pub body: Option<SentBody>,
}

/// A request that a component makes.
pub struct OutgoingRequest {
    /// Method and target.
    pub target: Target,
    /// The headers.
    pub headers: Fields,
    /// The body; `None` if the component never asked for it.
    pub body: Option<SentBody>,
}

/// The limits of time of a request that a component makes.
#[derive(Clone, Copy, Default)]
pub struct RequestOptions {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Between two pieces of its body.
    pub between_bytes: Option<Duration>,
}

/// A response that came in.
pub struct IncomingResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Fields,
    /// The body, until the component has it.
    pub body: Option<IncomingBody>,
}

/// A response, or the error there is instead.
pub type Outcome = Result<IncomingResponse, ErrorCode>;

/// A response that is waited for.
pub enum FutureIncomingResponse {
    /// It is waited for.
    Waiting(oneshot::Receiver<Outcome>),
    /// It is there.
    Ready(Outcome),
    /// The component has it.
    Taken,
}

impl FutureIncomingResponse {
    /// Takes the response, if it is there.
    pub fn settle(&mut self) {
        if let Self::Waiting(receiver) = self {
            match receiver.try_recv() {
                Ok(None) => {}
                Ok(Some(response)) => *self = Self::Ready(response),
                Err(oneshot::Canceled) => *self = Self::Ready(Err(ErrorCode::ConnectionTerminated)),
            }
        }
    }
}

#[async_trait]
impl Pollable for FutureIncomingResponse {
    async fn ready(&mut self) {
        if let Self::Waiting(receiver) = self {
            let response = receiver.await;
            *self = Self::Ready(response.unwrap_or(Err(ErrorCode::ConnectionTerminated)));
        }
    }
}
