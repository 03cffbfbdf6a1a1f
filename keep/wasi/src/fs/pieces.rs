// SPDX-License-Identifier: Apache-2.0

//! The memory of the contents of private files: slabs, which are blocks of the heap of one size, cut into pieces of one
//! capacity each. Trusted.
//!
//! A slab without pieces is given back whole, and lies apart from the small objects of the runtime: one of these that stays
//! would keep what was freed around it from the program.

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::Budget;
use crate::error::{Errno, Result};

/// Largest capacity of a piece, in bytes.
pub const LARGEST: usize = 64 * 1024;
/// Least capacity of a piece, in bytes.
const SMALLEST: usize = 64;
/// Capacities are powers of two up to this one, in bytes; then comes [`LARGEST`].
const SMALL: usize = LARGEST / 4;
/// Number of capacities.
const CLASSES: usize = (SMALL.ilog2() - SMALLEST.ilog2()) as usize + 2;
/// Bytes of a slab of small pieces. In a confined process, the runtime has blocks from this size on mapped and unmapped one
/// by one (`SLAB` of its `platform`).
const SLAB: usize = 256 * 1024;
/// Bytes of a slab of the largest ones.
const LARGE_SLAB: usize = 1 << 20;
/// Memory that a slab takes besides its content, in bytes: its record. What the allocator adds, a page at most, is of what
/// stays with the runtime.
const SLAB_COST: u64 = 1024;
/// Words of 64 bits, a bit for each of the smallest pieces of a slab.
const WORDS: usize = SLAB / SMALLEST / 64;

const _: () = assert!(SLAB_COST >= size_of::<Slab>() as u64 && LARGE_SLAB / LARGEST <= WORDS * 64);

/// The memory of a part of a file's content. It is given back by [`Pieces::free`] alone.
///
/// There may be very many: it is kept small.
pub struct Piece {
    /// Its slab, of its class.
    slab: u32,
    /// Bytes of it that are content; those behind are anything.
    length: u32,
    /// Its number in the slab.
    place: u16,
    class: u8,
}

/// A block of memory with pieces of one capacity.
struct Slab {
    /// The class of its pieces.
    class: usize,
    /// As far as it was ever used; it never grows beyond what was reserved for it.
    bytes: Vec<u8>,
    /// The pieces in use, a bit each.
    used: [u64; WORDS],
    /// Their number.
    count: usize,
}

/// The slabs of one capacity.
#[derive(Default)]
struct Class {
    slabs: BTreeMap<u32, Slab>,
    /// Those with a free piece.
    open: BTreeSet<u32>,
    /// The number of the next one.
    next: u32,
}

/// The memory of the contents of all files of a file system.
pub struct Pieces {
    classes: [Class; CLASSES],
    budget: Budget,
}

/// The capacity of the pieces of a class, in bytes.
const fn capacity(class: usize) -> usize {
    if class + 1 < CLASSES {
        SMALLEST << class
    } else {
        LARGEST
    }
}

/// The bytes of a slab for pieces of a class.
const fn slab_size(class: usize) -> usize {
    if class + 1 < CLASSES {
        SLAB
    } else {
        LARGE_SLAB
    }
}

/// The memory that such a slab takes, in bytes.
const fn slab_cost(class: usize) -> u64 {
    slab_size(class) as u64 + SLAB_COST
}

impl Slab {
    /// A slab for pieces of a class. `None` if the heap does not have it.
    fn new(class: usize) -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(slab_size(class)).ok()?;
        Some(Self {
            class,
            bytes,
            used: [0; WORDS],
            count: 0,
        })
    }

    /// Pieces that it has room for.
    fn most(&self) -> usize {
        slab_size(self.class) / capacity(self.class)
    }

    /// True if none of its pieces is free.
    fn is_full(&self) -> bool {
        self.count >= self.most()
    }

    /// Takes the first free piece, and returns its number. `None` if there is none.
    fn take(&mut self) -> Option<usize> {
        let most = self.most();
        let mut words = self.used.iter_mut().enumerate();
        let (index, word) = words.find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        let place = index * 64 + bit as usize;
        if place >= most {
            return None;
        }
        *word |= 1 << bit;
        self.count += 1;
        let end = (place + 1) * capacity(self.class);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        Some(place)
    }

    /// Takes a piece back.
    fn give(&mut self, place: usize) {
        if let Some(word) = self.used.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
        self.count = self.count.saturating_sub(1);
    }
}

