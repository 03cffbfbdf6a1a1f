// SPDX-License-Identifier: Apache-2.0

//! The host's side of the GHCB protocol: every event, every refusal, and pages of any content.

use crate::fake::{guest, open, seal};
use enarx_simulator::{Action, Config, Hypervisor, PageChange, Pvalidate, SharedMemory, Violation};
use enarx_snp::ghcb::msr::{Register, Request, Response};
use enarx_snp::ghcb::{
    Field, Ghcb, PageOperation, PageStateChange, PageStateEntry,
    ap::{CREATE, DESTROY},
    exit, features,
};
use enarx_snp::guest_message::{MessageType, ReportRequest, ReportResponse};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Mutex;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
const RAM: Range<u64> = 0..16 << 20;
/// Shared memory of the tests: 16 pages after the RAM.
const SHARED: u64 = RAM.end;
const GHCB: u64 = SHARED;

/// Shared memory at [`SHARED`].
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn new() -> Self {
        Self(Mutex::new(vec![0; 16 * 4096]))
    }

    fn range(&self, gpa: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(gpa.checked_sub(SHARED)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.0.lock().unwrap().len()).then_some(start..end)
    }

    fn get<T: FromBytes>(&self, gpa: u64) -> T {
        let range = self.range(gpa, size_of::<T>()).unwrap();
        T::read_from_bytes(&self.0.lock().unwrap()[range]).unwrap()
    }

    fn put(&self, gpa: u64, bytes: &[u8]) {
        self.write(gpa, bytes).unwrap();
    }
}

