// SPDX-License-Identifier: Apache-2.0

//! The host's end against a hostile Keep.

#![no_main]

use enarx_sallyport_drivers::hostile_keep;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    hostile_keep::run(script);
});
