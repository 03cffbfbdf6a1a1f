// SPDX-License-Identifier: Apache-2.0

//! Messages to the firmware: no sequence number serves two plaintexts, and after any answer that the
//! host has changed or withheld the channel is never used again.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;

use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::linux::Errno;
use enarx_microkernel::random::Random;
use enarx_microkernel::snp::ghcb::Answer;
use enarx_microkernel::snp::message::{Channel, KEY_REQUEST, MessageError, MessageKey};
use enarx_microkernel::snp::request::ask;
use enarx_snp::ghcb::exit;
use enarx_snp::guest_message::{HEADER_LEN, Header, MessageType, ReportResponse};
use enarx_snp::report::REPORT_LEN;
use zerocopy::FromBytes;

use crate::machine::{Exit, KEY, Locked, Machine, key_for, report_for, sealed};

/// SW_EXITINFO2 of a host that asks to try again (56421, SNP Guest Request).
const BUSY: u64 = 2 << 32;
/// The number of times a message is sent while the host is busy: for 30 seconds.
const TRIES: usize = 300;

fn answer(info1: u64, info2: u64) -> Answer {
    Answer {
        info1,
        info2,
        buffer: 0,
    }
}

/// The fate of one message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Carried,
    /// Carried after this many answers that the firmware is busy.
    Busy(usize),
    /// The firmware refuses with this status.
    Refused(u32),
    /// A byte of the answer is changed.
    Flipped(usize, u8),
    /// The host refuses the exit.
    NotCarried(u64),
    /// The host reports an error.
    Error(u64),
    /// The host says that it has carried the message, but has not.
    Dropped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Carried),
        2 => (0usize..20).prop_map(Fate::Busy),
        2 => (1..u32::MAX).prop_map(Fate::Refused),
        1 => (0..HEADER_LEN + 64, 1..=255u8).prop_map(|(at, bits)| Fate::Flipped(at, bits)),
        1 => (1u64..5).prop_map(Fate::NotCarried),
        1 => (1..u64::MAX).prop_filter("an error", |&code| code != BUSY).prop_map(Fate::Error),
        1 => Just(Fate::Dropped),
    ]
}

/// Bytes of an answer that neither the tag covers nor anybody reads: the tag's unused half and the
/// reserved word before the authenticated part of the header.
fn is_idle(at: usize) -> bool {
    (0x10..0x20).contains(&at) || (0x28..0x30).contains(&at)
}

fn prepare(machine: &mut Machine, fate: Fate) {
    machine.firmware.status = match fate {
        Fate::Refused(status) => status,
        _ => 0,
    };
    machine.firmware.tamper = match fate {
        Fate::Flipped(at, bits) => Box::new(move |page| page[at] ^= bits),
        _ => Box::new(|_| ()),
    };
    let mut left = match fate {
        Fate::Busy(times) => times,
        _ => 0,
    };
    machine.exit = Box::new(move |exit: Exit| match fate {
        _ if exit.code != exit::GUEST_REQUEST => None,
        Fate::NotCarried(info1) => Some(answer(info1, 0)),
        Fate::Error(info2) => Some(answer(0, info2)),
        Fate::Dropped => Some(answer(0, 0)),
        _ if left > 0 => {
            left -= 1;
            Some(answer(0, BUSY))
        }
        _ => None,
    });
}

fn report(
    keep: &Locked,
    machine: &mut Machine,
    data: &[u8; 64],
) -> Result<[u8; REPORT_LEN], Errno> {
    let mut report = [0; REPORT_LEN];
    ask(keep, machine, |channel, key, machine| {
        channel.report(key, machine, data, &mut report)
    })
    .map(|()| report)
}

fn key(
    keep: &Locked,
    machine: &mut Machine,
    request: &[u8; KEY_REQUEST],
) -> Result<[u8; 32], Errno> {
    let mut derived = [0; 32];
    ask(keep, machine, |channel, key, machine| {
        channel.derived_key(key, machine, request, &mut derived)
    })
    .map(|()| derived)
}

