//! Physical frames: 2 MiB frames from the Keep's memory, 4 KiB frames carved out of them.
//!
//! A frame is *fresh* until its first use: zero under plain KVM, to be validated and zeroed under
//! SNP. Freed frames hold the link of the free list in their first word; a frame is freed only
//! after no vCPU can reach it any more.

use crate::layout::{LARGE, PAGE};
use crate::platform::Platform;

/// The allocator of physical frames.
#[derive(Debug)]
pub struct Frames {
    /// First 2 MiB frame never handed out.
    next: u64,
    /// End of the Keep's memory.
    end: u64,
    /// 4 KiB frames being carved, all from one 2 MiB frame (or the launch area).
    carve: u64,
    carve_end: u64,
    /// The carved frame is fresh.
    carve_fresh: bool,
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
            carve: small,
            carve_end: small_end,
            carve_fresh: true,
            free_small: NONE,
            free_large: NONE,
            small_count: 0,
            large_count: 0,
        }
    }

    /// Free memory, in bytes.
    #[must_use]
    pub fn free(&self) -> u64 {
        (self.end - self.next)
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
        if self.next < self.end {
            let frame = self.next;
            self.next += LARGE;
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
        }
        let frame = self.carve;
        self.carve += PAGE;
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
