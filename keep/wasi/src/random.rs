// SPDX-License-Identifier: Apache-2.0

//! Random bytes: ChaCha20, seeded once by the system call `getrandom`, which the microkernel serves
//! from the processor's generator (RDRAND), and the kernel of the host in a process Keep. In a virtual
//! machine the host takes no part.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Fills a seed with entropy.
type Source = fn(&mut [u8]) -> Result<(), getrandom::Error>;

/// The generator; it is seeded at its first use.
pub struct Random {
    source: Source,
    generator: Option<ChaCha20Rng>,
    /// The seed that a program got: it gets the same one again.
    seed: Option<(u64, u64)>,
}

/// There is no entropy to seed the generator with.
#[derive(Debug, thiserror::Error)]
#[error("there are no random numbers: the system call getrandom failed: {0}")]
pub struct NoEntropy(getrandom::Error);

impl Default for Random {
    fn default() -> Self {
        Self::seeded_by(getrandom::fill)
    }
}

impl Random {
    /// A generator whose seed comes from `source`.
    pub fn seeded_by(source: Source) -> Self {
        Self {
            source,
            generator: None,
            seed: None,
        }
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator cannot be seeded.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.generator()?.fill_bytes(bytes);
        Ok(())
    }

    /// A random number.
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator cannot be seeded.
    pub fn next_u64(&mut self) -> Result<u64, NoEntropy> {
        Ok(self.generator()?.next_u64())
    }

    /// A seed for the hashes of a program, the same at each call: it stands for a value that is imported (WIT,
    /// `wasi:random/insecure-seed`).
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator cannot be seeded.
    pub fn seed(&mut self) -> Result<(u64, u64), NoEntropy> {
        if let Some(seed) = self.seed {
            return Ok(seed);
        }
        let seed = (self.next_u64()?, self.next_u64()?);
        Ok(*self.seed.insert(seed))
    }

    fn generator(&mut self) -> Result<&mut ChaCha20Rng, NoEntropy> {
        match &mut self.generator {
            Some(generator) => Ok(generator),
            empty => {
                let mut seed = [0; 32];
                (self.source)(&mut seed).map_err(NoEntropy)?;
                Ok(empty.insert(ChaCha20Rng::from_seed(seed)))
            }
        }
    }
}
