// SPDX-License-Identifier: Apache-2.0

//! The decoder on any bytes, cut anywhere.

#![cfg_attr(fuzzing, no_main)]

use enarx_session_drivers::drivers::frames;

enarx_fuzz::target!(|script: &[u8]| {
    frames(script);
});
