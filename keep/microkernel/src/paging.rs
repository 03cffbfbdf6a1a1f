//! Page tables as the only record of the user address space.
//!
//! An entry says whether its range is free, reserved with which rights, or backed by a frame; a
//! uniform range of any size is one entry per 1 GiB, 2 MiB or 4 KiB. There is no second
//! structure that could disagree with what the CPU sees.
//! The meaning of an entry's bits is in [`enarx_boot::page_table`].

use enarx_boot::address::{CBit, PhysAddr, VirtAddr};
use enarx_boot::layout::{LARGE, PAGE, USER_END, USER_START, round_up};
use enarx_boot::page_table::{Access, Pte, PteFlags, Rights};

use crate::frame::{Frame, LargeFrame, Place, Slot};
use crate::frames::Frames;
use crate::platform::Platform;
use crate::table::{entry_at, lower, shift, slot, span};

/// A range of user addresses in whole pages: not empty, between [`USER_START`] and [`USER_END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl UserRange {
    /// `length` bytes from `start` on, rounded up to whole pages; `None` if that is no such range.
    #[must_use]
    pub fn new(start: u64, length: u64) -> Option<Self> {
        let length = round_up(length, PAGE)?;
        let end = start.checked_add(length)?;
        let inside = length != 0 && start.is_multiple_of(PAGE) && start >= USER_START;
        (inside && end <= USER_END).then_some(Self {
            start: VirtAddr::new(start),
            end: VirtAddr::new(end),
        })
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start.get()
    }

    /// First address behind it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end.get()
    }
}

/// Why an operation on the tables failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// No frame is left for a table or a page.
    OutOfMemory,
    /// Part of the range is not mapped.
    NotMapped,
    /// Part of the range belongs to the microkernel.
    Pinned,
    /// Part of the range is mapped already.
    Occupied,
    /// A fresh page could not be made the Keep's, which ends it: [`Frames::failure`].
    Fatal,
}

impl PagingError {
    /// Why there was no frame.
    #[cold]
    fn without_frame(frames: &Frames) -> Self {
        match frames.failure() {
            Some(_) => Self::Fatal,
            None => Self::OutOfMemory,
        }
    }
}

/// A reservation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Why.
    pub error: PagingError,
    /// Everything below this address in the range has been reserved.
    pub done: u64,
}

/// What a change means for the TLBs. A change that failed may have reduced rights before it did:
/// after an error, all vCPUs must flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Rights of present pages were taken away or frames replaced: all vCPUs must flush.
    pub reduced: bool,
}

/// What a page fault turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Access is allowed and possible now.
    Resolved,
    /// The tables deny the access: a verified cause.
    Denied,
    /// No frame is left.
    OutOfMemory,
    /// A fresh page could not be made the Keep's, which ends it: [`Frames::failure`].
    Fatal,
}

/// Pages mapped by one fault where their entries are alike: 64 KiB.
const FAULT_AROUND: u64 = 16;

/// The user half of the page tables under one root.
#[derive(Debug)]
pub struct Tables {
    root: Frame,
    /// The C-bit: entries without it are memory shared with the host, which the microkernel does
    /// not touch on behalf of the process.
    private: CBit,
}

/// What to do with a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Reserve(Rights),
    Protect(Rights),
    /// Take the access away but keep frames: the first half of a removal with other vCPUs running.
    Hide,
    Remove,
    /// Forget the contents, keep the reservation.
    Discard,
}

impl Tables {
    /// No tables.
    pub(crate) const fn none() -> Self {
        Self::new(Frame::of(PhysAddr::from_entry(0)), CBit::NONE)
    }

    /// The tables under `root`, a PML4 made by the launcher, with this C-bit.
    #[must_use]
    pub const fn new(root: Frame, private: CBit) -> Self {
        Self { root, private }
    }

    /// The C-bit of the entries of private memory.
    #[must_use]
    pub const fn c_bit(&self) -> CBit {
        self.private
    }

    /// Reserves `range`, which is free, with `rights`.
    ///
    /// # Errors
    /// [`Incomplete`]. What was reserved is the caller's to take away: another vCPU may have translations of it.
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

