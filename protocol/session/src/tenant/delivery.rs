// SPDX-License-Identifier: Apache-2.0

//! A delivery of an application to a Keep: the deployment, then one part after the other.

use crate::Refusal;
use crate::deployment::{Deployment, Part};
use crate::document::{self, Announcement};
use crate::frame::{CONTROL, DATA_CHUNK, DELIVERY, Kind};
use crate::outbox::Outbox;
use alloc::vec::Vec;
use enarx_contract::canonical::Hex;
use sha2::{Digest, Sha256};

/// An application that is being delivered.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Delivering {
    pub(super) deployment: Deployment,
    pub(super) document: Vec<u8>,
    /// The part that is being delivered; `None`: the deployment itself.
    pub(super) part: Option<Part>,
    pub(super) offset: u64,
    pub(super) hash: Sha256,
    pub(super) credit: u32,
}

impl Delivering {
    /// Puts bytes of the current part into a frame.
    pub(super) fn send(&mut self, bytes: &[u8], outbox: &mut Outbox) {
        outbox.put(Kind::Data, DELIVERY, bytes);
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.credit = self
            .credit
            .saturating_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    /// Sends more of the deployment itself, if it is being delivered and there is credit.
    pub(super) fn send_document(&mut self, outbox: &mut Outbox) {
        if self.part.is_some() {
            return;
        }
        let from = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rest = self.document.get(from..).unwrap_or_default();
        let count = rest.len().min(self.credit as usize).min(DATA_CHUNK);
        let chunk = rest.get(..count).unwrap_or_default().to_vec();
        if !chunk.is_empty() {
            self.send(&chunk, outbox);
        }
    }

    /// After bytes of the current part: ends it when it is complete, and announces the next part. Returns the
    /// deployment's digest if there is none.
    pub(super) fn continue_delivery(
        &mut self,
        outbox: &mut Outbox,
    ) -> Result<Option<[u8; 32]>, Refusal> {
        loop {
            let size = match self.part.and_then(|part| self.deployment.object(part)) {
                None => self.document.len() as u64,
                Some(object) => object.size,
            };
            // Many empty parts in a row wait, like everything, until pending frames have been sent.
            if self.offset < size || outbox.bytes().len() > DATA_CHUNK {
                return Ok(None);
            }
            let digest = Hex(self.hash.clone().finalize().into());
            let named = self.part.and_then(|part| self.deployment.object(part));
            if named.is_some_and(|object| object.digest != digest) {
                return Err(Refusal::Digest);
            }
            outbox.put(Kind::End, DELIVERY, &[]);
            let Some(next) = self.deployment.next(self.part) else {
                return Ok(Some(Sha256::digest(&self.document).into()));
            };
            let Some(object) = self.deployment.object(next) else {
                return Ok(None);
            };
            let announcement = Announcement {
                digest: object.digest,
                size: object.size,
            };
            let payload = document::encode(Kind::Blob, &announcement)?;
            outbox.put(Kind::Blob, CONTROL, &payload);
            self.part = Some(next);
            self.offset = 0;
            self.hash = self.deployment.hash(next);
        }
    }
}
