// SPDX-License-Identifier: Apache-2.0

//! Arithmetic of the rings' free-running indices (modulo 2^32).
//!
//! Trusts nobody: a new value of the other side's index is checked against the previous value and
//! against this side's index. It may stay or move forward, but never back, and never further than
//! the ring.

use crate::layout::SLOTS;

/// Checks the new tail of a ring that the other side fills and this side empties.
///
/// `head` is this side's index and `seen` the last accepted tail, so `seen - head <= SLOTS`.
/// Returns the accepted tail, `None` if it went back or ran more than a ring ahead.
pub(crate) fn advance_tail(head: u32, seen: u32, new: u32) -> Option<u32> {
    let unread = new.wrapping_sub(head);
    (unread <= SLOTS && unread >= seen.wrapping_sub(head)).then_some(new)
}

/// Checks the new head of a ring that this side fills and the other side empties.
///
/// `tail` is this side's index and `seen` the last accepted head, so `tail - seen <= SLOTS`.
/// Returns the accepted head, `None` if it went back or passed the tail.
pub(crate) fn advance_head(tail: u32, seen: u32, new: u32) -> Option<u32> {
    (tail.wrapping_sub(new) <= tail.wrapping_sub(seen)).then_some(new)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::AtomicU64;
    use std::sync::OnceLock;
    use std::vec::Vec;

    use super::*;
    use crate::{Call, Facts, HostEnd, KeepEnd, REGION_SIZE, Region, Status, SubmitError};

    /// Both ends with full and empty rings, from each index at which 64 entries can meet the wrap.
    #[test]
    #[cfg_attr(miri, ignore = "too many rounds")]
    fn both_ends_work_across_the_wrap() {
        static MEMORY: OnceLock<Vec<AtomicU64>> = OnceLock::new();
        let words = || (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let region = Region::from_static(MEMORY.get_or_init(words)).expect("the length is right");
        for start in (u32::MAX - 130..=u32::MAX).chain(0..2) {
            let mut host = HostEnd::initialise(region, Facts::default());
            let mut keep = KeepEnd::attach(region).expect("initialised");
            host.start_at(start);
            keep.start_at(start);
            for round in 0..3 {
                let burst = if round == 1 { 1 } else { 64 };
                for _ in 0..burst {
                    keep.submit(&Call::ClockWall, &[]).expect("room");
                }
                if burst == 64 {
                    assert_eq!(keep.submit(&Call::ClockWall, &[]), Err(SubmitError::Full));
                }
                for value in 0..burst {
                    let submission = host.next().expect("honest").expect("submitted");
                    host.complete(submission.id, Status::Ok, 0, value, 0)
                        .expect("in flight");
                }
                assert_eq!(host.next(), Ok(None));
                for value in 0..burst {
                    let reply = keep.reap().expect("honest").expect("completed");
                    assert_eq!(reply.value, value);
                    keep.release(reply.ticket);
                }
                assert_eq!(keep.reap(), Ok(None));
            }
            assert_eq!(keep.completions_seen(), start.wrapping_add(129));
        }
    }

    /// Own indices around zero, around 2^31 and around the wrap at 2^32.
    fn own_indices() -> impl Iterator<Item = u32> {
        [0u32, 1 << 31]
            .into_iter()
            .flat_map(|centre| (0..140).map(move |i| centre.wrapping_add(i).wrapping_sub(70)))
    }

    /// Every new value near the ring, and some far away, each with its distance from `centre` in unbounded integers.
    fn news(centre: u32) -> impl Iterator<Item = (i64, u32)> {
        let far = [
            1i64 << 31,
            -(1 << 31),
            (1 << 31) + 64,
            (1 << 32) - 65,
            1 << 20,
            -(1 << 20),
        ];
        (-140i64..=140).chain(far).map(move |delta| {
            let forward = u32::try_from(delta.rem_euclid(1 << 32)).expect("reduced");
            (delta, centre.wrapping_add(forward))
        })
    }

    #[test]
    fn tails_move_forward_at_most_a_ring_exhaustively() {
        for head in own_indices() {
            for unread in 0..=SLOTS {
                let seen = head.wrapping_add(unread);
                for (delta, new) in news(head) {
                    // In unbounded integers: head + unread <= head + delta <= head + 64.
                    let legal = delta >= i64::from(unread) && delta <= i64::from(SLOTS);
                    assert_eq!(
                        advance_tail(head, seen, new),
                        legal.then_some(new),
                        "head {head} unread {unread} delta {delta}"
                    );
                }
            }
        }
    }

    #[test]
    fn heads_move_forward_at_most_to_the_tail_exhaustively() {
        for tail in own_indices() {
            for posted in 0..=SLOTS {
                let seen = tail.wrapping_sub(posted);
                for (delta, new) in news(tail) {
                    // In unbounded integers: tail - posted <= tail + delta <= tail.
                    let legal = delta >= -i64::from(posted) && delta <= 0;
                    assert_eq!(
                        advance_head(tail, seen, new),
                        legal.then_some(new),
                        "tail {tail} posted {posted} delta {delta}"
                    );
                }
            }
        }
    }
}
