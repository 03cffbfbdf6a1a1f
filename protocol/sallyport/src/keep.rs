// SPDX-License-Identifier: Apache-2.0

//! The keep's end: submits calls, collects replies.
//!
//! Trusts nothing of the region. Requests are recorded in private memory; a completion is accepted only if
//! it answers a pending request of this generation, within the limits of that request.

use core::sync::atomic::Ordering;

use crate::call::{Call, ReplyLimits};
use crate::completion::Completion;
use crate::facts::Facts;
use crate::index::{advance_head, advance_tail};
use crate::layout::{
    BUFFER_SIZE, CQ_HEAD, CQ_TAIL, HOST_STATE, MAGIC, MAGIC_AT, OutOfRange, POLLING, SLOTS,
    SQ_HEAD, SQ_TAIL, Slot, TSC_KHZ_AT, VCPUS_AT, VERSION, VERSION_AT, WALL_NS_AT,
    completion_entry, request_entry, slot_of, submission_entry,
};
use crate::memory::SharedMemory;
use crate::status::Status;
use crate::types::Handle;

/// A breach of the protocol by the host. Final: the Keep cannot go on with this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A ring index of the host went back or ran ahead.
    #[error("the host moved a ring index out of range")]
    IndexOutOfRange,
    /// A completion for a slot that does not exist or was never used.
    #[error("the host completed a request that was never made")]
    UnknownId,
    /// A completion for an earlier use of a slot.
    #[error("the host completed a request of an earlier generation")]
    StaleGeneration,
    /// A second completion of a request.
    #[error("the host completed a request twice")]
    Repeated,
    /// A completion of [`Call::Exit`].
    #[error("the host completed an exit, which never completes")]
    ExitCompleted,
    /// A status without a name.
    #[error("the host sent an unknown status")]
    UnknownStatus,
    /// More bytes than the request allowed, or bytes together with an error.
    #[error("the host sent more bytes than were asked for")]
    LengthTooLarge,
    /// Fewer bytes than the reply has.
    #[error("the host sent fewer bytes than the reply has")]
    LengthTooSmall,
    /// A value beyond what the request allows, such as more bytes written than were given.
    #[error("the host sent a value that the request does not allow")]
    ValueTooLarge,
    /// A reserved field of a completion is not zero.
    #[error("the host used a reserved field of a completion")]
    Reserved,
    /// A reply's bytes do not decode; reported by [`KeepEnd::condemn`].
    #[error("the host sent a reply that does not decode")]
    BadReply,
    /// An error that the request does not have; reported by [`KeepEnd::condemn`].
    #[error("the host refused a request that cannot fail")]
    Refused,
}

/// The region is not one this end can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The region does not start with the magic number.
    #[error("the shared region was not initialised by the host")]
    NoMagic,
    /// The host speaks another version.
    #[error(
        "the host speaks version {0} of the sallyport, this Keep version {VERSION}: use a matching host"
    )]
    Version(u32),
}

/// Why a call was not submitted. Nothing was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// All slots are in use: collect and release replies first.
    #[error("all requests to the host are in use: collect replies first")]
    Full,
    /// The call's lengths exceed its buffer, or the input is not as long as the call says.
    #[error("the call's length does not fit its buffer or its input")]
    Length,
    /// The host broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The name of a submitted request: its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u32);

impl Ticket {
    /// The request's id, for [`Call::Cancel`].
    pub const fn id(self) -> u32 {
        self.0
    }

    /// The request's slot, as an index below [`SLOTS`]: for tables of waiters.
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// A checked completion. The bytes stay in the slot's buffer until the ticket is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request it answers.
    pub ticket: Ticket,
    /// How it ended.
    pub status: Status,
    /// Bytes of reply; within what the request allows, 0 unless the status is `Ok`.
    pub length: u32,
    /// Within what the request allows when the status is `Ok`; see [`Call`].
    pub value: u64,
    /// Within what the request allows when the status is `Ok`; see [`Call`].
    pub value2: u64,
}

