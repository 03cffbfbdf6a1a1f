// SPDX-License-Identifier: Apache-2.0

//! The tenant's end against any peer: one frame before the verdict.

#![no_main]

use enarx_session_fuzz::drivers::hostile_keep;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    hostile_keep(script);
});
