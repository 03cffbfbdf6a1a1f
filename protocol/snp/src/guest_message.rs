// SPDX-License-Identifier: Apache-2.0

//! Messages between guest and firmware (56860, guest messages). They pass through the host, encrypted and
//! authenticated with AES-256-GCM; this module has their plain form and the header. The caller does the
//! encryption.

use crate::assert_layout;
use crate::report::Report;
use crate::tcb::TcbVersion;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header in bytes; the payload follows it.
pub const HEADER_LEN: usize = 0x60;
/// Bytes of the header before the additional authenticated data.
pub const AAD_OFFSET: usize = 0x30;
/// Length of the largest message, header and payload: one page.
pub const MESSAGE_LEN: usize = 4096;
/// Longest payload, in bytes.
pub const MAX_PAYLOAD_LEN: usize = MESSAGE_LEN - HEADER_LEN;
/// ALGO: AES-256-GCM (56860, AEAD algorithm encodings).
pub const ALGO_AES_256_GCM: u8 = 1;
/// HDR_VERSION.
pub const HEADER_VERSION: u8 = 1;

/// Kind of a message (56860, message type encodings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum MessageType {
    CpuidRequest = 1,
    CpuidResponse = 2,
    KeyRequest = 3,
    KeyResponse = 4,
    ReportRequest = 5,
    ReportResponse = 6,
    ExportRequest = 7,
    ExportResponse = 8,
    ImportRequest = 9,
    ImportResponse = 10,
    AbsorbRequest = 11,
    AbsorbResponse = 12,
    VmrkRequest = 13,
    VmrkResponse = 14,
    AbsorbNoMaRequest = 15,
    AbsorbNoMaResponse = 16,
    TscInfoRequest = 17,
    TscInfoResponse = 18,
}

/// Status of a response (56860, STATUS of the responses).
pub mod status {
    /// Success.
    pub const SUCCESS: u32 = 0;
    /// A parameter was invalid.
    pub const INVALID_PARAMETERS: u32 = 0x16;
    /// The key that was selected is not there.
    pub const INVALID_KEY: u32 = 0x27;
}

/// The header of a message (56860, message header format).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Authentication tag; 16 bytes used.
    pub auth_tag: [u8; 32],
    /// Sequence number, also the initialization vector.
    pub msg_seqno: U64,
    /// Reserved.
    pub reserved0: U64,
    /// [`ALGO_AES_256_GCM`].
    pub algo: u8,
    /// [`HEADER_VERSION`].
    pub header_version: u8,
    /// Length of the header in bytes, [`HEADER_LEN`].
    pub header_size: U16,
    /// A [`MessageType`].
    pub msg_type: u8,
    /// Version of the payload's structure.
    pub msg_version: u8,
    /// Length of the payload in bytes, at most [`MAX_PAYLOAD_LEN`].
    pub msg_size: U16,
    /// Reserved.
    pub reserved1: U32,
    /// Number of the key, 0 to 3.
    pub msg_vmpck: u8,
    /// Reserved.
    pub reserved2: [u8; 35],
}
assert_layout!(
    Header, HEADER_LEN,
    auth_tag @ 0x00, msg_seqno @ 0x20, algo @ AAD_OFFSET, header_version @ 0x31, header_size @ 0x32, msg_type @ 0x34,
    msg_version @ 0x35, msg_size @ 0x36, msg_vmpck @ 0x3C,
);

impl Header {
    /// A header with a zero tag; `None` when the payload is longer than [`MAX_PAYLOAD_LEN`] or the key above 3.
    pub fn new(
        msg_type: MessageType,
        msg_version: u8,
        payload_len: usize,
        msg_seqno: u64,
        msg_vmpck: u8,
    ) -> Option<Self> {
        let header_size = u16::try_from(HEADER_LEN).ok()?;
        let msg_size = u16::try_from(payload_len).ok()?;
        (payload_len <= MAX_PAYLOAD_LEN && msg_vmpck <= 3).then_some(Self {
            auth_tag: [0; 32],
            msg_seqno: U64::new(msg_seqno),
            reserved0: U64::ZERO,
            algo: ALGO_AES_256_GCM,
            header_version: HEADER_VERSION,
            header_size: U16::new(header_size),
            msg_type: msg_type as u8,
            msg_version,
            msg_size: U16::new(msg_size),
            reserved1: U32::ZERO,
            msg_vmpck,
            reserved2: [0; 35],
        })
    }

    /// The additional authenticated data: bytes 30h to 5Fh.
    pub fn aad(&self) -> &[u8] {
        self.as_bytes().split_at(AAD_OFFSET).1
    }

    /// The initialization vector: the sequence number, little-endian, zero-extended to 96 bits.
    pub fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[..8].copy_from_slice(self.msg_seqno.as_bytes());
        iv
    }

    /// The length of the payload when the header is a well-formed answer of `msg_type` to a request with sequence
    /// number `request` under key `vmpck`; `None` otherwise.
    pub fn payload_len(&self, msg_type: MessageType, request: u64, vmpck: u8) -> Option<usize> {
        let len = usize::from(self.msg_size.get());
        (self.algo == ALGO_AES_256_GCM
            && self.header_version == HEADER_VERSION
            && usize::from(self.header_size.get()) == HEADER_LEN
            && self.msg_type == msg_type as u8
            && Some(self.msg_seqno.get()) == request.checked_add(1)
            && self.msg_vmpck == vmpck
            && len <= MAX_PAYLOAD_LEN)
            .then_some(len)
    }
}

