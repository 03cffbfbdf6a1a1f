// SPDX-License-Identifier: Apache-2.0

//! Deadlines of tasks. Each wakes its own task, and no other.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// The name of a deadline: the time, and a number for those at the same time.
pub(super) type Key = (Instant, u64);

/// The deadlines of a port.
#[derive(Default)]
pub(super) struct Timers {
    table: BTreeMap<Key, Waker>,
    next: u64,
}

impl Timers {
    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.table.keys().next().map(|(deadline, _)| *deadline)
    }

    /// The waker of a deadline that was taken in; `None` if that has passed.
    pub(super) fn waker(&mut self, key: Key) -> Option<&mut Waker> {
        self.table.get_mut(&key)
    }

    /// Forgets a deadline.
    pub(super) fn remove(&mut self, key: Key) {
        self.table.remove(&key);
    }

    /// Wakes the tasks whose deadline has passed; whether there was any.
    pub(super) fn fire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(entry) = self.table.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().wake();
            any = true;
        }
        any
    }

    /// Takes a deadline in, and who is woken then.
    pub(super) fn add(&mut self, deadline: Instant, waker: Waker) -> Key {
        let key = (deadline, self.next);
        self.next = self.next.wrapping_add(1);
        self.table.insert(key, waker);
        key
    }
}
