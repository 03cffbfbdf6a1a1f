// SPDX-License-Identifier: Apache-2.0

//! User memory against a model, with every TLB checked: what a hostile program can do with `mmap`, `munmap`,
//! `mprotect`, `madvise`, `brk` and page faults.

mod fake;

use std::collections::BTreeMap;

use enarx_boot::layout::{HUGE, LARGE, PAGE, SALLYPORT_USER, USER_END, VDSO_USER};
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::linux::flag;
use enarx_syscall as nr;
use proptest::prelude::*;

use fake::{HEAP, Keep, Touch};

const FIXED: u64 = flag::MAP_FIXED | flag::MAP_ANONYMOUS;
const ANYWHERE: u64 = flag::MAP_ANONYMOUS;
const RW: u64 = flag::PROT_READ | flag::PROT_WRITE;

/// The tested ranges: inside and across 2 MiB and 1 GiB, next to pinned pages, at the end.
const ZONES: [u64; 6] = [
    0x4000_0000 - 4 * PAGE,
    0x5000_0000,
    0x8000_0000 - LARGE,
    VDSO_USER - 4 * PAGE,
    SALLYPORT_USER - LARGE,
    USER_END - 8 * PAGE,
];

#[derive(Clone, Debug)]
enum Place {
    /// Pages after the start of a zone.
    Zone(usize, u64),
    /// Pages after the start of an earlier mapping.
    Mapping(usize, u64),
    /// Pages of the heap.
    Heap(u64),
}

#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64),
    MapFixed(Place, u64, u64, bool),
    Unmap(Place, u64),
    Protect(Place, u64, u64),
    Discard(Place, u64),
    Touch(usize, Place, bool),
    Heap(u64),
    /// Another vCPU is in the kernel without its lock, and leaves after this many writes.
    Linger(u64),
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        (0..ZONES.len(), 0u64..8).prop_map(|(zone, page)| Place::Zone(zone, page)),
        (0..ZONES.len(), 504u64..520).prop_map(|(zone, page)| Place::Zone(zone, page)),
        (0usize..8, 0u64..8).prop_map(|(mapping, page)| Place::Mapping(mapping, page)),
    ]
}

/// Pages: few, about 2 MiB, about 1 GiB, several GiB.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 1u64..9,
        3 => 510u64..516,
        1 => 1023u64..1026,
        1 => (HUGE / PAGE - 1)..(HUGE / PAGE + 2),
        1 => Just(6 * HUGE / PAGE),
    ]
}

fn prot() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0u64), 1 => Just(1), 3 => Just(RW), 1 => Just(5), 1 => Just(7)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (length(), prot()).prop_map(|(l, p)| Op::Map(l, p)),
        2 => (place(), length(), prot(), any::<bool>()).prop_map(|(a, l, p, r)| Op::MapFixed(a, l, p, r)),
        3 => (place(), length()).prop_map(|(a, l)| Op::Unmap(a, l)),
        3 => (place(), length(), prot()).prop_map(|(a, l, p)| Op::Protect(a, l, p)),
        2 => (place(), length()).prop_map(|(a, l)| Op::Discard(a, l)),
        6 => (0usize..2, place(), any::<bool>()).prop_map(|(v, a, w)| Op::Touch(v, a, w)),
        1 => (0usize..2, 0u64..3000, any::<bool>())
            .prop_map(|(v, page, w)| Op::Touch(v, Place::Heap(page), w)),
        1 => (0u64..3000).prop_map(Op::Heap),
        1 => (0u64..20).prop_map(Op::Linger),
    ]
}

/// The process's own knowledge: disjoint ranges with their rights, and what it wrote.
#[derive(Default)]
struct Model {
    ranges: BTreeMap<u64, (u64, u64)>,
    contents: BTreeMap<u64, u64>,
}

impl Model {
    fn rights(&self, address: u64) -> Option<u64> {
        let (_, &(end, prot)) = self.ranges.range(..=address).next_back()?;
        (address < end).then_some(prot)
    }

    fn cut(&mut self, at: u64) {
        if let Some((&start, &(end, prot))) = self.ranges.range(..at).next_back()
            && end > at
        {
            self.ranges.insert(start, (at, prot));
            self.ranges.insert(at, (end, prot));
        }
    }

