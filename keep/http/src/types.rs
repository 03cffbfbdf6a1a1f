// SPDX-License-Identifier: Apache-2.0

//! `wasi:http/types` and `wasi:http/outgoing-handler` of 0.2: the functions of requests and responses.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::http::uri::Scheme as UriScheme;
use hyper::{Method as HttpMethod, StatusCode};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::bindings::http::outgoing_handler;
use crate::bindings::http::types::{self, ErrorCode, HeaderError, Method, Scheme};
use crate::body::incoming::{FutureTrailers, IncomingBody};
use crate::body::outgoing::{Message, OutgoingBody};
use crate::client;
use crate::error::{self, Failure, translate};
use crate::fields::{FIELDS_MAX, FieldError, Fields};
use crate::messages::{
    FutureIncomingResponse, IncomingRequest, IncomingResponse, NoAnswer, OutgoingRequest,
    OutgoingResponse, RequestOptions, ResponseOutparam,
};
use crate::target::{Target, http_method, method_of, scheme_of, uri_scheme};
use crate::view::Http;

translate!(error => types);

/// A time limit in the unit of WASI, nanoseconds.
pub fn nanoseconds(limit: Option<Duration>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
}

impl types::Host for Http<'_> {
    fn convert_error_code(&mut self, failure: Failure) -> wasmtime::Result<ErrorCode> {
        failure.code()
    }

    fn convert_header_error(&mut self, error: FieldError) -> wasmtime::Result<HeaderError> {
        match error {
            FieldError::InvalidSyntax => Ok(HeaderError::InvalidSyntax),
            FieldError::Forbidden => Ok(HeaderError::Forbidden),
            FieldError::Immutable => Ok(HeaderError::Immutable),
            FieldError::TooLarge => Err(wasmtime::format_err!(
                "the component makes more than {FIELDS_MAX} bytes of headers"
            )),
            FieldError::Full(full) => Err(full.into()),
            FieldError::Trap(error) => Err(error),
        }
    }

    fn http_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        let code = error.downcast_ref::<error::ErrorCode>().cloned();
        Ok(code.map(Into::into))
    }
}

