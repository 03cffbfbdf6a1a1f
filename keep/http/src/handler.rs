// SPDX-License-Identifier: Apache-2.0

//! A component that answers requests, of whichever world it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_channel::oneshot;
use wasmtime::Store;

use crate::bindings::{Proxy, ProxyPre};
use crate::messages::{Answer, IncomingRequest, ResponseOutparam};
use crate::preview3::{self, Service, ServicePre};
use crate::view::View;

/// A component that answers requests, linked once for all its instances.
pub enum Handler<T: 'static> {
    /// One of the world `wasi:http/proxy` 0.2.
    Proxy(ProxyPre<T>),
    /// One of the world `wasi:http/service` 0.3.
    Service(ServicePre<T>),
}

/// An instance of it.
pub enum Instance {
    /// Of the world `wasi:http/proxy` 0.2.
    Proxy(Proxy),
    /// Of the world `wasi:http/service` 0.3.
    Service(Service),
}

impl<T: View> Handler<T> {
    /// An instance in a store.
    ///
    /// # Errors
    /// When there is no room for it, or it traps at its start.
    pub async fn instantiate(&self, store: &mut Store<T>) -> wasmtime::Result<Instance> {
        Ok(match self {
            Self::Proxy(proxy) => Instance::Proxy(proxy.instantiate_async(store).await?),
            Self::Service(service) => Instance::Service(service.instantiate_async(store).await?),
        })
    }
}

impl Instance {
    /// Has it answer a request.
    ///
    /// # Errors
    /// When it fails, or gives no answer.
    pub async fn handle<T: View>(
        &self,
        store: &mut Store<T>,
        request: IncomingRequest,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        let proxy = match self {
            Self::Proxy(proxy) => proxy,
            Self::Service(service) => {
                return preview3::handle(service, store, request, answer).await;
            }
        };
        let table = store.data_mut().http().table;
        let request = table.push(request)?;
        let is_set = Arc::new(AtomicBool::new(false));
        let outparam = table.push(ResponseOutparam {
            sender: answer,
            is_set: Arc::clone(&is_set),
        })?;
        let handler = proxy.wasi_http_incoming_handler();
        handler.call_handle(store, request, outparam).await?;
        if !is_set.load(Ordering::Relaxed) {
            wasmtime::bail!("the component gave no answer");
        }
        Ok(())
    }
}
