// SPDX-License-Identifier: Apache-2.0

//! Page tables as the only record of the user address space.
//!
//! An entry says whether its range is free, reserved with which rights, or backed by a frame; a
//! uniform range of any size is one entry per 1 GiB, 2 MiB or 4 KiB. There is no second
//! structure that could disagree with what the CPU sees.
//! The meaning of an entry's bits is in [`enarx_boot::page_table`].

use enarx_boot::address::{CBit, PhysAddr, VirtAddr, VirtRange};
use enarx_boot::layout::{LARGE, MMAP_END, MMAP_START, PAGE, USER_END, USER_START, round_up};
use enarx_boot::page_table::{Access, Pte, PteFlags, Rights};

use crate::frame::{Frame, LargeFrame, Place, Slot, Words};
use crate::frames::Frames;
use crate::linux::Errno;
use crate::platform::Platform;
use crate::table::{entry_at, lower, shift, slot, span};

/// A range of user addresses in whole pages: not empty, between [`USER_START`] and [`USER_END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange(VirtRange);

impl UserRange {
    /// `length` bytes from `start` on, rounded up to whole pages; `None` if that is no such range.
    pub(crate) fn new(start: VirtAddr, length: u64) -> Option<Self> {
        let length = round_up(length, PAGE)?;
        let end = start.checked_offset(length)?;
        let inside = start.get() >= USER_START && end.get() <= USER_END;
        (length != 0 && start.is_aligned(PAGE) && inside)
            .then_some(Self(VirtRange::new(start, end)))
    }

    /// As [`Self::new`], for the words of a system call.
    ///
    /// # Errors
    /// [`Errno::Inval`] if they name no such range.
    pub(crate) fn asked(start: u64, length: u64) -> Result<Self, Errno> {
        Self::new(VirtAddr::new(start), length).ok_or(Errno::Inval)
    }

    /// The addresses from `start` to `end`, whole pages inside of those that `mmap` chooses from.
    pub(crate) const fn chosen(start: VirtAddr, end: VirtAddr) -> Self {
        debug_assert!(MMAP_START <= start.get() && start.get() < end.get());
        debug_assert!(end.get() <= MMAP_END);
        Self(VirtRange::new(start, end))
    }

    /// Its addresses.
    pub(crate) const fn addresses(self) -> VirtRange {
        self.0
    }
}

/// Why an operation on the tables failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// There is no frame for a table or a page: [`Frames::failure`] says why.
    NoFrame,
    /// Part of the range is not mapped.
    NotMapped,
    /// Part of the range belongs to the microkernel.
    Pinned,
    /// Part of the range is mapped already.
    Occupied,
}

/// A reservation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Why.
    pub error: PagingError,
    /// Everything below this address in the range has been reserved.
    pub done: VirtAddr,
}

/// The effect of a change on the TLBs. A change that failed may have reduced rights before it did:
/// after an error, all vCPUs must flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Rights of present pages were taken away or frames replaced: all vCPUs must flush.
    pub reduced: bool,
}

/// The outcome of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Access is allowed and possible now.
    Resolved,
    /// The tables deny the access: a verified cause.
    Denied,
    /// There is no frame: [`Frames::failure`] says why.
    NoFrame,
}

/// Pages mapped by one fault where their entries are alike: 64 KiB.
const FAULT_AROUND: u64 = 16;
/// The same where the page before them has a frame, because memory is filled in order: 256 KiB.
const FAULT_AHEAD: u64 = 64;

/// The user half of the page tables under one root.
#[derive(Debug)]
pub struct Tables {
    root: Frame,
    /// The C-bit: entries without it are memory shared with the host, which the microkernel does
    /// not touch on behalf of the process.
    private: CBit,
}

/// A change of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Give a free range these rights.
    Reserve(Rights),
    /// Give a mapped range these rights.
    Protect(Rights),
    /// Take all access away without freeing anything: what must happen, with every TLB flushed, before
    /// [`Self::Remove`] or [`Self::Discard`] while other vCPUs run.
    Hide,
    /// Free the range; parts that are free already stay so.
    Remove,
    /// Free its frames; the range stays reserved and reads as zeros.
    Discard,
}

