// SPDX-License-Identifier: Apache-2.0

//! The runtime that is carried is the one whose digest launches are told.

use enarx_runtime_image::{RUNTIME, RUNTIME_SHA256};
use sha2::{Digest, Sha256};

#[test]
fn the_digest_is_that_of_the_runtime() {
    assert_eq!(<[u8; 32]>::from(Sha256::digest(RUNTIME)), RUNTIME_SHA256);
}
