//! Physical frames: 2 MiB frames from the Keep's memory, 4 KiB frames carved out of them.
//!
//! A frame is *fresh* until its first use: zero under plain KVM, to be accepted ([`Platform::accept`])
//! under SNP. Frames carry the C-bit where there is one. Freed frames hold the link of the free list in their first word; a frame is freed only
//! after no vCPU can reach it any more.

use crate::layout::{LARGE, PAGE};
use crate::platform::Platform;

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
    /// The carved frames are not part of an accepted 2 MiB frame.
    carve_single: bool,
    free_small: u64,
    free_large: u64,
    small_count: u64,
    large_count: u64,
}

/// End mark of the free lists; page 0 is never a free frame.
const NONE: u64 = 0;

impl Frames {
    /// An allocator over `small..small_end` (4 KiB frames) and `next..end` (2 MiB frames). The
    /// caller has checked the alignment and the order.
    #[must_use]
    pub const fn new(small: u64, small_end: u64, next: u64, end: u64) -> Self {
        Self {
            next,
            end,
            reserve: (0, 0),
            carve: small,
            carve_end: small_end,
            carve_fresh: true,
            carve_single: true,
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

    /// A 4 KiB frame whose words are all `value`.
    pub fn filled<P: Platform>(&mut self, platform: &mut P, value: u64) -> Option<u64> {
        let (frame, fresh) = self.small_raw(platform)?;
        if !fresh || value != 0 {
            platform.fill(frame, value);
        }
        Some(frame)
    }

    fn small_raw<P: Platform>(&mut self, platform: &mut P) -> Option<(u64, bool)> {
        if self.free_small != NONE {
            let frame = self.free_small;
            self.free_small = platform.read(frame);
            self.small_count -= 1;
            return Some((frame, false));
        }
        if self.carve == self.carve_end {
            let (frame, fresh) = self.large_raw(platform)?;
            self.carve = frame;
            self.carve_end = frame + LARGE;
            self.carve_fresh = fresh;
            self.carve_single = false;
        }
        let frame = self.carve;
        self.carve += PAGE;
        if self.carve_single {
            platform.accept(frame, PAGE);
        }
        Some((frame, self.carve_fresh))
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
