// SPDX-License-Identifier: Apache-2.0

//! The entry of the program.

#![expect(unsafe_code, reason = "the C library looks for its entry by name")]

use std::ffi::{c_char, c_int};

/// Where the C library enters.
// SAFETY: this is the function that the C library's start code looks for, with its signature; no
// other item of the program has this name.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // The standard library has recorded the arguments by itself.
    let mode = std::env::args().nth(1);
    c_int::from(crate::start(mode.as_deref()))
}
