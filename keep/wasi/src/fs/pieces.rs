// SPDX-License-Identifier: Apache-2.0

//! The memory of the contents of private files: slabs, which are blocks of the heap of one size, cut into pieces of one
//! capacity each. Trusted.
//!
//! An empty slab is returned as a whole, and is stored apart from the small objects of the runtime: one of those that
//! stays would prevent the program from using memory that was freed around it.

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::Budget;
use crate::error::{Errno, Result};

/// Largest capacity of a piece, in bytes.
pub const LARGEST: usize = 64 * 1024;
/// Least capacity of a piece, in bytes.
const SMALLEST: usize = 64;
/// Capacities are powers of two up to this one, in bytes; then comes [`LARGEST`].
const SMALL: usize = LARGEST / 4;
/// Bytes of a slab of small pieces. In a confined process, the runtime has blocks from this size on mapped and unmapped one
/// by one (`SLAB` of its `platform`).
const SLAB: usize = 256 * 1024;
/// Bytes of a slab of the largest ones.
const LARGE_SLAB: usize = 1 << 20;
/// Memory that a slab uses in addition to its content, in bytes: its record. The allocator's overhead, at most a page,
/// comes from the runtime's own memory.
const SLAB_COST: u64 = 1024;
/// Words of 64 bits, a bit for each of the smallest pieces of a slab.
const WORDS: usize = SLAB / SMALLEST / 64;

const _: () = assert!(SLAB_COST >= size_of::<Slab>() as u64 && LARGE_SLAB / LARGEST <= WORDS * 64);
const _: () = assert!(SMALLEST << (Class::LAST.0 - 1) == SMALL);

/// A capacity, by its place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class(u8);

/// The memory of a part of a file's content. Only [`Pieces::free`] returns it.
///
/// There may be very many: it is kept small.
pub struct Piece {
    slab: u32,
    /// Bytes of it that are content; the rest is undefined.
    length: u32,
    /// Its number in the slab.
    place: u16,
    /// That of all pieces of the slab.
    class: Class,
}

/// A block of memory with pieces of one capacity.
struct Slab {
    /// The part that was ever used; it never grows beyond its reservation.
    bytes: Vec<u8>,
    /// The pieces in use, a bit each.
    used: [u64; WORDS],
    /// Their number.
    count: usize,
}

/// The memory of the contents of all files of a file system.
pub struct Pieces {
    slabs: BTreeMap<u32, Slab>,
    /// Those with a free piece.
    open: BTreeSet<(Class, u32)>,
    /// The number of the next one.
    next: u32,
    budget: Budget,
}

impl Class {
    /// The one of [`LARGEST`].
    const LAST: Self = Self(9);

    /// The smallest one with room for this many bytes.
    fn with_room(room: usize) -> Option<Self> {
        let mut all = (0..=Self::LAST.0).map(Self);
        all.find(|class| class.capacity() >= room)
    }

    /// Bytes of a piece.
    const fn capacity(self) -> usize {
        if self.0 < Self::LAST.0 {
            SMALLEST << self.0
        } else {
            LARGEST
        }
    }

    /// Bytes of a slab.
    const fn slab(self) -> usize {
        if self.0 < Self::LAST.0 {
            SLAB
        } else {
            LARGE_SLAB
        }
    }

    /// Memory that a slab takes, in bytes.
    const fn cost(self) -> u64 {
        self.slab() as u64 + SLAB_COST
    }
}

impl Slab {
    /// Takes the first free piece, and returns its number. `None` if there is none.
    fn take(&mut self, class: Class) -> Option<u16> {
        let mut words = self.used.iter_mut().enumerate();
        let (index, word) = words.find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        let place = index * 64 + bit as usize;
        let end = (place + 1) * class.capacity();
        if end > class.slab() {
            return None;
        }
        *word |= 1 << bit;
        self.count += 1;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        u16::try_from(place).ok()
    }

    /// Takes a piece back.
    fn give(&mut self, place: u16) {
        if let Some(word) = self.used.get_mut(usize::from(place / 64)) {
            *word &= !(1 << (place % 64));
        }
        self.count = self.count.saturating_sub(1);
    }
}

impl Pieces {
    /// No memory yet. Slabs come out of `budget`.
    pub fn new(budget: Budget) -> Self {
        Self {
            slabs: BTreeMap::new(),
            open: BTreeSet::new(),
            next: 0,
            budget,
        }
    }

