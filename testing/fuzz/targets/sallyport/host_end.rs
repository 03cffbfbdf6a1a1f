// SPDX-License-Identifier: Apache-2.0

//! The host's end against a hostile Keep.

#![cfg_attr(fuzzing, no_main)]

use enarx_sallyport_drivers::hostile_keep;

enarx_fuzz::target!(|script: &[u8]| {
    hostile_keep::run(script);
});
