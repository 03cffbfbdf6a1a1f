// SPDX-License-Identifier: Apache-2.0

//! The calls that wait for external events, and which of them hold a slot of the sallyport.
//!
//! A silent peer must not block the program's other calls. So only a few of these calls are with the host at
//! a time; the host watches the handles of the others with [`Call::Poll`], and a call is made once its
//! handle is ready. All of this holds at most [`HELD_MAX`] slots; the rest is for calls that are answered at
//! once.
//!
//! Bookkeeping only, without the sallyport: [`super::state`] submits and collects.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use enarx_sallyport::layout::SLOTS;
use enarx_sallyport::poll::{self, ENTRIES_MAX, Events};
use enarx_sallyport::{Call, Reply, Ticket};

use super::answer::Answer;
use crate::error::{Errno, Result};

/// Slots for calls on a handle, made before it is known to be ready: the quick way of a few connections, and reads of files
/// ahead.
pub const DIRECT_MAX: usize = 24;
/// Calls of one stream or file in flight at a time, at most: those of a queue.
pub(crate) const CALLS_MAX: usize = 8;
/// As many of these in use leave room for calls that are made ahead: other connections find a slot still. Enough for the
/// reads and the writes of one connection that is fast in both directions.
const PLENTY: usize = 2 * CALLS_MAX;
const _: () = assert!(PLENTY < DIRECT_MAX);
/// Slots for calls that nothing can be watched of before they are made (connecting, looking up a name).
pub const OPENING_MAX: usize = 12;
/// Slots for calls on a handle that was seen to be ready.
pub const READY_MAX: usize = 8;
/// Slots for watching. More than one, so that a new handle does not cancel the wait for the others.
pub const WATCHES_MAX: usize = 4;
/// Slots that waiting calls hold together, at most.
pub const HELD_MAX: usize = DIRECT_MAX + OPENING_MAX + READY_MAX + WATCHES_MAX;

/// Most writes of output in flight.
pub const WRITES_MAX: usize = 12;

// There is room for output in flight and one call of every thread.
const _: () = assert!(HELD_MAX + WRITES_MAX < SLOTS as usize);

/// The name of a waiting call. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64);

/// The share of the slots that a call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// [`DIRECT_MAX`].
    Direct,
    /// [`OPENING_MAX`].
    Opening,
    /// [`READY_MAX`].
    Ready,
}

/// Slots in use by share.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    direct: usize,
    opening: usize,
    ready: usize,
}

impl Used {
    fn of(&mut self, share: Share) -> (&mut usize, usize) {
        match share {
            Share::Direct => (&mut self.direct, DIRECT_MAX),
            Share::Opening => (&mut self.opening, OPENING_MAX),
            Share::Ready => (&mut self.ready, READY_MAX),
        }
    }

    fn has_room(&mut self, share: Share) -> bool {
        let (used, max) = self.of(share);
        *used < max
    }

    fn take(&mut self, share: Share) {
        *self.of(share).0 += 1;
    }

    fn give_back(&mut self, share: Share) {
        let used = self.of(share).0;
        *used = used.saturating_sub(1);
    }
}

/// How far a call is.
#[derive(Clone, Debug)]
enum Stage {
    /// Not with the host, and not watched.
    Queued,
    /// The host watches its handle.
    Watched,
    /// Its handle was seen to be ready.
    Ready,
    /// With the host.
    Posted {
        ticket: Ticket,
        share: Share,
        /// The sleep before which it was posted.
        round: u64,
        called_back: bool,
    },
    /// Answered; the bytes are still in the slot's buffer.
    Held { reply: Reply, share: Share },
    /// Answered, with the bytes of the reply.
    Copied(Result<Answer>, Vec<u8>),
}

/// A call that waits for an external event.
#[derive(Debug)]
struct Wait {
    call: Call,
    /// For a call that is not posted at once.
    input: Vec<u8>,
    /// Bytes that earlier turns of the call have written.
    written: u32,
    stage: Stage,
    /// The task that waits for the answer, if it said so.
    waker: Option<Waker>,
}

