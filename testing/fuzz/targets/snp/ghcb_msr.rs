// SPDX-License-Identifier: Apache-2.0

//! The GHCB MSR protocol: decoding is total, encoding is its inverse.
#![cfg_attr(fuzzing, no_main)]

use enarx_snp::ghcb::msr::{Request, Response};

enarx_fuzz::target!(|value: u64| {
    if let Some(request) = Request::decode(value) {
        assert_eq!(Request::decode(request.encode()), Some(request));
    }
    if let Some(response) = Response::decode(value) {
        assert_eq!(Response::decode(response.encode()), Some(response));
    }
});
