// SPDX-License-Identifier: Apache-2.0

//! `wasi:random`. The words that are called insecure are as good as the rest here.

use super::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::preview2::Preview2;

impl random::Host for Preview2 {
    fn get_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(most.min(self.random_max()))
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context().random.next_u64()?)
    }
}

impl insecure::Host for Preview2 {
    fn get_insecure_random_bytes(&mut self, most: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(most.min(self.random_max()))
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context().random.next_u64()?)
    }
}

impl insecure_seed::Host for Preview2 {
    fn get_insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.context().random.seed()?)
    }
}
