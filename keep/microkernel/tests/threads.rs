// SPDX-License-Identifier: Apache-2.0

//! Threads, futexes, signals and bad arguments: system calls on several vCPUs of a fake machine.

mod fake;

use enarx_boot::layout::{PAGE, SALLYPORT_USER, USER_END, VDSO_USER};
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::linux::flag;
use enarx_microkernel::registers::Registers;
use enarx_microkernel::signal::{USER_CS, USER_SS};
use enarx_microkernel::syscall::After;
use enarx_microkernel::threads::State;
use enarx_syscall as nr;
use proptest::prelude::*;

use fake::{Keep, Touch};

const RW: u64 = flag::PROT_READ | flag::PROT_WRITE;
const THREAD: u64 = flag::CLONE_VM
    | flag::CLONE_FS
    | flag::CLONE_FILES
    | flag::CLONE_SIGHAND
    | flag::CLONE_THREAD
    | flag::CLONE_SYSVSEM
    | flag::CLONE_SETTLS
    | flag::CLONE_PARENT_SETTID
    | flag::CLONE_CHILD_CLEARTID;

fn page(keep: &Keep) -> u64 {
    let at = keep.call(nr::MMAP, &[0, PAGE, RW, flag::MAP_ANONYMOUS]);
    assert!(at > 0);
    at.cast_unsigned()
}

fn state(keep: &Keep, vcpu: usize) -> State {
    keep.kernel.with(|kernel| kernel.threads.get(vcpu).state)
}

/// The start of a thread, as in the binary.
fn begin(keep: &Keep, vcpu: usize) {
    assert_eq!(state(keep, vcpu), State::Starting);
    keep.start(vcpu);
}

