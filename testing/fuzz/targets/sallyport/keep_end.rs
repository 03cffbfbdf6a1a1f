// SPDX-License-Identifier: Apache-2.0

//! The keep's end against a hostile host.

#![cfg_attr(fuzzing, no_main)]

use enarx_sallyport_drivers::hostile_host;

enarx_fuzz::target!(|script: &[u8]| {
    hostile_host::run(script);
});