    fn remove(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        self.ranges.retain(|&from, _| from < start || from >= end);
        self.forget(start, end);
    }

    fn forget(&mut self, start: u64, end: u64) {
        self.contents.retain(|&page, _| page < start || page >= end);
    }

    fn insert(&mut self, start: u64, end: u64, prot: u64) {
        assert!(self.is_free(start, end), "addresses handed out twice");
        if start < end {
            self.ranges.insert(start, (end, prot));
        }
    }

    fn protect(&mut self, start: u64, end: u64, prot: u64) {
        self.cut(start);
        self.cut(end);
        for (_, range) in self.ranges.range_mut(start..end) {
            range.1 = prot;
        }
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        self.rights(start).is_none() && self.ranges.range(start..end).next().is_none()
    }

    /// The first address from `start` that is not mapped, at most `end`.
    fn mapped_until(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        while at < end {
            let Some((_, &(to, _))) = self.ranges.range(..=at).next_back() else {
                break;
            };
            if to <= at {
                break;
            }
            at = to;
        }
        at.min(end)
    }
}

/// The first pinned address in a range, or its end.
fn until_pinned(start: u64, end: u64) -> u64 {
    [(SALLYPORT_USER, LARGE), (VDSO_USER, PAGE)]
        .into_iter()
        .filter(|&(pinned, size)| pinned < end && pinned + size > start)
        .map(|(pinned, _)| pinned.max(start))
        .min()
        .unwrap_or(end)
}

struct Run {
    keep: Keep,
    model: Model,
    mappings: Vec<u64>,
    vcpus: usize,
    heap: u64,
}

impl Run {
    fn new(vcpus: usize) -> Self {
        let keep = Keep::new(24, 2);
        if vcpus == 2 {
            keep.start(1);
        }
        Self {
            keep,
            model: Model::default(),
            mappings: Vec::new(),
            vcpus,
            heap: HEAP,
        }
    }

    fn address(&self, place: &Place) -> u64 {
        match *place {
            Place::Zone(zone, page) => ZONES[zone] + page * PAGE,
            Place::Heap(page) => HEAP + page * PAGE,
            Place::Mapping(index, page) => {
                let base = self.mappings.get(index).copied().unwrap_or(ZONES[1]);
                base + page * PAGE
            }
        }
    }

