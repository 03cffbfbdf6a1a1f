// SPDX-License-Identifier: Apache-2.0

//! The tenant's request to end: the first stops the application, the second makes the agent leave.

use crate::fault::Fault;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A handle to end a deployment. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    grace: Duration,
    requests: AtomicU32,
    waker: Mutex<Option<Waker>>,
}

impl Stop {
    /// A handle that has not been used; the application gets this long to end by itself.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Shared {
            grace,
            requests: AtomicU32::new(0),
            waker: Mutex::new(None),
        }))
    }

    /// Requests the end. Before an application runs, the deployment is cancelled and its Keep is ended. Afterwards
    /// the first request stops the application, and the second leaves without waiting for its end.
    pub fn request(&self) {
        self.change(|requests| requests.saturating_add(1));
    }

    /// Requests the end like the first [`Self::request`]; does nothing if it was requested before.
    pub fn stop(&self) {
        self.change(|requests| requests.max(1));
    }

    /// Leaves, like the second [`Self::request`], however often the end was requested before.
    pub fn leave(&self) {
        self.change(|requests| requests.max(2));
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        let requests = &self.0.requests;
        // It never gives up.
        let _ = requests.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| Some(change(it)));
        let mut waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }

    /// The time that the program has to end by itself.
    pub(crate) fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Number of requests to end. The task of `cx` is woken when it changes.
    pub(crate) fn poll_requests(&self, cx: &Context<'_>) -> u32 {
        let mut waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(cx.waker().clone());
        drop(waker);
        // After the waker is there: a request in between is seen now or wakes.
        self.0.requests.load(Ordering::SeqCst)
    }

    /// The result of `work`, unless the end is requested before.
    ///
    /// # Errors
    /// The error of `work`; [`Fault::Cancelled`].
    pub(crate) async fn unless<T, E: From<Fault>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.before(1, work).await
    }

    /// The result of `work`, unless the end is requested a second time before.
    ///
    /// # Errors
    /// The error of `work`; [`Fault::Cancelled`].
    pub(crate) async fn unless_left<T, E: From<Fault>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.before(2, work).await
    }

    async fn before<T, E: From<Fault>>(
        &self,
        requests: u32,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if self.poll_requests(cx) >= requests {
                return Poll::Ready(Err(Fault::Cancelled.into()));
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}
