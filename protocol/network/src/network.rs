// SPDX-License-Identifier: Apache-2.0

//! Networks: an address and a prefix, with nothing set beyond it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network of IPv4 or IPv6; one address is a network with the longest prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// An IPv4 network.
    pub(crate) const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::from_octets(octets)),
            prefix,
        }
    }

    /// An IPv6 network.
    pub(crate) const fn v6(segments: [u16; 8], prefix: u8) -> Self {
        Self {
            address: IpAddr::V6(Ipv6Addr::from_segments(segments)),
            prefix,
        }
    }

    /// The network of one address.
    #[must_use]
    pub fn one(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// The network of an address with such a prefix, from its first address on; `None` for a longer prefix than the address has
    /// bits.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let (own, width) = bits(address);
        if u32::from(prefix) > width {
            return None;
        }
        let kept = own & !beyond(width, prefix);
        let address = match address {
            // The upper bits are zero.
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(kept).unwrap_or(0)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(kept).into(),
        };
        Some(Self { address, prefix })
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// True if it has one address.
    #[must_use]
    pub fn is_single_address(&self) -> bool {
        u32::from(self.prefix) == bits(self.address).1
    }

    /// True if it has all addresses of its family.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.prefix == 0
    }

    /// True if `other` lies in it as a whole.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let (own, width) = bits(self.address);
        let (first, other_width) = bits(other.address);
        width == other_width
            && self.prefix <= other.prefix
            && (own ^ first) & !beyond(width, self.prefix) == 0
    }

    /// True if an address lies in it, as the address is written, except that mapped IPv4 addresses
    /// count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.includes(&Self::one(address.to_canonical()))
    }
}

/// The bits of an address, right-aligned, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The bits of an address of `width` bits beyond the prefix, and all above the width zero.
fn beyond(width: u32, prefix: u8) -> u128 {
    let beyond = width.saturating_sub(u32::from(prefix));
    // Shifting by 128 has no meaning.
    1_u128.checked_shl(beyond).map_or(u128::MAX, |bit| bit - 1)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.is_single_address() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}
