// SPDX-License-Identifier: Apache-2.0

//! The host's end against a Keep that does whatever the script says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use enarx_sallyport::call::ReplyLimits;
use enarx_sallyport::host::{CompleteError, Violation};
use enarx_sallyport::layout::{CQ_HEAD, CQ_TAIL, SQ_TAIL, Word32, request_entry, submission_entry};
use enarx_sallyport::request::Request;
use enarx_sallyport::{Facts, HostEnd, Region, SharedMemory, Slot, Status};

use super::region::{Side, TestRegion, Watched};
use super::script::Script;

/// The outcome of a run.
pub struct Outcome {
    /// Submissions that the host took.
    pub taken: usize,
    /// Submissions of these that it could not decode.
    pub malformed: usize,
    /// Submissions that it completed.
    pub completed: usize,
    /// The violation that the host noticed.
    pub violation: Option<Violation>,
}

struct Run<'a> {
    region: Region,
    watched: &'a Watched,
    host: HostEnd<&'a Watched>,
    /// `None` where the request never completes.
    in_flight: HashMap<u32, Option<ReplyLimits>>,
    sq_tail: u32,
    outcome: Outcome,
}

const NO_REPLY: ReplyLimits = ReplyLimits {
    minimum: 0,
    capacity: 0,
    value: u64::MAX,
    value2: u64::MAX,
};

/// Runs a script and checks after each step what must hold whatever the Keep does.
pub fn run(script: &[u8]) -> Outcome {
    let region = TestRegion::take();
    let watched = Watched::new(*region, Side::Host);
    let host = HostEnd::initialise(&watched, Facts::default());
    watched.launched();
    let mut run = Run {
        region: *region,
        watched: &watched,
        host,
        in_flight: HashMap::new(),
        sq_tail: 0,
        outcome: Outcome {
            taken: 0,
            malformed: 0,
            completed: 0,
            violation: None,
        },
    };
    let mut script = Script::new(script);
    while !script.is_over() {
        run.step(&mut script);
        // The host's own words follow its private state, whatever was written elsewhere.
        assert!(run.in_flight.len() <= 64);
    }
    run.outcome
}

