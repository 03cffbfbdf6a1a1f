// SPDX-License-Identifier: Apache-2.0

//! Many tasks on one thread or several. Only those are polled that were woken, however many there are, each by whichever
//! thread is free.
//!
//! One idle thread waits for the host on behalf of all; the others wait for it. Some tasks have short turns, and some
//! may have long ones because a program computes in them. A computing program occupies one thread, and delays nothing
//! else for longer than one and a half [`WATCH`] while there is another idle thread.
//!
//! Waking a thread takes longer than most long turns, so a thread that begins one wakes another only if tasks would wait for longer
//! than [`WORTH`] otherwise, by the time that such turns took so far. While there is work, one of the threads without work looks
//! by itself, every [`WATCH`], whether all others are in a turn that is longer than was thought, and takes their place
//! (`docs/decisions/0028-another-thread-is-woken-for-work-that-would-wait.md`).
//!
//! A task waits for operations, timers and wakers of its own. A deadline of
//! [`Port::poll_deadline`](super::Port::poll_deadline), which only a poll finds out, wakes no task.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use super::handle::Port;

/// Number of turns after which a thread that always has work checks what the host has done.
const TURNS: u32 = 64;

/// Short turns that go before a long one, at most.
const SHORT_TURNS: u32 = 32;

/// Delay that justifies another thread: several times the time to wake one in a virtual machine where this is slow,
/// and about the time slice on a host with more threads than processors.
const WORTH: Duration = Duration::from_millis(4);

/// Time between two checks by an idle thread of what the others do.
const WATCH: Duration = Duration::from_millis(5);

/// Number of consecutive checks without a long turn in between, after which such a thread stops checking.
const QUIET_LOOKS: u32 = 4;

/// The typical length of long turns is a mean of which the last one makes up one part in this many.
const TURNS_OF_MEAN: u32 = 8;

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
    /// Notified to idle threads.
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
    /// Idle threads other than that one.
    resting: usize,
    /// Number of these that were notified of work, and have not run yet.
    notified: usize,
    /// One of these checks at intervals what the others do.
    is_watched: bool,
    /// Long turns that were begun.
    long_turns: u64,
    /// How long such a turn takes, typically.
    typical: Duration,
    /// The last time at which one began or ended.
    seen: Option<Instant>,
    /// Since then there has always been something to do.
    busy: Option<Instant>,
    over: bool,
}

