// SPDX-License-Identifier: Apache-2.0

//! How often anything was told to the outside or learnt from it. Counted under the lock of a port's state, and beside it
//! where somebody has learnt the time, so the state and its port have a handle each to the one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of exchanges; clones share it. Those who know of one know it by way of a lock: nothing more has to be
/// ordered.
#[derive(Clone, Default)]
pub(super) struct Exchanges(Arc<AtomicU64>);

impl Exchanges {
    /// Counts one.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number so far; it wraps.
    pub(super) fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
