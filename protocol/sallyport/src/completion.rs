// SPDX-License-Identifier: Apache-2.0

//! The record by which the host completes a request.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::COMPLETION_SIZE;

/// A completion record as it lies in the completion ring, [`COMPLETION_SIZE`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Completion {
    /// The request's id.
    pub id: u32,
    /// Number of a [`Status`](crate::Status).
    pub status: u16,
    /// Zero.
    pub reserved: u16,
    /// Bytes of reply in the request's buffer.
    pub length: u32,
    /// Zero.
    pub reserved2: u32,
    /// Meaning by the call.
    pub value: u64,
    /// Meaning by the call.
    pub value2: u64,
}

const _: () = assert!(size_of::<Completion>() == COMPLETION_SIZE as usize);
const _: () = assert!(core::mem::offset_of!(Completion, status) == 4);
const _: () = assert!(core::mem::offset_of!(Completion, length) == 8);
const _: () = assert!(core::mem::offset_of!(Completion, value) == 16);
const _: () = assert!(core::mem::offset_of!(Completion, value2) == 24);

impl Completion {
    /// The record as words of the ring.
    pub fn to_words(self) -> [u64; 4] {
        zerocopy::transmute!(self)
    }

    /// The record of words of the ring; `None` when a reserved field is not zero.
    pub fn from_words(words: [u64; 4]) -> Option<Self> {
        let completion: Self = zerocopy::transmute!(words);
        (completion.reserved == 0 && completion.reserved2 == 0).then_some(completion)
    }
}
