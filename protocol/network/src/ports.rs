// SPDX-License-Identifier: Apache-2.0

//! Ports and protocols.

use core::fmt;
use core::ops::RangeInclusive;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A range of ports; never empty, and without port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// One port; `None` for 0.
    pub(crate) fn one(port: u16) -> Option<Self> {
        (port != 0).then_some(Self {
            first: port,
            last: port,
        })
    }

    /// The ports from `first` to `last`; `None` if the first one is 0 or above the last one.
    pub(crate) fn between(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// True if the port is one of them.
    #[must_use]
    pub fn contain(self, port: u16) -> bool {
        self.range().contains(&port)
    }

    /// True if all of `other` are among them.
    #[must_use]
    pub fn include(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The numbers.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}
