// SPDX-License-Identifier: Apache-2.0

//! Programs in a Keep that use the microkernel, and programs that attack it: the Keep ends with
//! the documented outcome, and the VMM survives.

#[macro_use]
extern crate enarx_harness;

mod guest;

use std::time::{Duration, Instant};

use enarx_executor::fault::{Exception, KeepFault};
use enarx_executor::launch::Outcome;
use enarx_executor::refused::{Refused, RefusedCalls};
use enarx_exits::Reason;
use enarx_harness::needs;
use guest::{Options, Platform, alone, cpl, exception, fault, run, run_with, works};

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

/// A test that needs KVM, on plain KVM and on the simulated SNP platform.
macro_rules! guest_test {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            fn on(platform: Platform) {
                let _turn = alone();
                needs::kvm();
                let body: fn(Platform) = $body;
                body(platform);
            }

            #[test]
            fn kvm() {
                on(Platform::Kvm);
            }

            #[test]
            fn simulated() {
                on(Platform::Simulated);
            }
        }
    };
}

guest_test!(hello, |platform| {
    let (outcome, output) = run(platform, "h");
    // The log shows control characters and spaces alike.
    assert_eq!(
        (outcome, output.as_str()),
        (Outcome::Exit(7), "hello from CPL3\n")
    );
});

guest_test!(threads_with_mutexes_and_conditions, |platform| {
    works(platform, "T");
});
guest_test!(frames_are_taken_from_a_vcpu_that_spins, |platform| {
    works(platform, "S");
});
guest_test!(traps_become_signals, |platform| { works(platform, "P") });
guest_test!(memory_is_zeroed_and_given_back, |platform| {
    works(platform, "M");
});
guest_test!(clock_is_monotone_and_needs_no_system_call, |platform| {
    works(platform, "K");
});
guest_test!(no_time_source_goes_back, |platform| {
    works(platform, "J");
});
guest_test!(random_numbers, |platform| { works(platform, "R") });
guest_test!(bad_system_calls_fail, |platform| { works(platform, "U") });

// Tests of Enarx use it to find a runtime that needs system calls that a Keep lacks.
guest_test!(refused_calls_end_the_keep_on_request, |platform| {
    works(platform, "O");
    let options = Options {
        refused_calls: RefusedCalls::End,
        ..Options::on(platform)
    };
    let (outcome, output) = run_with("O", &options);
    let openat = Refused {
        number: 257,
        errno: Some(2),
    };
    match outcome {
        Outcome::Fault(KeepFault::RefusedCall { call, rip: Some(_) }) => {
            assert_eq!(call, openat);
        }
        other => panic!("{other:?}: {output}"),
    }
    // Calls that the C library itself tries end nothing.
    assert_eq!(run_with("h", &options).0, Outcome::Exit(7));
});

guest_test!(pinned_pages_stay, |platform| { works(platform, "N") });
guest_test!(flags_and_segment_bases_do_no_harm, |platform| {
    works(platform, "F");
});

guest_test!(threads_are_limited_by_vcpus, |platform| {
    // Two processors and two spare vCPUs, one of which runs the first thread.
    assert_eq!(run(platform, "V").0, Outcome::Exit(3));
});

/// Kernel addresses: direct map, image in it and at its own address, stacks, exit memory.
const KERNEL: [u64; 6] = [
    0xffff_8000_0000_0000,
    0xffff_8000_0001_0000,
    0xffff_ffff_8001_0000,
    0xffff_ffff_8020_2000,
    0xffff_ffff_8040_0000,
    0xffff_ffff_ffff_f000,
];

/// Vectors of the exceptions (AMD64 APM volume 2, table 8-1).
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// Tries every kernel address; `access` is the error code without bits 0 and 3: whether
/// the page is present depends on the tables, and `kvm_pvm` marks some pages of the kernel as
/// reserved.
fn tries_kernel_memory(platform: Platform, how: &str, access: u64) {
    for address in KERNEL {
        let found = exception(platform, &format!("{how} {address:x}"));
        assert_eq!(found.vector, PAGE_FAULT, "{found}");
        let context = found.context.expect("the report has addresses");
        assert_eq!(
            (context.registers.cr2, context.cpl),
            (address, 3),
            "{found}"
        );
        let more = context.error_code ^ access;
        assert!([0, 1, 8, 9].contains(&more), "{found}");
        if how == "j" {
            assert_eq!(context.registers.rip, address, "{found}");
        }
    }
}

