// SPDX-License-Identifier: Apache-2.0

//! The embedded runtime is the one whose digest launches use.

use enarx_runtime_image::{RUNTIME, RUNTIME_SHA256};
use sha2::{Digest, Sha256};

#[test]
fn the_digest_is_that_of_the_runtime() {
    assert_eq!(<[u8; 32]>::from(Sha256::digest(RUNTIME)), RUNTIME_SHA256);
}

/// Every start of a measured Keep hashes the whole file.
#[test]
fn the_file_has_no_holes() {
    let program = enarx_launch::elf::parse(RUNTIME).unwrap();
    let contents: usize = program
        .segments
        .iter()
        .map(|segment| segment.file.len())
        .sum();
    assert!(RUNTIME.len() - contents < program.segments.len() * 4096);
}
