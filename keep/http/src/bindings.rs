// SPDX-License-Identifier: Apache-2.0

//! The WIT of `wit/`, as Rust. Interfaces of other packages are those of `enarx_wasi`.

/// The generated code.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
mod generated {
    wasmtime::component::bindgen!({
        path: ["../wasi/wit", "wit"],
        world: "wasi:http/proxy",
        imports: { default: trappable },
        exports: { default: async },
        require_store_data_send: true,
        trappable_error_type: {
            "wasi:http/types.error-code" => crate::error::Failure,
            "wasi:http/types.header-error" => crate::fields::FieldError,
        },
        with: {
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "wasi:cli": enarx_wasi::preview2::bindings::wasi::cli,
            "wasi:clocks": enarx_wasi::preview2::bindings::wasi::clocks,
            "wasi:random": enarx_wasi::preview2::bindings::wasi::random,
            "wasi:http/types.fields": crate::fields::Fields,
            "wasi:http/types.incoming-request": crate::messages::IncomingRequest,
            "wasi:http/types.outgoing-request": crate::messages::OutgoingRequest,
            "wasi:http/types.request-options": crate::messages::RequestOptions,
            "wasi:http/types.response-outparam": crate::messages::ResponseOutparam,
            "wasi:http/types.incoming-response": crate::messages::IncomingResponse,
            "wasi:http/types.incoming-body": crate::body::incoming::IncomingBody,
            "wasi:http/types.future-trailers": crate::body::incoming::FutureTrailers,
            "wasi:http/types.outgoing-response": crate::messages::OutgoingResponse,
            "wasi:http/types.outgoing-body": crate::body::outgoing::OutgoingBody,
            "wasi:http/types.future-incoming-response": crate::messages::FutureIncomingResponse,
        },
    });
}

pub use generated::wasi::http;
pub use generated::{LinkOptions, Proxy, ProxyPre};
