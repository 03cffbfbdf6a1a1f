// SPDX-License-Identifier: Apache-2.0

//! The memory of the one user process: `mmap` and its kin over [`Tables`].

use crate::fatal::{CallError, Fatal};
use crate::frame::Place;
use crate::frames::Frames;
use crate::launch::{Launch, SnpLaunch};
use crate::linux::Errno;
use crate::paging::{Change, Fault, Incomplete, PagingError, Stale, Tables, UserRange};
use crate::platform::Platform;
use enarx_boot::address::{Gpa, VirtAddr, VirtRange};
use enarx_boot::layout::{
    HUGE, LARGE, MMAP_END, MMAP_START, PAGE, SALLYPORT_USER, USER_END, USER_START, round_up,
};
use enarx_boot::page_table::{Access, Rights};

/// Addresses for mappings of 2 MiB and more begin here; smaller ones lie below, packed.
const LARGE_START: u64 = 0x2000_0000_0000;
/// Most the heap (`brk`) may grow, in bytes of address space.
const HEAP_LIMIT: u64 = 512 * HUGE;
/// Free address ranges remembered for reuse in each area.
const HOLES: usize = 32;

/// User memory.
#[derive(Debug)]
pub struct AddressSpace {
    tables: Tables,
    frames: Frames,
    small: Area,
    large: Area,
    heap: Heap,
}

/// The heap, which begins at the end of the runtime's image.
#[derive(Debug)]
struct Heap {
    start: VirtAddr,
    /// Its end as the process knows it.
    end: VirtAddr,
    /// Its end in the tables.
    mapped: VirtAddr,
}

/// Addresses that `mmap` assigns: upwards, reusing those freed by `munmap`. Every address from `start` to `next` is
/// in use, in a hole, or forgotten.
#[derive(Debug)]
struct Area {
    start: VirtAddr,
    next: VirtAddr,
    end: VirtAddr,
    holes: [VirtRange; HOLES],
    count: usize,
}

impl Area {
    const fn new(start: u64, end: u64) -> Self {
        let start = VirtAddr::new(start);
        Self {
            start,
            next: start,
            end: VirtAddr::new(end),
            holes: [VirtRange::EMPTY; HOLES],
            count: 0,
        }
    }

    /// Takes out the first hole that `fits`.
    fn remove(&mut self, fits: impl Fn(&VirtRange) -> bool) -> Option<VirtRange> {
        let index = self.holes.iter().take(self.count).position(fits)?;
        self.count -= 1;
        let last = *self.holes.get(self.count)?;
        Some(core::mem::replace(self.holes.get_mut(index)?, last))
    }

    fn take(&mut self, length: u64, align: u64) -> Option<VirtAddr> {
        let place = |start: VirtAddr| {
            let base = start.align_up(align)?;
            Some((base, base.checked_offset(length)?))
        };
        let fits = |hole: &VirtRange| place(hole.start).is_some_and(|(_, top)| top <= hole.end);
        if let Some(hole) = self.remove(fits) {
            let (base, top) = place(hole.start)?;
            if hole.start < base {
                self.give(hole.start, base);
            }
            if top < hole.end {
                self.give(top, hole.end);
            }
            return Some(base);
        }
        let (base, top) = place(self.next)?;
        if top > self.end {
            return None;
        }
        let skipped = self.next;
        self.next = top;
        if skipped < base {
            self.give(skipped, base);
        }
        Some(base)
    }

    /// Records a free range below `next`; if there is no room, the smallest one is forgotten (addresses are
    /// plentiful).
    fn give(&mut self, start: VirtAddr, end: VirtAddr) {
        let mut hole = VirtRange::new(start, end);
        // Adjacent or overlapping: a range may be unmapped twice.
        while let Some(other) =
            self.remove(|other| other.start <= hole.end && hole.start <= other.end)
        {
            hole.start = hole.start.min(other.start);
            hole.end = hole.end.max(other.end);
        }
        if hole.end == self.next {
            self.next = hole.start;
            return;
        }
        if let Some(room) = self.holes.get_mut(self.count) {
            *room = hole;
            self.count += 1;
            return;
        }
        if let Some(smallest) = self.holes.iter_mut().min_by_key(|hole| hole.length())
            && smallest.length() < hole.length()
        {
            *smallest = hole;
        }
    }

