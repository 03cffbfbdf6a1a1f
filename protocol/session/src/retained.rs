// SPDX-License-Identifier: Apache-2.0

//! The sending end of a stream that survives its connections: it keeps the bytes that the other end has not
//! acknowledged, and continues on a new connection at the offset that the other end names. So every byte arrives once.

use crate::WINDOW;
use crate::frame::DATA_CHUNK;
use alloc::collections::VecDeque;

/// Bytes of a stream. Offsets count from the stream's first byte.
///
/// `acknowledged` and `start` are at most `cursor`, `cursor` is at most the stream's end, `start` + kept.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(crate) struct Retained {
    kept: VecDeque<u8>,
    /// Offset of the first byte kept.
    start: u64,
    /// Offset up to which the other end needs nothing again.
    acknowledged: u64,
    /// Offset of the next byte to send on this connection.
    cursor: u64,
    /// Largest `cursor` of any connection.
    sent: u64,
    /// Bytes that may be sent on this connection.
    credit: u64,
    capacity: usize,
    /// Bytes dropped before they were acknowledged.
    dropped: u64,
    ended: bool,
    /// The end has been sent on this connection.
    end_sent: bool,
}

impl Retained {
    /// An empty stream that keeps at most `capacity` bytes, at least [`WINDOW`]: with less, the other end would wait for
    /// half a window that could never come.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            start: 0,
            acknowledged: 0,
            cursor: 0,
            sent: 0,
            credit: u64::from(WINDOW),
            capacity: capacity.max(WINDOW as usize),
            dropped: 0,
            ended: false,
            end_sent: false,
        }
    }

    /// Offset of the current end of the stream.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.kept.len() as u64)
    }

    /// Bytes that were dropped before they were acknowledged.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what there is room for, and returns how much that is.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        if self.ended {
            return 0;
        }
        let room = self.capacity.saturating_sub(self.kept.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.kept.extend(taken);
        taken.len()
    }

    /// True if half of the capacity is free. An end that has acknowledged all it was allowed to has less than half of a
    /// window unacknowledged, so this comes true.
    pub(crate) fn has_room(&self) -> bool {
        !self.ended && self.kept.len() <= self.capacity / 2
    }

    /// Makes room for `count` bytes by dropping the oldest; for a stream that nobody reads.
    pub(crate) fn drop_oldest(&mut self, count: usize) {
        let room = self.capacity.saturating_sub(self.kept.len());
        let before = self.start;
        self.discard_to(before.saturating_add(count.saturating_sub(room) as u64));
        self.dropped += self.start - before;
        self.cursor = self.cursor.max(self.start);
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
    }

    /// The bytes to send next, in the two parts in which they are stored; `None` if there are none or there is no
    /// credit.
    pub(crate) fn chunk(&self) -> Option<(&[u8], &[u8])> {
        let from = usize::try_from(self.cursor.checked_sub(self.start)?).ok()?;
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let count = self
            .kept
            .len()
            .checked_sub(from)?
            .min(credit)
            .min(DATA_CHUNK);
        if count == 0 {
            return None;
        }
        let (first, second) = self.kept.as_slices();
        let to = from + count;
        let middle = first.len();
        Some((
            first.get(from.min(middle)..to.min(middle))?,
            second.get(from.saturating_sub(middle)..to.saturating_sub(middle))?,
        ))
    }

    /// Notes that the chunk has been put into a frame.
    pub(crate) fn advance(&mut self, count: usize) {
        self.cursor += count as u64;
        self.credit = self.credit.saturating_sub(count as u64);
        self.sent = self.sent.max(self.cursor);
    }

    /// True if END has to be sent now; true once on a connection.
    pub(crate) fn take_end(&mut self) -> bool {
        let now = self.ended && !self.end_sent && self.cursor == self.end();
        self.end_sent |= now;
        now
    }

    /// True if all of it and its end have been sent on this connection.
    pub(crate) fn end_is_sent(&self) -> bool {
        self.end_sent
    }

    /// The other end has used `count` further bytes and allows as many. False when it cannot have: `count` is 0, or
    /// more than it was sent.
    pub(crate) fn acknowledge(&mut self, count: u32) -> bool {
        let acknowledged = self.acknowledged.saturating_add(u64::from(count));
        if count == 0 || acknowledged > self.cursor {
            return false;
        }
        self.acknowledged = acknowledged;
        self.credit += u64::from(count);
        self.discard_to(acknowledged);
        true
    }

    /// True if the other end can have everything before `seen`.
    pub(crate) fn may_resume_after(&self, seen: u64) -> bool {
        seen <= self.sent
    }

    /// A new connection, whose other end has everything before `seen`, which is possible. Returns the offset from which
    /// the stream goes on, later than `seen` when bytes are gone.
    pub(crate) fn resume_after(&mut self, seen: u64) -> u64 {
        self.discard_to(seen);
        self.acknowledged = self.start;
        self.cursor = self.start;
        self.credit = u64::from(WINDOW);
        self.end_sent = false;
        self.cursor
    }

    /// A new connection, whose other end has received everything before `received` and has room for `credit` bytes.
    /// False when that cannot be.
    pub(crate) fn resume_at(&mut self, received: u64, credit: u32) -> bool {
        let Some(unread) = WINDOW.checked_sub(credit).map(u64::from) else {
            return false;
        };
        let Some(used) = received.checked_sub(unread) else {
            return false;
        };
        if used < self.acknowledged || received < self.start || received > self.sent {
            return false;
        }
        self.acknowledged = used;
        self.discard_to(received);
        self.cursor = received;
        self.credit = u64::from(credit);
        self.end_sent = false;
        true
    }

    /// A new connection for a stream of which another program sent everything before `received`: the bytes kept here
    /// follow. False if that is impossible.
    pub(crate) fn take_over(&mut self, received: u64, credit: u32) -> bool {
        let unread = WINDOW.checked_sub(credit).map(u64::from);
        let Some(used) = unread.and_then(|unread| received.checked_sub(unread)) else {
            return false;
        };
        self.start = received;
        self.acknowledged = used;
        self.cursor = received;
        self.sent = received;
        self.credit = u64::from(credit);
        self.end_sent = false;
        true
    }

    /// The other end takes nothing more, nor the end again.
    pub(crate) fn close(&mut self) {
        self.kept.clear();
        self.start = self.cursor;
        self.ended = true;
        self.end_sent = true;
    }

    fn discard_to(&mut self, offset: u64) {
        let count = offset
            .saturating_sub(self.start)
            .min(self.kept.len() as u64);
        self.kept.drain(
            ..usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(self.kept.len()),
        );
        self.start += count;
    }
}
