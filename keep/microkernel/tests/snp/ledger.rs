// SPDX-License-Identifier: Apache-2.0

//! Private and shared pages: what the frame allocator, the ledger and the page-state changes do
//! under any order of calls and any answer of the CPU and the host.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use enarx_boot::address::{Gpa, PhysAddr};
use enarx_boot::boot_page::BootInfo;
use enarx_boot::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, HUGE, IMAGE_USER, LARGE, LAUNCH_END, PAGE, SHARED_END,
    SHARED_PHYSICAL, USER_END,
};
use enarx_boot::page_table::PteFlags;
use enarx_exits::{HostFacts, Reason};
use enarx_microkernel::epoch::Epoch;
use enarx_microkernel::fatal::{CallError, Fatal};
use enarx_microkernel::frame::{Frame, LargeFrame};
use enarx_microkernel::frames::Frames;
use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::launch::Launch;
use enarx_microkernel::linux::Errno;
use enarx_microkernel::platform::Platform;
use enarx_microkernel::registers::Registers;
use enarx_microkernel::snp::ghcb::Answer;
use enarx_microkernel::snp::instructions::Validated;
use enarx_microkernel::snp::pages::Ledger;
use enarx_microkernel::syscall::{After, system_call};
use enarx_snp::ghcb::{PageOperation, exit};
use enarx_syscall as nr;

use crate::machine::{
    C_BIT, DIRECT, Given, JUNK, LAUNCH_FREE, Locked, Machine, boot, boot_info, frames, launch,
    loader, private, window,
};

const SIZE_MISMATCH: Validated = Validated {
    code: 6,
    unchanged: false,
};

/// Answers of the CPU that must end the Keep when they meet a page of this size.
const WRONG_ANSWERS: [Validated; 4] = [
    // The page had been validated before: the host gave the guest another page instead.
    Validated {
        code: 0,
        unchanged: true,
    },
    // FAIL_INPUT and a code that does not exist.
    Validated {
        code: 1,
        unchanged: false,
    },
    Validated {
        code: u32::MAX,
        unchanged: true,
    },
    SIZE_MISMATCH,
];

/// An operation on the allocator; the numbers choose among the frames in use.
#[derive(Clone, Copy, Debug)]
enum Step {
    Small,
    Filled(u64),
    Large,
    FreeSmall(usize),
    FreeLarge(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Small),
        2 => prop_oneof![Just(0), any::<u64>()].prop_map(Step::Filled),
        3 => Just(Step::Large),
        2 => any::<usize>().prop_map(Step::FreeSmall),
        2 => any::<usize>().prop_map(Step::FreeLarge),
    ]
}

/// The frames in use.
#[derive(Default)]
struct InUse {
    small: Vec<Frame>,
    large: Vec<LargeFrame>,
    pages: BTreeSet<u64>,
}

impl InUse {
    /// A frame was handed out.
    fn take(&mut self, frame: PhysAddr, size: u64) {
        assert_ne!(frame.get() & C_BIT, 0);
        let start = frame.gpa().get();
        for page in (start..start + size).step_by(4096) {
            assert!(self.pages.insert(page), "{page:#x} handed out twice");
        }
    }

    fn give_back(&mut self, frame: PhysAddr, size: u64) {
        let start = frame.gpa().get();
        for page in (start..start + size).step_by(4096) {
            assert!(self.pages.remove(&page));
        }
    }
}

fn perform(machine: &mut Machine, frames: &mut Frames, used: &mut InUse, step: Step) {
    match step {
        Step::Small | Step::Filled(_) => {
            let (frame, value) = match step {
                Step::Filled(value) => (frames.table(machine, value), value),
                _ => (frames.small(machine), 0),
            };
            if let Some(frame) = frame {
                used.take(frame.address(), PAGE);
                assert_eq!(machine.run_length(frame.words(), value), 512);
                machine.fill(frame, JUNK);
                used.small.push(frame);
            }
        }
        Step::Large => {
            if let Some(frame) = frames.large(machine) {
                let start = frame.address().gpa();
                assert!(start.is_aligned(LARGE));
                used.take(frame.address(), LARGE);
                assert!(machine.is_zero(start.get(), LARGE));
                for part in [0, 1, 511] {
                    machine.fill(frame.part(part), JUNK);
                }
                used.large.push(frame);
            }
        }
        Step::FreeSmall(which) => {
            if !used.small.is_empty() {
                let frame = used.small.swap_remove(which % used.small.len());
                used.give_back(frame.address(), PAGE);
                frames.free_small(machine, frame);
            }
        }
        Step::FreeLarge(which) => {
            if !used.large.is_empty() {
                let frame = used.large.swap_remove(which % used.large.len());
                used.give_back(frame.address(), LARGE);
                frames.free_large(machine, frame);
            }
        }
    }
}