impl types::HostFields for Http<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        Ok(self.table.push(Fields::new(self.held))?)
    }

    fn from_list(
        &mut self,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<Resource<Fields>, FieldError> {
        let mut fields = Fields::new(self.held);
        for (name, value) in &entries {
            fields.append(name, value)?;
        }
        Ok(self.table.push(fields)?)
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        Ok(self.table.get(&fields)?.get(&name))
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<bool> {
        Ok(self.table.get(&fields)?.has(&name))
    }

    fn set(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> Result<(), FieldError> {
        self.table.get_mut(&fields)?.set(&name, &values)
    }

    fn delete(&mut self, fields: Resource<Fields>, name: String) -> Result<(), FieldError> {
        self.table.get_mut(&fields)?.delete(&name)
    }

    fn append(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        value: Vec<u8>,
    ) -> Result<(), FieldError> {
        self.table.get_mut(&fields)?.append(&name, &value)
    }

    fn entries(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        Ok(self.table.get(&fields)?.entries())
    }

    fn clone(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<Fields>> {
        let copy = self.table.get(&fields)?.copy(self.held);
        Ok(self.table.push(copy)?)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> wasmtime::Result<()> {
        self.table.delete(fields)?;
        Ok(())
    }
}

impl types::HostIncomingRequest for Http<'_> {
    fn method(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<Method> {
        Ok(method_of!(&self.table.get(&request)?.method, Method))
    }

    fn path_with_query(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.path.clone())
    }

    fn scheme(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<Option<Scheme>> {
        let request = self.table.get(&request)?;
        Ok(Some(if request.is_secure {
            Scheme::Https
        } else {
            Scheme::Http
        }))
    }

    fn authority(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.authority.clone())
    }

    fn headers(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&request)?.headers.clone();
        Ok(self.table.push(headers)?)
    }

    fn consume(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get_mut(&request)?.body.take() {
            Some(body) => Ok(Ok(self.table.push(body)?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl types::HostOutgoingRequest for Http<'_> {
    fn new(&mut self, headers: Resource<Fields>) -> wasmtime::Result<Resource<OutgoingRequest>> {
        let headers = self.table.delete(headers)?.fixed();
        Ok(self.table.push(OutgoingRequest {
            target: Target::default(),
            headers,
            body: None,
        })?)
    }

    fn body(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        let request = self.table.get_mut(&request)?;
        if request.body.is_some() {
            return Ok(Err(()));
        }
        let length = request.headers.content_length();
        let (body, sent) = OutgoingBody::new(Message::Request, length);
        request.body = Some(sent);
        Ok(Ok(self.table.push(body)?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Method> {
        Ok(method_of!(&self.table.get(&request)?.target.method, Method))
    }

    fn set_method(
        &mut self,
        request: Resource<OutgoingRequest>,
        method: Method,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let Some(method) = http_method!(&method, Method) else {
            return Ok(Err(()));
        };
        target.method = method;
        target.charge(self.held)?;
        Ok(Ok(()))
    }

    fn path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.target.path.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let set = target.set_path(path);
        target.charge(self.held)?;
        Ok(set)
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Option<Scheme>> {
        let scheme = self.table.get(&request)?.target.scheme.as_ref();
        Ok(scheme.map(|scheme| scheme_of!(scheme, Scheme)))
    }

    fn set_scheme(
        &mut self,
        request: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let scheme = scheme.map(|scheme| uri_scheme!(&scheme, Scheme).ok_or(()));
        Ok(scheme.transpose().map(|scheme| target.scheme = scheme))
    }

    fn authority(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.target.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let set = target.set_authority(authority);
        target.charge(self.held)?;
        Ok(set)
    }

    fn headers(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&request)?.headers.clone();
        Ok(self.table.push(headers)?)
    }

    fn drop(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl types::HostRequestOptions for Http<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        Ok(self.table.push(RequestOptions::default())?)
    }

    fn connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.connect))
    }

    fn set_connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        limit: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.connect = limit.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.first_byte))
    }

    fn set_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        limit: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.first_byte = limit.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.between_bytes))
    }

    fn set_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        limit: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.table.get_mut(&options)?.between_bytes = limit.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl types::HostResponseOutparam for Http<'_> {
    fn send_informational(
        &mut self,
        _outparam: Resource<ResponseOutparam>,
        _status: u16,
        _headers: Resource<Fields>,
    ) -> Result<(), Failure> {
        // The interface marks it as unstable, so it is not linked.
        Err(error::ErrorCode::InternalError(Some(
            "informational responses are not offered".to_owned(),
        ))
        .into())
    }

    fn set(
        &mut self,
        outparam: Resource<ResponseOutparam>,
        response: Result<Resource<OutgoingResponse>, ErrorCode>,
    ) -> wasmtime::Result<()> {
        let answer = match response {
            Ok(response) => Ok(self.table.delete(response)?),
            Err(_) => Err(NoAnswer::Error),
        };
        let ResponseOutparam { sender, is_set } = self.table.delete(outparam)?;
        is_set.store(true, Ordering::Relaxed);
        // Nobody waits any more: the peer has gone, or the time is over.
        let _ = sender.send(answer);
        Ok(())
    }

    fn drop(&mut self, outparam: Resource<ResponseOutparam>) -> wasmtime::Result<()> {
        self.table.delete(outparam)?;
        Ok(())
    }
}

