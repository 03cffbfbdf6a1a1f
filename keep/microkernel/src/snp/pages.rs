//! Private and shared pages. A private page is validated once, when its frame is first given out;
//! the direct map is the ledger: it maps exactly the private pages that have been validated.
//!
//! A host can take a page away and give another one in its place, which is then not validated; to
//! validate it a second time would accept the replacement. So a page that the ledger has is never
//! validated again, and an answer that the state did not change ends the Keep.

use enarx_snp::ghcb::{PageOperation, exit};

use super::ghcb::{BUFFER_WORDS, Call};
use super::instructions::{Instructions, Unvalidated};
use crate::fatal::Fatal;
use crate::paging::entry_at;
use crate::platform::Platform;
use enarx_boot::layout::{DIRECT_MAP, DIRECT_MAP_SIZE, HUGE, LARGE};
use enarx_boot::page_table::bits::{LARGE as LARGE_PAGE, NO_EXECUTE, PRESENT, WRITE};
use enarx_exits::Reason;

/// PVALIDATE: the page has another size in the reverse map (AMD64 APM volume 3).
const FAIL_SIZEMISMATCH: u32 = 6;

/// The guest physical address without the C-bit.
#[must_use]
pub const fn plain(frame: u64) -> u64 {
    frame & (DIRECT_MAP_SIZE - 1)
}

fn fatal(frame: u64) -> Fatal {
    Fatal::new(Reason::Validation, plain(frame))
}

/// Physical address of the direct map's entry for `frame` at `level` (1 = 4 KiB, 2 = 2 MiB); none
/// where a table is missing.
fn slot<P: Platform>(platform: &P, root: u64, frame: u64, level: u32) -> Option<u64> {
    entry_at(platform, root, DIRECT_MAP + plain(frame), level)
}

/// Makes a private page or 2 MiB of them the Keep's: validated, zeroed and in the direct map.
///
/// # Errors
/// [`Reason::Validation`]: it was validated before, or the CPU refused.
pub fn accept<P: Platform + Instructions>(
    platform: &mut P,
    root: u64,
    frame: u64,
    size: u64,
) -> Result<(), Fatal> {
    let large = size == LARGE;
    let at = slot(platform, root, frame, if large { 2 } else { 1 }).ok_or(fatal(frame))?;
    if platform.read(at) & PRESENT != 0 {
        return Err(fatal(frame));
    }
    let size_bit = if large { LARGE_PAGE } else { 0 };
    platform.write(at, frame | PRESENT | WRITE | NO_EXECUTE | size_bit);
    let address = DIRECT_MAP + plain(frame);
    let answer = platform.pvalidate(&Unvalidated { address, large });
    if large && answer.code == FAIL_SIZEMISMATCH {
        for offset in (0..LARGE).step_by(4096) {
            let answer = platform.pvalidate(&Unvalidated {
                address: address + offset,
                large: false,
            });
            if answer.code != 0 || answer.unchanged {
                return Err(fatal(frame + offset));
            }
        }
    } else if answer.code != 0 || answer.unchanged {
        return Err(fatal(frame));
    }
    // The host chose what the memory holds.
    if large {
        platform.clear_large(address);
    } else {
        platform.fill(frame, 0);
    }
    Ok(())
}

/// Gives the direct map the tables that it needs for memory up to `end`, a guest physical address
/// without the C-bit; the launch made that of the first GiB.
///
/// # Errors
/// [`Reason::OutOfMemory`] when there is no frame for a table.
pub fn extend<P: Platform>(
    platform: &mut P,
    root: u64,
    end: u64,
    mut table: impl FnMut(&mut P) -> Option<u64>,
) -> Result<(), Fatal> {
    let mut start = HUGE;
    while start < end.min(DIRECT_MAP_SIZE) {
        let at = slot(platform, root, start, 3).ok_or(fatal(start))?;
        let frame = table(platform).ok_or(Fatal::new(Reason::OutOfMemory, 0))?;
        platform.write(at, frame | PRESENT | WRITE);
        start += HUGE;
    }
    Ok(())
}

/// Asks the host to make `start..end`, 2 MiB multiples that are in no way the Keep's, shared or
/// private.
///
/// # Errors
/// [`Reason::PageState`] if the host does not, [`Reason::Validation`] if part of it is private and
/// in use.
pub fn change_state<P: Platform + Instructions>(
    platform: &mut P,
    root: u64,
    start: u64,
    end: u64,
    operation: PageOperation,
) -> Result<(), Fatal> {
    let mut next = start;
    while next < end {
        let mut words = [0; 1 + MOST_ENTRIES];
        let mut count = 0;
        let first = next;
        for word in words.iter_mut().skip(1) {
            if next == end {
                break;
            }
            let in_use = slot(platform, root, next, 2).is_some_and(|at| platform.read(at) != 0);
            if in_use {
                return Err(fatal(next));
            }
            // Bits 51:12 frame, 55:52 operation, 56 large (56421, table 8).
            *word = next | ((operation as u64) << 52) | (1 << 56);
            next += LARGE;
            count += 1;
        }
        // cur_entry 0, end_entry the last.
        let [header, ..] = &mut words;
        *header = (count - 1) << 16;
        let used = usize::try_from(count + 1).unwrap_or(0);
        let call = Call {
            code: exit::PAGE_STATE_CHANGE,
            info1: 0,
            info2: 0,
            rax: None,
            buffer: words.get(..used).unwrap_or(&[]),
        };
        let answer = platform.ghcb_exit(&call);
        let (current, last) = (answer.buffer & 0xffff, (answer.buffer >> 16) & 0xffff);
        if !answer.accepted() || answer.info2 != 0 || last != count - 1 || current <= last {
            return Err(Fatal::new(Reason::PageState, first));
        }
    }
    Ok(())
}

/// Entries of one page-state change: 32 MiB, to be sparing with the stack.
const MOST_ENTRIES: usize = 16;
const _: () = assert!(MOST_ENTRIES < BUFFER_WORDS);
