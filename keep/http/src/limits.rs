// SPDX-License-Identifier: Apache-2.0

//! How many there may be at a time, and the end of a server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use futures_channel::oneshot;

use crate::lock::lock;

/// A number of places, granted in the order of the requests; clones share them.
#[derive(Clone)]
pub struct Places(Arc<Mutex<State>>);

struct State {
    all: usize,
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// The task that waits until all are free.
    watcher: Option<Waker>,
}

/// A place, free again when this is dropped.
pub struct Place(Option<Places>);

impl Places {
    /// This many places.
    pub fn new(all: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            all,
            taken: 0,
            waiting: VecDeque::new(),
            watcher: None,
        })))
    }

    /// A place, if there is one now.
    pub fn try_take(&self) -> Option<Place> {
        let mut state = lock(&self.0);
        let is_free = state.taken < state.all;
        if is_free {
            state.taken += 1;
        }
        is_free.then(|| Place(Some(self.clone())))
    }

    /// Waits for a place.
    pub async fn take(&self) -> Place {
        loop {
            let receiver = {
                let mut state = lock(&self.0);
                if state.taken < state.all {
                    state.taken += 1;
                    return Place(Some(self.clone()));
                }
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back(sender);
                receiver
            };
            if let Ok(place) = receiver.await {
                return place;
            }
        }
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        lock(&self.0).taken
    }

    /// Waits until all are free.
    pub async fn all_free(&self) {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.0);
            if state.taken == 0 {
                return Poll::Ready(());
            }
            state.watcher = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn next(&self) -> Option<oneshot::Sender<Place>> {
        let mut state = lock(&self.0);
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.taken = state.taken.saturating_sub(1);
            if state.taken == 0
                && let Some(watcher) = state.watcher.take()
            {
                watcher.wake();
            }
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.0.take() else { return };
        while let Some(next) = places.next() {
            // One that does not wait any more gives it back, and the next one gets it.
            match next.send(Self(Some(places.clone()))) {
                Ok(()) => return,
                Err(mut place) => place.0 = None,
            }
        }
    }
}

/// The end of a server, which its connections learn of.
#[derive(Default)]
pub struct Ending(Mutex<EndingState>);

#[derive(Default)]
struct EndingState {
    has_begun: bool,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

/// The registration of one connection.
struct Waiting<'a> {
    ending: &'a Ending,
    number: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock(&self.ending.0).waiting.remove(&number);
        }
    }
}

impl Ending {
    /// Tells all connections that the server ends.
    pub fn begin(&self) {
        let waiting = {
            let mut state = lock(&self.0);
            state.has_begun = true;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Waits until the server ends.
    pub async fn begun(&self) {
        let mut waiting = Waiting {
            ending: self,
            number: None,
        };
        std::future::poll_fn(|context| {
            let mut state = lock(&self.0);
            if state.has_begun {
                return Poll::Ready(());
            }
            let number = *waiting.number.get_or_insert_with(|| {
                state.next = state.next.wrapping_add(1);
                state.next
            });
            state.waiting.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