impl Tables {
    /// No tables.
    pub(crate) const fn none() -> Self {
        Self::new(Frame::of(PhysAddr::NOWHERE), CBit::NONE)
    }

    /// The tables under `root`, a PML4 made by the launcher, with this C-bit.
    pub(crate) const fn new(root: Frame, private: CBit) -> Self {
        Self { root, private }
    }

    /// The C-bit of the entries of private memory.
    pub(crate) const fn c_bit(&self) -> CBit {
        self.private
    }

    /// Reserves `range`, which is free, with `rights`.
    ///
    /// # Errors
    /// [`Incomplete`]. Reserved pages are the caller's to take away: another vCPU may have translations of them.
    pub fn reserve<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
        rights: Rights,
    ) -> Result<(), Incomplete> {
        let mut walk = Walk::new(frames, platform, Change::Reserve(rights), range);
        let result = walk.descend(self.root, range);
        result.map_err(|error| Incomplete {
            error,
            done: walk.done,
        })
    }

    /// Changes `range`.
    ///
    /// # Errors
    /// [`PagingError::NotMapped`] or [`PagingError::Pinned`] if the range does not belong to the process,
    /// [`PagingError::NoFrame`]; earlier changes stay.
    pub fn change<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
        change: Change,
    ) -> Result<Stale, PagingError> {
        let mut walk = Walk::new(frames, platform, change, range);
        walk.descend(self.root, range)?;
        Ok(walk.stale)
    }

    /// Clears the 2 MiB entries of `start..end`, of pages and of tables.
    pub fn withdraw<P: Platform>(&mut self, platform: &mut P, start: VirtAddr, end: VirtAddr) {
        for address in (start.get()..end.get()).step_by(2 << 20) {
            if let Some(at) = entry_at(platform, self.root, VirtAddr::new(address), 2) {
                platform.set_entry(at, Pte::EMPTY);
            }
        }
    }

    /// The lowest entry for `address`, and its level.
    fn leaf<P: Platform>(&self, platform: &P, address: VirtAddr) -> (Pte, u32) {
        let mut table = self.root;
        for level in [4, 3, 2] {
            let entry = platform.entry(slot(table, level, address));
            if !entry.is_table() {
                return (entry, level);
            }
            table = lower(entry);
        }
        (platform.entry(slot(table, 1, address)), 1)
    }

    /// Rights of the page at `address`; `None` where it is not mapped.
    pub fn rights<P: Platform>(&self, platform: &P, address: VirtAddr) -> Option<Rights> {
        let (entry, _) = self.leaf(platform, address);
        entry.has(PteFlags::RESERVED).then(|| Rights::of(entry))
    }

    /// The memory at `address` if the tables allow the access now.
    pub fn translate<P: Platform>(
        &self,
        platform: &P,
        address: VirtAddr,
        access: Access,
    ) -> Option<Place> {
        let (entry, level) = self.leaf(platform, address);
        let (needed, refused) = access.flags();
        let needed = needed.bits() | self.private.mask();
        let offset = span(level) - 1;
        let page = entry.address().align_down(span(level));
        (entry.bits() & (needed | refused.bits()) == needed)
            .then(|| Place::of(page.offset(address.get() & offset)))
    }

    /// Handles a fault of `access` at `address`, a user address: gives it a frame where the
    /// rights allow the access.
    pub fn fault<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        address: VirtAddr,
        access: Access,
    ) -> Fault {
        let mut table = self.root;
        let mut level = 4;
        loop {
            let at = slot(table, level, address);
            let entry = platform.entry(at);
            if entry.is_table() && level > 1 {
                table = lower(entry);
                level -= 1;
                continue;
            }
            if !entry.has(PteFlags::RESERVED) || !Rights::of(entry).allow(access) {
                return Fault::Denied;
            }
            if entry.has(PteFlags::PRESENT) {
                // Another vCPU was faster.
                return Fault::Resolved;
            }
            if entry.has(PteFlags::FRAME) {
                // Hidden by a removal that failed: its contents are still the page's.
                platform.set_entry(at, entry.with(PteFlags::PRESENT));
                return Fault::Resolved;
            }
            if level == 1 {
                return Self::back_small(frames, platform, table, at, entry);
            }
            if level == 2 {
                if let Some(frame) = frames.large(platform) {
                    let flags = BACKED.union(PteFlags::LARGE);
                    platform.set_entry(at, entry.backed_by(frame.address(), flags));
                    return Fault::Resolved;
                }
                if frames.failure().is_some() {
                    return Fault::NoFrame;
                }
            }
            let Some(lower) = frames.table(platform, entry.bits()) else {
                return Fault::NoFrame;
            };
            platform.set_entry(at, Pte::table(lower.address()));
            table = lower;
            level -= 1;
        }
    }

    /// Backs the 4 KiB entry at `at`, and those of its block that are alike: the following ones, and all before
    /// it when nothing of the block has a frame yet. Memory may also be filled from its end: the C library
    /// copies this way if both addresses end alike. Frames that would have to be cleared are used for only one
    /// block.
    fn back_small<P: Platform>(
        frames: &mut Frames,
        platform: &mut P,
        table: Frame,
        at: Slot,
        entry: Pte,
    ) -> Fault {
        let (index, block) = (at.index(), at.index() & !(FAULT_AROUND - 1));
        let before = table.slot(block).words(index - block);
        let untouched = platform.run_length(before, entry.bits()) == before.count();
        let from = if untouched { block } else { index };
        let many = follows_frame(platform, table, block) && frames.next_is_fresh();
        let end = block + if many { FAULT_AHEAD } else { FAULT_AROUND };
        let words = table.slot(from).words(end - from);
        let words = words.split(platform.run_length(words, entry.bits())).0;
        let rest = back_run(frames, platform, words, entry);
        // The entry at `at` was requested; its neighbours are optional.
        if frames.failure().is_some() || rest.count() > 0 && rest.first() <= at {
            return Fault::NoFrame;
        }
        Fault::Resolved
    }
}