    /// Performs one operation on both sides and compares.
    fn step(&mut self, op: &Op) {
        let outside = |start: u64, end: u64| start < 0x1_0000 || end > USER_END;
        match op {
            Op::Map(pages, prot) => {
                let answer = self
                    .keep
                    .call(nr::MMAP, &[0, pages * PAGE, *prot, ANYWHERE, u64::MAX]);
                if *prot == 7 {
                    assert_eq!(answer, -13);
                } else {
                    assert!(answer > 0, "mmap: {answer}");
                    let start = answer.cast_unsigned();
                    self.model.insert(start, start + pages * PAGE, *prot);
                    self.mappings.push(start);
                    if self.mappings.len() > 8 {
                        self.mappings.remove(0);
                    }
                }
            }
            Op::MapFixed(place, pages, prot, replace) => {
                let start = self.address(place);
                let end = start + pages * PAGE;
                let flags = if *replace {
                    FIXED
                } else {
                    flag::MAP_FIXED_NOREPLACE | flag::MAP_ANONYMOUS
                };
                let answer = self
                    .keep
                    .call(nr::MMAP, &[start, pages * PAGE, *prot, flags, u64::MAX]);
                if *prot == 7 {
                    assert_eq!(answer, -13);
                } else if outside(start, end) {
                    assert_eq!(answer, -22);
                } else if *replace {
                    let done = until_pinned(start, end);
                    if self.vcpus == 1 || done == end {
                        self.model.remove(start, done);
                    }
                    if done == end {
                        assert_eq!(answer.cast_unsigned(), start);
                        self.model.insert(start, end, *prot);
                    } else {
                        assert_eq!(answer, -13);
                    }
                } else if self.model.is_free(start, end) && until_pinned(start, end) == end {
                    assert_eq!(answer.cast_unsigned(), start);
                    self.model.insert(start, end, *prot);
                } else {
                    assert!(answer == -17 || answer == -13, "{answer}");
                }
            }
            Op::Unmap(place, pages) => {
                let start = self.address(place);
                let end = start + pages * PAGE;
                let answer = self.keep.call(nr::MUNMAP, &[start, pages * PAGE]);
                if outside(start, end) {
                    assert_eq!(answer, -22);
                } else {
                    let done = until_pinned(start, end);
                    assert_eq!(answer, if done == end { 0 } else { -13 });
                    if self.vcpus == 1 || done == end {
                        self.model.remove(start, done);
                    }
                }
            }
            Op::Protect(place, pages, prot) => {
                let start = self.address(place);
                let end = start + pages * PAGE;
                let answer = self.keep.call(nr::MPROTECT, &[start, pages * PAGE, *prot]);
                if *prot == 7 {
                    assert_eq!(answer, -13);
                } else if outside(start, end) {
                    assert_eq!(answer, -22);
                } else {
                    let pinned = until_pinned(start, end);
                    let done = self.model.mapped_until(start, pinned);
                    self.model.protect(start, done, *prot);
                    assert_eq!(
                        answer,
                        if done == end {
                            0
                        } else if done == pinned {
                            -13
                        } else {
                            -12
                        }
                    );
                }
            }
            Op::Discard(place, pages) => {
                let start = self.address(place);
                let end = start + pages * PAGE;
                let answer = self
                    .keep
                    .call(nr::MADVISE, &[start, pages * PAGE, flag::MADV_DONTNEED]);
                if outside(start, end) {
                    assert_eq!(answer, -22);
                } else {
                    let pinned = until_pinned(start, end);
                    let done = self.model.mapped_until(start, pinned);
                    assert_eq!(answer == 0, done == end, "{answer}");
                    // While others run, a range that is partly pinned fails before it begins.
                    if self.vcpus == 1 || pinned == end {
                        self.model.forget(start, done);
                    }
                }
            }
            Op::Touch(vcpu, place, store) => self.touch(vcpu % self.vcpus, place, *store),
            Op::Heap(pages) => {
                let end = HEAP + pages * PAGE - 8;
                let end = end.max(HEAP);
                let answer = self.keep.call(nr::BRK, &[end]);
                let top = end.next_multiple_of(PAGE);
                assert_eq!(answer.cast_unsigned(), top);
                let mapped = end.next_multiple_of(LARGE).max(self.heap);
                self.heap = mapped;
                // Memory that the heap releases reads as zeros when it grows again.
                self.model.forget(top, mapped);
                self.model.ranges.insert(HEAP, (mapped, RW));
            }
            Op::Linger(writes) => {
                if self.vcpus == 2 {
                    let mut world = self.keep.world.borrow_mut();
                    world.speculate(1);
                    world.epoch.enter_kernel(1);
                    world.in_user[1] = false;
                    world.leaves = Some((1, *writes));
                }
            }
        }
    }

