// SPDX-License-Identifier: Apache-2.0

//! `wasi:http` 0.3: the world `wasi:http/service`, and requests of commands and services to other servers.
//!
//! One more front end over the code of 0.2: fields, limits, connections and the way to other servers are the same; only bodies
//! come and go as streams of the component model, and trailers as futures. A component may use both versions. Trusted code; the
//! component is not trusted.

mod bindings;
mod codes;
mod contents;
mod messages;
mod types;

use enarx_wasi::preview3::imports;
use futures_channel::oneshot;
use wasmtime::Store;
use wasmtime::component::{Access, Component, Linker, Resource};

use self::bindings::http::types::ErrorCode;
use self::bindings::{Request, Response, http};
use self::contents::{Sent, tell};
use crate::body::outgoing::Message;
use crate::error;
use crate::messages::{Answer, IncomingRequest, NoAnswer, OutgoingResponse};
use crate::view::{Data, View};

pub use self::bindings::{Service, ServicePre};

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
    // The peer may have gone, or the time may be over: then nobody receives it.
    let Ok(response) = response else {
        let _ = answer.send(Err(NoAnswer::Error));
        return Ok(None);
    };
    let Response {
        status,
        headers,
        contents,
    } = store.data_mut().http().table.delete(response)?;
    let Sent {
        body,
        ended,
        completion,
    } = contents.send(store, T::http, Message::Response, &headers)?;
    let answered = answer.send(Ok(OutgoingResponse {
        status,
        headers,
        body,
    }));
    tell(
        completion,
        answered.map_err(|_| error::ErrorCode::ConnectionTerminated),
    );
    Ok(ended)
}