    /// Takes back the part of a free range that lies in this area.
    fn release(&mut self, range: VirtRange) {
        let (start, end) = (range.start.max(self.start), range.end.min(self.next));
        if start < end {
            self.give(start, end);
        }
    }

    /// Marks the part of a range that lies in this area as used, because the caller chose the addresses.
    fn claim(&mut self, range: VirtRange) {
        let (start, end) = (range.start.max(self.start), range.end.min(self.end));
        if start >= end {
            return;
        }
        if end > self.next {
            let skipped = self.next;
            self.next = end;
            if skipped < start {
                self.give(skipped, start);
            }
        }
        while let Some(hole) = self.remove(|hole| hole.start < end && start < hole.end) {
            if hole.start < start {
                self.give(hole.start, start);
            }
            if end < hole.end {
                self.give(end, hole.end);
            }
        }
    }
}

/// A change of user memory that other vCPUs may have to learn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Free the range.
    Unmap,
    /// Keep the range, forget its contents.
    Discard,
}

/// A failed mapping, which may exist partially: the caller unmaps it like any other, with every TLB flushed before
/// its frames are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub error: CallError,
    /// That part; `None` if nothing was mapped.
    pub part: Option<UserRange>,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self {
            error: errno.into(),
            part: None,
        }
    }
}

