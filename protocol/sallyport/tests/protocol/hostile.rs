// SPDX-License-Identifier: Apache-2.0

//! Each end against a hostile other: at random, and every violation on purpose.

use std::sync::atomic::Ordering;

use enarx_sallyport::call::{Call, Malformed, Operation};
use enarx_sallyport::completion::Completion;
use enarx_sallyport::layout::{
    CQ_HEAD, CQ_TAIL, SQ_HEAD, SQ_TAIL, completion_entry, request_entry, submission_entry,
};
use enarx_sallyport::request::Request;
use enarx_sallyport::{
    Facts, Handle, HostEnd, KeepEnd, Region, SharedMemory, Slot, Status, Ticket, host, keep,
};
use proptest::prelude::*;

use enarx_sallyport_drivers::region::TestRegion;
use enarx_sallyport_drivers::{hostile_host, hostile_keep};

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn the_keep_end_withstands_any_host(script in prop::collection::vec(any::<u8>(), 0..1500)) {
        hostile_host::run(&script);
    }

    #[test]
    fn the_host_end_withstands_any_keep(script in prop::collection::vec(any::<u8>(), 0..1500)) {
        hostile_keep::run(&script);
    }
}

/// Bytes without pattern (xorshift64, Marsaglia 2003).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

#[test]
#[cfg_attr(miri, ignore = "too many runs")]
fn the_drivers_reach_work_and_violations() {
    let (mut submitted, mut delivered, mut violations) = (0, 0, Vec::new());
    let (mut taken, mut malformed, mut completed, mut breaches) = (0, 0, 0, Vec::new());
    for seed in 0..400 {
        let script = noise(seed, 2000);
        let outcome = hostile_host::run(&script);
        submitted += outcome.submitted;
        delivered += outcome.delivered;
        violations.extend(outcome.violation);
        let outcome = hostile_keep::run(&script);
        taken += outcome.taken;
        malformed += outcome.malformed;
        completed += outcome.completed;
        breaches.extend(outcome.violation);
    }
    assert!(
        submitted > 1000 && delivered > 500,
        "{submitted} {delivered}"
    );
    assert!(
        taken > 1000 && malformed > 50 && completed > 500,
        "{taken} {malformed} {completed}"
    );
    for violation in [
        keep::Violation::IndexOutOfRange,
        keep::Violation::UnknownId,
        keep::Violation::StaleGeneration,
        keep::Violation::UnknownStatus,
        keep::Violation::LengthTooLarge,
        keep::Violation::ValueTooLarge,
        keep::Violation::Reserved,
    ] {
        assert!(
            violations.contains(&violation),
            "{violation:?} was not reached"
        );
    }
    for violation in [
        host::Violation::IndexOutOfRange,
        host::Violation::SlotOutOfRange,
        host::Violation::SlotInFlight,
        host::Violation::IdMismatch,
    ] {
        assert!(
            breaches.contains(&violation),
            "{violation:?} was not reached"
        );
    }
}

/// A keep's end with one pending request, and the completion an honest host would post.
struct OnePending {
    region: TestRegion,
    keep: KeepEnd<Region>,
    ticket: Ticket,
    good: Completion,
}

impl OnePending {
    fn new(call: &Call, input: &[u8]) -> Self {
        let region = TestRegion::take();
        HostEnd::initialise(*region, Facts::default());
        let mut keep = KeepEnd::attach(*region).expect("initialised");
        let ticket = keep.submit(call, &[input]).expect("room");
        let good = Completion {
            id: ticket.id(),
            status: Status::Ok.to_wire(),
            reserved: 0,
            length: call.reply_limits().map_or(0, |limits| limits.capacity),
            reserved2: 0,
            value: 0,
            value2: 0,
        };
        Self {
            region,
            keep,
            ticket,
            good,
        }
    }

    /// Posts completions, and reaps until there is none or a violation.
    fn answer(&mut self, completions: &[Completion]) -> Result<usize, keep::Violation> {
        for completion in completions {
            let index = self.region.load_u32(CQ_TAIL, Ordering::Relaxed);
            for (at, word) in completion_entry(index)
                .into_iter()
                .zip(completion.to_words())
            {
                self.region.store_u64(at, word);
            }
            self.region
                .store_u32(CQ_TAIL, index.wrapping_add(1), Ordering::Release);
        }
        let mut count = 0;
        while let Some(reply) = self.keep.reap()? {
            assert_eq!(reply.ticket, self.ticket);
            count += 1;
        }
        Ok(count)
    }
}

const READ: Call = Call::ReadAt {
    handle: Handle(16),
    offset: 0,
    length: 100,
};

/// Returns the keep's verdict on one completion that differs from the honest one.
fn verdict(
    call: &Call,
    input: &[u8],
    change: impl FnOnce(&mut Completion),
) -> Result<usize, keep::Violation> {
    let mut pending = OnePending::new(call, input);
    let mut completion = pending.good;
    change(&mut completion);
    pending.answer(&[completion])
}

