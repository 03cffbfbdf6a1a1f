// SPDX-License-Identifier: Apache-2.0

//! Polling: while a Keep makes many requests, they are taken from the ring without being rung for, so that they cost
//! the Keep no exit from its virtual machine, or its process no message; when they cease, whoever polled sleeps.
//!
//! A virtual machine has a thread for it, [`Poller`]. The one thread that serves a process polls by itself, by [`poll`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{ExecutorError, Progress, SharedExecutor};

/// Longest time between two requests of a stream.
const STREAM_GAP: Duration = Duration::from_micros(500);
/// Requests that must follow each other as a stream before polling starts.
const STREAM_LENGTH: u32 = 16;
/// How long the thread polls without finding anything before it sleeps.
const IDLE_BEFORE_SLEEP: Duration = Duration::from_micros(200);
/// Pause between two looks at the ring, in spin-loop hints.
const SPINS_BETWEEN_LOOKS: u32 = 32;

/// Watches how closely doorbells follow each other: those of one vCPU, or of a process.
#[derive(Debug, Default)]
pub struct Traffic {
    last: Option<Instant>,
    streak: u32,
}

impl Traffic {
    /// Notes a doorbell at `now`. True if polling would pay.
    pub fn note(&mut self, now: Instant) -> bool {
        let close = self
            .last
            .is_some_and(|last| now.duration_since(last) < STREAM_GAP);
        self.streak = if close { self.streak + 1 } else { 0 };
        self.last = Some(now);
        if self.streak < STREAM_LENGTH {
            return false;
        }
        self.streak = 0;
        true
    }
}

/// The rendezvous of the polling thread with the vCPU threads.
#[derive(Debug, Default)]
pub struct Poller {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    ended: bool,
}

/// Why a polling thread that slept goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Wanted,
    Ended,
}

impl Poller {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Two flags are consistent whatever happened to the thread that held them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the polling.
    pub fn want(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// The thread: polls when it is wanted, until the Keep ends. The exit code if the Keep asked to
    /// end; `None` if something else ended it.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn run(&self, executor: &SharedExecutor) -> Result<Option<i32>, ExecutorError> {
        loop {
            if self.sleep() == Wake::Ended {
                return Ok(None);
            }
            if let Some(code) = poll(executor, || !self.lock().ended)? {
                return Ok(Some(code));
            }
        }
    }

    /// Sleeps until polling is wanted, or the Keep ends.
    fn sleep(&self) -> Wake {
        let mut state = self.lock();
        while !state.wanted && !state.ended {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return Wake::Ended;
        }
        state.wanted = false;
        Wake::Wanted
    }
}

/// Takes requests, without being rung for them, until none came for a while, or `goes_on` says no; it is asked between
/// two looks at the ring. The exit code if the Keep asked to end.
///
/// # Errors
/// [`ExecutorError`]: the Keep cannot go on.
pub fn poll(
    executor: &SharedExecutor,
    goes_on: impl FnMut() -> bool,
) -> Result<Option<i32>, ExecutorError> {
    executor.set_polling(true);
    let polled = look_until_idle(executor, goes_on);
    executor.set_polling(false);
    if let Some(code) = polled? {
        return Ok(Some(code));
    }
    // Requests posted before the Keep could see that nobody polls any more.
    match executor.drain_all()? {
        Progress::Exit(code) => Ok(Some(code)),
        Progress::Idle | Progress::More => Ok(None),
    }
}

fn look_until_idle(
    executor: &SharedExecutor,
    mut goes_on: impl FnMut() -> bool,
) -> Result<Option<i32>, ExecutorError> {
    let mut active = Instant::now();
    let mut taken = executor.activity().0;
    loop {
        if let Progress::Exit(code) = executor.drain()? {
            return Ok(Some(code));
        }
        if !goes_on() {
            return Ok(None);
        }
        let now = executor.activity().0;
        if now != taken {
            (active, taken) = (Instant::now(), now);
        } else if active.elapsed() > IDLE_BEFORE_SLEEP {
            return Ok(None);
        }
        for _ in 0..SPINS_BETWEEN_LOOKS {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use enarx_sallyport::layout::{HOST_STATE, REGION_SIZE};
    use enarx_sallyport::{Facts, Region};

    use super::*;
    use crate::grant::Grant;
    use crate::launch::Objects;

    #[test]
    fn a_stream_starts_the_polling_and_rare_requests_do_not() {
        let start = Instant::now();
        let mut traffic = Traffic::default();
        let started = (0..100)
            .filter(|n| traffic.note(start + STREAM_GAP * 2 * *n))
            .count();
        assert_eq!(started, 0);
        let start = start + STREAM_GAP * 1000;
        let first = (0..100).position(|n| traffic.note(start + Duration::from_micros(n)));
        assert_eq!(first, Some(STREAM_LENGTH as usize));
    }

    /// An executor of a Keep that posts nothing, and the state that the Keep sees of it.
    fn executor() -> (SharedExecutor, &'static AtomicU64) {
        let memory: &'static [AtomicU64] = (0..REGION_SIZE / 8)
            .map(|_| AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak();
        let region = Region::from_static(memory).unwrap();
        let null = || File::open("/dev/null").unwrap().into();
        let grant = Grant::of_streams([null(), null(), null()]);
        let facts = Facts::default();
        let executor = SharedExecutor::new(region, facts, grant, Objects::default());
        (executor.unwrap(), &memory[HOST_STATE.offset() / 8])
    }

    #[test]
    fn sleeps_until_it_is_wanted_or_the_keep_ends() {
        let poller = Poller::default();
        thread::scope(|scope| {
            for (wake, expected) in [
                (Poller::want as fn(&Poller), Wake::Wanted),
                (Poller::want, Wake::Wanted),
                (Poller::end, Wake::Ended),
            ] {
                let sleeper = scope.spawn(|| poller.sleep());
                wake(&poller);
                assert_eq!(sleeper.join().unwrap(), expected);
            }
        });
        // An end is for good, whatever is wanted afterwards.
        poller.want();
        assert_eq!(poller.sleep(), Wake::Ended);
    }

    #[test]
    fn ends_when_it_is_told_to() {
        let (executor, state) = executor();
        let (poller, executor) = (Arc::new(Poller::default()), Arc::new(executor));
        let (said, ended) = channel();
        let start = || {
            let (poller, executor) = (Arc::clone(&poller), Arc::clone(&executor));
            let said = said.clone();
            thread::spawn(move || said.send(poller.run(&executor).unwrap()).unwrap());
        };
        let wait = || ended.recv_timeout(Duration::from_secs(10));
        // While it polls, which it does not do for long.
        start();
        let mut seen = false;
        let until = Instant::now() + Duration::from_secs(10);
        while !seen && Instant::now() < until {
            poller.want();
            seen = state.load(Ordering::Relaxed) != 0;
        }
        assert!(seen, "it never polled");
        poller.want();
        poller.end();
        assert_eq!(wait(), Ok(None));
        assert_eq!(
            state.load(Ordering::Relaxed),
            0,
            "the Keep believes that it polls"
        );
        // Before it begins, even if it is wanted.
        poller.want();
        start();
        assert_eq!(wait(), Ok(None));
        // While it sleeps.
        *poller.lock() = State::default();
        start();
        assert!(ended.recv_timeout(Duration::from_millis(20)).is_err());
        poller.end();
        assert_eq!(wait(), Ok(None));
    }
}
