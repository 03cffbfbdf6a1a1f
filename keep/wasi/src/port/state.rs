// SPDX-License-Identifier: Apache-2.0

//! The state of a port, guarded by its lock: the calls in flight, the waiters for their replies, and output that the
//! host has not taken yet.
//!
//! Replies come from the host; a breach of the protocol ends the Keep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enarx_sallyport::keep::Violation;
use enarx_sallyport::layout::SLOTS;
use enarx_sallyport::poll::Entry;
use enarx_sallyport::{Call, Handle, KeepEnd, Region, Reply, Status, SubmitError, Ticket, Until};

use super::answer::{Answer, errno};
use super::exchanges::Exchanges;
use super::platform::Platform;
use super::timers::Timers;
use super::waits::{Id, Outcome, Remains, Share, Step, Waits, makes_handle};
use crate::error::{Errno, Result};

/// The receiver of the reply in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
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

/// The state of a port.
pub(super) struct State {
    pub(super) end: KeepEnd<Region>,
    pub(super) platform: Arc<dyn Platform>,
    /// By slot.
    pub(super) owners: [Option<Owner>; SLOTS as usize],
    /// Replies that their caller has not taken yet, by slot.
    pub(super) replies: [Option<Reply>; SLOTS as usize],
    pub(super) waits: Waits,
    pub(super) timers: Timers,
    /// Calls whose answer does not matter, for which there was no slot.
    pub(super) later: VecDeque<Call>,
    pub(super) writes: Writes,
    /// A thread sleeps in the doorbell.
    pub(super) has_leader: bool,
    /// When it wakes by itself; `None` if it sleeps until the host has something.
    pub(super) leader_deadline: Option<Instant>,
    /// The event that ends its sleep: news if nobody waited for a write when it fell asleep.
    pub(super) leader_until: Until,
    /// Sleeps for which the leader takes every completion, because somebody came to wait for a write during one for news.
    wary: u32,
    /// Threads that wait for the leader and were not notified yet.
    pub(super) followers: usize,
    /// The number of notifications.
    pub(super) notifications: u64,
    /// The number of times that replies were collected: whoever checked before checks again.
    pub(super) collected: u64,
    /// The time of the last notification to the host.
    pub(super) contact: Instant,
    /// The host is notified of waiting calls once per turn of tasks, not for each.
    pub(super) defers: bool,
    /// There are waiting calls of which it was not notified.
    pub(super) untold: bool,
    /// How long an answer is looked for before the next sleep.
    pub(super) patience: Duration,
    exchanges: Exchanges,
}

/// Writes to output streams that the host has not answered yet.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) in_flight: VecDeque<Write>,
    /// Errors of such writes, reported to the next writer of the stream.
    failed: Vec<(Handle, Errno)>,
    /// Bytes written to any stream so far.
    pub(super) total: u64,
}

/// A write that the host has not answered yet.
pub(super) struct Write {
    pub(super) stream: Handle,
    pub(super) ticket: Ticket,
    pub(super) length: usize,
}

