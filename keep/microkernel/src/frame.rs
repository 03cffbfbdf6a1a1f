//! Frames: pages of the Keep's own memory, in the form in which page-table entries name them.
//!
//! Physical memory is read and written by them alone. None is made but of what the launch measured
//! ([`crate::launch`]), of a fresh page that has become the Keep's ([`crate::frames`],
//! [`crate::snp::pages`]), and of an entry that the microkernel has written ([`crate::paging`]).

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
    /// The frame at `page`, a multiple of 4 KiB, which is the Keep's.
    #[inline]
    pub(crate) const fn of(page: PhysAddr) -> Self {
        Self(page)
    }

    /// Its address, as entries have it.
    #[must_use]
    #[inline]
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Where the direct map has it.
    #[must_use]
    pub const fn mapped(self) -> VirtAddr {
        mapped(self.0)
    }

    /// Its word `index`, modulo 512.
    #[must_use]
    #[inline]
    pub const fn slot(self, index: u64) -> Slot {
        Slot(self.0.offset((index & (WORDS - 1)) * 8))
    }

    /// Its byte at `offset`, modulo 4 KiB.
    #[must_use]
    #[inline]
    pub const fn place(self, offset: u64) -> Place {
        Place(self.0.offset(offset & (PAGE - 1)))
    }
}

impl LargeFrame {
    /// The frame at `page`, a multiple of 2 MiB, which is the Keep's.
    #[inline]
    pub(crate) const fn of(page: PhysAddr) -> Self {
        Self(page)
    }

    /// Its address, as entries have it.
    #[must_use]
    #[inline]
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Where the direct map has it.
    #[must_use]
    pub const fn mapped(self) -> VirtAddr {
        mapped(self.0)
    }

    /// Its part `index`, modulo 512.
    #[must_use]
    #[inline]
    pub const fn part(self, index: u64) -> Frame {
        Frame(self.0.offset((index & (LARGE / PAGE - 1)) * PAGE))
    }
}

impl Slot {
    /// Its address; the C-bit is that of its frame.
    #[must_use]
    #[inline]
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Words from this one to the end of the frame.
    #[must_use]
    #[inline]
    pub const fn room(self) -> u64 {
        WORDS - self.0.get() % PAGE / 8
    }

    /// The word `count` further on; the caller stays in the frame or at its end.
    #[inline]
    pub(crate) const fn skip(self, count: u64) -> Self {
        debug_assert!(count <= self.room() || self.0.get().is_multiple_of(PAGE));
        Self(self.0.offset(count * 8))
    }

    /// Words from this one to `end`, which lies behind it in the frame or at its end.
    #[inline]
    pub(crate) const fn words_to(self, end: Self) -> u64 {
        (end.0.get() - self.0.get()) / 8
    }
}

impl Place {
    /// The byte at this address, which lies in a frame of the Keep.
    #[inline]
    pub(crate) const fn of(address: PhysAddr) -> Self {
        Self(address)
    }

    /// Its address; the C-bit is that of its frame.
    #[must_use]
    #[inline]
    pub const fn address(self) -> PhysAddr {
        self.0
    }

    /// Bytes from this one to the end of the frame.
    #[must_use]
    #[inline]
    pub const fn room(self) -> u64 {
        PAGE - self.0.get() % PAGE
    }
}
