// SPDX-License-Identifier: Apache-2.0

//! Counts exchanges: everything that was sent to the outside or received from it. Counted under the lock of a
//! port's state, but outside it for readings of the time, so the state and its port each have a handle to the same
//! number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of exchanges; clones share it. Threads learn of an exchange through a lock, so no further ordering is
/// needed.
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
