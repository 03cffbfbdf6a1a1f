// SPDX-License-Identifier: Apache-2.0

//! The sides of a contract.

/// A side of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The tenant.
    Tenant = 1,
    /// The host.
    Host = 2,
}

impl core::fmt::Display for Side {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Host => "host",
        })
    }
}