/// True if the entry before the one at `index` has a frame. The first entry of a table has none before it.
fn follows_frame<P: Platform>(platform: &P, table: Frame, index: u64) -> bool {
    index != 0 && platform.entry(table.slot(index - 1)).has(PteFlags::FRAME)
}

/// Flags that an entry gets with its frame.
const BACKED: PteFlags = PteFlags::FRAME.union(PteFlags::PRESENT);

/// Gives frames to 4 KiB entries, which become `entry` with a frame each; those that got none.
#[inline(never)]
fn back_run<P: Platform>(frames: &mut Frames, platform: &mut P, words: Words, entry: Pte) -> Words {
    let mut rest = words;
    while rest.count() != 0
        && let Some((first, found)) = frames.small_run(platform, rest.count())
    {
        let entry = entry.backed_by(first.address(), BACKED);
        let (backed, others) = rest.split(found);
        platform.fill_rising(backed, entry.bits());
        rest = others;
    }
    rest
}

const RIGHTS_AND_PRESENT: PteFlags = PteFlags::RIGHTS.union(PteFlags::PRESENT);

/// One pass over a range.
struct Walk<'a, P> {
    frames: &'a mut Frames,
    platform: &'a mut P,
    change: Change,
    stale: Stale,
    /// Everything below this address in the range has been changed.
    done: VirtAddr,
    /// The bits that an entry with a frame keeps, and those that it gets.
    kept: u64,
    set: u64,
    /// Entries with frames keep them.
    keeps_frames: bool,
    /// Pages that become writable get their frames now: there are so few of them that the faults
    /// would cost more.
    populate: bool,
    /// They follow a page that has one, and growing memory is written to at once. They get frames that were never
    /// used, which need no clearing and use no memory of the host yet.
    grows: bool,
}

impl<'a, P: Platform> Walk<'a, P> {
    fn new(frames: &'a mut Frames, platform: &'a mut P, change: Change, range: UserRange) -> Self {
        let writable = matches!(
            change,
            Change::Reserve(Rights::ReadWrite) | Change::Protect(Rights::ReadWrite)
        );
        let (kept, set) = match change {
            // An entry with a frame is in the way.
            Change::Reserve(_) => (u64::MAX, 0),
            Change::Protect(rights) => (
                !RIGHTS_AND_PRESENT.bits(),
                rights.flags().bits()
                    | match rights {
                        Rights::None => 0,
                        _ => PteFlags::PRESENT.bits(),
                    },
            ),
            Change::Hide => (!PteFlags::PRESENT.bits(), 0),
            Change::Remove => (0, 0),
            Change::Discard => (PteFlags::RIGHTS.union(PteFlags::RESERVED).bits(), 0),
        };
        Self {
            frames,
            platform,
            change,
            stale: Stale::default(),
            done: range.0.start,
            kept,
            set,
            keeps_frames: matches!(change, Change::Protect(_) | Change::Hide),
            populate: writable && range.0.length() <= FAULT_AROUND * PAGE,
            grows: false,
        }
    }

