// SPDX-License-Identifier: Apache-2.0

//! Frames that an end still has to send: at most a few small ones and one of data. Wiped when sent, because
//! released data passes through here.

use crate::frame::{self, Kind};
use crate::wipe::wipe;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Bytes of encoded frames, with those that have been sent already at the beginning.
#[derive(Default)]
#[cfg_attr(feature = "copy", derive(Clone))]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Appends a frame.
    pub(crate) fn put(&mut self, kind: Kind, stream: u8, payload: &[u8]) {
        self.put_parts(kind, stream, payload, &[]);
    }

    /// Puts a frame whose payload comes in two parts.
    pub(crate) fn put_parts(&mut self, kind: Kind, stream: u8, first: &[u8], second: &[u8]) {
        let needed = frame::HEADER + first.len() + second.len();
        if self.bytes.capacity() - self.bytes.len() < needed {
            // By hand, because a growing vector would leave its old contents in freed memory.
            let mut larger = Vec::with_capacity(self.bytes.len() + needed);
            larger.extend_from_slice(&self.bytes);
            wipe(&mut self.bytes);
            self.bytes = larger;
        }
        let header = frame::header(kind, stream, first.len() + second.len());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
    }

    /// Returns the bytes to send.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// True if nothing is to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Notes that the first `count` bytes have been sent; more than there are count as all.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            wipe(&mut self.bytes);
            self.sent = 0;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl core::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // In tests, the model distinguishes states by this.
        if cfg!(feature = "copy") {
            write!(f, "{:02x?}", self.bytes())
        } else {
            write!(f, "{} bytes", self.bytes().len())
        }
    }
}