    fn touch(&mut self, vcpu: usize, place: &Place, store: bool) {
        let page = self.address(place);
        if until_pinned(page, page + PAGE) == page || page >= USER_END {
            return;
        }
        if vcpu == 1 && self.keep.world.borrow_mut().leaves.take().is_some() {
            self.keep.world.borrow_mut().leave(1);
        }
        let value = 0x1_0000 | page >> 12 << 20;
        let rights = self.model.rights(page);
        let allowed =
            rights.is_some_and(|rights| if store { rights & 2 != 0 } else { rights != 0 });
        let touched = self.keep.touch(vcpu, page, store.then_some(value));
        if !allowed {
            assert_eq!(touched, Touch::Denied, "{page:#x} {rights:?}");
        } else if store {
            assert_eq!(touched, Touch::Done(value));
            self.model.contents.insert(page, value);
        } else {
            let expected = self.model.contents.get(&page).copied().unwrap_or(0);
            assert_eq!(touched, Touch::Done(expected), "contents of {page:#x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_thread_agrees_with_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let mut run = Run::new(1);
        for op in &ops {
            run.step(op);
            run.keep.check();
        }
    }

    #[test]
    fn two_vcpus_agree_with_the_model(ops in prop::collection::vec(op(), 1..40)) {
        let mut run = Run::new(2);
        for op in &ops {
            run.step(op);
            run.keep.check();
        }
    }

    /// With hardly any memory: errors are allowed, damage is not.
    #[test]
    fn exhaustion_breaks_nothing(ops in prop::collection::vec(op(), 1..80), vcpus in 1usize..3) {
        let keep = Keep::new(0, 2);
        if vcpus == 2 {
            keep.start(1);
        }
        // Leave a few frames of the launch area only.
        let hog = keep.call(nr::MMAP, &[0, 200 * PAGE, RW, ANYWHERE]).cast_unsigned();
        for page in 0..200 {
            keep.touch(0, hog + page * PAGE, Some(1));
        }
        let mut run = Run { keep, model: Model::default(), mappings: vec![hog], vcpus, heap: HEAP };
        for op in &ops {
            match op {
                Op::Touch(vcpu, place, store) => {
                    let page = run.address(place);
                    run.keep.touch(vcpu % vcpus, page, store.then_some(7));
                }
                Op::Heap(pages) => {
                    run.keep.call(nr::BRK, &[HEAP + pages * PAGE]);
                }
                Op::Map(pages, prot) => {
                    let at = run.keep.call(nr::MMAP, &[0, pages * PAGE, *prot, ANYWHERE]);
                    if at > 0 {
                        run.mappings.push(at.cast_unsigned());
                    }
                }
                Op::MapFixed(place, pages, prot, _) => {
                    let at = run.address(place);
                    run.keep.call(nr::MMAP, &[at, pages * PAGE, *prot, FIXED]);
                }
                Op::Unmap(place, pages) => {
                    run.keep.call(nr::MUNMAP, &[run.address(place), pages * PAGE]);
                }
                Op::Protect(place, pages, prot) => {
                    run.keep.call(nr::MPROTECT, &[run.address(place), pages * PAGE, *prot]);
                }
                Op::Discard(place, pages) => {
                    run.keep.call(nr::MADVISE, &[run.address(place), pages * PAGE, flag::MADV_DONTNEED]);
                }
                Op::Linger(_) => {}
            }
            run.keep.check();
        }
    }
}

/// A mapping across 2 MiB whose first part got frames, and whose second part gets none for its table: the frames
/// are free only after the other vCPU, which runs user code, has forgotten them.
#[test]
fn a_mapping_that_fails_midway_leaves_no_stale_translation() {
    const AT: u64 = 0x5020_0000 - 4 * PAGE;
    let mut failed = 0;
    for left in 0..12 {
        let keep = Keep::new(0, 2);
        keep.start(1);
        // Both vCPUs have used the addresses before, and so may load translations of them at any time.
        assert!(keep.call(nr::MMAP, &[AT, 4 * PAGE, RW, FIXED]) > 0);
        for page in 0..4 {
            keep.touch(0, AT + page * PAGE, Some(1));
            keep.touch(1, AT + page * PAGE, Some(1));
        }
        assert_eq!(keep.call(nr::MUNMAP, &[AT, 4 * PAGE]), 0);
        let free = || keep.kernel.with(|kernel| kernel.space.free_memory());
        while free() > left * PAGE {
            let at = keep.call(nr::MMAP, &[0, PAGE, RW, ANYWHERE]);
            assert!(at > 0 && keep.touch(0, at.cast_unsigned(), Some(1)) == Touch::Done(1));
        }
        let before = free();
        let result = keep.call(nr::MMAP, &[AT, 8 * PAGE, RW, FIXED]);
        keep.check();
        if result < 0 {
            failed += 1;
            assert_eq!((result, free()), (-12, before));
            assert_eq!(keep.touch(1, AT, None), Touch::Denied);
        }
    }
    assert!(failed > 3, "{failed}");
}

/// Pages around a fault that get frames with it, as in `paging.rs`.
const AROUND: u64 = 16;

#[test]
fn memory_filled_from_its_end_faults_no_more_often() {
    const AT: u64 = 0x5000_0000;
    const PAGES: u64 = 4 * AROUND;
    let backed = |keep: &Keep, from: u64| {
        let world = keep.world.borrow();
        (from..from + AROUND)
            .filter(|page| world.walk(AT + page * PAGE).is_some())
            .count() as u64
    };
    // The last page of an untouched block also populates the others; so does the first.
    for page in [AROUND - 1, 2 * AROUND] {
        let keep = Keep::new(0, 1);
        assert!(keep.call(nr::MMAP, &[AT, PAGES * PAGE, RW, FIXED]) > 0);
        assert_eq!(keep.touch(0, AT + page * PAGE, Some(1)), Touch::Done(1));
        let block = page / AROUND * AROUND;
        assert_eq!(backed(&keep, block), AROUND, "{page}");
        assert_eq!(backed(&keep, AROUND), 0, "{page}");
        keep.check();
    }
    // Earlier pages stay unchanged if a part of the block has other rights.
    let keep = Keep::new(0, 1);
    assert!(keep.call(nr::MMAP, &[AT, PAGES * PAGE, RW, FIXED]) > 0);
    assert_eq!(keep.call(nr::MPROTECT, &[AT, PAGE, flag::PROT_READ]), 0);
    assert_eq!(keep.touch(0, AT + 8 * PAGE, Some(1)), Touch::Done(1));
    assert_eq!(backed(&keep, 0), AROUND - 8);
    keep.check();
}

#[test]
fn memory_filled_in_order_faults_less_and_less_often() {
    const AT: u64 = 0x5000_0000;
    const AHEAD: u64 = 4 * AROUND;
    let keep = Keep::new(8, 1);
    assert!(keep.call(nr::MMAP, &[AT, LARGE + LARGE / 2, RW, FIXED]) > 0);
    // So that its first 2 MiB have separate entries.
    assert_eq!(keep.call(nr::MPROTECT, &[AT + LARGE - PAGE, PAGE, 0]), 0);
    let backed = || {
        let world = keep.world.borrow();
        let pages = (0..LARGE / PAGE).take_while(|page| world.walk(AT + page * PAGE).is_some());
        pages.count() as u64
    };
    let mut faults = 0;
    while backed() < LARGE / PAGE - 1 {
        let page = backed();
        assert_eq!(keep.touch(0, AT + page * PAGE, Some(1)), Touch::Done(1));
        let most = AROUND + faults * AHEAD;
        assert_eq!(backed(), most.min(LARGE / PAGE - 1), "{faults}");
        faults += 1;
        keep.check();
    }
    assert_eq!(faults, 9);
    // Elsewhere only the neighbours.
    assert_eq!(
        keep.touch(0, AT + LARGE + AHEAD * PAGE, Some(1)),
        Touch::Done(1)
    );
    let world = keep.world.borrow();
    let beyond = |page: &u64| world.walk(AT + LARGE + page * PAGE).is_some();
    assert_eq!((0..LARGE / PAGE / 2).filter(beyond).count() as u64, AROUND);
}

/// A linear memory that grows: addresses without rights, of which more and more become writable.
#[test]
fn growing_memory_gets_its_frames_with_each_step() {
    const AT: u64 = 0x5000_0000;
    const STEP: u64 = 17 * AROUND;
    const STEPS: u64 = 7;
    let keep = Keep::new(8, 1);
    assert!(keep.call(nr::MMAP, &[AT, 12 * LARGE, 0, FIXED]) > 0);
    let writable = |page: u64, count: u64| {
        let result = keep.call(nr::MPROTECT, &[AT + page * PAGE, count * PAGE, RW]);
        assert_eq!(result, 0);
    };
    let backed = |from: u64, count: u64| {
        let world = keep.world.borrow();
        (from..from + count)
            .filter(|page| world.walk(AT + page * PAGE).is_some())
            .count() as u64
    };
    writable(0, AROUND);
    for step in 0..STEPS {
        let from = AROUND + step * STEP;
        writable(from, STEP);
        assert_eq!(backed(from, STEP), STEP, "{step}");
        assert_eq!(backed(from + STEP, STEP), 0, "{step}");
        keep.check();
    }
    // In a longer step the whole 2 MiB get none: they become large pages when they are touched.
    let (table, from) = (LARGE / PAGE, AROUND + STEPS * STEP);
    let whole = from.next_multiple_of(table);
    writable(from, 3 * table);
    assert_eq!(backed(from, whole - from), whole - from);
    assert_eq!(backed(whole, 2 * table), 0);
    for page in [whole, whole + table, whole + 2 * table] {
        assert_eq!(
            keep.touch(0, AT + page * PAGE, Some(page)),
            Touch::Done(page)
        );
        assert_eq!(keep.touch(0, AT + page * PAGE, None), Touch::Done(page));
        keep.check();
    }
    assert_eq!(backed(whole, 2 * table), 2 * table);
    // Without a page before it, like a stack above its guard page, it does not count as growth.
    let apart = from + 3 * table + 1;
    writable(apart, STEP);
    assert_eq!(backed(apart, STEP), 0);
    keep.check();
}

/// Frames that were used before have to be cleared, which is not done for pages that may stay untouched.
#[test]
fn growing_memory_takes_no_used_frames_ahead() {
    const AT: u64 = 0x5000_0000;
    let keep = Keep::new(2, 1);
    assert!(keep.call(nr::MMAP, &[AT, 4 * LARGE, 0, FIXED]) > 0);
    let protect = |page: u64, count: u64| {
        let result = keep.call(nr::MPROTECT, &[AT + page * PAGE, count * PAGE, RW]);
        assert_eq!(result, 0);
    };
    // All of memory is used and released.
    let free = || keep.kernel.with(|kernel| kernel.space.free_memory());
    for page in (0..4 * LARGE / PAGE).step_by(16) {
        if free() < (AROUND + 1) * PAGE {
            break;
        }
        protect(page, AROUND);
        for touched in page..page + AROUND {
            keep.touch(0, AT + touched * PAGE, Some(1));
        }
    }
    assert_eq!(keep.call(nr::MUNMAP, &[AT, 4 * LARGE]), 0);
    assert!(keep.call(nr::MMAP, &[AT, 4 * LARGE, 0, FIXED]) > 0);
    protect(0, AROUND);
    protect(AROUND, 8 * AROUND);
    let world = keep.world.borrow();
    let backed = |page: &u64| world.walk(AT + page * PAGE).is_some();
    assert_eq!((0..9 * AROUND).filter(backed).count() as u64, AROUND);
    drop(world);
    keep.check();
}

#[test]
fn a_fixed_mapping_keeps_its_addresses() {
    let keep = Keep::new(4, 1);
    let map = |fixed: Option<u64>| {
        let flags = if fixed.is_some() { FIXED } else { ANYWHERE };
        keep.call(nr::MMAP, &[fixed.unwrap_or(0), 4 * PAGE, RW, flags])
            .cast_unsigned()
    };
    let first = map(None);
    assert_eq!(map(Some(first)), first);
    assert_ne!(map(None), first, "the address is in use");
    let ahead = first + 64 * PAGE;
    assert_eq!(map(Some(ahead)), ahead);
    let mut seen = vec![first, ahead];
    for _ in 0..40 {
        let next = map(None);
        assert!(
            seen.iter()
                .all(|&at| next >= at + 4 * PAGE || at >= next + 4 * PAGE)
        );
        seen.push(next);
    }
    keep.check();
}

#[test]
fn unmapping_twice_gives_the_addresses_back_once() {
    let keep = Keep::new(4, 1);
    let map = || {
        keep.call(nr::MMAP, &[0, 4 * PAGE, RW, ANYWHERE])
            .cast_unsigned()
    };
    let (first, _after) = (map(), map());
    for _ in 0..3 {
        assert_eq!(keep.call(nr::MUNMAP, &[first, 4 * PAGE]), 0);
    }
    assert_eq!(map(), first);
    assert_ne!(map(), first);
    keep.check();
}

#[test]
fn a_removal_that_fails_midway_leaves_no_stale_translation() {
    for vcpus in 1..3 {
        let keep = Keep::new(4, 2);
        if vcpus == 2 {
            keep.start(1);
        }
        let page = VDSO_USER - PAGE;
        keep.call(nr::MMAP, &[page, PAGE, RW, FIXED]);
        for vcpu in 0..vcpus {
            assert_eq!(keep.touch(vcpu, page, Some(5)), Touch::Done(5));
        }
        assert_eq!(keep.call(nr::MUNMAP, &[page, 2 * PAGE]), -13);
        keep.check();
        let after = keep.touch(0, page, None);
        assert_eq!(
            after,
            if vcpus == 1 {
                Touch::Denied
            } else {
                Touch::Done(5)
            }
        );
        assert_eq!(
            keep.call(nr::MPROTECT, &[page, 2 * PAGE, 0]),
            if vcpus == 1 { -12 } else { -13 }
        );
        keep.check();
        keep.call(nr::MUNMAP, &[page, PAGE]);
        keep.check();
    }
}
