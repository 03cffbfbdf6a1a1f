// SPDX-License-Identifier: Apache-2.0

//! The environment of the engine: memory and processors of the Keep, as the runtime sees them.

use std::num::NonZero;
use std::sync::Arc;

use enarx_wasi::budget::{FREE_BYTES, Memory};

/// The environment of the engine, as far as the engine needs it.
pub trait EngineEnvironment: Send + Sync {
    /// Free memory of the Keep, in bytes.
    fn free_memory(&self) -> u64;
    /// Gives pages of the heap that are free back to the system.
    fn release_heap(&self);
    /// Processors that the Keep may use.
    fn processors(&self) -> NonZero<usize>;
    /// Makes ready for several threads that allocate much memory at the same time; called before they start.
    fn prepare_threads(&self) {}
}

/// The memory of the ground, for a budget.
pub struct EnvironmentMemory(pub Arc<dyn EngineEnvironment>);

impl Memory for EnvironmentMemory {
    fn all(&self) -> u64 {
        let free = self.0.free_memory();
        free.saturating_sub(reserved(free))
    }

    fn release_heap(&self) {
        self.0.release_heap();
    }
}

/// Fewest bytes that stay with the runtime.
const RESERVE: u64 = 8 << 20;

/// Memory that the runtime keeps out of this much free memory, in bytes: at least a sixteenth.
pub fn reserved(free: u64) -> u64 {
    RESERVE.max(free / 16)
}

const _: () = assert!(FREE_BYTES <= RESERVE / 4);
