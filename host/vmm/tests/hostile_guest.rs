//! Programs in a Keep that use the microkernel, and programs that attack it: the Keep ends with
//! the documented outcome, and the VMM survives.

#[macro_use]
extern crate enarx_harness;

mod guest;

use std::time::{Duration, Instant};

use enarx_executor::launch::Outcome;
use enarx_executor::refused::RefusedCalls;
use enarx_harness::needs;
use guest::{Options, alone, choose_platform, fault, run, run_with, works};

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

/// A test that needs KVM, on plain KVM and on the simulated SNP platform.
macro_rules! guest_test {
    ($name:ident, $body:block) => {
        mod $name {
            use super::*;

            fn on(simulated: bool) {
                let _turn = alone();
                needs::kvm();
                choose_platform(simulated);
                $body
            }

            #[test]
            fn kvm() {
                on(false);
            }

            #[test]
            fn simulated() {
                on(true);
            }
        }
    };
}

guest_test!(hello, {
    let (outcome, output) = run("h");
    // The log shows control characters and spaces alike.
    assert_eq!(
        (outcome, output.as_str()),
        (Outcome::Exit(7), "hello from CPL3\n")
    );
});

guest_test!(threads_with_mutexes_and_conditions, { works("T") });
guest_test!(frames_are_taken_from_a_vcpu_that_spins, { works("S") });
guest_test!(traps_become_signals, { works("P") });
guest_test!(memory_is_zeroed_and_given_back, { works("M") });
guest_test!(clock_is_monotone_and_needs_no_system_call, { works("K") });
guest_test!(no_way_to_the_time_goes_back, { works("J") });
guest_test!(random_numbers, { works("R") });
guest_test!(bad_system_calls_fail, { works("U") });

// Tests of Enarx ask for it: a runtime that needs what a Keep does not have is found at its desk.
guest_test!(refused_calls_end_the_keep_where_that_is_asked_for, {
    works("O");
    let options = Options {
        refused_calls: RefusedCalls::End,
        ..Options::default()
    };
    let (outcome, output) = run_with("O", &options);
    let Outcome::Fault(text) = outcome else {
        panic!("{outcome:?}: {output}")
    };
    assert!(
        text.contains("made the system call openat (257): ENOENT at 0x"),
        "{text}"
    );
    // Calls that the C library itself tries end nothing.
    assert_eq!(run_with("h", &options).0, Outcome::Exit(7));
});

guest_test!(pinned_pages_stay, { works("N") });
guest_test!(flags_and_segment_bases_do_no_harm, { works("F") });

guest_test!(threads_are_limited_by_vcpus, {
    // Two processors and two spare vCPUs, one of which runs the first thread.
    assert_eq!(run("V").0, Outcome::Exit(3));
});

/// Kernel addresses: direct map, image through it and at its own place, stacks, exit memory.
const KERNEL: [&str; 6] = [
    "ffff800000000000",
    "ffff800000010000",
    "ffffffff80010000",
    "ffffffff80202000",
    "ffffffff80400000",
    "fffffffffffff000",
];

/// Tries every kernel address; `access` is what the error code says besides bits 0 and 3: whether
/// the page is present is the tables' affair, and KVM of the kind `kvm_pvm` marks some pages of the
/// kernel as reserved.
fn tries_kernel_memory(how: &str, access: u64) {
    for address in KERNEL {
        let text = fault(&format!("{how} {address}"));
        assert!(text.contains("vector 14 (#PF, page fault)"), "{text}");
        assert!(text.contains(&format!("CR2 0x{address}")), "{text}");
        assert!(
            [0, 1, 8, 9]
                .iter()
                .any(|more| text.contains(&format!("error code {:#x}, CPL 3", access | more))),
            "{text}"
        );
        if how == "j" {
            assert!(text.contains(&format!("RIP 0x{address}")), "{text}");
        }
    }
}

guest_test!(kernel_memory_is_not_read, {
    tries_kernel_memory("r", 0x4);
});
guest_test!(kernel_memory_is_not_written, {
    tries_kernel_memory("w", 0x6);
});
guest_test!(kernel_memory_is_not_entered, {
    tries_kernel_memory("j", 0x14);
});

guest_test!(addresses_that_are_none, {
    for address in ["0", "8", "7ffffffff000"] {
        let text = fault(&format!("r {address}"));
        assert!(text.contains("vector 14"), "{address}: {text}");
    }
    for address in ["800000000000", "ffff7fffffffffff"] {
        for how in ["r", "w", "j"] {
            let text = fault(&format!("{how} {address}"));
            assert!(text.contains("vector 13"), "{how} {address}: {text}");
        }
    }
});

guest_test!(data_is_not_executed_and_code_not_written, {
    let text = fault("x");
    assert!(
        text.contains("vector 14") && text.contains("error code 0x15"),
        "{text}"
    );
    let text = fault("c");
    assert!(
        text.contains("vector 14") && text.contains("error code 0x7"),
        "{text}"
    );
});

/// Instructions by their letters in the test program.
fn tries_instructions(letters: &str) {
    for letter in letters.chars() {
        let text = fault(&format!("p {letter}"));
        assert!(text.contains("CPL 3"), "{letter}: {text}");
        assert!(
            text.contains("without a cause that the microkernel could verify")
                || text.contains("has no handler"),
            "{letter}: {text}"
        );
    }
}

