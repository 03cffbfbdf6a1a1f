// SPDX-License-Identifier: Apache-2.0

//! Reading a manifest is total, and writing it is lossless.
#![cfg_attr(fuzzing, no_main)]

use enarx_measurement::Manifest;

enarx_fuzz::target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let text = manifest.to_toml().expect("what was read can be written");
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    }
});
