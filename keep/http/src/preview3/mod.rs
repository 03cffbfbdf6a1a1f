// SPDX-License-Identifier: Apache-2.0

//! `wasi:http` 0.3: the world `wasi:http/service`, and requests of commands and services to other servers.
//!
//! One more front end over the code of 0.2: fields, limits, connections and the way to other servers are the same; only bodies
//! come and go as streams of the component model, and trailers as futures. A component may use both versions. Trusted code; the
//! component is not trusted.

mod codes;
mod contents;
mod types;

use enarx_wasi::preview3::imports;
use futures_channel::oneshot;
use wasmtime::Store;
use wasmtime::component::{Access, Component, Linker, Resource};

use self::contents::Sent;
use self::http::types::ErrorCode;
use self::types::{Request, Response};
use crate::body::Message;
use crate::types::{Answer, Data, IncomingRequest, NoAnswer, OutgoingResponse, View};

/// The WIT of `wit-0.3/`, as Rust. Interfaces of other packages are those of `enarx_wasi`.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wasi/wit-0.3", "wit-0.3"],
        world: "enarx:http/service@0.3.0",
        imports: {
            "wasi:http/client.send": store | trappable,
            "wasi:http/types.[drop]request": store | trappable,
            "wasi:http/types.[drop]response": store | trappable,
            "wasi:http/types.[static]request.new": store | trappable,
            "wasi:http/types.[static]request.consume-body": store | trappable,
            "wasi:http/types.[static]response.new": store | trappable,
            "wasi:http/types.[static]response.consume-body": store | trappable,
            default: trappable,
        },
        exports: { default: async | store },
        trappable_error_type: {
            "wasi:http/types.error-code" => crate::types::Failure,
            "wasi:http/types.header-error" => crate::fields::FieldError,
        },
        with: {
            "wasi:clocks": enarx_wasi::preview3::bindings::wasi::clocks,
            "wasi:http/types.fields": crate::fields::Fields,
            "wasi:http/types.request": crate::preview3::types::Request,
            "wasi:http/types.request-options": crate::preview3::types::Options,
            "wasi:http/types.response": crate::preview3::types::Response,
        },
    });
}

use bindings::wasi::http;
pub use bindings::{Service, ServicePre};

/// Names of the interfaces that are offered, without their version.
pub const INTERFACES: &[&str] = &["wasi:http/types", "wasi:http/client"];

/// Links the interfaces of HTTP that a component imports, and no others.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker<T: View>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    for interface in imports(linker.engine(), component) {
        match &*interface {
            "wasi:http/types" => http::types::add_to_linker::<T, Data>(linker, T::http)?,
            "wasi:http/client" => http::client::add_to_linker::<T, Data>(linker, T::http)?,
            _ => {}
        }
    }
    Ok(())
}

/// Has a service answer a request, and go on until the body of its response is whole and it has nothing left to do.
///
/// # Errors
/// That of the component.
pub async fn handle<T: View>(
    service: &Service,
    store: &mut Store<T>,
    request: IncomingRequest,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let handled = store.run_concurrent(async |store| -> wasmtime::Result<()> {
        let request = Request::from(request);
        let request = store.with(|mut store| store.data_mut().http().table.push(request))?;
        let handler = service.wasi_http_handler();
        let response = handler.call_handle(store, request).await?;
        if let Some(body) = store.with(|store| give(store, response, answer))? {
            // Its end is told by going away.
            let _ = body.await;
        }
        std::future::poll_fn(|context| store.poll_no_interesting_tasks(context)).await;
        Ok(())
    });
    handled.await?
}

/// Gives a response as the answer; returns what ends with its body, if it has one.
fn give<T: View>(
    mut store: Access<'_, T>,
    response: Result<Resource<Response>, ErrorCode>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<Option<oneshot::Receiver<()>>> {
    // The peer may have gone, or the time may be over: then nobody is there any more.
    let Ok(response) = response else {
        let _ = answer.send(Err(NoAnswer::Error));
        return Ok(None);
    };
    let Response {
        status,
        headers,
        contents,
    } = store.data_mut().http().table.delete(response)?;
    let Sent { body, ended } = contents.send(store, T::http, Message::Response, &headers)?;
    let _ = answer.send(Ok(OutgoingResponse {
        status,
        headers,
        body,
    }));
    Ok(ended)
}
