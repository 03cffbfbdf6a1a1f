// SPDX-License-Identifier: Apache-2.0

//! The Keep's end against any two tenants.

#![cfg_attr(fuzzing, no_main)]

use enarx_session_drivers::drivers::hostile_tenants;

enarx_fuzz::target!(|script: &[u8]| {
    hostile_tenants(script);
});