impl SharedMemory for Memory {
    fn read(&self, gpa: u64, to: &mut [u8]) -> Option<()> {
        let range = self.range(gpa, to.len())?;
        to.copy_from_slice(&self.0.lock().unwrap()[range]);
        Some(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        let range = self.range(gpa, from.len())?;
        self.0.lock().unwrap()[range].copy_from_slice(from);
        Some(())
    }
}

fn config() -> Config {
    Config {
        vcpus: 2,
        c_bit: 40,
        ram: RAM,
        huge_pages: true,
    }
}

/// A host whose first vCPU has registered its GHCB, the guest's first key, and the shared memory.
fn host_with(config: Config) -> (Hypervisor, [u8; 32], Memory) {
    let (guest, secrets) = guest();
    let host = Hypervisor::new(guest, config);
    let memory = Memory::new();
    let register = Request::RegisterGhcb { gfn: GHCB / PAGE };
    assert_eq!(
        host.msr_write(0, register.encode(), &memory),
        Action::Resume
    );
    let registered = Response::RegisterGhcb { gfn: GHCB / PAGE };
    assert_eq!(host.msr_read(0), registered.encode());
    (host, secrets.vmpck[0], memory)
}

fn host() -> (Hypervisor, [u8; 32], Memory) {
    host_with(config())
}

fn ghcb(code: u64, info_1: u64, info_2: u64) -> Ghcb {
    let mut ghcb = Ghcb::default();
    ghcb.protocol_version.set(2);
    ghcb.sw_exit_code.set(code);
    ghcb.sw_exit_info_1.set(info_1);
    ghcb.sw_exit_info_2.set(info_2);
    for field in [Field::SwExitCode, Field::SwExitInfo1, Field::SwExitInfo2] {
        ghcb.set_valid(field, true);
    }
    ghcb
}

/// One exit: what the host does, and SW_EXITINFO1 and 2 afterwards.
fn exit(host: &Hypervisor, memory: &Memory, ghcb: &Ghcb) -> (Action, u64, u64) {
    memory.put(GHCB, ghcb.as_bytes());
    let action = host.msr_write(0, Request::Ghcb { gpa: GHCB }.encode(), memory);
    let after: Ghcb = memory.get(GHCB);
    if !matches!(action, Action::Violation(_)) {
        assert!(after.is_valid(Field::SwExitInfo1) && after.is_valid(Field::SwExitInfo2));
        assert!(!after.is_valid(Field::SwExitCode) && !after.is_valid(Field::Rax));
    }
    (
        action,
        after.sw_exit_info_1.get(),
        after.sw_exit_info_2.get(),
    )
}

/// Asserts that the host refuses the GHCB for this reason (56421, malformed input).
#[track_caller]
fn assert_malformed(host: &Hypervisor, memory: &Memory, ghcb: &Ghcb, reason: u64) {
    assert_eq!(exit(host, memory, ghcb), (Action::Resume, 2, reason));
}

fn change(gpa: u64, bytes: u64, private: bool) -> PageChange {
    PageChange {
        gpa,
        bytes,
        private,
    }
}

#[test]
fn the_msr_protocol_is_answered() {
    let (guest, _) = guest();
    let host = Hypervisor::new(guest, config());
    let memory = Memory::new();
    let sev_info = Response::SevInfo {
        max: 2,
        min: 2,
        c_bit: 40,
    };
    // As after a reset.
    assert_eq!(host.msr_read(0), sev_info.encode());
    let ask = |request: Request| {
        let action = host.msr_write(1, request.encode(), &memory);
        (action, Response::decode(host.msr_read(1)))
    };
    assert_eq!(ask(Request::SevInfo), (Action::Resume, Some(sev_info)));
    let none = Response::PreferredGhcb { gfn: (1 << 52) - 1 };
    assert_eq!(ask(Request::PreferredGhcb), (Action::Resume, Some(none)));
    let bitmap = features::SNP | features::SNP_AP_CREATION;
    let features = Response::HvFeatures { bitmap };
    assert_eq!(ask(Request::HvFeatures), (Action::Resume, Some(features)));
    let terminate = Request::Terminate { set: 1, reason: 7 };
    assert_eq!(ask(terminate).0, Action::Terminate { set: 1, reason: 7 });
    for request in [
        Request::Cpuid {
            function: 0,
            register: Register::Eax,
        },
        Request::ApResetHold,
        Request::RunVmpl { vmpl: 1 },
    ] {
        let value = request.encode();
        assert_eq!(ask(request).0, Violation::Msr { value }.into());
    }
    assert_eq!(
        host.msr_write(0, 0x555, &memory),
        Violation::Msr { value: 0x555 }.into()
    );
    assert_eq!(
        host.msr_write(2, 0x002, &memory),
        Violation::NoVcpu { vcpu: 2 }.into()
    );
    assert_eq!(host.msr_read(2), 0);
}

#[test]
fn pages_change_state_by_the_msr() {
    let (host, _, memory) = host();
    let ask = |gfn, operation| {
        let request = Request::PageState { gfn, operation };
        let action = host.msr_write(0, request.encode(), &memory);
        (action, host.msr_read(0))
    };
    let done = Response::PageState { error: 0 }.encode();
    let private = PageOperation::Private;
    assert_eq!(
        ask(0x20, private),
        (Action::PageState(vec![change(0x20_000, PAGE, true)]), done)
    );
    assert!(host.is_private(0x20_000) && !host.is_validated(0x20_000));
    // Nothing to move the second time.
    assert_eq!(ask(0x20, private), (Action::Resume, done));
    assert_eq!(
        ask(0x20, PageOperation::Shared),
        (Action::PageState(vec![change(0x20_000, PAGE, false)]), done)
    );
    let failed = Response::PageState { error: 1 }.encode();
    assert_eq!(ask(RAM.end / PAGE, private), (Action::Resume, failed));
    assert_eq!(ask((1 << 40) - 1, private), (Action::Resume, failed));
}

#[test]
fn a_ghcb_must_be_registered_shared_and_of_this_version() {
    let (host, _, memory) = host();
    let other = GHCB + PAGE;
    let unregistered = Violation::NotRegistered { gpa: other };
    assert_eq!(host.msr_write(0, other, &memory), unregistered.into());
    assert_eq!(
        host.msr_write(1, GHCB, &memory),
        Violation::NotRegistered { gpa: GHCB }.into()
    );
    let good = ghcb(exit::HV_FEATURES, 0, 0);
    let bitmap = features::SNP | features::SNP_AP_CREATION;
    assert_eq!(exit(&host, &memory, &good), (Action::Resume, 0, bitmap));
    let mut bad = good;
    bad.protocol_version.set(1);
    assert_eq!(
        exit(&host, &memory, &bad).0,
        Violation::Version { found: 1 }.into()
    );
    let mut bad = good;
    bad.ghcb_usage.set(1);
    assert_malformed(&host, &memory, &bad, 2);
    for field in [Field::SwExitCode, Field::SwExitInfo1, Field::SwExitInfo2] {
        let mut bad = good;
        bad.set_valid(field, false);
        assert_malformed(&host, &memory, &bad, 4);
    }
    // A GHCB in a launch page, which is private, and one outside memory.
    for (gpa, violation) in [
        (0x1000, Violation::Private { gpa: 0x1000 }),
        (0x5000, Violation::NoMemory { gpa: 0x5000 }),
    ] {
        let register = Request::RegisterGhcb { gfn: gpa / PAGE };
        host.msr_write(0, register.encode(), &memory);
        assert_eq!(host.msr_write(0, gpa, &memory), violation.into());
    }
}

#[test]
fn unsupported_events_are_refused() {
    let (host, _, memory) = host();
    for code in [
        exit::MSR,
        exit::CPUID,
        exit::MMIO_READ,
        exit::MMIO_WRITE,
        exit::NMI_COMPLETE,
        exit::AP_RESET_HOLD,
        exit::AP_JUMP_TABLE,
        exit::HV_DOORBELL,
        exit::RUN_VMPL,
        exit::UNSUPPORTED,
        0x6E,
        u64::MAX,
    ] {
        assert_malformed(&host, &memory, &ghcb(code, 0, 0), 6);
    }
    // Set 2, reason A5h.
    let terminate = ghcb(exit::TERMINATE, 0xA52, 0);
    let action = Action::Terminate {
        set: 2,
        reason: 0xA5,
    };
    assert_eq!(exit(&host, &memory, &terminate), (action, 0, 0));
}

#[test]
fn ports_are_written_32_bits_at_a_time() {
    let (host, _, memory) = host();
    let mut out = ghcb(exit::IOIO, 0x402 << 16 | 1 << 6, 0);
    assert_malformed(&host, &memory, &out, 4);
    out.rax.set(0xFFFF_FFFF_1234_5678);
    out.set_valid(Field::Rax, true);
    let action = Action::PortOut {
        port: 0x402,
        value: 0x1234_5678,
    };
    assert_eq!(exit(&host, &memory, &out), (action, 0, 0));
    // IN, string, 8 bits, 16 bits, two sizes.
    for info in [0x41, 0x44, 0x10, 0x20, 0x60] {
        let mut bad = out;
        bad.sw_exit_info_1.set(0x402 << 16 | info);
        assert_malformed(&host, &memory, &bad, 5);
    }
}

/// A page state change of these entries at `offset` of the shared buffer.
fn page_state(first: u16, entries: &[(u64, PageOperation, bool)], offset: usize) -> Ghcb {
    let mut request = PageStateChange::new_zeroed();
    request.cur_entry.set(first);
    let last = u16::try_from(entries.len()).unwrap() - 1;
    request.end_entry.set(last);
    for (to, (gfn, operation, huge)) in request.entries.iter_mut().zip(entries) {
        *to = PageStateEntry::new(*gfn, *operation, *huge).unwrap();
    }
    let mut ghcb = ghcb(exit::PAGE_STATE_CHANGE, 0, 0);
    let len = (8 + entries.len() * 8).min(2032 - offset);
    ghcb.shared_buffer[offset..offset + len].copy_from_slice(&request.as_bytes()[..len]);
    ghcb.sw_scratch.set(GHCB + 0x800 + offset as u64);
    ghcb.set_valid(Field::SwScratch, true);
    ghcb
}

fn progress(memory: &Memory, offset: u64) -> PageStateChange {
    let mut request = PageStateChange::new_zeroed();
    let len = request.as_bytes().len() - usize::try_from(offset).unwrap();
    memory
        .read(GHCB + 0x800 + offset, &mut request.as_mut_bytes()[..len])
        .unwrap();
    request
}

#[test]
fn pages_change_state_by_the_ghcb() {
    use PageOperation::{Private, Psmash, Shared, Unsmash};
    let (host, _, memory) = host();
    let huge = HUGE / PAGE;
    let request = page_state(
        0,
        &[
            (0x20, Private, false),
            (huge, Private, true),
            (0x21, Psmash, false),
            (huge, Unsmash, true),
            (0x20, Shared, false),
            (0x30, Private, false),
        ],
        16,
    );
    let changes = vec![
        change(0x20_000, PAGE, true),
        change(HUGE, HUGE, true),
        change(0x20_000, PAGE, false),
        change(0x30_000, PAGE, true),
    ];
    assert_eq!(
        exit(&host, &memory, &request),
        (Action::PageState(changes), 0, 0)
    );
    let after = progress(&memory, 16);
    assert_eq!((after.cur_entry.get(), after.end_entry.get()), (6, 5));
    assert_eq!(after.entries[0].current_page(), 1);
    assert_eq!(after.entries[1].current_page(), 512);
    assert!(after.entries[1].is_huge() && after.entries[1].gfn() == huge);
    // Validated as one page of 2 MiB.
    let fresh = Pvalidate {
        code: 0,
        carry: false,
    };
    assert_eq!(host.pvalidate(HUGE, true, true), Ok(fresh));
    assert!(!host.is_private(0x20_000) && host.is_private(0x30_000));
}

#[test]
fn a_host_without_large_pages_gives_small_ones() {
    let (host, _, memory) = host_with(Config {
        huge_pages: false,
        ..config()
    });
    let request = page_state(0, &[(512, PageOperation::Private, true)], 0);
    let changes = vec![change(HUGE, HUGE, true)];
    assert_eq!(
        exit(&host, &memory, &request),
        (Action::PageState(changes), 0, 0)
    );
    let mismatch = Pvalidate {
        code: 6,
        carry: false,
    };
    assert_eq!(host.pvalidate(HUGE, true, true), Ok(mismatch));
    let fresh = Pvalidate {
        code: 0,
        carry: false,
    };
    assert_eq!(host.pvalidate(HUGE, false, true), Ok(fresh));
}

#[test]
fn a_page_state_change_stops_at_the_entry_that_is_wrong() {
    use PageOperation::{Private, Shared};
    let (host, _, memory) = host();
    let good = (0x20, Private, false);
    let entry_error = 1 << 32 | 2;
    for (bad, error) in [
        ((1, Private, true), entry_error),
        ((RAM.end / PAGE, Shared, false), 0x100 << 32),
        (((1 << 40) - 512, Private, true), 0x100 << 32),
    ] {
        let request = page_state(0, &[good, bad, (0x40, Private, false)], 0);
        let (action, info_1, info_2) = exit(&host, &memory, &request);
        assert_eq!(
            action,
            Action::PageState(vec![change(0x20_000, PAGE, true)])
        );
        assert_eq!((info_1, info_2), (0, error));
        assert_eq!(progress(&memory, 0).cur_entry.get(), 1);
        assert!(!host.is_private(0x40_000));
        let undo = page_state(0, &[(0x20, Shared, false)], 0);
        exit(&host, &memory, &undo);
    }
    // An unknown operation, and more finished pages than there are.
    for raw in [0x20u64 << 12 | 7 << 52, 0x20 << 12 | 1 << 52 | 2] {
        let mut request = page_state(0, &[good], 0);
        request.shared_buffer[8..16].copy_from_slice(&raw.to_le_bytes());
        assert_eq!(
            exit(&host, &memory, &request),
            (Action::Resume, 0, entry_error)
        );
    }
    // Half of a large page is done already: the rest comes in small pages.
    let mut request = page_state(0, &[(512, Private, true)], 0);
    request.shared_buffer[8] = 0;
    request.shared_buffer[9] |= 1;
    assert_eq!(
        exit(&host, &memory, &request),
        (
            Action::PageState(vec![change(HUGE + HUGE / 2, HUGE / 2, true)]),
            0,
            0
        )
    );
    // It begins after its end: nothing to do.
    let request = page_state(3, &[good], 0);
    assert_eq!(exit(&host, &memory, &request), (Action::Resume, 0, 0));
}

#[test]
fn a_page_state_change_is_in_the_shared_buffer() {
    let (host, _, memory) = host();
    let good = page_state(0, &[(0x20, PageOperation::Private, false)], 0);
    let mut bad = good;
    bad.set_valid(Field::SwScratch, false);
    assert_malformed(&host, &memory, &bad, 4);
    for scratch in [
        0,
        GHCB + 0x7F8,
        GHCB + 0xFF0,
        GHCB + PAGE + 0x800,
        u64::MAX,
        // The entry is beyond the end.
        GHCB + 0xFE8,
    ] {
        let mut bad = good;
        bad.shared_buffer = [0; 2032];
        bad.sw_scratch.set(scratch);
        assert_malformed(&host, &memory, &bad, 3);
    }
    let mut long = good;
    long.shared_buffer[2..4].copy_from_slice(&253u16.to_le_bytes());
    assert_eq!(
        exit(&host, &memory, &long),
        (Action::Resume, 0, 1 << 32 | 1)
    );
    let mut long = good;
    long.shared_buffer[2..4].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(
        exit(&host, &memory, &long),
        (Action::Resume, 0, 1 << 32 | 1)
    );
    // The largest that fits.
    let entries: Vec<_> = (0..253)
        .map(|n| (0x100 + n, PageOperation::Private, false))
        .collect();
    let (action, _, error) = exit(&host, &memory, &page_state(0, &entries, 0));
    assert!(matches!(action, Action::PageState(changes) if changes.len() == 253));
    assert_eq!(error, 0);
    assert_malformed(&host, &memory, &page_state(0, &entries, 8), 3);
}

#[test]
fn guest_messages_reach_the_firmware() {
    let (host, key, memory) = host();
    let (request_gpa, response_gpa, table) = (SHARED + PAGE, SHARED + 2 * PAGE, SHARED + 3 * PAGE);
    let report = ReportRequest::new_zeroed();
    let send = |seqno| {
        let kind = MessageType::ReportRequest;
        memory.put(
            request_gpa,
            &seal(&key, 0, seqno, kind, 1, report.as_bytes()),
        );
    };
    let answered = |seqno| {
        let page: [u8; 4096] = memory.get(response_gpa);
        let answer = open(&key, 0, seqno, MessageType::ReportResponse, &page);
        ReportResponse::read_from_bytes(&answer).unwrap()
    };
    send(1);
    let plain = ghcb(exit::GUEST_REQUEST, request_gpa, response_gpa);
    assert_eq!(exit(&host, &memory, &plain), (Action::Resume, 0, 0));
    assert_eq!(answered(1).status.get(), 0);
    // Sent again: the firmware's error, and no answer.
    assert_eq!(exit(&host, &memory, &plain), (Action::Resume, 0, 0x1D));
    assert_eq!(memory.get::<[u8; 4096]>(response_gpa), [0; 4096]);

    send(3);
    let mut extended = ghcb(exit::EXTENDED_GUEST_REQUEST, request_gpa, response_gpa);
    assert_malformed(&host, &memory, &extended, 4);
    extended.set_valid(Field::Rax, true);
    extended.set_valid(Field::Rbx, true);
    extended.rbx.set(1);
    extended.rax.set(table + 8);
    assert_malformed(&host, &memory, &extended, 5);
    extended.rax.set(table);
    memory.put(table, &[0xFF; 32]);
    assert_eq!(exit(&host, &memory, &extended), (Action::Resume, 0, 0));
    assert_eq!(memory.get::<[u8; 24]>(table), [0; 24]);
    answered(3);

    for (request, response) in [
        (request_gpa + 1, response_gpa),
        (request_gpa, response_gpa + 8),
        (request_gpa, request_gpa),
    ] {
        let bad = ghcb(exit::GUEST_REQUEST, request, response);
        assert_malformed(&host, &memory, &bad, 4);
    }
    send(5);
    for (request, response, violation) in [
        (0x1000, response_gpa, Violation::Private { gpa: 0x1000 }),
        (request_gpa, 0x1000, Violation::Private { gpa: 0x1000 }),
        (request_gpa, 1 << 50, Violation::NoMemory { gpa: 1 << 50 }),
    ] {
        let bad = ghcb(exit::GUEST_REQUEST, request, response);
        assert_eq!(exit(&host, &memory, &bad).0, violation.into());
    }
    // None of them consumed the message.
    assert_eq!(exit(&host, &memory, &plain), (Action::Resume, 0, 0));
    answered(5);
}

#[test]
fn vcpus_start_from_a_vmsa_and_only_from_one() {
    let (host, _, memory) = host();
    let vmsa = HUGE + PAGE;
    let create = |request: u64, id: u64, gpa: u64| {
        let mut ghcb = ghcb(exit::AP_CREATION, request | id << 32, gpa);
        ghcb.rax.set(1);
        ghcb.set_valid(Field::Rax, true);
        ghcb
    };
    let good = create(CREATE, 1, vmsa);
    let no_vmsa = |gpa| Action::from(Violation::NotVmsa { gpa });
    assert_eq!(exit(&host, &memory, &good).0, no_vmsa(vmsa));
    host.assign(HUGE..2 * HUGE);
    assert_eq!(exit(&host, &memory, &good).0, no_vmsa(vmsa));
    host.pvalidate(HUGE, true, true).unwrap();
    for gpa in [HUGE, vmsa] {
        assert_eq!(host.rmpadjust(gpa, false, 1, 0, true), Ok(0));
    }

    let mut bad = good;
    bad.set_valid(Field::Rax, false);
    assert_malformed(&host, &memory, &bad, 4);
    let mut bad = good;
    bad.rax.set(0x21);
    assert_malformed(&host, &memory, &bad, 5);
    for (request, id, gpa) in [
        (0, 1, vmsa),
        (3, 1, vmsa),
        // VMPL 1.
        (CREATE | 1 << 16, 1, vmsa),
        (CREATE, 2, vmsa),
        (CREATE, u64::from(u32::MAX), vmsa),
        (DESTROY, 2, 0),
        // It runs.
        (CREATE, 0, vmsa),
        (CREATE, 1, vmsa + 8),
        // An erratum: at 2 MiB.
        (CREATE, 1, HUGE),
    ] {
        assert_malformed(&host, &memory, &create(request, id, gpa), 5);
    }
    let started = Action::StartVcpu {
        id: 1,
        vmsa_gpa: vmsa,
    };
    assert_eq!(exit(&host, &memory, &good), (started.clone(), 0, 0));
    assert_malformed(&host, &memory, &good, 5);
    let destroy = create(DESTROY, 1, 0);
    assert_eq!(
        exit(&host, &memory, &destroy),
        (Action::StopVcpu { id: 1 }, 0, 0)
    );
    assert_eq!(exit(&host, &memory, &good), (started, 0, 0));
}

#[test]
fn vcpus_use_their_host_concurrently() {
    let (host, _, memory) = host();
    std::thread::scope(|scope| {
        for vcpu in 0..2 {
            let (host, memory) = (&host, &memory);
            scope.spawn(move || {
                for n in 0..200 {
                    let gfn = 0x100 + u64::from(vcpu) * 0x100 + n;
                    let operation = PageOperation::Private;
                    let request = Request::PageState { gfn, operation };
                    let action = host.msr_write(vcpu, request.encode(), memory);
                    let expected = vec![change(gfn * PAGE, PAGE, true)];
                    assert_eq!(action, Action::PageState(expected));
                    let done = Response::PageState { error: 0 }.encode();
                    assert_eq!(host.msr_read(vcpu), done);
                }
            });
        }
    });
}

/// A page that resembles a GHCB more often than a random one.
fn any_ghcb() -> impl Strategy<Value = Ghcb> {
    let code = prop_oneof![
        Just(exit::IOIO),
        Just(exit::PAGE_STATE_CHANGE),
        Just(exit::GUEST_REQUEST),
        Just(exit::EXTENDED_GUEST_REQUEST),
        Just(exit::AP_CREATION),
        Just(exit::TERMINATE),
        any::<u64>(),
    ];
    // Not the GHCB itself, so that writes there can be detected.
    let address = || prop_oneof![(2u64..20).prop_map(|n| SHARED + n * PAGE / 2), any::<u64>()];
    let buffer = proptest::collection::vec(any::<u8>(), 2032);
    let scratch = prop_oneof![
        Just(GHCB + 0x800),
        (0u64..0x1100).prop_map(|n| GHCB + n),
        any::<u64>()
    ];
    let bitmap = prop_oneof![Just([0xFF; 16]), any::<[u8; 16]>()];
    (
        code,
        address(),
        address(),
        scratch,
        bitmap,
        buffer,
        any::<[u64; 2]>(),
    )
        .prop_map(
            |(code, info_1, info_2, scratch, bitmap, buffer, [rax, rbx])| {
                let mut ghcb = ghcb(code, info_1, info_2);
                ghcb.valid_bitmap = bitmap;
                ghcb.sw_scratch.set(scratch);
                ghcb.shared_buffer.copy_from_slice(&buffer);
                // A short request, so that entries are reached.
                ghcb.shared_buffer[1] = 0;
                ghcb.shared_buffer[3] &= 0x80;
                ghcb.rax.set(rax);
                ghcb.rbx.set(rbx);
                ghcb
            },
        )
}

/// A value that is a request more often than a random one.
fn any_msr() -> impl Strategy<Value = u64> {
    let code = prop::sample::select(vec![0, 2, 4, 6, 0x10, 0x12, 0x14, 0x16, 0x80, 0x100]);
    let data = prop_oneof![
        Just(GHCB / PAGE),
        0..2 * RAM.end / PAGE,
        // With an operation on the page.
        (0..2 * RAM.end / PAGE, 0_u64..4).prop_map(|(gfn, operation)| gfn | operation << 40),
        any::<u64>(),
    ];
    prop_oneof![
        4 => (code, data).prop_map(|(code, data)| code | data << 12),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn any_ghcb_is_served_or_refused(ghcb in any_ghcb()) {
        let (host, _, memory) = host();
        memory.put(GHCB, ghcb.as_bytes());
        let action = host.msr_write(0, GHCB, &memory);
        let after: Ghcb = memory.get(GHCB);
        match action {
            Action::Violation(_) => {}
            Action::PageState(changes) => {
                for change in changes {
                    prop_assert!(change.bytes > 0 && change.bytes.is_multiple_of(PAGE));
                    prop_assert!(change.gpa.is_multiple_of(PAGE) && change.gpa + change.bytes <= RAM.end);
                }
                prop_assert_eq!(after.sw_exit_info_1.get(), 0);
            }
            // Only the answer was written.
            _ => {
                prop_assert!(after.sw_exit_info_1.get() <= 2);
                prop_assert_eq!(after.rax, ghcb.rax);
                prop_assert_eq!(after.sw_exit_code, ghcb.sw_exit_code);
                prop_assert_eq!(after.reserved_408, ghcb.reserved_408);
            }
        }
    }

    /// A request is answered in kind or refused by name, and changes nothing else.
    #[test]
    fn any_msr_value_is_served_or_refused(value in any_msr(), vcpu in 0u32..3) {
        let (host, _, memory) = host();
        let others = |host: &Hypervisor| [0, 1, 2].map(|other| (other != vcpu).then(|| host.msr_read(other)));
        let before = (others(&host), memory.0.lock().unwrap().clone());
        let action = host.msr_write(vcpu, value, &memory);
        let answer = host.msr_read(vcpu);
        let request = Request::decode(value);
        let registered = vcpu == 0 && request == Some(Request::Ghcb { gpa: GHCB });
        if !registered {
            prop_assert_eq!((others(&host), memory.0.lock().unwrap().clone()), before);
        }
        let unserved = Action::Violation(Violation::Msr { value });
        match request {
            _ if vcpu == 2 => prop_assert_eq!(action, Action::Violation(Violation::NoVcpu { vcpu })),
            Some(Request::SevInfo | Request::PreferredGhcb | Request::RegisterGhcb { .. } | Request::HvFeatures) => {
                prop_assert_eq!(action, Action::Resume);
                // The answer to 2 is 1, to others the next number (56421, 2.3.1).
                let expected = if value & 0xFFF == 2 { 1 } else { (value & 0xFFF) + 1 };
                prop_assert_eq!(answer & 0xFFF, expected);
            }
            Some(Request::PageState { gfn, operation }) => {
                let private = operation == PageOperation::Private;
                let there = gfn < RAM.end / PAGE;
                // None of the launch's few pages, and none that is already shared, may change.
                if there && private && gfn > 16 {
                    prop_assert_eq!(action, Action::PageState(vec![change(gfn * PAGE, PAGE, true)]));
                } else if action != Action::Resume {
                    prop_assert!(there);
                    prop_assert_eq!(action, Action::PageState(vec![change(gfn * PAGE, PAGE, private)]));
                }
                prop_assert_eq!(answer, Response::PageState { error: u32::from(!there) }.encode());
            }
            Some(Request::Terminate { set, reason }) => prop_assert_eq!(action, Action::Terminate { set, reason }),
            Some(Request::Ghcb { .. }) if registered => prop_assert_ne!(action, unserved),
            Some(Request::Ghcb { gpa }) => {
                prop_assert_eq!(action, Action::Violation(Violation::NotRegistered { gpa }));
            }
            Some(Request::Cpuid { .. } | Request::ApResetHold | Request::RunVmpl { .. }) | None => {
                prop_assert_eq!(action, unserved);
            }
        }
    }
}
