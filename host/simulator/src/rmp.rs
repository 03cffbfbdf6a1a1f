// SPDX-License-Identifier: Apache-2.0

//! The reverse map table (APM2 section 15.36): which pages are the guest's and which of them it has validated. Called
//! for the guest's instructions as well as for the host's; trusts neither.

use std::collections::BTreeMap;
use std::ops::Range;

use enarx_snp::rmp_codes as codes;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Pages of a 2 MiB page.
const HUGE_PAGES: u64 = 512;
/// Bytes of a 2 MiB page.
pub const HUGE: u64 = PAGE * HUGE_PAGES;

/// Outcome of PVALIDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pvalidate {
    /// EAX, one of [`codes`].
    pub code: u32,
    /// The carry flag: the page already had the requested state. A guest that did not set it itself is being
    /// attacked.
    pub carry: bool,
}

/// Why an instruction does not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nested page fault: the page does not belong to the guest. A guest requests it with a page state change.
    NotAssigned {
        /// Guest physical address.
        gpa: u64,
    },
    /// #VC, PAGE_NOT_VALIDATED.
    NotValidated {
        /// Guest physical address.
        gpa: u64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    validated: bool,
    vmsa: bool,
    huge: bool,
}

/// The page of an instruction.
enum Found<'a> {
    /// Its entry.
    Entry(&'a mut Entry),
    /// There is none of that size: the instruction answers one of [`codes`].
    Answer(u32),
}

/// The table. A page that is not in it is shared.
#[derive(Debug, Default)]
pub struct Rmp {
    /// By frame number; a 2 MiB page has one entry, at its first frame.
    entries: BTreeMap<u64, Entry>,
}

impl Rmp {
    /// The entry that covers a frame.
    fn find(&self, frame: u64) -> Option<Entry> {
        let of = |frame| self.entries.get(&frame).copied();
        of(frame).or_else(|| of(frame - frame % HUGE_PAGES).filter(|entry| entry.huge))
    }

    /// True if the page at `gpa` is private.
    pub fn is_private(&self, gpa: u64) -> bool {
        self.find(gpa / PAGE).is_some()
    }

    /// True if the page at `gpa` is private and validated.
    pub fn is_validated(&self, gpa: u64) -> bool {
        self.find(gpa / PAGE).is_some_and(|entry| entry.validated)
    }

    /// True if a vCPU can be started from the page at `gpa`.
    pub fn is_vmsa(&self, gpa: u64) -> bool {
        self.find(gpa / PAGE)
            .is_some_and(|entry| entry.vmsa && entry.validated)
    }

    /// Takes a page into the launch: private and validated. `false` when it is private already.
    pub fn launch(&mut self, gpa: u64) -> bool {
        let fresh = !self.is_private(gpa);
        if fresh {
            let entry = Entry {
                validated: true,
                vmsa: false,
                huge: false,
            };
            self.entries.insert(gpa / PAGE, entry);
        }
        fresh
    }

    /// RMPUPDATE by the host: makes the pages of a range private, not validated, as 2 MiB pages where `huge` says so
    /// and a whole one is shared. Private pages stay as they are. Returns the ranges that changed.
    pub fn assign(&mut self, range: Range<u64>, huge: bool) -> Vec<Range<u64>> {
        let (mut frame, end) = (range.start / PAGE, range.end / PAGE);
        let mut changed = Vec::new();
        while frame < end {
            let mut next = frame + 1;
            let whole = frame.is_multiple_of(HUGE_PAGES) && frame + HUGE_PAGES <= end;
            let huge = huge && whole && {
                let mut covered = self.entries.range(frame..frame + HUGE_PAGES);
                covered.next().is_none()
            };
            match self.find(frame) {
                Some(entry) if entry.huge => next = frame - frame % HUGE_PAGES + HUGE_PAGES,
                Some(_) => {}
                None => {
                    if huge {
                        next = frame + HUGE_PAGES;
                    }
                    let entry = Entry {
                        validated: false,
                        vmsa: false,
                        huge,
                    };
                    self.entries.insert(frame, entry);
                    extend(&mut changed, frame..next);
                }
            }
            frame = next;
        }
        changed
    }

