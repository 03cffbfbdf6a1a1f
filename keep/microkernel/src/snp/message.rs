//! Messages to the firmware: reports and derived keys (56860, guest messages), encrypted with
//! AES-256-GCM under VMPCK 0, carried by the host.
//!
//! The sequence number is the nonce. It is never used for two plaintexts: a message that the host
//! did not carry is sent again as it is, and any other failure ends the use of the key.

use core::mem::offset_of;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce, Tag};
use enarx_snp::ghcb::exit;
use enarx_snp::guest_message::{
    HEADER_LEN, Header, KeyRequest, KeyResponse, MessageType, ReportRequest, ReportResponse, status,
};
use enarx_snp::report::REPORT_LEN;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::Zeroize;

use super::Instructions;
use super::ghcb::Call;
use enarx_boot::layout::EXIT_PHYSICAL;
use enarx_exits::MESSAGE_OFFSET;

/// Bytes of a GCM tag.
const TAG: usize = 16;
/// The firmware is busy, or the host limits requests: try again (56421, SNP Guest Request: SW_EXITINFO2
/// bits 63:32).
const BUSY: u64 = 2 << 32;
/// How often a busy firmware is asked.
const TRIES: usize = 10_000;
/// Size of a MSG_KEY_REQ of version 1, in bytes.
pub const KEY_REQUEST: usize = offset_of!(KeyRequest, launch_mit_vector);
/// Largest message in either direction: the answer with a report.
const MOST: usize = HEADER_LEN + size_of::<ReportResponse>();
const _: () = assert!(HEADER_LEN + size_of::<ReportRequest>() <= MOST && KEY_REQUEST == 32);

/// Guest physical address of the page with the message; the answer comes in the next one.
const MESSAGE_PAGE: u64 = EXIT_PHYSICAL + MESSAGE_OFFSET as u64;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The firmware refused; its status. Messages go on.
    Refused(u32),
    /// The host did not carry the message or changed it: no more messages.
    Broken,
}

/// The encrypted channel to the firmware.
pub struct Channel {
    key: [u8; 32],
    /// Sequence number of the last message.
    sequence: u64,
}

impl core::fmt::Debug for Channel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Channel {
    /// A channel that has not been used.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key, sequence: 0 }
    }

    /// An attestation report over 64 bytes of data.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn report<I: Instructions>(
        &mut self,
        instructions: &mut I,
        data: &[u8; 64],
        report: &mut [u8; REPORT_LEN],
    ) -> Result<(), MessageError> {
        let mut request = ReportRequest::new_zeroed();
        request.report_data = *data;
        let mut message = [0; MOST];
        let answer = self.exchange(
            instructions,
            (MessageType::ReportRequest, request.as_bytes()),
            (MessageType::ReportResponse, &mut message),
        )?;
        succeeded(answer)?;
        let (answer, _) =
            ReportResponse::ref_from_prefix(answer).map_err(|_| MessageError::Broken)?;
        *report = answer
            .report
            .as_bytes()
            .try_into()
            .map_err(|_| MessageError::Broken)?;
        Ok(())
    }

    /// A key that the firmware derives; `request` is a MSG_KEY_REQ of version 1.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn derived_key<I: Instructions>(
        &mut self,
        instructions: &mut I,
        request: &[u8; KEY_REQUEST],
        key: &mut [u8; 32],
    ) -> Result<(), MessageError> {
        let mut message = [0; MOST];
        let answer = self.exchange(
            instructions,
            (MessageType::KeyRequest, request),
            (MessageType::KeyResponse, &mut message),
        )?;
        let result = succeeded(answer).and_then(|()| {
            let (answer, _) =
                KeyResponse::ref_from_prefix(answer).map_err(|_| MessageError::Broken)?;
            *key = answer.derived_key;
            Ok(())
        });
        message.zeroize();
        result
    }

    /// Sends one message and decrypts the answer into `message`.
    fn exchange<'a, I: Instructions>(
        &mut self,
        instructions: &mut I,
        request: (MessageType, &[u8]),
        (answer_type, message): (MessageType, &'a mut [u8; MOST]),
    ) -> Result<&'a [u8], MessageError> {
        let broken = MessageError::Broken;
        let sequence = self.sequence.checked_add(1).ok_or(broken)?;
        let length = self.seal(request, sequence, message)?;
        instructions.put_message(message.get(..length).ok_or(broken)?);
        carry(instructions)?;
        instructions.take_message(message);
        let payload = self.open(answer_type, sequence, message)?;
        self.sequence = sequence + 1;
        Ok(payload)
    }

    /// Writes the encrypted message to `message`; its length.
    fn seal(
        &self,
        (kind, payload): (MessageType, &[u8]),
        sequence: u64,
        message: &mut [u8; MOST],
    ) -> Result<usize, MessageError> {
        let broken = MessageError::Broken;
        let mut header = Header::new(kind, 1, payload.len(), sequence, 0).ok_or(broken)?;
        let length = HEADER_LEN + payload.len();
        let body = message.get_mut(HEADER_LEN..length).ok_or(broken)?;
        body.copy_from_slice(payload);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&Nonce::from(header.iv()), header.aad(), body.into())
            .map_err(|_| broken)?;
        if let Some(place) = header.auth_tag.first_chunk_mut::<TAG>() {
            place.copy_from_slice(&tag);
        }
        let place = message.get_mut(..HEADER_LEN).ok_or(broken)?;
        place.copy_from_slice(header.as_bytes());
        Ok(length)
    }

    /// Checks and decrypts the answer to the message `sequence` in place; its payload.
    fn open<'a>(
        &self,
        kind: MessageType,
        sequence: u64,
        message: &'a mut [u8; MOST],
    ) -> Result<&'a [u8], MessageError> {
        let broken = MessageError::Broken;
        let (header, body) = message.split_at_mut(HEADER_LEN);
        let header = Header::read_from_bytes(header).map_err(|_| broken)?;
        let length = header.payload_len(kind, sequence, 0).ok_or(broken)?;
        let body = body.get_mut(..length).ok_or(broken)?;
        let tag: [u8; TAG] = header.auth_tag.first_chunk().copied().ok_or(broken)?;
        self.cipher()
            .decrypt_inout_detached(
                &Nonce::from(header.iv()),
                header.aad(),
                (&mut *body).into(),
                &Tag::from(tag),
            )
            .map_err(|_| broken)?;
        Ok(body)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(self.key))
    }
}

/// Checks the status that every answer begins with; a refusal may have nothing after it.
fn succeeded(answer: &[u8]) -> Result<(), MessageError> {
    let (status, _) = U32::read_from_prefix(answer).map_err(|_| MessageError::Broken)?;
    match status.get() {
        status::SUCCESS => Ok(()),
        refused => Err(MessageError::Refused(refused)),
    }
}

/// Has the host carry the message to the firmware; again, unchanged, while the firmware is busy.
fn carry<I: Instructions>(instructions: &mut I) -> Result<(), MessageError> {
    for _ in 0..TRIES {
        let answer = instructions.ghcb_exit(&Call {
            code: exit::GUEST_REQUEST,
            info1: MESSAGE_PAGE,
            info2: MESSAGE_PAGE + 4096,
            rax: None,
            buffer: &[],
        });
        if !answer.accepted() {
            return Err(MessageError::Broken);
        }
        match answer.info2 {
            0 => return Ok(()),
            BUSY => core::hint::spin_loop(),
            _ => return Err(MessageError::Broken),
        }
    }
    Err(MessageError::Broken)
}
