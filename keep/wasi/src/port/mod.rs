// SPDX-License-Identifier: Apache-2.0

//! The Keep's side of the sallyport as WASI uses it: blocking calls, waiting operations, timers, and an
//! executor of futures that sleeps only when there is nothing to do.
//!
//! The host behind it is hostile. What it answers is checked by `enarx_sallyport`; a breach of the
//! protocol ends the Keep through [`Platform::violation`].
//!
//! Any thread may use a port. One that sleeps does so for all: the leader waits in the doorbell, without the
//! lock, and collects replies for the others, which wait until it has. When the leader has what it wants,
//! another takes its place.

pub(crate) mod queue;
mod tasks;
mod timers;
mod waits;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use enarx_sallyport::call::RESOLVED_SIZE;
use enarx_sallyport::keep::Violation;
use enarx_sallyport::layout::SLOTS;
use enarx_sallyport::poll::Entry;
use enarx_sallyport::{
    BUFFER_SIZE, Call, Doorbell, Handle, KeepEnd, Region, Reply, Status, SubmitError, Ticket, Until,
};

use self::timers::Timers;
use self::waits::{Id, Outcome, Remains, Share, Step, Waits, makes_handle};
use crate::error::{Errno, Result};

pub use self::tasks::{Spawner, Tasks};
pub use self::timers::Timer;

/// Most bytes that one call carries.
pub const MAX_TRANSFER: usize = BUFFER_SIZE as usize;

/// The ground the port stands on, as far as the port needs it.
pub trait Platform: Doorbell + Send + Sync {
    /// Ends the Keep because the host broke the protocol.
    fn violation(&self, violation: &Violation) -> !;
    /// Ends the Keep with this exit code.
    fn exit(&self, code: i32) -> !;
}

/// A completed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that were copied to the caller's buffer.
    pub length: usize,
    /// First value of the reply; its meaning depends on the call.
    pub value: u64,
    /// Second value of the reply.
    pub value2: u64,
}

/// The receiver of the reply in a slot.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// A thread that waits for it.
    Caller,
    /// A waiting operation.
    Wait(Id),
    /// A read that was made ahead.
    Ahead(Id),
    /// The watch over handles of waiting operations.
    Watch,
    /// Nobody any more. The share that it used, if any; true if a handle in the reply has to be closed.
    Abandoned {
        share: Option<Share>,
        makes_handle: bool,
    },
}

struct State {
    end: KeepEnd<Region>,
    platform: Arc<dyn Platform>,
    /// By slot.
    owners: [Option<Owner>; SLOTS as usize],
    /// Replies that their caller has not taken yet, by slot.
    replies: [Option<Reply>; SLOTS as usize],
    waits: Waits,
    timers: Timers,
    /// Calls whose answer does not matter, for which there was no slot.
    later: VecDeque<Call>,
    writes: Writes,
    /// A thread sleeps in the doorbell.
    has_leader: bool,
    /// When it wakes by itself; `None` if it sleeps until the host has something.
    leader_deadline: Option<Instant>,
    /// What it sleeps for: news if nobody waited for a write when it fell asleep.
    leader_until: Until,
    /// Sleeps for which the leader takes every completion, because somebody came to wait for a write during one for news.
    wary: u32,
    /// Threads that wait for the leader.
    followers: usize,
    /// How often replies were collected: whoever looked before looks again.
    collected: u64,
    /// When the host was last told to look.
    contact: Instant,
    /// The host is told of waiting calls once for a turn of tasks, not for each.
    defers: bool,
    /// There are waiting calls that it was not told of.
    untold: bool,
    /// How long an answer is looked for before the next sleep.
    patience: Duration,
    /// See [`Port::exchanges`].
    exchanges: Arc<AtomicU64>,
}

/// Writes to output streams that the host has not answered yet.
#[derive(Default)]
struct Writes {
    in_flight: VecDeque<Write>,
    /// Errors of such writes, told to the next writer of the stream.
    failed: Vec<(Handle, Errno)>,
    /// Bytes written to any stream so far.
    total: u64,
}

struct Write {
    stream: Handle,
    ticket: Ticket,
    length: usize,
}

/// So many bytes of output are written one call after the other, so that a program sees the error
/// of its own write; only whoever writes more gets it with a later one.
const WRITE_THROUGH: u64 = 64 * 1024;

/// How long an answer of a host that polls is looked for before a sleep, if the last one came in this time: a sleep takes
/// longer, where it takes long.
const PATIENCE: Duration = Duration::from_micros(100);

/// The same if the last one did not come.
const IMPATIENCE: Duration = Duration::from_micros(10);

/// Pauses between two such looks, in spin-loop hints.
const SPINS_BETWEEN_LOOKS: u32 = 16;

/// Sleeps that a leader takes every completion for, after somebody came to wait for a write during one for news.
const WARY: u32 = 64;

