// SPDX-License-Identifier: Apache-2.0

//! A running guest as the secure processor knows it: its context and the messages with it (56860 SNP_GUEST_REQUEST).
//! Requests come from a guest through its host; nothing in them is trusted before the authentication tag is verified.

use crate::cpuid;
use crate::machine::Machine;
use crate::rmp::Rmp;
use crate::settings::TSC_FACTOR;
use crate::status::Status;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Tag};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::cpuid::{Entry, MAX_ENTRIES};
use enarx_snp::guest_message::{
    ALGO_AES_256_GCM, HEADER_LEN, HEADER_VERSION, Header, KeyRequest, KeyResponse, MESSAGE_LEN,
    MessageType, ReportRequest, ReportResponse, TscInfoRequest, TscInfoResponse, status,
};
use enarx_snp::report::{
    ALGO_ECDSA_P384_SHA384, REPORT_LEN, Report, VERSION_WITH_CPUID, VERSION_WITH_MITIGATIONS,
};
use enarx_snp_authority::KeyKind;
use sha2::{Digest, Sha384};
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Length of a report as its answer names it.
#[allow(clippy::cast_possible_truncation, reason = "1184 bytes")]
const REPORT_SIZE: u32 = REPORT_LEN as u32;

/// The statements of an ID block on a guest; empty when there was none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity {
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub guest_svn: u32,
    pub id_key_digest: Option<[u8; 48]>,
    pub author_key_digest: Option<[u8; 48]>,
}

/// The part of a guest's state that stays the same as long as it runs (56860, guest context).
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub policy: GuestPolicy,
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub identity: Identity,
    pub report_id: [u8; 32],
}

/// A key for messages and the sequence number of the last one (56860, MsgCount).
struct Channel {
    cipher: Aes256Gcm,
    count: u64,
}

/// A guest that was launched.
pub struct Running {
    machine: Arc<Machine>,
    context: Context,
    channels: [Channel; 4],
    features: u64,
    rmp: Rmp,
}

impl std::fmt::Debug for Running {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// A message as it was authenticated.
struct Message<'a> {
    kind: u8,
    version: u8,
    /// The privilege level whose key it was sealed with.
    vmpl: u8,
    payload: &'a [u8],
}

impl Running {
    pub(crate) fn new(
        machine: Arc<Machine>,
        context: Context,
        vmpck: [[u8; 32]; 4],
        features: u64,
        rmp: Rmp,
    ) -> Self {
        Self {
            machine,
            context,
            channels: vmpck.map(|key| Channel {
                cipher: Aes256Gcm::new(&key.into()),
                count: 0,
            }),
            features,
            rmp,
        }
    }

    /// The launch digest.
    pub fn measurement(&self) -> [u8; 48] {
        self.context.measurement
    }

    /// SEV_FEATURES of the vCPUs that were launched.
    pub fn sev_features(&self) -> u64 {
        self.features
    }

    /// Takes the reverse map table out: the launch pages are private and validated.
    pub(crate) fn take_rmp(&mut self) -> Rmp {
        std::mem::take(&mut self.rmp)
    }

