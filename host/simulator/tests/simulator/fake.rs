// SPDX-License-Identifier: Apache-2.0

//! Shared parts of the tests: one machine's keys, a small launch, the guest's end of the messages.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use enarx_simulator::{Launching, Machine, Running, Settings, Status};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::guest_message::{HEADER_LEN, Header, MESSAGE_LEN, MessageType};
use enarx_snp::launch::PageType;
use enarx_snp::product::GENOA;
use enarx_snp::secrets::SecretsPage;
use enarx_snp::vmsa::Vmsa;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use zerocopy::{FromBytes, IntoBytes};

/// SMT, bit 17, ABI 1.51.
pub const POLICY: GuestPolicy = GuestPolicy(0x3_0133);
pub const SECRETS_GPA: u64 = 0x3000;

/// A machine with these settings. The keys are in the build's folder: making them takes seconds.
pub fn machine(settings: Settings) -> Arc<Machine> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-machine");
    Arc::new(Machine::open(&folder, settings).unwrap())
}

/// A machine that most tests share.
pub fn genoa() -> Arc<Machine> {
    static GENOA_MACHINE: OnceLock<Arc<Machine>> = OnceLock::new();
    let machine = GENOA_MACHINE.get_or_init(|| machine(Settings::new(&GENOA)));
    machine.clone()
}

/// A vCPU with SNP and no other feature.
pub fn vmsa() -> Vmsa {
    let mut vmsa = Vmsa::default();
    vmsa.sev_features.set(1);
    vmsa.rip.set(0x1000);
    vmsa
}

/// Loads a normal page, the secrets page and one vCPU.
pub fn load(launching: &mut Launching) -> SecretsPage {
    let mut secrets = [0; 4096];
    launching
        .update(PageType::Normal, 0x1000, &mut [0x90; 4096])
        .unwrap();
    launching
        .update(PageType::Secrets, SECRETS_GPA, &mut secrets)
        .unwrap();
    launching.update_vmsa(&vmsa()).unwrap();
    SecretsPage::read_from_bytes(&secrets).unwrap()
}

pub fn guest_with(machine: Arc<Machine>, policy: GuestPolicy) -> (Running, SecretsPage) {
    let mut launching = Launching::start(machine, policy, [0x60; 16]).unwrap();
    let secrets = load(&mut launching);
    (launching.finish(None, [0x40; 32]).unwrap(), secrets)
}

pub fn guest() -> (Running, SecretsPage) {
    guest_with(genoa(), POLICY)
}

/// Seals a request as a guest does.
pub fn seal(
    key: &[u8; 32],
    vmpck: u8,
    seqno: u64,
    kind: MessageType,
    version: u8,
    payload: &[u8],
) -> [u8; MESSAGE_LEN] {
    let mut header = Header::new(kind, version, payload.len(), seqno, vmpck).unwrap();
    let mut sealed = payload.to_vec();
    let tag = Aes256Gcm::new(&(*key).into())
        .encrypt_inout_detached(
            &header.iv().into(),
            header.aad(),
            sealed.as_mut_slice().into(),
        )
        .unwrap();
    header.auth_tag[..16].copy_from_slice(&tag);
    let mut page = [0; MESSAGE_LEN];
    page[..HEADER_LEN].copy_from_slice(header.as_bytes());
    page[HEADER_LEN..HEADER_LEN + sealed.len()].copy_from_slice(&sealed);
    page
}

/// Opens an answer as a guest does, with every check that a guest makes.
pub fn open(
    key: &[u8; 32],
    vmpck: u8,
    request_seqno: u64,
    kind: MessageType,
    page: &[u8; MESSAGE_LEN],
) -> Vec<u8> {
    let (header, body) = Header::ref_from_prefix(page).unwrap();
    let len = header.payload_len(kind, request_seqno, vmpck).unwrap();
    let mut payload = body[..len].to_vec();
    Aes256Gcm::new(&(*key).into())
        .decrypt_inout_detached(
            &header.iv().into(),
            header.aad(),
            payload.as_mut_slice().into(),
            &Tag::try_from(&header.auth_tag[..16]).unwrap(),
        )
        .unwrap();
    payload
}

/// A guest's conversation under its first key.
pub struct Conversation {
    pub guest: Running,
    pub key: [u8; 32],
    pub seqno: u64,
}

impl Conversation {
    pub fn new((guest, secrets): (Running, SecretsPage)) -> Self {
        Self {
            guest,
            key: secrets.vmpck[0],
            seqno: 1,
        }
    }

    pub fn ask(
        &mut self,
        kind: MessageType,
        version: u8,
        payload: &[u8],
        answer: MessageType,
    ) -> Result<Vec<u8>, Status> {
        let request = seal(&self.key, 0, self.seqno, kind, version, payload);
        let page = self.guest.guest_request(&request)?;
        let payload = open(&self.key, 0, self.seqno, answer, &page);
        self.seqno += 2;
        Ok(payload)
    }
}
