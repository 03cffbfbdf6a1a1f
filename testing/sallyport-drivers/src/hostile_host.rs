// SPDX-License-Identifier: Apache-2.0

//! The keep's end against a host that does whatever the script says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use enarx_sallyport::call::Call;
use enarx_sallyport::completion::Completion;
use enarx_sallyport::keep::{SubmitError, Violation};
use enarx_sallyport::layout::{
    CQ_TAIL, HOST_STATE, REGION_SIZE, SQ_HEAD, Word32, Word64, completion_entry, request_entry,
};
use enarx_sallyport::request::Request;
use enarx_sallyport::{
    BUFFER_SIZE, Facts, HostEnd, KeepEnd, Region, Reply, SharedMemory, Slot, Status, Ticket,
};

use super::region::{Side, TestRegion, Watched};
use super::script::Script;

/// The outcome of a run.
pub struct Outcome {
    /// Calls that the Keep submitted.
    pub submitted: u32,
    /// Completions that the Keep accepted.
    pub delivered: usize,
    /// The violation that the Keep noticed.
    pub violation: Option<Violation>,
}

struct Run<'a> {
    region: Region,
    watched: &'a Watched,
    keep: KeepEnd<&'a Watched>,
    pending: HashMap<u32, Call>,
    /// Ids of pending requests in the order of submission, for the script to pick from.
    order: Vec<u32>,
    held: Vec<Reply>,
    released: Vec<Ticket>,
    cq_tail: u32,
    sq_head: u32,
    outcome: Outcome,
}

/// Runs a script and checks after each step what must hold whatever the host does.
pub fn run(script: &[u8]) -> Outcome {
    let region = TestRegion::take();
    HostEnd::initialise(*region, Facts::default());
    let watched = Watched::new(*region, Side::Keep);
    let mut run = Run {
        region: *region,
        watched: &watched,
        keep: KeepEnd::attach(&watched).expect("initialised"),
        pending: HashMap::new(),
        order: Vec::new(),
        held: Vec::new(),
        released: Vec::new(),
        cq_tail: 0,
        sq_head: 0,
        outcome: Outcome {
            submitted: 0,
            delivered: 0,
            violation: None,
        },
    };
    let mut script = Script::new(script);
    while !script.is_over() {
        run.step(&mut script);
        let busy = run.pending.len() + run.held.len();
        assert_eq!(
            run.keep.free_slots() + busy,
            64,
            "no slot is lost or doubled"
        );
    }
    run.outcome
}

