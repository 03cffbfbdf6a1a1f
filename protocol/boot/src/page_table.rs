// SPDX-License-Identifier: Apache-2.0

//! Page-table entries, as the launch writes the first ones and the microkernel all others: the CPU's
//! bits, and three of the bits left to software.
//!
//! | state | bits |
//! |---|---|
//! | free | 0 |
//! | reserved, no frame yet | `RESERVED`, rights |
//! | backed, accessible | `RESERVED`, `FRAME`, address, rights, `PRESENT` |
//! | backed, no access (`PROT_NONE`) | `RESERVED`, `FRAME`, address |
//! | table | `PRESENT`, address, without `RESERVED` |
//!
//! Rights use the CPU's own bits, so that giving access is setting `PRESENT`.

use core::fmt;

use crate::address::PhysAddr;

pub use crate::address::ADDRESS;

bitflags::bitflags! {
    /// The bits of an entry other than the address (AMD64 APM volume 2, section 5.3; `RESERVED`, `FRAME`, `PINNED`
    /// are in the bits 9 to 11 left to software).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PteFlags: u64 {
        /// The CPU uses the entry.
        const PRESENT = 1 << 0;
        /// Writable.
        const WRITE = 1 << 1;
        /// Reachable from CPL3.
        const USER = 1 << 2;
        /// Set by the CPU on access.
        const ACCESSED = 1 << 5;
        /// Set by the CPU on write.
        const DIRTY = 1 << 6;
        /// A 2 MiB or 1 GiB page.
        const LARGE = 1 << 7;
        /// The range belongs to the process.
        const RESERVED = 1 << 9;
        /// The entry holds a frame.
        const FRAME = 1 << 10;
        /// The mapping is the microkernel's: never changed by the process, its frame never freed.
        const PINNED = 1 << 11;
        /// Not executable.
        const NO_EXECUTE = 1 << 63;
        /// The bits that hold an entry's rights.
        const RIGHTS = Self::USER.bits() | Self::WRITE.bits() | Self::NO_EXECUTE.bits() | Self::USED.bits();
        /// Accessed and dirty bits are not used, so all entries set them from the start: the CPU never writes an
        /// entry, and a host that shadows the tables maps neighbouring pages with one fault.
        const USED = Self::ACCESSED.bits() | Self::DIRTY.bits();
        /// A page of the microkernel's own data.
        const KERNEL_DATA =
            Self::PRESENT.bits() | Self::WRITE.bits() | Self::NO_EXECUTE.bits() | Self::USED.bits();
        /// A page of the microkernel's own constants.
        const KERNEL_CONSTANT = Self::PRESENT.bits() | Self::NO_EXECUTE.bits() | Self::ACCESSED.bits();
    }
}

/// A page-table entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pte(u64);

impl Pte {
    /// A free range.
    pub const EMPTY: Self = Self(0);

    /// The entry of a page.
    #[must_use]
    #[inline]
    pub const fn new(page: PhysAddr, flags: PteFlags) -> Self {
        Self(page.get() | flags.bits())
    }

    /// An entry that points to a lower table; rights are decided at the leaves.
    #[must_use]
    #[inline]
    pub const fn table(table: PhysAddr) -> Self {
        let flags = PteFlags::PRESENT
            .union(PteFlags::WRITE)
            .union(PteFlags::USER)
            .union(PteFlags::ACCESSED);
        Self::new(table, flags)
    }

    /// The word that holds only an address: a link of a list, which no CPU reads as an entry.
    #[must_use]
    #[inline]
    pub const fn link(page: PhysAddr) -> Self {
        Self(page.get())
    }

    /// The entry of a range without frames.
    #[must_use]
    #[inline]
    pub const fn reserved(rights: Rights) -> Self {
        Self(PteFlags::RESERVED.bits() | rights.flags().bits())
    }

    /// The entry of these bits.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the entry.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The physical address in it, with the C-bit if it is that of a private page.
    #[must_use]
    #[inline]
    pub const fn address(self) -> PhysAddr {
        PhysAddr::from_entry(self.0 & ADDRESS)
    }

    /// The entry's bits without the address.
    #[must_use]
    #[inline]
    pub const fn flags(self) -> PteFlags {
        PteFlags::from_bits_retain(self.0 & !ADDRESS)
    }

    /// True if nothing is in it.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if it has all of `flags`.
    #[must_use]
    #[inline]
    pub const fn has(self, flags: PteFlags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }

    /// True if it has one of `flags`.
    #[must_use]
    #[inline]
    pub const fn has_any(self, flags: PteFlags) -> bool {
        self.0 & flags.bits() != 0
    }

    /// True if it points to a lower table; at the lowest level there is none.
    #[must_use]
    #[inline]
    pub const fn is_table(self) -> bool {
        self.has(PteFlags::PRESENT) && !self.has(PteFlags::RESERVED)
    }

    /// The entry of a range without frames, with a page and `flags`.
    #[must_use]
    #[inline]
    pub const fn backed_by(self, page: PhysAddr, flags: PteFlags) -> Self {
        Self(self.0 | page.get() | flags.bits())
    }

    /// The entry of the page that many bytes after this one's, with the same flags.
    #[must_use]
    #[inline]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The entry with `flags` set.
    #[must_use]
    #[inline]
    pub const fn with(self, flags: PteFlags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// The entry with `flags` cleared.
    #[must_use]
    #[inline]
    pub const fn without(self, flags: PteFlags) -> Self {
        Self(self.0 & !flags.bits())
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pte({:#x})", self.0)
    }
}

/// Access rights of user memory. Writable memory is readable; W and X never come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// No access; contents are kept.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl Rights {
    /// The entry's bits for these rights, without `PRESENT`.
    #[must_use]
    #[inline]
    pub const fn flags(self) -> PteFlags {
        const READ: PteFlags = PteFlags::USER.union(PteFlags::ACCESSED);
        match self {
            Self::None => PteFlags::NO_EXECUTE,
            Self::Read => READ.union(PteFlags::NO_EXECUTE),
            Self::ReadWrite => PteFlags::RIGHTS,
            Self::ReadExecute => READ,
        }
    }

    /// The rights that an entry gives once it is present.
    #[must_use]
    #[inline]
    pub const fn of(entry: Pte) -> Self {
        match (
            entry.has(PteFlags::USER),
            entry.has(PteFlags::WRITE),
            !entry.has(PteFlags::NO_EXECUTE),
        ) {
            (false, _, _) => Self::None,
            (true, true, _) => Self::ReadWrite,
            (true, false, true) => Self::ReadExecute,
            (true, false, false) => Self::Read,
        }
    }

    /// True if these rights allow the access.
    #[must_use]
    #[inline]
    pub const fn allow(self, access: Access) -> bool {
        match access {
            Access::Read => !matches!(self, Self::None),
            Access::Write => matches!(self, Self::ReadWrite),
            Access::Execute => matches!(self, Self::ReadExecute),
        }
    }
}

/// A kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// Flags that an entry must have, and must not have, for this access from user code.
    #[must_use]
    #[inline]
    pub const fn flags(self) -> (PteFlags, PteFlags) {
        let reach = PteFlags::PRESENT.union(PteFlags::USER);
        match self {
            Self::Read => (reach, PteFlags::empty()),
            Self::Write => (reach.union(PteFlags::WRITE), PteFlags::empty()),
            Self::Execute => (reach, PteFlags::WRITE.union(PteFlags::NO_EXECUTE)),
        }
    }
}