/// The key of the fake firmware.
fn message_key() -> MessageKey {
    let key = MessageKey::new();
    let (words, _) = KEY.as_chunks::<8>();
    key.set([0, 1, 2, 3].map(|index| u64::from_ne_bytes(words[index])));
    key
}

fn sequence(message: &[u8]) -> u64 {
    Header::read_from_prefix(message).unwrap().0.msg_seqno.get()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_sequence_number_is_used_for_two_messages(
        script in proptest::collection::vec((fate(), any::<bool>(), any::<[u8; 32]>()), 1..16),
    ) {
        let mut machine = Machine::new();
        let keep = Locked::boot(&mut machine);
        let mut broken = false;
        for (fate, wants_key, bytes) in script {
            prepare(&mut machine, fate);
            let sent = machine.firmware.messages.len();
            let result = if wants_key {
                key(&keep, &mut machine, &bytes).map(|key| {
                    assert_eq!(key, key_for(&bytes));
                })
            } else {
                let mut data = [7; 64];
                data[..32].copy_from_slice(&bytes);
                report(&keep, &mut machine, &data).map(|report| {
                    assert_eq!(report[..], report_for(&data)[..]);
                })
            };
            if broken {
                prop_assert_eq!(result, Err(Errno::Io));
                prop_assert_eq!(machine.firmware.messages.len(), sent, "sent on a broken channel");
                continue;
            }
            prop_assert_eq!(machine.firmware.messages.len(), sent + 1);
            let (message, times) = machine.firmware.messages.last().unwrap();
            prop_assert_eq!(sequence(message), sent as u64 * 2 + 1);
            let expected = match fate {
                Fate::Busy(busy) => {
                    // Sent again unchanged: the fake host distinguishes messages by their bytes.
                    prop_assert_eq!(*times, busy + 1);
                    Ok(())
                }
                Fate::Carried => Ok(()),
                Fate::Refused(_) => Err(Errno::Inval),
                Fate::Flipped(at, _) if is_idle(at) => Ok(()),
                _ => Err(Errno::Io),
            };
            prop_assert_eq!(result, expected);
            broken = expected == Err(Errno::Io);
        }
        let mut seen = HashMap::new();
        for (message, _) in &machine.firmware.messages {
            let old = seen.insert(sequence(message), message);
            prop_assert!(old.is_none_or(|old| old == message), "a nonce served twice");
        }
    }

    /// Nothing that the host puts in the page of the answer is accepted as an answer.
    #[test]
    fn an_invented_answer_is_refused(mut page in proptest::collection::vec(any::<u8>(), 4096), real in any::<bool>()) {
        if real {
            // A header that is correct in every field.
            let header = sealed(MessageType::ReportResponse, 2, &mut [0; size_of::<ReportResponse>()]);
            page[16..HEADER_LEN].copy_from_slice(&header[16..HEADER_LEN]);
        }
        let mut machine = Machine::new();
        machine.firmware.tamper = Box::new(move |reply| reply.copy_from_slice(&page));
        let result = Channel::new().report(&message_key(), &mut machine, &[1; 64], &mut [0; REPORT_LEN]);
        prop_assert_eq!(result, Err(MessageError::Broken));
    }
}

/// Every byte of a report's answer matters, except those that nobody reads.
#[test]
fn every_changed_byte_of_an_answer_is_detected() {
    let data = [3; 64];
    let mut machine = Machine::new();
    for at in 0..HEADER_LEN + size_of::<ReportResponse>() {
        machine.firmware.restart();
        let bits = 1 << (at % 8);
        machine.firmware.tamper = Box::new(move |page| page[at] ^= bits);
        let mut report = [0; REPORT_LEN];
        let result = Channel::new().report(&message_key(), &mut machine, &data, &mut report);
        if is_idle(at) {
            assert_eq!(result, Ok(()), "{at:#x}");
            assert_eq!(report[..], report_for(&data)[..]);
        } else {
            assert_eq!(result, Err(MessageError::Broken), "{at:#x}");
            assert_eq!(report, [0; REPORT_LEN], "{at:#x}");
        }
    }
}