/// The ledger of the launch.
fn ledger() -> Ledger {
    Ledger::new(&launch(1)).unwrap()
}

/// Has the ledger accept a page of 4 KiB or 2 MiB.
fn accept(machine: &mut Machine, gpa: u64, size: u64) -> Result<(), Fatal> {
    let page = private(gpa);
    if size == LARGE {
        let frame = ledger().accept_large(machine, page)?;
        assert_eq!(frame.address(), page);
    } else {
        let frame = ledger().accept_small(machine, page)?;
        assert_eq!(frame.address(), page);
    }
    Ok(())
}

fn change_state(
    machine: &mut Machine,
    start: u64,
    end: u64,
    operation: PageOperation,
) -> Result<(), Fatal> {
    ledger().change_state(machine, Gpa::new(start), Gpa::new(end), operation)
}

fn all(small: u64, large: u64, reserve: u64) -> u64 {
    small * PAGE + (large + reserve) * LARGE
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every assigned frame is validated, zeroed, in the direct map, and has no other user. The
    /// fake CPU refuses a second PVALIDATE of any page, and any access outside the direct map.
    #[test]
    fn frames_are_accepted_once_and_come_zeroed(
        steps in proptest::collection::vec(step(), 1..80),
        small in 0u64..16,
        large in 0u64..4,
        reserve in 0u64..3,
        mismatch in any::<u8>(),
    ) {
        let mut machine = Machine::new();
        let mut turn = 0;
        machine.pvalidate = Box::new(move |(_, large)| {
            turn += u32::from(large);
            (large && mismatch >> (turn % 8) & 1 == 1).then_some(SIZE_MISMATCH)
        });
        let mut frames = frames(small, large, reserve);
        let mut used = InUse::default();
        for step in steps {
            perform(&mut machine, &mut frames, &mut used, step);
        }
        machine.check_ledger();
        // Nothing was lost: all free frames can be allocated.
        prop_assert!(frames.free() + used.pages.len() as u64 * PAGE == all(small, large, reserve));
        for _ in 0..large + reserve {
            perform(&mut machine, &mut frames, &mut used, Step::Large);
        }
        while frames.free() > 0 {
            perform(&mut machine, &mut frames, &mut used, Step::Small);
        }
        prop_assert_eq!(used.pages.len() as u64 * PAGE, all(small, large, reserve));
        prop_assert_eq!(frames.small(&mut machine), None);
        machine.check_ledger();
    }

    /// One wrong answer of the CPU, at any point, ends the Keep immediately.
    #[test]
    fn a_wrong_answer_to_pvalidate_ends_the_keep(
        steps in proptest::collection::vec(step(), 1..40),
        at in 0u64..40,
        lie in 0..WRONG_ANSWERS.len(),
        mismatch in any::<bool>(),
    ) {
        let mut machine = Machine::new();
        let told = Rc::new(Cell::new(None));
        let tell = Rc::clone(&told);
        let mut seen = 0;
        machine.pvalidate = Box::new(move |(gpa, large)| {
            assert_eq!(tell.get(), None, "PVALIDATE after a wrong answer");
            seen += 1;
            if seen > at && !(large && WRONG_ANSWERS[lie] == SIZE_MISMATCH) {
                tell.set(Some(gpa));
                return Some(WRONG_ANSWERS[lie]);
            }
            (large && mismatch).then_some(SIZE_MISMATCH)
        });
        let mut frames = frames(4, 2, 1);
        let mut used = InUse::default();
        let mut fatal = None;
        for step in steps {
            perform(&mut machine, &mut frames, &mut used, step);
            fatal = frames.failure().map(Fatal::from);
            if fatal.is_some() {
                break;
            }
        }
        let expected = told.get().map(|gpa| Fatal::new(Reason::Validation, gpa));
        prop_assert_eq!(fatal, expected);
    }

    /// Private and shared windows in any order: the host's part of memory and the ledger never
    /// meet. The fake host refuses a change of a page in the direct map, the fake CPU a
    /// PVALIDATE of a shared page: the microkernel itself must not request either.
    #[test]
    fn the_ledger_and_shared_windows_never_meet(
        steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u64..40, 1u64..36), 1..20),
    ) {
        let mut machine = Machine::new();
        let mut shared = BTreeSet::new();
        let mut private = BTreeSet::new();
        for (takes, shares, first, count) in steps {
            let start = SHARED_END + first * LARGE;
            if takes {
                // The kernel takes only what it has not shared.
                if shared.contains(&start) {
                    continue;
                }
                let result = accept(&mut machine, start, LARGE);
                let expected = if private.insert(start) {
                    Ok(())
                } else {
                    Err(Fatal::new(Reason::Validation, start))
                };
                prop_assert_eq!(result, expected);
                continue;
            }
            let end = start + count * LARGE;
            let before = machine.exits.len();
            let operation = if shares { PageOperation::Shared } else { PageOperation::Private };
            let result = change_state(&mut machine, start, end, operation);
            let changed = |until: u64| (start..until).step_by(2 << 20);
            if let Some(&used) = private.range(start..end).next() {
                prop_assert_eq!(result, Err(Fatal::new(Reason::Validation, used)));
                // Whole batches before it were processed.
                let batches = (used - start) / (16 * LARGE);
                prop_assert_eq!((machine.exits.len() - before) as u64, batches);
                for frame in changed(start + batches * 16 * LARGE) {
                    if shares { shared.insert(frame); } else { shared.remove(&frame); }
                }
            } else {
                prop_assert_eq!(result, Ok(()));
                for frame in changed(end) {
                    if shares { shared.insert(frame); } else { shared.remove(&frame); }
                }
            }
            machine.check_ledger();
        }
    }

    /// Any answer of the host to a page state change either says that everything was done, or ends
    /// the Keep.
    #[test]
    fn any_answer_to_a_page_state_change_is_checked(
        info1 in prop_oneof![Just(0), any::<u64>()],
        info2 in prop_oneof![Just(0), any::<u64>()],
        buffer in prop_oneof![(0u64..40, 0u64..40).prop_map(|(a, b)| a | (b << 16)), any::<u64>()],
        count in 1u64..17,
    ) {
        let mut machine = Machine::new();
        machine.exit = Box::new(move |_| Some(Answer { info1, info2, buffer }));
        let (start, end) = (SHARED_END, SHARED_END + count * LARGE);
        let result = change_state(&mut machine, start, end, PageOperation::Private);
        let (current, last) = (buffer & 0xffff, buffer >> 16 & 0xffff);
        let done = info1.trailing_zeros() >= 32 && info2 == 0 && last == count - 1 && current > last;
        let refused = Err(Fatal::new(Reason::PageState, start));
        prop_assert_eq!(result, if done { Ok(()) } else { refused });
        prop_assert_eq!(machine.exits.len(), 1);
    }

    /// The host's facts and the boot page are checked, not trusted.
    #[test]
    fn no_fact_breaks_the_boot(
        facts in (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()),
        end in prop_oneof![Just(None), (0..1u64 << 19).prop_map(Some)],
        vcpus in prop_oneof![Just(None), (0..70u64, 0..70u64).prop_map(Some)],
        which in 0usize..20,
        value in any::<u64>(),
    ) {
        let (tsc_khz, wall_ns, memory_end, many, processors) = facts;
        let (many, processors) = vcpus.unwrap_or((many, processors));
        let memory_end = end.map_or(memory_end, |frames| frames * LARGE);
        let facts = HostFacts { tsc_khz, wall_ns, memory_end, vcpus: many, processors };
        let mut kernel = Kernel::new();
        if kernel.boot(&launch(1), &facts, 1).is_ok() {
            prop_assert!((SHARED_END + LARGE..=DIRECT_MAP_SIZE).contains(&memory_end));
            prop_assert!(memory_end.is_multiple_of(LARGE));
            prop_assert!((1..=64).contains(&many) && (1..=many).contains(&processors));
        }
        // The boot page is measured; nonsense in it still ends with a clear error.
        let mut info = boot_info(1);
        let field: [fn(&mut BootInfo) -> &mut u64; 6] = [
            |info| &mut info.magic,
            |info| &mut info.launch_free,
            |info| &mut info.free_start,
            |info| &mut info.heap_start,
            |info| &mut info.user_entry,
            |info| &mut info.c_bit,
        ];
        *field[which % field.len()](&mut info) = value;
        let end = crate::machine::facts(SHARED_END + 4 * LARGE);
        let booted = Launch::new(&Given(info)).and_then(|launch| Kernel::new().boot(&launch, &end, 1));
        if let Err(fatal) = booted {
            prop_assert_eq!(fatal.0.reason, Reason::Boot as u64);
        }
    }
}

