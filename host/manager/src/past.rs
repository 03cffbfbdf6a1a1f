// SPDX-License-Identifier: Apache-2.0

//! The time before which old records are deleted. A host's clock may be wrong for hours or days, for example after a
//! start without a network, and a deleted contract could be launched again. So the clock is believed only up to the
//! earliest time that it has shown during a whole week in which a manager ran; restarts and pauses do not count.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The time during which the clock has to say nothing earlier.
const PERIOD: Duration = Duration::from_hours(7 * 24);

/// The times that the clock has said in the current period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// The earliest of it, in seconds since 1970.
    earliest: u64,
    /// How much of the period is over.
    over: Duration,
}

impl Past {
    /// A period that begins `now`, in seconds since 1970.
    pub(crate) fn begin(now: u64) -> Self {
        Self {
            earliest: now,
            over: Duration::ZERO,
        }
    }

    /// Records that the clock says `now`, this long after the last check. When a period is over, returns a time that
    /// is certainly past, whatever the clock says later.
    pub(crate) fn look(&mut self, now: u64, after: Duration) -> Option<u64> {
        self.earliest = self.earliest.min(now);
        self.over = self.over.saturating_add(after);
        if self.over < PERIOD {
            return None;
        }
        Some(std::mem::replace(self, Self::begin(now)).earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const YEARS: u64 = 10 * 365 * 24 * HOUR;
    /// The right time at the first look.
    const START: u64 = 2_000_000_000;

    /// The times that are past, by looks every hour at a clock that is so wrong in these hours.
    fn past_times(hours: u64, wrong: impl Fn(u64) -> i64) -> Vec<u64> {
        let says = |hour: u64| (START + hour * HOUR).saturating_add_signed(wrong(hour));
        let mut past = Past::begin(says(0));
        (1..=hours)
            .filter_map(|hour| past.look(says(hour), Duration::from_hours(1)))
            .collect()
    }

    #[test]
    fn a_correct_clock_is_trusted_after_a_week() {
        let week = 7 * 24;
        let expected: Vec<_> = (0..3).map(|number| START + number * week * HOUR).collect();
        assert_eq!(past_times(3 * week + 1, |_| 0), expected);
    }

    #[test]
    fn a_clock_wrong_for_days_is_never_trusted_beyond_the_right_time() {
        let years = i64::try_from(YEARS).unwrap();
        for begin in [0, 1, 100, 167, 168, 200] {
            for length in [1, 2, 24, 6 * 24] {
                let ahead = |hour| {
                    let is_wrong = hour >= begin && hour < begin + length;
                    if is_wrong { years } else { 0 }
                };
                let times = past_times(5 * 7 * 24, ahead);
                assert!(!times.is_empty());
                let right = START + 5 * 7 * 24 * HOUR;
                assert!(times.iter().all(|time| *time <= right), "{begin} {length}");
                // A slow clock only causes delay.
                let behind = |hour| -ahead(hour);
                let last = past_times(5 * 7 * 24, behind).pop().unwrap();
                assert!(last >= START, "{begin} {length}");
            }
        }
    }

    #[test]
    fn pauses_do_not_count() {
        let mut past = Past::begin(START);
        for _ in 0..1000 {
            // A manager that has just started.
            assert_eq!(past.look(START + YEARS, Duration::ZERO), None);
        }
    }
}
