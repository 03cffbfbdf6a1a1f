// SPDX-License-Identifier: Apache-2.0

//! Limits on the application's use of the Keep.

use enarx_configuration::Limits as Configured;
use enarx_wasi::budget::{Allowance, Budget};
use wasmtime::ResourceLimiter;

/// Bytes that an element of a table is counted as.
const TABLE_ELEMENT: u64 = 16;

/// The limits of one store.
#[derive(Debug)]
pub struct Limits {
    memory: Option<u64>,
    table_elements: Option<u64>,
    budget: Budget,
    /// The memory that the runtime may hold for the store.
    held: Allowance,
    /// Bytes that the last growth of a memory took of the budget.
    last: u64,
    /// Bytes that growth took from the budget, and bytes taken before.
    taken: u64,
    /// The memory that was last refused.
    refused: Option<Refused>,
}

/// A memory that was not granted.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Bytes.
    desired: u64,
    /// It was more than the limit, and not than the Keep has.
    by_limit: bool,
}

impl Limits {
    /// Limits of a configuration; everything is taken from `budget`, so that growth fails before the
    /// Keep is exhausted. `held` are the bytes of it that the runtime may additionally hold for the
    /// store.
    pub fn new(configured: &Configured, budget: Budget, held: u64) -> Self {
        Self {
            held: Allowance::new(&budget, held),
            memory: configured.max_memory,
            table_elements: configured.max_table_elements,
            budget,
            last: 0,
            taken: 0,
            refused: None,
        }
    }

    /// Takes bytes for as long as the store lives. False if there are not enough.
    pub fn take(&mut self, bytes: u64) -> bool {
        let is_taken = self.budget.take(bytes);
        if is_taken {
            self.taken = self.taken.saturating_add(bytes);
        }
        is_taken
    }

    /// The memory that the runtime may hold for the store.
    pub fn held(&self) -> &Allowance {
        &self.held
    }

    /// The budget that everything is taken from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The memory that a program was refused before it began, in a sentence.
    pub fn refused(&self) -> Option<String> {
        let Refused { desired, by_limit } = self.refused?;
        let remedy = if by_limit {
            "is more than -W max-memory-size allows"
        } else {
            "does not fit in the Keep: give it more with --memory"
        };
        Some(format!(
            "its memory of {} MiB {remedy}",
            desired.div_ceil(1 << 20)
        ))
    }

    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        limit: Option<u64>,
        unit: u64,
    ) -> bool {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let more = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        let granted = limit.is_none_or(|limit| desired as u64 <= limit) && self.budget.take(more);
        self.last = if granted { more } else { 0 };
        self.taken = self.taken.saturating_add(self.last);
        granted
    }
}

/// The memories and tables of a store are freed with it.
impl Drop for Limits {
    fn drop(&mut self) {
        self.budget.give(self.taken);
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.grow(current, desired, maximum, self.memory, 1);
        let desired = desired as u64;
        self.refused = (!granted).then(|| Refused {
            desired,
            by_limit: self.memory.is_some_and(|limit| desired > limit),
        });
        Ok(granted)
    }

    /// The system has less than the budget: the program gets a failure, and the bytes stay in the budget
    /// for smaller requests.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let last = std::mem::take(&mut self.last);
        self.taken = self.taken.saturating_sub(last);
        self.budget.give(last);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            current,
            desired,
            maximum,
            self.table_elements,
            TABLE_ELEMENT,
        ))
    }
}