/// Most writes on their way.
const WRITES_MAX: usize = 12;

/// A program that looks for readiness again and again without ever sleeping makes the host look this often.
const CONTACT_INTERVAL: Duration = Duration::from_millis(1);

/// How long the end of a Keep waits for room in a full ring. A host that makes none is told by the platform alone.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// How long calls whose handle was called ready are given, while others wait for their slots.
const CROWDED_INTERVAL: Duration = Duration::from_millis(1);

thread_local! {
    /// The earliest time at which the future that this thread runs wants to be polled again.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl State {
    /// Posts a call, of which the host is to be told; `None` when there is no slot now.
    fn try_submit(&mut self, call: &Call, input: &[&[u8]], owner: Owner) -> Result<Option<Ticket>> {
        match self.end.submit(call, input) {
            Ok(ticket) => {
                self.count_exchange();
                if let Some(place) = self.owners.get_mut(ticket.slot()) {
                    *place = Some(owner);
                }
                Ok(Some(ticket))
            }
            Err(SubmitError::Full) => Ok(None),
            Err(SubmitError::Length) => Err(Errno::Invalid),
            Err(SubmitError::Violation(violation)) => self.platform.violation(&violation),
        }
    }

    /// Counts an exchange. Who could know of it, knows by way of a lock: nothing more has to be ordered.
    fn count_exchange(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the host about a call that waits for somebody outside, at once or at the end of the turn. Before a sleep
    /// nothing has to be told: the host looks.
    fn announce(&mut self) {
        if self.defers {
            self.untold = true;
        } else {
            self.ring();
        }
    }

    /// Takes in a call that was posted, of which the host was not told yet.
    fn name(
        &mut self,
        call: &Call,
        ticket: Ticket,
        share: Share,
        owner: impl FnOnce(Id) -> Owner,
    ) -> Id {
        let id = self.waits.add_posted(*call, ticket, share);
        if let Some(place) = self.owners.get_mut(ticket.slot()) {
            *place = Some(owner(id));
        }
        self.untold = true;
        id
    }

    /// Tells the host about waiting calls that it was not told of.
    fn tell(&mut self) {
        if self.untold {
            self.ring();
        }
    }

    /// Tells the host about what was submitted, unless it looks by itself.
    fn ring(&mut self) {
        self.untold = false;
        if self.end.doorbell_needed() {
            self.contact = Instant::now();
            self.platform.ring();
        }
    }

    /// Collects replies, and submits what they make room for. False if there were none.
    fn reap(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.end.reap() {
                Ok(Some(reply)) => {
                    any = true;
                    self.deliver(reply);
                }
                Ok(None) => break,
                Err(violation) => self.platform.violation(&violation),
            }
        }
        if any {
            self.collected = self.collected.wrapping_add(1);
            self.advance();
        }
        any
    }

    fn deliver(&mut self, reply: Reply) {
        let slot = reply.ticket.slot();
        let owner = self.owners.get_mut(slot).and_then(Option::take);
        if !matches!(owner, Some(Owner::Ahead(_) | Owner::Abandoned { .. })) {
            self.count_exchange();
        }
        match owner {
            Some(Owner::Caller) => {
                if let Some(place) = self.replies.get_mut(slot) {
                    *place = Some(reply);
                }
            }
            Some(Owner::Wait(id)) if self.waits.wants_copy(id) => {
                let mut bytes = vec![0; reply.length as usize];
                let answer = self.finish(&reply, &mut bytes);
                self.waits.answered(id, answer, bytes);
            }
            Some(Owner::Wait(id) | Owner::Ahead(id)) => self.waits.held(id, reply),
            Some(Owner::Watch) => {
                let mut seen = vec![0; reply.length as usize];
                // One that was called back says nothing.
                let length = self.finish(&reply, &mut seen).map_or(0, |it| it.length);
                let (entries, rest) = seen.get(..length).unwrap_or_default().as_chunks();
                let entries: Option<Vec<_>> =
                    entries.iter().map(|it| Entry::from_bytes(*it)).collect();
                match entries.filter(|_| rest.is_empty()) {
                    Some(entries) => self.waits.seen(reply.ticket, &entries),
                    None => self.platform.violation(&self.end.condemn()),
                }
            }
            Some(Owner::Abandoned {
                share,
                makes_handle,
            }) => {
                if let Some(share) = share {
                    self.waits.give_back(share);
                }
                if let Ok(answer) = self.finish(&reply, &mut [])
                    && makes_handle
                {
                    self.close(answer.value);
                }
            }
            // The ring delivers only what was submitted, and submitting names the owner.
            None => self.end.release(reply.ticket),
        }
    }

    /// Submits what waits for a slot, as far as there are any.
    fn advance(&mut self) {
        while let Some((id, share, call, input)) = self.waits.turn() {
            match self.end.submit(&call, &[input]) {
                Ok(ticket) => {
                    self.count_exchange();
                    if let Some(place) = self.owners.get_mut(ticket.slot()) {
                        *place = Some(Owner::Wait(id));
                    }
                    self.waits.posted(id, share, ticket);
                    self.announce();
                }
                // The length was checked when the call was taken in.
                Err(SubmitError::Full | SubmitError::Length) => break,
                Err(SubmitError::Violation(violation)) => self.platform.violation(&violation),
            }
        }
        if self.is_led_by_news() && self.waits.wants_writes() {
            self.expect();
        }
        self.post_later();
    }

    fn post_later(&mut self) {
        while let Some(call) = self.later.front().copied() {
            let owner = Owner::Abandoned {
                share: None,
                makes_handle: makes_handle(&call),
            };
            match self.try_submit(&call, &[], owner) {
                Ok(None) => return,
                Ok(Some(_)) => {
                    self.later.pop_front();
                    self.announce();
                }
                Err(_) => {
                    self.later.pop_front();
                }
            }
        }
    }

    /// Posts a call whose answer does not matter; if there is no slot, later.
    fn post(&mut self, call: Call) {
        self.later.push_back(call);
        self.post_later();
    }

    /// Closes a handle that nobody has got.
    fn close(&mut self, value: u64) {
        if let Ok(handle) = u32::try_from(value) {
            self.later.push_back(Call::Close {
                handle: Handle(handle),
            });
        }
    }

    /// Prepares a sleep of a thread that waits for operations: has their handles watched. Returns the longest
    /// time to sleep, if there is one.
    fn watch(&mut self) -> Option<Duration> {
        while let Some(ticket) = self.waits.call_back() {
            self.later.push_back(Call::Cancel { id: ticket.id() });
        }
        self.post_later();
        match self.waits.before_sleep() {
            Step::Sleep => {}
            Step::Watch(ids, entries) => {
                let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                let input: Vec<u8> = entries.iter().flat_map(|it| it.to_bytes()).collect();
                let call = Call::Poll { count };
                if let Ok(Some(ticket)) = self.try_submit(&call, &[&input], Owner::Watch) {
                    self.waits.watching(&ids, ticket);
                    self.announce();
                }
            }
            Step::CallBack(ticket) => {
                self.later.push_back(Call::Cancel { id: ticket.id() });
                self.post_later();
            }
        }
        self.waits.is_crowded().then_some(CROWDED_INTERVAL)
    }

    /// The completions that end a sleep now of a thread that itself waits for none: news, if nobody waits for a write.
    fn awaited(&mut self) -> Until {
        if self.wary > 0 {
            self.wary -= 1;
            return Until::Completion;
        }
        let is_idle = self.followers == 0
            && self.later.is_empty()
            && self.writes.in_flight.is_empty()
            && !self
                .owners
                .iter()
                .any(|it| matches!(it, Some(Owner::Caller)))
            && !self.waits.wants_writes();
        if is_idle {
            Until::News
        } else {
            Until::Completion
        }
    }

    /// True if a thread sleeps that does not hear of writes.
    fn is_led_by_news(&self) -> bool {
        self.has_leader && self.leader_until == Until::News
    }

    /// Somebody has come to wait for a write, or for another thread that may: whoever sleeps has to hear of writes, too.
    fn expect(&mut self) {
        if self.is_led_by_news() {
            self.leader_until = Until::Completion;
            self.wary = WARY;
            self.nudge();
            self.tell();
        }
    }

    /// Wakes the leader: the host answers this call at once.
    fn nudge(&mut self) {
        self.leader_deadline = Some(Instant::now());
        self.post(Call::ClockWall);
    }

    /// Takes the reply to a call of [`Owner::Caller`].
    fn take(&mut self, ticket: Ticket) -> Option<Reply> {
        self.replies.get_mut(ticket.slot()).and_then(Option::take)
    }

    fn finish(&mut self, reply: &Reply, output: &mut [u8]) -> Result<Answer> {
        let answer = self.read(reply, output);
        self.end.release(reply.ticket);
        answer
    }

    fn read(&mut self, reply: &Reply, output: &mut [u8]) -> Result<Answer> {
        if reply.status != Status::Ok {
            return Err(errno(reply.status));
        }
        let length = output.len().min(reply.length as usize);
        if let Some(output) = output.get_mut(..length) {
            self.end
                .read_reply(reply, 0, output)
                .map_err(|_| Errno::Io)?;
        }
        Ok(Answer {
            length,
            value: reply.value,
            value2: reply.value2,
        })
    }

    /// Collects the answers of the oldest writes, as far as they are there.
    fn collect_writes(&mut self) {
        self.reap();
        while let Some(ticket) = self.writes.in_flight.front().map(|write| write.ticket) {
            let Some(reply) = self.take(ticket) else {
                return;
            };
            let answer = self.finish(&reply, &mut []);
            let Some(write) = self.writes.in_flight.pop_front() else {
                return;
            };
            let outcome = match answer {
                Ok(answer) if answer.value == write.length as u64 => continue,
                Ok(_) => Errno::Io,
                Err(error) => error,
            };
            self.writes.failed.push((write.stream, outcome));
        }
    }

    /// Takes what is known of an operation, and copies its bytes to `output`; `None` while it waits.
    fn outcome(&mut self, id: Id, output: &mut [u8]) -> Option<Result<Answer>> {
        match self.waits.take(id) {
            Outcome::Waits => None,
            Outcome::Held(reply) => Some(self.finish(&reply, output)),
            Outcome::Copied(answer, bytes) => Some(answer.map(|answer| {
                let length = bytes.len().min(output.len());
                if let (Some(output), Some(bytes)) = (output.get_mut(..length), bytes.get(..length))
                {
                    output.copy_from_slice(bytes);
                }
                Answer { length, ..answer }
            })),
        }
    }

    /// Forgets an operation: calls it back if the host has it, and closes what it has made.
    fn abandon(&mut self, id: Id) {
        let call = self.waits.call(id);
        let makes_handle = call.is_some_and(|call| makes_handle(&call));
        let answer = match self.waits.abandon(id) {
            Remains::Nothing => None,
            Remains::Posted(ticket, share) => {
                if let Some(place) = self.owners.get_mut(ticket.slot()) {
                    *place = Some(Owner::Abandoned {
                        share: Some(share),
                        makes_handle,
                    });
                }
                // A file is read at once: before the host could be told.
                if !matches!(call, Some(Call::ReadAt { .. })) {
                    self.later.push_back(Call::Cancel { id: ticket.id() });
                }
                None
            }
            Remains::Held(reply) => self.finish(&reply, &mut []).ok(),
            Remains::Copied(answer) => answer.ok(),
        };
        if let Some(answer) = answer
            && makes_handle
        {
            self.close(answer.value);
        }
        self.advance();
    }
}