guest_test!(privileged_instructions_end_the_keep, {
    tries_instructions("abcdefghijk");
});
guest_test!(ports_and_control_registers_end_the_keep, {
    tries_instructions("lmnopqrstux");
});
guest_test!(ways_to_another_privilege_level_end_the_keep, {
    tries_instructions("vwyzABCDEGH");
});

// Not for emulators: QEMU takes any base.
guest_test!(a_segment_base_that_is_no_address_ends_the_keep, {
    tries_instructions("F");
});

guest_test!(software_interrupts_end_the_keep, {
    for number in 0..256 {
        let mode = format!("i {number:x}");
        if enarx_vmm::is_pvm() {
            // That host plays the instruction itself: some vectors arrive as what they name, some
            // as an invalid opcode, one as nothing at all. None may get anywhere.
            match run(&mode).0 {
                Outcome::Fault(text) => assert!(text.contains("CPL 3"), "int {number}: {text}"),
                outcome => assert_eq!(outcome, Outcome::Exit(0), "int {number}"),
            }
        } else {
            let text = fault(&mode);
            assert!(text.contains("vector 13 (#GP"), "int {number}: {text}");
        }
    }
});

guest_test!(jumping_to_the_system_call_page_is_no_way_in, {
    // The first address that is none of the user's, and others.
    for rcx in [
        "7ffffffff000",
        "7ffffffff001",
        "ffff800000000000",
        "ffffffff80010000",
        "800000000000",
        "ffffffffffffffff",
    ] {
        let text = fault(&format!("d {rcx}"));
        assert!(
            text.contains("vector 6") && text.contains("CPL 3"),
            "{rcx}: {text}"
        );
    }
});

guest_test!(bad_signal_frames_end_the_keep, {
    for rip in ["ffff800000000000", "800000000000", "7ffffffff000"] {
        let text = fault(&format!("q {rip}"));
        assert!(text.contains("no handler"), "{rip}: {text}");
    }
    // The code that restores the vector registers faults, at CPL3.
    for area in ["ffff800000000000", "800000000000", "1", "0", "7ffffffff000"] {
        let text = fault(&format!("Q {area}"));
        assert!(text.contains("CPL 3"), "{area}: {text}");
    }
});

// A store to memory that may be read, and what traps in code that is not compiled WebAssembly.
guest_test!(what_a_host_could_forge_is_no_signal, {
    for which in 0..6 {
        let text = fault(&format!("t {which}"));
        assert!(
            text.contains("without a cause that the microkernel could verify")
                || text.contains("has no handler"),
            "{which}: {text}"
        );
    }
});

guest_test!(a_thread_with_an_impossible_stack_ends_the_keep, {
    let text = fault("k");
    assert!(text.contains("CPL 3"), "{text}");
});

guest_test!(unmapping_everything_ends_the_keep, {
    let text = fault("y");
    assert!(text.contains("vector 14"), "{text}");
});

guest_test!(memory_runs_out_with_a_clear_report, {
    assert!(fault("m").contains("its memory is used up; give it more with --memory"));
});

guest_test!(stack_overflow_is_named, {
    let text = fault("s");
    assert!(
        text.contains("the stack of its runtime overflowed"),
        "{text}"
    );
});

guest_test!(abort_is_named, {
    assert!(fault("a").contains("its runtime aborted (signal 6)"));
});

guest_test!(garbage_in_the_ring_ends_the_keep_or_is_ignored, {
    for seed in ["1", "2", "3", "ffffffff"] {
        match run(&format!("g {seed}")).0 {
            Outcome::Fault(_) | Outcome::Exit(0) => {}
            other => panic!("{other:?}"),
        }
    }
});

guest_test!(garbage_in_the_clock_page_harms_the_clock_alone, {
    for word in ["0", "ffffffffffffffff", "8000000000000000"] {
        let (outcome, output) = run(&format!("f {word}"));
        assert!(
            matches!(outcome, Outcome::Exit(0) | Outcome::Fault(_)),
            "{outcome:?} {output}"
        );
    }
});

guest_test!(the_time_limit_ends_a_keep_that_spins_and_one_that_sleeps, {
    for mode in ["l", "L"] {
        let started = Instant::now();
        let options = Options {
            timeout: Duration::from_millis(300),
            ..Options::default()
        };
        assert_eq!(run_with(mode, &options).0, Outcome::TimedOut);
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(300) && elapsed < Duration::from_secs(20));
    }
});

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

guest_test!(many_keeps_leave_nothing_behind, {
    let modes = ["h", "T", "r ffff800000000000", "m", "V", "a"];
    let round = || {
        for mode in modes {
            run(mode);
        }
        let options = Options {
            timeout: Duration::from_millis(50),
            ..Options::default()
        };
        run_with("l", &options);
    };
    // The first rounds fill what the C library keeps: thread stacks, arenas.
    round();
    round();
    let before = open_things();
    for _ in 0..3 {
        round();
    }
    let after = open_things();
    assert_eq!(before[..2], after[..2], "descriptors or threads left");
    assert!(
        after[2] <= before[2] + 2,
        "mappings left: {before:?} {after:?}"
    );
});