impl Wait {
    fn is_write(&self) -> bool {
        matches!(self.call, Call::StreamWrite { .. })
    }

    /// Records the answer, and wakes the waiter.
    fn answer(&mut self, stage: Stage) {
        self.stage = stage;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The handle and direction whose readiness lets a call go on; `None` for calls that have to be with the host
/// to become ready: connecting, looking up a name.
fn watched(call: &Call) -> Option<poll::Entry> {
    let (handle, events) = match *call {
        Call::StreamRead { stream, .. } => (stream, Events::READ),
        Call::StreamWrite { stream, .. } => (stream, Events::WRITE),
        Call::TcpAccept { handle } | Call::UdpReceive { handle, .. } => (handle, Events::READ),
        Call::UdpSend { handle, .. } | Call::Shutdown { handle, .. } => (handle, Events::WRITE),
        _ => return None,
    };
    Some(poll::Entry { handle, events })
}

fn line(entry: poll::Entry) -> (u32, u8) {
    (entry.handle.0, entry.events.bits())
}

/// True if an answer carries a handle that somebody has to close.
pub fn makes_handle(call: &Call) -> bool {
    matches!(
        call,
        Call::TcpOpen { .. } | Call::UdpOpen { .. } | Call::TcpAccept { .. }
    )
}

/// The state of a waiting call.
#[derive(Debug)]
pub enum Outcome {
    /// Not answered yet.
    Waits,
    /// Answered; the bytes are in the slot's buffer, which is the caller's to release.
    Held(Reply),
    /// Answered, with the bytes.
    Copied(Result<Answer>, Vec<u8>),
}

/// The rest of a call that nobody waits for any more.
#[derive(Debug)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// The host still has the call. The share is returned with its reply: [`Waits::give_back`].
    Posted(Ticket, Share),
    /// A reply in a slot, to be released.
    Held(Reply),
    /// An answer that was copied.
    Copied(Result<Answer>),
}

/// The next step before a sleep.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything necessary is watched, or nothing more can be watched now.
    Sleep,
    /// A request that waits for the watched handles has to be made, with these to add, if any: [`Waits::watching`]
    /// when it is posted.
    Watch(Vec<Id>, Vec<poll::Entry>),
    /// There are too many such requests for another: this one has to be cancelled, which makes room at a later step.
    CallBack(Ticket),
}

/// A request that waits for the watched handles and is with the host.
#[derive(Debug)]
struct Watch {
    ticket: Ticket,
    called_back: bool,
}

/// The waiting calls.
#[derive(Debug, Default)]
pub struct Waits {
    table: BTreeMap<Id, Wait>,
    next: u64,
    used: Used,
    /// Calls that open something, in order, waiting for room.
    opening: VecDeque<Id>,
    /// Calls whose handle was seen to be ready, in that order.
    ready: VecDeque<Id>,
    /// Calls to be watched.
    queued: BTreeSet<Id>,
    /// The calls on one handle in one direction that were not submitted at once and are not answered, in
    /// their order: none overtakes an earlier one.
    lines: BTreeMap<(u32, u8), BTreeSet<Id>>,
    /// The calls whose handle the host watches: the first of their lines.
    watched: BTreeMap<(u32, u8), Id>,
    watches: Vec<Watch>,
    /// Sleeps so far.
    round: u64,
}

impl Waits {
    /// The share of a call that can be submitted at once; `None` if it has to be added with [`Self::add`].
    pub fn room(&mut self, call: &Call) -> Option<Share> {
        let share = match watched(call) {
            Some(entry) if self.lines.contains_key(&line(entry)) => return None,
            Some(_) => Share::Direct,
            None if self.opening.is_empty() => Share::Opening,
            None => return None,
        };
        self.used.has_room(share).then_some(share)
    }

