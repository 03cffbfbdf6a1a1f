// SPDX-License-Identifier: Apache-2.0

//! `wasi:http/types` and `wasi:http/client`: the functions of requests and responses.

use hyper::http::uri::Scheme as UriScheme;
use hyper::{Method as HttpMethod, StatusCode};
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::bindings::http::client;
use super::bindings::http::types::{
    self, ErrorCode, HeaderError, Method, RequestOptionsError, Scheme,
};
use super::bindings::{Request, Response, Trailers};
use super::contents::{Contents, tell};
use super::messages::{Fixed, Options};
use crate::bindings::http::types as of_0_2;
use crate::body::outgoing::Message;
use crate::client::send;
use crate::error::{self, Failure};
use crate::fields::{FieldError, Fields};
use crate::messages::OutgoingRequest;
use crate::target::{Target, http_method, method_of, scheme_of, uri_scheme};
use crate::types::nanoseconds;
use crate::view::{Data, Http};

/// The result of setting an option.
type Set = wasmtime::Result<Result<(), RequestOptionsError>>;

impl From<Fixed> for RequestOptionsError {
    fn from(_: Fixed) -> Self {
        Self::Immutable
    }
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
            FieldError::TooLarge | FieldError::Full(_) => Ok(HeaderError::SizeExceeded),
            FieldError::Trap(error) => Err(error),
        }
    }
}

impl types::HostFields for Http<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        of_0_2::HostFields::new(self)
    }

    fn from_list(
        &mut self,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<Resource<Fields>, FieldError> {
        of_0_2::HostFields::from_list(self, entries)
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        of_0_2::HostFields::get(self, fields, name)
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<bool> {
        of_0_2::HostFields::has(self, fields, name)
    }

    fn set(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> Result<(), FieldError> {
        of_0_2::HostFields::set(self, fields, name, values)
    }

    fn delete(&mut self, fields: Resource<Fields>, name: String) -> Result<(), FieldError> {
        of_0_2::HostFields::delete(self, fields, name)
    }

    fn get_and_delete(
        &mut self,
        fields: Resource<Fields>,
        name: String,
    ) -> Result<Vec<Vec<u8>>, FieldError> {
        self.table.get_mut(&fields)?.take(&name)
    }

    fn append(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        value: Vec<u8>,
    ) -> Result<(), FieldError> {
        of_0_2::HostFields::append(self, fields, name, value)
    }

    fn copy_all(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        of_0_2::HostFields::entries(self, fields)
    }

    fn clone(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<Fields>> {
        of_0_2::HostFields::clone(self, fields)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> wasmtime::Result<()> {
        of_0_2::HostFields::drop(self, fields)
    }
}

impl<U: 'static> types::HostRequestWithStore<U> for Data {
    fn new(
        mut store: Access<'_, U, Self>,
        headers: Resource<Fields>,
        stream: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers>,
        options: Option<Resource<Options>>,
    ) -> wasmtime::Result<(Resource<Request>, FutureReader<Result<(), ErrorCode>>)> {
        let (contents, learnt) = Contents::made(&mut store, stream, trailers)?;
        let table = store.get().table;
        let options = match options {
            Some(options) => Some(table.delete(options)?.limits),
            None => None,
        };
        let request = Request {
            target: Target::default(),
            headers: table.delete(headers)?.fixed(),
            options,
            contents,
        };
        Ok((table.push(request)?, learnt))
    }

    fn consume_body(
        mut store: Access<'_, U, Self>,
        request: Resource<Request>,
        handled: FutureReader<Result<(), ErrorCode>>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
        let getter = store.getter();
        let request = store.get().table.delete(request)?;
        request.contents.consume(store, getter, handled)
    }

    fn drop(mut store: Access<'_, U, Self>, request: Resource<Request>) -> wasmtime::Result<()> {
        let request = store.get().table.delete(request)?;
        request.contents.close(store)
    }
}

impl types::HostRequest for Http<'_> {
    fn get_method(&mut self, request: Resource<Request>) -> wasmtime::Result<Method> {
        Ok(method_of!(&self.table.get(&request)?.target.method, Method))
    }

    fn set_method(
        &mut self,
        request: Resource<Request>,
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

    fn get_path_with_query(
        &mut self,
        request: Resource<Request>,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.target.path.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<Request>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let set = target.set_path(path);
        target.charge(self.held)?;
        Ok(set)
    }

    fn get_scheme(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<Scheme>> {
        let scheme = self.table.get(&request)?.target.scheme.as_ref();
        Ok(scheme.map(|scheme| scheme_of!(scheme, Scheme)))
    }

    fn set_scheme(
        &mut self,
        request: Resource<Request>,
        scheme: Option<Scheme>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let scheme = scheme.map(|scheme| uri_scheme!(&scheme, Scheme).ok_or(()));
        Ok(scheme.transpose().map(|scheme| target.scheme = scheme))
    }

    fn get_authority(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.target.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<Request>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let target = &mut self.table.get_mut(&request)?.target;
        let set = target.set_authority(authority);
        target.charge(self.held)?;
        Ok(set)
    }

    fn get_options(
        &mut self,
        request: Resource<Request>,
    ) -> wasmtime::Result<Option<Resource<Options>>> {
        let Some(limits) = self.table.get(&request)?.options else {
            return Ok(None);
        };
        let fixed = true;
        Ok(Some(self.table.push(Options { limits, fixed })?))
    }

    fn get_headers(&mut self, request: Resource<Request>) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&request)?.headers.clone();
        Ok(self.table.push(headers)?)
    }
}

impl types::HostRequestOptions for Http<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<Options>> {
        Ok(self.table.push(Options::default())?)
    }

    fn get_connect_timeout(&mut self, options: Resource<Options>) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.limits.connect))
    }

    fn set_connect_timeout(&mut self, options: Resource<Options>, limit: Option<u64>) -> Set {
        let options = self.table.get_mut(&options)?;
        let set = options.set(|limits| &mut limits.connect, limit);
        Ok(set.map_err(Into::into))
    }

    fn get_first_byte_timeout(
        &mut self,
        options: Resource<Options>,
    ) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.limits.first_byte))
    }

    fn set_first_byte_timeout(&mut self, options: Resource<Options>, limit: Option<u64>) -> Set {
        let options = self.table.get_mut(&options)?;
        let set = options.set(|limits| &mut limits.first_byte, limit);
        Ok(set.map_err(Into::into))
    }

    fn get_between_bytes_timeout(
        &mut self,
        options: Resource<Options>,
    ) -> wasmtime::Result<Option<u64>> {
        Ok(nanoseconds(self.table.get(&options)?.limits.between_bytes))
    }

    fn set_between_bytes_timeout(&mut self, options: Resource<Options>, limit: Option<u64>) -> Set {
        let options = self.table.get_mut(&options)?;
        let set = options.set(|limits| &mut limits.between_bytes, limit);
        Ok(set.map_err(Into::into))
    }

    fn clone(&mut self, options: Resource<Options>) -> wasmtime::Result<Resource<Options>> {
        let limits = self.table.get(&options)?.limits;
        let fixed = false;
        Ok(self.table.push(Options { limits, fixed })?)
    }

    fn drop(&mut self, options: Resource<Options>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl<U: 'static> types::HostResponseWithStore<U> for Data {
    fn new(
        mut store: Access<'_, U, Self>,
        headers: Resource<Fields>,
        stream: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers>,
    ) -> wasmtime::Result<(Resource<Response>, FutureReader<Result<(), ErrorCode>>)> {
        let (contents, learnt) = Contents::made(&mut store, stream, trailers)?;
        let table = store.get().table;
        let response = Response {
            status: StatusCode::OK,
            headers: table.delete(headers)?.fixed(),
            contents,
        };
        Ok((table.push(response)?, learnt))
    }

    fn consume_body(
        mut store: Access<'_, U, Self>,
        response: Resource<Response>,
        handled: FutureReader<Result<(), ErrorCode>>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
        let getter = store.getter();
        let response = store.get().table.delete(response)?;
        response.contents.consume(store, getter, handled)
    }

    fn drop(mut store: Access<'_, U, Self>, response: Resource<Response>) -> wasmtime::Result<()> {
        let response = store.get().table.delete(response)?;
        response.contents.close(store)
    }
}

