// SPDX-License-Identifier: Apache-2.0

//! How long the phases of a deployment took, by the tenant's clock.

use std::time::Duration;

/// The way in which a host gave its Keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// It launched the Keep for this contract.
    #[default]
    Cold,
    /// The Keep ran already, under an open contract, and was claimed.
    Warm,
}

impl Claim {
    /// Its name, stable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// The phases of one deployment, on the host that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The way in which the host gave its Keep.
    pub claim: Claim,
    /// TCP, TLS to the manager, and its offer.
    pub connect: Duration,
    /// From the contract to the manager's signature.
    pub post: Duration,
    /// The part of `post` in which the manager recorded that on its disk: as it claims, and never
    /// more than `post`. `None` if it says nothing, or recorded nothing.
    pub commit: Option<Duration>,
    /// From there until the manager says that the Keep is ready.
    pub launch: Duration,
    /// From the request for the relay to the end of the TLS handshake with the Keep.
    pub handshake: Duration,
    /// From ATTEST to EVIDENCE.
    pub evidence: Duration,
    /// From EVIDENCE to the verdict, collateral included.
    pub verdict: Duration,
    /// From RELEASE until START was handed to TLS.
    pub transfer: Duration,
    /// From RELEASE to the first byte of output; `None` if there was none.
    pub first_byte: Option<Duration>,
    /// From RELEASE until the Keep said how the application ended; `None` if it did not.
    pub exit: Option<Duration>,
    /// From RELEASE to the end of the session.
    pub run: Duration,
    /// From the first connection to this host to the end of the session.
    pub total: Duration,
}