    /// RMPUPDATE by the host: makes the pages of a range shared. Returns the ranges that changed.
    pub fn share(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut frame, end) = (range.start / PAGE, range.end / PAGE);
        let mut changed = Vec::new();
        while frame < end {
            let mut next = frame + 1;
            if self.find(frame).is_some_and(|entry| entry.huge) {
                if frame.is_multiple_of(HUGE_PAGES) && frame + HUGE_PAGES <= end {
                    next = frame + HUGE_PAGES;
                } else {
                    self.smash(frame);
                }
            }
            if self.entries.remove(&frame).is_some() {
                extend(&mut changed, frame..next);
            }
            frame = next;
        }
        changed
    }

    /// PSMASH: the 2 MiB page around a frame becomes 4 KiB pages in the same state.
    fn smash(&mut self, frame: u64) {
        let base = frame - frame % HUGE_PAGES;
        if let Some(entry) = self.entries.remove(&base) {
            let small = Entry {
                huge: false,
                ..entry
            };
            self.entries
                .extend((base..base + HUGE_PAGES).map(|frame| (frame, small)));
        }
    }

    /// The entry for an instruction on a page of this size, or its answer without one. A 2 MiB page
    /// under a 4 KiB one is smashed, as KVM does at the nested page fault.
    fn entry(&mut self, gpa: u64, huge: bool) -> Result<Found<'_>, Fault> {
        let frame = gpa / PAGE;
        let found = self.find(frame).ok_or(Fault::NotAssigned { gpa })?;
        if huge && !gpa.is_multiple_of(HUGE) {
            return Ok(Found::Answer(codes::FAIL_INPUT));
        }
        if huge && !found.huge {
            return Ok(Found::Answer(codes::FAIL_SIZEMISMATCH));
        }
        if !huge && found.huge {
            self.smash(frame);
        }
        let entry = self.entries.get_mut(&frame);
        entry.map(Found::Entry).ok_or(Fault::NotAssigned { gpa })
    }

    /// PVALIDATE (APM3).
    ///
    /// # Errors
    /// The fault, when the page is shared.
    pub fn pvalidate(&mut self, gpa: u64, huge: bool, validate: bool) -> Result<Pvalidate, Fault> {
        Ok(match self.entry(gpa, huge)? {
            Found::Answer(code) => Pvalidate { code, carry: false },
            Found::Entry(entry) => {
                let carry = entry.validated == validate;
                entry.validated = validate;
                entry.vmsa &= validate;
                Pvalidate {
                    code: codes::SUCCESS,
                    carry,
                }
            }
        })
    }

    /// RMPADJUST at VMPL 0 (APM3): rights of the lower level `vmpl` (bits as in 56860 PAGE_INFO) and whether the page
    /// is a VMSA. The rights are checked and forgotten: no lower level runs here. Returns EAX, one of [`codes`].
    ///
    /// # Errors
    /// The fault, when the page is shared or not validated.
    pub fn rmpadjust(
        &mut self,
        gpa: u64,
        huge: bool,
        vmpl: u8,
        rights: u8,
        vmsa: bool,
    ) -> Result<u32, Fault> {
        if vmpl == 0 {
            return Ok(codes::FAIL_PERMISSION);
        }
        if vmpl > 3 || rights > 0xF || (huge && vmsa) {
            return Ok(codes::FAIL_INPUT);
        }
        match self.entry(gpa, huge)? {
            Found::Answer(code) => Ok(code),
            Found::Entry(entry) if !entry.validated => Err(Fault::NotValidated { gpa }),
            Found::Entry(entry) => {
                entry.vmsa = vmsa;
                Ok(codes::SUCCESS)
            }
        }
    }
}