guest_test!(kernel_memory_is_not_read, |platform| {
    tries_kernel_memory(platform, "r", 0x4);
});
guest_test!(kernel_memory_is_not_written, |platform| {
    tries_kernel_memory(platform, "w", 0x6);
});
guest_test!(kernel_memory_is_not_entered, |platform| {
    tries_kernel_memory(platform, "j", 0x14);
});

// The loader and the window with the runtime image are gone on the simulated platform, and never were on plain KVM.
guest_test!(invalid_addresses, |platform| {
    for address in ["0", "8", "100000", "101000", "700020000000", "7ffffffff000"] {
        let found = exception(platform, &format!("r {address}"));
        assert_eq!(found.vector, PAGE_FAULT, "{address}: {found}");
    }
    for address in ["800000000000", "ffff7fffffffffff"] {
        for how in ["r", "w", "j"] {
            let found = exception(platform, &format!("{how} {address}"));
            assert_eq!(found.vector, GENERAL_PROTECTION, "{how} {address}: {found}");
        }
    }
});

guest_test!(data_is_not_executed_and_code_not_written, |platform| {
    for (mode, code) in [("x", 0x15), ("c", 0x7)] {
        let found = exception(platform, mode);
        let context = found.context.expect("the report has addresses");
        assert_eq!(
            (found.vector, context.error_code),
            (PAGE_FAULT, code),
            "{found}"
        );
    }
});

/// An exception in user code, for which nothing remains but its end, ends the Keep.
#[track_caller]
fn ends_in_user_code(platform: Platform, mode: &str) -> Exception {
    let fault = fault(platform, mode);
    let reason = fault.reason();
    assert!(
        matches!(reason, Some(Reason::Unexpected | Reason::Unhandled)),
        "{mode}: {fault}"
    );
    let exception = fault.exception().expect("these reasons have an exception");
    assert_eq!(cpl(exception), 3, "{mode}: {fault}");
    exception
}

/// Instructions by their letters in the test program.
fn tries_instructions(platform: Platform, letters: &str) {
    for letter in letters.chars() {
        ends_in_user_code(platform, &format!("p {letter}"));
    }
}

guest_test!(privileged_instructions_end_the_keep, |platform| {
    tries_instructions(platform, "abcdefghijk");
});
guest_test!(ports_and_control_registers_end_the_keep, |platform| {
    tries_instructions(platform, "lmnopqrstux");
});
guest_test!(switching_the_privilege_level_ends_the_keep, |platform| {
    tries_instructions(platform, "vwyzABCDEGH");
});

// Not for emulators: QEMU takes any base.
guest_test!(an_invalid_segment_base_ends_the_keep, |platform| {
    tries_instructions(platform, "F");
});

guest_test!(software_interrupts_end_the_keep, |platform| {
    for number in 0..256 {
        let mode = format!("i {number:x}");
        if enarx_vmm::is_pvm() {
            // That host emulates the instruction itself: some vectors arrive as such, some as an
            // invalid opcode, one not at all. None may have an effect.
            match run(platform, &mode).0 {
                Outcome::Fault(fault) => match fault.exception() {
                    Some(found) => assert_eq!(cpl(found), 3, "int {number}: {fault}"),
                    None => panic!("int {number}: {fault}"),
                },
                outcome => assert_eq!(outcome, Outcome::Exit(0), "int {number}"),
            }
        } else {
            let found = exception(platform, &mode);
            assert_eq!(found.vector, GENERAL_PROTECTION, "int {number}: {found}");
        }
    }
});

guest_test!(jumping_to_the_system_call_page_gains_nothing, |platform| {
    // The first address after the user addresses, and others.
    for rcx in [
        "7ffffffff000",
        "7ffffffff001",
        "ffff800000000000",
        "ffffffff80010000",
        "800000000000",
        "ffffffffffffffff",
    ] {
        let found = exception(platform, &format!("d {rcx}"));
        assert_eq!(
            (found.vector, cpl(found)),
            (INVALID_OPCODE, 3),
            "{rcx}: {found}"
        );
    }
});

