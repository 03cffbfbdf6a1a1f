// SPDX-License-Identifier: Apache-2.0

//! Input from the host and the firmware to the microkernel: answers to messages, and the CPUID page.
//! Any bytes give an answer or a refusal.
#![cfg_attr(fuzzing, no_main)]

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use zerocopy::{FromZeros, IntoBytes};

use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::layout::{PAGE, SHARED_END};
use enarx_exits::ExitFunction;
use enarx_microkernel::frame::{Frame, LargeFrame, Place, Slot, Words};
use enarx_microkernel::launch::{BootPage, Launch};
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::cpuid::{answer, features};
use enarx_microkernel::snp::ghcb::{Answer, Call};
use enarx_microkernel::snp::instructions::{Entry, Instructions, NewVmsa, Unvalidated, Validated};
use enarx_microkernel::snp::message::{Channel, KEY_REQUEST, MessageError, MessageKey};
use enarx_snp::guest_message::{HEADER_LEN, Header, MessageType};
use enarx_snp::report::REPORT_LEN;

const KEY: [u8; 32] = [0x5a; 32];

/// A machine that has nothing but one page: the CPUID page, or the answer to a message.
struct OnePage([u8; 4096]);

impl Instructions for OnePage {
    fn pvalidate(&mut self, _: &Unvalidated) -> Validated {
        unreachable!()
    }
    fn rmpadjust(&mut self, _: &NewVmsa) -> u64 {
        unreachable!()
    }
    fn clear_large(&mut self, _: LargeFrame) {
        unreachable!()
    }
    fn sev_status(&self) -> u64 {
        unreachable!()
    }
    fn msr_protocol(&mut self, _: u64) -> u64 {
        unreachable!()
    }
    fn ghcb_exit(&mut self, _: &Call<'_>) -> Answer {
        Answer {
            info1: 0,
            info2: 0,
            buffer: 0,
        }
    }
    fn put_message(&mut self, _: &[[u8; 8]]) {}
    fn take_message(&self, to: &mut [[u8; 8]]) {
        let to = to.as_flattened_mut();
        to.copy_from_slice(&self.0[..to.len()]);
    }
    fn entry_point(&self) -> Entry {
        unreachable!()
    }
}

impl Platform for OnePage {
    fn memory_there(&self) -> u64 {
        unreachable!()
    }
    fn read(&self, slot: Slot) -> u64 {
        let at = slot.address().gpa().get() - PAGE;
        let at = usize::try_from(at).unwrap();
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }
    fn write(&mut self, _: Slot, _: u64) {
        unreachable!()
    }
    fn run_length(&self, _: Words, _: u64) -> u64 {
        unreachable!()
    }
    fn fill_run(&mut self, _: Words, _: u64) {
        unreachable!()
    }
    fn fill_rising(&mut self, _: Words, _: u64) {
        unreachable!()
    }
    fn change_run(&mut self, _: Words, _: u64, _: u64) -> u64 {
        unreachable!()
    }
    fn read_bytes(&self, _: Place, _: &mut [u8]) -> usize {
        unreachable!()
    }
    fn write_bytes(&mut self, _: Place, _: &[u8]) -> usize {
        unreachable!()
    }
    fn flush(&mut self) {
        unreachable!()
    }
    fn exit(&mut self, _: ExitFunction, _: &[u64]) -> u64 {
        unreachable!()
    }
    fn wipe_stack(&mut self) {}
    fn ended(&self) -> bool {
        false
    }
    fn random(&mut self) -> Option<u64> {
        unreachable!()
    }
    fn tsc(&self) -> u64 {
        unreachable!()
    }
    fn latest(&mut self, _: u64) -> u64 {
        unreachable!()
    }
    fn set_fs_base(&mut self, _: u64) {
        unreachable!()
    }
    fn fs_base(&self) -> u64 {
        unreachable!()
    }
    fn set_gs_base(&mut self, _: u64) {
        unreachable!()
    }
}

/// The frame of the CPUID page, by a boot page in which little else makes sense.
fn cpuid_page() -> Frame {
    let boot = BootInfo {
        magic: boot_page::MAGIC,
        flags: boot_page::FLAG_SNP,
        c_bit: 1 << 51,
        image_start: SHARED_END,
        free_start: SHARED_END,
        cpuid_page: PAGE,
        ..BootInfo::new_zeroed()
    };
    Launch::new(&Given(boot)).unwrap().snp.unwrap().cpuid
}

/// A boot page of a machine that is not there.
struct Given(BootInfo);

impl BootPage for Given {
    fn boot_info(&self) -> BootInfo {
        self.0
    }
}

fn message_key() -> MessageKey {
    let key = MessageKey::new();
    key.set([u64::from_ne_bytes([KEY[0]; 8]); 4]);
    key
}

/// The page with a genuine message of the firmware, whatever it says.
fn sealed(kind: MessageType, payload: &[u8]) -> [u8; 4096] {
    let mut body = payload.to_vec();
    let mut header = Header::new(kind, 1, body.len(), 2, 0).unwrap();
    let tag = Aes256Gcm::new(&Key::<Aes256Gcm>::from(KEY))
        .encrypt_inout_detached(
            &Nonce::from(header.iv()),
            header.aad(),
            body.as_mut_slice().into(),
        )
        .unwrap();
    header.auth_tag[..16].copy_from_slice(&tag);
    let mut page = [0; 4096];
    page[..HEADER_LEN].copy_from_slice(header.as_bytes());
    page[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(&body);
    page
}

enarx_fuzz::target!(|input: (u8, u64, u32, u32, &[u8])| {
    let (mode, number, leaf, subleaf, bytes) = input;
    let bytes = &bytes[..bytes.len().min(4096 - HEADER_LEN)];
    let mut raw = [0; 4096];
    raw[..bytes.len()].copy_from_slice(bytes);
    let report = |page| {
        let mut report = [0; REPORT_LEN];
        Channel::new().report(&message_key(), &mut OnePage(page), &[1; 64], &mut report)
    };
    let key = |page| {
        let mut key = [0; 32];
        Channel::new().derived_key(
            &message_key(),
            &mut OnePage(page),
            &[1; KEY_REQUEST],
            &mut key,
        )
    };
    match mode % 4 {
        0 => {
            let page = OnePage(raw);
            if let Ok(features) = features(&page, cpuid_page()) {
                assert!(features.xcr0 == 0 || features.xcr0 == 0xe0);
            }
            let _ = answer(&page, cpuid_page(), 1, number, leaf, subleaf);
            // Questions that the page may know the answer to.
            for leaf in [1, 7, 0xb, 0xd, 0x8000_001e] {
                let _ = answer(&page, cpuid_page(), 1, number, leaf, subleaf % 4);
            }
        }
        // The host's own bytes are not a message of the firmware.
        1 => {
            assert_eq!(report(raw), Err(MessageError::Broken));
            assert_eq!(key(raw), Err(MessageError::Broken));
        }
        2 => {
            let result = report(sealed(MessageType::ReportResponse, bytes));
            assert!(result.is_err() || bytes[..4] == [0; 4]);
        }
        _ => {
            let result = key(sealed(MessageType::KeyResponse, bytes));
            assert!(result.is_err() || bytes[..4] == [0; 4]);
        }
    }
});