#[test]
fn a_frame_is_never_accepted_twice() {
    let mut machine = Machine::new();
    let small = LAUNCH_END - PAGE;
    let large = SHARED_END;
    assert_eq!(accept(&mut machine, small, PAGE), Ok(()));
    assert_eq!(accept(&mut machine, large, LARGE), Ok(()));
    machine.check_ledger();
    let count = machine.pvalidates;
    let refused = |page| Err(Fatal::new(Reason::Validation, page));
    for (frame, size) in [
        (small, PAGE),
        (large, LARGE),
        // A part of a large page, and the large page around small ones.
        (large + PAGE, PAGE),
        (0, LARGE),
        // A page of the launch, and one beyond the tables.
        (LAUNCH_FREE - PAGE, PAGE),
        (HUGE, LARGE),
    ] {
        assert_eq!(
            accept(&mut machine, frame, size),
            refused(frame),
            "{frame:#x}"
        );
    }
    assert_eq!(machine.pvalidates, count, "no instruction was spent");
    machine.check_ledger();
}

/// A host that gives 2 MiB in 4 KiB pages, one of which it has replayed.
#[test]
fn a_replay_in_a_split_page_is_detected() {
    for bad in [0, 1, 77, 511] {
        let mut machine = Machine::new();
        machine.pvalidate = Box::new(move |(gpa, large)| {
            let replayed = gpa == SHARED_END + bad * PAGE;
            if large {
                Some(SIZE_MISMATCH)
            } else {
                replayed.then_some(WRONG_ANSWERS[0])
            }
        });
        assert_eq!(
            accept(&mut machine, SHARED_END, LARGE),
            Err(Fatal::new(Reason::Validation, SHARED_END + bad * PAGE))
        );
        assert_eq!(machine.pvalidates, 2 + bad);
    }
}

