// SPDX-License-Identifier: Apache-2.0

//! The Keep's end against any two tenants.

#![no_main]

use enarx_session_fuzz::drivers::hostile_tenants;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    hostile_tenants(script);
});
