// SPDX-License-Identifier: Apache-2.0

//! The information page: which runtime image the loader accepts, and where its parts belong. The
//! launch writes it and the secure processor measures it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// User address of the information page, the first of the loader (`loader.ld`).
pub const ADDRESS: u64 = 0x10_0000;
/// First bytes of the page ("ENARXIMG").
pub const MAGIC: u64 = u64::from_le_bytes(*b"ENARXIMG");
/// Segments of an image, at most.
pub const SEGMENTS: usize = 8;
/// The segment is writable.
pub const WRITE: u64 = 2;
/// The segment is executable.
pub const EXECUTE: u64 = 1;

/// A part of the image.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Segment {
    /// User address of its first byte.
    pub address: u64,
    /// Start of its mapping, a multiple of 4 KiB.
    pub start: u64,
    /// Bytes mapped from `start` on, a multiple of 4 KiB.
    pub size: u64,
    /// Offset of its contents in the image.
    pub offset: u64,
    /// Bytes of contents.
    pub length: u64,
    /// [`WRITE`] or [`EXECUTE`]; 0 = read only.
    pub rights: u64,
}

const _: () = assert!(size_of::<Segment>() == 48);

/// The information page's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// SHA-256 of the image file.
    pub digest: [u8; 32],
    /// Length of the image file, in bytes.
    pub length: u64,
    /// User address of the image's entry point.
    pub entry: u64,
    /// User address of the image in the shared memory.
    pub shared: u64,
    /// Segments used.
    pub count: u64,
    /// The segments, ascending by `offset`, without overlap.
    pub segments: [Segment; SEGMENTS],
}

const _: () = assert!(size_of::<ImageInfo>() == 72 + 8 * 48);
