// SPDX-License-Identifier: Apache-2.0

//! Reading a manifest is total, and writing it is lossless.
#![no_main]

use enarx_measurement::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let text = manifest.to_toml().expect("what was read can be written");
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    }
});