struct Shared {
    state: Mutex<State>,
    /// Told to followers: replies were collected, or there is no leader any more.
    news: Condvar,
    platform: Arc<dyn Platform>,
    /// See [`Port::exchanges`].
    exchanges: Arc<AtomicU64>,
}

type Guard<'a> = MutexGuard<'a, State>;

impl Shared {
    fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects replies, also for threads that wait for the leader. False if there were none.
    fn reap(&self, state: &mut Guard<'_>) -> bool {
        let any = state.reap();
        if any && state.followers > 0 {
            self.news.notify_all();
        }
        any
    }

    /// Wakes the tasks whose time has come; whether there was any.
    fn fire(&self, state: &mut Guard<'_>) -> bool {
        let any = state.timers.fire(Instant::now());
        if any && state.followers > 0 {
            self.news.notify_all();
        }
        any
    }

    /// Waits until replies were collected, by this thread or another, or until the deadline. May return early.
    fn sleep<'a>(&'a self, state: Guard<'a>, deadline: Option<Instant>) -> Guard<'a> {
        self.sleep_until(state, Until::Completion, deadline)
    }

    /// As [`Self::sleep`]; of a thread that leads, these completions end the sleep.
    fn sleep_until<'a>(
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
            state.followers -= 1;
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
        if state.followers > 0 {
            self.news.notify_all();
        }
        state
    }

    /// Looks for answers of a host that polls, for a short while; whether there are any. Others have the lock between two looks.
    fn look_for_answers<'a>(
        &'a self,
        mut state: Guard<'a>,
        deadline: Option<Instant>,
    ) -> (Guard<'a>, bool) {
        if !state.end.host_polls() {
            return (state, false);
        }
        let now = Instant::now();
        let end = now.checked_add(state.patience).unwrap_or(now);
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        loop {
            if state.end.has_completions() {
                state.patience = PATIENCE;
                return (state, true);
            }
            if !state.end.host_polls() || Instant::now() >= end {
                state.patience = IMPATIENCE;
                return (state, false);
            }
            drop(state);
            for _ in 0..SPINS_BETWEEN_LOOKS {
                std::hint::spin_loop();
            }
            state = self.lock();
        }
    }

    /// Posts a call that is answered at once, waiting for a slot.
    fn submit<'a>(
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

    fn wait_for<'a>(&'a self, mut state: Guard<'a>, ticket: Ticket) -> (Guard<'a>, Reply) {
        loop {
            self.reap(&mut state);
            if let Some(reply) = state.take(ticket) {
                return (state, reply);
            }
            state = self.sleep(state, None);
        }
    }

    /// Waits until at most `allowed` writes are on their way.
    fn settle_writes<'a>(&'a self, mut state: Guard<'a>, allowed: usize) -> Guard<'a> {
        loop {
            state.collect_writes();
            if state.writes.in_flight.len() <= allowed {
                return state;
            }
            state = self.sleep(state, None);
        }
    }
}