impl Run<'_> {
    fn step(&mut self, script: &mut Script<'_>) {
        self.watched.next_call();
        match script.byte() % 16 {
            0..4 => self.submit(script),
            4..7 => self.complete(script, false),
            7 => self.complete(script, true),
            8..12 => self.reap(),
            12 | 13 => self.release(script),
            14 => self.scribble(script),
            _ => {
                let needed = self.keep.doorbell_needed();
                let state = self.region.load_u32(HOST_STATE, Ordering::Relaxed);
                assert_eq!(needed, state & 1 == 0);
            }
        }
    }

    fn submit(&mut self, script: &mut Script<'_>) {
        let call = script.call();
        let input = vec![script.byte(); call.input_length().min(BUFFER_SIZE) as usize];
        let (first, second) = input.split_at(input.len() / 3);
        let free = self.keep.free_slots();
        match self.keep.submit(&call, &[first, second]) {
            Ok(ticket) => {
                call.check().expect("only calls that fit are submitted");
                let slot = Slot::new(ticket.id() & 0xffff).expect("a slot");
                // The content of the region, before the host touches it, is the call.
                let words = request_entry(slot).map(|at| self.region.load_u64(at));
                let request = Request::from_words(words);
                assert_eq!((request.decode(), request.id), (Ok(call), ticket.id()));
                let mut bytes = vec![0; input.len()];
                self.region.read(slot, 0, &mut bytes).expect("it fits");
                assert_eq!(bytes, input);
                let same_slot = |id: &u32| id & 0xffff == slot.to_wire();
                assert!(!self.pending.keys().any(same_slot), "the slot was free");
                assert!(!self.held.iter().any(|reply| same_slot(&reply.ticket.id())));
                self.pending.insert(ticket.id(), call);
                self.order.push(ticket.id());
                self.outcome.submitted += 1;
            }
            Err(SubmitError::Length) => assert!(call.check().is_err()),
            // Without a free slot, or while the host has not taken earlier entries.
            Err(SubmitError::Full) => {
                let head = self.region.load_u32(SQ_HEAD, Ordering::Relaxed);
                assert!(free == 0 || self.outcome.submitted.wrapping_sub(head) == 64);
            }
            Err(SubmitError::Violation(violation)) => self.violated(violation),
        }
    }

    /// The host completes a request, rightly or with some fields out of order.
    fn complete(&mut self, script: &mut Script<'_>, hostile: bool) {
        let Some(&id) = script.pick(&self.order) else {
            return;
        };
        let limits = self.pending.get(&id).and_then(Call::reply_limits);
        let length = limits.map_or(0, |limits| limits.capacity);
        let mut completion = Completion {
            id,
            status: Status::Ok.to_wire(),
            reserved: 0,
            length,
            reserved2: 0,
            value: limits.map_or(0, |limits| limits.value),
            value2: limits.map_or(0, |limits| limits.value2),
        };
        if hostile {
            match script.byte() % 8 {
                0 => completion.id = script.u32(),
                1 => completion.id ^= 1 << (script.byte() % 32),
                2 => completion.status = script.u16(),
                3 => completion.length = completion.length.wrapping_add(u32::from(script.byte())),
                4 => completion.length = script.u32(),
                5 => completion.value = script.u64(),
                6 => completion.reserved = script.u16(),
                _ => completion.value2 = script.u64(),
            }
        }
        for (at, word) in completion_entry(self.cq_tail)
            .into_iter()
            .zip(completion.to_words())
        {
            self.region.store_u64(at, word);
        }
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.region
            .store_u32(CQ_TAIL, self.cq_tail, Ordering::Release);
        // An honest host has taken all that it completes.
        self.sq_head = self.outcome.submitted;
        self.region
            .store_u32(SQ_HEAD, self.sq_head, Ordering::Release);
        if !hostile && !script.byte().is_multiple_of(64) {
            // Forget it, so that repetitions stay rare.
            self.order.retain(|other| *other != id);
        }
    }

    fn reap(&mut self) {
        match self.keep.reap() {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let id = reply.ticket.id();
                let call = self.pending.remove(&id).expect("pending, delivered once");
                self.order.retain(|other| *other != id);
                let limits = call.reply_limits().expect("an exit never completes");
                if reply.status == Status::Ok {
                    assert!((limits.minimum..=limits.capacity).contains(&reply.length));
                    assert!(reply.value <= limits.value && reply.value2 <= limits.value2);
                } else {
                    assert_eq!(reply.length, 0);
                }
                let mut bytes = vec![0; reply.length as usize + 1];
                assert!(self.keep.read_reply(&reply, 0, &mut bytes).is_err());
                bytes.pop();
                assert!(self.keep.read_reply(&reply, 0, &mut bytes).is_ok());
                self.held.push(reply);
                self.outcome.delivered += 1;
            }
            Err(violation) => self.violated(violation),
        }
    }

    fn violated(&mut self, violation: Violation) {
        // Final and always the same.
        let first = *self.outcome.violation.get_or_insert(violation);
        assert_eq!(first, violation);
        assert_eq!(self.keep.reap(), Err(violation));
        assert_eq!(
            self.keep.submit(&Call::ClockWall, &[]),
            Err(SubmitError::Violation(violation))
        );
    }

    fn release(&mut self, script: &mut Script<'_>) {
        if script.byte().is_multiple_of(4) {
            // A ticket that was released before, perhaps of a slot in use again: nothing happens.
            if let Some(&ticket) = script.pick(&self.released) {
                let free = self.keep.free_slots();
                self.keep.release(ticket);
                assert_eq!(self.keep.free_slots(), free);
            }
        } else if !self.held.is_empty() {
            let index = usize::from(script.byte()) % self.held.len();
            let reply = self.held.swap_remove(index);
            self.keep.release(reply.ticket);
            self.released.push(reply.ticket);
            assert!(self.keep.read_reply(&reply, 0, &mut []).is_err());
        }
    }

    /// The host writes where it pleases.
    fn scribble(&mut self, script: &mut Script<'_>) {
        let near = |value: u32, delta: u8| value.wrapping_add(u32::from(delta)).wrapping_sub(64);
        match script.byte() % 6 {
            0 => {
                let tail = near(self.cq_tail, script.byte() % 128);
                self.region.store_u32(CQ_TAIL, tail, Ordering::Relaxed);
            }
            1 => {
                let head = near(self.sq_head, script.byte() % 128);
                self.region.store_u32(SQ_HEAD, head, Ordering::Relaxed);
            }
            2 => self
                .region
                .store_u32(HOST_STATE, script.u32(), Ordering::Relaxed),
            3 => {
                // A word of the control page, the rings or the request table.
                if let Some(at) = Word32::new(u32::from(script.u16() % 0x2000) & !3) {
                    self.region.store_u32(at, script.u32(), Ordering::Relaxed);
                }
            }
            4 => {
                let offset = script.u32() % u32::try_from(REGION_SIZE).expect("small");
                if let Some(at) = Word64::new(offset & !7) {
                    self.region.store_u64(at, script.u64());
                }
            }
            _ => {
                let at = completion_entry(self.cq_tail)[usize::from(script.byte() % 4)];
                self.region.store_u64(at, script.u64());
            }
        }
    }
}
