// SPDX-License-Identifier: Apache-2.0

//! The keep's end against a hostile host.

#![no_main]

use enarx_sallyport_drivers::hostile_host;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    hostile_host::run(script);
});