guest_test!(bad_signal_frames_end_the_keep, |platform| {
    for rip in ["ffff800000000000", "800000000000", "7ffffffff000"] {
        let fault = fault(platform, &format!("q {rip}"));
        assert_eq!(fault.reason(), Some(Reason::Unhandled), "{rip}: {fault}");
    }
    // The code that restores the vector registers faults, at CPL3.
    for area in ["ffff800000000000", "800000000000", "1", "0", "7ffffffff000"] {
        let found = exception(platform, &format!("Q {area}"));
        assert_eq!(cpl(found), 3, "{area}: {found}");
    }
});

// A store to read-only memory, and traps in code that is not compiled WebAssembly.
guest_test!(faults_that_a_host_could_forge_are_not_signals, |platform| {
    for which in 0..6 {
        ends_in_user_code(platform, &format!("t {which}"));
    }
});

guest_test!(
    a_thread_with_an_impossible_stack_ends_the_keep,
    |platform| {
        assert_eq!(cpl(exception(platform, "k")), 3);
    }
);

guest_test!(unmapping_everything_ends_the_keep, |platform| {
    assert_eq!(exception(platform, "y").vector, PAGE_FAULT);
});

guest_test!(memory_runs_out_with_a_clear_report, |platform| {
    assert_eq!(fault(platform, "m").reason(), Some(Reason::OutOfMemory));
});

guest_test!(stack_overflow_is_named, |platform| {
    assert_eq!(fault(platform, "s").reason(), Some(Reason::StackOverflow));
});

guest_test!(abort_is_named, |platform| {
    let aborted = KeepFault::Reported {
        reason: Reason::Aborted,
        detail: Some(6),
    };
    assert_eq!(fault(platform, "a"), aborted);
});

guest_test!(
    garbage_in_the_ring_ends_the_keep_or_is_ignored,
    |platform| {
        for seed in ["1", "2", "3", "ffffffff"] {
            match run(platform, &format!("g {seed}")).0 {
                Outcome::Fault(_) | Outcome::Exit(0) => {}
                other => panic!("{other:?}"),
            }
        }
    }
);

guest_test!(garbage_in_the_clock_page_harms_only_the_clock, |platform| {
    for word in ["0", "ffffffffffffffff", "8000000000000000"] {
        let (outcome, output) = run(platform, &format!("f {word}"));
        assert!(
            matches!(outcome, Outcome::Exit(0) | Outcome::Fault(_)),
            "{outcome:?} {output}"
        );
    }
});

guest_test!(
    the_time_limit_ends_a_keep_that_spins_and_one_that_sleeps,
    |platform| {
        for mode in ["l", "L"] {
            let started = Instant::now();
            let options = Options {
                timeout: Duration::from_millis(300),
                ..Options::on(platform)
            };
            assert_eq!(run_with(mode, &options).0, Outcome::TimedOut);
            let elapsed = started.elapsed();
            assert!(elapsed >= Duration::from_millis(300) && elapsed < Duration::from_mins(1));
        }
    }
);

/// Descriptors, threads and mappings of this process.
fn open_things() -> [usize; 3] {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    [
        count("/proc/self/fd"),
        count("/proc/self/task"),
        maps.lines().count(),
    ]
}

guest_test!(many_keeps_leave_nothing_behind, |platform| {
    let modes = ["h", "T", "r ffff800000000000", "m", "V", "a"];
    let round = || {
        for mode in modes {
            run(platform, mode);
        }
        let options = Options {
            timeout: Duration::from_millis(50),
            ..Options::on(platform)
        };
        run_with("l", &options);
    };
    // The first rounds fill the C library's caches: thread stacks, arenas.
    round();
    round();
    let before = open_things();
    for _ in 0..3 {
        round();
    }
    // The system still lists a thread for a moment after it was joined.
    let start = Instant::now();
    loop {
        let after = open_things();
        if after[0] <= before[0] && after[1] <= before[1] && after[2] <= before[2] + 2 {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "descriptors, threads or mappings left: {before:?} {after:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
});