#[test]
fn the_direct_map_grows_by_tables_for_all_memory() {
    for (end, tables) in [
        (LARGE, 0),
        (HUGE, 0),
        (HUGE + LARGE, 1),
        (3 * HUGE, 2),
        (3 * HUGE + LARGE, 3),
        (DIRECT_MAP_SIZE, 511),
    ] {
        let mut machine = Machine::new();
        let mut frames = frames(16, 4, 0);
        let before = frames.free();
        frames.extend_ledger(&mut machine, Gpa::new(end)).unwrap();
        assert_eq!((before - frames.free()) / PAGE, tables);
        for slot in 0..512 {
            let entry = machine.word(DIRECT[0] + slot * 8);
            assert_eq!(
                entry & PteFlags::PRESENT.bits() != 0,
                slot <= tables,
                "{slot}"
            );
            assert_eq!(entry & PteFlags::LARGE.bits(), 0);
            assert_eq!(entry & C_BIT != 0, slot <= tables);
        }
        machine.check_ledger();
        // The last frame can be accepted, one in the GiB after it cannot.
        let last = end.max(SHARED_END + 8 * LARGE) - LARGE;
        assert_eq!(accept(&mut machine, last, LARGE), Ok(()));
        let beyond = (tables + 1) * HUGE;
        if beyond < DIRECT_MAP_SIZE {
            assert_eq!(
                accept(&mut machine, beyond, LARGE),
                Err(Fatal::new(Reason::Validation, beyond))
            );
        }
        machine.check_ledger();
    }
}

