// SPDX-License-Identifier: Apache-2.0

//! Mutexes of this crate: whoever holds one does not leave what it guards half changed, so one that panicked is no reason
//! for others to.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
