// SPDX-License-Identifier: Apache-2.0

//! The process backend with a Keep that is not Enarx's own.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enarx_executor::fault::{KeepFault, ProcessEnd};
use enarx_executor::grant::NetworkGrant;
use enarx_executor::launch::{Confine, Launch, Outcome};
use enarx_executor::refused::{Refused, RefusedCalls};
use enarx_exits::Reason;
use enarx_process::error::LaunchError;
use enarx_test_keeps::{KEEP, launch, null};

/// Longest wait for what takes moments.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tests here count this process's descriptors and threads, so they take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn outcome_of(launch: Launch) -> Outcome {
    enarx_process::run(KEEP.as_slice(), launch, Confine::Threads)
        .unwrap()
        .outcome
}

fn run(mode: &str) -> (Outcome, String) {
    let (mut reader, writer) = pipe().unwrap();
    let launch = launch(mode, [null(), writer.into(), null()]);
    let outcome = outcome_of(launch);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (outcome, output)
}

#[track_caller]
fn fault(mode: &str) -> KeepFault {
    match run(mode).0 {
        Outcome::Fault(fault) => fault,
        other => panic!("{mode}: {other:?}"),
    }
}

/// A system call of the runtime that got no error number.
fn named(call: libc::c_long) -> Refused {
    Refused {
        number: call.cast_unsigned(),
        errno: None,
    }
}

fn forbidden(call: libc::c_long) -> KeepFault {
    KeepFault::ForbiddenCall(Some(named(call)))
}

/// Descriptors and threads of this process.
fn open_things() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|path| std::fs::read_dir(path).unwrap().count())
}

