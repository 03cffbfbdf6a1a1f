// SPDX-License-Identifier: Apache-2.0

//! The executor as shared by the threads of a VMM: which thread serves, which sleeps until there is work, and what
//! wakes and interrupts them. The Keep is not trusted; its requests are not parsed here.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enarx_sallyport::{Facts, HostEnd, Region, Until};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::io::Errno;

use crate::addresses::Judge;
use crate::error::ExecutorError;
use crate::executor::Executor;
use crate::grant::Grant;
use crate::handles::{Handles, Node};
use crate::launch::Objects;
use crate::log::Log;
use crate::lookups::Lookups;
use crate::rate::Bucket;
use crate::resolver::Resolver;
use crate::sleep::{long_timer, sleep};
use crate::step::Progress;
use crate::streams::Stream;
use crate::traffic::{Work, WorkDone};
use crate::watch::Watches;

/// The executor of one Keep, shared by the VMM's threads.
#[derive(Debug)]
pub struct SharedExecutor {
    executor: Mutex<Executor>,
    /// The Keep is being ended. Outside the lock, which a hanging thread may hold.
    interrupted: Arc<AtomicBool>,
    /// Held for a moment only; locked after the executor where both are.
    wakers: Mutex<Wakers>,
    log: Arc<Log>,
    work: WorkDone,
}

/// The threads that sleep, and how they are woken.
#[derive(Debug, Default)]
struct Wakers {
    /// Eventfds of the threads that sleep now.
    sleeping: Vec<Arc<OwnedFd>>,
    /// Eventfds that no thread uses.
    spare: Vec<Arc<OwnedFd>>,
}

impl Wakers {
    fn wake(&self) {
        for waker in &self.sleeping {
            // Fails only when the counter is full, and then it wakes already.
            let _ = rustix::io::write(&**waker, &1_u64.to_ne_bytes());
        }
    }
}

/// The eventfd that ends the sleep of a thread; `None` where the system gives no descriptors: a Keep outlives that, as
/// its sleeps are then short ones.
#[derive(Debug)]
struct Waker(Option<Arc<OwnedFd>>);

impl Waker {
    /// Longest sleep that nothing can end.
    const SHORT: Duration = Duration::from_millis(10);

    /// The entry of poll(2).
    fn poll(&self) -> Option<PollFd<'_>> {
        let waker = self.0.as_deref()?;
        Some(PollFd::new(waker, PollFlags::IN))
    }

    /// The end of a sleep until `deadline`.
    fn end(&self, deadline: Option<Instant>) -> Option<Instant> {
        if self.0.is_some() {
            return deadline;
        }
        let short = Instant::now() + Self::SHORT;
        Some(deadline.map_or(short, |deadline| deadline.min(short)))
    }
}

impl SharedExecutor {
    /// Prepares the shared region and serves it.
    ///
    /// `region` must stay mapped for as long as the executor lives (the promise of
    /// [`Region::from_raw`]).
    ///
    /// # Errors
    /// The system's, when standard error cannot be duplicated for the log, or the thread for look-ups
    /// of names (which exists only if the grant has them) cannot be started; one for a directory that may not be granted
    /// ([`crate::interfaces`]).
    pub fn new(
        region: Region,
        facts: Facts,
        grant: Grant,
        objects: Objects,
    ) -> std::io::Result<Self> {
        let lookups = Lookups::Thread;
        Self::with(region, facts, grant, objects, lookups)
    }