    /// Changes `range` under `root`: descends as long as the whole range is within one entry.
    fn descend(&mut self, root: Frame, range: UserRange) -> Result<(), PagingError> {
        let VirtRange { start, end } = range.0;
        let (mut table, mut level) = (root, 4);
        let extent = (start.get() ^ (end.get() - 1)) | range.0.length();
        for upper in [4, 3, 2] {
            if extent >> shift(upper) != 0 {
                break;
            }
            let at = slot(table, upper, start);
            let entry = self.platform.entry(at);
            table = if entry.is_table() {
                lower(entry)
            } else if self.is_done(entry) {
                return Ok(());
            } else {
                self.split(at, entry)?
            };
            level = upper - 1;
        }
        if level == 1 {
            return self.pages(table, range.0);
        }
        self.table(table, level, range.0)
    }

    /// True if there is nothing to do where `entry` is.
    fn is_done(&self, entry: Pte) -> bool {
        entry.is_empty() && matches!(self.change, Change::Remove | Change::Hide)
    }

    fn table(&mut self, table: Frame, level: u32, range: VirtRange) -> Result<(), PagingError> {
        let (size, end) = (span(level), range.end);
        let mut address = range.start;
        while address < end {
            let base = address.align_down(size);
            let next = match base.checked_offset(size) {
                Some(next) if next < end => next,
                _ => end,
            };
            let whole = address == base && base.bytes_to(next) == size;
            let at = slot(table, level, address);
            let entry = self.platform.entry(at);
            if entry.is_table() {
                self.below(lower(entry), level, VirtRange::new(address, next))?;
                if whole && self.change == Change::Remove && level < 4 {
                    self.platform.set_entry(at, Pte::EMPTY);
                    self.frames.free_table(self.platform, lower(entry));
                    // Paging-structure caches may still hold the table.
                    self.stale.reduced = true;
                }
            } else if whole && level < 4 {
                if !entry.has(PteFlags::FRAME) {
                    let words = at.words(address.bytes_to(end) / size);
                    let rest = self.alike(words, entry, false)?;
                    address = address.offset((words.count() - rest.count()) * size);
                    self.done = address;
                    continue;
                }
                self.backed(at, level, entry)?;
            } else if !self.is_done(entry) {
                let lower = self.split(at, entry)?;
                self.below(lower, level, VirtRange::new(address, next))?;
            }
            address = next;
            self.done = next;
        }
        Ok(())
    }

    /// Changes a range of a table below one of `level`.
    fn below(&mut self, table: Frame, level: u32, range: VirtRange) -> Result<(), PagingError> {
        if level == 2 {
            self.pages(table, range)
        } else {
            self.table(table, level - 1, range)
        }
    }

    /// Changes a range of a table of the lowest level.
    #[inline(never)]
    fn pages(&mut self, table: Frame, range: VirtRange) -> Result<(), PagingError> {
        let first = slot(table, 1, range.start);
        // The first page of a table continues the state of the previous table.
        if first.index() != 0 {
            self.grows = self.change == Change::Protect(Rights::ReadWrite)
                && follows_frame(self.platform, table, first.index());
        }
        let all = first.words(range.length() / PAGE);
        let mut left = all;
        while let Some((at, rest)) = left.split_first() {
            let entry = self.platform.entry(at);
            left = if !entry.has(PteFlags::FRAME) {
                let ahead = self.populate || self.grows && self.frames.next_is_fresh();
                self.alike(left, entry, ahead)?
            } else if entry.has(PteFlags::PINNED) || !self.keeps_frames {
                self.backed(at, 1, entry)?;
                rest
            } else {
                self.backed_run(left, entry)
            };
            self.done = range.start.offset((all.count() - left.count()) * PAGE);
        }
        Ok(())
    }

