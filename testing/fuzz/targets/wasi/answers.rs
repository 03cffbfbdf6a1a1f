// SPDX-License-Identifier: Apache-2.0

//! A program of WASI whose host keeps the protocol of the sallyport and lies about everything else: files, times, addresses,
//! lengths, handles, readiness.

#![cfg_attr(fuzzing, no_main)]

use enarx_sallyport_host::program;

enarx_fuzz::target!(|script: &[u8]| {
    program::run(script);
});
