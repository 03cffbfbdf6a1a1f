//! Physical frames: 2 MiB frames from the Keep's memory, 4 KiB frames carved out of them.
//!
//! A frame is *fresh* until its first use: zero under plain KVM, to be accepted ([`Platform::accept`])
//! under SNP. Frames carry the C-bit where there is one. Freed frames hold the link of the free list in their first word; a frame is freed only
//! after no vCPU can reach it any more.

use core::ops::Range;

use crate::platform::Platform;
use enarx_boot::layout::{LARGE, PAGE};

/// The allocator of physical frames.
#[derive(Debug)]
pub struct Frames {
    /// First 2 MiB frame never handed out.
    next: u64,
    /// End of those that follow it.
    end: u64,
    /// More 2 MiB frames never handed out, for when those are used up.
    reserve: (u64, u64),
    /// 4 KiB frames being carved, all from one 2 MiB frame (or the launch area).
    carve: u64,
    carve_end: u64,
    /// The carved frame is fresh.
    carve_fresh: bool,
    /// The carved frames are to be accepted one by one: they are not part of an accepted 2 MiB frame.
    carve_single: bool,
    free_small: u64,
    free_large: u64,
    small_count: u64,
    large_count: u64,
}

/// End mark of the free lists; page 0 is never a free frame.
const NONE: u64 = 0;

impl Frames {
    /// An allocator over the 4 KiB frames of `small` and the 2 MiB frames of `large`, with this
    /// C-bit, or 0. The caller has checked the alignment and the order.
    #[must_use]
    pub const fn new(small: Range<u64>, large: Range<u64>, c_bit: u64) -> Self {
        Self {
            next: large.start | c_bit,
            end: large.end | c_bit,
            reserve: (0, 0),
            carve: small.start | c_bit,
            carve_end: small.end | c_bit,
            carve_fresh: true,
            // Without SNP there is nothing to accept.
            carve_single: c_bit != 0,
            free_small: NONE,
            free_large: NONE,
            small_count: 0,
            large_count: 0,
        }
    }

    /// Adds the fresh 2 MiB frames of `start..end`; once.
    pub fn add(&mut self, start: u64, end: u64) {
        self.reserve = (start, end);
    }

    /// Free memory, in bytes.
    #[must_use]
    pub fn free(&self) -> u64 {
        (self.end - self.next)
            + (self.reserve.1 - self.reserve.0)
            + (self.carve_end - self.carve)
            + self.small_count * PAGE
            + self.large_count * LARGE
    }

    /// A zeroed 2 MiB frame.
    pub fn large<P: Platform>(&mut self, platform: &mut P) -> Option<u64> {
        let (frame, fresh) = self.large_raw(platform)?;
        if !fresh {
            platform.zero_large(frame);
        }
        Some(frame)
    }

    fn large_raw<P: Platform>(&mut self, platform: &mut P) -> Option<(u64, bool)> {
        if self.next == self.end {
            (self.next, self.end) = core::mem::take(&mut self.reserve);
        }
        if self.next < self.end {
            let frame = self.next;
            self.next += LARGE;
            platform.accept(frame, LARGE);
            return Some((frame, true));
        }
        let frame = self.free_large;
        if frame == NONE {
            return None;
        }
        self.free_large = platform.read(frame);
        self.large_count -= 1;
        Some((frame, false))
    }

    /// A zeroed 4 KiB frame.
    pub fn small<P: Platform>(&mut self, platform: &mut P) -> Option<u64> {
        let (frame, fresh) = self.small_raw(platform)?;
        if !fresh {
            platform.fill(frame, 0);
        }
        Some(frame)
    }

    /// Zeroed 4 KiB frames one after the other, at most `most`: the first, and how many.
    pub fn small_run<P: Platform>(&mut self, platform: &mut P, most: u64) -> Option<(u64, u64)> {
        if !self.carve_fresh || self.carve == self.carve_end {
            return Some((self.small(platform)?, 1));
        }
        let first = self.carve;
        let count = most.min((self.carve_end - first) / PAGE);
        self.carve = first + count * PAGE;
        if self.carve_single {
            for index in 0..count {
                platform.accept(first + index * PAGE, PAGE);
            }
        }
        Some((first, count))
    }

    /// A 4 KiB frame whose words are all `value`.
    pub fn filled<P: Platform>(&mut self, platform: &mut P, value: u64) -> Option<u64> {
        let (frame, fresh) = self.small_raw(platform)?;
        if !fresh || value != 0 {
            platform.fill(frame, value);
        }
        Some(frame)
    }

    /// A 4 KiB frame, and whether it is zero.
    #[inline]
    fn small_raw<P: Platform>(&mut self, platform: &mut P) -> Option<(u64, bool)> {
        if self.free_small == NONE && self.carve != self.carve_end {
            return Some(self.carved(platform));
        }
        self.small_freed_or_new(platform)
    }

    /// The next of the frames being carved, of which there is one.
    #[inline]
    fn carved<P: Platform>(&mut self, platform: &mut P) -> (u64, bool) {
        let frame = self.carve;
        self.carve = frame + PAGE;
        if self.carve_single {
            platform.accept(frame, PAGE);
        }
        (frame, self.carve_fresh)
    }

    #[inline(never)]
    fn small_freed_or_new<P: Platform>(&mut self, platform: &mut P) -> Option<(u64, bool)> {
        if self.free_small != NONE {
            let frame = self.free_small;
            self.free_small = platform.read(frame);
            self.small_count -= 1;
            return Some((frame, false));
        }
        let (frame, fresh) = self.large_raw(platform)?;
        self.carve = frame;
        self.carve_end = frame + LARGE;
        self.carve_fresh = fresh;
        self.carve_single = false;
        Some(self.carved(platform))
    }

    /// Takes back a 4 KiB frame that nothing refers to any more.
    pub fn free_small<P: Platform>(&mut self, platform: &mut P, frame: u64) {
        platform.write(frame, self.free_small);
        self.free_small = frame;
        self.small_count += 1;
    }

    /// Takes back a 2 MiB frame that nothing refers to any more.
    pub fn free_large<P: Platform>(&mut self, platform: &mut P, frame: u64) {
        platform.write(frame, self.free_large);
        self.free_large = frame;
        self.large_count += 1;
    }
}
