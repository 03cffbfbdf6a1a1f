// SPDX-License-Identifier: Apache-2.0

//! The state of a port behind its lock, and the sleep of its threads. One thread, the leader, waits in the doorbell for all; the
//! others wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enarx_sallyport::keep::Violation;
use enarx_sallyport::{Call, KeepEnd, Region, Reply, Ticket, Until};

use super::exchanges::Exchanges;
use super::platform::Platform;
use super::state::{Owner, PATIENCE, State};
use crate::error::Result;

/// The same as [`PATIENCE`] if the last answer did not come in that time.
const IMPATIENCE: Duration = Duration::from_micros(10);

/// Pauses between two such looks, in spin-loop hints.
const SPINS_BETWEEN_LOOKS: u32 = 16;

/// The state with its lock, and the data used outside the lock.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Notified to followers: replies were collected, or there is no leader any more.
    pub(super) news: Condvar,
    pub(super) platform: Arc<dyn Platform>,
    pub(super) exchanges: Exchanges,
}

/// The state, locked.
pub(super) type Guard<'a> = MutexGuard<'a, State>;

impl Shared {
    /// The state of a port on which nothing was called yet.
    pub(super) fn new(end: KeepEnd<Region>, platform: Arc<dyn Platform>) -> Self {
        let exchanges = Exchanges::default();
        let state = State::new(end, Arc::clone(&platform), exchanges.clone());
        Self {
            state: Mutex::new(state),
            news: Condvar::new(),
            platform,
            exchanges,
        }
    }

    /// Locks the state.
    pub(super) fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the Keep because the bytes of a reply do not decode. The state must not be locked by this thread.
    pub(super) fn bad_reply(&self) -> ! {
        let violation = self.lock().end.condemn(Violation::BadReply);
        self.platform.violation(&violation)
    }

    /// Collects replies, also for threads that wait for the leader. False if there were none.
    pub(super) fn reap(&self, state: &mut Guard<'_>) -> bool {
        let any = state.reap();
        if any {
            self.tell_followers(state);
        }
        any
    }

    /// Makes the threads that wait for the leader check what they wait for: once, because this is a system
    /// call and much may happen until they run.
    pub(super) fn tell_followers(&self, state: &mut Guard<'_>) {
        if state.followers > 0 {
            state.followers = 0;
            state.notifications = state.notifications.wrapping_add(1);
            self.news.notify_all();
        }
    }

    /// Wakes the tasks whose time has come; whether there was any.
    pub(super) fn fire(&self, state: &mut Guard<'_>) -> bool {
        let any = state.timers.fire(Instant::now());
        if any {
            self.tell_followers(state);
        }
        any
    }

    /// Waits until replies were collected, by this thread or another, or until the deadline. May return early.
    pub(super) fn sleep<'a>(&'a self, state: Guard<'a>, deadline: Option<Instant>) -> Guard<'a> {
        self.sleep_until(state, Until::Completion, deadline)
    }

    /// As [`Self::sleep`]; of a thread that leads, these completions end the sleep.
    pub(super) fn sleep_until<'a>(
        &'a self,
        mut state: Guard<'a>,
        until: Until,
        deadline: Option<Instant>,
    ) -> Guard<'a> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        if state.has_leader {
            // The leader sleeps already, and the host with it.
            state.expect();
            state.tell();
            state.followers += 1;
            let notifications = state.notifications;
            let mut state = match deadline.map(left) {
                None => self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.news.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            // The thread that notifies them no longer counts them.
            if state.notifications == notifications {
                state.followers -= 1;
            }
            return state;
        }
        state.has_leader = true;
        state.leader_deadline = deadline;
        state.leader_until = until;
        let collected = state.collected;
        let (mut state, has_come) = self.look_for_answers(state, deadline);
        // Another thread, which had the lock between two looks, may have collected what this one waits for.
        if !has_come && state.collected == collected {
            let (seen, until) = (state.end.completions_seen(), state.leader_until);
            state.untold = false;
            drop(state);
            self.platform.wait(seen, until, deadline.map(left));
            state = self.lock();
        }
        state.has_leader = false;
        state.contact = Instant::now();
        state.reap();
        self.tell_followers(&mut state);
        state
    }

    /// Polls briefly for answers of a host that polls; returns whether there are any. The lock is free in the
    /// meantime, because taking it for each look would delay others.
    fn look_for_answers<'a>(
        &'a self,
        state: Guard<'a>,
        deadline: Option<Instant>,
    ) -> (Guard<'a>, bool) {
        let (host_activity, patience) = (state.end.host_activity(), state.patience);
        if !host_activity.host_polls() {
            return (state, false);
        }
        drop(state);
        let now = Instant::now();
        let end = now.checked_add(patience).unwrap_or(now);
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        let mut has_come = host_activity.has_completions();
        while !has_come && host_activity.host_polls() && Instant::now() < end {
            for _ in 0..SPINS_BETWEEN_LOOKS {
                std::hint::spin_loop();
            }
            has_come = host_activity.has_completions();
        }
        let mut state = self.lock();
        state.patience = if has_come { PATIENCE } else { IMPATIENCE };
        (state, has_come)
    }

    /// Posts a call that is answered at once, waiting for a slot.
    pub(super) fn submit<'a>(
        &'a self,
        mut state: Guard<'a>,
        call: &Call,
        input: &[&[u8]],
    ) -> (Guard<'a>, Result<Ticket>) {
        loop {
            match state.try_submit(call, input, Owner::Caller) {
                Ok(Some(ticket)) => {
                    state.ring();
                    return (state, Ok(ticket));
                }
                Err(error) => return (state, Err(error)),
                Ok(None) => {
                    if !self.reap(&mut state) {
                        state = self.sleep(state, None);
                    }
                }
            }
        }
    }

    /// Waits for the reply to a call of [`Owner::Caller`].
    pub(super) fn wait_for<'a>(
        &'a self,
        mut state: Guard<'a>,
        ticket: Ticket,
    ) -> (Guard<'a>, Reply) {
        loop {
            self.reap(&mut state);
            if let Some(reply) = state.take(ticket) {
                return (state, reply);
            }
            state = self.sleep(state, None);
        }
    }

    /// Waits until at most `allowed` writes are in flight.
    pub(super) fn settle_writes<'a>(&'a self, mut state: Guard<'a>, allowed: usize) -> Guard<'a> {
        loop {
            state.collect_writes();
            if state.writes.in_flight.len() <= allowed {
                return state;
            }
            state = self.sleep(state, None);
        }
    }
}
