// SPDX-License-Identifier: Apache-2.0

//! The agent's clocks: one that never goes back, for the session, and the tenant's time, for contracts and verdicts. Both
//! are the tenant's own, and trusted.

use crate::error::Fault;
use enarx_session::Moment;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Moments of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        Moment(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a moment; a far one for moments that are out of reach.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        const FAR: Duration = Duration::from_secs(1 << 30);
        let after = Duration::from_millis(moment.0).min(FAR);
        self.0.checked_add(after).unwrap_or(self.0)
    }
}

/// Seconds since 1970, by the system.
///
/// # Errors
/// [`Fault::Clock`].
pub(crate) fn unix_seconds() -> Result<u64, Fault> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.map_err(|_| Fault::Clock)?.as_secs())
}