impl Pieces {
    /// No memory yet. Slabs come out of `budget`.
    pub fn new(budget: Budget) -> Self {
        Self {
            classes: Default::default(),
            budget,
        }
    }

    /// Makes a piece without content, with room for so many bytes.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]; [`Errno::FileTooLarge`] beyond [`LARGEST`].
    pub fn make(&mut self, room: usize) -> Result<Piece> {
        let class = (0..CLASSES)
            .find(|class| capacity(*class) >= room)
            .ok_or(Errno::FileTooLarge)?;
        let Class { slabs, open, next } = self.classes.get_mut(class).ok_or(Errno::NoSpace)?;
        let number = if let Some(number) = open.first() {
            *number
        } else {
            if !self.budget.take_heap(slab_cost(class)) {
                return Err(Errno::NoSpace);
            }
            let Some(slab) = Slab::new(class) else {
                self.budget.give_heap(slab_cost(class));
                return Err(Errno::NoSpace);
            };
            // Numbers come back in the end; those in use are few.
            while slabs.contains_key(next) {
                *next = next.wrapping_add(1);
            }
            let number = *next;
            slabs.insert(number, slab);
            open.insert(number);
            number
        };
        let slab = slabs.get_mut(&number).ok_or(Errno::NoSpace)?;
        let place = slab.take().ok_or(Errno::NoSpace)?;
        if slab.is_full() {
            open.remove(&number);
        }
        Ok(Piece {
            slab: number,
            length: 0,
            place: u16::try_from(place).map_err(|_| Errno::NoSpace)?,
            class: u8::try_from(class).map_err(|_| Errno::NoSpace)?,
        })
    }

    /// Takes a piece back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "there is no such piece any more"
    )]
    pub fn free(&mut self, piece: Piece) {
        let (class, slab) = (piece.class(), piece.slab);
        let Some(Class { slabs, open, .. }) = self.classes.get_mut(class) else {
            return;
        };
        let Some(held) = slabs.get_mut(&slab) else {
            return;
        };
        held.give(piece.place.into());
        if held.count > 0 {
            open.insert(slab);
            return;
        }
        slabs.remove(&slab);
        open.remove(&slab);
        self.budget.give_heap(slab_cost(class));
    }

    /// The content of a piece.
    pub fn content(&self, piece: &Piece) -> &[u8] {
        let class = self.classes.get(piece.class());
        class
            .and_then(|class| class.slabs.get(&piece.slab))
            .and_then(|slab| {
                let start = piece.start();
                slab.bytes.get(start..start + piece.length())
            })
            .unwrap_or_default()
    }

    /// Writes into a piece, from the byte `within` on. Between the end of the content and that byte there are zeros then.
    ///
    /// # Errors
    /// [`Errno::NoSpace`] when it has less room than that.
    pub fn write(&mut self, piece: &mut Piece, within: usize, bytes: &[u8]) -> Result<()> {
        let end = within.checked_add(bytes.len()).ok_or(Errno::NoSpace)?;
        if !piece.has_room(end) {
            return Err(Errno::NoSpace);
        }
        let class = self.classes.get_mut(piece.class());
        let class = class.ok_or(Errno::NoSpace)?;
        let slab = class.slabs.get_mut(&piece.slab).ok_or(Errno::NoSpace)?;
        let start = piece.start();
        let room = slab.bytes.get_mut(start..start + capacity(piece.class()));
        let room = room.ok_or(Errno::NoSpace)?;
        if let Some(gap) = room.get_mut(piece.length()..within) {
            gap.fill(0);
        }
        if let Some(place) = room.get_mut(within..end) {
            place.copy_from_slice(bytes);
        }
        let end = u32::try_from(end).map_err(|_| Errno::NoSpace)?;
        piece.length = piece.length.max(end);
        Ok(())
    }

    /// Moves the content of a piece to one with more room; both may be any.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn copy(&mut self, from: &Piece, to: &mut Piece) -> Result<()> {
        let content = self.content(from).to_vec();
        self.write(to, 0, &content)
    }
}