/// Genuine messages of the firmware, but not the answer to this request.
#[test]
fn an_answer_to_something_else_is_refused() {
    use MessageType::{KeyResponse, ReportRequest, ReportResponse as Report};
    let full = size_of::<ReportResponse>();
    for (kind, sequence, length, expected) in [
        (Report, 2, full, Ok(())),
        (KeyResponse, 2, full, Err(MessageError::Broken)),
        (ReportRequest, 2, full, Err(MessageError::Broken)),
        (Report, 0, full, Err(MessageError::Broken)),
        (Report, 1, full, Err(MessageError::Broken)),
        (Report, 4, full, Err(MessageError::Broken)),
        (Report, 2, full - 1, Err(MessageError::Broken)),
        (Report, 2, full + 1, Err(MessageError::Broken)),
        (Report, 2, 4, Err(MessageError::Broken)),
        (Report, 2, 3, Err(MessageError::Broken)),
        (Report, 2, 0, Err(MessageError::Broken)),
    ] {
        let mut machine = Machine::new();
        machine.firmware.tamper = Box::new(move |page| {
            *page = sealed(kind, sequence, &mut vec![0; length]);
        });
        let result =
            Channel::new().report(&message_key(), &mut machine, &[0; 64], &mut [0; REPORT_LEN]);
        assert_eq!(result, expected, "{kind:?} {sequence} {length}");
    }
}

/// A refusal may be as short as its status.
#[test]
fn a_refusal_of_any_length_keeps_the_channel() {
    for length in [4, 32, 64, size_of::<ReportResponse>()] {
        let mut machine = Machine::new();
        let mut payload = vec![0; length];
        payload[0] = 0x16;
        machine.firmware.tamper = Box::new(move |page| {
            let header = Header::read_from_prefix(&page[..]).unwrap().0;
            let kind = if header.msg_type == MessageType::KeyResponse as u8 {
                MessageType::KeyResponse
            } else {
                MessageType::ReportResponse
            };
            *page = sealed(kind, header.msg_seqno.get(), &mut payload.clone());
        });
        let keep = Locked::boot(&mut machine);
        for _ in 0..2 {
            assert_eq!(report(&keep, &mut machine, &[0; 64]), Err(Errno::Inval));
            assert_eq!(
                key(&keep, &mut machine, &[0; KEY_REQUEST]),
                Err(Errno::Inval)
            );
        }
        machine.firmware.tamper = Box::new(|_| ());
        let report = report(&keep, &mut machine, &[9; 64]).unwrap();
        assert_eq!(report[..], report_for(&[9; 64])[..]);
    }
}

/// If a host forwards nothing for 30 seconds, the result is "busy", and the key is kept: the sent message
/// waits unchanged, because its sequence number is used.
#[test]
fn a_message_waits_until_the_host_carries_it() {
    for (same, broken) in [(true, false), (false, false), (false, true)] {
        let mut machine = Machine::new();
        let keep = Locked::boot(&mut machine);
        prepare(&mut machine, Fate::Busy(usize::MAX));
        for tries in 1..3 {
            machine.parked.clear();
            assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Busy));
            // Slept between two attempts, a tenth of a second each.
            assert_eq!(machine.parked, [100_000_000; TRIES]);
            let [(message, times)] = &machine.firmware.messages[..] else {
                panic!("one message, sent again and again");
            };
            assert_eq!((sequence(message), *times), (1, TRIES * tries));
        }
        if broken {
            prepare(&mut machine, Fate::Flipped(HEADER_LEN, 1));
            assert_eq!(report(&keep, &mut machine, &[2; 64]), Err(Errno::Io));
            assert_eq!(machine.firmware.messages.len(), 1, "nothing follows it");
            assert!(!keep.key().is_set());
            continue;
        }
        prepare(&mut machine, Fate::Carried);
        let data = if same { [1; 64] } else { [2; 64] };
        let report = report(&keep, &mut machine, &data).unwrap();
        assert_eq!(report[..], report_for(&data)[..]);
        let sent: Vec<u64> = machine
            .firmware
            .messages
            .iter()
            .map(|(message, _)| sequence(message))
            .collect();
        assert_eq!(sent, if same { vec![1] } else { vec![1, 3] });
    }
}

