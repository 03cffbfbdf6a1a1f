// SPDX-License-Identifier: Apache-2.0

//! The agent's clocks: one that never goes back, for the session, and the tenant's time, for contracts and verdicts. Both
//! are the tenant's own, and trusted.

use crate::fault::Fault;
use enarx_session::Moment;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Moments of one session. They go on while the machine sleeps: a verdict gets older then, too, and a peer that did not
/// sleep is not to have the use of an old one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// By the clock of timers, which stops while the machine sleeps.
    awake: Instant,
    /// By the one that does not, since the system's start.
    always: Duration,
}

/// The time since the system's start, its sleep included (clock_gettime(2), CLOCK_BOOTTIME).
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    now.try_into().unwrap_or_default()
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Self {
            awake: Instant::now(),
            always: since_boot(),
        }
    }

    /// The time since it began.
    pub(crate) fn now(self) -> Moment {
        moment(
            self.awake.elapsed(),
            since_boot().saturating_sub(self.always),
        )
    }

    /// The instant of a moment; a far one for moments that are out of reach.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        const FAR: Duration = Duration::from_secs(1 << 30);
        let left = Duration::from_millis(moment.since(self.now())).min(FAR);
        let now = Instant::now();
        now.checked_add(left).unwrap_or(now)
    }
}

/// The moment after that much time, by the clock that has advanced more.
fn moment(awake: Duration, always: Duration) -> Moment {
    Moment(u64::try_from(awake.max(always).as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since 1970, by the system.
///
/// # Errors
/// [`Fault::Clock`].
pub(crate) fn unix_seconds() -> Result<u64, Fault> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.map_err(|_| Fault::Clock)?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_has_older_verdicts() {
        let (short, long) = (Duration::from_secs(5), Duration::from_hours(8));
        assert_eq!(moment(short, long), Moment(8 * 3_600_000));
        // Timers of tests may run ahead.
        assert_eq!(moment(long, short), Moment(8 * 3_600_000));
        // As after that sleep: expired timers are due at once, and later ones keep their distance.
        let clock = Clock {
            awake: Instant::now(),
            always: since_boot().saturating_sub(short),
        };
        assert!(clock.now() >= Moment(5_000));
        assert!(clock.instant(Moment(4_000)) <= Instant::now());
        let left = clock.instant(Moment(15_000)) - Instant::now();
        assert!(left <= Duration::from_secs(10), "{left:?}");
        assert!(left > Duration::from_secs(8), "{left:?}");
    }
}
