// SPDX-License-Identifier: Apache-2.0

//! Polling: while a Keep makes many requests, they are taken from the ring without a doorbell, so that they cost the
//! Keep no exit from its virtual machine, or its process no message; when they cease, the polling thread sleeps.
//!
//! A virtual machine has a thread for it, [`Poller`], which also sleeps when no vCPU is awake: then there is nothing to find.
//! The one thread that serves a process polls by itself, by [`poll`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::ExecutorError;
use crate::shared::SharedExecutor;
use crate::step::Progress;

/// How long the thread polls without finding anything before it sleeps: more than a doorbell takes where it is slowest, some
/// 0.4 ms out of a virtual machine inside of another one, or it would be over before a Keep that has rung runs again.
const IDLE_BEFORE_SLEEP: Duration = Duration::from_millis(1);
/// Minimum number of checks of the ring that find nothing before it sleeps: a thread that was off the CPU has not
/// checked.
const IDLE_LOOKS: u32 = 64;
/// Time that the thread keeps its CPU without finding anything: about the time of a Keep between an answer and its
/// next request. After that, a peer that the Keep waits for may need the CPU, which returns after milliseconds on a
/// busy machine.
const KEPT: Duration = Duration::from_micros(20);
/// Pause between two checks of the ring, in spin-loop hints.
const SPINS_BETWEEN_LOOKS: u32 = 32;

/// The rendezvous of the polling thread with the vCPU threads.
#[derive(Debug, Default)]
pub struct Poller {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// There is a thread that polls when it is wanted.
    runs: bool,
    wanted: bool,
    ended: bool,
    /// vCPUs that may post requests: those that neither sleep nor are parked.
    awake: u32,
}

/// Why a polling thread that slept goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Wanted,
    Ended,
}

impl Poller {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Flags and a number are consistent whatever happened to the thread that held them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the polling. The Keep is notified at once, so it need not ring while the thread gets a CPU.
    pub fn request_polling(&self, executor: &SharedExecutor) {
        let mut state = self.lock();
        state.wanted = true;
        if state.runs && !state.ended {
            executor.set_polling(true);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// A vCPU may post requests from now on.
    pub fn rise(&self) {
        let mut state = self.lock();
        state.awake = state.awake.saturating_add(1);
    }

    /// A vCPU posts nothing until it rises. When none does, nothing is polled for.
    pub fn rest(&self) {
        let mut state = self.lock();
        state.awake = state.awake.saturating_sub(1);
    }

    /// True if there may be something to poll for.
    fn should_poll(&self) -> bool {
        let state = self.lock();
        !state.ended && state.awake > 0
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
        self.lock().runs = true;
        loop {
            if self.sleep() == Wake::Ended {
                executor.set_polling(false);
                return Ok(None);
            }
            if let Some(code) = poll(executor, || self.should_poll())? {
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

/// Takes requests without a doorbell until none came for a while, or `should_poll` returns false; it is called between two
/// checks of the ring. Returns the exit code if the Keep asked to end.
///
/// # Errors
/// [`ExecutorError`]: the Keep cannot go on.
pub fn poll(
    executor: &SharedExecutor,
    should_poll: impl FnMut() -> bool,
) -> Result<Option<i32>, ExecutorError> {
    executor.set_polling(true);
    let polled = poll_until_idle(executor, should_poll);
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

fn poll_until_idle(
    executor: &SharedExecutor,
    mut should_poll: impl FnMut() -> bool,
) -> Result<Option<i32>, ExecutorError> {
    let (mut active, mut idle) = (Instant::now(), 0_u32);
    let mut taken = executor.activity().0;
    loop {
        if let Progress::Exit(code) = executor.drain()? {
            return Ok(Some(code));
        }
        if !should_poll() {
            return Ok(None);
        }
        let now = executor.activity().0;
        if now == taken {
            idle = idle.saturating_add(1);
            if idle >= IDLE_LOOKS && active.elapsed() > IDLE_BEFORE_SLEEP {
                return Ok(None);
            }
            if active.elapsed() > KEPT {
                std::thread::yield_now();
            }
        } else {
            (active, idle, taken) = (Instant::now(), 0, now);
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
        let (executor, state) = executor();
        thread::scope(|scope| {
            for (wanted, expected) in [
                (true, Wake::Wanted),
                (true, Wake::Wanted),
                (false, Wake::Ended),
            ] {
                let sleeper = scope.spawn(|| poller.sleep());
                if wanted {
                    poller.request_polling(&executor);
                } else {
                    poller.end();
                }
                assert_eq!(sleeper.join().unwrap(), expected);
            }
        });
        // An end is final, whatever is wanted afterwards.
        poller.request_polling(&executor);
        assert_eq!(state.load(Ordering::Relaxed), 0, "nobody polls");
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
        let wait = || ended.recv_timeout(Duration::from_mins(1));
        // While it polls, which it does not do for long.
        poller.rise();
        start();
        let mut seen = false;
        let until = Instant::now() + Duration::from_mins(1);
        while !seen && Instant::now() < until {
            poller.request_polling(&executor);
            seen = state.load(Ordering::Relaxed) != 0;
        }
        assert!(seen, "it never polled");
        poller.request_polling(&executor);
        poller.end();
        assert_eq!(wait(), Ok(None));
        assert_eq!(
            state.load(Ordering::Relaxed),
            0,
            "the Keep believes that it polls"
        );
        // Before it begins, even if it is wanted.
        poller.request_polling(&executor);
        start();
        assert_eq!(wait(), Ok(None));
        // While it sleeps.
        *poller.lock() = State {
            awake: 1,
            ..State::default()
        };
        start();
        assert!(ended.recv_timeout(Duration::from_millis(20)).is_err());
        poller.end();
        assert_eq!(wait(), Ok(None));
    }

    #[test]
    fn nothing_is_polled_for_while_no_vcpu_is_awake() {
        let (executor, state) = executor();
        let poller = Poller::default();
        let polls = || state.load(Ordering::Relaxed) != 0;
        let until = Instant::now() + Duration::from_mins(1);
        thread::scope(|scope| {
            let thread = scope.spawn(|| poller.run(&executor).unwrap());
            while !poller.lock().runs {
                assert!(Instant::now() < until, "it does not run");
                thread::yield_now();
            }
            for _ in 0..100 {
                poller.request_polling(&executor);
                // No vCPU is awake: the thread ends the polling at once, and not after the time without requests.
                while polls() || poller.lock().wanted {
                    assert!(Instant::now() < until, "it polls for nobody");
                    thread::yield_now();
                }
            }
            poller.end();
            assert_eq!(thread.join().unwrap(), None);
        });
    }

    #[test]
    fn the_keep_learns_of_polling_before_the_thread_begins() {
        let (executor, state) = executor();
        let poller = Poller::default();
        poller.lock().runs = true;
        poller.request_polling(&executor);
        assert_ne!(state.load(Ordering::Relaxed), 0);
        // The thread finds that polling is wanted, but no vCPU is awake.
        thread::scope(|scope| {
            let thread = scope.spawn(|| poller.run(&executor).unwrap());
            let until = Instant::now() + Duration::from_mins(1);
            while state.load(Ordering::Relaxed) != 0 {
                assert!(Instant::now() < until, "it polls for nobody");
                thread::yield_now();
            }
            poller.end();
            assert_eq!(thread.join().unwrap(), None);
        });
    }
}