    /// Gives the mapped `range` other rights.
    ///
    /// # Errors
    /// [`PagingError::NotMapped`] or [`PagingError::Pinned`] where the range is not the process's,
    /// [`PagingError::OutOfMemory`]; what was changed until then stays.
    pub fn protect<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
        rights: Rights,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, range, Change::Protect(rights))
    }

    /// Takes all access to `range` away without freeing anything: what must happen, with
    /// every TLB flushed, before [`Self::remove`] or [`Self::discard`] while other vCPUs run.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn hide<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, range, Change::Hide)
    }

    /// Frees `range`; parts that are free already stay so.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn remove<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, range, Change::Remove)
    }

    /// Frees the frames of `range`; it stays reserved and reads as zeros.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn discard<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        range: UserRange,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, range, Change::Discard)
    }

    fn change<P: Platform>(
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

    /// The memory behind `address` where the tables allow the access now.
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
        let page = entry.address().get() & !offset;
        (entry.bits() & (needed | refused.bits()) == needed)
            .then(|| Place::of(PhysAddr::from_entry(page + (address.get() & offset))))
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
                return Self::back_small(frames, platform, at, entry);
            }
            if level == 2 {
                if let Some(frame) = frames.large(platform) {
                    let flags = BACKED.union(PteFlags::LARGE);
                    platform.set_entry(at, entry.backed_by(frame.address(), flags));
                    return Fault::Resolved;
                }
                if frames.failure().is_some() {
                    return Fault::Fatal;
                }
            }
            let Some(lower) = frames.filled(platform, entry.bits()) else {
                return Fault::without_frame(frames);
            };
            platform.set_entry(at, Pte::table(lower.address()));
            table = lower;
            level -= 1;
        }
    }

    /// Backs the 4 KiB entry at `at`, and following ones that are alike.
    fn back_small<P: Platform>(
        frames: &mut Frames,
        platform: &mut P,
        at: Slot,
        entry: Pte,
    ) -> Fault {
        // Frames have whole groups of entries.
        let most = FAULT_AROUND - at.address().get() / 8 % FAULT_AROUND;
        let count = platform.run_length(at, most, entry.bits());
        let backed = back_run(frames, platform, at, count, entry);
        if backed == 0 || frames.failure().is_some() {
            return Fault::without_frame(frames);
        }
        Fault::Resolved
    }
}

/// What an entry gets with its frame.
const BACKED: PteFlags = PteFlags::FRAME.union(PteFlags::PRESENT);

impl Fault {
    /// Why there was no frame.
    #[cold]
    fn without_frame(frames: &Frames) -> Self {
        match PagingError::without_frame(frames) {
            PagingError::Fatal => Self::Fatal,
            _ => Self::OutOfMemory,
        }
    }
}

/// Gives frames to `count` 4 KiB entries from `at` on, which become `entry` with a frame each; how
/// many got one.
fn back_run<P: Platform>(
    frames: &mut Frames,
    platform: &mut P,
    at: Slot,
    count: u64,
    entry: Pte,
) -> u64 {
    let mut backed = 0;
    while backed < count
        && let Some((first, found)) = frames.small_run(platform, count - backed)
    {
        let entry = entry.backed_by(first.address(), BACKED);
        platform.fill_rising(at.skip(backed), found, entry.bits());
        backed += found;
    }
    backed
}

const RIGHTS_AND_PRESENT: PteFlags = PteFlags::RIGHTS.union(PteFlags::PRESENT);
const ACCESSED_AND_DIRTY: PteFlags = PteFlags::ACCESSED.union(PteFlags::DIRTY);

