// SPDX-License-Identifier: Apache-2.0

//! No bytes are a signature under a key that made none, and keys are read totally.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use enarx_attestation::Timestamp;
use enarx_measurement::{PrivateKey, PublicKey, SEED_LEN, verify};

static KEY: LazyLock<[PublicKey; 1]> = LazyLock::new(|| {
    let key = PrivateKey::from_seed(&[1; SEED_LEN]).and_then(|key| key.public());
    [key.expect("a scalar of P-384")]
});

enarx_fuzz::target!(|bytes: &[u8]| {
    assert!(verify(b"format = 1", bytes, &*KEY, None, Timestamp(0)).is_err());
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = PublicKey::from_pem(text);
        let _ = PrivateKey::from_pem(text);
    }
});
