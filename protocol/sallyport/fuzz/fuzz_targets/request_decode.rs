// SPDX-License-Identifier: Apache-2.0

//! Any request record: an error, or a call that encodes to the same record.

#![no_main]

use enarx_sallyport_drivers::request::decode_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: [u64; 8]| {
    decode_any(record);
});
