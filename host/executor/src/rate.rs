// SPDX-License-Identifier: Apache-2.0

//! How much of something a Keep may have in a time: token buckets. Anything that comes too fast is left out, or
//! has to wait.

use std::time::{Duration, Instant};

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Times at once, after a rest.
    pub burst: u32,
    /// Times in each second after that; 0 counts as 1.
    pub per_second: u32,
}

/// The rates of one Keep. The defaults are more than programs that are not hostile are known to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests of any kind: each costs this machine a little time under one lock.
    pub requests: Rate,
    /// fsync(2) and fdatasync(2), which block the disk for every program that uses it.
    pub syncs: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            requests: Rate {
                burst: 1_000_000,
                per_second: 500_000,
            },
            syncs: Rate {
                burst: 10_000,
                per_second: 1_000,
            },
        }
    }
}

/// A bucket of tokens. It starts full.
#[derive(Debug)]
pub struct Bucket {
    /// The time in which one token comes back.
    interval: Duration,
    /// The time in which a whole bucket does.
    full: Duration,
    /// When the bucket will be full if nothing more is taken.
    filled: Instant,
}

impl Bucket {
    /// A full bucket for this rate.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        Self {
            interval,
            full: interval.saturating_mul(rate.burst),
            filled: now,
        }
    }

    /// When the bucket would be full if `count` tokens were taken now, and how long it takes until they are there.
    fn without(&self, count: u32, now: Instant) -> (Instant, Duration) {
        let begin = self.filled.max(now);
        let taken = self.interval.saturating_mul(count);
        let missing = begin.saturating_duration_since(now).saturating_add(taken);
        // A time too far in the future is clamped: no Keep lives that long.
        let filled = begin.checked_add(taken).unwrap_or(begin);
        (filled, missing.saturating_sub(self.full))
    }

    /// Takes `count` tokens, if they are there or not; how long to wait until they are.
    pub fn take_on_credit(&mut self, count: u32, now: Instant) -> Duration {
        let (filled, missing) = self.without(count, now);
        self.filled = filled;
        missing
    }

    /// Takes `count` tokens, or none when there are fewer.
    pub fn take(&mut self, count: u32, now: Instant) -> bool {
        let (filled, missing) = self.without(count, now);
        let there = missing.is_zero();
        if there {
            self.filled = filled;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_rate_wait_for_their_turn() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Bucket::new(
            Rate {
                burst: 3,
                per_second: 10,
            },
            start,
        );
        // Three at once, then one every 100 ms, each after the previous one.
        let waits: Vec<u128> = (0..6)
            .map(|_| pace.take_on_credit(1, start).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.take_on_credit(1, at(300)).as_millis(), 100);
        assert_eq!(pace.take_on_credit(2, at(300)).as_millis(), 300);
        // After a rest a burst, and never more.
        let waits: Vec<u128> = (0..4)
            .map(|_| pace.take_on_credit(1, at(60_000)).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 100]);
        let mut slow = Bucket::new(
            Rate {
                burst: 0,
                per_second: 0,
            },
            start,
        );
        assert_eq!(slow.take_on_credit(1, start), Duration::from_secs(1));
        assert!(slow.take_on_credit(u32::MAX, start) > Duration::from_secs(1 << 31));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let rate = Rate {
            burst: 100,
            per_second: 10,
        };
        let mut bucket = Bucket::new(rate, start);
        assert!(!bucket.take(101, start) && !bucket.take(u32::MAX, start));
        assert!(bucket.take(60, start) && bucket.take(40, start) && !bucket.take(1, start));
        // Every 50 ms, for 10 s: the rate determines what passes.
        let passed = (1..=200)
            .filter(|n| bucket.take(1, start + Duration::from_millis(50) * *n))
            .count();
        assert_eq!(passed, 100);
        // Never more than a burst, however long it rests.
        let later = start + Duration::from_secs(1 << 40);
        assert!(bucket.take(100, later) && !bucket.take(1, later));
    }
}
