// SPDX-License-Identifier: Apache-2.0

//! Messages to the firmware: reports and derived keys (56860, guest messages), encrypted with
//! AES-256-GCM under VMPCK 0, carried by the host.
//!
//! The sequence number is the nonce. It is never used for two plaintexts: a message that the host did not
//! carry waits, sealed, until the host carries it, and any other failure ends the use of the key.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use enarx_snp::ghcb::exit;
use enarx_snp::guest_message::{
    HEADER_LEN, Header, KeyRequest, KeyResponse, MessageType, ReportRequest, ReportResponse, status,
};
use enarx_snp::report::REPORT_LEN;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zeroize::{Zeroize, Zeroizing};

use super::ghcb::Call;
use crate::platform::Platform;
use enarx_boot::layout::EXIT_PHYSICAL;
use enarx_exits::{ExitFunction, MESSAGE_OFFSET};

/// Bytes of a GCM tag.
const TAG: usize = 16;
/// The firmware is busy, or the host limits requests: try again (56421, SNP Guest Request: SW_EXITINFO2
/// bits 63:32).
const BUSY: u64 = 2 << 32;
/// How often a message is sent while the firmware is busy, and the pause between two tries in
/// nanoseconds: 30 seconds in all. Hosts that limit requests let one through every two seconds or so.
const TRIES: u32 = 300;
const PAUSE: u64 = 100_000_000;
/// Size of a MSG_KEY_REQ of version 1, in bytes.
pub const KEY_REQUEST: usize = offset_of!(KeyRequest, launch_mit_vector);
/// Largest message in either direction: the answer with a report.
const MOST: usize = HEADER_LEN + size_of::<ReportResponse>();
/// Largest payload of a request.
const MOST_REQUEST: usize = size_of::<ReportRequest>();
const _: () = assert!(HEADER_LEN + MOST_REQUEST <= MOST && KEY_REQUEST == 32);
const _: () = assert!(KEY_REQUEST <= MOST_REQUEST);
// Messages are carried by words, and none has a rest.
const _: () = assert!((HEADER_LEN | KEY_REQUEST | MOST_REQUEST | MOST).is_multiple_of(8));

/// Guest physical address of the page with the message; the answer comes in the next one.
const MESSAGE_PAGE: u64 = EXIT_PHYSICAL + MESSAGE_OFFSET as u64;

/// The reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The firmware refused; its status. Messages go on.
    Refused(u32),
    /// The host has not carried the message in time. It waits; messages go on.
    Busy,
    /// The host changed the message or its answer, or the Keep has ended: no more messages.
    Broken,
}

/// VMPCK 0. It lies in one place, from which any vCPU can wipe it without a lock; copies live as long as one
/// message is sealed or opened.
#[derive(Default)]
pub struct MessageKey([AtomicU64; 4]);

impl core::fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MessageKey").finish_non_exhaustive()
    }
}

impl MessageKey {
    /// No key.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 4])
    }

    /// Sets the key, in words as memory has them.
    pub fn set(&self, words: [u64; 4]) {
        for (place, word) in self.0.iter().zip(words) {
            place.store(word, Ordering::SeqCst);
        }
    }

    /// Forgets the key.
    pub fn wipe(&self) {
        self.set([0; 4]);
    }

    /// True if there is a key.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// The cipher; `None` without a key. Its round keys are zeroized when it goes.
    #[inline(never)]
    fn cipher(&self) -> Option<Aes256Gcm> {
        let mut key = Zeroizing::new([0; 32]);
        for (place, word) in key.chunks_exact_mut(8).zip(&self.0) {
            place.copy_from_slice(&word.load(Ordering::SeqCst).to_ne_bytes());
        }
        // A key that is being wiped opens and seals nothing that anybody takes.
        self.is_set().then(|| Aes256Gcm::new((&*key).into()))
    }
}

/// A sealed message that the host has not carried.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    kind: MessageType,
    payload: [u8; MOST_REQUEST],
    sealed: [u8; HEADER_LEN + MOST_REQUEST],
    length: usize,
}

/// The encrypted channel to the firmware, without its key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    /// Sequence number of the last message that was answered.
    sequence: u64,
    waiting: Option<Waiting>,
}

