// SPDX-License-Identifier: Apache-2.0

//! The CPUID page (56860 SNP_LAUNCH_UPDATE, CPUID page; the same table is in MSG_CPUID_REQ). The host proposes the
//! values, and the firmware checks them against the hardware at launch; values that it does not check stay
//! untrusted.

use crate::assert_layout;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Entries that a page can hold (56860, COUNT_MAX).
pub const MAX_ENTRIES: usize = 64;

/// One CPUID function (56860 CPUID_FUNCTION).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Entry {
    /// Function.
    pub eax_in: U32,
    /// Sub-function.
    pub ecx_in: U32,
    /// XCR0 for functions that depend on it.
    pub xcr0_in: U64,
    /// XSS for functions that depend on it.
    pub xss_in: U64,
    /// Result.
    pub eax: U32,
    /// Result.
    pub ebx: U32,
    /// Result.
    pub ecx: U32,
    /// Result.
    pub edx: U32,
    /// Reserved.
    pub reserved: U64,
}
assert_layout!(
    Entry, 48,
    eax_in @ 0, ecx_in @ 4, xcr0_in @ 8, xss_in @ 16, eax @ 24, ebx @ 28, ecx @ 32, edx @ 36, reserved @ 40,
);

/// The CPUID page.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct CpuidPage {
    /// Entries used; a value above [`MAX_ENTRIES`] is malformed, see [`Self::entries`].
    pub count: U32,
    /// Reserved.
    pub reserved0: U32,
    /// Reserved.
    pub reserved1: U64,
    /// The table.
    pub table: [Entry; MAX_ENTRIES],
    /// Reserved.
    pub reserved2: [u8; 1008],
}
assert_layout!(CpuidPage, 4096, count @ 0, table @ 16, reserved2 @ 0xC10);

impl Default for CpuidPage {
    /// An empty table.
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl CpuidPage {
    /// The entries in use; none when the count is beyond the table.
    pub fn entries(&self) -> &[Entry] {
        usize::try_from(self.count.get())
            .ok()
            .and_then(|n| self.table.get(..n))
            .unwrap_or(&[])
    }

    /// Adds an entry, or returns it when the table is full.
    ///
    /// # Errors
    /// The entry, when the table is full.
    pub fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        let count = self.count.get();
        let slot = usize::try_from(count)
            .ok()
            .and_then(|n| self.table.get_mut(n))
            .ok_or(entry)?;
        *slot = entry;
        self.count.set(count + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fills_and_a_bad_count_is_empty() {
        let mut page = CpuidPage::default();
        let entry = page.table[0];
        for n in 0..MAX_ENTRIES {
            assert_eq!(page.entries().len(), n);
            assert_eq!(page.push(entry), Ok(()));
        }
        assert_eq!(page.push(entry), Err(entry));
        page.count.set(u32::MAX);
        assert!(page.entries().is_empty());
    }
}
