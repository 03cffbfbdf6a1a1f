// SPDX-License-Identifier: Apache-2.0

//! Addresses as types: guest-physical with and without the C-bit, and virtual.

use core::fmt;

/// A guest-physical address as the host and the firmware name it, without the C-bit.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gpa(u64);

/// A virtual address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VirtAddr(u64);

/// A guest-physical address as page-table entries and CR3 have it: with the C-bit if the page is private.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(u64);

/// The C-bit: the bit of a physical address that makes a page private (AMD64 APM volume 2, section 15.34.1).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct CBit(u64);

macro_rules! address {
    ($($name:ident)*) => {
        $(
            impl $name {
                /// The number, with the C-bit if the address has one.
                #[must_use]
                #[inline]
                pub const fn get(self) -> u64 {
                    self.0
                }

                /// The address so many bytes behind this one, modulo 2^64.
                #[must_use]
                #[inline]
                pub const fn offset(self, bytes: u64) -> Self {
                    Self(self.0.wrapping_add(bytes))
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!(stringify!($name), "({:#x})"), self.0)
                }
            }
        )*
    };
}

address!(Gpa VirtAddr PhysAddr);

/// Addresses that any number makes: a [`PhysAddr`] is one because of what stands in an entry.
macro_rules! plain_address {
    ($($name:ident)*) => {
        $(
            impl $name {
                /// The address of this number.
                #[must_use]
                #[inline]
                pub const fn new(address: u64) -> Self {
                    Self(address)
                }

                /// Tells if it is a multiple of `align`.
                #[must_use]
                #[inline]
                pub const fn is_aligned(self, align: u64) -> bool {
                    self.0.is_multiple_of(align)
                }
            }
        )*
    };
}

plain_address!(Gpa VirtAddr);

impl PhysAddr {
    /// The address of a page that is shared with the host.
    #[must_use]
    #[inline]
    pub const fn shared(page: Gpa) -> Self {
        Self(page.0)
    }

    /// The address in an entry or in CR3, whose other bits are zero.
    #[must_use]
    #[inline]
    pub const fn from_entry(address: u64) -> Self {
        Self(address)
    }

    /// The guest-physical address: that of any Keep lies in the direct map, the C-bit beyond it.
    #[must_use]
    #[inline]
    pub const fn gpa(self) -> Gpa {
        Gpa(self.0 & (crate::layout::DIRECT_MAP_SIZE - 1))
    }
}

impl CBit {
    /// No C-bit: there are no private pages.
    pub const NONE: Self = Self(0);

    /// The C-bit of a TEE as a mask; `None` unless it is one bit, beyond the memory of any Keep and part of a
    /// page-table entry's address.
    #[must_use]
    pub const fn new(mask: u64) -> Option<Self> {
        let address = mask & crate::page_table::ADDRESS == mask;
        if mask.is_power_of_two() && mask >= crate::layout::DIRECT_MAP_SIZE && address {
            Some(Self(mask))
        } else {
            None
        }
    }

    /// The mask; 0 for none.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.0
    }

    /// The address of a private page; under plain KVM, of any page. The one place where the C-bit is set.
    #[must_use]
    #[inline]
    pub const fn private(self, page: Gpa) -> PhysAddr {
        PhysAddr(page.0 | self.0)
    }
}

impl fmt::Debug for CBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CBit({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::DIRECT_MAP_SIZE;

    #[test]
    fn a_c_bit_is_one_bit_of_an_address_beyond_all_memory() {
        for bit in 0..64 {
            let mask = 1 << bit;
            assert_eq!(CBit::new(mask).is_some(), (39..=51).contains(&bit), "{bit}");
            assert_eq!(CBit::new(mask | 1 << 45).is_some(), bit == 45, "{bit}");
        }
        assert_eq!(CBit::new(0), None);
    }

    #[test]
    fn a_private_page_is_the_same_page() {
        let c_bit = CBit::new(1 << 51).unwrap();
        for page in [0, 0x1000, DIRECT_MAP_SIZE - 0x1000] {
            let page = Gpa::new(page);
            assert_eq!(c_bit.private(page).get(), page.get() | 1 << 51);
            assert_eq!(c_bit.private(page).gpa(), page);
            assert_eq!(CBit::NONE.private(page), PhysAddr::shared(page));
        }
    }
}
