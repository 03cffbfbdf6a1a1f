// SPDX-License-Identifier: Apache-2.0

//! Both ends together, honest.

use std::sync::atomic::Ordering;

use enarx_sallyport::call::Call;
use enarx_sallyport::keep::{AttachError, SubmitError};
use enarx_sallyport::layout::{MAGIC_AT, VERSION, VERSION_AT};
use enarx_sallyport::types::{FileType, Handle, OpenFlags};
use enarx_sallyport::{BUFFER_SIZE, Facts, HostEnd, KeepEnd, Region, SharedMemory, Status};
use enarx_sallyport_drivers::region::TestRegion;

fn ends(region: Region) -> (KeepEnd<Region>, HostEnd<Region>) {
    let facts = Facts {
        tsc_khz: 2_500_000,
        vcpus: 4,
        wall_ns: 1_790_000_000_000_000_000,
    };
    let host = HostEnd::initialise(region, facts);
    let keep = KeepEnd::attach(region).expect("initialised");
    assert_eq!(keep.facts(), facts);
    (keep, host)
}

#[test]
fn a_request_is_delivered_and_its_reply_returns() {
    let region = TestRegion::take();
    let (mut keep, mut host) = ends(*region);
    let call = Call::Open {
        dir: Handle::FIRST_ROOT,
        flags: OpenFlags::READ | OpenFlags::NOFOLLOW,
        path_length: 9,
    };
    let ticket = keep.submit(&call, &[b"hello", b".txt"]).expect("room");
    assert_eq!(keep.reap(), Ok(None));

    let submission = host.next().expect("no violation").expect("a submission");
    assert_eq!((submission.call, submission.id), (Ok(call), ticket.id()));
    let mut path = [0; 9];
    host.read_input(submission.slot, 0, &mut path)
        .expect("in range");
    assert_eq!(&path, b"hello.txt");
    let kind = u64::from(FileType::RegularFile.to_wire());
    host.complete(submission.id, Status::Ok, 0, 17, kind)
        .expect("in flight");
    assert_eq!(host.next(), Ok(None));
    assert_ne!(keep.completions_seen(), host.completions_posted());

    let reply = keep.reap().expect("no violation").expect("a reply");
    assert_eq!((reply.ticket, reply.status), (ticket, Status::Ok));
    assert_eq!((reply.handle(), reply.value2), (Some(Handle(17)), kind));
    assert_eq!(keep.completions_seen(), host.completions_posted());
    keep.release(ticket);

    let call = Call::ReadAt {
        handle: Handle(17),
        offset: 1 << 40,
        length: BUFFER_SIZE,
    };
    let ticket = keep.submit(&call, &[]).expect("room");
    let submission = host.next().expect("no violation").expect("a submission");
    host.write_output(submission.slot, 0, b"contents")
        .expect("in range");
    host.complete(submission.id, Status::Ok, 8, 0, 0)
        .expect("in flight");
    let reply = keep.reap().expect("no violation").expect("a reply");
    let mut bytes = [0; 4];
    keep.read_reply(&reply, 4, &mut bytes)
        .expect("in the reply");
    assert_eq!(&bytes, b"ents");
    assert!(keep.read_reply(&reply, 5, &mut bytes).is_err());
    assert!(keep.read_reply(&reply, u32::MAX, &mut bytes).is_err());
    keep.release(ticket);
    assert!(keep.read_reply(&reply, 0, &mut bytes).is_err());
}

#[test]
fn all_slots_can_be_in_use_and_no_more() {
    let region = TestRegion::take();
    let (mut keep, mut host) = ends(*region);
    for round in 0..3 {
        let tickets: Vec<_> = (0..64)
            .map(|_| keep.submit(&Call::ClockWall, &[]).expect("room"))
            .collect();
        assert_eq!(keep.submit(&Call::ClockWall, &[]), Err(SubmitError::Full));
        while let Some(submission) = host.next().expect("no violation") {
            host.complete(submission.id, Status::Ok, 0, round, 0)
                .expect("in flight");
        }
        for ticket in tickets {
            let reply = keep.reap().expect("no violation").expect("a reply");
            assert_eq!((reply.ticket, reply.value), (ticket, round));
            // Held replies still occupy their slots.
            if keep.free_slots() == 0 {
                assert_eq!(keep.submit(&Call::ClockWall, &[]), Err(SubmitError::Full));
            }
            keep.release(ticket);
            let free = keep.free_slots();
            keep.release(ticket);
            assert_eq!(keep.free_slots(), free, "a second release does nothing");
        }
    }
}

#[test]
fn a_call_must_fit_its_buffer_and_its_input() {
    let region = TestRegion::take();
    let (mut keep, mut host) = ends(*region);
    let write = |length| Call::Append {
        handle: Handle(16),
        length,
    };
    assert_eq!(keep.submit(&write(3), &[b"ab"]), Err(SubmitError::Length));
    assert_eq!(
        keep.submit(&write(3), &[b"ab", b"cd"]),
        Err(SubmitError::Length)
    );
    let large = vec![7; BUFFER_SIZE as usize + 1];
    assert_eq!(
        keep.submit(&write(BUFFER_SIZE + 1), &[&large]),
        Err(SubmitError::Length)
    );
    let rename = Call::Rename {
        from_dir: Handle(16),
        to_dir: Handle(16),
        from_length: u32::MAX,
        to_length: 2,
    };
    assert_eq!(keep.submit(&rename, &[b"a"]), Err(SubmitError::Length));
    assert_eq!(host.next(), Ok(None));
    assert_eq!(keep.free_slots(), 64);
    keep.submit(&write(BUFFER_SIZE), &[&large[1..]])
        .expect("it fits");
}

#[test]
fn the_doorbell_is_for_a_host_that_does_not_poll() {
    let region = TestRegion::take();
    let (keep, mut host) = ends(*region);
    assert!(keep.doorbell_needed());
    host.set_polling(true);
    assert!(!keep.doorbell_needed());
    host.set_polling(false);
    assert!(keep.doorbell_needed());
}

#[test]
fn a_region_of_another_kind_or_version_is_refused() {
    let region = TestRegion::take();
    let _ends = ends(*region);
    region.store_u32(VERSION_AT, VERSION + 1, Ordering::Relaxed);
    assert_eq!(
        KeepEnd::attach(*region).err(),
        Some(AttachError::Version(VERSION + 1))
    );
    region.store_u64(MAGIC_AT, 0);
    assert_eq!(KeepEnd::attach(*region).err(), Some(AttachError::NoMagic));
}
