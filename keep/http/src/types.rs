// SPDX-License-Identifier: Apache-2.0

//! `wasi:http/types`: requests and responses as resources of a component.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use enarx_wasi::View as WasiView;
use enarx_wasi::port::Port;
use enarx_wasi::preview2::{self, Preview2};
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use hyper::{Method as HttpMethod, StatusCode};
use wasmtime::Engine;
use wasmtime::component::{
    Component, HasData, Linker, Resource, ResourceTable, ResourceTableError,
};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::bindings::LinkOptions;
use crate::bindings::http::types::{self, ErrorCode, HeaderError, Method, Scheme};
use crate::bindings::http::{outgoing_handler, types as linked_types};
use crate::body::{FutureTrailers, IncomingBody, Message, OutgoingBody, SentBody};
use crate::client::{self, Way};
use crate::fields::{FIELDS_MAX, FieldError, Fields};
use crate::preview3;

/// Longest time between two pieces of the body of a request that is waited for.
const BETWEEN_BYTES: Duration = Duration::from_mins(1);

/// Why a function did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The component sees this code.
    Code(ErrorCode),
    /// The component ends.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// The share of HTTP that a component of a store is given.
pub struct Http<'a> {
    /// Its resources.
    pub table: &'a mut ResourceTable,
    /// The way to other servers, if there is one.
    pub way: Option<&'a Way>,
}

/// The state of a store whose component is given HTTP.
pub trait View: WasiView<Preview2> {
    /// The part of it that HTTP needs.
    fn http(&mut self) -> Http<'_>;
}

/// The data behind the interfaces.
pub struct Data;

impl HasData for Data {
    type Data<'a> = Http<'a>;
}

/// True if a component imports something of HTTP, of any version.
pub fn is_imported(engine: &Engine, component: &Component) -> bool {
    let component_type = component.component_type();
    let mut imports = component_type.imports(engine);
    imports.any(|(interface, _)| interface.starts_with("wasi:http/"))
}

/// Links the interfaces that a component imports, those of HTTP among them, and no others.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker<T: View>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    preview2::add_to_linker_async(linker, component)?;
    for interface in preview2::imports(linker.engine(), component) {
        match &*interface {
            "wasi:http/types" => {
                let options = LinkOptions::default();
                linked_types::add_to_linker::<T, Data>(linker, &(&options).into(), T::http)?;
            }
            "wasi:http/outgoing-handler" => {
                outgoing_handler::add_to_linker::<T, Data>(linker, T::http)?;
            }
            _ => {}
        }
    }
    preview3::add_to_linker(linker, component)
}

/// A request that came in.
pub struct IncomingRequest {
    /// The method.
    pub method: HttpMethod,
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

/// The error in the place of a response.
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

/// The method of a request that a component makes, and its target (RFC 9110, section 7.1).
#[derive(Default)]
pub struct Target {
    /// The method; GET if nothing is said.
    pub method: HttpMethod,
    /// The scheme.
    pub scheme: Option<UriScheme>,
    /// The server.
    pub authority: Option<String>,
    /// The path and query.
    pub path: Option<String>,
}

impl Target {
    /// Sets the path and query.
    ///
    /// # Errors
    /// For what is none.
    pub fn set_path(&mut self, path: Option<String>) -> Result<(), ()> {
        if path.as_deref().is_some_and(|path| !is_path(path)) {
            return Err(());
        }
        self.path = path;
        Ok(())
    }