    /// Changes the first of these 4 KiB entries, which is `entry` and has a frame, and the following ones with the
    /// same flags; returns the rest. For changes that free nothing.
    #[inline(never)]
    fn backed_run(&mut self, words: Words, entry: Pte) -> Words {
        let changed = (entry.bits() & self.kept | self.set) ^ entry.bits();
        self.stale.reduced |=
            entry.has(PteFlags::PRESENT) && changed & RIGHTS_AND_PRESENT.bits() != 0;
        let count = self.platform.change_run(words, self.kept, self.set);
        words.split(count).1
    }

    /// Replaces a uniform entry by a table of 512 entries that say the same.
    fn split(&mut self, at: Slot, entry: Pte) -> Result<Frame, PagingError> {
        if entry.has(PteFlags::FRAME) {
            return self.split_backed(at, entry);
        }
        match (entry.is_empty(), self.change) {
            (true, Change::Reserve(_)) => {}
            (true, _) => return Err(PagingError::NotMapped),
            (_, Change::Reserve(_)) => return Err(PagingError::Occupied),
            _ => {}
        }
        let Some(lower) = self.frames.table(self.platform, entry.bits()) else {
            return Err(PagingError::NoFrame);
        };
        self.platform.set_entry(at, Pte::table(lower.address()));
        Ok(lower)
    }

    /// As [`Self::split`], for an entry with a frame, which has 2 MiB.
    #[inline(never)]
    fn split_backed(&mut self, at: Slot, entry: Pte) -> Result<Frame, PagingError> {
        if entry.has(PteFlags::PINNED) {
            return Err(PagingError::Pinned);
        }
        if matches!(self.change, Change::Reserve(_)) {
            return Err(PagingError::Occupied);
        }
        let Some(lower) = self.frames.table(self.platform, 0) else {
            return Err(PagingError::NoFrame);
        };
        let first = entry.without(PteFlags::LARGE);
        self.platform.fill_rising(lower.words(), first.bits());
        self.platform.set_entry(at, Pte::table(lower.address()));
        Ok(lower)
    }

    /// Changes the leading entries that equal `entry`, which has no frame; returns the rest. `ahead`: they are those
    /// of 4 KiB pages, and get frames.
    #[inline(always)]
    fn alike(&mut self, words: Words, entry: Pte, ahead: bool) -> Result<Words, PagingError> {
        let count = self.platform.run_length(words, entry.bits());
        let new = match self.change {
            Change::Protect(_) | Change::Discard if entry.is_empty() => {
                return Err(PagingError::NotMapped);
            }
            Change::Reserve(_) if !entry.is_empty() => return Err(PagingError::Occupied),
            Change::Reserve(rights) | Change::Protect(rights) => Pte::reserved(rights),
            Change::Remove => Pte::EMPTY,
            Change::Hide | Change::Discard => entry,
        };
        let (mut same, others) = words.split(count);
        if new == entry {
            return Ok(others);
        }
        if ahead {
            same = back_run(self.frames, self.platform, same, new);
        }
        if same.count() != 0 {
            self.platform.fill_run(same, new.bits());
            if self.frames.failure().is_some() {
                return Err(PagingError::NoFrame);
            }
        }
        Ok(others)
    }

    /// Changes one entry that holds a frame.
    fn backed(&mut self, at: Slot, level: u32, entry: Pte) -> Result<(), PagingError> {
        if entry.has(PteFlags::PINNED) {
            return Err(PagingError::Pinned);
        }
        if matches!(self.change, Change::Reserve(_)) {
            return Err(PagingError::Occupied);
        }
        let new = entry.bits() & self.kept | self.set;
        let seen = RIGHTS_AND_PRESENT.union(PteFlags::FRAME).bits();
        if entry.has(PteFlags::PRESENT) && (new ^ entry.bits()) & seen != 0 {
            self.stale.reduced = true;
        }
        self.platform.write(at, new);
        if matches!(self.change, Change::Remove | Change::Discard) {
            let page = entry.address();
            if level == 1 {
                self.frames.free_small(self.platform, Frame::of(page));
            } else {
                let page = LargeFrame::of(page.align_down(LARGE));
                self.frames.free_large(self.platform, page);
            }
        }
        Ok(())
    }
}
