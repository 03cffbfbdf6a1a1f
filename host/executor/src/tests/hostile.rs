// SPDX-License-Identifier: Apache-2.0

//! A Keep that breaks the rules.

use super::*;

#[test]
fn unknown_handles_are_refused_and_a_broken_ring_ends_the_keep() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for handle in [3, 15, 16, 17, 1024, u32::MAX].map(Handle) {
        let calls = [
            Call::Stat { handle },
            Call::Close { handle },
            Call::StreamRead {
                stream: handle,
                length: 1,
            },
            Call::ReadAt {
                handle,
                offset: 0,
                length: 1,
            },
        ];
        for call in calls {
            assert_eq!(keep.call(&call, b"").map(drop), Err(Status::BadHandle));
        }
    }
    // The first word of a request's record: operation 0xffff, which is unknown.
    let ticket = keep.submit(&Call::ClockWall, b"");
    let slot = enarx_sallyport::Slot::new(u32::try_from(ticket.slot()).unwrap()).unwrap();
    let word = enarx_sallyport::layout::request_entry(slot)[0];
    keep.region
        .store_u64(word, keep.region.load_u64(word) | 0xffff);
    assert_eq!(keep.reply().0.status, Status::NotImplemented);

    keep.region
        .store_u32(enarx_sallyport::layout::SQ_TAIL, 1000, Ordering::Relaxed);
    assert!(keep.executor.drain().is_err());
    assert!(keep.executor.wait(0, Until::Completion, NO_LIMIT).is_err());
}

/// A request as a hostile Keep may write it.
#[derive(Clone, Debug)]
struct Wild {
    operation: u16,
    flags: u16,
    handle: u32,
    length: u32,
    offset: u64,
    arguments: [u64; 5],
    input: String,
}

fn wild() -> impl Strategy<Value = Wild> {
    // Small numbers and edge cases; names that lead out of the directory and into it.
    let number =
        || prop_oneof![4 => 0..20_u64, 2 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(1 << 32)];
    let input = proptest::collection::vec(
        prop_oneof![
            Just(".."),
            Just("/"),
            Just("secret"),
            Just("file"),
            Just("out"),
            Just("up"),
            Just("absolute"),
            Just("sub"),
            Just("deep"),
            Just("."),
            Just("new"),
            Just("inside"),
        ],
        0..6,
    );
    (
        // All except the exit, which ends the serving.
        prop_oneof![8 => 0..0x50_u16, 1 => any::<u16>()].prop_filter("exit", |number| *number != 6),
        prop_oneof![0..0x200_u16, any::<u16>()],
        prop_oneof![4 => 14..24_u32, 2 => 0..4_u32, 1 => any::<u32>()],
        prop_oneof![4 => 0..20_u32, 1 => 0..140_000_u32, 1 => any::<u32>()],
        number(),
        [number(), number(), number(), number(), number()],
        input,
    )
        .prop_map(
            |(operation, flags, handle, length, offset, arguments, input)| Wild {
                operation,
                flags,
                handle,
                length,
                offset,
                arguments,
                input: input.concat(),
            },
        )
}

/// One region for all cases: they run one after the other.
fn region_for_cases() -> Region {
    static WORDS: OnceLock<Vec<AtomicU64>> = OnceLock::new();
    let words = WORDS.get_or_init(|| (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect());
    Region::from_static(words).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the request: everything is answered once, and nothing outside the directory changes.
    #[test]
    fn wild_requests_are_answered_and_reach_nothing_outside(requests in proptest::collection::vec(wild(), 1..200)) {
        use enarx_sallyport::layout::{CQ_HEAD, CQ_TAIL, SQ_TAIL, request_entry, submission_entry};
        let dir = sample();
        let region = region_for_cases();
        let grant = Grant {
            directories: vec![GrantedDirectory {
                directory: fs::File::open(dir.path().join("root")).unwrap().into(),
                read_only: false,
                quota: Some(1 << 20),
            }],
            ..Grant::of_streams([null(), null(), null()])
        };
        let executor = SharedExecutor::new(region, Facts::default(), grant, Objects::default()).unwrap();
        let slot = enarx_sallyport::Slot::new(0).unwrap();
        for (number, request) in (0_u32..).zip(&requests) {
            region.write(slot, 0, request.input.as_bytes()).unwrap();
            let head = u64::from(request.operation)
                | u64::from(request.flags) << 16
                | u64::from(number & 0xffff) << 48;
            let words = [
                head,
                u64::from(request.handle) | u64::from(request.length) << 32,
                request.offset,
            ];
            for (place, word) in request_entry(slot).into_iter().zip(words.into_iter().chain(request.arguments)) {
                region.store_u64(place, word);
            }
            region.store_u32(submission_entry(number), 0, Ordering::Relaxed);
            region.store_u32(SQ_TAIL, number + 1, Ordering::Release);
            prop_assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
            prop_assert_eq!(region.load_u32(CQ_TAIL, Ordering::Acquire), number + 1, "{:?}", request);
            region.store_u32(CQ_HEAD, number + 1, Ordering::Release);
        }
        let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(outside.len(), 2, "{:?}", outside);
        prop_assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
    }
}
