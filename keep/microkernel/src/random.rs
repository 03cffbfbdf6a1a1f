// SPDX-License-Identifier: Apache-2.0

//! Random numbers: those of the CPU, checked, and in a measured Keep mixed with a secret that the firmware
//! gave at launch and that no host sees. Each of the two alone would do.
//!
//! AMD's CPUs have had generators that gave the same word for ever and said that it was good
//! (AMD-SB-7055); hence the checks, and the second source.

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::fatal::Fatal;
use crate::platform::Platform;
use enarx_exits::Reason;

/// Words that the CPU's generator is tried with at boot.
const TRIED: usize = 8;
/// Bytes of a block of the mixed generator.
const BLOCK: usize = 32;
/// Number of the block that becomes the next key: no request is as long.
const NEXT_KEY: u64 = u64::MAX;

/// The generator.
pub struct Random {
    /// The key of the mixed generator; `None` where there is no second source.
    key: Option<[u8; BLOCK]>,
    /// The CPU's last word.
    last: u64,
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

impl Random {
    /// Untried and without a second source.
    #[must_use]
    pub const fn new() -> Self {
        Self { key: None, last: 0 }
    }

    /// Tries the CPU's generator.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn try_out<P: Platform>(&mut self, platform: &mut P) -> Result<(), Fatal> {
        for _ in 0..TRIED {
            self.word(platform)?;
        }
        Ok(())
    }

    /// Adds a source that no host sees.
    pub fn add_secret(&mut self, secret: &[u8]) {
        let hash = Sha256::new_with_prefix(b"enarx: random numbers of a Keep");
        self.key = Some(hash.chain_update(secret).finalize().into());
    }

    /// A word of the CPU.
    fn word<P: Platform>(&mut self, platform: &mut P) -> Result<u64, Fatal> {
        let word = platform
            .random()
            .ok_or(Fatal::new(Reason::NoRandomness, 0))?;
        // Each happens by chance once in 2^64 words.
        if word == 0 || word == u64::MAX || word == self.last {
            return Err(Fatal::new(Reason::NoRandomness, 1));
        }
        self.last = word;
        Ok(word)
    }

    /// Fills `to` with random bytes.
    ///
    /// # Errors
    /// [`Reason::NoRandomness`] when the CPU does not deliver (0), or delivers what no generator does (1).
    pub fn fill<P: Platform>(&mut self, platform: &mut P, to: &mut [u8]) -> Result<(), Fatal> {
        for (number, block) in (0..).zip(to.chunks_mut(BLOCK)) {
            for part in block.chunks_mut(8) {
                let word = self.word(platform)?.to_ne_bytes();
                part.copy_from_slice(word.get(..part.len()).unwrap_or(&[]));
            }
            if let Some(key) = &self.key {
                let mut mask = mixed(key, number);
                for (byte, mask) in block.iter_mut().zip(&mask) {
                    *byte ^= mask;
                }
                mask.zeroize();
            }
        }
        // Numbers given out before do not follow from the state that is left.
        if let Some(key) = &mut self.key {
            *key = mixed(key, NEXT_KEY);
        }
        Ok(())
    }
}

/// Block `number` of the generator with this key.
fn mixed(key: &[u8; BLOCK], number: u64) -> [u8; BLOCK] {
    let hash = Sha256::new_with_prefix(key);
    hash.chain_update(number.to_le_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    // The fake machines of `tests/` try the rest.
    use super::*;

    #[test]
    fn blocks_differ_by_key_and_number() {
        let blocks = [
            mixed(&[1; 32], 0),
            mixed(&[1; 32], 1),
            mixed(&[2; 32], 0),
            mixed(&[1; 32], NEXT_KEY),
        ];
        for (index, block) in blocks.iter().enumerate() {
            assert!(!blocks[..index].contains(block));
        }
        // SHA-256 of 40 zero bytes.
        let zeros = Sha256::digest([0; 40]);
        assert_eq!(mixed(&[0; 32], 0)[..], zeros[..]);
    }
}
