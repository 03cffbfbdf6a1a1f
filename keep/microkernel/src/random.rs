// SPDX-License-Identifier: Apache-2.0

//! Random numbers: those of the CPU, checked, and in a measured Keep mixed with a secret that the firmware gave at
//! launch and that no host sees. Each of the two would suffice.
//!
//! Some AMD CPUs had generators that always returned the same word with success (AMD-SB-7055); hence the checks, and
//! the second source.
//!
//! The second source is a key stream of ChaCha20 (RFC 8439), whose first bytes become the next key ("Fast-key-erasure
//! random-number generators", D. J. Bernstein, 2017).

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

use crate::fatal::Fatal;
use crate::platform::Platform;
use enarx_exits::Reason;

/// Words that the CPU's generator is tried with at boot.
const TRIED: usize = 8;
/// Bytes of the key of the second source.
pub const KEY: usize = 32;
/// Every key is used once, so the nonce need not differ.
const NONCE: [u8; 12] = [0; 12];

/// The generator.
pub struct Random {
    /// The next key of the second source; `None` if there is none.
    key: Option<[u8; KEY]>,
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
    pub fn test_generator<P: Platform>(&mut self, platform: &mut P) -> Result<(), Fatal> {
        for _ in 0..TRIED {
            self.word(platform)?;
        }
        Ok(())
    }

    /// Adds a source that no host sees: a secret that was drawn by chance.
    pub const fn add_secret(&mut self, secret: [u8; KEY]) {
        self.key = Some(secret);
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
    /// [`Reason::NoRandomness`] if the CPU gives no words (0), or words that no generator gives (1); or if the key
    /// stream ends, after 256 GiB (2).
    pub fn fill<P: Platform>(&mut self, platform: &mut P, to: &mut [u8]) -> Result<(), Fatal> {
        for part in to.chunks_mut(8) {
            let word = self.word(platform)?.to_ne_bytes();
            part.copy_from_slice(word.get(..part.len()).unwrap_or(&[]));
        }
        if let Some(key) = &mut self.key {
            let mut stream = ChaCha20::new((&*key).into(), &NONCE.into());
            // Numbers given out before do not follow from the state that is left.
            *key = [0; KEY];
            for part in [&mut *key, to] {
                let ended = Fatal::new(Reason::NoRandomness, 2);
                stream.try_apply_keystream(part).map_err(|_| ended)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    // The fake machines of `tests/` try the rest.
    use super::*;

    #[test]
    fn the_key_stream_is_that_of_rfc_8439() {
        // Appendix A.1, test vector 1: a key of zeros.
        let expected = [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90];
        let mut stream = ChaCha20::new(&[0; KEY].into(), &NONCE.into());
        let mut found = [0; 8];
        stream.apply_keystream(&mut found);
        assert_eq!(found, expected);
    }
}
