// SPDX-License-Identifier: Apache-2.0

//! Many tasks on one thread. Only those are polled that were woken, however many there are.
//!
//! A task waits for operations, timers and wakers of its own. What only a poll finds out, as
//! [`Port::poll_deadline`](super::Port::poll_deadline), wakes no task.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Port;

/// Turns of tasks that wake each other, before the host is told of what they have asked for.
const TURNS: u32 = 8;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks; clones start them in the same place.
#[derive(Clone, Default)]
pub struct Spawner(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// Tasks that were not polled yet.
    fresh: Vec<Job>,
    /// Places of tasks that were woken.
    woken: Vec<usize>,
    /// Wakes the thread's future that polls the tasks.
    root: Option<Waker>,
}

impl Spawner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `root` woken for the next turn, at once if there is something to do.
    fn rest(&self, root: &Waker) {
        let mut queue = self.lock();
        if queue.fresh.is_empty() && queue.woken.is_empty() {
            queue.root = Some(root.clone());
        } else {
            drop(queue);
            root.wake_by_ref();
        }
    }

    /// Starts a task; it is polled from the next turn on.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut queue = self.lock();
        queue.fresh.push(Box::pin(task));
        queue.wake();
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(root) = self.root.take() {
            root.wake();
        }
    }
}

/// Wakes one task.
struct OneTask {
    spawner: Spawner,
    place: usize,
    woken: AtomicBool,
}

impl Wake for OneTask {
    fn wake(self: Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            let mut queue = self.spawner.lock();
            queue.woken.push(self.place);
            queue.wake();
        }
    }
}

struct Task {
    job: Job,
    waker: Arc<OneTask>,
}

/// The tasks of one thread.
#[derive(Default)]
pub struct Tasks {
    spawner: Spawner,
    table: Vec<Option<Task>>,
    free: Vec<usize>,
}

impl Tasks {
    /// Starts tasks among these.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Runs `main` to its end, and the tasks beside it. Those that have not ended by then wait for the next call.
    pub fn run<T>(&mut self, port: &Port, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        port.defer(true);
        let output = port.block_on(std::future::poll_fn(|context| {
            let output = main.as_mut().poll(context);
            if output.is_pending() {
                for _ in 0..TURNS {
                    if !self.turn() {
                        break;
                    }
                }
                self.spawner.rest(context.waker());
            }
            output
        }));
        port.defer(false);
        output
    }

    /// Polls the tasks that were started or woken before this turn; whether there was any.
    fn turn(&mut self) -> bool {
        let (fresh, woken) = {
            let mut queue = self.spawner.lock();
            queue.root = None;
            (
                std::mem::take(&mut queue.fresh),
                std::mem::take(&mut queue.woken),
            )
        };
        let any = !fresh.is_empty() || !woken.is_empty();
        for job in fresh {
            let place = self.free.pop().unwrap_or_else(|| {
                self.table.push(None);
                self.table.len() - 1
            });
            let waker = Arc::new(OneTask {
                spawner: self.spawner.clone(),
                place,
                woken: AtomicBool::new(false),
            });
            if let Some(entry) = self.table.get_mut(place) {
                *entry = Some(Task { job, waker });
            }
            self.poll(place);
        }
        for place in woken {
            self.poll(place);
        }
        any
    }

    fn poll(&mut self, place: usize) {
        let Some(entry) = self.table.get_mut(place) else {
            return;
        };
        // A task that was woken and ended, or another one in its place: one poll too many does no harm.
        let Some(task) = entry else { return };
        task.waker.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.waker));
        if let Poll::Ready(()) = task.job.as_mut().poll(&mut Context::from_waker(&waker)) {
            *entry = None;
            self.free.push(place);
        }
    }
}
