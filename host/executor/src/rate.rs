// SPDX-License-Identifier: Apache-2.0

//! How much of something a Keep may have in a time: token buckets. What comes too fast is left out by a [`Bucket`], and has
//! to wait by a [`Pace`].

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
    /// fsync(2) and fdatasync(2), which hold up the disk for every program that uses it.
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

/// A bucket of tokens that are taken before they are there, by whoever then waits for them. It starts full.
#[derive(Debug)]
pub struct Pace {
    /// The time in which one token comes back.
    interval: Duration,
    /// The time in which a whole bucket does.
    full: Duration,
    /// When the bucket will be full if nothing more is taken.
    filled: Instant,
}

impl Pace {
    /// A full bucket for this rate.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        Self {
            interval,
            full: interval.saturating_mul(rate.burst),
            filled: now,
        }
    }

    /// Takes `count` tokens; how long to wait until they are there.
    pub fn take(&mut self, count: u32, now: Instant) -> Duration {
        let begin = self.filled.max(now);
        let taken = self.interval.saturating_mul(count);
        // A time too far away to be told stands still: that long no Keep lives.
        self.filled = begin.checked_add(taken).unwrap_or(begin);
        let missing = self.filled.saturating_duration_since(now);
        missing.saturating_sub(self.full)
    }
}

/// A bucket of tokens. It starts full.
#[derive(Debug)]
pub struct Bucket {
    /// Most tokens at once.
    burst: u64,
    /// Tokens that come back in a second.
    per_second: u64,
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens, of which `per_second` come back.
    pub fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self {
            burst,
            per_second,
            tokens: burst,
            filled: now,
        }
    }

    /// Takes `count` tokens, or none when there are fewer.
    pub fn take(&mut self, count: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled);
        let fresh = elapsed
            .as_micros()
            .saturating_mul(self.per_second.into())
            .checked_div(1_000_000)
            .and_then(|fresh| u64::try_from(fresh).ok())
            .unwrap_or(u64::MAX);
        // Time for which there is no whole token yet counts the next time.
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(self.burst);
            self.filled = now;
        }
        match self.tokens.checked_sub(count) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_fast_waits_for_its_turn() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(
            Rate {
                burst: 3,
                per_second: 10,
            },
            start,
        );
        // Three at once, then one every 100 ms, each behind the one before.
        let waits: Vec<u128> = (0..6).map(|_| pace.take(1, start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.take(1, at(300)).as_millis(), 100);
        assert_eq!(pace.take(2, at(300)).as_millis(), 300);
        // After a rest a burst, and never more.
        let waits: Vec<u128> = (0..4)
            .map(|_| pace.take(1, at(60_000)).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 100]);
        let mut slow = Pace::new(
            Rate {
                burst: 0,
                per_second: 0,
            },
            start,
        );
        assert_eq!(slow.take(1, start), Duration::from_secs(1));
        assert!(slow.take(u32::MAX, start) > Duration::from_secs(1 << 31));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 10, start);
        assert!(bucket.take(60, start) && bucket.take(40, start) && !bucket.take(1, start));
        // Every 50 ms, for 10 s: what passes is the rate, not what is asked for.
        let passed = (1..=200)
            .filter(|n| bucket.take(1, start + Duration::from_millis(50) * *n))
            .count();
        assert_eq!(passed, 100);
        // Never more than a burst, however long it rests.
        let later = start + Duration::from_secs(1 << 40);
        assert!(bucket.take(100, later) && !bucket.take(1, later));
    }
}
