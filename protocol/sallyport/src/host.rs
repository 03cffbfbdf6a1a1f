// SPDX-License-Identifier: Apache-2.0

//! The host's end: takes submissions, completes them.
//!
//! The Keep is hostile to the host: its indices are checked, its records are copied once and decoded from
//! the copy, and a slot that is being worked on cannot be submitted again.

use core::sync::atomic::Ordering;

use crate::call::{Call, Malformed, ReplyLimits};
use crate::completion::Completion;
use crate::facts::Facts;
use crate::index::{advance_head, advance_tail};
use crate::keep;
use crate::layout::{
    CQ_HEAD, CQ_TAIL, HOST_STATE, MAGIC, MAGIC_AT, OutOfRange, POLLING, SLOTS, SQ_HEAD, SQ_TAIL,
    Slot, TSC_KHZ_AT, VCPUS_AT, VERSION, VERSION_AT, WALL_NS_AT, completion_entry, control_words,
    request_entry, slot_of, submission_entry,
};
use crate::memory::{Region, SharedMemory};
use crate::request::Request;
use crate::status::Status;

/// A breach of the protocol by the Keep. Final: the host ends the Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A ring index of the Keep went back or ran ahead.
    #[error("the Keep moved a ring index out of range")]
    IndexOutOfRange,
    /// The submission ring names a slot that does not exist.
    #[error("the Keep submitted a slot that does not exist")]
    SlotOutOfRange,
    /// A slot was submitted whose request is not completed yet.
    #[error("the Keep submitted a request again that is in progress")]
    SlotInFlight,
    /// A record's id does not name the slot it lies in.
    #[error("the Keep submitted a request whose id names another slot")]
    IdMismatch,
    /// More requests than the completion ring has room to answer.
    #[error("the Keep submitted requests without taking completions")]
    CompletionOverflow,
}

/// The reason why a completion was not posted: the host's own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    /// No request of that id is in flight: completed before, or never taken.
    #[error("no such request is in progress")]
    NotInFlight,
    /// The keep would take the completion as a violation.
    #[error("the reply exceeds what the request allows")]
    NotAllowed(keep::Violation),
}

/// A request taken from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Names the request when it is completed or cancelled.
    pub id: u32,
    /// Its buffer holds the input and takes the reply.
    pub slot: Slot,
    /// The call. A malformed one is completed with an error status, for instance
    /// [`Status::NotImplemented`] for [`Malformed::UnknownOperation`], else [`Status::Invalid`].
    pub call: Result<Call, Malformed>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    id: u32,
    limits: Result<ReplyLimits, keep::Violation>,
}

/// The host's end of a region.
#[derive(Debug)]
pub struct HostEnd<M> {
    memory: M,
    in_flight: [Option<InFlight>; SLOTS as usize],
    in_flight_count: u32,
    sq_head: u32,
    sq_tail_seen: u32,
    cq_tail: u32,
    cq_head_seen: u32,
    violation: Option<Violation>,
}

impl<M: SharedMemory> HostEnd<M> {
    /// Initialises a region for a Keep that has not been started, and takes the host's end of it.
    ///
    /// The state starts as not polling.
    pub fn initialise(memory: M, facts: Facts) -> Self {
        for place in control_words() {
            memory.store_u64(place, 0);
        }
        memory.store_u64(TSC_KHZ_AT, facts.tsc_khz);
        memory.store_u32(VCPUS_AT, facts.vcpus, Ordering::Relaxed);
        memory.store_u64(WALL_NS_AT, facts.wall_ns);
        memory.store_u64(MAGIC_AT, MAGIC);
        memory.store_u32(VERSION_AT, VERSION, Ordering::Release);
        Self {
            memory,
            in_flight: [None; SLOTS as usize],
            in_flight_count: 0,
            sq_head: 0,
            sq_tail_seen: 0,
            cq_tail: 0,
            cq_head_seen: 0,
            violation: None,
        }
    }