/// A handle of the sallyport; clones share it.
#[derive(Clone)]
pub struct Port(Arc<Shared>);

impl Port {
    /// Takes the Keep's end of a region.
    pub fn new(end: KeepEnd<Region>, platform: Arc<dyn Platform>) -> Self {
        let exchanges = Arc::<AtomicU64>::default();
        let state = State {
            end,
            platform: Arc::clone(&platform),
            owners: [None; SLOTS as usize],
            replies: [None; SLOTS as usize],
            waits: Waits::default(),
            timers: Timers::default(),
            later: VecDeque::new(),
            writes: Writes::default(),
            has_leader: false,
            leader_deadline: None,
            leader_until: Until::Completion,
            wary: 0,
            followers: 0,
            collected: 0,
            contact: Instant::now(),
            defers: false,
            untold: false,
            patience: PATIENCE,
            exchanges: Arc::clone(&exchanges),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            news: Condvar::new(),
            platform,
            exchanges,
        }))
    }

    /// Makes a call and waits for its end; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// The host's answer, if it is an error, or [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn call(&self, call: &Call, input: &[&[u8]], output: &mut [u8]) -> Result<Answer> {
        let (state, ticket) = self.0.submit(self.0.lock(), call, input);
        let (mut state, reply) = self.0.wait_for(state, ticket?);
        state.finish(&reply, output)
    }

    /// Writes all of `bytes` to an output stream. What is written to several streams reaches the
    /// host in the order of the calls; it is with the host at the latest when the Keep ends.
    ///
    /// # Errors
    /// The host's error for this write or, once much has been written, for an earlier one.
    pub fn write(&self, stream: Handle, bytes: &[u8]) -> Result<()> {
        let shared = &*self.0;
        let mut state = shared.lock();
        if state.writes.in_flight.iter().any(|w| w.stream != stream) {
            state = shared.settle_writes(state, 0);
        }
        for chunk in bytes.chunks(MAX_TRANSFER) {
            let call = Call::StreamWrite {
                stream,
                // At most MAX_TRANSFER.
                length: u32::try_from(chunk.len()).map_err(|_| Errno::Invalid)?,
            };
            let (submitted, ticket) = shared.submit(state, &call, &[chunk]);
            state = submitted;
            state.writes.in_flight.push_back(Write {
                stream,
                ticket: ticket?,
                length: chunk.len(),
            });
            let allowed = if state.writes.total < WRITE_THROUGH {
                0
            } else {
                WRITES_MAX - 1
            };
            state.writes.total = state.writes.total.saturating_add(chunk.len() as u64);
            state = shared.settle_writes(state, allowed);
            let failed = &mut state.writes.failed;
            if let Some(place) = failed.iter().position(|(other, _)| *other == stream) {
                return Err(failed.swap_remove(place).1);
            }
        }
        Ok(())
    }

    /// Starts a call that may wait for somebody outside; its answer is collected later. However many of them
    /// wait, other calls go on.
    ///
    /// # Errors
    /// [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn start(&self, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        let mut state = self.0.lock();
        let operation = self.take_in(&mut state, call, input)?;
        if !state.defers {
            state.tell();
        }
        Ok(operation)
    }

    /// As [`Self::start`], but the host is not told yet: a thread that sleeps next tells it of everything at once, and one
    /// that does not calls [`Self::tell`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prepare(&self, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        self.take_in(&mut self.0.lock(), call, input)
    }

    /// Takes in a call that waits for somebody outside, and posts it if there is a slot.
    fn take_in(&self, state: &mut Guard<'_>, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        let length = input.iter().map(|part| part.len()).sum::<usize>();
        if call.check().is_err() || length != call.input_length() as usize {
            return Err(Errno::Invalid);
        }
        self.0.reap(state);
        let share = state.waits.room(call);
        // The owner is named below, once the operation has a name; nothing is collected before that.
        let ticket = match share {
            Some(_) => state.try_submit(call, input, Owner::Caller)?,
            None => None,
        };
        let id = if let (Some(share), Some(ticket)) = (share, ticket) {
            state.name(call, ticket, share, Owner::Wait)
        } else {
            let id = state.waits.add(*call, input.concat());
            state.advance();
            // Its slot may be that of a write.
            state.expect();
            id
        };
        Ok(Operation {
            port: self.clone(),
            id: Some(id),
        })
    }

    /// Starts a read of a file before its answer is wanted. The host, which answers it at once, is not told yet. It counts
    /// among no exchanges. `None` if few slots are left.
    pub(crate) fn read_ahead(&self, call: &Call) -> Option<Operation> {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        if !state.waits.leaves_plenty() {
            return None;
        }
        // The owner is named below, as in `take_in`.
        let ticket = match state.end.submit(call, &[]) {
            Ok(ticket) => ticket,
            Err(SubmitError::Full | SubmitError::Length) => return None,
            Err(SubmitError::Violation(violation)) => self.0.platform.violation(&violation),
        };
        Some(Operation {
            port: self.clone(),
            id: Some(state.name(call, ticket, Share::Direct, Owner::Ahead)),
        })
    }

    /// A number that has changed if anything was told to the outside or learnt from it since: calls, their answers, the
    /// time. Reads ahead are none of that: as long as it stays the same, nobody can tell whether the bytes of a file were
    /// read a moment ago or are read now.
    pub(crate) fn exchanges(&self) -> u64 {
        self.0.exchanges.load(Ordering::Relaxed)
    }

    /// Counts an exchange that is no call: somebody has learnt the time.
    pub(crate) fn count_exchange(&self) {
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts to look a name up; [`Operation::take_addresses`] takes the answer.
    ///
    /// # Errors
    /// [`Errno::NameTooLong`], and as [`Self::start`].
    pub fn resolve(&self, name: &str) -> Result<Operation> {
        let call = Call::Resolve {
            name_length: u32::try_from(name.len()).map_err(|_| Errno::NameTooLong)?,
        };
        self.start(&call, &[name.as_bytes()])
    }

    /// Tells the host of what was prepared, unless it knows.
    pub fn tell(&self) {
        self.0.lock().tell();
    }

    /// As [`Self::tell`], at once or at the end of the turn of tasks.
    pub(crate) fn announce(&self) {
        let mut state = self.0.lock();
        if !state.defers {
            state.tell();
        }
    }

    /// Posts a call whose answer does not matter. Never waits.
    pub fn post(&self, call: &Call) {
        self.0.lock().post(*call);
    }

    /// Asks that the future which this thread runs be polled again at `deadline`. True if that has passed.
    pub fn poll_deadline(&self, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            self.count_exchange();
            return true;
        }
        DEADLINE.with(|earliest| {
            let other = earliest.get().unwrap_or(deadline);
            earliest.set(Some(deadline.min(other)));
        });
        false
    }

    /// Returns a future that waits until `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Timer {
        Timer::new(self.clone(), deadline)
    }

    /// Runs a future to its end. Whatever its parts wait for is an [`Operation`], a deadline of
    /// this port, or a waker of their own.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut slept = false;
        loop {
            DEADLINE.set(None);
            let before = self.0.lock().collected;
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                if !slept {
                    self.let_host_look();
                }
                return output;
            }
            let mut state = self.0.lock();
            self.0.reap(&mut state);
            self.0.fire(&mut state);
            // Wakers are woken under the lock, so none is missed between this look and the sleep.
            let collected = state.collected != before;
            if woken.0.swap(false, Ordering::Relaxed) || collected {
                // One that always has something to do never sleeps, and the host looks all the same.
                Self::host_look(&mut state);
                continue;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            let timer = state.timers.next();
            let deadlines = DEADLINE.get().into_iter().chain(bound).chain(timer);
            drop(self.0.sleep(state, deadlines.min()));
            slept = true;
        }
    }

    /// Sleeps until there is an answer, or the next deadline, unless `has_work` says that there is something to do already.
    fn rest(&self, has_work: impl FnOnce() -> bool) {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        self.0.fire(&mut state);
        // Answers and deadlines wake tasks under the lock, so none is missed between this look and the sleep.
        if has_work() {
            Self::host_look(&mut state);
            return;
        }
        let bound = state.watch().map(|longest| Instant::now() + longest);
        let deadlines = bound.into_iter().chain(state.timers.next());
        let until = state.awaited();
        drop(self.0.sleep_until(state, until, deadlines.min()));
    }

    /// Takes what there is, and has the host look if it was not asked to for a while: for a thread that does not rest.
    fn look(&self) {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        self.0.fire(&mut state);
        Self::host_look(&mut state);
    }

    /// Tells the host of all that waits, and the thread that sleeps of earlier deadlines than it knows: for a thread that
    /// will not look for long. With `wakes` the one that sleeps is woken in any case.
    fn leave(&self, wakes: bool) {
        let mut state = self.0.lock();
        let bound = state.watch().map(|longest| Instant::now() + longest);
        let next = bound.into_iter().chain(state.timers.next()).min();
        let is_earlier =
            next.is_some_and(|next| state.leader_deadline.is_none_or(|until| next < until));
        if state.has_leader && (wakes || is_earlier) {
            state.nudge();
        }
        state.tell();
    }

    /// Has every thread that sleeps look at what it waits for: after a waker was woken that no answer of the host wakes.
    pub fn rouse(&self) {
        let mut state = self.0.lock();
        state.collected = state.collected.wrapping_add(1);
        if state.followers > 0 {
            self.0.news.notify_all();
        }
        if state.has_leader {
            state.nudge();
        }
        state.tell();
    }

    /// Has the host told of waiting calls once for a turn, or each time.
    fn defer(&self, defers: bool) {
        self.0.lock().defers = defers;
    }

    /// Lets the host look at what operations wait for, if it was not asked to for a while: a program may look
    /// for readiness for ever, with time-outs of zero, and never sleep.
    fn let_host_look(&self) {
        Self::host_look(&mut self.0.lock());
    }

    fn host_look(state: &mut State) {
        if state.waits.any_waits() && state.contact.elapsed() >= CONTACT_INTERVAL {
            state.watch();
            state.ring();
        }
    }

    /// The handle that a call has made.
    pub fn handle(&self, answer: &Answer) -> Handle {
        // It has 32 bits; the sallyport's protocol lets no other values through.
        Handle(u32::try_from(answer.value).unwrap_or_else(|_| self.bad_reply()))
    }

    /// Ends the Keep because the bytes of a reply do not decode.
    pub fn bad_reply(&self) -> ! {
        let violation = self.0.lock().end.condemn();
        self.0.platform.violation(&violation)
    }

    /// Ends the Keep: the host learns the code first.
    pub fn exit(&self, code: i32) -> ! {
        let mut state = self.0.settle_writes(self.0.lock(), 0);
        // Nobody needs what was to be closed or called back; the call to end needs the room.
        state.later.clear();
        let limit = Instant::now() + EXIT_LIMIT;
        let call = Call::Exit { code };
        while let Ok(None) = state.try_submit(&call, &[], Owner::Caller)
            && Instant::now() < limit
        {
            state = self.0.sleep(state, Some(limit));
        }
        self.0.platform.exit(code)
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A started call. Dropping it gives up its answer.
pub struct Operation {
    port: Port,
    /// `None` once the answer was taken.
    id: Option<Id>,
}

impl Operation {
    /// True if the answer is there.
    pub fn is_ready(&self) -> bool {
        let shared = &*self.port.0;
        let mut state = shared.lock();
        shared.reap(&mut state);
        self.id.is_some_and(|id| state.waits.is_answered(id))
    }

    /// True if the answer is there; if not, the task of `context` is woken when it is.
    pub fn poll_ready(&self, context: &Context<'_>) -> bool {
        let shared = &*self.port.0;
        let mut state = shared.lock();
        shared.reap(&mut state);
        let Some(id) = self.id else { return false };
        let answered = state.waits.is_answered(id);
        if !answered && state.waits.wake(id, context.waker()) {
            state.expect();
        }
        answered
    }

    /// Waits until the answer is there.
    pub async fn ready(&self) {
        std::future::poll_fn(|context| {
            if self.poll_ready(context) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until the answer is there, without yielding.
    pub(crate) fn wait(&self) {
        let shared = &*self.port.0;
        let mut state = shared.lock();
        loop {
            shared.reap(&mut state);
            if self.id.is_none_or(|id| state.waits.is_answered(id)) {
                return;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        }
    }

    /// Copies bytes of the answer from `offset` on, as far as they go, waiting for it without yielding. It stays where it
    /// is, to be asked for more. The bytes of the reply in all; `None` if it is an error, or was taken.
    pub(crate) fn copy(&self, offset: usize, output: &mut [u8]) -> Option<usize> {
        self.wait();
        let state = self.port.0.lock();
        let reply = state.waits.held_reply(self.id?)?;
        if reply.status != Status::Ok {
            return None;
        }
        let length = reply.length as usize;
        let count = output.len().min(length.saturating_sub(offset));
        let output = output.get_mut(..count)?;
        let offset = u32::try_from(offset).ok()?;
        state.end.read_reply(&reply, offset, output).ok()?;
        Some(length)
    }

    /// True if another call may be started behind this one before it is answered: it holds its slot, and many are left.
    pub(crate) fn leaves_room(&self) -> bool {
        let mut state = self.port.0.lock();
        self.port.0.reap(&mut state);
        self.id.is_some_and(|id| state.waits.leaves_room(id))
    }

    /// Takes the addresses that answer [`Port::resolve`]: those of IPv4 as such.
    ///
    /// # Errors
    /// As [`Self::take_bytes`].
    pub fn take_addresses(&mut self) -> Result<Vec<IpAddr>> {
        let (_, bytes) = self.take_bytes()?;
        let (addresses, _) = bytes.as_chunks::<{ RESOLVED_SIZE as usize }>();
        let addresses = addresses.iter();
        Ok(addresses
            .map(|octets| Ipv6Addr::from(*octets).to_canonical())
            .collect())
    }

    /// Takes an answer that is there, and the bytes of the reply.
    ///
    /// # Errors
    /// As [`Self::take`]; [`Errno::Again`] when it is not there yet.
    pub fn take_bytes(&mut self) -> Result<(Answer, Vec<u8>)> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let mut state = self.port.0.lock();
        let taken = match state.waits.take(id) {
            Outcome::Waits => return Err(Errno::Again),
            Outcome::Held(reply) => {
                let mut bytes = vec![0; reply.length as usize];
                state
                    .finish(&reply, &mut bytes)
                    .map(|answer| (answer, bytes))
            }
            Outcome::Copied(answer, bytes) => answer.map(|answer| (answer, bytes)),
        };
        self.id = None;
        // Its slot may be what others wait for.
        state.advance();
        taken
    }

    /// Takes the answer, waiting for it without yielding; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// The host's answer, if it is an error; [`Errno::Invalid`] when the answer was taken before.
    pub fn take(&mut self, output: &mut [u8]) -> Result<Answer> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let shared = &*self.port.0;
        let mut state = shared.lock();
        loop {
            shared.reap(&mut state);
            if let Some(answer) = state.outcome(id, output) {
                self.id = None;
                // Its slot may be what others wait for.
                state.advance();
                return answer;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        }
    }

    /// Takes a write back: the host, which is told at once, writes no more of it. Tells how many bytes it has written.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_back(&mut self) -> Result<usize> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let shared = &*self.port.0;
        let mut state = shared.lock();
        let written = loop {
            shared.reap(&mut state);
            if let Some(answer) = state.outcome(id, &mut []) {
                break answer.map(|answer| answer.value);
            }
            if let Some(written) = state.waits.give_up(id) {
                break Ok(written.into());
            }
            if let Some(ticket) = state.waits.recall(id) {
                state.post(Call::Cancel { id: ticket.id() });
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        };
        self.id = None;
        // Its slot may be what others wait for.
        state.advance();
        match written {
            Err(Errno::Cancelled) => Ok(0),
            written => usize::try_from(written?).map_err(|_| Errno::Overflow),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.port.0.lock().abandon(id);
        }
    }
}

/// The error number of a host's answer.
fn errno(status: Status) -> Errno {
    match status {
        // A way out of the directory is what Wasmtime calls not permitted.
        Status::Permission | Status::NotCapable => Errno::NotPermitted,
        Status::NoEntry | Status::Stale | Status::NameUnresolvable => Errno::NoEntry,
        Status::Interrupted => Errno::Interrupted,
        Status::BadHandle => Errno::BadDescriptor,
        Status::Again | Status::ResolverFailure => Errno::Again,
        Status::NoMemory | Status::NoBuffers => Errno::NoMemory,
        Status::Access => Errno::Access,
        Status::Busy => Errno::Busy,
        Status::Exists => Errno::Exists,
        Status::CrossDevice => Errno::CrossDevice,
        Status::NotDirectory => Errno::NotDirectory,
        Status::IsDirectory => Errno::IsDirectory,
        Status::Invalid => Errno::Invalid,
        Status::TooManyFiles | Status::TooManyHandles => Errno::TooManyDescriptors,
        Status::TextBusy => Errno::TextBusy,
        Status::FileTooLarge => Errno::FileTooLarge,
        Status::NoSpace | Status::Quota => Errno::NoSpace,
        Status::IllegalSeek => Errno::InvalidSeek,
        Status::ReadOnly => Errno::ReadOnly,
        Status::TooManyLinks => Errno::TooManyLinks,
        Status::Pipe => Errno::Pipe,
        Status::Range => Errno::Range,
        Status::NameTooLong => Errno::NameTooLong,
        Status::NotImplemented
        | Status::NotSupported
        | Status::ProtocolOption
        | Status::ProtocolNotSupported
        | Status::AddressFamily => Errno::NotSupported,
        Status::NotEmpty => Errno::NotEmpty,
        Status::Loop => Errno::Loop,
        Status::Overflow => Errno::Overflow,
        Status::IllegalSequence => Errno::IllegalByteSequence,
        Status::NotSocket => Errno::NotSocket,
        Status::MessageSize => Errno::MessageSize,
        Status::AddressInUse => Errno::AddressInUse,
        Status::AddressNotAvailable => Errno::AddressNotAvailable,
        Status::NetworkUnreachable | Status::NetworkDown => Errno::NetworkUnreachable,
        Status::ConnectionAborted => Errno::ConnectionAborted,
        Status::ConnectionReset | Status::NetworkReset => Errno::ConnectionReset,
        Status::NotConnected => Errno::NotConnected,
        Status::TimedOut => Errno::TimedOut,
        Status::ConnectionRefused => Errno::ConnectionRefused,
        Status::HostUnreachable => Errno::HostUnreachable,
        Status::Already => Errno::Already,
        Status::InProgress => Errno::InProgress,
        Status::Cancelled => Errno::Cancelled,
        _ => Errno::Io,
    }
}
