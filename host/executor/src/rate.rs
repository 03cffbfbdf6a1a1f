// SPDX-License-Identifier: Apache-2.0

//! How much of something a Keep may have in a time: a token bucket.

use std::time::Instant;

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
    use std::time::Duration;

    use super::*;

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
