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

use bits::{NO_EXECUTE, PRESENT, USER, WRITE};

/// Bits of a page-table entry (AMD64 APM volume 2, section 5.3; `RESERVED`, `FRAME`, `PINNED` are
/// in the bits 9 to 11 left to software).
pub mod bits {
    /// The CPU uses the entry.
    pub const PRESENT: u64 = 1 << 0;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// Reachable from CPL3.
    pub const USER: u64 = 1 << 2;
    /// A 2 MiB or 1 GiB page.
    pub const LARGE: u64 = 1 << 7;
    /// The range belongs to the process.
    pub const RESERVED: u64 = 1 << 9;
    /// The entry holds a frame.
    pub const FRAME: u64 = 1 << 10;
    /// The mapping is the microkernel's: never changed by the process, its frame never freed.
    pub const PINNED: u64 = 1 << 11;
    /// Not executable.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Set by the CPU on access and on write.
    pub const ACCESSED_DIRTY: u64 = (1 << 5) | (1 << 6);
    /// Physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
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
    /// The entry bits of these rights, without `PRESENT`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::None => NO_EXECUTE,
            Self::Read => USER | NO_EXECUTE,
            Self::ReadWrite => USER | WRITE | NO_EXECUTE,
            Self::ReadExecute => USER,
        }
    }

    /// The rights that the bits of `entry` say.
    #[must_use]
    pub const fn of(entry: u64) -> Self {
        match (
            entry & USER != 0,
            entry & WRITE != 0,
            entry & NO_EXECUTE == 0,
        ) {
            (false, _, _) => Self::None,
            (true, true, _) => Self::ReadWrite,
            (true, false, true) => Self::ReadExecute,
            (true, false, false) => Self::Read,
        }
    }

    /// Tells if these rights allow the access.
    #[must_use]
    pub const fn allow(self, access: Access) -> bool {
        match access {
            Access::Read => !matches!(self, Self::None),
            Access::Write => matches!(self, Self::ReadWrite),
            Access::Execute => matches!(self, Self::ReadExecute),
        }
    }
}

/// The bits that hold an entry's rights.
pub const RIGHTS: u64 = USER | WRITE | NO_EXECUTE;

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
    /// Bits that an entry must have, and must not have, for this access from user code.
    #[must_use]
    pub const fn bits(self) -> (u64, u64) {
        match self {
            Self::Read => (PRESENT | USER, 0),
            Self::Write => (PRESENT | USER | WRITE, 0),
            Self::Execute => (PRESENT | USER, WRITE | NO_EXECUTE),
        }
    }
}

/// An entry that points to a lower table; rights are decided at the leaves.
#[must_use]
pub const fn table_entry(table: u64) -> u64 {
    table | PRESENT | WRITE | USER
}
