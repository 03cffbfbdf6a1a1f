// SPDX-License-Identifier: Apache-2.0

//! The host's side of the GHCB protocol takes whatever a guest does: values of the GHCB MSR, GHCBs, messages to the firmware, and
//! the instructions by which pages become its own.
//!
//! A GHCB of bytes that a fuzzer makes up never has the protocol version at its end. So its fields are made of the input, each
//! one right more often than not.
#![cfg_attr(fuzzing, no_main)]

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use enarx_sallyport_drivers::script::Script;
use enarx_simulator::{Action, Config, Hypervisor, Launching, Machine, Settings, SharedMemory};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::ghcb::msr::Request;
use enarx_snp::ghcb::{Field, Ghcb, PROTOCOL_VERSION, USAGE_STANDARD, ap, exit};
use enarx_snp::guest_message::{HEADER_LEN, Header, MESSAGE_LEN, MessageType};
use enarx_snp::launch::PageType;
use enarx_snp::product::GENOA;
use enarx_snp::secrets::SecretsPage;
use enarx_snp::vmsa::Vmsa;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};
use zerocopy::{FromBytes, IntoBytes};

const PAGE: u64 = 4096;

const RAM: Range<u64> = 0..8 << 20;
/// Four pages of shared memory, the GHCB first.
const SHARED: u64 = RAM.end;
/// Most steps of a guest.
const STEPS: usize = 32;

struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn at<T>(&self, gpa: u64, len: usize, then: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let start = usize::try_from(gpa.checked_sub(SHARED)?).ok()?;
        let mut bytes = self.0.lock().ok()?;
        bytes.get_mut(start..start.checked_add(len)?).map(then)
    }
}

impl SharedMemory for Memory {
    fn read(&self, gpa: u64, to: &mut [u8]) -> Option<()> {
        self.at(gpa, to.len(), |from| to.copy_from_slice(from))
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        self.at(gpa, from.len(), |to| to.copy_from_slice(from))
    }
}

static MACHINE: LazyLock<Arc<Machine>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the keys");
    let machine = Machine::open(folder.path(), Settings::new(&GENOA));
    Arc::new(machine.expect("a machine"))
});

/// A host, and the key of its guest's messages.
fn host() -> (Hypervisor, [u8; 32]) {
    let mut launching = Launching::start(Arc::clone(&MACHINE), GuestPolicy(0x3_0000), [0; 16])
        .expect("a plain policy");
    let mut secrets = [0; 4096];
    launching
        .update(PageType::Secrets, 0, &mut secrets)
        .expect("a first page");
    let mut vmsa = Vmsa::default();
    vmsa.sev_features.set(1);
    launching.update_vmsa(&vmsa).expect("a plain vCPU");
    let guest = launching.finish(None, [0; 32]).expect("a whole launch");
    let config = Config {
        vcpus: 2,
        c_bit: 40,
        ram: RAM,
        huge_pages: true,
    };
    let secrets = SecretsPage::read_from_bytes(&secrets).expect("a page");
    (Hypervisor::new(guest, config), secrets.vmpck[0])
}

/// A page of the guest's memory, or one behind it.
fn frame(script: &mut Script<'_>) -> u64 {
    u64::from(script.u16()) % (RAM.end / PAGE + 8)
}

/// An operand: an address that means something, or anything.
fn operand(script: &mut Script<'_>) -> u64 {
    match script.byte() % 8 {
        0 => script.u64(),
        1 => SHARED + PAGE * u64::from(script.byte() % 5),
        2 => frame(script) * PAGE,
        3 => u64::from(script.byte()),
        4 => (u64::from(script.byte() % 3) << 32) | (ap::CREATE + u64::from(script.byte() % 2)),
        // OUT with 32 bits.
        5 => u64::from(script.u16()) << 16 | 1 << 6 | u64::from(script.byte() % 16),
        6 => SHARED + PAGE,
        _ => SHARED + 2 * PAGE,
    }
}

/// A value of the MSR: a request by its number, or anything.
fn msr(script: &mut Script<'_>) -> u64 {
    let codes = [
        0x002, 0x004, 0x006, 0x010, 0x012, 0x014, 0x016, 0x080, 0x100,
    ];
    match script.pick(&codes) {
        Some(code) if !script.byte().is_multiple_of(8) => {
            let operation = u64::from(script.byte() % 4) << 52;
            code | frame(script) << 12 | operation
        }
        _ => script.u64(),
    }
}