    /// Records a call that was submitted at once.
    pub fn add_posted(&mut self, call: Call, ticket: Ticket, share: Share) -> Id {
        self.used.take(share);
        let stage = Stage::Posted {
            ticket,
            share,
            round: self.round,
            called_back: false,
        };
        self.insert(call, Vec::new(), stage)
    }

    /// Takes in a call that is submitted later.
    pub fn add(&mut self, call: Call, input: Vec<u8>) -> Id {
        let id = self.insert(call, input, Stage::Queued);
        if let Some(entry) = watched(&call) {
            self.queued.insert(id);
            self.lines.entry(line(entry)).or_default().insert(id);
        } else {
            self.opening.push_back(id);
        }
        id
    }

    fn insert(&mut self, call: Call, input: Vec<u8>, stage: Stage) -> Id {
        let id = Id(self.next);
        self.next = self.next.saturating_add(1);
        let wait = Wait {
            call,
            input,
            written: 0,
            stage,
            waker: None,
        };
        self.table.insert(id, wait);
        id
    }

    /// The next call to submit, and its input; call [`Self::posted`] when it is submitted.
    pub fn turn(&mut self) -> Option<(Id, Share, Call, &[u8])> {
        let (id, share) = match (self.opening.front(), self.ready.front()) {
            (Some(id), _) if self.used.has_room(Share::Opening) => (*id, Share::Opening),
            (_, Some(id)) if self.used.has_room(Share::Ready) => (*id, Share::Ready),
            _ => return None,
        };
        let wait = self.table.get(&id)?;
        Some((id, share, wait.call, &wait.input))
    }

    /// The call of [`Self::turn`] was submitted.
    pub fn posted(&mut self, id: Id, share: Share, ticket: Ticket) {
        self.opening.retain(|other| *other != id);
        self.ready.retain(|other| *other != id);
        self.used.take(share);
        if let Some(wait) = self.table.get_mut(&id) {
            wait.stage = Stage::Posted {
                ticket,
                share,
                round: self.round,
                called_back: false,
            };
        }
    }

    /// True if calls with a ready handle find no slot, because others whose handle was called ready wait.
    pub fn is_crowded(&mut self) -> bool {
        !self.ready.is_empty() && !self.used.has_room(Share::Ready)
    }

    /// The call to cancel so that one with a ready handle finds a slot: it has waited through a sleep, so its handle
    /// was not ready after all.
    pub fn call_back(&mut self) -> Option<Ticket> {
        if !self.is_crowded() {
            return None;
        }
        let now = self.round;
        self.table
            .values_mut()
            .find_map(|wait| match &mut wait.stage {
                Stage::Posted {
                    ticket,
                    share: Share::Ready,
                    round,
                    called_back,
                } if !*called_back && *round < now => {
                    *called_back = true;
                    Some(*ticket)
                }
                _ => None,
            })
    }

    /// True if the reply to this call has to be copied out of its slot at once ([`Self::answered`]) instead of held
    /// ([`Self::held`]): the share is small, and the program may not ask for it soon.
    pub fn wants_copy(&self, id: Id) -> bool {
        self.table.get(&id).is_none_or(|wait| {
            matches!(
                wait.stage,
                Stage::Posted {
                    share: Share::Ready,
                    ..
                }
            )
        })
    }

    /// The reply to a call is there, and stays in its slot.
    pub fn held(&mut self, id: Id, reply: Reply) {
        if let Some(wait) = self.table.get_mut(&id)
            && let Stage::Posted { share, .. } = wait.stage
        {
            wait.answer(Stage::Held { reply, share });
        }
    }

