// SPDX-License-Identifier: Apache-2.0

//! The entries of [`Call::Poll`](crate::Call::Poll): many handles, one request.
//!
//! A request that waits for an external event holds its slot until the event occurs. A Keep that serves more peers
//! than there are slots lets the host watch their handles, waits for all of them in one request, and makes the calls
//! that no longer have to wait. The host remembers the handles, so an event costs as much among thousands of them as
//! among two.

use crate::layout::BUFFER_SIZE;
use crate::types::Handle;

/// Bytes of an entry.
pub const ENTRY_SIZE: u32 = 8;
/// Most entries of a call: what fits in its buffer.
pub const ENTRIES_MAX: u32 = BUFFER_SIZE / ENTRY_SIZE;
/// Most entries of a reply; further ready handles are in the next one.
pub const REPORTED_MAX: u32 = 256;

bitflags::bitflags! {
    /// The directions in which a handle is ready, or is waited for; as on the wire.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Events: u8 {
        /// Bytes, a datagram, a connection, the end or an error can be taken.
        const READ = 1 << 0;
        /// Bytes or a datagram can be given, or the peer is gone.
        const WRITE = 1 << 1;
    }
}

/// A handle and the directions that are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A stream or socket.
    pub handle: Handle,
    /// Directions; at least one.
    pub events: Events,
}

impl Entry {
    /// The entry as bytes: handle (u32), events (u8), three zeros.
    pub fn to_bytes(self) -> [u8; ENTRY_SIZE as usize] {
        let [a, b, c, d] = self.handle.0.to_le_bytes();
        [a, b, c, d, self.events.bits(), 0, 0, 0]
    }

    /// The entry of bytes that the other side wrote; `None` unless [`Self::to_bytes`] makes them of an entry
    /// with at least one direction.
    pub fn from_bytes(bytes: [u8; ENTRY_SIZE as usize]) -> Option<Self> {
        let [a, b, c, d, events, 0, 0, 0] = bytes else {
            return None;
        };
        let events = Events::from_bits(events).filter(|events| !events.is_empty())?;
        Some(Self {
            handle: Handle(u32::from_le_bytes([a, b, c, d])),
            events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_matches_its_bytes() {
        for events in [Events::READ, Events::WRITE, Events::all()] {
            let entry = Entry {
                handle: Handle(0x0102_0304),
                events,
            };
            assert_eq!(Entry::from_bytes(entry.to_bytes()), Some(entry));
        }
        assert_eq!(
            Entry {
                handle: Handle(0x0102_0304),
                events: Events::WRITE
            }
            .to_bytes(),
            [4, 3, 2, 1, 2, 0, 0, 0]
        );
    }

    #[test]
    fn entries_without_a_direction_and_with_unknown_bits_are_refused() {
        for bytes in [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 4, 0, 0, 0],
            [1, 0, 0, 0, 1, 1, 0, 0],
            [1, 0, 0, 0, 1, 0, 0, 1],
        ] {
            assert_eq!(Entry::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