    /// The memory of the region.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Takes the next submission, if there is one.
    ///
    /// # Errors
    /// [`Violation`]: final, every later call returns the same.
    #[expect(
        clippy::should_implement_trait,
        reason = "this is no iterator: nothing now is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Submission>, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let submission = self.take_submission();
        if let Err(violation) = submission {
            self.violation = Some(violation);
        }
        submission
    }

    /// Copies input bytes of a slot's buffer to private memory.
    ///
    /// The Keep can still change the buffer: check the copy, and copy once.
    ///
    /// # Errors
    /// [`OutOfRange`] when the bytes do not all lie in the buffer.
    pub fn read_input(&self, slot: Slot, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.memory.read(slot, offset, out)
    }

    /// Copies reply bytes into a slot's buffer.
    ///
    /// # Errors
    /// [`OutOfRange`] when the bytes do not all fit in the buffer.
    pub fn write_output(&self, slot: Slot, offset: u32, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.memory.write(slot, offset, bytes)
    }

    /// Posts a completion. The caller then wakes the Keep if it sleeps ([`Self::completions_posted`]).
    ///
    /// # Errors
    /// [`CompleteError`], with nothing posted; the request stays in flight if it was.
    pub fn complete(
        &mut self,
        id: u32,
        status: Status,
        length: u32,
        value: u64,
        value2: u64,
    ) -> Result<(), CompleteError> {
        let slot = slot_of(id).ok_or(CompleteError::NotInFlight)?;
        let place = slot.of_mut(&mut self.in_flight);
        let request = place
            .filter(|request| request.id == id)
            .ok_or(CompleteError::NotInFlight)?;
        request
            .limits
            .and_then(|limits| limits.check(status, length, value, value2))
            .map_err(CompleteError::NotAllowed)?;
        *place = None;
        self.in_flight_count -= 1;

        let completion = Completion {
            id,
            status: status.to_wire(),
            reserved: 0,
            length,
            reserved2: 0,
            value,
            value2,
        };
        // There is room: `take_submission` keeps requests in flight and completions unread within the ring.
        let places = completion_entry(self.cq_tail);
        for (place, word) in places.into_iter().zip(completion.to_words()) {
            self.memory.store_u64(place, word);
        }
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.memory
            .store_u32(CQ_TAIL, self.cq_tail, Ordering::Release);
        Ok(())
    }

    /// True if a request is taken and not completed.
    pub fn is_in_flight(&self, id: u32) -> bool {
        slot_of(id)
            .and_then(|slot| *slot.of(&self.in_flight))
            .is_some_and(|request| request.id == id)
    }

    /// Says whether a thread polls the ring, so that the Keep need not ring.
    ///
    /// After `set_polling(false)` the host calls [`Self::next`] once more before it sleeps: this
    /// finds what was submitted before the Keep could see the change; the doorbell announces what
    /// comes after it.
    pub fn set_polling(&mut self, polling: bool) {
        let state = if polling { POLLING } else { 0 };
        self.memory.store_u32(HOST_STATE, state, Ordering::Release);
        // Orders the store of the state before later loads of the tail; see `KeepEnd::doorbell_needed`.
        self.memory.fence();
    }

    /// Submissions taken so far (modulo 2^32).
    pub fn submissions_taken(&self) -> u32 {
        self.sq_head
    }

    /// Completions posted so far (modulo 2^32). The Keep sleeps as long as it has seen this value.
    pub fn completions_posted(&self) -> u32 {
        self.cq_tail
    }

    /// As if `index` requests had been made and answered before.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, index: u32) {
        (self.sq_head, self.sq_tail_seen) = (index, index);
        (self.cq_tail, self.cq_head_seen) = (index, index);
        self.memory.store_u32(SQ_HEAD, index, Ordering::Relaxed);
        self.memory.store_u32(CQ_TAIL, index, Ordering::Relaxed);
    }

    fn take_submission(&mut self) -> Result<Option<Submission>, Violation> {
        let tail = self.memory.load_u32(SQ_TAIL, Ordering::Acquire);
        self.sq_tail_seen = advance_tail(self.sq_head, self.sq_tail_seen, tail)
            .ok_or(Violation::IndexOutOfRange)?;
        if self.sq_tail_seen == self.sq_head {
            return Ok(None);
        }
        let cq_head = self.memory.load_u32(CQ_HEAD, Ordering::Acquire);
        self.cq_head_seen = advance_head(self.cq_tail, self.cq_head_seen, cq_head)
            .ok_or(Violation::IndexOutOfRange)?;
        let unread = self.cq_tail.wrapping_sub(self.cq_head_seen);
        if unread.saturating_add(self.in_flight_count) >= SLOTS {
            return Err(Violation::CompletionOverflow);
        }

        let entry = submission_entry(self.sq_head);
        let slot = Slot::new(self.memory.load_u32(entry, Ordering::Relaxed))
            .ok_or(Violation::SlotOutOfRange)?;
        let place = slot.of_mut(&mut self.in_flight);
        if place.is_some() {
            return Err(Violation::SlotInFlight);
        }
        let words = request_entry(slot).map(|place| self.memory.load_u64(place));
        let request = Request::from_words(words);
        if slot_of(request.id) != Some(slot) {
            return Err(Violation::IdMismatch);
        }
        let call = request.decode();
        let limits = match &call {
            Ok(call) => call.reply_limits().ok_or(keep::Violation::ExitCompleted),
            Err(_) => Ok(ReplyLimits::NOTHING),
        };
        *place = Some(InFlight {
            id: request.id,
            limits,
        });
        self.in_flight_count += 1;
        self.sq_head = self.sq_head.wrapping_add(1);
        self.memory
            .store_u32(SQ_HEAD, self.sq_head, Ordering::Release);
        Ok(Some(Submission {
            id: request.id,
            slot,
            call,
        }))
    }
}

impl HostEnd<Region> {
    /// The first byte of a slot's buffer, for system calls; see [`Region::buffer_ptr`].
    pub fn buffer_ptr(&self, slot: Slot) -> *mut u8 {
        self.memory.buffer_ptr(slot)
    }
}
