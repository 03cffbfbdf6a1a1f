// SPDX-License-Identifier: Apache-2.0

//! A token bucket: a burst, then one at a time.

use crate::Moment;

/// How often something may happen.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    burst: u64,
    interval: u64,
    /// When the bucket is full again; the past when it is.
    full: Moment,
}

impl Bucket {
    /// A full bucket of `burst`, which gains one each `interval` milliseconds.
    pub(crate) fn new(burst: u64, interval: u64) -> Self {
        Self {
            burst,
            interval,
            full: Moment(0),
        }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Moment) -> bool {
        let missing = self.full.since(now);
        if missing > (self.burst - 1) * self.interval {
            return false;
        }
        self.full = now.max(self.full).after(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let mut bucket = Bucket::new(4, 2000);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(Moment(now))).count();
        assert_eq!(taken(&mut bucket, 100), 4);
        assert_eq!(taken(&mut bucket, 2099), 0);
        assert_eq!(taken(&mut bucket, 2100), 1);
        assert_eq!(taken(&mut bucket, 6100), 2);
        assert_eq!(taken(&mut bucket, 1_000_000), 4);
    }
}
