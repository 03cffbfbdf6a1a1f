// SPDX-License-Identifier: Apache-2.0

//! The host's clock, which tenants do not trust.

use std::time::SystemTime;

/// Seconds since 1970 by the host's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
