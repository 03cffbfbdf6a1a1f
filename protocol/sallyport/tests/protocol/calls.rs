// SPDX-License-Identifier: Apache-2.0

//! Calls, addresses and attributes: encoded values decode, and nothing else does.

use enarx_sallyport::call::{Malformed, Operation};
use enarx_sallyport::directory::ENTRY_MAX;
use enarx_sallyport::request::Request;
use enarx_sallyport::types::{FileType, Time, TimeChange};
use enarx_sallyport::{BUFFER_SIZE, Call, Handle, SocketAddress, Stat};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use enarx_sallyport_drivers::request::decode_any;
use enarx_sallyport_drivers::script::Script;

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn every_call_round_trips(seed in any::<[u8; 64]>(), id in any::<u32>()) {
        for operation in Operation::ALL {
            let call = Script::new(&seed).call_of(*operation);
            prop_assert_eq!(call.operation(), *operation);
            let request = Request { id, ..call.encode() };
            let request = Request::from_words(request.to_words());
            let expected = if call.check().is_ok() { Ok(call) } else { Err(Malformed::Length) };
            prop_assert_eq!(request.decode(), expected);
        }
    }

    #[test]
    fn decoding_is_total(mut words in any::<[u64; 8]>(), operation in any::<prop::sample::Index>()) {
        decode_any(words);
        // Most numbers are not an operation: use one that is.
        let operation = operation.get(Operation::ALL);
        words[0] = words[0] & !0xffff | u64::from(operation.to_wire());
        decode_any(words);
    }

    #[test]
    fn one_flipped_bit_never_decodes_to_the_same_call(seed in any::<[u8; 64]>(), bit in 0usize..512) {
        for operation in Operation::ALL {
            let call = Script::new(&seed).call_of(*operation);
            let mut words = call.encode().to_words();
            words[bit / 64] ^= 1 << (bit % 64);
            decode_any(words);
            let in_id = (32..64).contains(&bit);
            if !in_id {
                prop_assert_ne!(Request::from_words(words).decode(), Ok(call));
            }
        }
    }

    #[test]
    fn addresses_round_trip(seed in any::<[u8; 32]>()) {
        let address = Script::new(&seed).address();
        prop_assert_eq!(SocketAddress::from_bytes(&address.to_bytes()), Some(address));
        if let Some(address) = SocketAddress::from_bytes(&seed) {
            prop_assert_eq!(address.to_bytes(), seed);
        }
    }

    #[test]
    fn attributes_decode_when_type_times_and_reserved_bytes_are_right(
        bytes in any::<[u8; 56]>(),
        nanoseconds in prop::array::uniform3(Time::SECOND - 2..Time::SECOND + 1),
        kind in 0u8..12,
        reserved in 0u8..2,
    ) {
        let mut record = [0; 80];
        record[..56].copy_from_slice(&bytes);
        for (place, nanoseconds) in (56..).step_by(4).zip(nanoseconds) {
            record[place..place + 4].copy_from_slice(&nanoseconds.to_le_bytes());
        }
        record[68] = kind;
        record[79] = reserved;
        let right = kind <= FileType::MAX && reserved == 0 && nanoseconds.iter().all(|ns| *ns < Time::SECOND);
        match Stat::decode(&record) {
            Some(stat) => {
                prop_assert!(right);
                prop_assert_eq!(stat.as_bytes(), &record[..]);
                let times = stat.times().expect("was decoded");
                prop_assert_eq!(times.map(Time::nanoseconds), nanoseconds);
            }
            None => prop_assert!(!right),
        }
    }
}

/// Random bytes are not an address of any family, so a property test of decoding would try none.
#[test]
fn addresses_are_of_a_known_family_and_use_no_other_byte() {
    let ipv4 = SocketAddress::V4 {
        address: [192, 0, 2, 1],
        port: 7,
    };
    let ipv6 = SocketAddress::V6 {
        address: [0x20; 16],
        port: 7,
        flow: 8,
        scope: 9,
    };
    for (address, used) in [(ipv4, [2..4, 8..12, 0..0]), (ipv6, [2..8, 8..24, 24..28])] {
        for bit in 0..256 {
            let (at, mut bytes) = (bit / 8, address.to_bytes());
            bytes[at] ^= 1 << (bit % 8);
            let decoded = SocketAddress::from_bytes(&bytes);
            if used.iter().any(|used| used.contains(&at)) {
                let decoded = decoded.expect("another address");
                assert_eq!(decoded.to_bytes(), bytes);
            } else if at < 2 {
                // One family differs from the other by a bit; an address of one has bytes that the other does not use.
                let is_other = bytes[..2] == [6, 0] && address == ipv4;
                assert_eq!(decoded.is_some(), is_other, "{address:?} {bit}");
            } else {
                assert_eq!(decoded, None, "{address:?} {bit}");
            }
        }
    }
}

#[test]
fn a_time_has_less_than_a_second_of_nanoseconds() {
    let time = Time::new(-1, 999_999_999).expect("a time");
    let (atim, mtim) = (TimeChange::At(time), TimeChange::Keep);
    let call = Call::SetTimes {
        handle: Handle(16),
        atim,
        mtim,
    };
    let request = call.encode();
    assert_eq!(request.decode(), Ok(call));
    let mut late = request;
    late.args[2] = 1_000_000_000;
    assert_eq!(late.decode(), Err(Malformed::UnknownValue));
    late.args[2] = 1 << 32;
    assert_eq!(late.decode(), Err(Malformed::Reserved));
}

#[test]
fn reserved_fields_are_refused_by_name() {
    let clean = Request {
        op: Operation::ClockWall.to_wire(),
        ..Request::from_words([0; 8])
    };
    assert!(clean.decode().is_ok());
    for dirty in [
        Request { flags: 1, ..clean },
        Request { handle: 1, ..clean },
        Request { length: 1, ..clean },
        Request { offset: 1, ..clean },
        Request {
            args: [0, 0, 0, 0, 1],
            ..clean
        },
    ] {
        assert_eq!(dirty.decode(), Err(Malformed::Reserved));
    }
    assert_eq!(
        Request { op: 0, ..clean }.decode(),
        Err(Malformed::UnknownOperation(0))
    );
    let exit = Request {
        op: Operation::Exit.to_wire(),
        args: [1 << 32, 0, 0, 0, 0],
        ..clean
    };
    assert_eq!(exit.decode(), Err(Malformed::Reserved));
}

#[test]
fn a_listing_has_room_for_any_entry_and_every_call_fits_its_buffer() {
    let list = |length| Call::ReadDir {
        handle: Handle(16),
        cookie: 0,
        length,
    };
    let read = |length| Call::ReadAt {
        handle: Handle(16),
        offset: 0,
        length,
    };
    for (call, fits) in [
        (list(ENTRY_MAX - 1), false),
        (list(ENTRY_MAX), true),
        (list(BUFFER_SIZE), true),
        (list(BUFFER_SIZE + 1), false),
        (read(BUFFER_SIZE), true),
        (read(BUFFER_SIZE + 1), false),
    ] {
        let expected = if fits { Ok(()) } else { Err(Malformed::Length) };
        assert_eq!(call.check(), expected, "{call:?}");
        assert_eq!(call.encode().decode().map(drop), expected, "{call:?}");
    }
}

#[test]
fn file_types_have_no_gap() {
    let known: Vec<u8> = FileType::ALL.iter().map(|kind| kind.to_wire()).collect();
    assert_eq!(known, (0..=FileType::MAX).collect::<Vec<_>>());
}
