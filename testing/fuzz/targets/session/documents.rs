// SPDX-License-Identifier: Apache-2.0

//! Every document on any bytes: an error, or a value that encodes to the same bytes.

#![cfg_attr(fuzzing, no_main)]

use enarx_session_drivers::drivers::documents;

enarx_fuzz::target!(|script: &[u8]| {
    documents(script);
});
