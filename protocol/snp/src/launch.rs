// SPDX-License-Identifier: Apache-2.0

//! Contents of the launch digest (56860 section 8.17.2): for each page the firmware hashes a PAGE_INFO that
//! contains the digest so far. The caller does the hashing.

use crate::assert_layout;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Guest physical address under which a VMSA page is measured (56860 SNP_LAUNCH_UPDATE, VMSA).
pub const VMSA_GPA: u64 = 0xFFFF_FFFF_F000;
/// Bytes of a page.
pub const PAGE_LEN: usize = 4096;

/// Kind of a launch page (56860 SNP_LAUNCH_UPDATE, PAGE_TYPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PageType {
    /// Contents and address are measured.
    Normal = 1,
    /// A VMSA, measured at [`VMSA_GPA`].
    Vmsa = 2,
    /// Zeroed by the firmware; the address is measured.
    Zero = 3,
    /// Only the address is measured.
    Unmeasured = 4,
    /// The firmware writes the secrets page; the address is measured.
    Secrets = 5,
    /// The firmware checks the CPUID page; the address is measured.
    Cpuid = 6,
}

impl PageType {
    /// The page type with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Vmsa,
            3 => Self::Zero,
            4 => Self::Unmeasured,
            5 => Self::Secrets,
            6 => Self::Cpuid,
            _ => return None,
        })
    }

    /// True if CONTENTS is the digest of the page; it is zero for the other types.
    pub const fn contents_are_measured(self) -> bool {
        matches!(self, Self::Normal | Self::Vmsa)
    }
}

/// Input of one step of the launch digest (56860 PAGE_INFO, table 67).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PageInfo {
    /// The launch digest before this page; zero at the start.
    pub digest_cur: [u8; 48],
    /// SHA-384 of the page, or zero, see [`PageType::contents_are_measured`].
    pub contents: [u8; 48],
    /// Length of this structure, 70h.
    pub length: U16,
    /// A [`PageType`].
    pub page_type: u8,
    /// Bit 0: part of the initial migration image.
    pub imi_page: u8,
    /// Permissions of VMPL 3: bit 0 read, 1 write, 2 execute in user mode, 3 execute in supervisor mode.
    pub vmpl3_perms: u8,
    /// Permissions of VMPL 2.
    pub vmpl2_perms: u8,
    /// Permissions of VMPL 1.
    pub vmpl1_perms: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// Guest physical address.
    pub gpa: U64,
}
assert_layout!(
    PageInfo, 0x70,
    digest_cur @ 0x00, contents @ 0x30, length @ 0x60, page_type @ 0x62, imi_page @ 0x63, vmpl3_perms @ 0x64,
    vmpl2_perms @ 0x65, vmpl1_perms @ 0x66, gpa @ 0x68,
);

impl PageInfo {
    /// The structure for one page without permissions for the lower privilege levels.
    ///
    /// `contents` is the page's SHA-384 for types whose contents are measured and is ignored for the others.
    pub fn new(digest_cur: [u8; 48], page_type: PageType, contents: [u8; 48], gpa: u64) -> Self {
        Self {
            digest_cur,
            contents: if page_type.contents_are_measured() {
                contents
            } else {
                [0; 48]
            },
            length: U16::new(0x70),
            page_type: page_type as u8,
            imi_page: 0,
            vmpl3_perms: 0,
            vmpl2_perms: 0,
            vmpl1_perms: 0,
            reserved: 0,
            gpa: U64::new(gpa),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_types_round_trip() {
        for number in 0..=u8::MAX {
            match PageType::from_number(number) {
                Some(page_type) => assert_eq!(page_type as u8, number),
                None => assert!(!(1..=6).contains(&number)),
            }
        }
    }

    #[test]
    fn contents_count_for_normal_and_vmsa_only() {
        for number in 1..=6 {
            let page_type = PageType::from_number(number).unwrap();
            let info = PageInfo::new([1; 48], page_type, [2; 48], 0x1000);
            assert_eq!(info.contents == [2; 48], number <= 2);
        }
    }
}
