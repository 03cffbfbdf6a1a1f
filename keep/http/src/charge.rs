// SPDX-License-Identifier: Apache-2.0

//! Memory that connections and requests are counted as.

use enarx_wasi::budget::Budget;

/// Memory that is taken out of a budget.
pub struct Charge {
    budget: Budget,
    bytes: u64,
}

impl Charge {
    /// Takes bytes; `None` if there are not enough.
    pub fn take(budget: &Budget, bytes: u64) -> Option<Self> {
        budget.take(bytes).then(|| Self {
            budget: budget.clone(),
            bytes,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}
