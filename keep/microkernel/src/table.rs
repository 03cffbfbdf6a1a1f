// SPDX-License-Identifier: Apache-2.0

//! Page tables as the CPU walks them: which entry is responsible for an address.

use enarx_boot::address::VirtAddr;
use enarx_boot::layout::{HUGE, LARGE, PAGE};
use enarx_boot::page_table::{Pte, PteFlags};

use crate::frame::{Frame, Slot};
use crate::platform::Platform;

/// Bits of an address below the index of `level`; the level of 4 KiB entries is 1.
pub const fn shift(level: u32) -> u32 {
    3 + 9 * level
}

/// Bytes that one entry of `level` covers.
pub const fn span(level: u32) -> u64 {
    1 << shift(level)
}

const _: () = assert!(span(1) == PAGE && span(2) == LARGE && span(3) == HUGE);

/// The entry for `address` in `table` at `level`.
pub const fn slot(table: Frame, level: u32, address: VirtAddr) -> Slot {
    table.slot(address.get() >> shift(level))
}

/// The lower table that an entry points to.
pub(crate) const fn lower(entry: Pte) -> Frame {
    Frame::of(entry.address())
}

/// The entry at `level` for any virtual address in the tables under `root`; `None` where no table leads
/// there.
pub fn entry_at<P: Platform>(
    platform: &P,
    root: Frame,
    address: VirtAddr,
    level: u32,
) -> Option<Slot> {
    let mut table = root;
    for above in (level + 1..=4).rev() {
        let entry = platform.entry(slot(table, above, address));
        if !entry.has(PteFlags::PRESENT) || entry.has(PteFlags::LARGE) {
            return None;
        }
        table = lower(entry);
    }
    Some(slot(table, level, address))
}
