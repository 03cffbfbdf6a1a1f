// SPDX-License-Identifier: Apache-2.0

//! The tenant's end against any peer: one frame before the verdict.

#![cfg_attr(fuzzing, no_main)]

use enarx_session_drivers::drivers::hostile_keep;

enarx_fuzz::target!(|script: &[u8]| {
    hostile_keep(script);
});
