// SPDX-License-Identifier: Apache-2.0

//! Measures how busy a Keep is, by its doorbells: polling ([`poller`](crate::poller)) starts once
//! they follow each other closely, or bring much. The Keep controls its doorbells, so this only
//! affects its own speed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest time between two doorbells of a stream, in which a Keep also waits for its peers.
const STREAM_GAP: Duration = Duration::from_millis(4);
/// Requests that must follow each other as a stream before polling starts.
const STREAM_LENGTH: u32 = 16;
/// Bytes that count as a request, too: a Keep that moves much will go on, and loses more by each doorbell.
const BYTES_PER_REQUEST: u32 = 8 * 1024;

/// Work done for a Keep, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Requests taken.
    pub requests: u32,
    /// Bytes of requests and replies.
    pub bytes: u32,
}

impl Work {
    /// Requests since an earlier time, and what the bytes are worth.
    fn since(self, earlier: Self) -> u32 {
        let requests = self.requests.wrapping_sub(earlier.requests);
        let bytes = self.bytes.wrapping_sub(earlier.bytes);
        requests.saturating_add(bytes / BYTES_PER_REQUEST)
    }
}

/// The work done for a Keep so far, published by the thread that did it. Others read it without the
/// executor's lock: at each doorbell, while that lock may be held for another vCPU. The two numbers
/// may be of different steps.
#[derive(Debug, Default)]
pub struct WorkDone {
    requests: AtomicU32,
    bytes: AtomicU32,
}

impl WorkDone {
    /// Notes how much it is by now.
    pub(crate) fn set(&self, work: Work) {
        self.requests.store(work.requests, Ordering::Relaxed);
        self.bytes.store(work.bytes, Ordering::Relaxed);
    }

    /// How much it was when it was last noted.
    #[must_use]
    pub fn get(&self) -> Work {
        Work {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Watches how closely doorbells follow each other, and how much they bring: those of one vCPU, or of a process.
#[derive(Debug, Default)]
pub struct Traffic {
    last: Option<Instant>,
    work: Work,
    streak: u32,
}

impl Traffic {
    /// Records a doorbell at `now`, with the total work done. True if polling would pay off.
    pub fn note(&mut self, now: Instant, work: Work) -> bool {
        let close = self
            .last
            .is_some_and(|last| now.duration_since(last) < STREAM_GAP);
        // A stream that paused for less than a gap is one stream: polling starts again with its first doorbell.
        self.streak = if close {
            let more = work.since(self.work).max(1);
            self.streak.saturating_add(more).min(STREAM_LENGTH)
        } else {
            0
        };
        (self.last, self.work) = (Some(now), work);
        self.streak == STREAM_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_starts_the_polling_and_rare_requests_do_not() {
        let start = Instant::now();
        let mut traffic = Traffic::default();
        let work = |requests, bytes| Work { requests, bytes };
        let started = (0..100)
            .filter(|n| traffic.note(start + STREAM_GAP * 2 * *n, work(*n, 0)))
            .count();
        assert_eq!(started, 0);
        let start = start + STREAM_GAP * 1000;
        let at = |n: u32| start + Duration::from_micros(n.into());
        let first = (0..100).position(|n| traffic.note(at(n), work(100 + n, 0)));
        assert_eq!(first, Some(STREAM_LENGTH as usize));
        // It continues with the next doorbell, if that comes soon, and otherwise restarts.
        let last = at(STREAM_LENGTH);
        assert!(traffic.note(last + STREAM_GAP / 2, work(300, 0)));
        assert!(!traffic.note(last + STREAM_GAP * 2, work(301, 0)));
        // Waits that bring nothing count, too: a Keep that waits for its peers is one of a stream.
        let start = start + STREAM_GAP * 1000;
        let at = |n: u32| start + Duration::from_micros(n.into());
        let first = (0..100).position(|n| traffic.note(at(n), work(301, 0)));
        assert_eq!(first, Some(STREAM_LENGTH as usize));
    }

    #[test]
    fn recorded_work_is_read_unchanged() {
        let done = WorkDone::default();
        assert_eq!(done.get(), Work::default());
        let work = Work {
            requests: u32::MAX,
            bytes: 0x0102_0304,
        };
        done.set(work);
        assert_eq!(done.get(), work);
    }

    #[test]
    fn doorbells_with_many_requests_start_the_polling_sooner() {
        let start = Instant::now();
        let at = |n: u32| start + Duration::from_micros(n.into());
        // Eight requests each; or pieces of 64 KiB, one each, whose count runs over.
        for (requests, bytes, expected) in [(8, 0, 2), (1, 64 * 1024, 2), (1, 4 * 1024, 16)] {
            let mut traffic = Traffic::default();
            let first = (0..100).position(|n| {
                let work = Work {
                    requests: requests * n,
                    bytes: (bytes * n).wrapping_sub(70_000),
                };
                traffic.note(at(n), work)
            });
            assert_eq!(first, Some(expected), "{requests} {bytes}");
        }
        // Much at once after a pause is no stream yet.
        let much = Work {
            requests: 1000,
            bytes: 1 << 30,
        };
        let mut traffic = Traffic::default();
        assert!(!traffic.note(at(0), Work::default()));
        assert!(!traffic.note(at(0) + STREAM_GAP * 2, much));
    }
}
