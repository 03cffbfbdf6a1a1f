// SPDX-License-Identifier: Apache-2.0

//! How much a Keep may add to a granted directory: file lengths in blocks, and a block for each name.
//!
//! It limits how much the Keep makes the directory grow, not how much it writes. Removed bytes are credited, but
//! never beyond the quota. A file that was removed while the Keep has it open counts until it is closed.

use std::sync::atomic::{AtomicU64, Ordering};

use enarx_sallyport::Status;

/// Bytes of a block: a page, and the block of most file systems.
const BLOCK: u64 = 4096;

/// The bytes that a name in a directory counts for.
pub const NAME: u64 = BLOCK;

/// Bytes of the blocks of a file of this length.
pub const fn blocks(length: u64) -> u64 {
    match length.checked_next_multiple_of(BLOCK) {
        Some(bytes) => bytes,
        None => u64::MAX,
    }
}

/// The quota of one granted directory. Its users hold the executor's lock.
#[derive(Debug)]
pub struct Quota {
    most: u64,
    left: AtomicU64,
}

impl Quota {
    /// A quota of which nothing is used.
    pub fn new(bytes: u64) -> Self {
        Self {
            most: bytes,
            left: AtomicU64::new(bytes),
        }
    }

    /// Uses a part of it.
    ///
    /// # Errors
    /// [`Status::Quota`] when less is left.
    pub fn take(&self, bytes: u64) -> Result<(), Status> {
        let left = self.left.load(Ordering::Relaxed);
        let left = left.checked_sub(bytes).ok_or(Status::Quota)?;
        self.left.store(left, Ordering::Relaxed);
        Ok(())
    }

    /// Gives a part back.
    pub fn give_back(&self, bytes: u64) {
        let left = self.left.load(Ordering::Relaxed).saturating_add(bytes);
        self.left.store(left.min(self.most), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_never_exceeds_its_size() {
        let quota = Quota::new(10);
        assert_eq!(quota.take(11), Err(Status::Quota));
        assert_eq!(quota.take(10), Ok(()));
        assert_eq!(quota.take(1), Err(Status::Quota));
        assert_eq!(quota.take(0), Ok(()));
        quota.give_back(u64::MAX);
        assert_eq!(quota.take(11), Err(Status::Quota));
        assert_eq!(quota.take(10), Ok(()));
    }

    #[test]
    fn lengths_count_in_blocks() {
        let lengths = [0, 1, 4096, 4097, u64::MAX].map(blocks);
        assert_eq!(lengths, [0, 4096, 4096, 8192, u64::MAX]);
    }
}
