// SPDX-License-Identifier: Apache-2.0

//! Mutexes of this crate: a holder never leaves the guarded data half changed, so a panic of one
//! holder is no reason for others to panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
