//! Page tables as the only record of the user address space.
//!
//! An entry says whether its range is free, reserved with which rights, or backed by a frame; a
//! uniform range of any size is one entry per 1 GiB, 2 MiB or 4 KiB. There is no second
//! structure that could disagree with what the CPU sees.
//! The meaning of an entry's bits is in [`enarx_boot::page_table`].

use crate::frames::Frames;
use enarx_boot::layout::{HUGE, LARGE, PAGE};
use enarx_boot::page_table::bits::{ADDRESS, FRAME, PINNED, PRESENT, RESERVED};
use enarx_boot::page_table::{Access, RIGHTS, Rights, bits, table_entry};

use crate::platform::Platform;

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
}

/// Pages mapped by one fault where their entries are alike: 64 KiB.
const FAULT_AROUND: u64 = 16;

/// The user half of the page tables under one root.
#[derive(Debug)]
pub struct Tables {
    root: u64,
    /// The C-bit: entries without it are memory shared with the host, which the microkernel does
    /// not touch on behalf of the process.
    private: u64,
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

/// Bits of an address below the index of `level`.
const fn shift(level: u32) -> u32 {
    3 + 9 * level
}

/// Bytes that one entry of `level` covers.
const fn span(level: u32) -> u64 {
    1 << shift(level)
}

const _: () = assert!(span(1) == PAGE && span(2) == LARGE && span(3) == HUGE);

/// Physical address of the entry for `address` in `table` at `level`.
const fn slot(table: u64, level: u32, address: u64) -> u64 {
    table + ((address >> shift(level)) & 511) * 8
}

/// Physical address of the entry at `level` for any virtual address in the tables under `root`; none
/// where no table leads there.
pub fn entry_at<P: Platform>(platform: &P, root: u64, address: u64, level: u32) -> Option<u64> {
    let mut table = root;
    for above in (level + 1..=4).rev() {
        let entry = platform.read(slot(table, above, address));
        if entry & (PRESENT | bits::LARGE) != PRESENT {
            return None;
        }
        table = entry & ADDRESS;
    }
    Some(slot(table, level, address))
}

const fn is_table(entry: u64) -> bool {
    entry & PRESENT != 0 && entry & RESERVED == 0
}

impl Tables {
    /// The tables under `root`, a PML4 made by the launcher; `private` is the C-bit, or 0.
    #[must_use]
    pub const fn new(root: u64, private: u64) -> Self {
        Self { root, private }
    }

    /// Reserves `start..end`, which is free, with `rights`.
    ///
    /// # Errors
    /// [`PagingError::OutOfMemory`], [`PagingError::Occupied`], [`PagingError::Pinned`]; nothing
    /// is reserved then.
    pub fn reserve<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
        rights: Rights,
    ) -> Result<(), PagingError> {
        let mut walk = Walk::new(frames, platform, Change::Reserve(rights), start, end);
        if let Err(error) = walk.descend(self.root, start, end) {
            let done = walk.done;
            // What was reserved before is whole entries: this cannot fail.
            self.change(frames, platform, start, done, Change::Remove)?;
            return Err(error);
        }
        Ok(())
    }

