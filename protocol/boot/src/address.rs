// SPDX-License-Identifier: Apache-2.0

//! Addresses as types: guest-physical with and without the C-bit, and virtual.

use core::fmt;

/// The bits of a page-table entry that are the physical address (AMD64 APM volume 2, section 5.3).
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

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

/// A range of virtual addresses; the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtRange {
    /// The first address.
    pub start: VirtAddr,
    /// The first address after the range.
    pub end: VirtAddr,
}

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

                /// This address plus that many bytes, modulo 2^64.
                #[must_use]
                #[inline]
                pub const fn offset(self, bytes: u64) -> Self {
                    Self(self.0.wrapping_add(bytes))
                }

                /// The address at or below this one that is a multiple of `align`, a power of two.
                #[must_use]
                #[inline]
                pub const fn align_down(self, align: u64) -> Self {
                    Self(self.0 & !(align - 1))
                }

                /// The number of bytes from this address to `end`, modulo 2^64.
                #[must_use]
                #[inline]
                pub const fn bytes_to(self, end: Self) -> u64 {
                    end.0.wrapping_sub(self.0)
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

/// Address types that any number can become. A [`PhysAddr`] comes from a page-table entry instead.
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

                /// True if it is a multiple of `align`.
                #[must_use]
                #[inline]
                pub const fn is_aligned(self, align: u64) -> bool {
                    self.0.is_multiple_of(align)
                }

                /// This address plus that many bytes; `None` on overflow.
                #[must_use]
                #[inline]
                pub const fn checked_offset(self, bytes: u64) -> Option<Self> {
                    match self.0.checked_add(bytes) {
                        Some(address) => Some(Self(address)),
                        None => None,
                    }
                }

                /// The address at or above this one that is a multiple of `align`, a power of two, if there is one.
                #[must_use]
                #[inline]
                pub const fn align_up(self, align: u64) -> Option<Self> {
                    match crate::layout::round_up(self.0, align) {
                        Some(address) => Some(Self(address)),
                        None => None,
                    }
                }
            }
        )*
    };
}

plain_address!(Gpa VirtAddr);

impl VirtRange {
    /// No address.
    pub const EMPTY: Self = Self::new(VirtAddr::new(0), VirtAddr::new(0));

    /// The addresses from `start` to `end`, which is not below it.
    #[must_use]
    #[inline]
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Self {
        Self { start, end }
    }

    /// The number of bytes.
    #[must_use]
    #[inline]
    pub const fn length(self) -> u64 {
        self.start.bytes_to(self.end)
    }
}

impl PhysAddr {
    /// Page 0 without C-bit, as a placeholder: a Keep uses nothing there.
    pub const NOWHERE: Self = Self(0);

    /// The address of a page that is shared with the host.
    #[must_use]
    #[inline]
    pub const fn shared(page: Gpa) -> Self {
        Self(page.0)
    }

    /// The address in an entry, whose other bits are zero.
    #[inline]
    pub(crate) const fn from_entry(address: u64) -> Self {
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
        let address = mask & ADDRESS == mask;
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
    fn addresses_are_rounded_without_overflow() {
        let address = VirtAddr::new(0x20_1001);
        assert_eq!(address.align_down(0x1000), VirtAddr::new(0x20_1000));
        assert_eq!(address.align_down(0x20_0000), VirtAddr::new(0x20_0000));
        assert_eq!(address.align_up(0x1000), Some(VirtAddr::new(0x20_2000)));
        assert_eq!(address.align_up(1), Some(address));
        let last = VirtAddr::new(u64::MAX);
        assert_eq!((last.align_up(2), last.checked_offset(1)), (None, None));
        assert_eq!(address.bytes_to(last), u64::MAX - address.get());
        assert_eq!(address.offset(address.bytes_to(last)), last);
        let private = CBit::new(1 << 51).unwrap().private(Gpa::new(0x20_1000));
        assert_eq!(private.align_down(0x20_0000).get(), 1 << 51 | 0x20_0000);
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