#[test]
fn the_direct_map_needs_memory_for_its_tables() {
    let mut machine = Machine::new();
    let mut frames = frames(1, 0, 0);
    let result = frames.extend_ledger(&mut machine, Gpa::new(3 * HUGE));
    assert_eq!(result, Err(Fatal::new(Reason::OutOfMemory, 0)));
}

/// Everything that is left in the allocator.
fn exhaust(machine: &mut Machine, kernel: &mut Kernel) -> BTreeSet<u64> {
    let frames = kernel.space.frames();
    let mut found = BTreeSet::new();
    while let Some(frame) = frames.large(machine) {
        let gpa = frame.address().gpa().get();
        assert!(machine.is_zero(gpa, LARGE));
        assert!(found.insert(gpa));
    }
    while let Some(frame) = frames.small(machine) {
        assert!(found.insert(frame.address().gpa().get()));
    }
    found
}

#[test]
fn the_image_is_released_once_and_becomes_memory() {
    for image in [1, 3, 17, 40] {
        let mut machine = Machine::new();
        let mut kernel = boot(&mut machine, image, 2).unwrap();
        let info = boot_info(image);
        let window_bits =
            PteFlags::PINNED.bits() | PteFlags::USER.bits() | PteFlags::PRESENT.bits();
        assert!((0..image).all(|frame| window(&machine, frame) & window_bits == window_bits));
        let before = exhaust(&mut machine, &mut kernel);
        for &frame in &before {
            let launch = (LAUNCH_FREE..SHARED_PHYSICAL).contains(&frame);
            assert!(launch || frame >= info.free_start, "{frame:#x}");
        }
        machine.check_ledger();

        let epoch = Epoch::new();
        // When the pages are accepted, the user's mapping of them is gone.
        let cut = Rc::new(Cell::new(0));
        let seen = Rc::clone(&cut);
        machine.exit = Box::new(move |_| {
            seen.set(seen.get() + 1);
            None
        });
        kernel.release_image(&mut machine, &epoch, 0).unwrap();
        assert_eq!(cut.get(), image.div_ceil(16));
        assert_eq!(machine.flushes, 1);
        assert!((0..image).all(|frame| window(&machine, frame) == 0));
        let released = exhaust(&mut machine, &mut kernel);
        let expected: BTreeSet<u64> = (info.image_start..info.free_start)
            .step_by(2 << 20)
            .collect();
        assert_eq!(released, expected);
        machine.check_ledger();

        let exits = machine.exits.len();
        kernel.release_image(&mut machine, &epoch, 0).unwrap();
        assert_eq!(machine.exits.len(), exits);
        assert_eq!(kernel.space.free_memory(), 0);
    }
}

#[test]
fn the_loader_and_the_window_are_unmapped_once_the_image_is_loaded() {
    const PROGRAM: (u64, u64) = (0x40_1000, 0x7000_3fff_f000);
    let mut machine = Machine::new();
    let kernel = Locked::boot(&mut machine);
    assert!(loader(&machine) != 0 && window(&machine, 0) != 0);
    let epoch = Epoch::new();
    let mut call = |entry| {
        let mut registers = Registers {
            rax: nr::IMAGE_LOADED,
            rdi: entry,
            rsi: PROGRAM.1,
            rdx: 7,
            rip: 0x10_1000,
            rsp: 0x1000,
            ..Registers::default()
        };
        let after = system_call(&kernel, &epoch, &mut machine, 0, &mut registers);
        assert_eq!((after, registers.rax), (Ok(After::User), 0));
        (registers.rip, registers.rsp, registers.rdx)
    };
    // It enters the program, because its caller is gone.
    assert_eq!(call(PROGRAM.0), (PROGRAM.0, PROGRAM.1, 0));
    // Not an address of a program: back to the caller.
    for entry in [0, USER_END, u64::MAX] {
        assert_eq!(call(entry), (0x10_1000, 0x1000, 7));
    }
    assert_eq!((loader(&machine), window(&machine, 0)), (0, 0));
    assert_eq!(machine.flushes, 1);
    machine.check_ledger();
}

