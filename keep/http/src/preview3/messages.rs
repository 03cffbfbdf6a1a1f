// SPDX-License-Identifier: Apache-2.0

//! Requests and responses, which are the same whether a peer or the component has made them. `C` is the error code of the
//! bindings, which name these types.

use std::time::Duration;

use hyper::StatusCode;
use hyper::http::uri::Scheme;

use super::contents::Contents;
use crate::fields::Fields;
use crate::messages::{IncomingRequest, IncomingResponse, RequestOptions};
use crate::target::Target;

/// A request.
pub struct Request<C> {
    /// Method and target.
    pub target: Target,
    /// The headers.
    pub headers: Fields,
    /// The limits of time, if the component has set any.
    pub options: Option<RequestOptions>,
    /// The body and the trailers.
    pub contents: Contents<C>,
}

impl<C> From<IncomingRequest> for Request<C> {
    fn from(request: IncomingRequest) -> Self {
        Self {
            target: Target {
                method: request.method,
                scheme: Some(if request.is_secure {
                    Scheme::HTTPS
                } else {
                    Scheme::HTTP
                }),
                authority: request.authority,
                path: request.path,
                memory: None,
            },
            headers: request.headers,
            options: None,
            contents: Contents::Received(request.body),
        }
    }
}

/// A response.
pub struct Response<C> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Fields,
    /// The body and the trailers.
    pub contents: Contents<C>,
}

impl<C> From<IncomingResponse> for Response<C> {
    fn from(response: IncomingResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            contents: Contents::Received(response.body),
        }
    }
}

/// The limits of time are a request's already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed;

/// The limits of time of a request.
#[derive(Default)]
pub struct Options {
    /// The limits.
    pub limits: RequestOptions,
    /// They are a request's already.
    pub fixed: bool,
}

impl Options {
    /// Sets a limit, in nanoseconds.
    ///
    /// # Errors
    /// [`Fixed`].
    pub fn set(
        &mut self,
        limit: fn(&mut RequestOptions) -> &mut Option<Duration>,
        to: Option<u64>,
    ) -> Result<(), Fixed> {
        if self.fixed {
            return Err(Fixed);
        }
        *limit(&mut self.limits) = to.map(Duration::from_nanos);
        Ok(())
    }
}