    /// The reply to a call was copied, and its slot released. A call that was called back is watched again.
    pub fn answered(&mut self, id: Id, mut answer: Result<Answer>, bytes: Vec<u8>) {
        let Some(wait) = self.table.get_mut(&id) else {
            return;
        };
        let Stage::Posted {
            share, called_back, ..
        } = wait.stage
        else {
            return;
        };
        self.used.give_back(share);
        let mut goes_on = called_back && answer == Err(Errno::Cancelled);
        if let (Call::StreamWrite { length, .. }, Ok(answer)) = (&mut wait.call, &mut answer) {
            let count = u32::try_from(answer.value).unwrap_or(*length).min(*length);
            if called_back && count < *length {
                wait.input.drain(..wait.input.len().min(count as usize));
                *length -= count;
                wait.written = wait.written.saturating_add(count);
                goes_on = true;
            } else {
                answer.value = u64::from(wait.written) + u64::from(count);
            }
        }
        if goes_on {
            wait.stage = Stage::Queued;
            self.queued.insert(id);
        } else {
            wait.answer(Stage::Copied(answer, bytes));
            let call = wait.call;
            self.leave_line(id, &call);
        }
    }

    /// The call is answered or given up: the next one on its handle may proceed, and nobody waits for an answer of the
    /// host to this one.
    fn leave_line(&mut self, id: Id, call: &Call) {
        let Some(line) = watched(call).map(line) else {
            return;
        };
        if self.watched.get(&line) == Some(&id) {
            self.watched.remove(&line);
        }
        if let Entry::Occupied(mut at) = self.lines.entry(line) {
            at.get_mut().remove(&id);
            if at.get().is_empty() {
                at.remove();
            }
        }
    }

    /// Returns the share of a call that was abandoned while the host had it.
    pub fn give_back(&mut self, share: Share) {
        self.used.give_back(share);
    }

    /// True if a call is answered.
    pub fn is_answered(&self, id: Id) -> bool {
        self.table
            .get(&id)
            .is_some_and(|wait| matches!(wait.stage, Stage::Held { .. } | Stage::Copied(..)))
    }

    /// True if most slots for calls that are made at once are free.
    pub fn leaves_plenty(&self) -> bool {
        self.used.direct < PLENTY
    }

