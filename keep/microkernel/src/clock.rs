//! Time from the time stamp counter: the vDSO's parameters and the kernel's own arithmetic.
//!
//! The frequency is the host's word. It is checked to be plausible and used monotonically; what
//! it says of real time is documented as untrusted.

/// Lowest and highest frequency believed, in kHz: 100 MHz to 100 GHz.
const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u64> = 100_000..=100_000_000;

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
    /// A clock that starts at `start`; none if the frequency is implausible.
    #[must_use]
    pub fn new(start: u64, tsc_khz: u64, wall_ns: u64) -> Option<Self> {
        PLAUSIBLE_KHZ.contains(&tsc_khz).then(|| Self {
            start,
            multiplier: (1_000_000 << 32) / tsc_khz,
            wall_ns,
        })
    }

    /// Nanoseconds since boot at counter value `tsc`; 0 for earlier values.
    #[must_use]
    pub fn monotonic(&self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.saturating_sub(self.start));
        u64::try_from((ticks * u128::from(self.multiplier)) >> 32).unwrap_or(u64::MAX)
    }

    /// Wall-clock time at counter value `tsc`, UNIX nanoseconds; untrusted.
    #[must_use]
    pub fn wall(&self, tsc: u64) -> u64 {
        self.wall_ns.saturating_add(self.monotonic(tsc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts() {
        let clock = Clock::new(1000, 2_000_000, 5_000_000_000).unwrap();
        assert_eq!(clock.monotonic(1000), 0);
        assert_eq!(clock.monotonic(0), 0);
        assert_eq!(clock.monotonic(1000 + 2_000_000_000), 1_000_000_000);
        assert_eq!(clock.wall(1000 + 2_000_000_000), 6_000_000_000);
        assert!(clock.monotonic(u64::MAX) > 1 << 62);
    }

    #[test]
    fn refuses_implausible_frequencies() {
        for khz in [0, 99_999, 100_000_001, u64::MAX] {
            assert_eq!(Clock::new(0, khz, 0), None);
        }
    }
}
