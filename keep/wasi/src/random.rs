//! Random bytes: ChaCha20, seeded once by the processor's generator through `getrandom`, which the
//! microkernel serves from RDRAND. The host takes no part.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The generator; it is seeded at its first use.
#[derive(Default)]
pub struct Random(Option<ChaCha20Rng>);

/// The processor gave no entropy.
#[derive(Debug, thiserror::Error)]
#[error("the processor's random number generator does not answer: {0}")]
pub struct NoEntropy(getrandom::Error);

impl Random {
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

    fn generator(&mut self) -> Result<&mut ChaCha20Rng, NoEntropy> {
        match &mut self.0 {
            Some(generator) => Ok(generator),
            empty => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(NoEntropy)?;
                Ok(empty.insert(ChaCha20Rng::from_seed(seed)))
            }
        }
    }
}
