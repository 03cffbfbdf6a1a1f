// SPDX-License-Identifier: Apache-2.0

//! Physical frames: 2 MiB frames from the Keep's memory, 4 KiB frames carved out of them.
//!
//! Memory is *fresh* until its first use: zero under plain KVM, to be accepted by the ledger under SNP. The
//! first word of a freed frame is the link of the free list; a frame is freed only when no vCPU can reach it
//! any more.

use core::ops::Range;

use enarx_boot::address::{CBit, Gpa, PhysAddr};
use enarx_boot::layout::{DIRECT_MAP_SIZE, HUGE, LARGE, LAUNCH_END, PAGE};
use enarx_boot::page_table::{Pte, PteFlags};
use enarx_exits::{ExitFunction, Reason};

use crate::fatal::Fatal;
use crate::frame::{Frame, LargeFrame};
use crate::kind::HAS_SNP;
use crate::launch::{Launch, SnpLaunch};
use crate::platform::Platform;
use crate::snp::pages::{Ledger, Refused};

/// The allocator of physical frames.
#[derive(Debug)]
pub struct Frames {
    /// 2 MiB pages never handed out.
    fresh: Range<PhysAddr>,
    /// More of them, for when those are used up.
    reserve: Range<PhysAddr>,
    /// 4 KiB frames being carved, all from one 2 MiB frame (or the launch area).
    carve: Range<PhysAddr>,
    /// The carved frame is fresh.
    carve_fresh: bool,
    /// The carved frames have to be accepted one by one: they are not part of an accepted 2 MiB frame.
    carve_single: bool,
    free_small: FreeList,
    /// Former tables, which become only tables again: a vCPU in the microkernel flushes before it returns to user code, and
    /// until then its paging-structure caches may lead a speculative walk here, which sets bits in what it takes for entries.
    free_tables: FreeList,
    free_large: FreeList,
    /// The ledger of the pages that belong to the Keep; `None` without SNP.
    ledger: Option<Ledger>,
    /// The page that could not be accepted, which ends the Keep.
    refused: Option<Refused>,
}

/// Freed frames, each with the address of the next in its first word.
#[derive(Debug)]
struct FreeList {
    /// The first one.
    head: Option<PhysAddr>,
    count: u64,
}

impl FreeList {
    const EMPTY: Self = Self {
        head: None,
        count: 0,
    };

    /// Adds a frame, or a 2 MiB frame by its first part.
    fn push<P: Platform>(&mut self, platform: &mut P, frame: Frame) {
        // An empty entry ends the list: page 0 is never a free frame.
        platform.set_entry(frame.slot(0), self.head.map_or(Pte::EMPTY, Pte::link));
        self.head = Some(frame.address());
        self.count += 1;
    }

    /// Takes out a frame, or the first part of a 2 MiB frame.
    fn pop<P: Platform>(&mut self, platform: &P) -> Option<Frame> {
        let frame = Frame::of(self.head?);
        let next = platform.entry(frame.slot(0));
        self.head = (!next.is_empty()).then(|| next.address());
        self.count -= 1;
        Some(frame)
    }
}

const EMPTY: Range<PhysAddr> = PhysAddr::NOWHERE..PhysAddr::NOWHERE;

const fn length(range: &Range<PhysAddr>) -> u64 {
    range.start.bytes_to(range.end)
}

