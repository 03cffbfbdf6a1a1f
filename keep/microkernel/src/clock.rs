// SPDX-License-Identifier: Apache-2.0

//! Time from the time-stamp counter: the vDSO's parameters and the kernel's own arithmetic.
//!
//! The host controls the frequency, and offset and scale of the counter. Nevertheless time never goes back, on any
//! path or between threads ([`crate::platform::Platform::latest`]), and it is bounded. Its speed, whether it stops
//! or jumps, and its relation to real time are untrusted.

/// Lowest and highest frequency believed, in kHz: 500 MHz to 10 GHz.
const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u64> = 500_000..=10_000_000;

/// Most nanoseconds since boot, and most wall-clock time at boot: 146 years, so that no sum overflows.
pub const MOST: u64 = 1 << 62;

/// Converts counter ticks to nanoseconds: `(ticks * multiplier) >> 32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Counter value at boot.
    pub start: u64,
    /// Nanoseconds per tick, in 2^-32.
    pub multiplier: u64,
    /// Wall-clock time at boot, UNIX nanoseconds; untrusted.
    pub wall_ns: u64,
}

impl Clock {
    /// A clock that starts at `start`; `None` if the frequency is implausible, or the wall-clock time is beyond
    /// [`MOST`].
    pub fn new(start: u64, tsc_khz: u64, wall_ns: u64) -> Option<Self> {
        (PLAUSIBLE_KHZ.contains(&tsc_khz) && wall_ns <= MOST).then(|| Self {
            start,
            multiplier: (1_000_000 << 32) / tsc_khz,
            wall_ns,
        })
    }

    /// Nanoseconds since boot by the counter value `tsc`, at most [`MOST`]; 0 for values before the start. The
    /// vDSO computes the same.
    pub fn elapsed(&self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.saturating_sub(self.start));
        let elapsed = u64::try_from((ticks * u128::from(self.multiplier)) >> 32);
        elapsed.map_or(MOST, |elapsed| elapsed.min(MOST))
    }

    /// Wall-clock time this many nanoseconds after boot, in UNIX nanoseconds; untrusted.
    pub const fn wall(&self, monotonic: u64) -> u64 {
        self.wall_ns.saturating_add(monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts() {
        let clock = Clock::new(1000, 2_000_000, 5_000_000_000).unwrap();
        assert_eq!(clock.elapsed(1000), 0);
        assert_eq!(clock.elapsed(0), 0);
        assert_eq!(clock.elapsed(1000 + 2_000_000_000), 1_000_000_000);
        assert_eq!(clock.wall(1_000_000_000), 6_000_000_000);
    }

    #[test]
    fn time_is_bounded() {
        for khz in [500_000, 1_000_000, 10_000_000] {
            let clock = Clock::new(0, khz, MOST).unwrap();
            for tsc in [1 << 61, 1 << 62, 1 << 63, u64::MAX] {
                let elapsed = clock.elapsed(tsc);
                assert!(elapsed <= MOST);
                assert_eq!(clock.wall(elapsed), MOST + elapsed, "no overflow");
            }
        }
        assert_eq!(Clock::new(0, 500_000, 0).unwrap().elapsed(u64::MAX), MOST);
    }

    #[test]
    fn refuses_implausible_values_of_the_host() {
        for khz in [0, 499_999, 10_000_001, u64::MAX] {
            assert_eq!(Clock::new(0, khz, 0), None);
        }
        for wall_ns in [MOST + 1, u64::MAX] {
            assert_eq!(Clock::new(0, 2_000_000, wall_ns), None);
        }
    }
}
