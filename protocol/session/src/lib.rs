// SPDX-License-Identifier: Apache-2.0

//! The attested session between a tenant and its Keep: frames, documents, the binding of evidence to one connection, and
//! the state machine of each end. [SPEC.md](../SPEC.md) is the specification.
//!
//! The two ends do not trust each other before the verdict, and never trust the host between them. Every decoder is
//! total, no length from a peer determines how much memory is allocated, and every refusal has a name
//! ([`Refusal::code`]). No input, no output, no clock, no standard library: callers carry the bytes, give the time as
//! [`Moment`]s, and take the values for the binding (keys, exporter) from their own TLS connection, never from the
//! peer.
//!
//! * [`keep`]: one [`keep::Keep`], with a [`keep::Connection`] for each TLS connection
//! * [`tenant`]: [`tenant::Session`], in which the order attest, judge, release is a matter of types
#![no_std]
#![forbid(unsafe_code)]
// Hosts and peers decide over the input of this code: it refuses, and does not panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;

pub mod binding;
mod bucket;
pub mod deployment;
mod deployment_error;
pub mod document;
pub mod frame;
pub mod keep;
mod outbox;
pub mod paths;
pub mod receipt;
mod refusal;
mod refused;
mod retained;
pub mod tenant;
mod told;
mod unfit;
pub mod verdict;
mod wipe;

pub use refusal::Refusal;
pub use unfit::Unfit;

/// Version of the protocol, and of ATTEST; the name for ALPN (RFC 7301) is [`ALPN`].
pub const VERSION: u32 = 1;

/// The protocol's name in ALPN.
pub const ALPN: &[u8] = b"enarx-session/1";

/// Label of the exporter that binds evidence to a TLS connection (RFC 9266), with an empty context and 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Bytes that a sender may send on a stream before the receiver has allowed more.
pub const WINDOW: u32 = 1 << 20;

/// A moment of a clock that never goes back, in milliseconds from any origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `milliseconds` later.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// The moment `seconds` later.
    #[must_use]
    pub fn after_seconds(self, seconds: u32) -> Self {
        self.after(u64::from(seconds) * 1000)
    }

    /// Milliseconds from `earlier` to this moment; 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Times of the protocol, in milliseconds; SPEC.md section 8.
pub mod time {
    /// From the end of the TLS handshake to ATTEST.
    pub const ATTEST: u64 = 10_000;
    /// From ATTEST to EVIDENCE: hosts throttle reports.
    pub const EVIDENCE: u64 = 45_000;
    /// From a Keep's first evidence to RELEASE, and from a delivery that was cut to the next: enough time for a
    /// tenant to judge and to return, and little of the time that the contract lets an unused Keep wait.
    pub const RELEASE: u64 = 600_000;
    /// Silence after which an end says that it is there.
    pub const KEEP_ALIVE: u64 = 30_000;
    /// Silence after which the other end counts as gone.
    pub const DEAD: u64 = 90_000;
    /// Between two reports of one Keep, once the burst is used.
    pub const BETWEEN_REPORTS: u64 = 2_000;
    /// Between two connections, once the burst is used: 10 a minute.
    pub const BETWEEN_CONNECTIONS: u64 = 6_000;
    /// Grace period that a Keep gives its application if nobody attaches in time.
    pub const OWN_GRACE: u32 = 10_000;
    /// Longest grace of STOP.
    pub const MAX_GRACE: u32 = 600_000;
}
