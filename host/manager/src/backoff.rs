// SPDX-License-Identifier: Apache-2.0

//! A pause that grows while Keeps of a class fail one after the other.

use std::time::Duration;
use tokio::time::Instant;

/// The pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_mins(5);
/// A Keep that lived this long did not fail because of the one before it.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// A Keep ended by itself, after this lifetime.
    pub(crate) fn failed(&mut self, lived: Duration, now: Instant) {
        if lived >= STABLE_AFTER {
            self.failures = 0;
        }
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let pause = FIRST.saturating_mul(factor).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(pause);
    }

    /// A Keep served its purpose.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Time before the next attempt; zero: now.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_each_failure_up_to_a_bound() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(now), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            backoff.failed(Duration::ZERO, now);
            pauses.push(backoff.pause(now).as_secs());
        }
        assert_eq!(pauses[..5], [1, 2, 4, 8, 16]);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], LONGEST.as_secs());
        assert_eq!(backoff.pause(now + LONGEST), Duration::ZERO);
        backoff.failed(STABLE_AFTER, now);
        assert_eq!(backoff.pause(now), FIRST);
        backoff.failed(Duration::ZERO, now);
        backoff.succeeded();
        assert_eq!(backoff.pause(now), Duration::ZERO);
    }
}