#[test]
fn the_keep_end_names_every_violation() {
    use keep::Violation;

    let read = |change: fn(&mut Completion)| verdict(&READ, &[], change);
    assert_eq!(read(|_| ()), Ok(1));
    assert_eq!(
        read(|c| c.id = c.id & !0xffff | 64),
        Err(Violation::UnknownId)
    );
    assert_eq!(read(|c| c.id = 5), Err(Violation::UnknownId));
    assert_eq!(read(|c| c.id += 1 << 16), Err(Violation::StaleGeneration));
    assert_eq!(read(|c| c.id -= 1 << 16), Err(Violation::StaleGeneration));
    assert_eq!(read(|c| c.status = 3), Err(Violation::UnknownStatus));
    assert_eq!(read(|c| c.length = 101), Err(Violation::LengthTooLarge));
    assert_eq!(
        read(|c| c.length = u32::MAX),
        Err(Violation::LengthTooLarge)
    );
    assert_eq!(
        read(|c| c.status = Status::Io.to_wire()),
        Err(Violation::LengthTooLarge)
    );
    assert_eq!(read(|c| c.reserved = 1), Err(Violation::Reserved));
    assert_eq!(read(|c| c.reserved2 = 1 << 31), Err(Violation::Reserved));
    let stat = Call::Stat { handle: Handle(16) };
    assert_eq!(
        verdict(&stat, &[], |c| c.length = 79),
        Err(Violation::LengthTooSmall)
    );
    let write = Call::Append {
        handle: Handle(16),
        length: 3,
    };
    assert_eq!(verdict(&write, b"abc", |c| c.value = 3), Ok(1));
    assert_eq!(
        verdict(&write, b"abc", |c| c.value = 4),
        Err(Violation::ValueTooLarge)
    );
    let connect = Call::TcpAccept { handle: Handle(16) };
    assert_eq!(
        verdict(&connect, &[], |c| c.value = 1 << 32),
        Err(Violation::ValueTooLarge)
    );
    assert_eq!(
        verdict(&Call::Exit { code: 0 }, &[], |_| ()),
        Err(Violation::ExitCompleted)
    );
}

#[test]
fn a_reply_is_never_delivered_twice() {
    let mut pending = OnePending::new(&READ, &[]);
    let good = pending.good;
    assert_eq!(
        pending.answer(&[good, good]),
        Err(keep::Violation::Repeated)
    );

    // Nor after its slot has been released, nor after the slot was reused.
    let mut pending = OnePending::new(&READ, &[]);
    assert_eq!(pending.answer(&[good]), Ok(1));
    pending.keep.release(pending.ticket);
    assert_eq!(pending.answer(&[good]), Err(keep::Violation::Repeated));

    let mut pending = OnePending::new(&READ, &[]);
    assert_eq!(pending.answer(&[good]), Ok(1));
    pending.keep.release(pending.ticket);
    pending.region.store_u32(SQ_HEAD, 1, Ordering::Relaxed);
    let second = pending.keep.submit(&READ, &[]).expect("room");
    assert_eq!(second.slot(), pending.ticket.slot());
    assert_eq!(
        pending.answer(&[good]),
        Err(keep::Violation::StaleGeneration)
    );
}

#[test]
fn the_host_cannot_move_its_indices_at_will() {
    for (tail, verdict) in [
        (0u32, Ok(0)),
        (65, Err(keep::Violation::IndexOutOfRange)),
        (u32::MAX, Err(keep::Violation::IndexOutOfRange)),
        (1 << 31, Err(keep::Violation::IndexOutOfRange)),
    ] {
        let mut pending = OnePending::new(&READ, &[]);
        pending.region.store_u32(CQ_TAIL, tail, Ordering::Relaxed);
        assert_eq!(pending.answer(&[]), verdict);
    }
    // Back: an announced count cannot be withdrawn.
    let mut pending = OnePending::new(&READ, &[]);
    let good = pending.good;
    assert_eq!(pending.answer(&[good]), Ok(1));
    pending.region.store_u32(CQ_TAIL, 0, Ordering::Relaxed);
    assert_eq!(pending.keep.reap(), Err(keep::Violation::IndexOutOfRange));

    for head in [2u32, 100, u32::MAX, 1 << 31] {
        let mut pending = OnePending::new(&READ, &[]);
        pending.region.store_u32(SQ_HEAD, head, Ordering::Relaxed);
        let refused = pending.keep.submit(&READ, &[]);
        assert_eq!(refused, Err(keep::Violation::IndexOutOfRange.into()));
        assert_eq!(pending.keep.reap(), Err(keep::Violation::IndexOutOfRange));
    }
}

#[test]
fn a_host_that_takes_no_entries_cannot_make_the_keep_overwrite_them() {
    let mut pending = OnePending::new(&READ, &[]);
    // Answered, though never taken from the ring, 64 times.
    for round in 0..64 {
        let good = Completion {
            id: pending.ticket.id(),
            ..pending.good
        };
        assert_eq!(pending.answer(&[good]), Ok(1));
        pending.keep.release(pending.ticket);
        match pending.keep.submit(&READ, &[]) {
            Ok(ticket) => pending.ticket = ticket,
            Err(error) => {
                assert_eq!((round, error), (63, keep::SubmitError::Full));
                return;
            }
        }
    }
    panic!("the ring has 64 entries");
}