    /// Creates a piece with room for this many bytes. Its content is that of `smaller`, if any.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]; [`Errno::FileTooLarge`] beyond [`LARGEST`].
    pub fn make(&mut self, room: usize, smaller: Option<&Piece>) -> Result<Piece> {
        let class = Class::with_room(room).ok_or(Errno::FileTooLarge)?;
        let mut open = self.open.range((class, 0)..=(class, u32::MAX));
        let number = match open.next() {
            Some((_, number)) => *number,
            None => self.add_slab(class)?,
        };
        let slab = self.slabs.get_mut(&number).ok_or(Errno::NoSpace)?;
        let place = slab.take(class).ok_or(Errno::NoSpace)?;
        if slab.count * class.capacity() == class.slab() {
            self.open.remove(&(class, number));
        }
        let mut piece = Piece {
            slab: number,
            length: 0,
            place,
            class,
        };
        if let Some(smaller) = smaller
            && let Err(error) = self.copy(smaller, &mut piece)
        {
            self.free(piece);
            return Err(error);
        }
        Ok(piece)
    }

    /// Copies the content of a piece into a new one.
    ///
    /// # Errors
    /// [`Errno::NoSpace`] when that has less room.
    fn copy(&mut self, from: &Piece, to: &mut Piece) -> Result<()> {
        // Through the stack: if memory is used up there may be none for a copy.
        let mut buffer = [0; 4096];
        let mut done = 0;
        loop {
            let rest = self.content(from).get(done..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            let (part, copied) = (rest.get(..length), buffer.get_mut(..length));
            let (Some(part @ [_, ..]), Some(copied)) = (part, copied) else {
                return Ok(());
            };
            copied.copy_from_slice(part);
            self.write(to, done, copied)?;
            done += length;
        }
    }

    /// Makes a slab, and returns its number.
    fn add_slab(&mut self, class: Class) -> Result<u32> {
        if !self.budget.take_heap(class.cost()) {
            return Err(Errno::NoSpace);
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(class.slab()).is_err() {
            self.budget.give_heap(class.cost());
            return Err(Errno::NoSpace);
        }
        // Numbers come back in the end; those in use are few.
        while self.slabs.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let slab = Slab {
            bytes,
            used: [0; WORDS],
            count: 0,
        };
        self.slabs.insert(self.next, slab);
        self.open.insert((class, self.next));
        Ok(self.next)
    }

    /// Takes a piece back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "there is no such piece any more"
    )]
    pub fn free(&mut self, piece: Piece) {
        let Some(slab) = self.slabs.get_mut(&piece.slab) else {
            return;
        };
        slab.give(piece.place);
        if slab.count > 0 {
            self.open.insert((piece.class, piece.slab));
        } else {
            self.slabs.remove(&piece.slab);
            self.open.remove(&(piece.class, piece.slab));
            self.budget.give_heap(piece.class.cost());
        }
    }

    /// The content of a piece.
    pub fn content(&self, piece: &Piece) -> &[u8] {
        let start = piece.start();
        let slab = self.slabs.get(&piece.slab);
        slab.and_then(|slab| slab.bytes.get(start..start + piece.length()))
            .unwrap_or_default()
    }

    /// Writes into a piece, from the byte `within` on. Between the end of the content and that byte there are zeros then.
    ///
    /// # Errors
    /// [`Errno::NoSpace`] when it has less room than that.
    pub fn write(&mut self, piece: &mut Piece, within: usize, bytes: &[u8]) -> Result<()> {
        let end = within.checked_add(bytes.len());
        let end = end.filter(|end| piece.has_room(*end));
        let end = end.ok_or(Errno::NoSpace)?;
        let (start, slab) = (piece.start(), self.slabs.get_mut(&piece.slab));
        let room = slab.and_then(|slab| slab.bytes.get_mut(start..start + end));
        let room = room.ok_or(Errno::NoSpace)?;
        if let Some(gap) = room.get_mut(piece.length()..within) {
            gap.fill(0);
        }
        let place = room.get_mut(within..).ok_or(Errno::NoSpace)?;
        place.copy_from_slice(bytes);
        let end = u32::try_from(end).map_err(|_| Errno::NoSpace)?;
        piece.length = piece.length.max(end);
        Ok(())
    }
}

impl Piece {
    /// Where it begins in its slab.
    fn start(&self) -> usize {
        usize::from(self.place) * self.class.capacity()
    }

    fn length(&self) -> usize {
        self.length as usize
    }

    /// True if it has room for this many bytes.
    pub fn has_room(&self, length: usize) -> bool {
        self.class.capacity() >= length
    }

    /// Truncates its content to this many bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = u32::try_from(length).map_or(self.length, |length| self.length.min(length));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cost of a slab of the largest pieces.
    const COST: u64 = Class::LAST.cost();