    /// Sets the server.
    ///
    /// # Errors
    /// For what is none.
    pub fn set_authority(&mut self, authority: Option<String>) -> Result<(), ()> {
        if authority.as_deref().is_some_and(|name| !is_authority(name)) {
            return Err(());
        }
        self.authority = authority;
        Ok(())
    }
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

/// A response that is waited for.
pub enum FutureIncomingResponse {
    /// It is waited for.
    Waiting(oneshot::Receiver<client::Outcome>),
    /// It is there.
    Ready(client::Outcome),
    /// The component has it.
    Taken,
}

impl FutureIncomingResponse {
    fn settle(&mut self) {
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

/// The method as a front end has it, whose type this is.
macro_rules! method_of {
    ($method:expr, $Method:ident) => {
        match *$method {
            HttpMethod::GET => $Method::Get,
            HttpMethod::HEAD => $Method::Head,
            HttpMethod::POST => $Method::Post,
            HttpMethod::PUT => $Method::Put,
            HttpMethod::DELETE => $Method::Delete,
            HttpMethod::CONNECT => $Method::Connect,
            HttpMethod::OPTIONS => $Method::Options,
            HttpMethod::TRACE => $Method::Trace,
            HttpMethod::PATCH => $Method::Patch,
            _ => $Method::Other($method.as_str().to_owned()),
        }
    };
}

/// The method that a component names in the type of its front end; `None` if it is none.
macro_rules! http_method {
    ($method:expr, $Method:ident) => {
        match $method {
            $Method::Get => Some(HttpMethod::GET),
            $Method::Head => Some(HttpMethod::HEAD),
            $Method::Post => Some(HttpMethod::POST),
            $Method::Put => Some(HttpMethod::PUT),
            $Method::Delete => Some(HttpMethod::DELETE),
            $Method::Connect => Some(HttpMethod::CONNECT),
            $Method::Options => Some(HttpMethod::OPTIONS),
            $Method::Trace => Some(HttpMethod::TRACE),
            $Method::Patch => Some(HttpMethod::PATCH),
            $Method::Other(name) => HttpMethod::from_bytes(name.as_bytes()).ok(),
        }
    };
}

/// The scheme as a front end has it, whose type this is.
macro_rules! scheme_of {
    ($scheme:expr, $Scheme:ident) => {
        match $scheme {
            scheme if *scheme == UriScheme::HTTP => $Scheme::Http,
            scheme if *scheme == UriScheme::HTTPS => $Scheme::Https,
            scheme => $Scheme::Other(scheme.as_str().to_owned()),
        }
    };
}

/// The scheme that a component names in the type of its front end; `None` if it is none.
macro_rules! uri_scheme {
    ($scheme:expr, $Scheme:ident) => {
        match $scheme {
            $Scheme::Http => Some(UriScheme::HTTP),
            $Scheme::Https => Some(UriScheme::HTTPS),
            $Scheme::Other(name) => UriScheme::try_from(name.as_str()).ok(),
        }
    };
}

pub(crate) use {http_method, method_of, scheme_of, uri_scheme};

/// True for a path that may stand in a request: what is neither empty nor begins with `/` or `?` would name another
/// server (RFC 3986, section 3.3).
fn is_path(path: &str) -> bool {
    (path.is_empty() || path.starts_with(['/', '?'])) && PathAndQuery::try_from(path).is_ok()
}

/// True for the name of a server, with or without the number of a port.
fn is_authority(name: &str) -> bool {
    Authority::try_from(name).is_ok_and(|authority| {
        let (_, server) = name.rsplit_once('@').unwrap_or(("", name));
        server == authority.host() || authority.port_u16().is_some()
    })
}

/// A time limit in the unit of WASI, nanoseconds.
pub fn nanoseconds(limit: Option<Duration>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
}

impl types::Host for Http<'_> {
    fn convert_error_code(&mut self, failure: Failure) -> wasmtime::Result<ErrorCode> {
        match failure {
            Failure::Code(code) => Ok(code),
            Failure::Trap(error) => Err(error),
        }
    }

    fn convert_header_error(&mut self, error: FieldError) -> wasmtime::Result<HeaderError> {
        match error {
            FieldError::InvalidSyntax => Ok(HeaderError::InvalidSyntax),
            FieldError::Forbidden => Ok(HeaderError::Forbidden),
            FieldError::Immutable => Ok(HeaderError::Immutable),
            FieldError::TooLarge => Err(wasmtime::format_err!(
                "the component makes more than {FIELDS_MAX} bytes of headers"
            )),
            FieldError::Trap(error) => Err(error),
        }
    }

    fn http_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<ErrorCode>().cloned())
    }
}

impl types::HostFields for Http<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        Ok(self.table.push(Fields::new())?)
    }

    fn from_list(
        &mut self,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<Resource<Fields>, FieldError> {
        let mut fields = Fields::new();
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
        let copy = self.table.get(&fields)?.copy();
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
        let method = http_method!(&method, Method);
        Ok(method.map(|method| target.method = method).ok_or(()))
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
        Ok(self.table.get_mut(&request)?.target.set_path(path))
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
        Ok(self
            .table
            .get_mut(&request)?
            .target
            .set_authority(authority))
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
        Err(
            ErrorCode::InternalError(Some("informational responses are not offered".to_owned()))
                .into(),
        )
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
        // Nobody is there any more: the peer has gone, or the time is over.
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
            Some(Ok(Err(code))) => Some(Ok(Err(code))),
            Some(Ok(Ok(None))) => Some(Ok(Ok(None))),
            Some(Ok(Ok(Some(map)))) => Some(Ok(Ok(Some(self.table.push(Fields::received(&map))?)))),
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
        // Those below 200 are no answer (RFC 9110, section 15.2).
        match StatusCode::from_u16(status) {
            Ok(status) if !status.is_informational() => {
                response.status = status;
                Ok(Ok(()))
            }
            _ => Ok(Err(())),
        }
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
        let Some(stream) = self.table.get_mut(&body)?.stream() else {
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
            Some(trailers) => Some(self.table.delete(trailers)?.into_map()),
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
            FutureIncomingResponse::Ready(Err(code)) => Ok(Some(Ok(Err(code)))),
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
        let way = self.way.ok_or(ErrorCode::HttpRequestDenied)?;
        let response = client::send(way, request, &options)?;
        let future = FutureIncomingResponse::Waiting(response);
        Ok(self.table.push(future)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_have_a_port_that_is_a_number_or_none() {
        for name in [
            "example.org",
            "example.org:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "user@example.org",
            "user:word@example.org:8080",
        ] {
            assert!(is_authority(name), "{name}");
        }
        for name in [
            "",
            "example.org:",
            "example.org:http",
            "example.org:99999",
            "[::1]:",
            "a b",
            "a/b",
        ] {
            assert!(!is_authority(name), "{name}");
        }
    }
}
