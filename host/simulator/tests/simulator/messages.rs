// SPDX-License-Identifier: Apache-2.0

//! Guest messages: the firmware's answers, and that it answers nothing that is repeated, reordered or changed.

use crate::fake::{
    Conversation, POLICY, genoa, guest, guest_with, load, machine, open, seal, vmsa,
};
use enarx_simulator::{Launching, Settings, Status};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::cpuid::Entry;
use enarx_snp::guest_message::{
    HEADER_LEN, KeyRequest, KeyResponse, MessageType, ReportRequest, TscInfoResponse, status,
};
use enarx_snp::launch::PageType;
use enarx_snp::product::GENOA;
use enarx_snp::tcb::Component;
use proptest::prelude::*;
use std::collections::BTreeSet;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const REPORT: MessageType = MessageType::ReportRequest;

fn report_request() -> ReportRequest {
    ReportRequest::new_zeroed()
}

#[test]
fn messages_go_in_order_each_once() {
    let (mut guest, secrets) = guest();
    let key = &secrets.vmpck[0];
    let request = |seqno| seal(key, 0, seqno, REPORT, 1, report_request().as_bytes());
    for wrong in [0, 2, 3, u64::MAX] {
        assert_eq!(
            guest.guest_request(&request(wrong)),
            Err(Status::AeadOverflow)
        );
    }
    let answer = guest.guest_request(&request(1)).unwrap();
    open(key, 0, 1, MessageType::ReportResponse, &answer);
    for wrong in [1, 2, 4] {
        assert_eq!(
            guest.guest_request(&request(wrong)),
            Err(Status::AeadOverflow)
        );
    }
    guest.guest_request(&request(3)).unwrap();
    assert_eq!(guest.guest_request(&answer), Err(Status::AeadOverflow));

    // Each key has its own count, and differs from the others.
    let other = &secrets.vmpck[2];
    let mut payload = report_request();
    payload.vmpl.set(2);
    let crossed = seal(key, 2, 1, REPORT, 1, payload.as_bytes());
    assert_eq!(guest.guest_request(&crossed), Err(Status::BadMeasurement));
    let good = seal(other, 2, 1, REPORT, 1, payload.as_bytes());
    let answer = guest.guest_request(&good).unwrap();
    let answer = open(other, 2, 1, MessageType::ReportResponse, &answer);
    assert_eq!(answer[..4], [0; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_changed_message_is_refused_and_does_no_harm(at in 0usize..HEADER_LEN + 0x60, mask in 1u8..) {
        let (mut guest, secrets) = guest();
        let good = seal(&secrets.vmpck[0], 0, 1, REPORT, 1, report_request().as_bytes());
        let mut bad = good;
        bad[at] ^= mask;
        prop_assert!(guest.guest_request(&bad).is_err());
        prop_assert!(guest.guest_request(&good).is_ok());
    }

    #[test]
    fn any_page_is_handled(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
        let (mut guest, _) = guest();
        prop_assert!(guest.guest_request(bytes.as_slice().try_into().unwrap()).is_err());
    }

    #[test]
    fn any_authentic_payload_is_handled(
        kind in prop_oneof![
            Just(MessageType::CpuidRequest), Just(MessageType::KeyRequest), Just(REPORT),
            Just(MessageType::TscInfoRequest), Just(MessageType::ExportRequest),
        ],
        version in 0u8..4,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut guest, secrets) = guest();
        let request = seal(&secrets.vmpck[0], 0, 1, kind, version, &payload);
        if let Err(status) = guest.guest_request(&request) {
            prop_assert_eq!(status, Status::InvalidParam);
        }
    }
}

#[test]
fn truncated_and_foreign_messages_are_refused() {
    let (mut guest, secrets) = guest();
    let key = &secrets.vmpck[0];
    let whole = report_request();
    for (kind, version, payload) in [
        (REPORT, 1, &whole.as_bytes()[..0x5F]),
        (REPORT, 2, whole.as_bytes()),
        (REPORT, 0, whole.as_bytes()),
        (MessageType::ReportResponse, 1, whole.as_bytes()),
        (MessageType::ExportRequest, 1, whole.as_bytes()),
        (MessageType::KeyRequest, 1, &[0; 0x1F]),
        (MessageType::KeyRequest, 2, &[0; 0x27]),
        (MessageType::KeyRequest, 3, &[0; 0x28]),
        (MessageType::TscInfoRequest, 1, &[0; 127]),
        (MessageType::CpuidRequest, 1, &[1; 3]),
    ] {
        let request = seal(key, 0, 1, kind, version, payload);
        assert_eq!(guest.guest_request(&request), Err(Status::InvalidParam));
    }
    // None of them counted.
    let request = seal(key, 0, 1, REPORT, 1, whole.as_bytes());
    guest.guest_request(&request).unwrap();
}

#[test]
fn a_report_is_for_the_asking_level_or_a_lower_one() {
    let (mut guest, secrets) = guest();
    let key = &secrets.vmpck[1];
    for (n, (vmpl, expected)) in [
        (0, status::INVALID_PARAMETERS),
        (1, 0),
        (3, 0),
        (4, status::INVALID_PARAMETERS),
        (u32::MAX, status::INVALID_PARAMETERS),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = report_request();
        request.vmpl.set(vmpl);
        let seqno = 2 * n as u64 + 1;
        let page = seal(key, 1, seqno, REPORT, 1, request.as_bytes());
        let answer = guest.guest_request(&page).unwrap();
        let answer = open(key, 1, seqno, MessageType::ReportResponse, &answer);
        assert_eq!(answer[..4], expected.to_le_bytes(), "{vmpl}");
    }
}

#[test]
fn missing_keys_are_named() {
    let mut talk = Conversation::new(guest());
    for (select, expected) in [
        (0, 0),
        (1, 0),
        (2, status::INVALID_KEY),
        (3, 0x16),
        (4, 0x16),
    ] {
        let answer = crate::machine::ask(&mut talk, [0; 64], select);
        assert_eq!(answer.status.get(), expected, "{select}");
        assert_eq!(answer.report.measurement == [0; 48], expected != 0);
    }
    for (root, expected) in [(0, 0), (1, 0x27), (2, 0), (4, 0x27), (6, 0x16), (8, 0x16)] {
        let mut request = KeyRequest::new_zeroed();
        request.root_key_select.set(root);
        assert_eq!(derive(&mut talk, &request).status.get(), expected, "{root}");
    }
}

fn derive(talk: &mut Conversation, request: &KeyRequest) -> KeyResponse {
    let answer = talk
        .ask(
            MessageType::KeyRequest,
            2,
            request.as_bytes(),
            MessageType::KeyResponse,
        )
        .unwrap();
    KeyResponse::read_from_bytes(&answer).unwrap()
}

#[test]
fn derived_keys_depend_only_on_the_selected_fields() {
    let tcb = Settings::new(&GENOA).tcb.committed;
    let older = tcb.with(GENOA.tcb, Component::Snp, 1);
    let measured_otherwise = || {
        let mut launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
        let secrets = load(&mut launching);
        let page = &mut [1; 4096];
        launching.update(PageType::Normal, 0x9000, page).unwrap();
        (launching.finish(None, [0; 32]).unwrap(), secrets)
    };
    let other_policy = GuestPolicy(POLICY.0 | 1 << 20);
    let mut guests = [
        Conversation::new(guest()),
        Conversation::new(guest()),
        Conversation::new(guest_with(genoa(), other_policy)),
        Conversation::new(measured_otherwise()),
    ];
    let mut seen = BTreeSet::new();
    for fields in 0..=0x7F {
        let mut request = KeyRequest::new_zeroed();
        request.guest_field_select.set(fields);
        request.tcb_version = tcb;
        request.launch_mit_vector.set(1);
        let mut key = |guest: usize, request: &KeyRequest| {
            let answer = derive(&mut guests[guest], request);
            assert_eq!(answer.status.get(), 0);
            answer.derived_key
        };
        let first = key(0, &request);
        assert!(seen.insert(first), "{fields:#x} gives the key of others");
        assert_eq!(key(0, &request), first);
        assert_eq!(key(1, &request), first);
        assert_eq!(key(2, &request) == first, fields & 1 == 0);
        assert_eq!(key(3, &request) == first, fields & 8 == 0);
        let mut other = request;
        other.tcb_version = older;
        assert_eq!(key(0, &other) == first, fields & 0x20 == 0);
        let mut other = request;
        other.launch_mit_vector.set(2);
        assert_eq!(key(0, &other) == first, fields & 0x40 == 0);
        let mut other = request;
        other.vmpl.set(1);
        assert_ne!(key(0, &other), first);
    }
}

#[test]
fn keys_of_a_newer_guest_or_machine_are_not_derived() {
    let mut talk = Conversation::new(guest());
    let tcb = Settings::new(&GENOA).tcb.committed;
    let newer = tcb.with(GENOA.tcb, Component::Microcode, 0xFF);
    for change in [
        (|r, _| r.guest_svn.set(1)) as fn(&mut KeyRequest, _),
        |r, newer| r.tcb_version = newer,
        |r, _| r.guest_field_select.set(0x80),
        |r, _| r.launch_mit_vector.set(1 << 40),
        |r, _| r.vmpl.set(4),
        |r, _| r.reserved.set(1),
    ] {
        let mut request = KeyRequest::new_zeroed();
        change(&mut request, newer);
        let answer = derive(&mut talk, &request);
        assert_eq!(answer.status.get(), status::INVALID_PARAMETERS);
        assert_eq!(answer.derived_key, [0; 32]);
    }
    // The first version of the message has no mitigation vector.
    let mut request = KeyRequest::new_zeroed();
    for (fields, expected) in [(0x3F, 0), (0x40, status::INVALID_PARAMETERS)] {
        request.guest_field_select.set(fields);
        let payload = &request.as_bytes()[..0x20];
        let answer = talk
            .ask(
                MessageType::KeyRequest,
                1,
                payload,
                MessageType::KeyResponse,
            )
            .unwrap();
        assert_eq!(answer[..4], expected.to_le_bytes());
    }
}

#[test]
fn cpuid_and_the_time_stamp_counter_are_answered() {
    let mut entry = Entry::new_zeroed();
    entry.eax_in.set(7);
    entry.ebx.set(0b110);
    let mut settings = Settings::new(&GENOA);
    settings.cpuid = vec![entry];
    let mut launching = Launching::start(machine(settings), POLICY, [0; 16]).unwrap();
    let secrets = load(&mut launching);
    assert_eq!(launching.update_vmsa(&vmsa()), Ok(()));
    let mut talk = Conversation::new((launching.finish(None, [0; 32]).unwrap(), secrets));

    for (ebx, expected) in [(0b010, 0), (0b111, status::INVALID_PARAMETERS)] {
        let mut asked = entry;
        asked.ebx.set(ebx);
        let mut payload = U32::new(1).as_bytes().to_vec();
        payload.resize(16, 0);
        payload.extend_from_slice(asked.as_bytes());
        let answer = talk
            .ask(
                MessageType::CpuidRequest,
                1,
                &payload,
                MessageType::CpuidResponse,
            )
            .unwrap();
        assert_eq!(answer.len(), 64);
        assert_eq!(answer[..4], u32::to_le_bytes(expected));
        assert_eq!(answer[4..8], [1, 0, 0, 0]);
        let answered = Entry::read_from_bytes(&answer[16..]).unwrap();
        assert_eq!(answered.ebx.get(), ebx & 0b110);
    }

    let answer = talk
        .ask(
            MessageType::TscInfoRequest,
            1,
            &[0; 128],
            MessageType::TscInfoResponse,
        )
        .unwrap();
    let answer = TscInfoResponse::read_from_bytes(&answer).unwrap();
    assert_eq!(answer.guest_tsc_scale.get(), 1 << 32);
    assert_eq!(answer.guest_tsc_offset.get(), 0);
}
