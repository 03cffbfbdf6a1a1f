// SPDX-License-Identifier: Apache-2.0

//! A delivery of an application to a Keep: one part after the other, each announced with its length
//! and digest, which are checked before the part is parsed.

use crate::deployment::{Deployment, Part};
use crate::{Moment, Refusal};
use alloc::vec::Vec;
use enarx_contract::Contract;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A delivery in progress.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Delivering {
    /// `None` while the deployment itself is being delivered.
    pub(super) deployment: Option<(Deployment, [u8; 32])>,
    /// When the deployment was complete: the moment of its time.
    pub(super) anchor: Moment,
    /// The last part that has begun.
    pub(super) part: Option<Part>,
    pub(super) open: Option<Open>,
    /// Bytes of the deployment.
    pub(super) document: Vec<u8>,
    pub(super) credit: u32,
    pub(super) used: u32,
}

/// Something that has been announced and is not complete.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Open {
    hash: Sha256,
    left: u64,
    digest: [u8; 32],
}

impl Open {
    pub(super) fn new(hash: Sha256, left: u64, digest: [u8; 32]) -> Self {
        Self { hash, left, digest }
    }
}

impl Delivering {
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| Refusal::protocol("bytes of a part that was not announced"))?;
        self.credit = self
            .credit
            .checked_sub(count)
            .ok_or_else(|| Refusal::protocol("a delivery beyond its credit"))?;
        open.left = open
            .left
            .checked_sub(u64::from(count))
            .ok_or_else(|| Refusal::protocol("more bytes than were announced"))?;
        self.used += count;
        open.hash.update(bytes);
        if self.deployment.is_none() {
            self.document.extend_from_slice(bytes);
        }
        Ok(())
    }

    pub(super) fn end(&mut self, contract: &Contract, now: Moment) -> Result<(), Refusal> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Refusal::protocol("the end of a part that was not announced"))?;
        if open.left != 0 {
            return Err(Refusal::protocol("fewer bytes than were announced"));
        }
        let digest: [u8; 32] = open.hash.finalize().into();
        if !bool::from(digest.ct_eq(&open.digest)) {
            return Err(Refusal::Digest);
        }
        if self.deployment.is_none() {
            let deployment = Deployment::decode(&self.document)?;
            deployment.admit(contract)?;
            self.document = Vec::new();
            self.anchor = now;
            self.deployment = Some((deployment, digest));
        }
        Ok(())
    }
}