    /// As [`Self::new`]; `lookups` looks up names, if the grant has them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(
        region: Region,
        facts: Facts,
        grant: Grant,
        objects: Objects,
        lookups: Lookups,
    ) -> std::io::Result<Self> {
        let resolver = match lookups {
            _ if !grant.network.name_lookup => None,
            Lookups::Thread => Some(Resolver::start()?),
            Lookups::Process(client) => Some(Resolver::Process(client)),
        };
        let Grant {
            stdio: [stdin, stdout, stderr],
            directories,
            network,
            policy,
            evidence,
            door,
            listener,
            serves,
            rates,
        } = grant;
        let now = Instant::now();
        let log = Arc::new(Log::new(stderr.try_clone()?));
        let interrupted = Arc::new(AtomicBool::new(false));
        let streams = [
            Stream::input(stdin),
            Stream::output(stdout),
            Stream::output(stderr),
        ];
        let directories = directories
            .into_iter()
            .map(Node::granted)
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            executor: Mutex::new(Executor {
                end: HostEnd::initialise(region, facts),
                region,
                handles: Handles::new(streams, door, listener, directories),
                network,
                judge: Judge::new(policy),
                serves,
                evidence,
                resolver,
                news: 0,
                log: Arc::clone(&log),
                interrupted: Arc::clone(&interrupted),
                objects,
                requests: Bucket::new(rates.requests, now),
                syncs: Bucket::new(rates.syncs, now),
                moved: 0,
                pending: VecDeque::new(),
                watches: Watches::default(),
                watched: now,
                exit: None,
                polled: false,
            }),
            interrupted,
            wakers: Mutex::default(),
            log,
            work: WorkDone::default(),
        })
    }

    /// Performs a step of posted requests, and of waiting ones that can continue. Does not sleep.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn drain(&self) -> Result<Progress, ExecutorError> {
        if self.is_interrupted() {
            return Ok(Progress::Idle);
        }
        let (progress, wait) = self.step(&mut self.lock(), false)?;
        self.hold(wait)?;
        Ok(progress)
    }

    /// As [`Self::drain`], step after step, until nothing is left or the Keep is being ended.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn drain_all(&self) -> Result<Progress, ExecutorError> {
        loop {
            match self.drain()? {
                Progress::More => {}
                other => return Ok(other),
            }
        }
    }

    /// Performs a step, then sleeps until a completion of the kind `until` past `seen` is posted (`seen` is the number
    /// that the Keep has taken), the Keep asks to end, or `timeout` is over; `None` is without limit. A signal
    /// to the thread, or [`Self::interrupt`], ends the sleep early.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn wait(
        &self,
        seen: u32,
        until: Until,
        timeout: Option<Duration>,
    ) -> Result<Progress, ExecutorError> {
        self.wait_or_readable(seen, until, timeout, &[])
    }

    /// As [`Self::wait`]; also returns when one of `beside` is readable.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn wait_or_readable(
        &self,
        seen: u32,
        until: Until,
        timeout: Option<Duration>,
        beside: &[BorrowedFd<'_>],
    ) -> Result<Progress, ExecutorError> {
        // A time too far in the future means no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.is_interrupted() {
                return Ok(Progress::Idle);
            }
            let (waker, waited) = {
                let mut executor = self.lock();
                let (progress, wait) = self.step(&mut executor, true)?;
                if progress != Progress::Idle || executor.has_completed(seen, until) {
                    drop(executor);
                    self.hold(wait)?;
                    return Ok(progress);
                }
                // Under the lock: who completes something after this wakes this thread.
                let waker = self.register_sleeper();
                let pending = executor.pending.iter();
                let watches = executor.watches.source().into_iter();
                let waited: Vec<_> = pending
                    .map(|request| (Arc::clone(&request.fd), request.events))
                    .chain(watches.map(|epoll| (Arc::clone(epoll), PollFlags::IN)))
                    .collect();
                (waker, waited)
            };
            let mut fds: Vec<_> = beside
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            fds.extend(
                waited
                    .iter()
                    .map(|(fd, events)| PollFd::new(&**fd, *events)),
            );
            // Without one a stop makes the sleep longer, and nothing else.
            let timer = long_timer(deadline).unwrap_or_default();
            fds.extend(timer.iter().map(|timer| PollFd::new(timer, PollFlags::IN)));
            fds.extend(waker.poll());
            // An interruption sets this before it looks for sleepers, of which this thread is one now.
            let polled = if self.is_interrupted() {
                Ok(0)
            } else {
                sleep(&mut fds, waker.end(deadline.filter(|_| timer.is_none())))
            };
            let beside_ready = fds
                .get(..beside.len())
                .is_some_and(|fds| fds.iter().any(|fd| !fd.revents().is_empty()));
            self.awake(waker);
            match polled {
                Ok(0) | Err(Errno::INTR) => return self.drain(),
                Ok(_) if beside_ready => return self.drain(),
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Ends every sleep, now and later, and every step: the Keep is being ended. Takes no lock under
    /// which anything is done that can last.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.wakers().wake();
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Publishes to the Keep whether a host thread polls the submission ring, so that it need not ring.
    pub fn set_polling(&self, polling: bool) {
        let mut executor = self.lock();
        executor.polled = polling;
        executor.end.set_polling(polling);
    }

    /// Prints last messages of the Keep's C library, which come outside the ring.
    pub fn log_last_words(&self, bytes: &[u8]) {
        self.log.words(bytes);
    }

    /// The Keep has ended: ends the line of last words that it has not ended itself, and says what of the
    /// log was left out. Does not wait for threads that hang.
    pub fn finish_log(&self) {
        self.log.finish();
    }

    /// Submissions taken so far, modulo 2^32, and whether requests wait for a descriptor.
    pub fn activity(&self) -> (u32, bool) {
        let executor = self.lock();
        (
            executor.end.submissions_taken(),
            !executor.pending.is_empty() || !executor.watches.is_empty(),
        )
    }

    /// The work done for the Keep by the last step: what [`Traffic`](crate::traffic::Traffic) judges by. Takes no lock.
    pub fn work(&self) -> Work {
        self.work.get()
    }

    /// True if there is a completion of this kind after the first `seen` ones: the condition of [`Self::wait`].
    pub fn has_completed(&self, seen: u32, until: Until) -> bool {
        self.lock().has_completed(seen, until)
    }

    /// As [`Self::has_completed`], if a thread polls: that thread performs what else is posted, so the caller of
    /// [`Self::wait`] need not perform a step before the Keep goes on.
    pub fn is_served(&self, seen: u32, until: Until) -> bool {
        let executor = self.lock();
        executor.polled && executor.has_completed(seen, until)
    }

    /// Completions posted so far, modulo 2^32.
    pub fn completions_posted(&self) -> u32 {
        self.lock().end.completions_posted()
    }

    /// Drains, and wakes the sleepers when there is something new for them; how long the calling thread is then held
    /// back, because of the rate of requests.
    fn step(
        &self,
        executor: &mut Executor,
        falls_asleep: bool,
    ) -> Result<(Progress, Duration), ExecutorError> {
        let posted = executor.end.completions_posted();
        let newest = executor.newest();
        let taken = executor.end.submissions_taken();
        let progress = executor.drain(falls_asleep);
        let news = executor.end.completions_posted() != posted
            || executor.newest() != newest
            || !matches!(progress, Ok(Progress::Idle));
        if news {
            self.wakers().wake();
        }
        let requests = executor.end.submissions_taken();
        self.work.set(Work {
            requests,
            bytes: executor.moved,
        });
        let taken = requests.wrapping_sub(taken);
        let wait = match taken {
            0 => Duration::ZERO,
            _ => executor.requests.take_on_credit(taken, Instant::now()),
        };
        Ok((progress?, wait))
    }

    /// Delays the calling thread, without the lock, for this long or until the Keep is being ended.
    fn hold(&self, wait: Duration) -> Result<(), ExecutorError> {
        let end = Instant::now().checked_add(wait);
        while !wait.is_zero() && end.is_none_or(|end| Instant::now() < end) {
            // An interruption sets this before it looks for sleepers, of which this thread is one now.
            let waker = self.register_sleeper();
            let slept = if self.is_interrupted() {
                Ok(0)
            } else {
                let mut fds: Vec<_> = waker.poll().into_iter().collect();
                sleep(&mut fds, waker.end(end))
            };
            self.awake(waker);
            match slept {
                _ if self.is_interrupted() => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Enters the calling thread among the sleepers; what wakes it.
    fn register_sleeper(&self) -> Waker {
        let mut wakers = self.wakers();
        let waker = wakers.spare.pop().or_else(|| {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            eventfd(0, flags).ok().map(Arc::new)
        });
        wakers.sleeping.extend(waker.clone());
        Waker(waker)
    }

    fn awake(&self, waker: Waker) {
        let Some(waker) = waker.0 else { return };
        let mut wakers = self.wakers();
        wakers.sleeping.retain(|other| !Arc::ptr_eq(other, &waker));
        // Empties the eventfd for its next user; it does not block.
        let _ = rustix::io::read(&*waker, &mut [0; 8]);
        wakers.spare.push(waker);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Executor> {
        // A thread that panicked left a table that is still well formed.
        self.executor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        // Two lists are consistent between statements.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
