// SPDX-License-Identifier: Apache-2.0

//! The queue for full hosts: they are asked again, with increasing and randomized pauses, until one has room or the
//! tenant's waiting time is over. Only the host says that it is full; believing it costs the tenant no more than this
//! time.

use crate::fault::{Fault, Refused};
use crate::pause::jittered;
use std::time::Duration;
use tokio::time::Instant;

/// First pause, and the longest one: about the duration of a small deployment, and about how long a person looks at a
/// screen.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);

/// The wish to wait for hosts that are full.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// How long, from the first question on. At its end the hosts are asked a last time.
    pub within: Duration,
    /// Is called once, with the hosts that were not taken, before the waiting begins.
    pub tell: fn(&[Refused]),
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    queue: Option<Queue>,
    until: Instant,
    pause: Duration,
}

impl Waiting {
    pub(crate) fn start(queue: Option<Queue>, now: Instant) -> Self {
        let within = queue.map_or(Duration::ZERO, |queue| queue.within);
        Self {
            queue,
            until: now.checked_add(within).unwrap_or(now),
            pause: FIRST,
        }
    }

    /// The pause before these hosts, none of which was accepted, are asked again; `None`: they are not.
    ///
    /// # Errors
    /// [`Fault::Random`].
    pub(crate) fn next(
        &mut self,
        hosts: &[Refused],
        now: Instant,
    ) -> Result<Option<Duration>, Fault> {
        let Some(queue) = self.queue else {
            return Ok(None);
        };
        if now >= self.until || !hosts.iter().any(|host| host.fault.is_full()) {
            return Ok(None);
        }
        if self.pause == FIRST {
            (queue.tell)(hosts);
        }
        let pause = jittered(self.pause)?;
        self.pause = LONGEST.min(self.pause * 2);
        Ok(Some(pause.min(self.until.duration_since(now))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::canonical::Name;
    use enarx_manager_api::code;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn host(code: &str, status: u16) -> Refused {
        Refused {
            host: "a:1".to_owned(),
            fault: Fault::Manager {
                status,
                code: Name::cleaned(code),
                sentence: String::new(),
            },
            checks: Vec::new(),
        }
    }

    #[test]
    fn pauses_grow_differ_and_end_with_the_time_limit() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let queue = Queue {
            within: Duration::from_mins(1),
            tell: |hosts| {
                TOLD.fetch_add(hosts.len(), Ordering::Relaxed);
            },
        };
        let full = [host(code::LIMIT_VCPUS, 429)];
        let pauses = || {
            let start = Instant::now();
            let mut waiting = Waiting::start(Some(queue), start);
            let (mut now, mut pauses) = (start, Vec::new());
            while let Some(pause) = waiting.next(&full, now).expect("random bytes") {
                now += pause;
                pauses.push(pause);
            }
            assert_eq!(now - start, queue.within);
            pauses
        };
        let (one, other) = (pauses(), pauses());
        assert_eq!(TOLD.load(Ordering::Relaxed), 2);
        assert_ne!(one, other);
        assert!((15..40).contains(&one.len()), "{one:?}");
        assert!(one[0] >= FIRST / 2 && one[0] <= FIRST);
        let steady = &one[5..one.len() - 1];
        assert!(steady.iter().all(|it| (LONGEST / 2..=LONGEST).contains(it)));
    }

    #[test]
    fn only_temporary_refusals_are_waited_for_and_only_on_request() {
        let now = Instant::now();
        let queue = Queue {
            within: Duration::from_secs(1),
            tell: |_| {},
        };
        let next = |queue, host| {
            Waiting::start(queue, now)
                .next(&[host], now)
                .expect("random bytes")
        };
        for (code, status, waits) in [
            (code::CAPACITY, 503, true),
            (code::LIMIT_KEEPS, 429, true),
            (code::LIMIT_MEMORY, 429, true),
            (code::LIMIT_LAUNCHES, 429, true),
            (code::LIMIT_CONNECTIONS, 429, true),
            (code::RESOURCES, 422, false),
            (code::DRAINING, 503, false),
            (code::TOKEN, 401, false),
        ] {
            assert_eq!(
                next(Some(queue), host(code, status)).is_some(),
                waits,
                "{code}"
            );
            assert_eq!(next(None, host(code, status)), None, "{code}");
        }
        let zero = Queue {
            within: Duration::ZERO,
            ..queue
        };
        assert_eq!(next(Some(zero), host(code::CAPACITY, 503)), None);
    }
}