/// One pass over a range.
struct Walk<'a, P> {
    frames: &'a mut Frames,
    platform: &'a mut P,
    change: Change,
    stale: Stale,
    /// Everything below this address in the range has been changed.
    done: u64,
    /// The bits that an entry with a frame keeps, and those that it gets.
    kept: u64,
    set: u64,
    /// Entries with frames keep them.
    keeps_frames: bool,
    /// Pages that become writable get their frames now: there are so few of them that the faults
    /// would cost more.
    populate: bool,
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
                !(RIGHTS_AND_PRESENT.bits() | ACCESSED_AND_DIRTY.bits()),
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
            done: range.start(),
            kept,
            set,
            keeps_frames: matches!(change, Change::Protect(_) | Change::Hide),
            populate: writable && range.end() - range.start() <= FAULT_AROUND * PAGE,
        }
    }

    /// Changes `range` under `root`: goes down as far as the whole range is a part of one entry.
    fn descend(&mut self, root: Frame, range: UserRange) -> Result<(), PagingError> {
        let (start, end) = (range.start(), range.end());
        let (mut table, mut level) = (root, 4);
        let extent = (start ^ (end - 1)) | (end - start);
        for upper in [4, 3, 2] {
            if extent >> shift(upper) != 0 {
                break;
            }
            let at = slot(table, upper, range.start);
            let entry = self.platform.entry(at);
            table = if entry.is_table() {
                lower(entry)
            } else if self.is_done(entry) {
                return Ok(());
            } else {
                self.split(at, upper, entry)?
            };
            level = upper - 1;
        }
        if level == 1 {
            return self.pages(table, start, end);
        }
        self.table(table, level, start, end)
    }

    /// Whether there is nothing to do where `entry` is.
    fn is_done(&self, entry: Pte) -> bool {
        entry.is_empty() && matches!(self.change, Change::Remove | Change::Hide)
    }

    fn table(&mut self, table: Frame, level: u32, start: u64, end: u64) -> Result<(), PagingError> {
        let size = span(level);
        let mut address = start;
        while address < end {
            let base = address & !(size - 1);
            let next = match base.checked_add(size) {
                Some(next) if next < end => next,
                _ => end,
            };
            let whole = address == base && next - base == size;
            let at = slot(table, level, VirtAddr::new(address));
            let entry = self.platform.entry(at);
            if entry.is_table() {
                self.below(lower(entry), level, address, next)?;
                if whole && self.change == Change::Remove && level < 4 {
                    self.platform.set_entry(at, Pte::EMPTY);
                    self.frames.free_small(self.platform, lower(entry));
                    // Paging-structure caches may still hold the table.
                    self.stale.reduced = true;
                }
            } else if whole && level < 4 {
                if !entry.has(PteFlags::FRAME) {
                    address = self.run(at, level, address, end, entry)?;
                    self.done = address;
                    continue;
                }
                self.backed(at, level, entry)?;
            } else if !self.is_done(entry) {
                let lower = self.split(at, level, entry)?;
                self.below(lower, level, address, next)?;
            }
            address = next;
            self.done = next;
        }
        Ok(())
    }

    /// Changes the range `start..end` of a table below one of `level`.
    fn below(&mut self, table: Frame, level: u32, start: u64, end: u64) -> Result<(), PagingError> {
        if level == 2 {
            self.pages(table, start, end)
        } else {
            self.table(table, level - 1, start, end)
        }
    }

    /// Changes the range `start..end` of a table of the lowest level.
    #[inline(never)]
    fn pages(&mut self, table: Frame, start: u64, end: u64) -> Result<(), PagingError> {
        let mut at = slot(table, 1, VirtAddr::new(start));
        let last = at.skip((end - start) / PAGE);
        while at < last {
            let entry = self.platform.entry(at);
            if !entry.has(PteFlags::FRAME) {
                at = at.skip(self.alike(at, at.words_to(last), entry)?);
            } else if entry.has(PteFlags::PINNED) || !self.keeps_frames {
                self.backed(at, 1, entry)?;
                at = at.skip(1);
            } else {
                at = self.backed_run(at, last, entry);
            }
            self.done = end - at.words_to(last) * PAGE;
        }
        Ok(())
    }

    /// Changes 4 KiB entries from `at` on, the first of which is `entry`, as long as they have frames
    /// and are the process's; where the first other one is. For changes that free nothing.
    #[inline(never)]
    fn backed_run(&mut self, at: Slot, last: Slot, entry: Pte) -> Slot {
        let (kept, set) = (self.kept, self.set);
        let (mut at, mut entry, mut changed) = (at, entry, 0);
        loop {
            let new = entry.bits() & kept | set;
            if entry.has(PteFlags::PRESENT) {
                changed |= new ^ entry.bits();
            }
            self.platform.write(at, new);
            at = at.skip(1);
            if at == last {
                break;
            }
            entry = self.platform.entry(at);
            if !entry.has(PteFlags::FRAME) || entry.has(PteFlags::PINNED) {
                break;
            }
        }
        self.stale.reduced |= changed & RIGHTS_AND_PRESENT.bits() != 0;
        at
    }

    /// Replaces a uniform entry by a table of 512 entries that say the same.
    fn split(&mut self, at: Slot, level: u32, entry: Pte) -> Result<Frame, PagingError> {
        if entry.has(PteFlags::FRAME) {
            return self.split_backed(at, level, entry);
        }
        match (entry.is_empty(), self.change) {
            (true, Change::Reserve(_)) => {}
            (true, _) => return Err(PagingError::NotMapped),
            (_, Change::Reserve(_)) => return Err(PagingError::Occupied),
            _ => {}
        }
        let Some(lower) = self.frames.filled(self.platform, entry.bits()) else {
            return Err(PagingError::without_frame(self.frames));
        };
        self.platform.set_entry(at, Pte::table(lower.address()));
        Ok(lower)
    }

    /// As [`Self::split`], for an entry with a frame.
    #[inline(never)]
    fn split_backed(&mut self, at: Slot, level: u32, entry: Pte) -> Result<Frame, PagingError> {
        if entry.has(PteFlags::PINNED) {
            return Err(PagingError::Pinned);
        }
        if matches!(self.change, Change::Reserve(_)) {
            return Err(PagingError::Occupied);
        }
        let Some(lower) = self.frames.filled(self.platform, 0) else {
            return Err(PagingError::without_frame(self.frames));
        };
        let mut part = if level == 2 {
            entry.without(PteFlags::LARGE)
        } else {
            entry
        };
        for index in 0..512 {
            self.platform.set_entry(lower.slot(index), part);
            part = part.offset(span(level - 1));
        }
        self.platform.set_entry(at, Pte::table(lower.address()));
        Ok(lower)
    }

    /// Changes a run of whole, equal entries without frames that begins at `at`, the entry of `address`;
    /// where it ends.
    fn run(
        &mut self,
        at: Slot,
        level: u32,
        address: u64,
        end: u64,
        entry: Pte,
    ) -> Result<u64, PagingError> {
        let most = at.room().min((end - address) / span(level));
        let count = self.alike(at, most, entry)?;
        Ok(address + count * span(level))
    }

    /// Changes the entries from `at` on, at most `most` of one table, that equal `entry`, which has no
    /// frame; how many.
    fn alike(&mut self, at: Slot, most: u64, entry: Pte) -> Result<u64, PagingError> {
        let count = self.platform.run_length(at, most, entry.bits());
        let new = match self.change {
            Change::Protect(_) | Change::Discard if entry.is_empty() => {
                return Err(PagingError::NotMapped);
            }
            Change::Reserve(_) if !entry.is_empty() => return Err(PagingError::Occupied),
            Change::Reserve(rights) | Change::Protect(rights) => Pte::reserved(rights),
            Change::Remove => Pte::EMPTY,
            Change::Hide | Change::Discard => entry,
        };
        if new == entry {
            return Ok(count);
        }
        let backed = if self.populate {
            back_run(self.frames, self.platform, at, count, new)
        } else {
            0
        };
        if backed < count {
            self.platform
                .fill_run(at.skip(backed), count - backed, new.bits());
            if self.frames.failure().is_some() {
                return Err(PagingError::Fatal);
            }
        }
        Ok(count)
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
                let page = PhysAddr::from_entry(page.get() & !(LARGE - 1));
                self.frames.free_large(self.platform, LargeFrame::of(page));
            }
        }
        Ok(())
    }
}
