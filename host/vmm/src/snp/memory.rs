// SPDX-License-Identifier: Apache-2.0

//! The guest physical memory of a SEV-SNP Keep: slots, and which parts begin as shared.
//!
//! The guest names addresses in it: every question about a range is answered by checked
//! arithmetic.
#![forbid(unsafe_code)]

use std::ops::Range;

use enarx_boot::layout::PAGE;

/// A slot as a launch asks for it.
#[derive(Clone, Debug)]
pub struct Slot<M> {
    /// Its location and kind.
    pub extent: Extent,
    /// The memory that backs its shared side in this process, of the same size.
    pub memory: M,
}

/// Where a slot lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Guest physical address of the first byte, a multiple of the page size.
    pub gpa: u64,
    /// Size in bytes, a multiple of the page size, not zero.
    pub size: u64,
    /// True if it has a private side too (guest_memfd). Without one it stays shared permanently: the guest cannot
    /// convert it.
    pub private: bool,
}

impl Extent {
    /// First address after the slot.
    fn end(self) -> Option<u64> {
        self.gpa.checked_add(self.size)
    }
}

/// Memory that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No private memory.
    #[error("the launch has no private memory; this is a defect of the VMM, please report it")]
    NothingPrivate,
    /// A slot that KVM would refuse.
    #[error(
        "the slot of {size:#x} bytes at {gpa:#x} is empty, not of whole pages, or beyond the address space"
    )]
    Slot {
        /// Guest physical address.
        gpa: u64,
        /// Size in bytes.
        size: u64,
    },
    /// Two slots, or two windows, share an address.
    #[error("the memory at {gpa:#x} is given twice")]
    Overlap {
        /// Guest physical address where the second begins.
        gpa: u64,
    },
    /// A shared window that is not a part of one private slot.
    #[error(
        "the shared window {start:#x}..{end:#x} is empty, not of whole pages, or not inside one private slot"
    )]
    Window {
        /// Guest physical address.
        start: u64,
        /// First address after it.
        end: u64,
    },
}

/// A place in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The slot's number.
    pub slot: usize,
    /// Offset in bytes.
    pub offset: u64,
}

/// The checked map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    slots: Vec<Extent>,
    /// Ascending, apart from each other.
    shared: Vec<Range<u64>>,
}

impl Map {
    /// Checks slots and the windows of private slots that begin as shared.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn new(slots: Vec<Extent>, shared: &[Range<u64>]) -> Result<Self, MapError> {
        let mut ranges = Vec::with_capacity(slots.len());
        for slot in &slots {
            let Extent { gpa, size, .. } = *slot;
            let aligned = gpa.is_multiple_of(PAGE) && size.is_multiple_of(PAGE);
            match slot.end() {
                Some(end) if aligned && size != 0 => ranges.push(gpa..end),
                _ => return Err(MapError::Slot { gpa, size }),
            }
        }
        apart(&mut ranges)?;
        if !slots.iter().any(|slot| slot.private) {
            return Err(MapError::NothingPrivate);
        }
        let mut map = Self {
            slots,
            shared: Vec::new(),
        };
        for window in shared {
            let Range { start, end } = *window;
            let inside = end
                .checked_sub(start)
                .and_then(|length| map.convertible(start, length));
            if inside.is_none() {
                return Err(MapError::Window { start, end });
            }
        }
        map.shared = shared.to_vec();
        apart(&mut map.shared)?;
        Ok(map)
    }

    /// The slots, in the order of their numbers.
    pub fn slots(&self) -> &[Extent] {
        &self.slots
    }

    /// The place of a range that is not empty, of whole pages, and a part of one private slot;
    /// `None` for any other range.
    pub fn convertible(&self, gpa: u64, length: u64) -> Option<Place> {
        if length == 0 || !gpa.is_multiple_of(PAGE) || !length.is_multiple_of(PAGE) {
            return None;
        }
        let end = gpa.checked_add(length)?;
        self.slots.iter().enumerate().find_map(|(number, slot)| {
            let offset = gpa.checked_sub(slot.gpa)?;
            (slot.private && end <= slot.end()?).then_some(Place {
                slot: number,
                offset,
            })
        })
    }

    /// True if the page at this address is private when the guest begins, false if it is shared; `None` without memory
    /// there.
    pub fn begins_private(&self, gpa: u64) -> Option<bool> {
        let slot = self.slots.iter().find(|slot| {
            gpa.checked_sub(slot.gpa)
                .is_some_and(|offset| offset < slot.size)
        })?;
        Some(slot.private && !self.shared.iter().any(|window| window.contains(&gpa)))
    }

    /// The ranges that begin as private: every private slot without its windows.
    pub fn private_ranges(&self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.private) {
            let mut start = slot.gpa;
            let end = slot.gpa.saturating_add(slot.size);
            let inside = |window: &&Range<u64>| slot.gpa <= window.start && window.start < end;
            for window in self.shared.iter().filter(inside) {
                ranges.push(start..window.start);
                start = window.end;
            }
            ranges.push(start..end);
        }
        ranges.retain(|range| !range.is_empty());
        ranges
    }
}

