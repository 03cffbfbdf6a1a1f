// SPDX-License-Identifier: Apache-2.0

//! `wasi:random`. The words that are called insecure are as good as the rest here.

use wasmtime::error::Context as _;

use super::bindings::wasi::random::{insecure, insecure_seed, random};
use super::state::Preview2;
use crate::budget::Share;

/// Most bytes of one request, as in the engine's own WASI.
const RANDOM_MAX: u64 = 64 << 20;

impl Preview2 {
    /// Most random bytes of one request.
    pub(crate) fn random_max(&self) -> u64 {
        RANDOM_MAX.min(self.context.answer_max)
    }

    /// This many random bytes.
    pub(crate) fn random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        let most = self.random_max();
        if length > most {
            wasmtime::bail!("requested len {length} exceeds limit {most}");
        }
        // Until the component has them.
        let _share = Share::take(&self.context.budget, length).context(
            "there is no memory for so many random bytes at once: give the Keep more with --memory",
        )?;
        let mut bytes = vec![0; usize::try_from(length)?];
        self.context.random.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl random::Host for Preview2 {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context.random.next_u64()?)
    }
}

impl insecure::Host for Preview2 {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context.random.next_u64()?)
    }
}

impl insecure_seed::Host for Preview2 {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.context.random.seed()?)
    }
}