/// Adds a range of frames to ascending ranges of addresses.
fn extend(ranges: &mut Vec<Range<u64>>, frames: Range<u64>) {
    let (start, end) = (frames.start * PAGE, frames.end * PAGE);
    match ranges.last_mut() {
        Some(last) if last.end == start => last.end = end,
        _ => ranges.push(start..end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Four 2 MiB pages, page by page: whether it is validated, and whether it belongs to a 2 MiB page.
    type Model = Vec<Option<(bool, bool)>>;
    const FRAMES: usize = 2048;

    #[derive(Debug, Clone)]
    enum Step {
        Assign(u64, u64, bool),
        Share(u64, u64),
        Pvalidate(u64, bool, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let frame = || prop_oneof![0u64..2048, (0u64..4).prop_map(|n| n * 512)];
        let len = || prop_oneof![1u64..8, Just(512u64), Just(1024u64)];
        prop_oneof![
            (frame(), len(), any::<bool>()).prop_map(|(f, l, h)| Step::Assign(
                f,
                l.min(2048 - f),
                h
            )),
            (frame(), len()).prop_map(|(f, l)| Step::Share(f, l.min(2048 - f))),
            (frame(), any::<bool>(), any::<bool>()).prop_map(|(f, h, v)| Step::Pvalidate(f, h, v)),
        ]
    }

    fn smash(model: &mut Model, frame: usize) {
        let base = frame / 512 * 512;
        if matches!(model[frame], Some((_, true))) {
            for page in &mut model[base..base + 512] {
                *page = page.map(|(validated, _)| (validated, false));
            }
        }
    }

    fn frames(ranges: &[Range<u64>]) -> Vec<u64> {
        ranges
            .iter()
            .flat_map(|r| r.start / PAGE..r.end / PAGE)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_table_behaves_like_a_list_of_pages(steps in proptest::collection::vec(step(), 1..40)) {
            let mut rmp = Rmp::default();
            let mut model: Model = vec![None; FRAMES];
            for step in steps {
                match step {
                    Step::Assign(first, len, huge) => {
                        let mut expected = Vec::new();
                        let mut frame = usize::try_from(first).unwrap();
                        let end = frame + usize::try_from(len).unwrap();
                        while frame < end {
                            let whole = huge && frame % 512 == 0 && frame + 512 <= end
                                && model[frame..frame + 512].iter().all(Option::is_none);
                            let count = if whole { 512 } else { 1 };
                            for (n, page) in model.iter_mut().enumerate().skip(frame).take(count) {
                                if page.is_none() {
                                    *page = Some((false, whole));
                                    expected.push(n as u64);
                                }
                            }
                            frame += count;
                        }
                        let changed = rmp.assign(first * PAGE..(first + len) * PAGE, huge);
                        prop_assert_eq!(frames(&changed), expected);
                    }
                    Step::Share(first, len) => {
                        let (from, to) = (usize::try_from(first).unwrap(), usize::try_from(first + len).unwrap());
                        let expected: Vec<_> = (from..to).filter(|f| model[*f].is_some()).map(|f| f as u64).collect();
                        for frame in from..to {
                            let base = frame / 512 * 512;
                            if base < from || base + 512 > to {
                                smash(&mut model, frame);
                            }
                        }
                        model[from..to].fill(None);
                        let changed = rmp.share(first * PAGE..(first + len) * PAGE);
                        prop_assert_eq!(frames(&changed), expected);
                    }
                    Step::Pvalidate(frame, huge, validate) => {
                        let gpa = frame * PAGE;
                        let found = rmp.pvalidate(gpa, huge, validate);
                        let at = usize::try_from(frame).unwrap();
                        let fail = |code| Ok(Pvalidate { code, carry: false });
                        let expected = match (model[at], huge) {
                            (None, _) => Err(Fault::NotAssigned { gpa }),
                            (Some(_), true) if at % 512 != 0 => fail(codes::FAIL_INPUT),
                            (Some((_, false)), true) => fail(codes::FAIL_SIZEMISMATCH),
                            (Some((before, _)), _) => {
                                if !huge {
                                    smash(&mut model, at);
                                }
                                let count = if huge { 512 } else { 1 };
                                for page in &mut model[at..at + count] {
                                    *page = Some((validate, huge));
                                }
                                Ok(Pvalidate { code: codes::SUCCESS, carry: before == validate })
                            }
                        };
                        prop_assert_eq!(found, expected);
                    }
                }
                for (frame, page) in model.iter().enumerate() {
                    let gpa = frame as u64 * PAGE;
                    prop_assert_eq!(rmp.is_private(gpa), page.is_some());
                    prop_assert_eq!(rmp.is_validated(gpa), matches!(page, Some((true, _))));
                    prop_assert!(!rmp.is_vmsa(gpa));
                }
            }
        }
    }

    #[test]
    fn a_second_validation_sets_carry() {
        let mut rmp = Rmp::default();
        rmp.assign(0..PAGE, true);
        let outcome = |carry| Ok(Pvalidate { code: 0, carry });
        assert_eq!(rmp.pvalidate(0, false, true), outcome(false));
        assert_eq!(rmp.pvalidate(0, false, true), outcome(true));
        // A host that swaps the page away and back is seen: the page is there, but no longer validated.
        rmp.share(0..PAGE);
        assert_eq!(
            rmp.pvalidate(0, false, true),
            Err(Fault::NotAssigned { gpa: 0 })
        );
        rmp.assign(0..PAGE, true);
        assert!(!rmp.is_validated(0));
        assert!(rmp.launch(PAGE) && rmp.is_validated(PAGE) && !rmp.launch(PAGE));
        assert_eq!(rmp.pvalidate(PAGE, false, true), outcome(true));
    }

    #[test]
    fn a_vmsa_is_a_validated_small_page() {
        let mut rmp = Rmp::default();
        assert_eq!(
            rmp.rmpadjust(0, false, 1, 0, true),
            Err(Fault::NotAssigned { gpa: 0 })
        );
        rmp.assign(0..HUGE, true);
        assert_eq!(
            rmp.rmpadjust(0, false, 1, 0, true),
            Err(Fault::NotValidated { gpa: 0 })
        );
        rmp.share(0..HUGE);
        rmp.assign(0..HUGE, true);
        rmp.pvalidate(0, true, true).unwrap();
        assert_eq!(rmp.rmpadjust(0, true, 1, 0, true), Ok(codes::FAIL_INPUT));
        assert_eq!(
            rmp.rmpadjust(PAGE, false, 0, 0, true),
            Ok(codes::FAIL_PERMISSION)
        );
        assert_eq!(
            rmp.rmpadjust(PAGE, false, 4, 0, true),
            Ok(codes::FAIL_INPUT)
        );
        assert_eq!(
            rmp.rmpadjust(PAGE, false, 1, 0x10, true),
            Ok(codes::FAIL_INPUT)
        );
        assert_eq!(rmp.rmpadjust(PAGE, false, 1, 0, true), Ok(codes::SUCCESS));
        assert!(rmp.is_vmsa(PAGE) && !rmp.is_vmsa(0));
        assert_eq!(
            rmp.rmpadjust(0, true, 1, 0xF, false),
            Ok(codes::FAIL_SIZEMISMATCH)
        );
        rmp.pvalidate(PAGE, false, false).unwrap();
        rmp.pvalidate(PAGE, false, true).unwrap();
        assert!(!rmp.is_vmsa(PAGE));
    }
}