#[test]
fn an_undecodable_reply_condemns_the_host() {
    let mut pending = OnePending::new(&READ, &[]);
    let (first, second) = (keep::Violation::BadReply, keep::Violation::Refused);
    assert_eq!(pending.keep.condemn(first), first);
    // The first one counts.
    assert_eq!(pending.keep.condemn(second), first);
    let good = pending.good;
    assert_eq!(pending.answer(&[good]), Err(first));
}

/// Posts a request as a Keep would, or would not.
fn post(region: Region, index: u32, entry: u32, slot: Slot, request: Request) {
    for (at, word) in request_entry(slot).into_iter().zip(request.to_words()) {
        region.store_u64(at, word);
    }
    region.store_u32(submission_entry(index), entry, Ordering::Relaxed);
    region.store_u32(SQ_TAIL, index.wrapping_add(1), Ordering::Release);
}

fn request(call: &Call, slot: u32, generation: u32) -> Request {
    Request {
        id: generation << 16 | slot,
        ..call.encode()
    }
}

#[test]
fn the_host_end_names_every_violation() {
    use host::Violation;

    let slot = |index| Slot::new(index).expect("a slot");
    let fresh = || {
        let region = TestRegion::take();
        let host = HostEnd::initialise(*region, Facts::default());
        (region, host)
    };

    let (region, mut host) = fresh();
    post(*region, 0, 64, slot(0), request(&READ, 0, 1));
    assert_eq!(host.next(), Err(Violation::SlotOutOfRange));
    assert_eq!(host.next(), Err(Violation::SlotOutOfRange));

    let (region, mut host) = fresh();
    post(*region, 0, 3, slot(3), request(&READ, 4, 1));
    assert_eq!(host.next(), Err(Violation::IdMismatch));

    let (region, mut host) = fresh();
    post(*region, 0, 3, slot(3), request(&READ, 3, 1));
    assert!(host.next().is_ok_and(|next| next.is_some()));
    post(*region, 1, 3, slot(3), request(&READ, 3, 2));
    assert_eq!(host.next(), Err(Violation::SlotInFlight));

    for tail in [65u32, u32::MAX, 1 << 31] {
        let (region, mut host) = fresh();
        region.store_u32(SQ_TAIL, tail, Ordering::Relaxed);
        assert_eq!(host.next(), Err(Violation::IndexOutOfRange));
    }
    let (region, mut host) = fresh();
    post(*region, 0, 3, slot(3), request(&READ, 3, 1));
    region.store_u32(CQ_HEAD, 1, Ordering::Relaxed);
    assert_eq!(host.next(), Err(Violation::IndexOutOfRange));

    // A Keep that submits without ever taking a completion is stopped before the ring overflows.
    let (region, mut host) = fresh();
    for index in 0..64 {
        post(*region, index, 3, slot(3), request(&READ, 3, index));
        let submission = host.next().expect("room").expect("posted");
        host.complete(submission.id, Status::Ok, 0, 0, 0)
            .expect("in flight");
    }
    post(*region, 64, 3, slot(3), request(&READ, 3, 64));
    assert_eq!(host.next(), Err(Violation::CompletionOverflow));
}

#[test]
fn an_earlier_request_of_a_slot_is_not_completed() {
    let region = TestRegion::take();
    let mut host = HostEnd::initialise(*region, Facts::default());
    post(
        *region,
        0,
        3,
        Slot::new(3).expect("a slot"),
        request(&READ, 3, 2),
    );
    let submission = host.next().expect("no violation").expect("posted");
    for id in [submission.id - (1 << 16), submission.id + (1 << 16)] {
        let completed = host.complete(id, Status::Ok, 0, 0, 0);
        assert_eq!(completed, Err(host::CompleteError::NotInFlight));
        assert!(!host.is_in_flight(id));
    }
    assert_eq!(host.complete(submission.id, Status::Ok, 0, 0, 0), Ok(()));
}

#[test]
fn a_malformed_request_is_answered_like_any_other() {
    let region = TestRegion::take();
    let mut host = HostEnd::initialise(*region, Facts::default());
    let slot = Slot::new(9).expect("a slot");
    let unknown = Request {
        op: 0xffff,
        ..request(&READ, 9, 1)
    };
    assert_eq!(Operation::from_wire(0xffff), None);
    post(*region, 0, 9, slot, unknown);
    let submission = host.next().expect("no violation").expect("posted");
    assert_eq!(submission.call, Err(Malformed::UnknownOperation(0xffff)));
    let id = submission.id;
    let with_bytes = host.complete(id, Status::Ok, 1, 0, 0);
    assert!(matches!(
        with_bytes,
        Err(host::CompleteError::NotAllowed(_))
    ));
    assert_eq!(host.complete(id, Status::NotImplemented, 0, 0, 0), Ok(()));
}
