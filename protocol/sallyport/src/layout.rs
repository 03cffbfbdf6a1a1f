// SPDX-License-Identifier: Apache-2.0

//! The geometry of the shared region (SPEC.md, "Layout"), and checked places in it.
//!
//! Trusts nobody: a number from the other side becomes a place in memory only through
//! [`Slot::new`], through a ring index that is reduced modulo the ring's length, or through
//! [`buffer_offset`].

/// Version of the layout and of the calls.
pub const VERSION: u32 = 4;
/// `ENARXSP1` in ASCII, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ENARXSP1");

/// Number of slots: requests that can be outstanding, and entries of each ring.
pub const SLOTS: u32 = 64;
/// Bytes of one slot's buffer.
pub const BUFFER_SIZE: u32 = 128 * 1024;
/// Bytes of the whole region: a multiple of 2 MiB, so that large pages can map it.
pub const REGION_SIZE: usize = 10 * 1024 * 1024;
/// Alignment of the region's base that both ends rely on, in bytes (one page).
pub const REGION_ALIGN: usize = 4096;

/// Byte offset of the submission ring: [`SLOTS`] slot indices of 4 bytes.
pub const SUBMISSION_RING: u32 = 0x200;
/// Byte offset of the completion ring: [`SLOTS`] records of [`COMPLETION_SIZE`] bytes.
pub const COMPLETION_RING: u32 = 0x400;
/// Byte offset of the request table: [`SLOTS`] records of [`REQUEST_SIZE`] bytes.
pub const REQUEST_TABLE: u32 = 0x1000;
/// Byte offset of the buffers: [`SLOTS`] of [`BUFFER_SIZE`] bytes.
pub const BUFFERS: u32 = 0x20_0000;

/// Bytes of a completion record.
pub const COMPLETION_SIZE: u32 = 32;
/// Bytes of a request record.
pub const REQUEST_SIZE: u32 = 64;

/// [`MAGIC`], written by the host at launch.
pub const MAGIC_AT: Word64 = Word64::constant(0x000);
/// [`VERSION`], written by the host at launch.
pub const VERSION_AT: Word32 = Word32::constant(0x008);
/// Frequency of the time-stamp counter in kHz, as the host says; 0 = unknown.
pub const TSC_KHZ_AT: Word64 = Word64::constant(0x010);
/// Number of virtual CPUs, as the host says.
pub const VCPUS_AT: Word32 = Word32::constant(0x018);
/// Wall clock at launch in nanoseconds since the UNIX epoch, as the host says.
pub const WALL_NS_AT: Word64 = Word64::constant(0x020);
/// Submissions posted; written by the keep.
pub const SQ_TAIL: Word32 = Word32::constant(0x040);
/// Submissions taken; written by the host.
pub const SQ_HEAD: Word32 = Word32::constant(0x080);
/// Completions posted; written by the host.
pub const CQ_TAIL: Word32 = Word32::constant(0x0c0);
/// Completions taken; written by the keep.
pub const CQ_HEAD: Word32 = Word32::constant(0x100);
/// The host's activity ([`POLLING`]); written by the host.
pub const HOST_STATE: Word32 = Word32::constant(0x140);

/// Bit of [`HOST_STATE`]: a host thread polls the submission ring, no doorbell is needed.
pub const POLLING: u32 = 1;

/// Bytes of the control page, which holds everything before the request table.
pub const CONTROL_SIZE: u32 = REQUEST_TABLE;

// The parts follow each other without overlap, and the last ends where the region ends.
const _: () = assert!(SUBMISSION_RING + SLOTS * 4 <= COMPLETION_RING);
const _: () = assert!(COMPLETION_RING + SLOTS * COMPLETION_SIZE <= REQUEST_TABLE);
const _: () = assert!(REQUEST_TABLE + SLOTS * REQUEST_SIZE <= BUFFERS);
const _: () = assert!((BUFFERS + SLOTS * BUFFER_SIZE) as usize == REGION_SIZE);
const _: () = assert!(REGION_SIZE.is_multiple_of(2 * 1024 * 1024));
// Free-running indices are reduced modulo the ring's length: it must divide 2^32.
const _: () = assert!(SLOTS.is_power_of_two());

/// The bytes do not all lie in the slot's buffer, or not in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes lie outside of the request's buffer: ask for fewer")]
pub struct OutOfRange;

/// The place of a word of `SIZE` bytes inside the region, aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word<const SIZE: u32>(u32);

/// The place of a 32-bit word.
pub type Word32 = Word<4>;
/// The place of a 64-bit word.
pub type Word64 = Word<8>;

impl<const SIZE: u32> Word<SIZE> {
    /// The word at byte `offset`; `None` when it is misaligned or outside the region.
    pub const fn new(offset: u32) -> Option<Self> {
        if offset.is_multiple_of(SIZE) && (offset as usize) < REGION_SIZE {
            Some(Self(offset))
        } else {
            None
        }
    }

    /// For constants: a wrong offset fails to compile.
    #[expect(clippy::expect_used, reason = "the compiler evaluates it")]
    const fn constant(offset: u32) -> Self {
        Self::new(offset).expect("offset of a control word")
    }

    /// Byte offset inside the region.
    pub const fn offset(self) -> usize {
        self.0 as usize
    }
}