impl types::HostIncomingResponse for Http<'_> {
    fn status(&mut self, response: Resource<IncomingResponse>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status.as_u16())
    }

    fn headers(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&response)?.headers.clone();
        Ok(self.table.push(headers)?)
    }

    fn consume(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get_mut(&response)?.body.take() {
            Some(body) => Ok(Ok(self.table.push(body)?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, response: Resource<IncomingResponse>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl types::HostIncomingBody for Http<'_> {
    fn stream(
        &mut self,
        body: Resource<IncomingBody>,
    ) -> wasmtime::Result<Result<Resource<DynInputStream>, ()>> {
        let Some(stream) = self.table.get_mut(&body)?.stream() else {
            return Ok(Err(()));
        };
        let stream: DynInputStream = Box::new(stream);
        Ok(Ok(self.table.push_child(stream, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<IncomingBody>,
    ) -> wasmtime::Result<Resource<FutureTrailers>> {
        let trailers = self.table.delete(body)?.trailers();
        Ok(self.table.push(trailers)?)
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}

/// The result of `future-trailers.get`.
type Trailers = Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>;

impl types::HostFutureTrailers for Http<'_> {
    fn subscribe(
        &mut self,
        trailers: Resource<FutureTrailers>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, trailers)
    }

    fn get(&mut self, trailers: Resource<FutureTrailers>) -> wasmtime::Result<Option<Trailers>> {
        Ok(match self.table.get_mut(&trailers)?.get() {
            None => None,
            Some(Err(())) => Some(Err(())),
            Some(Ok(Err(code))) => Some(Ok(Err(code.into()))),
            Some(Ok(Ok(None))) => Some(Ok(Ok(None))),
            Some(Ok(Ok(Some(map)))) => {
                let fields = Fields::kept(&map, self.held)?;
                Some(Ok(Ok(Some(self.table.push(fields)?))))
            }
        })
    }

    fn drop(&mut self, trailers: Resource<FutureTrailers>) -> wasmtime::Result<()> {
        self.table.delete(trailers)?;
        Ok(())
    }
}

impl types::HostOutgoingResponse for Http<'_> {
    fn new(&mut self, headers: Resource<Fields>) -> wasmtime::Result<Resource<OutgoingResponse>> {
        let headers = self.table.delete(headers)?.fixed();
        Ok(self.table.push(OutgoingResponse {
            status: StatusCode::OK,
            headers,
            body: None,
        })?)
    }

    fn status_code(&mut self, response: Resource<OutgoingResponse>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status.as_u16())
    }

    fn set_status_code(
        &mut self,
        response: Resource<OutgoingResponse>,
        status: u16,
    ) -> wasmtime::Result<Result<(), ()>> {
        let response = self.table.get_mut(&response)?;
        let set = StatusCode::from_u16(status).map(|status| response.status = status);
        Ok(set.map_err(|_| ()))
    }

    fn headers(
        &mut self,
        response: Resource<OutgoingResponse>,
    ) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&response)?.headers.clone();
        Ok(self.table.push(headers)?)
    }

    fn body(
        &mut self,
        response: Resource<OutgoingResponse>,
    ) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        let response = self.table.get_mut(&response)?;
        if response.body.is_some() {
            return Ok(Err(()));
        }
        let length = response.headers.content_length();
        let (body, sent) = OutgoingBody::new(Message::Response, length);
        response.body = Some(sent);
        Ok(Ok(self.table.push(body)?))
    }

    fn drop(&mut self, response: Resource<OutgoingResponse>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl types::HostOutgoingBody for Http<'_> {
    fn write(
        &mut self,
        body: Resource<OutgoingBody>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let Some(stream) = self.table.get_mut(&body)?.stream(self.held)? else {
            return Ok(Err(()));
        };
        let stream: DynOutputStream = Box::new(stream);
        Ok(Ok(self.table.push_child(stream, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<OutgoingBody>,
        trailers: Option<Resource<Fields>>,
    ) -> Result<(), Failure> {
        let body = self.table.delete(body)?;
        let trailers = match trailers {
            Some(trailers) => Some(self.table.delete(trailers)?.owned(self.held)?),
            None => None,
        };
        Ok(body.finish(trailers)?)
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
        self.table.delete(body)?;
        Ok(())
    }
}

/// The result of `future-incoming-response.get`.
type Response = Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>;

impl types::HostFutureIncomingResponse for Http<'_> {
    fn subscribe(
        &mut self,
        response: Resource<FutureIncomingResponse>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, response)
    }

    fn get(
        &mut self,
        response: Resource<FutureIncomingResponse>,
    ) -> wasmtime::Result<Option<Response>> {
        let future = self.table.get_mut(&response)?;
        future.settle();
        if matches!(future, FutureIncomingResponse::Waiting(_)) {
            return Ok(None);
        }
        match std::mem::replace(future, FutureIncomingResponse::Taken) {
            FutureIncomingResponse::Ready(Ok(response)) => {
                Ok(Some(Ok(Ok(self.table.push(response)?))))
            }
            FutureIncomingResponse::Ready(Err(code)) => Ok(Some(Ok(Err(code.into())))),
            FutureIncomingResponse::Waiting(_) | FutureIncomingResponse::Taken => Ok(Some(Err(()))),
        }
    }

    fn drop(&mut self, response: Resource<FutureIncomingResponse>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl outgoing_handler::Host for Http<'_> {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> Result<Resource<FutureIncomingResponse>, Failure> {
        let request = self.table.delete(request)?;
        let options = match options {
            Some(options) => self.table.delete(options)?,
            None => RequestOptions::default(),
        };
        let way = self.way.ok_or(error::ErrorCode::HttpRequestDenied)?;
        let response = client::send(way, self.held, request, &options)?;
        let future = FutureIncomingResponse::Waiting(response);
        Ok(self.table.push(future)?)
    }
}