    /// Gives the mapped range `start..end` other rights.
    ///
    /// # Errors
    /// [`PagingError::NotMapped`] or [`PagingError::Pinned`] where the range is not the process's,
    /// [`PagingError::OutOfMemory`]; what was changed until then stays.
    pub fn protect<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
        rights: Rights,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, start, end, Change::Protect(rights))
    }

    /// Takes all access to `start..end` away without freeing anything: what must happen, with
    /// every TLB flushed, before [`Self::remove`] or [`Self::discard`] while other vCPUs run.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn hide<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, start, end, Change::Hide)
    }

    /// Frees `start..end`; parts that are free already stay so.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn remove<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, start, end, Change::Remove)
    }

    /// Frees the frames of `start..end`; the range stays reserved and reads as zeros.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn discard<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
    ) -> Result<Stale, PagingError> {
        self.change(frames, platform, start, end, Change::Discard)
    }

    fn change<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        start: u64,
        end: u64,
        change: Change,
    ) -> Result<Stale, PagingError> {
        let mut walk = Walk::new(frames, platform, change, start, end);
        walk.descend(self.root, start, end)?;
        Ok(walk.stale)
    }

    /// Clears the pinned 2 MiB entries of `start..end`.
    pub fn withdraw<P: Platform>(&mut self, platform: &mut P, start: u64, end: u64) {
        for address in (start..end).step_by(2 << 20) {
            if let Some(at) = entry_at(platform, self.root, address, 2) {
                platform.write(at, 0);
            }
        }
    }

    /// The lowest entry for `address`, and its level.
    fn leaf<P: Platform>(&self, platform: &P, address: u64) -> (u64, u32) {
        let mut table = self.root;
        for level in [4, 3, 2] {
            let entry = platform.read(slot(table, level, address));
            if !is_table(entry) {
                return (entry, level);
            }
            table = entry & ADDRESS;
        }
        (platform.read(slot(table, 1, address)), 1)
    }

    /// Rights of the page at `address`; none where it is not mapped.
    pub fn rights<P: Platform>(&self, platform: &P, address: u64) -> Option<Rights> {
        let (entry, _) = self.leaf(platform, address);
        (entry & RESERVED != 0).then(|| Rights::of(entry))
    }

    /// The physical address behind `address` where the tables allow the access now.
    pub fn translate<P: Platform>(
        &self,
        platform: &P,
        address: u64,
        access: Access,
    ) -> Option<u64> {
        let (entry, level) = self.leaf(platform, address);
        let (needed, refused) = access.bits();
        let needed = needed | self.private;
        let offset = span(level) - 1;
        (entry & (needed | refused) == needed)
            .then_some((entry & ADDRESS & !offset) + (address & offset))
    }

    /// Handles a fault of `access` at `address`, a user address: gives it a frame where the
    /// rights allow the access.
    pub fn fault<P: Platform>(
        &mut self,
        frames: &mut Frames,
        platform: &mut P,
        address: u64,
        access: Access,
    ) -> Fault {
        let mut table = self.root;
        let mut level = 4;
        loop {
            let at = slot(table, level, address);
            let entry = platform.read(at);
            if is_table(entry) && level > 1 {
                table = entry & ADDRESS;
                level -= 1;
                continue;
            }
            if entry & RESERVED == 0 || !Rights::of(entry).allow(access) {
                return Fault::Denied;
            }
            if entry & PRESENT != 0 {
                // Another vCPU was faster.
                return Fault::Resolved;
            }
            if entry & FRAME != 0 {
                // Hidden by a removal that failed: its contents are still the page's.
                platform.write(at, entry | PRESENT);
                return Fault::Resolved;
            }
            if level == 1 {
                return Self::back_small(frames, platform, at, entry);
            }
            if level == 2
                && let Some(frame) = frames.large(platform)
            {
                platform.write(at, entry | frame | FRAME | PRESENT | bits::LARGE);
                return Fault::Resolved;
            }
            let Some(lower) = frames.filled(platform, entry) else {
                return Fault::OutOfMemory;
            };
            platform.write(at, table_entry(lower));
            table = lower;
            level -= 1;
        }
    }

    /// Backs the 4 KiB entry at `at`, and those of its block that are alike: the following ones, and all before
    /// it when nothing of the block has a frame yet. Memory is filled from its end too: the C library copies so
    /// where both addresses end alike.
    fn back_small<P: Platform>(
        frames: &mut Frames,
        platform: &mut P,
        at: u64,
        entry: u64,
    ) -> Fault {
        let block = at & !(FAULT_AROUND * 8 - 1);
        let end = block + FAULT_AROUND * 8;
        let before = (at - block) / 8;
        let at = if platform.run_length(block, before, entry) == before {
            block
        } else {
            at
        };
        let count = platform.run_length(at, (end - at) / 8, entry);
        match back_run(frames, platform, at, count, entry) {
            0 => Fault::OutOfMemory,
            _ => Fault::Resolved,
        }
    }
}

/// Gives frames to `count` 4 KiB entries from `at` on, which become `entry` with a frame each; how
/// many got one.
fn back_run<P: Platform>(
    frames: &mut Frames,
    platform: &mut P,
    at: u64,
    count: u64,
    entry: u64,
) -> u64 {
    let mut backed = 0;
    while backed < count
        && let Some((first, found)) = frames.small_run(platform, count - backed)
    {
        platform.fill_rising(at + backed * 8, found, first | entry | FRAME | PRESENT);
        backed += found;
    }
    backed
}

