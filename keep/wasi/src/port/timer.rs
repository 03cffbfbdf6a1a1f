// SPDX-License-Identifier: Apache-2.0

//! The wait of a task until a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::shared::Shared;
use super::timers::Key;

/// A wait until a deadline. Nothing is left of it when it is dropped.
pub struct Timer {
    shared: Arc<Shared>,
    deadline: Instant,
    /// Its place, once it was polled.
    key: Option<Key>,
}

impl Timer {
    pub(super) fn new(shared: &Arc<Shared>, deadline: Instant) -> Self {
        Self {
            shared: Arc::clone(shared),
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
            self.shared.lock().timers.remove(key);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            self.forget();
            self.shared.exchanges.count();
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut state = this.shared.lock();
        let timers = &mut state.timers;
        match this.key.and_then(|key| timers.waker(key)) {
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
