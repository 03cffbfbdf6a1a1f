// SPDX-License-Identifier: Apache-2.0

//! Every document on any bytes: an error, or a value that encodes to the same bytes.

#![no_main]

use enarx_session_fuzz::drivers::documents;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    documents(script);
});