impl Frames {
    /// No memory.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            fresh: EMPTY,
            reserve: EMPTY,
            carve: EMPTY,
            carve_fresh: true,
            carve_single: false,
            free_small: FreeList::EMPTY,
            free_tables: FreeList::EMPTY,
            free_large: FreeList::EMPTY,
            ledger: None,
            refused: None,
        }
    }

    /// Takes the pages that the launch has left free, up to `memory_end`, which the caller has checked. It is called once.
    /// With a ledger, each page is accepted before it is used.
    pub fn boot(&mut self, launch: &Launch, memory_end: Gpa) {
        let private = |gpa: u64| launch.c_bit.private(Gpa::new(gpa));
        self.fresh = private(launch.boot.free_start)..private(memory_end.get());
        self.carve = private(launch.boot.launch_free)..private(LAUNCH_END);
        self.ledger = Ledger::new(launch);
        self.carve_single = self.ledger.is_some();
    }

    /// Adds the fresh 2 MiB pages that had the runtime image. It is called once.
    pub fn add(&mut self, launch: &SnpLaunch, c_bit: CBit) {
        let (start, end) = launch.image;
        self.reserve = c_bit.private(start)..c_bit.private(end);
    }

    /// The ledger; `None` without SNP.
    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref().filter(|_| HAS_SNP)
    }

    /// Why there was no frame: a page that was refused, which ends the Keep, or `None` if all memory is in use.
    #[must_use]
    pub fn failure(&self) -> Option<Refused> {
        self.refused.filter(|_| HAS_SNP)
    }

    /// Gives the ledger the tables that it needs for memory up to `end`; the launch made the table of the first GiB.
    ///
    /// # Errors
    /// [`Reason::OutOfMemory`] when there is no frame for a table.
    pub fn extend_ledger<P: Platform>(&mut self, platform: &mut P, end: Gpa) -> Result<(), Fatal> {
        let mut start = Gpa::new(HUGE);
        while start < end.min(Gpa::new(DIRECT_MAP_SIZE))
            && let Some(ledger) = self.ledger()
        {
            let at = ledger.gib(platform, start)?;
            let table = self.small_or_end(platform, 0)?;
            let flags = PteFlags::PRESENT.union(PteFlags::WRITE);
            platform.set_entry(at, Pte::new(table.address(), flags));
            start = start.offset(HUGE);
        }
        Ok(())
    }

    /// The end of a Keep that cannot go on: a page that was refused, or else `fatal`.
    pub(crate) fn end(&self, fatal: Fatal) -> Fatal {
        self.failure().map_or(fatal, Fatal::from)
    }

    /// Free memory, in bytes.
    #[must_use]
    pub const fn free(&self) -> u64 {
        length(&self.fresh)
            + length(&self.reserve)
            + length(&self.carve)
            + (self.free_small.count + self.free_tables.count) * PAGE
            + self.free_large.count * LARGE
    }

    /// A zeroed 2 MiB frame; `None`: [`Self::failure`].
    pub fn large<P: Platform>(&mut self, platform: &mut P) -> Option<LargeFrame> {
        let (frame, fresh) = self.large_raw(platform)?;
        if !fresh {
            if self.ledger().is_some() {
                platform.clear_large(frame);
            } else {
                let gpa = frame.address().gpa().get();
                platform.exit(ExitFunction::Discard, &[gpa, LARGE]);
            }
        }
        Some(frame)
    }

    /// A 2 MiB frame, and whether it is zero.
    fn large_raw<P: Platform>(&mut self, platform: &mut P) -> Option<(LargeFrame, bool)> {
        if self.fresh.start == self.fresh.end {
            self.fresh = core::mem::replace(&mut self.reserve, EMPTY);
        }
        if self.fresh.start < self.fresh.end {
            let page = self.fresh.start;
            self.fresh.start = page.offset(LARGE);
            return Some((self.accept_large(platform, page)?, true));
        }
        let frame = self.free_large.pop(platform)?;
        Some((LargeFrame::of(frame.address()), false))
    }

    /// Accepts a fresh 2 MiB page.
    fn accept_large<P: Platform>(
        &mut self,
        platform: &mut P,
        page: PhysAddr,
    ) -> Option<LargeFrame> {
        let Some(ledger) = self.ledger() else {
            // A host that does not give it ends the Keep with the first access.
            if page.get() >= platform.memory_there() {
                platform.exit(ExitFunction::Memory, &[page.get() + LARGE]);
            }
            return Some(LargeFrame::of(page));
        };
        let accepted = ledger.accept_large(platform, page);
        self.noted(accepted)
    }

    /// Accepts a fresh 4 KiB page; without SNP there is nothing to do.
    fn accept_small<P: Platform>(&mut self, platform: &mut P, page: PhysAddr) -> Option<Frame> {
        let Some(ledger) = self.ledger() else {
            return Some(Frame::of(page));
        };
        let accepted = ledger.accept_small(platform, page);
        self.noted(accepted)
    }

    /// The accepted page; one that was refused is kept.
    fn noted<F>(&mut self, accepted: Result<F, Refused>) -> Option<F> {
        accepted
            .map_err(|refused| self.refused = Some(refused))
            .ok()
    }

    /// A zeroed 4 KiB frame; `None`: [`Self::failure`].
    pub fn small<P: Platform>(&mut self, platform: &mut P) -> Option<Frame> {
        let (frame, fresh) = self.small_raw(platform)?;
        if !fresh {
            platform.fill(frame, 0);
        }
        Some(frame)
    }

    /// A zeroed 4 KiB frame that the microkernel itself needs, or the end of the Keep with this detail.
    pub(crate) fn small_or_end<P: Platform>(
        &mut self,
        platform: &mut P,
        detail: u64,
    ) -> Result<Frame, Fatal> {
        let fatal = Fatal::new(Reason::OutOfMemory, detail);
        self.small(platform).ok_or_else(|| self.end(fatal))
    }

    /// Zeroed 4 KiB frames one after the other, at most `most`: the first, and how many.
    pub fn small_run<P: Platform>(&mut self, platform: &mut P, most: u64) -> Option<(Frame, u64)> {
        if !self.carve_fresh || self.carve.start == self.carve.end {
            return Some((self.small(platform)?, 1));
        }
        let first = self.carve.start;
        let count = most.min(length(&self.carve) / PAGE);
        self.carve.start = first.offset(count * PAGE);
        if self.carve_single {
            for index in 0..count {
                self.accept_small(platform, first.offset(index * PAGE))?;
            }
        }
        Some((Frame::of(first), count))
    }

    /// True if [`Self::small_run`] gives frames that were never used.
    pub fn next_is_fresh(&self) -> bool {
        self.carve_fresh && self.carve.start != self.carve.end
    }

    /// A frame for a table whose entries are all `value`; `None`: [`Self::failure`].
    pub fn table<P: Platform>(&mut self, platform: &mut P, value: u64) -> Option<Frame> {
        let freed = self.free_tables.pop(platform).map(|frame| (frame, false));
        let (frame, fresh) = freed.or_else(|| self.small_raw(platform))?;
        if !fresh || value != 0 {
            platform.fill(frame, value);
        }
        Some(frame)
    }

    /// A 4 KiB frame, and whether it is zero.
    fn small_raw<P: Platform>(&mut self, platform: &mut P) -> Option<(Frame, bool)> {
        if self.free_small.head.is_none() && self.carve.start != self.carve.end {
            return self.carved(platform);
        }
        self.small_freed_or_new(platform)
    }

    /// The next of the frames being carved; there is at least one.
    fn carved<P: Platform>(&mut self, platform: &mut P) -> Option<(Frame, bool)> {
        let page = self.carve.start;
        self.carve.start = page.offset(PAGE);
        let frame = if self.carve_single {
            self.accept_small(platform, page)?
        } else {
            Frame::of(page)
        };
        Some((frame, self.carve_fresh))
    }

    #[inline(never)]
    fn small_freed_or_new<P: Platform>(&mut self, platform: &mut P) -> Option<(Frame, bool)> {
        if let Some(frame) = self.free_small.pop(platform) {
            return Some((frame, false));
        }
        let (frame, fresh) = self.large_raw(platform)?;
        let start = frame.address();
        self.carve = start..start.offset(LARGE);
        self.carve_fresh = fresh;
        self.carve_single = false;
        self.carved(platform)
    }

    /// Takes back a 4 KiB frame that nothing refers to any more.
    pub fn free_small<P: Platform>(&mut self, platform: &mut P, frame: Frame) {
        self.free_small.push(platform, frame);
    }

    /// Takes back the frame of a table to which no entry leads any more.
    pub fn free_table<P: Platform>(&mut self, platform: &mut P, frame: Frame) {
        self.free_tables.push(platform, frame);
    }

    /// Takes back a 2 MiB frame that nothing refers to any more.
    pub fn free_large<P: Platform>(&mut self, platform: &mut P, frame: LargeFrame) {
        self.free_large.push(platform, frame.part(0));
    }
}