/// A request for an attestation report (56860 MSG_REPORT_REQ).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReportRequest {
    /// REPORT_DATA of the report.
    pub report_data: [u8; 64],
    /// Privilege level to put into the report; not below that of the asking level.
    pub vmpl: U32,
    /// Bits 1:0: 0 VLEK when there is one, else VCEK; 1 VCEK; 2 VLEK.
    pub key_select: U32,
    /// Reserved.
    pub reserved: [u8; 24],
}
assert_layout!(ReportRequest, 0x60, report_data @ 0, vmpl @ 0x40, key_select @ 0x44);

/// The answer with a report (56860 MSG_REPORT_RSP).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReportResponse {
    /// A [`status`].
    pub status: U32,
    /// Length of the report in bytes.
    pub report_size: U32,
    /// Reserved.
    pub reserved: [u8; 24],
    /// The report.
    pub report: Report,
}
assert_layout!(ReportResponse, 0x4C0, status @ 0, report_size @ 4, report @ 0x20);

/// A request for a derived key (56860 MSG_KEY_REQ).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct KeyRequest {
    /// Bit 0: 0 VCEK or VLEK, 1 VMRK. Bits 2:1: as [`ReportRequest::key_select`].
    pub root_key_select: U32,
    /// Reserved.
    pub reserved: U32,
    /// Values mixed in, bits: 0 policy, 1 image id, 2 family id, 3 measurement, 4 guest SVN, 5 TCB version,
    /// 6 launch mitigation vector.
    pub guest_field_select: U64,
    /// Privilege level to mix in.
    pub vmpl: U32,
    /// Guest SVN to mix in, at most that of the ID block.
    pub guest_svn: U32,
    /// TCB version to mix in, at most the committed one.
    pub tcb_version: TcbVersion,
    /// Launch mitigation vector to mix in (message version 2).
    pub launch_mit_vector: U64,
}
assert_layout!(
    KeyRequest, 0x28,
    root_key_select @ 0, guest_field_select @ 8, vmpl @ 16, guest_svn @ 20, tcb_version @ 24, launch_mit_vector @ 32,
);

/// The answer with a derived key (56860 MSG_KEY_RSP).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct KeyResponse {
    /// A [`status`].
    pub status: U32,
    /// Reserved.
    pub reserved: [u8; 28],
    /// The key.
    pub derived_key: [u8; 32],
}
assert_layout!(KeyResponse, 0x40, status @ 0, derived_key @ 0x20);

impl core::fmt::Debug for KeyResponse {
    /// Names the status only: the key must not reach a log.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyResponse")
            .field("status", &self.status.get())
            .finish_non_exhaustive()
    }
}

/// A request for the scale of the guest's time-stamp counter (56860 MSG_TSC_INFO_REQ).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TscInfoRequest {
    /// Reserved.
    pub reserved: [u8; 128],
}
assert_layout!(TscInfoRequest, 128);

/// The answer with the scale of the guest's time-stamp counter (56860 MSG_TSC_INFO_RSP).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TscInfoResponse {
    /// A [`status`].
    pub status: U32,
    /// Reserved.
    pub reserved0: U32,
    /// Cycles of the guest for each of the host, in 8.32 fixed point.
    pub guest_tsc_scale: U64,
    /// Cycles that are added to the scaled counter.
    pub guest_tsc_offset: U64,
    /// Correction of the mean frequency.
    pub tsc_factor: U32,
    /// Reserved.
    pub reserved1: [u8; 100],
}
assert_layout!(
    TscInfoResponse, 128,
    status @ 0, guest_tsc_scale @ 8, guest_tsc_offset @ 16, tsc_factor @ 24,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_and_authenticated_data_come_from_the_header() {
        let header = Header::new(MessageType::ReportRequest, 1, 0x60, 0x0102, 0).unwrap();
        assert_eq!(header.iv(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header.aad().len(), 0x30);
        assert_eq!(header.aad()[..8], [1, 1, 0x60, 0, 5, 1, 0x60, 0]);
        assert!(Header::new(MessageType::ReportRequest, 1, MAX_PAYLOAD_LEN + 1, 1, 0).is_none());
        assert!(Header::new(MessageType::ReportRequest, 1, 0, 1, 4).is_none());
    }

    #[test]
    fn a_response_must_be_the_answer_to_the_request() {
        let header = Header::new(MessageType::ReportResponse, 1, 0x4C0, 8, 0).unwrap();
        let len = |h: &Header| h.payload_len(MessageType::ReportResponse, 7, 0);
        assert_eq!(len(&header), Some(0x4C0));
        assert_eq!(header.payload_len(MessageType::KeyResponse, 7, 0), None);
        assert_eq!(header.payload_len(MessageType::ReportResponse, 8, 0), None);
        assert_eq!(
            header.payload_len(MessageType::ReportResponse, u64::MAX, 0),
            None
        );
        assert_eq!(header.payload_len(MessageType::ReportResponse, 7, 1), None);
        let mut long = header;
        long.msg_size.set(u16::MAX);
        assert_eq!(len(&long), None);
    }
}