fn word(keep: &Keep, address: u64) -> u32 {
    match keep.touch(0, address & !7, None) {
        Touch::Done(value) => u32::try_from(value >> (address % 8 * 8) & 0xffff_ffff).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_start_end_and_leave_their_vcpu() {
    let keep = Keep::new(4, 3);
    let at = page(&keep);
    for round in 0..3 {
        let first = keep.call(nr::CLONE, &[THREAD, at + 64, at, at + 4, 0x5000]);
        let second = keep.call(nr::CLONE, &[THREAD, at + 128, at + 8, at + 12, 0x6000]);
        assert_eq!((first, second), (2, 3));
        assert_eq!((word(&keep, at), word(&keep, at + 8)), (2, 3));
        assert_eq!(
            keep.call(nr::CLONE, &[THREAD, at, at, at, 0]),
            -11,
            "no vCPU is left"
        );
        let start = keep.kernel.with(|kernel| *kernel.threads.get(1));
        assert_eq!((start.start.rax, start.start.rsp), (0, at + 64));
        assert_eq!((start.start_fs, start.clear_tid), (0x5000, at + 4));
        begin(&keep, 1);
        begin(&keep, 2);
        // A joiner waits for the second word; the thread that ends clears it and wakes.
        keep.touch(0, at, Some(7 << 32));
        keep.kernel
            .with(|kernel| kernel.threads.get(2).state = State::Waiting(at + 4));
        let mut exit = Registers {
            rax: nr::EXIT,
            ..Registers::default()
        };
        assert_eq!(keep.call_with(1, &mut exit), After::ThreadEnded);
        assert_eq!(state(&keep, 1), State::Idle);
        assert_eq!(state(&keep, 2), State::Running);
        assert_eq!(word(&keep, at + 4), 0);
        assert_eq!(keep.world.borrow().unparked.last(), Some(&2));
        let mut exit = Registers {
            rax: nr::EXIT,
            ..Registers::default()
        };
        assert_eq!(keep.call_with(2, &mut exit), After::ThreadEnded);
        keep.check();
        assert_eq!(keep.world.borrow().unparked.len(), (round + 1) * 3);
    }
    let mut exit = Registers {
        rax: nr::EXIT,
        ..Registers::default()
    };
    assert_eq!(
        keep.call_with(0, &mut exit),
        After::Exit(0),
        "the last thread"
    );
}

#[test]
fn the_first_thread_may_end_first() {
    let keep = Keep::new(4, 2);
    let at = page(&keep);
    assert_eq!(keep.call(nr::CLONE, &[THREAD, at, at, at + 4, 0]), 2);
    begin(&keep, 1);
    let mut exit = Registers {
        rax: nr::EXIT,
        ..Registers::default()
    };
    assert_eq!(keep.call_with(0, &mut exit), After::ThreadEnded);
    // Its vCPU is free for another thread.
    assert_eq!(keep.call_of(1, nr::CLONE, &[THREAD, at, at, at, 0]), 1);
    begin(&keep, 0);
    for (vcpu, after) in [(1, After::ThreadEnded), (0, After::Exit(0))] {
        let mut exit = Registers {
            rax: nr::EXIT,
            ..Registers::default()
        };
        assert_eq!(keep.call_with(vcpu, &mut exit), after);
    }
}

#[test]
fn a_clone_that_fails_takes_no_vcpu() {
    let keep = Keep::new(4, 2);
    let at = page(&keep);
    let kernel = 0xffff_8000_0000_0000;
    for (flags, parent, child, tls, answer) in [
        (THREAD, kernel, at, 0, -14),
        (THREAD | flag::CLONE_CHILD_SETTID, at, kernel, 0, -14),
        (THREAD, at, at, kernel, -22),
        (THREAD & !flag::CLONE_VM, at, at, 0, -22),
        (THREAD | 1 << 31, at, at, 0, -22),
    ] {
        assert_eq!(
            keep.call(nr::CLONE, &[flags, at, parent, child, tls]),
            answer
        );
        assert_eq!(state(&keep, 1), State::Idle);
    }
}

#[test]
fn futexes_compare_time_out_and_wake() {
    let keep = Keep::new(4, 4);
    let at = page(&keep);
    keep.touch(0, at, Some(5));
    let wait = flag::FUTEX_WAIT | flag::FUTEX_PRIVATE;
    assert_eq!(keep.call(nr::FUTEX, &[at, wait, 6]), -11);
    assert_eq!(keep.call(nr::FUTEX, &[at + 1, wait, 5]), -22);
    assert_eq!(keep.call(nr::FUTEX, &[USER_END, wait, 5]), -14);
    // One microsecond.
    keep.touch(0, at + 16, Some(0));
    keep.touch(0, at + 24, Some(1000));
    assert_eq!(keep.call(nr::FUTEX, &[at, wait, 5, at + 16]), -110);
    assert_eq!(state(&keep, 0), State::Running);
    // A time that has already passed, absolute.
    let bitset = flag::FUTEX_WAIT_BITSET | flag::FUTEX_PRIVATE;
    assert_eq!(
        keep.call(nr::FUTEX, &[at, bitset, 5, at + 16, 0, 0xffff_ffff]),
        -110
    );
    keep.touch(0, at + 24, Some(1_000_000_000));
    assert_eq!(
        keep.call(nr::FUTEX, &[at, wait, 5, at + 16]),
        -22,
        "no such time"
    );
    for vcpu in 1..4 {
        keep.kernel
            .with(|kernel| kernel.threads.get(vcpu).state = State::Waiting(at));
    }
    assert_eq!(keep.call(nr::FUTEX, &[at + 4, flag::FUTEX_WAKE, 9]), 0);
    assert_eq!(keep.call(nr::FUTEX, &[at, flag::FUTEX_WAKE, 2]), 2);
    assert_eq!(state(&keep, 3), State::Waiting(at));
    assert_eq!(keep.call(nr::FUTEX, &[at, flag::FUTEX_WAKE, 9]), 1);
    assert_eq!(keep.world.borrow().unparked, [1, 2, 3]);
}

/// The time that user code reads from `clock`, in nanoseconds.
fn clock(keep: &Keep, at: u64, clock: u64) -> u64 {
    assert_eq!(keep.call(nr::CLOCK_GETTIME, &[clock, at]), 0);
    let half = |offset| match keep.touch(0, at + offset, None) {
        Touch::Done(value) => value,
        other => panic!("{other:?}"),
    };
    half(0) * 1_000_000_000 + half(8)
}

/// A host sets the counter back, ahead and to its limits; user code has read the clock without a system call
/// in between.
#[test]
fn no_clock_goes_back() {
    let keep = Keep::new(4, 1);
    let at = page(&keep);
    let (mut last, mut last_wall) = (0, 0);
    for tsc in [
        1_000_000,
        5_000_000,
        0,
        4_000_000,
        1 << 40,
        7,
        1 << 63,
        u64::MAX,
        0,
        5_000_000,
    ] {
        keep.world.borrow_mut().tsc = tsc;
        for number in 0..8 {
            let now = clock(&keep, at, number);
            let last = if number == flag::CLOCK_REALTIME || number == flag::CLOCK_REALTIME_COARSE {
                &mut last_wall
            } else {
                &mut last
            };
            assert!(now >= *last, "clock {number} at {tsc}: {now} < {last}");
            assert!(i64::try_from(now).is_ok());
            *last = now;
        }
        assert_eq!(keep.call(nr::GETTIMEOFDAY, &[at]), 0);
        assert!(keep.call(nr::TIME, &[0]) >= (last_wall / 1_000_000_000).cast_signed());
        if tsc == 1 << 40 {
            // The vDSO was faster.
            last += 10_000_000_000;
            last_wall += 10_000_000_000;
            keep.world.borrow_mut().latest = last;
        }
    }
}

#[test]
fn the_heap_answers_with_its_end() {
    let keep = Keep::new(4, 1);
    let end = keep.call(nr::BRK, &[0]);
    assert_eq!(keep.call(nr::BRK, &[u64::MAX]), end);
    assert_eq!(keep.call(nr::BRK, &[SALLYPORT_USER]), end);
    let page = PAGE.cast_signed();
    assert_eq!(keep.call(nr::BRK, &[end.cast_unsigned() + 3]), end + page);
    assert_eq!(
        keep.call(nr::BRK, &[end.cast_unsigned() - PAGE]),
        end + page
    );
}

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..64,
        Just(u64::MAX),
        Just(0xffff_8000_0000_0000),
        Just(0xffff_ffff_8001_0000),
        Just(1 << 47),
        (USER_END - 64..USER_END + 64),
        (VDSO_USER - 8..VDSO_USER + 8),
        (0u64..512).prop_map(|offset| 0x5000_0000 + PAGE - 256 + offset),
        (0u64..1 << 13).prop_map(|pages| pages * PAGE),
    ]
}

