// SPDX-License-Identifier: Apache-2.0

//! Any request record: an error, or a call that encodes to the same record.

#![cfg_attr(fuzzing, no_main)]

use enarx_sallyport_drivers::request::decode_any;

enarx_fuzz::target!(|record: [u64; 8]| {
    decode_any(record);
});