impl Reply {
    /// The value as a handle, for the calls that make one.
    pub fn handle(&self) -> Option<Handle> {
        u32::try_from(self.value).ok().map(Handle)
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Free,
    Pending(Option<ReplyLimits>),
    /// Answered with this many bytes, not released yet.
    Held(u32),
}

#[derive(Clone, Copy, Debug)]
struct Use {
    generation: u16,
    state: State,
}

/// A waiting thread's view of the host, without the end of the Keep: [`KeepEnd::host_activity`].
#[derive(Clone, Debug)]
pub struct HostActivity<M> {
    memory: M,
    cq_head: u32,
}

impl<M: SharedMemory> HostActivity<M> {
    /// True if the host says that a thread of its polls the ring: an answer may come soon, and a
    /// short look is cheaper than sleep.
    pub fn host_polls(&self) -> bool {
        self.memory.load_u32(HOST_STATE, Ordering::Relaxed) & POLLING != 0
    }

    /// True if the host has posted something that was not taken when this view was made; [`KeepEnd::reap`] checks it.
    pub fn has_completions(&self) -> bool {
        self.memory.load_u32(CQ_TAIL, Ordering::Relaxed) != self.cq_head
    }
}

/// The keep's end of a region.
#[derive(Debug)]
pub struct KeepEnd<M> {
    memory: M,
    facts: Facts,
    uses: [Use; SLOTS as usize],
    /// Free slots; the most recently released one is used first, because its buffer is in the cache.
    free: [Slot; SLOTS as usize],
    free_count: usize,
    sq_tail: u32,
    sq_head_seen: u32,
    cq_head: u32,
    cq_tail_seen: u32,
    violation: Option<Violation>,
}

impl<M: SharedMemory> KeepEnd<M> {
    /// Takes the keep's end of a region that the host has initialised. At most one per region.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        if memory.load_u64(MAGIC_AT) != MAGIC {
            return Err(AttachError::NoMagic);
        }
        let version = memory.load_u32(VERSION_AT, Ordering::Acquire);
        if version != VERSION {
            return Err(AttachError::Version(version));
        }
        let facts = Facts {
            tsc_khz: memory.load_u64(TSC_KHZ_AT),
            vcpus: memory.load_u32(VCPUS_AT, Ordering::Relaxed),
            wall_ns: memory.load_u64(WALL_NS_AT),
        };
        let mut free = [FIRST_SLOT; SLOTS as usize];
        let descending = (0..SLOTS).rev().filter_map(Slot::new);
        free.iter_mut()
            .zip(descending)
            .for_each(|(place, slot)| *place = slot);
        Ok(Self {
            memory,
            facts,
            uses: [Use {
                generation: 0,
                state: State::Free,
            }; SLOTS as usize],
            free,
            free_count: SLOTS as usize,
            sq_tail: 0,
            sq_head_seen: 0,
            cq_head: 0,
            cq_tail_seen: 0,
            violation: None,
        })
    }

    /// Returns the host's statements at launch, read once. Untrusted.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Requests that can be submitted now.
    pub fn free_slots(&self) -> usize {
        self.free_count
    }

    /// Posts a call with its input, which is the concatenation of `input`.
    ///
    /// The host may not be looking: afterwards ask [`Self::doorbell_needed`], once for several calls.
    ///
    /// # Errors
    /// [`SubmitError`], with nothing posted.
    pub fn submit(&mut self, call: &Call, input: &[&[u8]]) -> Result<Ticket, SubmitError> {
        if let Some(violation) = self.violation {
            return Err(violation.into());
        }
        call.check().map_err(|_| SubmitError::Length)?;
        let total = input
            .iter()
            .try_fold(0usize, |sum, part| sum.checked_add(part.len()));
        if total != Some(call.input_length() as usize) {
            return Err(SubmitError::Length);
        }
        let top = self.free_count.checked_sub(1).ok_or(SubmitError::Full)?;
        let slot = *self.free.get(top).ok_or(SubmitError::Full)?;
        self.accept_sq_head()?;
        // An honest host has taken the entry before it completed the request, so that a free slot means
        // a free entry. Otherwise wait for it: an entry is never overwritten.
        if self.sq_tail.wrapping_sub(self.sq_head_seen) >= SLOTS {
            return Err(SubmitError::Full);
        }
        let mut offset = 0u32;
        for part in input {
            self.memory
                .write(slot, offset, part)
                .map_err(|_| SubmitError::Length)?;
            offset = u32::try_from(part.len())
                .ok()
                .and_then(|length| offset.checked_add(length))
                .ok_or(SubmitError::Length)?;
        }

        let slot_use = slot.of_mut(&mut self.uses);
        slot_use.generation = slot_use.generation.wrapping_add(1);
        slot_use.state = State::Pending(call.reply_limits());
        let id = u32::from(slot_use.generation) << 16 | slot.to_wire();
        self.free_count = top;

        let mut request = call.encode();
        request.id = id;
        for (place, word) in request_entry(slot).into_iter().zip(request.to_words()) {
            self.memory.store_u64(place, word);
        }
        let entry = submission_entry(self.sq_tail);
        self.memory
            .store_u32(entry, slot.to_wire(), Ordering::Relaxed);
        self.sq_tail = self.sq_tail.wrapping_add(1);
        self.memory
            .store_u32(SQ_TAIL, self.sq_tail, Ordering::Release);
        Ok(Ticket(id))
    }

    /// Takes the next completion, if there is one.
    ///
    /// # Errors
    /// [`Violation`]: final, every later call returns the same.
    pub fn reap(&mut self) -> Result<Option<Reply>, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let reply = self.take_completion();
        if let Err(violation) = reply {
            self.violation = Some(violation);
        }
        reply
    }

    /// Copies bytes of a reply, from `offset` on, to private memory.
    ///
    /// The host can still change the buffer: two calls may see different bytes. Check the copy.
    ///
    /// # Errors
    /// [`OutOfRange`] when the bytes do not all lie in the reply, or when its ticket has been released.
    pub fn read_reply(&self, reply: &Reply, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        let slot = self.held(reply.ticket).ok_or(OutOfRange)?;
        let State::Held(length) = slot.of(&self.uses).state else {
            return Err(OutOfRange);
        };
        let end = u32::try_from(out.len())
            .ok()
            .and_then(|out| offset.checked_add(out))
            .ok_or(OutOfRange)?;
        if end > length {
            return Err(OutOfRange);
        }
        self.memory.read(slot, offset, out)
    }

    /// Gives a reply's slot and buffer back. Does nothing unless the ticket's reply is held: a ticket
    /// that is pending, or released before, cannot free another request's slot.
    pub fn release(&mut self, ticket: Ticket) {
        if let Some(slot) = self.held(ticket) {
            // Every slot is held at most once, so there is a place for it.
            if let Some(place) = self.free.get_mut(self.free_count) {
                *place = slot;
                self.free_count += 1;
                slot.of_mut(&mut self.uses).state = State::Free;
            }
        }
    }

    /// Stops using this host after a reply with a fault that only its receiver can notice; returns the violation that
    /// is now reported.
    pub fn condemn(&mut self, violation: Violation) -> Violation {
        *self.violation.get_or_insert(violation)
    }

    /// True if the host must be told about submissions: it was not polling after they became visible. A
    /// host that lies about it only delays its own guest.
    pub fn doorbell_needed(&self) -> bool {
        // Orders the store of the tail before the load of the state; the host orders its store of the state
        // before its load of the tail. One of the two sees the other's.
        self.memory.fence();
        self.memory.load_u32(HOST_STATE, Ordering::Relaxed) & POLLING == 0
    }

    /// A view of the host's activity, for a thread that waits while others use this end. It is a snapshot:
    /// completions that are taken later are new to it.
    pub fn host_activity(&self) -> HostActivity<M>
    where
        M: Clone,
    {
        HostActivity {
            memory: self.memory.clone(),
            cq_head: self.cq_head,
        }
    }

    /// Completions taken so far (modulo 2^32): what [`Doorbell::wait`](crate::Doorbell::wait) gets after
    /// [`Self::reap`] returned none.
    pub fn completions_seen(&self) -> u32 {
        self.cq_head
    }

    /// As if `index` requests had been made and answered before.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, index: u32) {
        (self.sq_tail, self.sq_head_seen) = (index, index);
        (self.cq_head, self.cq_tail_seen) = (index, index);
        self.memory.store_u32(SQ_TAIL, index, Ordering::Relaxed);
        self.memory.store_u32(CQ_HEAD, index, Ordering::Relaxed);
    }

    /// The slot of a ticket whose reply is held.
    fn held(&self, ticket: Ticket) -> Option<Slot> {
        let slot = slot_of(ticket.0)?;
        let slot_use = slot.of(&self.uses);
        let current = u32::from(slot_use.generation) == ticket.0 >> 16;
        (current && matches!(slot_use.state, State::Held(_))).then_some(slot)
    }

    fn accept_sq_head(&mut self) -> Result<(), Violation> {
        let head = self.memory.load_u32(SQ_HEAD, Ordering::Acquire);
        if let Some(head) = advance_head(self.sq_tail, self.sq_head_seen, head) {
            self.sq_head_seen = head;
            Ok(())
        } else {
            self.violation = Some(Violation::IndexOutOfRange);
            Err(Violation::IndexOutOfRange)
        }
    }

    fn take_completion(&mut self) -> Result<Option<Reply>, Violation> {
        let tail = self.memory.load_u32(CQ_TAIL, Ordering::Acquire);
        self.cq_tail_seen = advance_tail(self.cq_head, self.cq_tail_seen, tail)
            .ok_or(Violation::IndexOutOfRange)?;
        if self.cq_tail_seen == self.cq_head {
            return Ok(None);
        }
        let words = completion_entry(self.cq_head).map(|place| self.memory.load_u64(place));
        let completion = Completion::from_words(words).ok_or(Violation::Reserved)?;
        let reply = self.check(completion)?;
        self.cq_head = self.cq_head.wrapping_add(1);
        self.memory
            .store_u32(CQ_HEAD, self.cq_head, Ordering::Release);
        Ok(Some(reply))
    }

    /// Checks a completion's private copy, and marks its request as answered.
    fn check(&mut self, completion: Completion) -> Result<Reply, Violation> {
        let slot = slot_of(completion.id).ok_or(Violation::UnknownId)?;
        let slot_use = slot.of_mut(&mut self.uses);
        if slot_use.generation == 0 && matches!(slot_use.state, State::Free) {
            return Err(Violation::UnknownId);
        }
        if u32::from(slot_use.generation) != completion.id >> 16 {
            return Err(Violation::StaleGeneration);
        }
        let State::Pending(limits) = slot_use.state else {
            return Err(Violation::Repeated);
        };
        let limits = limits.ok_or(Violation::ExitCompleted)?;
        let status = Status::from_wire(completion.status).ok_or(Violation::UnknownStatus)?;
        limits.check(
            status,
            completion.length,
            completion.value,
            completion.value2,
        )?;
        slot_use.state = State::Held(completion.length);
        Ok(Reply {
            ticket: Ticket(completion.id),
            status,
            length: completion.length,
            value: completion.value,
            value2: completion.value2,
        })
    }
}

const FIRST_SLOT: Slot = match Slot::new(0) {
    Some(slot) => slot,
    None => panic!("there is a first slot"),
};

impl ReplyLimits {
    /// Checks a completion against the limits of its request; both ends use it.
    pub(crate) fn check(
        &self,
        status: Status,
        length: u32,
        value: u64,
        value2: u64,
    ) -> Result<(), Violation> {
        if status != Status::Ok {
            return if length == 0 {
                Ok(())
            } else {
                Err(Violation::LengthTooLarge)
            };
        }
        if length > self.capacity.min(BUFFER_SIZE) {
            return Err(Violation::LengthTooLarge);
        }
        if length < self.minimum {
            return Err(Violation::LengthTooSmall);
        }
        if value > self.value || value2 > self.value2 {
            return Err(Violation::ValueTooLarge);
        }
        Ok(())
    }
}