/// Index of a request record and of its buffer, below [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// The slot of a foreign `index`; `None` when there is no such slot.
    pub const fn new(index: u32) -> Option<Self> {
        if index < SLOTS {
            // Below 64, so nothing is cut off.
            Some(Self(index.to_le_bytes()[0]))
        } else {
            None
        }
    }

    /// The slot's index, below [`SLOTS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// This slot's value of one for each slot.
    #[expect(clippy::indexing_slicing, reason = "its index is below SLOTS")]
    pub(crate) const fn of<T>(self, values: &[T; SLOTS as usize]) -> &T {
        &values[self.index()]
    }

    /// As [`Self::of`], to be changed.
    #[expect(clippy::indexing_slicing, reason = "its index is below SLOTS")]
    pub(crate) const fn of_mut<T>(self, values: &mut [T; SLOTS as usize]) -> &mut T {
        &mut values[self.index()]
    }

    /// The slot's index as stored in the submission ring.
    pub const fn to_wire(self) -> u32 {
        self.0 as u32
    }
}

/// The slot that a request's id names (its lower 16 bits); `None` when there is no such slot.
pub const fn slot_of(id: u32) -> Option<Slot> {
    Slot::new(id & 0xffff)
}

/// The submission ring's entry for the free-running `index`.
pub const fn submission_entry(index: u32) -> Word32 {
    Word(SUBMISSION_RING + (index % SLOTS) * 4)
}

/// The words of the completion ring's entry for the free-running `index`.
pub const fn completion_entry(index: u32) -> [Word64; 4] {
    let base = COMPLETION_RING + (index % SLOTS) * COMPLETION_SIZE;
    [Word(base), Word(base + 8), Word(base + 16), Word(base + 24)]
}

/// The words of a slot's request record.
pub const fn request_entry(slot: Slot) -> [Word64; 8] {
    let base = REQUEST_TABLE + slot.to_wire() * REQUEST_SIZE;
    [
        Word(base),
        Word(base + 8),
        Word(base + 16),
        Word(base + 24),
        Word(base + 32),
        Word(base + 40),
        Word(base + 48),
        Word(base + 56),
    ]
}

/// Every word of the control page, which the host clears at launch.
pub(crate) fn control_words() -> impl Iterator<Item = Word64> {
    (0..CONTROL_SIZE).step_by(8).map(Word)
}

/// The byte offset of a slot's buffer inside the region.
pub const fn buffer(slot: Slot) -> usize {
    (BUFFERS + slot.to_wire() * BUFFER_SIZE) as usize
}

/// The byte offset inside the region of `length` bytes at `offset` of a slot's buffer.
///
/// # Errors
/// [`OutOfRange`] when the bytes do not all lie in the buffer.
pub fn buffer_offset(slot: Slot, offset: u32, length: usize) -> Result<usize, OutOfRange> {
    let end = (offset as usize).checked_add(length).ok_or(OutOfRange)?;
    if end > BUFFER_SIZE as usize {
        return Err(OutOfRange);
    }
    Ok(buffer(slot) + offset as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outside_the_region_do_not_exist() {
        let end = u32::try_from(REGION_SIZE).expect("the region is small");
        assert_eq!(Word32::new(end), None);
        assert_eq!(Word32::new(end - 4).map(Word32::offset), Some(0x9f_fffc));
        assert_eq!(Word32::new(2), None);
        assert_eq!(Word64::new(end), None);
        assert_eq!(Word64::new(end - 4), None);
        assert_eq!(Word64::new(end - 8).map(Word64::offset), Some(0x9f_fff8));
        assert_eq!(Slot::new(SLOTS), None);
        assert_eq!(Slot::new(u32::MAX), None);
        assert_eq!(slot_of(0xffff_0000 | 63), Slot::new(63));
        assert_eq!(slot_of(64), None);
    }

    #[test]
    fn buffers_end_where_they_should() {
        let last = Slot::new(63).expect("a slot");
        assert_eq!(
            buffer_offset(last, 0, BUFFER_SIZE as usize),
            Ok(REGION_SIZE - 0x2_0000)
        );
        assert_eq!(buffer_offset(last, BUFFER_SIZE, 0), Ok(REGION_SIZE));
        assert_eq!(
            buffer_offset(last, 1, BUFFER_SIZE as usize),
            Err(OutOfRange)
        );
        assert_eq!(buffer_offset(last, BUFFER_SIZE, 1), Err(OutOfRange));
        assert_eq!(buffer_offset(last, u32::MAX, usize::MAX), Err(OutOfRange));
    }

    #[test]
    fn ring_entries_stay_in_their_rings_for_every_residue_and_at_the_wrap() {
        for index in (0..200).chain(u32::MAX - 200..=u32::MAX) {
            let entry = submission_entry(index).offset();
            assert!((0x200..0x300).contains(&entry) && entry.is_multiple_of(4));
            let entry = completion_entry(index);
            assert_eq!(entry[0].offset() % 32, 0);
            assert!(entry[0].offset() >= 0x400 && entry[3].offset() < 0xc00);
            // Neighbours stay neighbours across 2^32.
            let next = submission_entry(index.wrapping_add(1)).offset();
            assert_eq!(
                (next - 0x200) / 4,
                ((submission_entry(index).offset() - 0x200) / 4 + 1) % 64
            );
        }
    }
}