#[test]
fn a_host_that_keeps_the_image_ends_the_keep() {
    let mut machine = Machine::new();
    let mut kernel = boot(&mut machine, 20, 2).unwrap();
    let start = boot_info(20).image_start;
    let free = kernel.space.free_memory();
    let mut calls = 0;
    machine.exit = Box::new(move |_| {
        calls += 1;
        (calls == 2).then_some(Answer {
            info1: 0,
            info2: 1,
            buffer: 0,
        })
    });
    let epoch = Epoch::new();
    let result = kernel.release_image(&mut machine, &epoch, 0);
    assert_eq!(
        result,
        Err(Fatal::new(Reason::PageState, start + 16 * LARGE))
    );
    assert_eq!(kernel.space.free_memory(), free, "none of it became memory");
}

/// At boot, every exit refused in turn ends the Keep with the matching reason.
#[test]
fn every_refusal_at_boot_ends_the_keep() {
    let mut machine = Machine::new();
    boot(&mut machine, 20, 2).unwrap();
    let exits = machine.exits.clone();
    assert!(
        exits
            .iter()
            .all(|exit| exit.code == exit::PAGE_STATE_CHANGE)
    );
    assert_eq!(exits.len(), 3);
    for refused in 0..exits.len() {
        let mut machine = Machine::new();
        let mut calls = 0;
        machine.exit = Box::new(move |_| {
            calls += 1;
            (calls == refused + 1).then_some(Answer {
                info1: 1,
                info2: 0,
                buffer: 0,
            })
        });
        let fatal = boot(&mut machine, 20, 2).unwrap_err();
        assert_eq!(fatal.0.reason, Reason::PageState as u64);
        assert_eq!(machine.exits.len(), refused + 1);
    }
}

#[test]
fn memory_beyond_the_first_gib_is_accepted_on_demand() {
    let mut machine = Machine::new();
    let mut kernel = boot(&mut machine, 1, 600).unwrap();
    let found = exhaust(&mut machine, &mut kernel);
    assert!(found.iter().any(|&frame| frame >= HUGE));
    machine.check_ledger();
    // No large page of the direct map beyond the memory.
    assert!(
        machine
            .walk(DIRECT_MAP + boot_info(1).free_start + 600 * LARGE)
            .is_none()
    );
}

/// Answers that are almost correct, which the random ones above rarely contain.
#[test]
fn a_page_state_change_is_done_when_all_its_entries_are() {
    for count in [1, 2, 16] {
        for last in [count - 1, count] {
            for current in 0..=count + 1 {
                let mut machine = Machine::new();
                let answer = Answer {
                    info1: 0,
                    info2: 0,
                    buffer: current | last << 16,
                };
                machine.exit = Box::new(move |_| Some(answer));
                let (start, end) = (SHARED_END, SHARED_END + count * LARGE);
                let result = change_state(&mut machine, start, end, PageOperation::Shared);
                let is_done = last == count - 1 && current > last;
                assert_eq!(result.is_ok(), is_done, "{current} of {last}, {count}");
            }
        }
    }
}

/// The host changes what the microkernel would read there, and reads what it would write.
#[test]
fn no_call_reaches_shared_memory() {
    let mut machine = Machine::new();
    let mut kernel = boot(&mut machine, 1, 2).unwrap();
    // The program may read it, and so would the microkernel on its behalf.
    assert!(kernel.space.rights(&machine, IMAGE_USER).is_some());
    let fault = Err(CallError::Errno(Errno::Fault));
    let read = kernel.space.read(&mut machine, IMAGE_USER, &mut [0; 8]);
    assert_eq!(read, fault);
    let written = kernel.space.write(&mut machine, IMAGE_USER, &[0; 8]);
    assert_eq!(written, fault);
}

#[test]
fn a_former_table_becomes_only_a_table_again() {
    let mut machine = Machine::new();
    let mut frames = frames(16, 2, 0);
    let table = frames.table(&mut machine, 0).unwrap();
    let before = frames.free();
    frames.free_table(&mut machine, table);
    assert_eq!(frames.free(), before + PAGE);
    while let Some(page) = frames.small(&mut machine) {
        assert_ne!(page, table);
    }
    assert_eq!(frames.free(), PAGE);
    assert_eq!(frames.table(&mut machine, 7), Some(table));
    let last = table.slot(511).address();
    assert_eq!(machine.word(last.gpa().get()), 7);
    assert_eq!(frames.table(&mut machine, 0), None);
}
