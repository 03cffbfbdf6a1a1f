// SPDX-License-Identifier: Apache-2.0

//! Frames: pages of the Keep's own memory, in the form used in page-table entries.
//!
//! Physical memory is read and written only through frames. They are made only from memory that
//! the launch measured ([`crate::launch`]), from a fresh page that was accepted
//! ([`crate::frames`], [`crate::snp::pages`]), and from an entry that the microkernel has written
//! ([`crate::paging`]).

#![expect(clippy::must_use_candidate, reason = "they are accessors")]

use enarx_boot::address::{PhysAddr, VirtAddr};
use enarx_boot::layout::{DIRECT_MAP, LARGE, PAGE};

/// 4 KiB of the Keep's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Frame(PhysAddr);

/// 2 MiB of the Keep's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct LargeFrame(PhysAddr);

/// One of the 512 aligned words of a frame, as in a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Slot(PhysAddr);

/// Words of one frame, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    first: Slot,
    count: u64,
}

/// One byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Place(PhysAddr);

/// Words of a frame.
pub const WORDS: u64 = PAGE / 8;

/// Where the direct map has an address.
const fn mapped(address: PhysAddr) -> VirtAddr {
    VirtAddr::new(DIRECT_MAP).offset(address.gpa().get())
}

impl Frame {
    /// The frame at `page`, a multiple of 4 KiB, which must belong to the Keep.
    pub(crate) const fn of(page: PhysAddr) -> Self {
        Self(page)
    }

    /// Its address, as entries have it.
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Where the direct map has it.
    pub const fn mapped(self) -> VirtAddr {
        mapped(self.0)
    }

    /// Its word `index`, modulo 512.
    pub const fn slot(self, index: u64) -> Slot {
        Slot(self.0.offset((index & (WORDS - 1)) * 8))
    }

    /// All its words.
    pub const fn words(self) -> Words {
        Words {
            first: Slot(self.0),
            count: WORDS,
        }
    }

    /// Its byte at `offset`, modulo 4 KiB.
    pub const fn place(self, offset: u64) -> Place {
        Place(self.0.offset(offset & (PAGE - 1)))
    }
}

impl LargeFrame {
    /// The frame at `page`, a multiple of 2 MiB, which must belong to the Keep.
    pub(crate) const fn of(page: PhysAddr) -> Self {
        Self(page)
    }

    /// Its address, as entries have it.
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Where the direct map has it.
    pub const fn mapped(self) -> VirtAddr {
        mapped(self.0)
    }

    /// Its part `index`, modulo 512.
    pub const fn part(self, index: u64) -> Frame {
        Frame(self.0.offset((index & (LARGE / PAGE - 1)) * PAGE))
    }
}

impl Slot {
    /// Its address; the C-bit is that of its frame.
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Its number in its frame, below [`WORDS`].
    pub const fn index(self) -> u64 {
        self.0.get() % PAGE / 8
    }

    /// The words from this one on, at most `most` and up to the end of the frame.
    pub fn words(self, most: u64) -> Words {
        let room = WORDS - self.index();
        Words {
            first: self,
            count: room.min(most),
        }
    }

    /// The word `count` words later; the caller stays in the frame or at its end.
    pub(crate) const fn skip(self, count: u64) -> Self {
        debug_assert!(self.0.get() % PAGE + count * 8 <= PAGE);
        Self(self.0.offset(count * 8))
    }
}

impl Words {
    /// The first of them.
    pub const fn first(self) -> Slot {
        self.first
    }

    /// How many they are.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// The first `most` of them, and the rest.
    pub fn split(self, most: u64) -> (Self, Self) {
        let count = most.min(self.count);
        let head = Self {
            first: self.first,
            count,
        };
        let tail = Self {
            first: self.first.skip(count),
            count: self.count - count,
        };
        (head, tail)
    }

    /// The first of them, and the rest; `None` of none.
    pub const fn split_first(self) -> Option<(Slot, Self)> {
        if self.count == 0 {
            return None;
        }
        let rest = Self {
            first: self.first.skip(1),
            count: self.count - 1,
        };
        Some((self.first, rest))
    }
}

impl Place {
    /// The byte at this address, which lies in a frame of the Keep.
    pub(crate) const fn of(address: PhysAddr) -> Self {
        Self(address)
    }

    /// Its address; the C-bit is that of its frame.
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Bytes from this one to the end of the frame.
    pub const fn room(self) -> u64 {
        PAGE - self.0.get() % PAGE
    }
}
