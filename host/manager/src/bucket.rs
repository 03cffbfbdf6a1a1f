// SPDX-License-Identifier: Apache-2.0

//! A token bucket: a burst, then one at a time.

use std::time::{Duration, Instant};

/// How often something may happen.
#[derive(Debug)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    /// When it is full again; `None` while it is.
    full: Option<Instant>,
}

impl Bucket {
    /// A full bucket for `per_minute`, at least 1, as a burst, which gains as many in a minute.
    pub(crate) fn new(per_minute: u32) -> Self {
        let burst = per_minute.max(1);
        Self {
            burst,
            interval: Duration::from_mins(1) / burst,
            full: None,
        }
    }

    /// Takes one; an error is the time until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let missing = self
            .full
            .map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        let most = self.interval * (self.burst - 1);
        if let Some(wait) = missing.checked_sub(most).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        self.full = now.checked_add(missing + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut bucket = Bucket::new(6);
        let taken = |bucket: &mut Bucket, now| (0..20).filter(|_| bucket.take(now).is_ok()).count();
        assert_eq!(taken(&mut bucket, at(0)), 6);
        assert_eq!(bucket.take(at(9)), Err(Duration::from_secs(1)));
        assert_eq!(taken(&mut bucket, at(10)), 1);
        assert_eq!(taken(&mut bucket, at(31)), 2);
        assert_eq!(taken(&mut bucket, at(1000)), 6);
    }
}
