// SPDX-License-Identifier: Apache-2.0

//! A host that misbehaves in every way, for tests of the agent and of the command: real TLS, real reports of a chip of
//! our own, the Keep's own state machine, and between them anything that a host could put there. Everything that it
//! sees is recorded. Nobody trusts it.
//!
//! * [`host`]: its manager, and the relay to its Keeps
//! * [`keep`]: its Keeps, and what plays in their place
//! * [`chip`]: reports and certificates
//! * [`record`]: what it saw

#![forbid(unsafe_code)]

pub mod chip;
pub mod host;
pub mod keep;
pub mod record;

use std::time::{SystemTime, UNIX_EPOCH};

/// Memory of the Keeps that wait here, in bytes.
pub const MEMORY: u64 = 1 << 28;

/// Longest time of an application in the Keeps that wait here, in seconds.
pub const RUNTIME: u32 = 600;

/// Seconds since 1970.
///
/// # Panics
/// Before that.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs()
}
