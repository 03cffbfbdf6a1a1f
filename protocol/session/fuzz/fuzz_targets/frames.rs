// SPDX-License-Identifier: Apache-2.0

//! The decoder on any bytes, cut anywhere.

#![no_main]

use enarx_session_fuzz::drivers::frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    frames(script);
});