impl Piece {
    fn class(&self) -> usize {
        self.class.into()
    }

    /// Where it begins in its slab.
    fn start(&self) -> usize {
        usize::from(self.place) * capacity(self.class())
    }

    fn length(&self) -> usize {
        self.length as usize
    }

    /// True if it has room for so many bytes.
    pub fn has_room(&self, length: usize) -> bool {
        capacity(self.class()) >= length
    }

    /// Cuts its content off behind so many bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = u32::try_from(length).map_or(self.length, |length| self.length.min(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cost of a slab of the largest pieces.
    const COST: u64 = slab_cost(CLASSES - 1);

    #[test]
    fn capacities_are_powers_of_two_and_the_largest() {
        let capacities: Vec<usize> = (0..CLASSES).map(capacity).collect();
        assert_eq!(
            capacities,
            [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536]
        );
    }

    #[test]
    fn slabs_come_out_of_the_budget_and_go_back_to_it_whole() {
        let budget = Budget::new(2 * COST + 1);
        let mut pieces = Pieces::new(budget.clone());
        // Two slabs of sixteen each.
        let mut made: Vec<Piece> = (0..32).map(|_| pieces.make(LARGEST).unwrap()).collect();
        assert_eq!(pieces.make(1).err(), Some(Errno::NoSpace));
        // One slab keeps a piece, and has room for others.
        for piece in made.drain(..31) {
            pieces.free(piece);
        }
        assert!(budget.take(COST + 1) && !budget.take(1));
        for _ in 0..15 {
            made.push(pieces.make(LARGEST - 1).unwrap());
        }
        assert_eq!(pieces.make(LARGEST).err(), Some(Errno::NoSpace));
        for piece in made {
            pieces.free(piece);
        }
        assert!(budget.take(COST));
        assert!(
            pieces
                .classes
                .iter()
                .all(|class| class.slabs.is_empty() && class.open.is_empty())
        );
    }

    #[test]
    fn every_piece_has_bytes_of_its_own() {
        let mut pieces = Pieces::new(Budget::new(100 * COST));
        for room in [1, 64, 65, 1000, 16_384, 16_385, LARGEST] {
            let mut made = Vec::new();
            for index in 0..=2 * LARGE_SLAB / room.next_power_of_two().max(SMALLEST) {
                let mut piece = pieces.make(room).unwrap();
                let number = index.to_le_bytes();
                let part = number.get(..room.min(8)).unwrap();
                pieces.write(&mut piece, room - part.len(), part).unwrap();
                made.push(piece);
            }
            for (index, piece) in made.iter().enumerate() {
                let content = pieces.content(piece);
                let (zeros, number) = content.split_at(room - room.min(8));
                assert!(zeros.iter().all(|byte| *byte == 0));
                assert_eq!(number, &index.to_le_bytes()[..room.min(8)]);
            }
            for piece in made {
                pieces.free(piece);
            }
        }
        assert_eq!(pieces.make(LARGEST + 1).err(), Some(Errno::FileTooLarge));
    }

    #[test]
    fn nothing_of_an_earlier_content_is_left() {
        let mut pieces = Pieces::new(Budget::new(slab_cost(0)));
        let mut piece = pieces.make(64).unwrap();
        pieces.write(&mut piece, 0, &[7; 64]).unwrap();
        piece.truncate(3);
        assert_eq!(pieces.content(&piece), [7; 3]);
        pieces.write(&mut piece, 5, b"x").unwrap();
        assert_eq!(pieces.content(&piece), b"\x07\x07\x07\0\0x");
        pieces.write(&mut piece, 1, b"y").unwrap();
        assert_eq!(pieces.content(&piece), b"\x07y\x07\0\0x");
        assert_eq!(pieces.write(&mut piece, 64, b"z"), Err(Errno::NoSpace));
        assert!(piece.has_room(64) && !piece.has_room(65));
        pieces.free(piece);
        let mut piece = pieces.make(64).unwrap();
        pieces.write(&mut piece, 10, b"z").unwrap();
        assert_eq!(pieces.content(&piece), b"\0\0\0\0\0\0\0\0\0\0z");
    }
}