/// One pass over a range.
struct Walk<'a, P> {
    frames: &'a mut Frames,
    platform: &'a mut P,
    change: Change,
    stale: Stale,
    /// Everything below this address in the range has been changed.
    done: u64,
    /// What an entry with a frame keeps, and what it gets.
    kept: u64,
    set: u64,
    /// Entries with frames keep them.
    keeps_frames: bool,
    /// Pages that become writable get their frames now: there are so few of them that the faults
    /// would cost more.
    populate: bool,
}

impl<'a, P: Platform> Walk<'a, P> {
    fn new(
        frames: &'a mut Frames,
        platform: &'a mut P,
        change: Change,
        start: u64,
        end: u64,
    ) -> Self {
        let writable = matches!(
            change,
            Change::Reserve(Rights::ReadWrite) | Change::Protect(Rights::ReadWrite)
        );
        let (kept, set) = match change {
            // An entry with a frame is in the way.
            Change::Reserve(_) => (u64::MAX, 0),
            Change::Protect(rights) => (
                !(RIGHTS | PRESENT | bits::ACCESSED_DIRTY),
                rights.bits() | if rights == Rights::None { 0 } else { PRESENT },
            ),
            Change::Hide => (!PRESENT, 0),
            Change::Remove => (0, 0),
            Change::Discard => (RIGHTS | RESERVED, 0),
        };
        Self {
            frames,
            platform,
            change,
            stale: Stale::default(),
            done: start,
            kept,
            set,
            keeps_frames: matches!(change, Change::Protect(_) | Change::Hide),
            populate: writable && end - start <= FAULT_AROUND * PAGE,
        }
    }

