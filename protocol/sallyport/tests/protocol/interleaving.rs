// SPDX-License-Identifier: Apache-2.0

//! Two honest ends in any order of steps: every request arrives once, with its bytes, and so does its reply.

use std::collections::{HashMap, VecDeque};

use enarx_sallyport::call::Call;
use enarx_sallyport::{
    Facts, Handle, HostEnd, KeepEnd, Region, Reply, Status, Submission, SubmitError,
};
use proptest::prelude::*;

use enarx_sallyport_drivers::region::TestRegion;

#[derive(Clone, Debug)]
enum Step {
    /// The keep submits a write of these bytes, in two pieces.
    Write(Vec<u8>),
    /// The keep submits a read, the host will answer with these bytes.
    Read(Vec<u8>),
    /// The host takes the next request.
    Take,
    /// The host completes one of the requests it has.
    Complete(prop::sample::Index),
    /// The keep takes the next completion.
    Reap,
    /// The keep releases one of the replies it has.
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        2 => bytes().prop_map(Step::Write),
        2 => bytes().prop_map(Step::Read),
        4 => Just(Step::Take),
        4 => any::<prop::sample::Index>().prop_map(Step::Complete),
        4 => Just(Step::Reap),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

struct Pair {
    keep: KeepEnd<Region>,
    host: HostEnd<Region>,
    /// Submitted and not taken, in order: id and bytes.
    posted: VecDeque<(u32, Call, Vec<u8>)>,
    taken: Vec<(Submission, Vec<u8>)>,
    /// Completed and not collected, in order: id and reply bytes.
    completed: VecDeque<(u32, Vec<u8>)>,
    held: Vec<Reply>,
    delivered: usize,
    /// Bytes that the host will answer to a request.
    answers: HashMap<u32, Vec<u8>>,
}

impl Pair {
    fn submit(&mut self, call: Call, bytes: Vec<u8>, answer: Vec<u8>) {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        match self.keep.submit(&call, &[first, second]) {
            Ok(ticket) => {
                self.answers.insert(ticket.id(), answer);
                self.posted.push_back((ticket.id(), call, bytes));
            }
            Err(error) => {
                assert_eq!(error, SubmitError::Full);
                assert_eq!(self.keep.free_slots(), 0);
            }
        }
    }

    fn take(&mut self) -> bool {
        let submission = self.host.next().expect("the keep is honest");
        let Some((id, call, bytes)) = self.posted.pop_front() else {
            assert_eq!(submission, None);
            return false;
        };
        let submission = submission.expect("it was submitted");
        assert_eq!((submission.id, submission.call), (id, Ok(call)));
        let mut input = vec![0; bytes.len()];
        self.host
            .read_input(submission.slot, 0, &mut input)
            .expect("in the buffer");
        assert_eq!(input, bytes);
        self.taken.push((submission, bytes));
        true
    }

    fn complete(&mut self, index: usize) {
        let (submission, bytes) = self.taken.swap_remove(index);
        let answer = self.answers.remove(&submission.id).expect("asked once");
        self.host
            .write_output(submission.slot, 0, &answer)
            .expect("in the buffer");
        let length = u32::try_from(answer.len()).expect("short");
        let written = bytes.len() as u64;
        self.host
            .complete(submission.id, Status::Ok, length, written, 0)
            .expect("in flight");
        self.completed.push_back((submission.id, answer));
    }

    fn reap(&mut self) -> bool {
        let reply = self.keep.reap().expect("the host is honest");
        let Some((id, answer)) = self.completed.pop_front() else {
            assert_eq!(reply, None);
            assert_eq!(self.keep.completions_seen(), self.host.completions_posted());
            return false;
        };
        let reply = reply.expect("it was completed");
        assert_eq!(
            (reply.ticket.id(), reply.length as usize),
            (id, answer.len())
        );
        let mut bytes = vec![0; answer.len()];
        self.keep
            .read_reply(&reply, 0, &mut bytes)
            .expect("in the reply");
        assert_eq!(bytes, answer);
        self.held.push(reply);
        self.delivered += 1;
        true
    }
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn every_request_is_delivered_once_with_its_bytes(steps in prop::collection::vec(step(), 0..600)) {
        let region = TestRegion::take();
        let host = HostEnd::initialise(*region, Facts::default());
        let mut pair = Pair {
            keep: KeepEnd::attach(*region).expect("initialised"),
            host,
            posted: VecDeque::new(),
            taken: Vec::new(),
            completed: VecDeque::new(),
            held: Vec::new(),
            delivered: 0,
            answers: HashMap::new(),
        };
        let mut submitted = 0;
        for step in steps {
            let before = pair.keep.free_slots();
            match step {
                Step::Write(bytes) => {
                    let length = u32::try_from(bytes.len()).expect("short");
                    pair.submit(Call::Append { handle: Handle(16), length }, bytes, Vec::new());
                    submitted += before - pair.keep.free_slots();
                }
                Step::Read(answer) => {
                    let length = u32::try_from(answer.len()).expect("short");
                    let call = Call::ReadAt { handle: Handle(17), offset: 7, length };
                    pair.submit(call, Vec::new(), answer);
                    submitted += before - pair.keep.free_slots();
                }
                Step::Take => {
                    pair.take();
                }
                Step::Complete(index) => {
                    if !pair.taken.is_empty() {
                        pair.complete(index.index(pair.taken.len()));
                    }
                }
                Step::Reap => {
                    pair.reap();
                }
                Step::Release(index) => {
                    if !pair.held.is_empty() {
                        let reply = pair.held.swap_remove(index.index(pair.held.len()));
                        pair.keep.release(reply.ticket);
                    }
                }
            }
        }
        while pair.take() {}
        while !pair.taken.is_empty() {
            pair.complete(0);
        }
        while pair.reap() {}
        prop_assert_eq!(pair.delivered, submitted);
        prop_assert_eq!(pair.keep.free_slots() + pair.held.len(), 64);
    }
}

/// More than 2^16 uses of one slot: its generation wraps, and nothing else happens.
#[test]
#[cfg_attr(miri, ignore = "too many rounds")]
fn generations_wrap() {
    let region = TestRegion::take();
    let mut host = HostEnd::initialise(*region, Facts::default());
    let mut keep = KeepEnd::attach(*region).expect("initialised");
    let mut last = None;
    for round in 0..70_000u64 {
        let ticket = keep.submit(&Call::ClockWall, &[]).expect("room");
        assert_eq!(ticket.slot(), 0, "the last released slot is used first");
        assert_ne!(last.replace(ticket), Some(ticket));
        let submission = host.next().expect("honest").expect("submitted");
        host.complete(submission.id, Status::Ok, 0, round, 0)
            .expect("in flight");
        let reply = keep.reap().expect("honest").expect("completed");
        assert_eq!((reply.ticket, reply.value), (ticket, round));
        keep.release(ticket);
    }
}