/// The help that a thread asks for before it begins a long turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Help {
    /// Wakes one of the threads without work.
    wakes_one: bool,
    /// Wakes the thread that waits for the host.
    wakes_driver: bool,
    /// Another thread receives the host's answers in the meantime.
    is_attended: bool,
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

    /// Records that a long turn begins, and returns which help it needs, because otherwise the queue would have to
    /// wait for it.
    fn begin_long(&mut self, now: Instant) -> Help {
        self.long_turns = self.long_turns.wrapping_add(1);
        self.seen = Some(now);
        let waiting = u32::try_from(self.long.len()).unwrap_or(u32::MAX);
        let busy = now.saturating_duration_since(*self.busy.get_or_insert(now));
        let last = busy.saturating_add(self.typical.saturating_mul(waiting));
        let is_much = waiting > 0 && last > WORTH;
        let holds_up = !self.is_driven && (!self.is_watched || self.typical > WORTH);
        // A thread is notified once: this is a system call, and several turns pass until it runs.
        let wakes_one = self.notified < self.resting && (is_much || holds_up && self.notified == 0);
        self.notified += usize::from(wakes_one);
        Help {
            wakes_one,
            wakes_driver: self.resting == 0 && is_much,
            is_attended: self.notified > 0 || self.is_driven,
        }
    }

    /// Notes that a long turn, begun at `begin`, has ended.
    fn end_long(&mut self, begin: Instant, now: Instant) {
        self.seen = Some(now);
        let length = now.saturating_duration_since(begin);
        let rest = self.typical.saturating_mul(TURNS_OF_MEAN - 1);
        self.typical = rest.saturating_add(length) / TURNS_OF_MEAN;
    }

    /// True if all working threads have been in a turn for long, so that nobody receives the host's answers.
    fn is_held_up(&self, now: Instant) -> bool {
        let long = |seen| now.saturating_duration_since(seen) > WATCH / 2;
        !self.is_driven && self.seen.is_some_and(long)
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
                let begin = Instant::now();
                let help = queue.begin_long(begin);
                drop(queue);
                if help.wakes_one {
                    self.news.notify_one();
                }
                // If nobody receives answers, the host is notified of many things together.
                if help.is_attended {
                    port.leave(help.wakes_driver);
                }
                self.poll(place);
                let end = Instant::now();
                self.lock().end_long(begin, end);
            } else if queue.is_driven {
                queue.busy = None;
                drop(queue);
                port.leave(false);
                queue = self.lock();
                if queue.is_driven && !queue.has_work() {
                    queue = self.rest(queue);
                }
                continue;
            } else {
                queue.is_driven = true;
                queue.busy = None;
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

    /// Waits until this thread may have something to do.
    fn rest<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.resting += 1;
        let mut waits = true;
        if !queue.is_watched {
            queue.is_watched = true;
            (queue, waits) = self.watch(queue);
            queue.is_watched = false;
        }
        if waits {
            queue = self
                .news
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.resting -= 1;
        queue.notified = queue.notified.saturating_sub(1);
        queue
    }

    /// Checks at intervals what the others do; true once they have done nothing for a while, and this thread should
    /// wait until it is notified.
    fn watch<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> (MutexGuard<'a, Queue>, bool) {
        let (mut quiet, mut turns) = (0, queue.long_turns);
        while quiet < QUIET_LOOKS {
            let waited = self.news.wait_timeout(queue, WATCH);
            let (next, result) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = next;
            // It may have been notified between two waits.
            let is_called = queue.notified > 0 || queue.over;
            if !result.timed_out() || is_called || queue.is_held_up(Instant::now()) {
                return (queue, false);
            }
            quiet = if queue.long_turns == turns {
                quiet + 1
            } else {
                0
            };
            turns = queue.long_turns;
        }
        (queue, true)
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

    /// Runs `main` to its end, and the other tasks, on this thread and on those of [`Self::help`]. Those that have not
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

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(30);
    const SLOW: Duration = Duration::from_millis(10);

    /// A queue with this many long tasks, and idle threads, one of which checks at intervals.
    fn queue(waiting: usize, resting: usize) -> Queue {
        Queue {
            long: (0..waiting).collect(),
            resting,
            is_watched: resting > 0,
            ..Queue::default()
        }
    }

    /// Runs this many long turns of this length, one after the other, with a queue.
    fn turns(queue: &mut Queue, count: u32, length: Duration) -> Instant {
        let mut now = Instant::now();
        for _ in 0..count {
            queue.begin_long(now);
            queue.end_long(now, now + length);
            now += length;
        }
        queue.notified = 0;
        now
    }

    #[test]
    fn quick_turns_wake_no_thread_until_much_waits() {
        let mut queue = queue(4, 1);
        turns(&mut queue, 20, QUICK);
        queue.busy = None;
        let now = Instant::now();
        let nobody = Help {
            wakes_one: false,
            wakes_driver: false,
            is_attended: false,
        };
        assert_eq!(queue.begin_long(now), nobody);
        // The last of them would have waited for longer than it should.
        let later = now + WORTH;
        let one = Help {
            wakes_one: true,
            is_attended: true,
            ..nobody
        };
        assert_eq!(queue.begin_long(later), one);
        // It was notified, and runs.
        let attended = Help {
            is_attended: true,
            ..nobody
        };
        assert_eq!(queue.begin_long(later), attended);
        queue.notified = 0;
        queue.long = (0..200).collect();
        queue.busy = None;
        assert!(queue.begin_long(later).wakes_one);
        // Nothing waits, however long it has been at work.
        queue.notified = 0;
        queue.long.clear();
        assert_eq!(queue.begin_long(later + SLOW), nobody);
    }

    #[test]
    fn long_turns_begin_when_another_thread_waits_for_the_host() {
        let mut queue = queue(0, 1);
        turns(&mut queue, 20, SLOW);
        let now = Instant::now();
        assert!(queue.begin_long(now).wakes_one);
        // One that waits for it already is enough.
        queue.notified = 0;
        queue.is_driven = true;
        let help = queue.begin_long(now);
        assert!(!help.wakes_one && help.is_attended);
        // There is no other thread to wake for the waiting work.
        queue.resting = 0;
        queue.long = (0..2).collect();
        assert!(queue.begin_long(now).wakes_driver);
    }

    #[test]
    fn a_turn_is_long_if_no_thread_watches_the_others() {
        let mut queue = queue(0, 1);
        queue.is_watched = false;
        assert!(queue.begin_long(Instant::now()).wakes_one);
    }

    #[test]
    fn tasks_are_held_up_if_all_threads_are_in_long_turns() {
        let mut queue = queue(0, 1);
        let now = turns(&mut queue, 1, QUICK);
        queue.begin_long(now);
        assert!(!queue.is_held_up(now + QUICK));
        assert!(queue.is_held_up(now + WATCH));
        queue.is_driven = true;
        assert!(!queue.is_held_up(now + WATCH));
    }

    #[test]
    fn slow_turns_are_soon_forgotten() {
        let mut queue = queue(0, 1);
        turns(&mut queue, 8, SLOW);
        assert!(queue.typical > WORTH);
        turns(&mut queue, 20, QUICK);
        assert!(queue.typical < WORTH / 5, "{:?}", queue.typical);
    }
}