    /// SNP_GUEST_REQUEST: opens a request, answers it, seals the answer. The sequence number advances only when there
    /// is an answer.
    ///
    /// # Errors
    /// [`Status::InvalidParam`] for a malformed header or request, [`Status::AeadOverflow`] for a sequence number that
    /// is not the next one, [`Status::BadMeasurement`] for a message that is not authentic.
    pub fn guest_request(
        &mut self,
        request: &[u8; MESSAGE_LEN],
    ) -> Result<[u8; MESSAGE_LEN], Status> {
        let (header, body) = Header::read_from_prefix(request).map_err(|_| Status::InvalidParam)?;
        let vmpl = header.msg_vmpck;
        if header.algo != ALGO_AES_256_GCM
            || header.header_version != HEADER_VERSION
            || usize::from(header.header_size.get()) != HEADER_LEN
            || header.reserved0.get() != 0
            || header.reserved1.get() != 0
            || header.reserved2 != [0; 35]
        {
            return Err(Status::InvalidParam);
        }
        let channel = self
            .channels
            .get(usize::from(vmpl))
            .ok_or(Status::InvalidParam)?;
        let sealed = body
            .get(..usize::from(header.msg_size.get()))
            .ok_or(Status::InvalidParam)?;
        let sequence = header.msg_seqno.get();
        let answer_sequence = sequence.checked_add(1).ok_or(Status::AeadOverflow)?;
        if channel.count.checked_add(1) != Some(sequence) {
            return Err(Status::AeadOverflow);
        }
        let (tag, rest) = header.auth_tag.split_at(16);
        let tag = Tag::try_from(tag).map_err(|_| Status::BadMeasurement)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Status::BadMeasurement);
        }
        let mut payload = sealed.to_vec();
        channel
            .cipher
            .decrypt_inout_detached(
                &header.iv().into(),
                header.aad(),
                payload.as_mut_slice().into(),
                &tag,
            )
            .map_err(|_| Status::BadMeasurement)?;

        let (kind, mut answer) = self.answer(&Message {
            kind: header.msg_type,
            version: header.msg_version,
            vmpl,
            payload: &payload,
        })?;
        let mut header = Header::new(
            kind,
            header.msg_version,
            answer.len(),
            answer_sequence,
            vmpl,
        )
        .ok_or(Status::InvalidParam)?;
        let channel = self
            .channels
            .get_mut(usize::from(vmpl))
            .ok_or(Status::InvalidParam)?;
        let tag = channel
            .cipher
            .encrypt_inout_detached(
                &header.iv().into(),
                header.aad(),
                answer.as_mut_slice().into(),
            )
            .map_err(|_| Status::InvalidParam)?;
        header
            .auth_tag
            .iter_mut()
            .zip(tag)
            .for_each(|(to, from)| *to = from);
        channel.count = answer_sequence;

        let mut page = [0; MESSAGE_LEN];
        page.iter_mut()
            .zip(header.as_bytes().iter().chain(&answer))
            .for_each(|(to, from)| *to = *from);
        Ok(page)
    }

    /// Answers a message: kind and payload.
    fn answer(&self, message: &Message<'_>) -> Result<(MessageType, Vec<u8>), Status> {
        const CPUID: u8 = MessageType::CpuidRequest as u8;
        const KEY: u8 = MessageType::KeyRequest as u8;
        const REPORT: u8 = MessageType::ReportRequest as u8;
        const TSC_INFO: u8 = MessageType::TscInfoRequest as u8;
        match (message.kind, message.version) {
            (CPUID, 1) => {
                let answer = self.cpuid(message.payload).ok_or(Status::InvalidParam)?;
                Ok((MessageType::CpuidResponse, answer))
            }
            (KEY, 1 | 2) => {
                // Version 1 ends before the launch mitigation vector.
                let mut request = KeyRequest::new_zeroed();
                let bytes = request.as_mut_bytes();
                let len = if message.version == 1 {
                    bytes.len() - size_of::<U64>()
                } else {
                    bytes.len()
                };
                let payload = message.payload.get(..len).ok_or(Status::InvalidParam)?;
                bytes
                    .iter_mut()
                    .zip(payload)
                    .for_each(|(to, from)| *to = *from);
                let answer = self.key(&request, message.version, message.vmpl);
                Ok((MessageType::KeyResponse, answer.as_bytes().to_vec()))
            }
            (REPORT, 1) => {
                let (request, _) = ReportRequest::read_from_prefix(message.payload)
                    .map_err(|_| Status::InvalidParam)?;
                let answer = self.report(&request, message.vmpl);
                Ok((MessageType::ReportResponse, answer.as_bytes().to_vec()))
            }
            (TSC_INFO, 1) => {
                TscInfoRequest::read_from_prefix(message.payload)
                    .map_err(|_| Status::InvalidParam)?;
                let mut answer = TscInfoResponse::new_zeroed();
                // The host's counter as it is: a scale of one and no offset.
                answer.guest_tsc_scale.set(1 << 32);
                answer.tsc_factor.set(TSC_FACTOR);
                Ok((MessageType::TscInfoResponse, answer.as_bytes().to_vec()))
            }
            _ => Err(Status::InvalidParam),
        }
    }

    /// MSG_CPUID_REQ: a count and a table as in the CPUID page. The answer has the status before the count.
    fn cpuid(&self, payload: &[u8]) -> Option<Vec<u8>> {
        const TABLE: usize = 16;
        let (count, _) = U32::read_from_prefix(payload).ok()?;
        let len = usize::try_from(count.get()).ok()?;
        if len > MAX_ENTRIES {
            return None;
        }
        let table = payload.get(TABLE..)?;
        let (table, _) = <[Entry]>::ref_from_prefix_with_elems(table, len).ok()?;
        let mut table = table.to_vec();
        let right = cpuid::correct(&mut table, &self.machine.settings().cpuid);
        let status = if right {
            status::SUCCESS
        } else {
            status::INVALID_PARAMETERS
        };
        let mut answer = U32::new(status).as_bytes().to_vec();
        answer.extend_from_slice(count.as_bytes());
        answer.resize(TABLE, 0);
        answer.extend_from_slice(table.as_bytes());
        Some(answer)
    }

    /// The endorsement key that a selector names (56860 MSG_REPORT_REQ, KEY_SEL): 0 VLEK when there is one, else VCEK;
    /// 1 VCEK; 2 VLEK.
    fn select(&self, selector: u32) -> Result<KeyKind, u32> {
        match selector {
            0 => Ok(self.machine.settings().key),
            1 => Ok(KeyKind::Vcek),
            2 => Ok(KeyKind::Vlek),
            _ => Err(status::INVALID_PARAMETERS),
        }
    }

    /// MSG_REPORT_REQ.
    fn report(&self, request: &ReportRequest, vmpl: u8) -> ReportResponse {
        let mut answer = ReportResponse::new_zeroed();
        match self.signed_report(request, vmpl) {
            Ok(report) => {
                answer.report_size.set(REPORT_SIZE);
                answer.report = report;
            }
            Err(status) => answer.status.set(status),
        }
        answer
    }

    fn signed_report(&self, request: &ReportRequest, vmpl: u8) -> Result<Report, u32> {
        if !(u32::from(vmpl)..=3).contains(&request.vmpl.get()) || request.reserved != [0; 24] {
            return Err(status::INVALID_PARAMETERS);
        }
        let kind = self.select(request.key_select.get())?;
        let settings = self.machine.settings();
        let identity = &self.context.identity;
        let mut report = Report::new_zeroed();
        report.version.set(settings.report_version);
        report.guest_svn.set(identity.guest_svn);
        report.policy.set(self.context.policy.0);
        report.family_id = identity.family_id;
        report.image_id = identity.image_id;
        report.vmpl = request.vmpl;
        report.signature_algo.set(ALGO_ECDSA_P384_SHA384);
        report.platform_info.set(settings.platform.0);
        let author_key = u32::from(identity.author_key_digest.is_some());
        report.key_info.set(
            author_key
                | match kind {
                    KeyKind::Vcek => 0,
                    KeyKind::Vlek => 1 << 2,
                },
        );
        report.report_data = request.report_data;
        report.measurement = self.context.measurement;
        report.host_data = self.context.host_data;
        report.id_key_digest = identity.id_key_digest.unwrap_or([0; 48]);
        report.author_key_digest = identity.author_key_digest.unwrap_or([0; 48]);
        report.report_id = self.context.report_id;
        report.report_id_ma = [0xFF; 32];
        report.current_tcb = settings.tcb.current;
        report.committed_tcb = settings.tcb.committed;
        report.launch_tcb = settings.tcb.launch;
        report.reported_tcb = settings.tcb.reported;
        report.current_version = settings.firmware;
        report.committed_version = settings.firmware;
        if settings.report_version >= VERSION_WITH_CPUID {
            report.cpuid_family = settings.cpu.family;
            report.cpuid_model = settings.cpu.model;
            report.cpuid_stepping = settings.cpu.stepping;
        }
        if settings.report_version >= VERSION_WITH_MITIGATIONS {
            report.launch_mit_vector.set(settings.mitigations);
            report.current_mit_vector.set(settings.mitigations);
        }
        if kind == KeyKind::Vcek {
            report.chip_id = self.machine.chip_id();
        }
        self.machine
            .sign(&mut report, kind)
            .ok_or(status::INVALID_KEY)?;
        Ok(report)
    }

    /// MSG_KEY_REQ.
    fn key(&self, request: &KeyRequest, version: u8, vmpl: u8) -> KeyResponse {
        let mut answer = KeyResponse::new_zeroed();
        match self.derived_key(request, version, vmpl) {
            Ok(key) => answer.derived_key = key,
            Err(status) => answer.status.set(status),
        }
        answer
    }

    fn derived_key(&self, request: &KeyRequest, version: u8, vmpl: u8) -> Result<[u8; 32], u32> {
        let settings = self.machine.settings();
        let identity = &self.context.identity;
        let fields = request.guest_field_select.get();
        let known_fields = if version == 1 { 0x3F } else { 0x7F };
        let root = request.root_key_select.get();
        if fields & !known_fields != 0
            || root & !7 != 0
            || request.reserved.get() != 0
            || !(u32::from(vmpl)..=3).contains(&request.vmpl.get())
            || request.guest_svn.get() > identity.guest_svn
            || !settings
                .tcb
                .committed
                .at_least(&request.tcb_version, settings.generation.tcb)
            || request.launch_mit_vector.get() & !settings.mitigations != 0
        {
            return Err(status::INVALID_PARAMETERS);
        }
        let kind = self.select(root >> 1)?;
        if root & 1 != 0 {
            // The VMRK comes from a migration agent, and no guest has one here.
            return Err(status::INVALID_KEY);
        }
        let root_key = self.machine.root_key(kind).ok_or(status::INVALID_KEY)?;

        let mut hash = Sha384::new();
        hash.update(b"enarx simulated derived key");
        hash.update(root_key);
        hash.update(fields.to_le_bytes());
        hash.update(request.vmpl.as_bytes());
        // Fields that are not selected are zero, so every field has its place.
        let mut mix = |bit: u32, field: &[u8]| {
            let selected = fields & 1 << bit != 0;
            for byte in field {
                hash.update([if selected { *byte } else { 0 }]);
            }
        };
        mix(0, &self.context.policy.0.to_le_bytes());
        mix(1, &identity.image_id);
        mix(2, &identity.family_id);
        mix(3, &self.context.measurement);
        mix(4, request.guest_svn.as_bytes());
        mix(5, request.tcb_version.as_bytes());
        mix(6, request.launch_mit_vector.as_bytes());
        let mut key = [0; 32];
        key.iter_mut()
            .zip(hash.finalize())
            .for_each(|(to, from)| *to = from);
        Ok(key)
    }
}