impl Run<'_> {
    fn step(&mut self, script: &mut Script<'_>) {
        self.watched.next_call();
        match script.byte() % 16 {
            0..5 => self.submit(script, false),
            5 => self.submit(script, true),
            6..10 => self.next(),
            10..13 => self.complete(script),
            13 => {
                // The Keep takes completions.
                let tail = self.region.load_u32(CQ_TAIL, Ordering::Acquire);
                self.region.store_u32(CQ_HEAD, tail, Ordering::Release);
            }
            14 => self.scribble(script),
            _ => self.host.set_polling(script.flag()),
        }
    }

    /// The Keep posts a request, rightly or not.
    fn submit(&mut self, script: &mut Script<'_>, hostile: bool) {
        let slot = Slot::new(u32::from(script.byte() % 64)).expect("a slot");
        let mut request = Request {
            id: u32::from(script.u16()) << 16 | slot.to_wire(),
            ..script.call().encode()
        };
        let mut entry = slot.to_wire();
        if hostile {
            match script.byte() % 7 {
                0 => request.op = script.u16(),
                1 => request.flags = script.u16(),
                2 => request.id = script.u32(),
                3 => request.handle = script.u32(),
                4 => request.length = script.u32(),
                5 => request.args[usize::from(script.byte() % 5)] = script.u64(),
                _ => entry = script.u32(),
            }
        } else if self.in_flight.keys().any(|id| id & 0xffff == entry) {
            return;
        }
        for (at, word) in request_entry(slot).into_iter().zip(request.to_words()) {
            self.region.store_u64(at, word);
        }
        self.region
            .store_u32(submission_entry(self.sq_tail), entry, Ordering::Relaxed);
        self.sq_tail = self.sq_tail.wrapping_add(1);
        self.region
            .store_u32(SQ_TAIL, self.sq_tail, Ordering::Release);
    }

    fn next(&mut self) {
        match self.host.next() {
            Ok(None) => {}
            Ok(Some(submission)) => {
                assert_eq!(submission.id & 0xffff, submission.slot.to_wire());
                let slot = submission.slot.to_wire();
                assert!(!self.in_flight.keys().any(|id| id & 0xffff == slot));
                let limits = if let Ok(call) = submission.call {
                    call.check().expect("lengths fit");
                    call.reply_limits()
                } else {
                    self.outcome.malformed += 1;
                    Some(NO_REPLY)
                };
                self.in_flight.insert(submission.id, limits);
                assert!(self.host.is_in_flight(submission.id));
                self.outcome.taken += 1;
            }
            Err(violation) => {
                let first = *self.outcome.violation.get_or_insert(violation);
                assert_eq!(first, violation);
                self.watched.next_call();
                assert_eq!(self.host.next(), Err(violation));
            }
        }
    }

    fn complete(&mut self, script: &mut Script<'_>) {
        let ids: Vec<u32> = {
            let mut ids: Vec<u32> = self.in_flight.keys().copied().collect();
            ids.sort_unstable();
            ids
        };
        let Some(&id) = script.pick(&ids) else {
            let id = script.u32();
            let unknown = self.host.complete(id, Status::Ok, 0, 0, 0);
            assert_eq!(unknown, Err(CompleteError::NotInFlight));
            return;
        };
        let posted = self.host.completions_posted();
        let Some(limits) = self.in_flight[&id] else {
            let exit = self.host.complete(id, Status::Ok, 0, 0, 0);
            assert!(matches!(exit, Err(CompleteError::NotAllowed(_))));
            assert_eq!(self.host.completions_posted(), posted);
            return;
        };
        let too_long = self
            .host
            .complete(id, Status::Ok, limits.capacity + 1, 0, 0);
        assert!(matches!(too_long, Err(CompleteError::NotAllowed(_))));
        let bytes_and_error = self.host.complete(id, Status::Io, 1, 0, 0);
        assert!(matches!(bytes_and_error, Err(CompleteError::NotAllowed(_))));
        assert_eq!(self.host.completions_posted(), posted);

        if script.flag() {
            self.host
                .complete(id, Status::Cancelled, 0, 0, 0)
                .expect("in flight");
        } else {
            let (value, value2) = (limits.value, limits.value2);
            self.host
                .complete(id, Status::Ok, limits.capacity, value, value2)
                .expect("allowed");
        }
        assert_eq!(self.host.completions_posted(), posted.wrapping_add(1));
        self.in_flight.remove(&id);
        assert!(!self.host.is_in_flight(id));
        let again = self.host.complete(id, Status::Ok, 0, 0, 0);
        assert_eq!(again, Err(CompleteError::NotInFlight));
        self.outcome.completed += 1;
    }

    /// The Keep writes where it pleases.
    fn scribble(&mut self, script: &mut Script<'_>) {
        let near = |value: u32, delta: u8| value.wrapping_add(u32::from(delta)).wrapping_sub(64);
        match script.byte() % 4 {
            0 => {
                let tail = near(self.sq_tail, script.byte() % 192);
                self.region.store_u32(SQ_TAIL, tail, Ordering::Relaxed);
            }
            1 => {
                let head = near(
                    self.region.load_u32(CQ_HEAD, Ordering::Relaxed),
                    script.byte(),
                );
                self.region.store_u32(CQ_HEAD, head, Ordering::Relaxed);
            }
            2 => {
                if let Some(at) = Word32::new(u32::from(script.u16() % 0x2000) & !3) {
                    self.region.store_u32(at, script.u32(), Ordering::Relaxed);
                }
            }
            _ => {
                let entry = submission_entry(self.sq_tail.wrapping_sub(1));
                self.region
                    .store_u32(entry, script.u32(), Ordering::Relaxed);
            }
        }
    }
}
