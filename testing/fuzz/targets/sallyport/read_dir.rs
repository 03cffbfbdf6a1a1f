// SPDX-License-Identifier: Apache-2.0

//! Any directory listing: legal entries, then the end or one error.

#![cfg_attr(fuzzing, no_main)]

use enarx_sallyport_drivers::directory::parse_any;

enarx_fuzz::target!(|listing: &[u8]| {
    parse_any(listing);
});