/// A message to the firmware, sealed as a guest does it.
fn message(script: &mut Script<'_>, key: &[u8; 32], sequence: u64) -> [u8; MESSAGE_LEN] {
    let kinds = [
        MessageType::ReportRequest,
        MessageType::KeyRequest,
        MessageType::CpuidRequest,
        MessageType::TscInfoRequest,
        MessageType::VmrkRequest,
        MessageType::ReportResponse,
    ];
    let kind = *script.pick(&kinds).expect("there are kinds");
    let mut payload = vec![0; usize::from(script.byte())];
    // Most of a request is zero.
    for _ in 0..script.byte() % 8 {
        let at = usize::from(script.byte()) % payload.len().max(1);
        if let Some(byte) = payload.get_mut(at) {
            *byte = script.byte();
        }
    }
    let version = script.byte() % 3;
    let mut header =
        Header::new(kind, version, payload.len(), sequence, 0).expect("it fits in a page");
    let tag = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
        .encrypt_inout_detached(
            &Nonce::from(header.iv()),
            header.aad(),
            payload.as_mut_slice().into(),
        )
        .expect("it is short");
    header.auth_tag[..16].copy_from_slice(&tag);
    let mut page = [0; MESSAGE_LEN];
    page[..HEADER_LEN].copy_from_slice(header.as_bytes());
    page[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(&payload);
    if script.byte().is_multiple_of(8) {
        page[usize::from(script.u16()) % MESSAGE_LEN] ^= script.byte();
    }
    page
}

/// A GHCB with an event.
fn ghcb(script: &mut Script<'_>) -> Ghcb {
    const BUFFER: u64 = offset_of!(Ghcb, shared_buffer) as u64;
    let codes = [
        exit::PAGE_STATE_CHANGE,
        exit::GUEST_REQUEST,
        exit::EXTENDED_GUEST_REQUEST,
        exit::AP_CREATION,
        exit::IOIO,
        exit::HV_FEATURES,
        exit::TERMINATE,
        exit::CPUID,
    ];
    let mut ghcb = Ghcb::default();
    let odd = script.byte();
    ghcb.protocol_version.set(if odd == 1 {
        script.u16()
    } else {
        PROTOCOL_VERSION
    });
    ghcb.ghcb_usage.set(if odd == 2 {
        script.u32()
    } else {
        USAGE_STANDARD
    });
    let fields = [
        Field::SwExitCode,
        Field::SwExitInfo1,
        Field::SwExitInfo2,
        Field::SwScratch,
        Field::Rax,
        Field::Rbx,
    ];
    let missing = if odd % 8 == 3 { script.byte() } else { 0 };
    for (bit, field) in fields.into_iter().enumerate() {
        ghcb.set_valid(field, missing >> bit & 1 == 0);
    }
    let code = *script.pick(&codes).expect("there are codes");
    ghcb.sw_exit_code
        .set(if odd == 4 { script.u64() } else { code });
    ghcb.sw_exit_info_1.set(operand(script));
    ghcb.sw_exit_info_2.set(operand(script));
    // The features of a vCPU, or the table of certificates.
    ghcb.rax.set(if odd.is_multiple_of(2) {
        1
    } else {
        operand(script)
    });
    ghcb.rbx.set(u64::from(script.byte() % 4));
    let from = if odd % 8 == 5 { script.u16() % 2064 } else { 0 };
    ghcb.sw_scratch.set(SHARED + BUFFER + u64::from(from));
    // The entries of a page state change.
    let count = script.byte() % 6;
    let mut bytes = vec![script.byte() % 2, 0, count, 0, 0, 0, 0, 0];
    for _ in 0..=count {
        let huge = u64::from(script.byte().is_multiple_of(4));
        let mut gfn = frame(script);
        if huge == 1 && !script.byte().is_multiple_of(4) {
            gfn &= !511;
        }
        let (operation, done) = (
            u64::from(script.byte() % 6),
            u64::from(script.byte().is_multiple_of(16)),
        );
        let entry =
            gfn << 12 | operation << 52 | huge << 56 | (done * u64::from(script.u16() % 1024));
        bytes.extend(entry.to_le_bytes());
    }
    let places = ghcb.shared_buffer.iter_mut().skip(usize::from(from));
    places.zip(bytes).for_each(|(to, from)| *to = from);
    ghcb
}

/// Checks what the VMM would do.
fn check(host: &Hypervisor, action: &Action) {
    match action {
        Action::PageState(changes) => {
            for change in changes {
                assert!(change.bytes > 0 && change.gpa + change.bytes <= RAM.end);
                assert!((change.gpa | change.bytes).is_multiple_of(PAGE));
            }
            // An earlier one of the same request may have been of the same pages.
            let last = changes.last().expect("otherwise there is nothing to do");
            assert_eq!(host.is_private(last.gpa), last.private);
            assert!(!host.is_validated(last.gpa));
        }
        Action::StartVcpu { id, vmsa_gpa } => {
            assert!(*id < 2 && host.is_validated(*vmsa_gpa));
        }
        _ => {}
    }
}

// The keys of a machine take a minute to make under the address sanitizer.
enarx_fuzz::target!(init: LazyLock::force(&MACHINE), |input: &[u8]| {
    let mut script = Script::new(input);
    let ((host, key), memory) = (host(), Memory(Mutex::new(vec![0; 4 * 4096])));
    let register = Request::RegisterGhcb { gfn: SHARED / PAGE };
    let registered = host.msr_write(0, register.encode(), &memory);
    assert_eq!(registered, Action::Resume);
    let mut sequence = 1;
    for _ in 0..STEPS {
        if script.is_over() {
            return;
        }
        let value = match script.byte() % 8 {
            0 => msr(&mut script),
            1 => {
                let (gpa, how) = (frame(&mut script) * PAGE, script.byte());
                let (huge, validate) = (how & 1 != 0, how & 2 == 0);
                let _ = host.pvalidate(gpa, huge, validate);
                if how & 4 != 0 {
                    let _ = host.rmpadjust(gpa, false, 1, 0, how & 8 == 0);
                }
                continue;
            }
            2 => {
                let number = if script.byte() == 1 { script.u64() } else { sequence };
                let page = message(&mut script, &key, number);
                assert_eq!(memory.write(SHARED + PAGE, &page), Some(()));
                continue;
            }
            _ => {
                let ghcb = ghcb(&mut script);
                assert_eq!(memory.write(SHARED, ghcb.as_bytes()), Some(()));
                SHARED
            }
        };
        let action = host.msr_write(0, value, &memory);
        check(&host, &action);
        if matches!(action, Action::Violation(_) | Action::Terminate { .. }) {
            return;
        }
        // The answer of the firmware stands in the page behind the request's, and its number counts.
        let mut answer = [0; HEADER_LEN];
        if memory.read(SHARED + 2 * PAGE, &mut answer) == Some(())
            && let Ok(header) = Header::ref_from_bytes(&answer)
            && header.msg_seqno.get() == sequence + 1
        {
            sequence += 2;
        }
    }
});