/// The answer to the waiting message is discarded, whatever it is; the next request gets its own.
#[test]
fn a_refused_message_that_waited_is_forgotten() {
    let mut machine = Machine::new();
    let keep = Locked::boot(&mut machine);
    prepare(&mut machine, Fate::Busy(usize::MAX));
    assert_eq!(key(&keep, &mut machine, &[3; 32]), Err(Errno::Busy));
    prepare(&mut machine, Fate::Refused(0x16));
    assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Inval));
    prepare(&mut machine, Fate::Carried);
    assert_eq!(key(&keep, &mut machine, &[3; 32]), Ok(key_for(&[3; 32])));
}

#[test]
fn vcpus_send_messages_one_after_the_other() {
    let mut machine = Machine::new();
    let keep = Locked::boot(&mut machine);
    let channel = keep.with(Kernel::take_channel).unwrap().unwrap();
    assert!(keep.with(Kernel::take_channel).unwrap().is_none());
    // Another one waits without the kernel's lock; the Keep ends in the meantime.
    machine.ended = true;
    assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Io));
    machine.ended = false;
    keep.with(|kernel| kernel.give_channel(Some(&channel)));
    assert!(report(&keep, &mut machine, &[1; 64]).is_ok());
    keep.with(|kernel| kernel.give_channel(None));
    assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Io));
}

#[test]
fn nothing_is_signed_after_the_end() {
    // The end comes before, and while the message is in transit.
    for on_the_way in [false, true] {
        let mut machine = Machine::new();
        let keep = Locked::boot(&mut machine);
        if on_the_way {
            machine.ended = true;
        } else {
            keep.key().wipe();
        }
        assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Io));
        assert_eq!(machine.firmware.messages.len(), usize::from(on_the_way));
        machine.ended = false;
        assert_eq!(key(&keep, &mut machine, &[0; 32]), Err(Errno::Io));
        assert_eq!(machine.firmware.messages.len(), usize::from(on_the_way));
        assert!(!keep.key().is_set());
    }
}

/// Copies of keys may be on the stack.
#[test]
fn the_stack_is_wiped_after_each_message() {
    let mut machine = Machine::new();
    let keep = Locked::boot(&mut machine);
    for (number, fate) in (1..).zip([
        Fate::Carried,
        Fate::Refused(1),
        Fate::Busy(usize::MAX),
        Fate::Dropped,
    ]) {
        prepare(&mut machine, fate);
        let _ = report(&keep, &mut machine, &[0; 64]);
        assert_eq!(machine.wiped_stacks, number);
    }
}

/// The answer to an earlier request, sent again.
#[test]
fn an_old_answer_is_refused() {
    let mut machine = Machine::new();
    let keep = Locked::boot(&mut machine);
    let old = Rc::new(Cell::new([0; 4096]));
    let kept = Rc::clone(&old);
    machine.firmware.tamper = Box::new(move |page| kept.set(*page));
    report(&keep, &mut machine, &[1; 64]).unwrap();
    machine.firmware.tamper = Box::new(move |page| *page = old.get());
    assert_eq!(report(&keep, &mut machine, &[1; 64]), Err(Errno::Io));
}

#[test]
fn there_are_no_messages_without_snp() {
    let mut machine = Machine::new();
    assert_eq!(
        report(&Locked::unbooted(), &mut machine, &[0; 64]),
        Err(Errno::NoSys)
    );
    assert!(machine.firmware.messages.is_empty());
}

#[test]
fn the_key_is_not_printed() {
    assert_eq!(format!("{:?}", message_key()), "MessageKey { .. }");
    let mut random = Random::new();
    random.add_secret(KEY);
    assert_eq!(format!("{random:?}"), "Random { .. }");
}