    /// The reply to a call, if it is there and holds its slot.
    pub fn held_reply(&self, id: Id) -> Option<Reply> {
        match self.table.get(&id)?.stage {
            Stage::Held { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// True if a call holds a slot or is answered, and most slots of its kind are free.
    pub fn leaves_room(&self, id: Id) -> bool {
        let stage = self.table.get(&id).map(|wait| &wait.stage);
        self.leaves_plenty()
            && !matches!(
                stage,
                None | Some(Stage::Queued | Stage::Watched | Stage::Ready)
            )
    }

    /// Has `waker` woken when the call is answered, in place of an earlier one. True if the call is a write.
    pub fn wake(&mut self, id: Id, waker: &Waker) -> bool {
        self.table.get_mut(&id).is_some_and(|wait| {
            wait.waker = Some(waker.clone());
            wait.is_write()
        })
    }

    /// True if a task waits for a write that is with the host, or a call for the slot that one may hold.
    pub fn wants_writes(&self) -> bool {
        let is_awaited = |wait: &Wait| {
            wait.is_write() && wait.waker.is_some() && matches!(wait.stage, Stage::Posted { .. })
        };
        !self.opening.is_empty() || !self.ready.is_empty() || self.table.values().any(is_awaited)
    }

    /// True if some call waits for the host.
    pub fn any_waits(&self) -> bool {
        self.table
            .values()
            .any(|wait| !matches!(wait.stage, Stage::Held { .. } | Stage::Copied(..)))
    }

    /// Takes the answer of a call, which is then forgotten; a call that waits still is kept.
    pub fn take(&mut self, id: Id) -> Outcome {
        match self.table.remove(&id) {
            Some(Wait {
                stage: Stage::Held { reply, share },
                ..
            }) => {
                self.used.give_back(share);
                Outcome::Held(reply)
            }
            Some(Wait {
                stage: Stage::Copied(answer, bytes),
                ..
            }) => Outcome::Copied(answer, bytes),
            Some(wait) => {
                self.table.insert(id, wait);
                Outcome::Waits
            }
            None => Outcome::Copied(Err(Errno::Invalid), Vec::new()),
        }
    }

    /// Forgets a call.
    pub fn abandon(&mut self, id: Id) -> Remains {
        self.queued.remove(&id);
        self.opening.retain(|other| *other != id);
        self.ready.retain(|other| *other != id);
        if let Some(call) = self.call(id) {
            self.leave_line(id, &call);
        }
        match self.table.remove(&id).map(|wait| wait.stage) {
            Some(Stage::Posted { ticket, share, .. }) => Remains::Posted(ticket, share),
            Some(Stage::Held { reply, share }) => {
                self.used.give_back(share);
                Remains::Held(reply)
            }
            Some(Stage::Copied(answer, _)) => Remains::Copied(answer),
            Some(Stage::Queued | Stage::Watched | Stage::Ready) | None => Remains::Nothing,
        }
    }

    /// Forgets a write that is neither with the host nor answered; returns how many of its bytes the host has written.
    pub fn give_up(&mut self, id: Id) -> Option<u32> {
        let wait = self.table.get(&id)?;
        let written = wait.written;
        match wait.stage {
            Stage::Queued | Stage::Watched | Stage::Ready => {
                self.abandon(id);
                Some(written)
            }
            _ => None,
        }
    }

    /// The call to take back so that this write ends, if it is with the host and was not called back before.
    pub fn recall(&mut self, id: Id) -> Option<Ticket> {
        match &mut self.table.get_mut(&id)?.stage {
            Stage::Posted {
                ticket,
                called_back,
                ..
            } if !*called_back => {
                *called_back = true;
                Some(*ticket)
            }
            _ => None,
        }
    }

    /// The call with a name, unless it is forgotten.
    pub fn call(&self, id: Id) -> Option<Call> {
        self.table.get(&id).map(|wait| wait.call)
    }

    /// The step before a sleep.
    pub fn before_sleep(&mut self) -> Step {
        self.round = self.round.saturating_add(1);
        let next: Vec<(Id, poll::Entry)> = self.next_to_watch().collect();
        if next.is_empty() && (self.watched.is_empty() || !self.watches.is_empty()) {
            return Step::Sleep;
        }
        if self.watches.len() < WATCHES_MAX {
            let (ids, entries) = next.into_iter().unzip();
            return Step::Watch(ids, entries);
        }
        match self.watches.first_mut() {
            Some(watch) if !watch.called_back => {
                watch.called_back = true;
                Step::CallBack(watch.ticket)
            }
            _ => Step::Sleep,
        }
    }

    /// The calls to watch that wait for no other one on their handle.
    fn next_to_watch(&self) -> impl Iterator<Item = (Id, poll::Entry)> {
        self.queued
            .iter()
            .filter_map(|id| Some((*id, watched(&self.table.get(id)?.call)?)))
            .filter(|(id, entry)| {
                let line = self.lines.get(&line(*entry));
                line.is_none_or(|line| line.first() == Some(id))
            })
            .take(ENTRIES_MAX as usize)
    }

    /// The request of [`Step::Watch`] is with the host.
    pub fn watching(&mut self, ids: &[Id], ticket: Ticket) {
        for id in ids {
            self.queued.remove(id);
            if let Some(wait) = self.table.get_mut(id)
                && let Some(entry) = watched(&wait.call)
            {
                wait.stage = Stage::Watched;
                self.watched.insert(line(entry), *id);
            }
        }
        self.watches.push(Watch {
            ticket,
            called_back: false,
        });
    }

    /// A request that waited for the watched handles has ended, because these handles are ready or because it was
    /// cancelled. The host may name handles that nobody waits for any more.
    pub fn seen(&mut self, ticket: Ticket, ready: &[poll::Entry]) {
        self.watches.retain(|watch| watch.ticket != ticket);
        for poll::Entry { handle, events } in ready {
            for events in events.iter() {
                let entry = poll::Entry {
                    handle: *handle,
                    events,
                };
                if let Some(id) = self.watched.remove(&line(entry))
                    && let Some(wait) = self.table.get_mut(&id)
                {
                    wait.stage = Stage::Ready;
                    self.ready.push_back(id);
                }
            }
        }
    }
}