/// Sorts ranges and refuses two that overlap.
fn apart(ranges: &mut [Range<u64>]) -> Result<(), MapError> {
    ranges.sort_by_key(|range| range.start);
    let twice = ranges.windows(2).find_map(|pair| match pair {
        [first, second] if second.start < first.end => Some(second.start),
        _ => None,
    });
    twice.map_or(Ok(()), |gpa| Err(MapError::Overlap { gpa }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn extent(gpa: u64, size: u64, private: bool) -> Extent {
        Extent { gpa, size, private }
    }

    fn window(start: u64, end: u64) -> Vec<Range<u64>> {
        [Range { start, end }].into()
    }

    fn map() -> Map {
        let slots = vec![extent(0, 8 * MIB, true), extent(8 * MIB, MIB, false)];
        Map::new(slots, &[6 * MIB..8 * MIB, MIB..2 * MIB]).unwrap()
    }

    #[test]
    fn private_ranges_are_slots_without_windows() {
        assert_eq!(map().private_ranges(), [0..MIB, 2 * MIB..6 * MIB]);
        let whole = Map::new(vec![extent(0, MIB, true)], &[]).unwrap();
        let [range] = &whole.private_ranges()[..] else {
            panic!("one range")
        };
        assert_eq!(*range, 0..MIB);
    }

    #[test]
    fn kinds_of_addresses() {
        for (gpa, expected) in [
            (0, Some(true)),
            (MIB - 1, Some(true)),
            (MIB, Some(false)),
            (2 * MIB, Some(true)),
            (8 * MIB - 1, Some(false)),
            (8 * MIB, Some(false)),
            (9 * MIB, None),
            (u64::MAX, None),
        ] {
            assert_eq!(map().begins_private(gpa), expected, "{gpa:#x}");
        }
    }

    #[test]
    fn convertible_ranges_lie_in_one_private_slot() {
        for (gpa, length, expected) in [
            (0, PAGE, true),
            (MIB, MIB, true),
            (8 * MIB - PAGE, PAGE, true),
            (8 * MIB - PAGE, 2 * PAGE, false),
            (8 * MIB, PAGE, false),
            (0, 0, false),
            (1, PAGE, false),
            (0, PAGE + 1, false),
            (u64::MAX - PAGE + 1, PAGE, false),
            (PAGE, u64::MAX - PAGE + 1, false),
        ] {
            let place = map().convertible(gpa, length);
            assert_eq!(place.is_some(), expected, "{gpa:#x} {length:#x}");
            assert!(place.is_none_or(|place| place
                == Place {
                    slot: 0,
                    offset: gpa
                }));
        }
    }

    proptest! {
        /// A map that is accepted begins every page in one state, and the private ranges are
        /// exactly the pages that begin as private.
        #[test]
        fn ranges_and_pages_agree(
            slots in prop::collection::vec((0u64..64, 1u64..32, any::<bool>()), 1..4),
            windows in prop::collection::vec((0u64..64, 1u64..8), 0..4),
        ) {
            let slots: Vec<Extent> = slots
                .into_iter()
                .map(|(page, pages, private)| extent(page * PAGE, pages * PAGE, private))
                .collect();
            let windows: Vec<Range<u64>> = windows
                .into_iter()
                .map(|(page, pages)| page * PAGE..(page + pages) * PAGE)
                .collect();
            if let Ok(map) = Map::new(slots.clone(), &windows) {
                let ranges = map.private_ranges();
                for gpa in (0..128 * PAGE).step_by(4096) {
                    let holders = slots.iter().filter(|slot| (slot.gpa..slot.gpa + slot.size).contains(&gpa));
                    let holders: Vec<&Extent> = holders.collect();
                    prop_assert!(holders.len() <= 1);
                    let window = windows.iter().any(|window| window.contains(&gpa));
                    let expected = holders.first().map(|slot| slot.private && !window);
                    prop_assert_eq!(map.begins_private(gpa), expected);
                    let listed = ranges.iter().filter(|range| range.contains(&gpa)).count();
                    prop_assert_eq!(listed, usize::from(expected == Some(true)));
                }
            }
        }
    }

    #[test]
    fn refuses_impossible_memory() {
        let slot = |gpa, size| MapError::Slot { gpa, size };
        for (slots, windows, error) in [
            (vec![], vec![], MapError::NothingPrivate),
            (
                vec![extent(0, MIB, false)],
                vec![],
                MapError::NothingPrivate,
            ),
            (vec![extent(0, 0, true)], vec![], slot(0, 0)),
            (vec![extent(1, PAGE, true)], vec![], slot(1, PAGE)),
            (vec![extent(0, 1, true)], vec![], slot(0, 1)),
            (
                vec![extent(u64::MAX - PAGE + 1, PAGE, true)],
                vec![],
                slot(u64::MAX - PAGE + 1, PAGE),
            ),
            (
                vec![extent(0, 2 * PAGE, true), extent(PAGE, PAGE, false)],
                vec![],
                MapError::Overlap { gpa: PAGE },
            ),
            (
                vec![extent(0, MIB, true)],
                vec![0..2 * PAGE, PAGE..MIB],
                MapError::Overlap { gpa: PAGE },
            ),
            (
                vec![extent(0, MIB, true)],
                window(0, 2 * MIB),
                MapError::Window {
                    start: 0,
                    end: 2 * MIB,
                },
            ),
            (
                vec![extent(0, MIB, true)],
                window(PAGE, PAGE),
                MapError::Window {
                    start: PAGE,
                    end: PAGE,
                },
            ),
        ] {
            assert_eq!(Map::new(slots, &windows), Err(error));
        }
    }
}
