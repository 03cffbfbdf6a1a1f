// SPDX-License-Identifier: Apache-2.0

//! Deadlines of tasks. Each wakes its own task, and no other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Port;

/// Names a deadline: the time, and a number for those at the same time.
type Key = (Instant, u64);

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

    fn add(&mut self, deadline: Instant, waker: Waker) -> Key {
        let key = (deadline, self.next);
        self.next = self.next.wrapping_add(1);
        self.table.insert(key, waker);
        key
    }
}

/// Waits until a deadline. Nothing is left of it when it is dropped.
pub struct Timer {
    port: Port,
    deadline: Instant,
    /// Its place, once it was polled.
    key: Option<Key>,
}

impl Timer {
    pub(super) fn new(port: Port, deadline: Instant) -> Self {
        Self {
            port,
            deadline,
            key: None,
        }
    }

    /// Waits until another deadline instead.
    pub fn reset(&mut self, deadline: Instant) {
        self.forget();
        self.deadline = deadline;
    }

    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            self.port.0.lock().timers.table.remove(&key);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            self.forget();
            self.port.count_exchange();
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut state = this.port.0.lock();
        let timers = &mut state.timers;
        match this.key.and_then(|key| timers.table.get_mut(&key)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => this.key = Some(timers.add(this.deadline, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}
