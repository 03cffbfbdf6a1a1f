// SPDX-License-Identifier: Apache-2.0

//! Many tasks on one thread or several. Only those are polled that were woken, however many there are, each by whichever
//! thread is free.
//!
//! One thread without work waits for the host, in place of all; the others wait for it. There are tasks whose turns
//! are short, and such whose turns may be long because a program computes in them: before a thread begins a long turn, it
//! sees to it that another one waits for the host, if there is one without work. So a program that computes takes one
//! thread, and holds up nothing else while there is another.
//!
//! A task waits for operations, timers and wakers of its own. A deadline of
//! [`Port::poll_deadline`](super::Port::poll_deadline), which only a poll finds out, wakes no task.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use super::handle::Port;

/// Turns of a thread that always has something to do, after which it looks at what the host has done.
const TURNS: u32 = 64;

/// Short turns that go before a long one, at most.
const SHORT_TURNS: u32 = 32;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The length of a task's turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// Some microseconds.
    Short,
    /// As long as a program computes.
    Long,
}

/// A task.
struct Task {
    /// `None` while a thread polls it.
    job: Option<Job>,
    /// It was woken while it was polled, and its place in the queue was taken since.
    again: bool,
    waker: Arc<OneTask>,
}

/// Wakes one task.
struct OneTask {
    shared: Arc<Shared>,
    place: usize,
    turns: Turns,
    woken: AtomicBool,
}

impl Wake for OneTask {
    fn wake(self: Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.shared.lock().push(self.place, self.turns);
        }
    }
}

/// The tasks, and the threads that wait for work.
///
/// Its lock may be taken under that of the port, because answers wake tasks; never the other way round. So nothing is
/// dropped under it that may give up an operation.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told to threads without work.
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    table: Vec<Option<Task>>,
    free: Vec<usize>,
    /// Places of tasks that were woken.
    short: VecDeque<usize>,
    long: VecDeque<usize>,
    /// A thread waits for the host, or is about to.
    is_driven: bool,
    /// Threads without work beside that one.
    resting: usize,
    over: bool,
}

impl Queue {
    fn push(&mut self, place: usize, turns: Turns) {
        match turns {
            Turns::Short => self.short.push_back(place),
            Turns::Long => self.long.push_back(place),
        }
    }

    fn has_work(&self) -> bool {
        self.over || !self.short.is_empty() || !self.long.is_empty()
    }

    fn task(&mut self, place: usize) -> Option<&mut Task> {
        self.table.get_mut(place).and_then(Option::as_mut)
    }

    /// Forgets a task.
    fn remove(&mut self, place: usize) -> Option<Task> {
        let task = self.table.get_mut(place).and_then(Option::take);
        if task.is_some() {
            self.free.push(place);
        }
        task
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, turns: Turns, job: Job) {
        let mut queue = self.lock();
        let place = queue.free.pop().unwrap_or_else(|| {
            queue.table.push(None);
            queue.table.len() - 1
        });
        let waker = Arc::new(OneTask {
            shared: Arc::clone(self),
            place,
            turns,
            woken: AtomicBool::new(true),
        });
        if let Some(entry) = queue.table.get_mut(place) {
            *entry = Some(Task {
                job: Some(job),
                again: false,
                waker,
            });
        }
        queue.push(place, turns);
    }

    /// Gives a task its turn.
    fn poll(&self, place: usize) {
        let (mut job, waker) = {
            let mut queue = self.lock();
            // A task that was woken and ended, or another one in its place: one poll too many does no harm.
            let Some(task) = queue.task(place) else {
                return;
            };
            let Some(job) = task.job.take() else {
                task.again = true;
                return;
            };
            task.waker.woken.store(false, Ordering::Release);
            (job, Arc::clone(&task.waker))
        };
        let turns = waker.turns;
        let waker = Waker::from(waker);
        let has_ended = job
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let mut queue = self.lock();
        let ended = match queue.task(place) {
            Some(task) if !has_ended => {
                task.job = Some(job);
                if std::mem::take(&mut task.again) {
                    queue.push(place, turns);
                }
                return;
            }
            _ => queue.remove(place),
        };
        drop(queue);
        drop((job, ended));
    }

    /// Gives tasks their turns until it is over.
    fn work(&self, port: &Port) {
        let (mut turns, mut short_turns) = (0_u32, 0);
        let mut queue = self.lock();
        while !queue.over {
            let prefers_long = short_turns >= SHORT_TURNS && !queue.long.is_empty();
            if !prefers_long && let Some(place) = queue.short.pop_front() {
                short_turns += 1;
                drop(queue);
                self.poll(place);
            } else if let Some(place) = queue.long.pop_front() {
                short_turns = 0;
                let is_alone = queue.resting == 0 && !queue.is_driven;
                let more = !queue.long.is_empty();
                let wakes_one = queue.resting > 0 && (more || !queue.is_driven);
                let wakes_driver = queue.resting == 0 && more;
                drop(queue);
                if wakes_one {
                    self.news.notify_one();
                }
                // If all threads have work, the host is told of many things together.
                if !is_alone {
                    port.leave(wakes_driver);
                }
                self.poll(place);
            } else if queue.is_driven {
                drop(queue);
                port.leave(false);
                queue = self.lock();
                if queue.is_driven && !queue.has_work() {
                    queue.resting += 1;
                    queue = self
                        .news
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                    queue.resting -= 1;
                }
                continue;
            } else {
                queue.is_driven = true;
                drop(queue);
                port.rest(|| self.lock().has_work());
                queue = self.lock();
                queue.is_driven = false;
                continue;
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS) {
                port.look();
            }
            queue = self.lock();
        }
    }

    /// Ends the work of all threads.
    fn end(&self, port: &Port) {
        self.lock().over = true;
        self.news.notify_all();
        port.leave(true);
    }
}

/// Starts tasks; clones start them in the same place.
#[derive(Clone, Default)]
pub struct Spawner(Arc<Shared>);

impl Spawner {
    /// Starts a task whose turns are short.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Turns::Short, Box::pin(task));
    }

    /// Starts a task that may compute for long.
    pub fn spawn_long(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Turns::Long, Box::pin(task));
    }
}

/// The tasks of one or several threads.
#[derive(Default)]
pub struct Tasks(Spawner);

impl Tasks {
    /// Starts tasks among these.
    pub fn spawner(&self) -> Spawner {
        self.0.clone()
    }

    /// Runs `main` to its end, and the tasks beside it, on this thread and on those of [`Self::help`]. Those that have not
    /// ended by then wait for the next call.
    pub fn run(&self, port: &Port, main: impl Future<Output = ()> + Send + 'static) {
        let shared = &self.0.0;
        shared.lock().over = false;
        port.defer(true);
        let (all, its_port) = (Arc::clone(shared), port.clone());
        self.0.spawn(async move {
            main.await;
            all.end(&its_port);
        });
        shared.work(port);
        port.defer(false);
    }

    /// Runs tasks on this thread too, until the `main` of [`Self::run`] has ended.
    pub fn help(&self, port: &Port) {
        self.0.0.work(port);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let rest = {
            let mut queue = self.0.0.lock();
            queue.free.clear();
            std::mem::take(&mut queue.table)
        };
        drop(rest);
    }
}