/// Waits until there are no more of them than before: the system still lists a thread for a moment after it was joined.
#[track_caller]
fn await_closed(before: [usize; 2]) {
    let start = Instant::now();
    loop {
        let now = open_things();
        if now[0] <= before[0] && now[1] <= before[1] {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{before:?}, then {now:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    waitid(
        WaitId::All,
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
    )
    .is_ok()
}

#[test]
fn says_hello_and_leaves_nothing_behind() {
    let _turn = alone();
    let (outcome, output) = run("h");
    assert_eq!((outcome, output.as_str()), (Outcome::Exit(42), "hello\n"));
    let before = open_things();
    for _ in 0..3 {
        run("h");
        fault("f");
        fault("v");
    }
    let mut limited = launch("l", [null(), null(), null()]);
    limited.timeout = Some(Duration::from_millis(100));
    assert_eq!(outcome_of(limited), Outcome::TimedOut);
    await_closed(before);
    assert!(!has_children(), "a process was not reaped");
}

#[test]
fn copies_megabytes() {
    let _turn = alone();
    let (reader, mut writer) = pipe().unwrap();
    let (mut output, keeps_output) = pipe().unwrap();
    let launch = launch("c", [reader.into(), keeps_output.into(), null()]);
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let feeder = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let collector = std::thread::spawn(move || {
        let mut all = Vec::new();
        output.read_to_end(&mut all).unwrap();
        all
    });
    assert_eq!(outcome_of(launch), Outcome::Exit(0));
    feeder.join().unwrap();
    assert!(collector.join().unwrap() == expected);
}

#[test]
fn a_wait_ends_in_time() {
    let _turn = alone();
    assert_eq!(run("s").0, Outcome::Exit(0));
}

#[test]
fn the_time_limit_ends_a_keep_that_computes_and_one_that_sleeps() {
    let _turn = alone();
    for mode in ["l", "w"] {
        let start = Instant::now();
        let mut launch = launch(mode, [null(), null(), null()]);
        launch.timeout = Some(Duration::from_millis(150));
        assert_eq!(outcome_of(launch), Outcome::TimedOut);
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(150) && elapsed < PATIENCE);
    }
}

#[test]
fn a_keep_that_was_taken_over_reaches_nothing() {
    let _turn = alone();
    // Standard streams, region and doorbell.
    let (outcome, output) = run("p");
    assert_eq!(
        (outcome, output.as_str()),
        (Outcome::Exit(0), "descriptors 5\ndone\n")
    );
}

#[test]
fn forbidden_calls_are_named() {
    let _turn = alone();
    let (outcome, output) = run("f");
    assert_eq!(output, "before\n");
    assert_eq!(outcome, Outcome::Fault(forbidden(libc::SYS_clone)));
    assert_eq!(fault("k"), forbidden(libc::SYS_kill));
    assert_eq!(fault("e"), forbidden(libc::SYS_execve));
}

/// Tests of Enarx request it: it detects a runtime that needs what a Keep lacks.
#[test]
fn refused_calls_end_the_keep_on_request() {
    let _turn = alone();
    let (outcome, output) = run("o");
    assert_eq!((outcome, output.as_str()), (Outcome::Exit(0), "refused\n"));
    let mut launch = launch("o", [null(), null(), null()]);
    launch.refused_calls = RefusedCalls::End;
    match outcome_of(launch) {
        Outcome::Fault(KeepFault::RefusedCall { call, rip: Some(_) }) => {
            assert_eq!(call, named(libc::SYS_openat));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_forbidden_by_their_arguments() {
    let _turn = alone();
    for (ways, call) in [
        ("lor", libc::SYS_prlimit64),
        ("fsd", libc::SYS_fcntl),
        ("mnghk", libc::SYS_mmap),
        ("p", libc::SYS_clone),
        ("t", libc::SYS_tgkill),
        ("xy", libc::SYS_execveat),
    ] {
        for way in ways.chars() {
            assert_eq!(fault(&format!("b {way}")), forbidden(call), "{way}");
        }
    }
    assert_eq!(run("b c").0, Outcome::Exit(0));
}

#[test]
fn the_runtime_is_killed_first_when_memory_runs_out() {
    let _turn = alone();
    // A value that is read before the child has become the runtime may be different.
    let is_so = || {
        let children = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flat_map(|thread| {
                let path = thread.unwrap().path().join("children");
                let text = std::fs::read_to_string(path).unwrap_or_default();
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            });
        let read = |child: &str, name| std::fs::read_to_string(format!("/proc/{child}/{name}"));
        children.into_iter().any(|child| {
            read(&child, "oom_score_adj").is_ok_and(|text| text == "1000\n")
                && read(&child, "limits").is_ok_and(|text| {
                    text.contains("Max stack size            8388608              8388608")
                        && text.contains("Max data size             67108864             67108864")
                })
        })
    };
    // On a busy machine the first times may be too short.
    let is_so_within = |limit| {
        let mut launch = launch("l", [null(), null(), null()]);
        launch.timeout = Some(limit);
        let keep = std::thread::spawn(move || outcome_of(launch));
        let mut seen = false;
        while !keep.is_finished() {
            seen = seen || is_so();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(keep.join().unwrap(), Outcome::TimedOut);
        seen
    };
    let mut limits = [1, 2, 4, 8, 16].map(Duration::from_secs).into_iter();
    assert!(limits.any(is_so_within), "it never is");
}

#[test]
fn a_granted_network_works_under_confinement() {
    let _turn = alone();
    let outcome = |tcp, udp, name_lookup| {
        let mut launch = launch("n", [null(), null(), null()]);
        launch.grant.network = NetworkGrant {
            tcp,
            udp,
            name_lookup,
        };
        outcome_of(launch)
    };
    assert_eq!(outcome(true, true, true), Outcome::Exit(0));
    assert_eq!(outcome(true, false, false), Outcome::Exit(6));
    assert_eq!(outcome(false, true, false), Outcome::Exit(5));
    assert_eq!(outcome(false, false, false), Outcome::Exit(7));
}

#[test]
fn every_kind_of_end_is_distinguished() {
    let _turn = alone();
    assert_eq!(fault("a"), KeepFault::Aborted);
    assert_eq!(fault("m").reason(), Some(Reason::OutOfMemory));
    assert_eq!(
        fault("v"),
        KeepFault::Process(ProcessEnd::Signal(libc::SIGSEGV))
    );
    assert_eq!(fault("q"), KeepFault::Process(ProcessEnd::Status(7)));
    assert!(matches!(fault("r"), KeepFault::Ring(_)));
    assert_eq!(fault("d"), KeepFault::Doorbell);
    assert_eq!(fault("t"), forbidden(libc::SYS_ftruncate));
}

#[test]
fn an_image_that_is_not_a_program_is_an_error() {
    let _turn = alone();
    let launch = launch("h", [null(), null(), null()]);
    let error = enarx_process::run(b"not a program", launch, Confine::Threads).unwrap_err();
    let LaunchError::Start { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOEXEC), "{error}");
}

#[test]
fn the_caller_is_not_confined() {
    let _turn = alone();
    run("h");
    assert!(File::open("/etc/passwd").is_ok());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(status.lines().any(|line| line == "Seccomp:\t0"), "{status}");
}
