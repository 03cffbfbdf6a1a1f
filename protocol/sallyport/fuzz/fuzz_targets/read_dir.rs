// SPDX-License-Identifier: Apache-2.0

//! Any directory listing: legal entries, then the end or one error.

#![no_main]

use enarx_sallyport_drivers::directory::parse_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|listing: &[u8]| {
    parse_any(listing);
});