    #[test]
    fn capacities_are_powers_of_two_and_the_largest() {
        let capacities: Vec<usize> = (0..=Class::LAST.0)
            .map(|number| Class(number).capacity())
            .collect();
        assert_eq!(
            capacities,
            [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536]
        );
    }

    #[test]
    fn slabs_are_taken_from_the_budget_and_returned_whole() {
        let budget = Budget::new(2 * COST + 1);
        let mut pieces = Pieces::new(budget.clone());
        // Two slabs of sixteen each.
        let mut made: Vec<Piece> = (0..32)
            .map(|_| pieces.make(LARGEST, None).unwrap())
            .collect();
        assert_eq!(pieces.make(1, None).err(), Some(Errno::NoSpace));
        // One slab keeps a piece, and has room for others.
        for piece in made.drain(..31) {
            pieces.free(piece);
        }
        assert!(budget.take(COST + 1) && !budget.take(1));
        for _ in 0..15 {
            made.push(pieces.make(LARGEST - 1, None).unwrap());
        }
        assert_eq!(pieces.make(LARGEST, None).err(), Some(Errno::NoSpace));
        for piece in made {
            pieces.free(piece);
        }
        assert!(budget.take(COST));
        assert!(pieces.slabs.is_empty() && pieces.open.is_empty());
    }

    #[test]
    fn a_piece_too_small_for_its_content_is_returned() {
        let budget = Budget::new(2 * COST);
        let mut pieces = Pieces::new(budget.clone());
        let mut piece = pieces.make(LARGEST, None).unwrap();
        pieces.write(&mut piece, 0, &[7; 9000]).unwrap();
        let smaller = pieces.make(8192, Some(&piece));
        assert_eq!(smaller.err(), Some(Errno::NoSpace));
        pieces.free(piece);
        assert!(pieces.slabs.is_empty() && budget.take(2 * COST));
    }

    #[test]
    fn every_piece_has_bytes_of_its_own() {
        let mut pieces = Pieces::new(Budget::new(100 * COST));
        for room in [1, 64, 65, 1000, 16_384, 16_385, LARGEST] {
            let mut made = Vec::new();
            for index in 0..=2 * LARGE_SLAB / room.next_power_of_two().max(SMALLEST) {
                let mut piece = pieces.make(room, None).unwrap();
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
        assert_eq!(
            pieces.make(LARGEST + 1, None).err(),
            Some(Errno::FileTooLarge)
        );
    }

    #[test]
    fn no_earlier_content_is_left() {
        let mut pieces = Pieces::new(Budget::new(Class(0).cost()));
        let mut piece = pieces.make(64, None).unwrap();
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
        let mut piece = pieces.make(64, None).unwrap();
        pieces.write(&mut piece, 10, b"z").unwrap();
        assert_eq!(pieces.content(&piece), b"\0\0\0\0\0\0\0\0\0\0z");
    }

    proptest! {
        #[test]
        fn pieces_behave_like_vectors(
            steps in proptest::collection::vec((0_u8..5, any::<u8>(), 0..=LARGEST, 0..=LARGEST), 1..200)
        ) {
            let budget = Budget::new(8 * COST);
            let mut pieces = Pieces::new(budget.clone());
            let mut held: Vec<(Piece, Vec<u8>)> = Vec::new();
            for (step, byte, start, length) in steps {
                let chosen = usize::from(byte) % held.len().max(1);
                match (step, held.get_mut(chosen)) {
                    (0 | 1, None) | (0, _) => {
                        // Small ones more often.
                        let made = pieces.make(length >> (byte % 16), None);
                        held.extend(made.ok().map(|piece| (piece, Vec::new())));
                    }
                    (1, Some((piece, _))) => {
                        if let Ok(larger) = pieces.make(LARGEST, Some(piece)) {
                            pieces.free(std::mem::replace(piece, larger));
                        }
                    }
                    (2, Some((piece, model))) => {
                        let (start, length) = (start >> (byte % 16), length >> (byte / 16));
                        let written = pieces.write(piece, start, &vec![byte; length]);
                        prop_assert_eq!(written.is_ok(), piece.has_room(start + length));
                        if written.is_ok() {
                            model.resize(model.len().max(start + length), 0);
                            model[start..start + length].fill(byte);
                        }
                    }
                    (3, Some((piece, model))) => {
                        piece.truncate(start);
                        model.truncate(start);
                    }
                    (_, Some(_)) => pieces.free(held.swap_remove(chosen).0),
                    (_, None) => {}
                }
                for (piece, model) in &held {
                    prop_assert!(pieces.content(piece) == model);
                }
            }
            for (piece, _) in held {
                pieces.free(piece);
            }
            prop_assert!(budget.take(8 * COST));
        }
    }
}
