// SPDX-License-Identifier: Apache-2.0

//! Private and shared pages. A private page is validated once, when its frame is first given out;
//! the direct map is the ledger: it maps exactly the private pages that have been validated.
//!
//! A host can take a page away and give another one in its place, which is then not validated; to
//! validate it a second time would accept the replacement. So a page that the ledger has is never
//! validated again, and an answer that the state did not change ends the Keep.

use enarx_boot::address::{Gpa, PhysAddr, VirtAddr};
use enarx_boot::layout::{DIRECT_MAP, LARGE, PAGE};
use enarx_boot::page_table::{Pte, PteFlags};
use enarx_exits::Reason;
use enarx_snp::ghcb::{PageOperation, exit};
use enarx_snp::rmp_codes::{FAIL_SIZEMISMATCH, SUCCESS};

use super::ghcb::{BUFFER_WORDS, Call};
use super::instructions::{Unvalidated, Validated};
use crate::fatal::Fatal;
use crate::frame::{Frame, LargeFrame, Slot};
use crate::launch::Launch;
use crate::platform::Platform;
use crate::table::entry_at;

/// The ledger of private pages that are valid. There is one; it makes frames of fresh pages.
#[derive(Debug)]
pub struct Ledger {
    root: Frame,
}

/// A page that could not be accepted: it had been validated before, or the CPU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub Gpa);

impl From<Refused> for Fatal {
    fn from(Refused(page): Refused) -> Self {
        Self::new(Reason::Validation, page.get())
    }
}

/// True if the page is the Keep's only now.
const fn is_new(answer: Validated) -> bool {
    answer.code == SUCCESS && !answer.unchanged
}

impl Ledger {
    /// The ledger that the launch began, which the firmware has measured; `None` without SNP.
    #[must_use]
    pub fn new(launch: &Launch) -> Option<Self> {
        let root = launch.root;
        launch.snp.as_ref().map(|_| Self { root })
    }

    /// The entry for a page at `level` (1 = 4 KiB, 2 = 2 MiB); `None` where a table is missing.
    fn slot<P: Platform>(&self, platform: &P, page: Gpa, level: u32) -> Option<Slot> {
        let address = VirtAddr::new(DIRECT_MAP).offset(page.get());
        entry_at(platform, self.root, address, level)
    }

    /// Enters a fresh page; never a second time.
    fn enter<P: Platform>(
        &self,
        platform: &mut P,
        page: PhysAddr,
        level: u32,
        size: PteFlags,
    ) -> Result<(), Refused> {
        let refused = Refused(page.gpa());
        let at = self.slot(platform, page.gpa(), level).ok_or(refused)?;
        if platform.entry(at).has(PteFlags::PRESENT) {
            return Err(refused);
        }
        let flags = PteFlags::KERNEL_DATA.union(size);
        platform.set_entry(at, Pte::new(page, flags));
        Ok(())
    }

    /// Accepts a fresh private page: validated, zeroed and in the direct map.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn accept_small<P: Platform>(
        &self,
        platform: &mut P,
        page: PhysAddr,
    ) -> Result<Frame, Refused> {
        self.enter(platform, page, 1, PteFlags::empty())?;
        let frame = Frame::of(page);
        let answer = platform.pvalidate(&Unvalidated::new(frame.mapped(), false));
        if !is_new(answer) {
            return Err(Refused(page.gpa()));
        }
        // The host chose what the memory holds.
        platform.fill(frame, 0);
        Ok(frame)
    }

    /// Accepts 2 MiB of fresh private pages: validated, zeroed and in the direct map.
    ///
    /// # Errors
    /// [`Refused`], with the first such page.
    pub fn accept_large<P: Platform>(
        &self,
        platform: &mut P,
        page: PhysAddr,
    ) -> Result<LargeFrame, Refused> {
        self.enter(platform, page, 2, PteFlags::LARGE)?;
        let frame = LargeFrame::of(page);
        let answer = platform.pvalidate(&Unvalidated::new(frame.mapped(), true));
        if answer.code == FAIL_SIZEMISMATCH {
            for index in 0..LARGE / PAGE {
                let part = frame.part(index);
                let answer = platform.pvalidate(&Unvalidated::new(part.mapped(), false));
                if !is_new(answer) {
                    return Err(Refused(part.address().gpa()));
                }
            }
        } else if !is_new(answer) {
            return Err(Refused(page.gpa()));
        }
        platform.clear_large(frame);
        Ok(frame)
    }

    /// The root of the tables that it is part of, which are those of every vCPU.
    pub(crate) const fn root(&self) -> Frame {
        self.root
    }

    /// The entry for a table of the direct map that covers the GiB at `page`.
    ///
    /// # Errors
    /// [`Reason::Validation`] beyond the direct map.
    pub(crate) fn gib<P: Platform>(&self, platform: &P, page: Gpa) -> Result<Slot, Fatal> {
        self.slot(platform, page, 3).ok_or(Refused(page).into())
    }

    /// Asks the host to make `start..end`, multiples of 2 MiB that the Keep does not use at all,
    /// shared or private.
    ///
    /// # Errors
    /// [`Reason::PageState`] if the host does not, [`Reason::Validation`] if part of it is private and
    /// in use.
    pub fn change_state<P: Platform>(
        &self,
        platform: &mut P,
        start: Gpa,
        end: Gpa,
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
                let entry = self.slot(platform, next, 2);
                if entry.is_some_and(|at| !platform.entry(at).is_empty()) {
                    return Err(Refused(next).into());
                }
                // Bits 51:12 frame, 55:52 operation, 56 large (56421, table 8).
                *word = next.get() | ((operation as u64) << 52) | (1 << 56);
                next = next.offset(LARGE);
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
                return Err(Fatal::new(Reason::PageState, first.get()));
            }
        }
        Ok(())
    }
}

/// Entries of one page-state change: 32 MiB, to be sparing with the stack.
const MOST_ENTRIES: usize = 16;
const _: () = assert!(MOST_ENTRIES < BUFFER_WORDS);