impl Writes {
    /// Takes the errors of a stream's writes, and returns the first.
    pub(super) fn outcome(&mut self, stream: Handle) -> Result<()> {
        let mut failed = self.failed.extract_if(.., |(other, _)| *other == stream);
        let first = failed.next();
        failed.for_each(drop);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// How long an answer of a host that polls is looked for before a sleep, if the last one came in this time: a sleep takes
/// longer, where it takes long.
pub(super) const PATIENCE: Duration = Duration::from_micros(100);

/// Sleeps that a leader takes every completion for, after somebody came to wait for a write during one for news.
const WARY: u32 = 64;

/// A program that looks for readiness again and again without ever sleeping makes the host look this often.
const CONTACT_INTERVAL: Duration = Duration::from_millis(1);

/// How long calls whose handle was called ready are given, while others wait for their slots.
const CROWDED_INTERVAL: Duration = Duration::from_millis(1);

impl State {
    /// The state of a port on which nothing was called yet.
    pub(super) fn new(
        end: KeepEnd<Region>,
        platform: Arc<dyn Platform>,
        exchanges: Exchanges,
    ) -> Self {
        Self {
            end,
            platform,
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
            notifications: 0,
            collected: 0,
            contact: Instant::now(),
            defers: false,
            untold: false,
            patience: PATIENCE,
            exchanges,
        }
    }

    /// Posts a call, of which the host must be notified; `None` if there is no slot now.
    pub(super) fn try_submit(
        &mut self,
        call: &Call,
        input: &[&[u8]],
        owner: Owner,
    ) -> Result<Option<Ticket>> {
        match self.end.submit(call, input) {
            Ok(ticket) => {
                self.exchanges.count();
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

    /// Notifies the host of a call that waits for an external event, at once or at the end of the turn. Before a
    /// sleep no notification is needed, because the host looks.
    pub(super) fn announce(&mut self) {
        if self.defers {
            self.untold = true;
        } else {
            self.ring();
        }
    }

    /// Records a posted call of which the host was not notified yet.
    pub(super) fn name(
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

    /// Notifies the host of waiting calls that it does not know.
    pub(super) fn tell(&mut self) {
        if self.untold {
            self.ring();
        }
    }

    /// Notifies the host of submissions, unless it polls.
    pub(super) fn ring(&mut self) {
        self.untold = false;
        if self.end.doorbell_needed() {
            self.contact = Instant::now();
            self.platform.ring();
        }
    }

    /// Collects replies, and submits calls for which they make room. False if there were none.
    pub(super) fn reap(&mut self) -> bool {
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
            self.exchanges.count();
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
            Some(Owner::Watch) => match self.ready_handles(&reply) {
                Ok(entries) => self.waits.seen(reply.ticket, &entries),
                Err(violation) => self.platform.violation(&self.end.condemn(violation)),
            },
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

    /// The handles that the host reports as ready; none if the watch was called back, which leaves handles watched.
    /// Nobody would watch them after any other error, and their operations would wait forever.
    fn ready_handles(&mut self, reply: &Reply) -> std::result::Result<Vec<Entry>, Violation> {
        let mut bytes = vec![0; reply.length as usize];
        match self.finish(reply, &mut bytes) {
            Ok(_) | Err(Errno::Cancelled) => {}
            Err(_) => return Err(Violation::Refused),
        }
        let (entries, rest) = bytes.as_chunks();
        let entries: Option<_> = entries.iter().map(|it| Entry::from_bytes(*it)).collect();
        entries
            .filter(|_| rest.is_empty())
            .ok_or(Violation::BadReply)
    }

    /// Submits calls that wait for a slot, as far as there are any.
    pub(super) fn advance(&mut self) {
        while let Some((id, share, call, input)) = self.waits.turn() {
            match self.end.submit(&call, &[input]) {
                Ok(ticket) => {
                    self.exchanges.count();
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
        if self.sleeps_until_news() && self.waits.wants_writes() {
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
    pub(super) fn post(&mut self, call: Call) {
        self.later.push_back(call);
        self.post_later();
    }

    /// Closes a handle that nobody has received.
    fn close(&mut self, value: u64) {
        if let Ok(handle) = u32::try_from(value) {
            self.later.push_back(Call::Close {
                handle: Handle(handle),
            });
        }
    }

    /// Prepares a sleep of a thread that waits for operations: has their handles watched. Returns the longest
    /// time to sleep, if there is one.
    pub(super) fn watch(&mut self) -> Option<Duration> {
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

    /// Lets the host check what operations wait for, if it was not asked for a while: a program may poll for
    /// readiness forever, with time-outs of zero, and never sleep.
    pub(super) fn let_host_check(&mut self) {
        if self.waits.any_waits() && self.contact.elapsed() >= CONTACT_INTERVAL {
            self.watch();
            self.ring();
        }
    }

    /// The completions that end a sleep now of a thread that itself waits for none: news, if nobody waits for a write.
    pub(super) fn awaited(&mut self) -> Until {
        if self.wary > 0 {
            self.wary -= 1;
            return Until::Completion;
        }
        let has_caller = || {
            let mut owners = self.owners.iter();
            owners.any(|owner| matches!(owner, Some(Owner::Caller)))
        };
        let is_idle = self.followers == 0
            && self.later.is_empty()
            && self.writes.in_flight.is_empty()
            && !has_caller()
            && !self.waits.wants_writes();
        if is_idle {
            Until::News
        } else {
            Until::Completion
        }
    }

    /// True if a thread sleeps that does not hear of writes.
    fn sleeps_until_news(&self) -> bool {
        self.has_leader && self.leader_until == Until::News
    }

    /// Somebody has come to wait for a write, or for another thread that may: whoever sleeps has to hear of writes, too.
    pub(super) fn expect(&mut self) {
        if self.sleeps_until_news() {
            self.leader_until = Until::Completion;
            self.wary = WARY;
            self.nudge();
            self.tell();
        }
    }

    /// Wakes the leader: the host answers this call at once.
    pub(super) fn nudge(&mut self) {
        self.leader_deadline = Some(Instant::now());
        self.post(Call::ClockWall);
    }

    /// Takes the reply to a call of [`Owner::Caller`].
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Reply> {
        self.replies.get_mut(ticket.slot()).and_then(Option::take)
    }

    /// Takes a reply out of its slot, and copies its bytes to `output`.
    pub(super) fn finish(&mut self, reply: &Reply, output: &mut [u8]) -> Result<Answer> {
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
    pub(super) fn collect_writes(&mut self) {
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
                // The host has not given the reason.
                Ok(_) => Errno::Io,
                Err(error) => error,
            };
            self.writes.failed.push((write.stream, outcome));
        }
    }

    /// Takes the result of an operation, and copies its bytes to `output`; `None` while it waits.
    pub(super) fn outcome(&mut self, id: Id, output: &mut [u8]) -> Option<Result<Answer>> {
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

    /// Forgets an operation: cancels it if the host has it, and closes the handle that it has opened.
    pub(super) fn abandon(&mut self, id: Id) {
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
                // A file is read at once, before the host could be notified.
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