impl Channel {
    /// A channel that has not been used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sequence: 0,
            waiting: None,
        }
    }

    /// An attestation report over 64 bytes of data.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn report<P: Platform>(
        &mut self,
        key: &MessageKey,
        platform: &mut P,
        data: &[u8; 64],
        report: &mut [u8; REPORT_LEN],
    ) -> Result<(), MessageError> {
        let mut request = ReportRequest::new_zeroed();
        request.report_data = *data;
        let mut message = [0; MOST];
        let answer = self.exchange(
            key,
            platform,
            (MessageType::ReportRequest, request.as_bytes()),
            &mut message,
        )?;
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
    pub fn derived_key<P: Platform>(
        &mut self,
        key: &MessageKey,
        platform: &mut P,
        request: &[u8; KEY_REQUEST],
        derived: &mut [u8; 32],
    ) -> Result<(), MessageError> {
        let mut message = Zeroizing::new([0; MOST]);
        let answer = self.exchange(
            key,
            platform,
            (MessageType::KeyRequest, request),
            &mut message,
        )?;
        let (answer, _) = KeyResponse::ref_from_prefix(answer).map_err(|_| MessageError::Broken)?;
        *derived = answer.derived_key;
        Ok(())
    }

    /// Sends one message and decrypts the answer into `message`: its payload, which says success. A message
    /// that waits goes first; if it is this one, its answer is the answer.
    fn exchange<'a, P: Platform>(
        &mut self,
        key: &MessageKey,
        platform: &mut P,
        (kind, payload): (MessageType, &[u8]),
        message: &'a mut [u8; MOST],
    ) -> Result<&'a [u8], MessageError> {
        let broken = MessageError::Broken;
        let cipher = key.cipher().ok_or(broken)?;
        let mut padded = [0; MOST_REQUEST];
        padded
            .get_mut(..payload.len())
            .ok_or(broken)?
            .copy_from_slice(payload);
        let another = |waiting: &Waiting| (waiting.kind, waiting.payload) != (kind, padded);
        if self.waiting.as_ref().is_some_and(another) {
            self.complete(&cipher, platform, message)?;
            message.zeroize();
        }
        if self.waiting.is_none() {
            self.waiting = Some(self.seal(&cipher, kind, padded, payload.len())?);
        }
        let length = self.complete(&cipher, platform, message)?;
        let answer = message.get(HEADER_LEN..HEADER_LEN + length).ok_or(broken)?;
        // A refusal may have nothing after its status.
        let (status, _) = U32::read_from_prefix(answer).map_err(|_| broken)?;
        match status.get() {
            status::SUCCESS if key.is_set() && !platform.ended() => Ok(answer),
            status::SUCCESS => Err(broken),
            refused => Err(MessageError::Refused(refused)),
        }
    }

    /// The next message, encrypted.
    #[inline(never)]
    fn seal(
        &self,
        cipher: &Aes256Gcm,
        kind: MessageType,
        payload: [u8; MOST_REQUEST],
        size: usize,
    ) -> Result<Waiting, MessageError> {
        let broken = MessageError::Broken;
        let sequence = self.sequence.checked_add(1).ok_or(broken)?;
        let mut header = Header::new(kind, 1, size, sequence, 0).ok_or(broken)?;
        let length = HEADER_LEN + size;
        let mut sealed = [0; HEADER_LEN + MOST_REQUEST];
        let (place, body) = sealed.split_at_mut(HEADER_LEN);
        body.copy_from_slice(&payload);
        let body = body.get_mut(..size).ok_or(broken)?;
        let tag = cipher
            .encrypt_inout_detached(&Nonce::from(header.iv()), header.aad(), body.into())
            .map_err(|_| broken)?;
        if let Some(place) = header.auth_tag.first_chunk_mut::<TAG>() {
            place.copy_from_slice(&tag);
        }
        place.copy_from_slice(header.as_bytes());
        Ok(Waiting {
            kind,
            payload,
            sealed,
            length,
        })
    }

    /// Has the message that waits carried, and decrypts the answer in place: the length of its payload.
    #[inline(never)]
    fn complete<P: Platform>(
        &mut self,
        cipher: &Aes256Gcm,
        platform: &mut P,
        message: &mut [u8; MOST],
    ) -> Result<usize, MessageError> {
        let broken = MessageError::Broken;
        let waiting = self.waiting.as_ref().ok_or(broken)?;
        let sealed = waiting.sealed.get(..waiting.length).ok_or(broken)?;
        platform.put_message(sealed.as_chunks().0);
        carry(platform)?;
        platform.take_message(message.as_chunks_mut().0);
        let kind = match waiting.kind {
            MessageType::ReportRequest => MessageType::ReportResponse,
            _ => MessageType::KeyResponse,
        };
        let sequence = self.sequence.checked_add(1).ok_or(broken)?;
        let length = open(cipher, kind, sequence, message).ok_or(broken)?;
        self.sequence = sequence.checked_add(1).ok_or(broken)?;
        self.waiting = None;
        Ok(length)
    }
}

/// Checks and decrypts the answer to the message `sequence` in place; the length of its payload.
fn open(
    cipher: &Aes256Gcm,
    kind: MessageType,
    sequence: u64,
    message: &mut [u8; MOST],
) -> Option<usize> {
    let (header, body) = message.split_at_mut(HEADER_LEN);
    let header = Header::read_from_bytes(header).ok()?;
    let length = header.payload_len(kind, sequence, 0)?;
    let body = body.get_mut(..length)?;
    let tag: [u8; TAG] = header.auth_tag.first_chunk().copied()?;
    cipher
        .decrypt_inout_detached(
            &Nonce::from(header.iv()),
            header.aad(),
            body.into(),
            &Tag::from(tag),
        )
        .ok()?;
    Some(length)
}

/// Has the host carry the message to the firmware; again, unchanged, while the firmware is busy.
fn carry<P: Platform>(platform: &mut P) -> Result<(), MessageError> {
    for _ in 0..TRIES {
        let answer = platform.ghcb_exit(&Call {
            code: exit::GUEST_REQUEST,
            info1: MESSAGE_PAGE,
            info2: MESSAGE_PAGE + 4096,
            rax: None,
            buffer: &[],
        });
        if !answer.accepted() || platform.ended() {
            return Err(MessageError::Broken);
        }
        match answer.info2 {
            0 => return Ok(()),
            BUSY => platform.exit(ExitFunction::Park, &[PAUSE]),
            _ => return Err(MessageError::Broken),
        };
    }
    Err(MessageError::Busy)
}