impl types::HostResponse for Http<'_> {
    fn get_status_code(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status.as_u16())
    }

    fn set_status_code(
        &mut self,
        response: Resource<Response>,
        status: u16,
    ) -> wasmtime::Result<Result<(), ()>> {
        let response = self.table.get_mut(&response)?;
        // There are no classes beyond the fifth (RFC 9110, section 15).
        match StatusCode::from_u16(status) {
            Ok(code) if status < 600 => {
                response.status = code;
                Ok(Ok(()))
            }
            _ => Ok(Err(())),
        }
    }

    fn get_headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Resource<Fields>> {
        let headers = self.table.get(&response)?.headers.clone();
        Ok(self.table.push(headers)?)
    }
}

impl client::Host for Http<'_> {}

impl<U: 'static> client::HostWithStore<U> for Data {
    async fn send(
        store: &Accessor<U, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, Failure> {
        let getter = store.getter();
        let mut completion = None;
        let asked = store.with(|mut store| {
            let request = store.get().table.delete(request)?;
            let sent = request
                .contents
                .send(&mut store, getter, Message::Request, &request.headers)
                .map_err(Failure::Trap)?;
            completion = sent.completion;
            let Http { way, held, .. } = store.get();
            let way = way.ok_or(error::ErrorCode::HttpRequestDenied)?;
            let message = OutgoingRequest {
                target: request.target,
                headers: request.headers,
                body: sent.body,
            };
            let options = request.options.unwrap_or_default();
            Ok::<_, Failure>(send(way, held, message, &options)?)
        });
        let response = match asked {
            Ok(response) => response
                .await
                .unwrap_or(Err(error::ErrorCode::ConnectionTerminated)),
            Err(Failure::Code(code)) => Err(code),
            Err(trap) => return Err(trap),
        };
        tell(
            completion,
            response.as_ref().map(|_| ()).map_err(Clone::clone),
        );
        let response = response?;
        let response = Response::from(response);
        Ok(store.with(|mut store| store.get().table.push(response))?)
    }
}