/// Numbers that end the Keep or never answer, whatever their arguments.
const ENDS: [u64; 4] = [nr::EXIT, nr::EXIT_GROUP, nr::RT_SIGRETURN, nr::TGKILL];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// No call panics, breaks an invariant, or answers differently from Linux.
    #[test]
    fn any_call_with_any_arguments_is_harmless(
        number in prop_oneof![4 => 0u64..335, 1 => any::<u64>(), 1 => 0x454e_0001u64..0x454e_0004],
        args in prop::array::uniform6(argument()),
    ) {
        prop_assume!(!ENDS.contains(&number));
        // Sleeping for hours and filling gigabytes are allowed, and slow to simulate.
        prop_assume!(number != nr::FUTEX || args[1] & 0x7f == flag::FUTEX_WAKE || args[3] != 0);
        let keep = Keep::new(2, 2);
        let fixed = flag::MAP_FIXED | flag::MAP_ANONYMOUS;
        keep.call(nr::MMAP, &[0x5000_0000, PAGE, RW, fixed]);
        keep.touch(0, 0x5000_0000, Some(0));
        let answer = keep.call(number, &args);
        keep.check();
        prop_assert!(answer >= -110 || number == nr::FUTEX, "{}", answer);
        prop_assert!(answer < USER_END.cast_signed());
        if (answer < 0) && number == nr::CLONE {
            prop_assert_eq!(state(&keep, 1), State::Idle);
        }
    }

    /// rt_sigreturn with any frame: user privileges and user addresses, or the end.
    #[test]
    fn any_signal_frame_gives_no_privilege(words in prop::collection::vec(argument(), 56), rsp in argument()) {
        let keep = Keep::new(2, 1);
        let at = page(&keep);
        for (index, &word) in words.iter().enumerate() {
            keep.touch(0, at + index as u64 * 8, Some(word));
        }
        for rsp in [at + 8, rsp] {
            let mut registers = Registers {
                rax: nr::RT_SIGRETURN,
                rsp,
                cs: USER_CS,
                ss: USER_SS,
                ..Registers::default()
            };
            let mut machine = keep.machine(0);
            let result = keep.kernel.with(|kernel| kernel.signal_return(&mut machine, &mut registers));
            if result.is_ok() {
                prop_assert!(registers.rip < USER_END);
                prop_assert_eq!((registers.cs, registers.ss), (USER_CS, USER_SS));
                prop_assert_eq!(registers.flags & !0x0024_0ed7, 0);
                prop_assert_eq!(registers.flags & 0x202, 0x202);
            }
        }
    }
}