    /// Changes `start..end` under `root`: goes down as far as the whole range is a part of one entry.
    fn descend(&mut self, root: u64, start: u64, end: u64) -> Result<(), PagingError> {
        let (mut table, mut level) = (root, 4);
        let extent = (start ^ (end - 1)) | (end - start);
        for upper in [4, 3, 2] {
            if extent >> shift(upper) != 0 {
                break;
            }
            let at = slot(table, upper, start);
            let entry = self.platform.read(at);
            table = if is_table(entry) {
                entry & ADDRESS
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
    fn is_done(&self, entry: u64) -> bool {
        entry == 0 && matches!(self.change, Change::Remove | Change::Hide)
    }

    fn table(&mut self, table: u64, level: u32, start: u64, end: u64) -> Result<(), PagingError> {
        let size = span(level);
        let mut address = start;
        while address < end {
            let base = address & !(size - 1);
            let next = match base.checked_add(size) {
                Some(next) if next < end => next,
                _ => end,
            };
            let whole = address == base && next - base == size;
            let at = slot(table, level, address);
            let entry = self.platform.read(at);
            if is_table(entry) {
                self.below(entry & ADDRESS, level, address, next)?;
                if whole && self.change == Change::Remove && level < 4 {
                    self.platform.write(at, 0);
                    self.frames.free_small(self.platform, entry & ADDRESS);
                    // Paging-structure caches may still hold the table.
                    self.stale.reduced = true;
                }
            } else if whole && level < 4 {
                if entry & FRAME == 0 {
                    address = self.run(table, level, address, end, entry)?;
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
    fn below(&mut self, table: u64, level: u32, start: u64, end: u64) -> Result<(), PagingError> {
        if level == 2 {
            self.pages(table, start, end)
        } else {
            self.table(table, level - 1, start, end)
        }
    }

    /// Changes the range `start..end` of a table of the lowest level.
    #[inline(never)]
    fn pages(&mut self, table: u64, start: u64, end: u64) -> Result<(), PagingError> {
        let mut at = slot(table, 1, start);
        let last = at + (end - start) / PAGE * 8;
        while at < last {
            let entry = self.platform.read(at);
            if entry & FRAME == 0 {
                at += self.alike(at, (last - at) / 8, entry)? * 8;
            } else if entry & PINNED != 0 || !self.keeps_frames {
                self.backed(at, 1, entry)?;
                at += 8;
            } else {
                at = self.backed_run(at, last, entry);
            }
            self.done = end - (last - at) / 8 * PAGE;
        }
        Ok(())
    }

    /// Changes 4 KiB entries from `at` on, the first of which is `entry`, as long as they have frames
    /// and are the process's; where the first other one is. For changes that free nothing.
    #[inline(never)]
    fn backed_run(&mut self, at: u64, last: u64, entry: u64) -> u64 {
        let (kept, set) = (self.kept, self.set);
        let (mut at, mut entry, mut changed) = (at, entry, 0);
        loop {
            let new = entry & kept | set;
            if entry & PRESENT != 0 {
                changed |= new ^ entry;
            }
            self.platform.write(at, new);
            at += 8;
            if at == last {
                break;
            }
            entry = self.platform.read(at);
            if entry & (FRAME | PINNED) != FRAME {
                break;
            }
        }
        self.stale.reduced |= changed & (RIGHTS | PRESENT) != 0;
        at
    }

    /// Replaces a uniform entry by a table of 512 entries that say the same.
    fn split(&mut self, at: u64, level: u32, entry: u64) -> Result<u64, PagingError> {
        if entry & FRAME != 0 {
            return self.split_backed(at, level, entry);
        }
        match (entry, self.change) {
            (0, Change::Reserve(_)) => {}
            (0, _) => return Err(PagingError::NotMapped),
            (_, Change::Reserve(_)) => return Err(PagingError::Occupied),
            _ => {}
        }
        let lower = self
            .frames
            .filled(self.platform, entry)
            .ok_or(PagingError::OutOfMemory)?;
        self.platform.write(at, table_entry(lower));
        Ok(lower)
    }

    /// As [`Self::split`], for an entry with a frame.
    #[inline(never)]
    fn split_backed(&mut self, at: u64, level: u32, entry: u64) -> Result<u64, PagingError> {
        if entry & PINNED != 0 {
            return Err(PagingError::Pinned);
        }
        if matches!(self.change, Change::Reserve(_)) {
            return Err(PagingError::Occupied);
        }
        let lower = self
            .frames
            .filled(self.platform, 0)
            .ok_or(PagingError::OutOfMemory)?;
        let mut part = if level == 2 {
            entry & !bits::LARGE
        } else {
            entry
        };
        for index in 0..512 {
            self.platform.write(lower + index * 8, part);
            part += span(level - 1);
        }
        self.platform.write(at, table_entry(lower));
        Ok(lower)
    }

    /// Changes a run of whole, equal entries without frames that begins at `address`; where it
    /// ends.
    fn run(
        &mut self,
        table: u64,
        level: u32,
        address: u64,
        end: u64,
        entry: u64,
    ) -> Result<u64, PagingError> {
        let at = slot(table, level, address);
        let room = 512 - (at % PAGE) / 8;
        let most = room.min((end - address) / span(level));
        let count = self.alike(at, most, entry)?;
        Ok(address + count * span(level))
    }

    /// Changes the entries from `at` on, at most `most` of one table, that equal `entry`, which has no
    /// frame; how many.
    fn alike(&mut self, at: u64, most: u64, entry: u64) -> Result<u64, PagingError> {
        let count = self.platform.run_length(at, most, entry);
        let new = match self.change {
            Change::Protect(_) | Change::Discard if entry == 0 => {
                return Err(PagingError::NotMapped);
            }
            Change::Reserve(_) if entry != 0 => return Err(PagingError::Occupied),
            Change::Reserve(rights) | Change::Protect(rights) => RESERVED | rights.bits(),
            Change::Remove => 0,
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
            let rest = at + backed * 8;
            self.platform.fill_run(rest, count - backed, new);
        }
        Ok(count)
    }

    /// Changes one entry that holds a frame.
    fn backed(&mut self, at: u64, level: u32, entry: u64) -> Result<(), PagingError> {
        if entry & PINNED != 0 {
            return Err(PagingError::Pinned);
        }
        if matches!(self.change, Change::Reserve(_)) {
            return Err(PagingError::Occupied);
        }
        let new = entry & self.kept | self.set;
        if entry & PRESENT != 0 && (new ^ entry) & (RIGHTS | PRESENT | FRAME) != 0 {
            self.stale.reduced = true;
        }
        self.platform.write(at, new);
        if matches!(self.change, Change::Remove | Change::Discard) {
            let frame = entry & ADDRESS;
            if level == 1 {
                self.frames.free_small(self.platform, frame);
            } else {
                self.frames.free_large(self.platform, frame & !(LARGE - 1));
            }
        }
        Ok(())
    }
}
