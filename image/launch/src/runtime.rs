// SPDX-License-Identifier: Apache-2.0

//! The runtime as input of a launch: a file and its digest. Trusts the caller's digest; with a wrong one the
//! launch's loader refuses the file.

use sha2::{Digest, Sha256};

/// The runtime, an ELF executable for Linux x86-64.
#[derive(Clone, Copy, Debug)]
pub struct Runtime<'a> {
    bytes: &'a [u8],
    sha256: [u8; 32],
}

impl<'a> Runtime<'a> {
    /// The runtime with these bytes, which it hashes: about 9 ms for those of a release.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::with_digest(bytes, Sha256::digest(bytes).into())
    }

    /// The runtime with these bytes, whose SHA-256 its build has written down.
    #[must_use]
    pub const fn with_digest(bytes: &'a [u8], sha256: [u8; 32]) -> Self {
        Self { bytes, sha256 }
    }

    /// Its file.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// SHA-256 of its file.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}
