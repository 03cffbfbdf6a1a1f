// SPDX-License-Identifier: Apache-2.0

//! The WIT of `wit-0.3/`, as Rust. Interfaces of other packages are those of `enarx_wasi`.

use self::generated::wasi::http::types::ErrorCode;
use super::{contents, messages};

/// The generated code.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
mod generated {
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
            "wasi:http/types.error-code" => crate::error::Failure,
            "wasi:http/types.header-error" => crate::fields::FieldError,
        },
        with: {
            "wasi:clocks": enarx_wasi::preview3::bindings::wasi::clocks,
            "wasi:http/types.fields": crate::fields::Fields,
            "wasi:http/types.request": crate::preview3::bindings::Request,
            "wasi:http/types.request-options": crate::preview3::messages::Options,
            "wasi:http/types.response": crate::preview3::bindings::Response,
        },
    });
}

pub use generated::wasi::http;
pub use generated::{Service, ServicePre};

/// A request of a component.
pub type Request = messages::Request<ErrorCode>;

/// A response of a component.
pub type Response = messages::Response<ErrorCode>;

/// Trailers of a component, or the error that a body ended with.
pub type Trailers = contents::Trailers<ErrorCode>;