impl AddressSpace {
    /// Nothing mapped, no memory.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            tables: Tables::none(),
            frames: Frames::none(),
            small: Area::new(MMAP_START, LARGE_START),
            large: Area::new(LARGE_START, MMAP_END),
            heap: Heap {
                start: VirtAddr::new(0),
                end: VirtAddr::new(0),
                mapped: VirtAddr::new(0),
            },
        }
    }

    /// Takes over the address space that the launcher prepared.
    pub(crate) fn boot(&mut self, launch: &Launch, memory_end: Gpa) {
        self.tables = Tables::new(launch.root, launch.c_bit);
        self.frames.boot(launch, memory_end);
        let boot = &launch.boot;
        self.heap = Heap {
            start: VirtAddr::new(boot.heap_start),
            end: VirtAddr::new(boot.heap_start),
            mapped: VirtAddr::new(boot.heap_mapped),
        };
    }

    /// The allocator of frames.
    pub const fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// Adds the pages of the runtime image, which it has left; once.
    pub(crate) fn add_memory(&mut self, launch: &SnpLaunch) {
        self.frames.add(launch, self.tables.c_bit());
    }

    /// The end of a Keep for `fatal`, unless a fresh page could not be accepted.
    pub(crate) fn end(&self, fatal: Fatal) -> Fatal {
        self.frames.end(fatal)
    }

    /// Moves the start of the mappings by `random`, so that addresses differ from run to run.
    pub fn randomise(&mut self, random: u64) {
        // 2^31 pages and 2^20 times 1 GiB at most, well inside the areas.
        let (small, large) = (&mut self.small.next, &mut self.large.next);
        *small = small.offset((random & 0x7fff_ffff) * PAGE);
        *large = large.offset(((random >> 32) & 0xfff) * HUGE);
    }

    /// Free memory, in bytes.
    #[must_use]
    pub fn free_memory(&self) -> u64 {
        self.frames.free()
    }

    /// Rights of the page at an address; `None` where nothing of the process is mapped.
    pub fn rights<P: Platform>(&self, platform: &P, address: u64) -> Option<Rights> {
        if address >= USER_END {
            return None;
        }
        self.tables.rights(platform, VirtAddr::new(address))
    }

    /// Handles a fault at any address.
    pub fn fault<P: Platform>(&mut self, platform: &mut P, address: u64, access: Access) -> Fault {
        if address >= USER_END {
            return Fault::Denied;
        }
        let address = VirtAddr::new(address);
        self.tables
            .fault(&mut self.frames, platform, address, access)
    }

    /// Maps `length` bytes of zeroed memory at an address of its choice, and returns that.
    ///
    /// # Errors
    /// [`Errno::Inval`] for a bad length, [`Errno::NoMem`] without memory or addresses; with the range to unmap.
    pub fn map<P: Platform>(
        &mut self,
        platform: &mut P,
        length: u64,
        rights: Rights,
    ) -> Result<VirtAddr, Failed> {
        let length = round_up(length, PAGE).filter(|&length| length != 0);
        let length = length.ok_or(Errno::Inval)?;
        let (area, align) = match length {
            HUGE.. => (&mut self.large, HUGE),
            LARGE.. => (&mut self.large, LARGE),
            _ => (&mut self.small, PAGE),
        };
        let start = area.take(length, align).ok_or(Errno::NoMem)?;
        let range = UserRange::chosen(start, start.offset(length));
        let reserved = self
            .tables
            .reserve(&mut self.frames, platform, range, rights);
        if reserved.is_err() {
            area.release(range.addresses());
        }
        reserved.map_err(|incomplete| self.failed(start, incomplete))?;
        Ok(start)
    }

    /// Maps zeroed memory in a range where nothing is mapped any more.
    ///
    /// # Errors
    /// [`Errno::Exist`] if something is mapped there, [`Errno::NoMem`] without memory; with the range to unmap.
    pub fn map_at<P: Platform>(
        &mut self,
        platform: &mut P,
        range: UserRange,
        rights: Rights,
    ) -> Result<(), Failed> {
        self.tables
            .reserve(&mut self.frames, platform, range, rights)
            .map_err(|incomplete| self.failed(range.addresses().start, incomplete))?;
        self.small.claim(range.addresses());
        self.large.claim(range.addresses());
        Ok(())
    }

    /// Unmaps memory that the launch has mapped, in steps of 2 MiB, and frees nothing; the caller has to flush every
    /// TLB.
    pub fn withdraw<P: Platform>(&mut self, platform: &mut P, start: VirtAddr, end: VirtAddr) {
        self.tables.withdraw(platform, start, end);
    }

    /// Changes a range: [`Change::Protect`], or [`Change::Hide`] ahead of [`Self::finish`]. A page that stays hidden
    /// because something failed comes back by a fault.
    ///
    /// # Errors
    /// [`Errno::NoMem`] (also for unmapped parts), [`Errno::Access`].
    pub fn change<P: Platform>(
        &mut self,
        platform: &mut P,
        range: UserRange,
        change: Change,
    ) -> Result<Stale, CallError> {
        let changed = self
            .tables
            .change(&mut self.frames, platform, range, change);
        changed.map_err(|error| self.call_error(error))
    }

    /// Frees the frames of a range. While other vCPUs run, [`Change::Hide`] and a flush of every TLB come first.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn finish<P: Platform>(
        &mut self,
        platform: &mut P,
        removal: Removal,
        range: UserRange,
    ) -> Result<Stale, CallError> {
        if removal == Removal::Discard {
            return self.change(platform, range, Change::Discard);
        }
        let stale = self.change(platform, range, Change::Remove)?;
        self.small.release(range.addresses());
        self.large.release(range.addresses());
        Ok(stale)
    }

    /// The end of the heap.
    #[must_use]
    pub const fn heap_end(&self) -> u64 {
        self.heap.end.get()
    }

    /// Moves the end of the heap, to whole pages: an odd end would cost a C library another call.
    ///
    /// # Errors
    /// [`Errno::NoMem`], with the range to unmap.
    pub fn set_heap_end<P: Platform>(&mut self, platform: &mut P, end: u64) -> Result<(), Failed> {
        let heap = &self.heap;
        let end = VirtAddr::new(end).align_up(PAGE).ok_or(Errno::NoMem)?;
        let is_heap = heap.start <= end && heap.start.bytes_to(end) <= HEAP_LIMIT;
        if !is_heap || end.get() >= SALLYPORT_USER {
            return Err(Errno::NoMem.into());
        }
        let needed = end.align_up(LARGE).ok_or(Errno::NoMem)?;
        if needed > heap.mapped {
            let (start, rights) = (heap.mapped, Rights::ReadWrite);
            let range = UserRange::new(start, start.bytes_to(needed)).ok_or(Errno::Inval)?;
            self.tables
                .reserve(&mut self.frames, platform, range, rights)
                .map_err(|incomplete| self.failed(start, incomplete))?;
            self.heap.mapped = needed;
        }
        self.heap.end = end;
        Ok(())
    }

    /// The part of the heap that a lower end gives up, and which must read as zeros when the
    /// heap grows again.
    #[must_use]
    pub fn heap_surplus(&self, end: u64) -> Option<UserRange> {
        let end = VirtAddr::new(end);
        let (start, top) = (end.align_up(PAGE)?, self.heap.end);
        let gives_up = end >= self.heap.start && start < top;
        UserRange::new(start, start.bytes_to(top)).filter(|_| gives_up)
    }

    /// The memory at a user address, for access by the kernel.
    fn reach<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        access: Access,
    ) -> Result<Place, CallError> {
        if !(USER_START..USER_END).contains(&address) {
            return Err(Errno::Fault.into());
        }
        let address = VirtAddr::new(address);
        match self.tables.translate(platform, address, access) {
            Some(place) => Ok(place),
            None => self.reach_by_fault(platform, address, access),
        }
    }

    /// Like [`Self::reach`], for addresses that have no frame yet.
    #[cold]
    #[inline(never)]
    fn reach_by_fault<P: Platform>(
        &mut self,
        platform: &mut P,
        address: VirtAddr,
        access: Access,
    ) -> Result<Place, CallError> {
        match self
            .tables
            .fault(&mut self.frames, platform, address, access)
        {
            Fault::Resolved => self
                .tables
                .translate(platform, address, access)
                .ok_or(Errno::Fault.into()),
            Fault::Denied => Err(Errno::Fault.into()),
            Fault::NoFrame => Err(self.no_frame()),
        }
    }

    /// Copies from user memory that the process may read.
    ///
    /// # Errors
    /// [`Errno::Fault`] where it may not.
    pub fn read<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        to: &mut [u8],
    ) -> Result<(), CallError> {
        let place = self.reach(platform, address, Access::Read)?;
        let count = platform.read_bytes(place, to);
        if count == to.len() {
            return Ok(());
        }
        self.read_on(platform, address, to, count)
    }

    /// The rest of [`Self::read`] after the first `done` bytes.
    #[cold]
    #[inline(never)]
    fn read_on<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        to: &mut [u8],
        done: usize,
    ) -> Result<(), CallError> {
        let at = address.checked_add(done as u64).ok_or(Errno::Fault)?;
        self.read(platform, at, to.get_mut(done..).unwrap_or(&mut []))
    }

    /// Copies to user memory that the process may write.
    ///
    /// # Errors
    /// [`Errno::Fault`] where it may not.
    pub fn write<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        from: &[u8],
    ) -> Result<(), CallError> {
        let place = self.reach(platform, address, Access::Write)?;
        let count = platform.write_bytes(place, from);
        if count == from.len() {
            return Ok(());
        }
        self.write_on(platform, address, from, count)
    }

    /// The rest of [`Self::write`] after the first `done` bytes.
    #[cold]
    #[inline(never)]
    fn write_on<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        from: &[u8],
        done: usize,
    ) -> Result<(), CallError> {
        let at = address.checked_add(done as u64).ok_or(Errno::Fault)?;
        self.write(platform, at, from.get(done..).unwrap_or(&[]))
    }

    /// Reads code bytes at `address` as far as they are executable; returns their number.
    pub fn read_code<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
        to: &mut [u8],
    ) -> usize {
        let mut done = 0;
        while done < to.len() {
            let Some(at) = address.checked_add(done as u64).filter(|&at| at < USER_END) else {
                break;
            };
            let address = VirtAddr::new(at);
            let Some(place) = self.tables.translate(platform, address, Access::Execute) else {
                break;
            };
            let Some(part) = to.get_mut(done..) else {
                break;
            };
            done += platform.read_bytes(place, part);
        }
        done
    }

    /// Reads an aligned 32-bit word of user memory (a futex).
    ///
    /// # Errors
    /// [`Errno::Inval`] if misaligned, [`Errno::Fault`] where the process may not read.
    pub fn read_u32<P: Platform>(
        &mut self,
        platform: &mut P,
        address: u64,
    ) -> Result<u32, CallError> {
        if !address.is_multiple_of(4) {
            return Err(Errno::Inval.into());
        }
        let mut bytes = [0; 4];
        self.read(platform, address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn failed(&self, start: VirtAddr, incomplete: Incomplete) -> Failed {
        Failed {
            error: self.call_error(incomplete.error),
            part: UserRange::new(start, start.bytes_to(incomplete.done)),
        }
    }

    fn call_error(&self, error: PagingError) -> CallError {
        match error {
            PagingError::NoFrame => self.no_frame(),
            PagingError::NotMapped => Errno::NoMem.into(),
            PagingError::Pinned => Errno::Access.into(),
            PagingError::Occupied => Errno::Exist.into(),
        }
    }

    /// Why there was no frame.
    fn no_frame(&self) -> CallError {
        match self.frames.failure() {
            Some(_) => CallError::Fatal,
            None => Errno::NoMem.into(),
        }
    }
}
