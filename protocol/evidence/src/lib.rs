// SPDX-License-Identifier: Apache-2.0

//! The evidence of a Keep: the REPORT_DATA that the Keep asks its secure processor to sign, and that
//! the verifier recomputes. Pure; used on both sides of the border.
#![no_std]
#![forbid(unsafe_code)]
// Hosts and peers decide over the input of this code: it refuses, and does not panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use sha2::{Digest, Sha512};

/// Size of REPORT_DATA, in bytes (SEV-SNP firmware ABI specification, AMD publication 56860, table
/// "ATTESTATION_REPORT Structure").
pub const REPORT_DATA_SIZE: usize = 64;

/// The first bytes that are hashed, so that no other use of SHA-512 yields the same value.
const DOMAIN: &[u8] = b"enarx: evidence of a Keep, version 1\0";

/// The REPORT_DATA of a Keep's report. It covers the verifier's `nonce`, the bytes of the
/// `application` and the encoded `configuration` that the Keep was given.
#[must_use]
pub fn report_data(
    nonce: &[u8],
    application: &[u8],
    configuration: &[u8],
) -> [u8; REPORT_DATA_SIZE] {
    Sha512::new()
        .chain_update(DOMAIN)
        // The only part of variable length: its length comes first, so that no byte can move
        // between the parts.
        .chain_update((nonce.len() as u64).to_le_bytes())
        .chain_update(nonce)
        .chain_update(Sha512::digest(application))
        .chain_update(Sha512::digest(configuration))
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_data_depends_on_everything_that_it_binds() {
        let all = [
            report_data(b"n", b"a", b"c"),
            report_data(b"m", b"a", b"c"),
            report_data(b"n", b"b", b"c"),
            report_data(b"n", b"a", b"d"),
            report_data(b"na", b"", b"c"),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }
}
