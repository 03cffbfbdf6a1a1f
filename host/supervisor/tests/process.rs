// SPDX-License-Identifier: Apache-2.0

//! Process Keeps in separate processes: granted features work inside the whole confinement, and every end
//! is reported.
//!
//! Without the usual harness, which has threads: the supervisor forks.
#![expect(
    clippy::print_stdout,
    reason = "a test program without the usual harness"
)]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use enarx_backend::launch::{Images, Runtime, Target};
use enarx_executor::fault::{KeepFault, ProcessEnd};
use enarx_executor::grant::NetworkGrant;
use enarx_executor::launch::{Launch, Outcome, Run};
use enarx_supervisor::failure::LaunchFailure;
use enarx_supervisor::{SupervisorError, run};
use enarx_test_keeps::{KEEP, launch, null};

/// The programs of a process Keep with this runtime.
fn images(runtime: &'static [u8]) -> Images {
    Images {
        runtime: Runtime::of(runtime),
        microkernel: &[],
        microkernel_plain: &[],
        microkernel_simulated: &[],
        loader: &[],
    }
}

fn supervised(launch: Launch) -> Run {
    run(Target::Process, &images(&KEEP), launch, |_| {
        Ok::<_, Infallible>(())
    })
    .unwrap()
}

fn outcome(mode: &str) -> Outcome {
    supervised(launch(mode, [null(), null(), null()])).outcome
}

fn main() {
    a_granted_network_works();
    every_outcome_is_reported();
    nothing_runs_without_confinement();
    a_failed_launch_names_its_kind();
    println!("process: 4 tests passed");
}

/// The program connects, sends datagrams and looks up a name; its exit code says which call was refused.
fn a_granted_network_works() {
    for (tcp, udp, name_lookup, code) in [
        (true, true, true, 0),
        (true, false, false, 6),
        (false, true, false, 5),
        (false, false, false, 7),
    ] {
        let mut launch = launch("n", [null(), null(), null()]);
        launch.grant.network = NetworkGrant {
            tcp,
            udp,
            name_lookup,
        };
        let run = supervised(launch);
        assert_eq!(run.outcome, Outcome::Exit(code), "{:?}", run.report);
        // A Keep that needs no network gets none.
        let mut ways = run.report.confinement.iter();
        let apart = ways.find(|way| way.by == "network namespace");
        let granted = tcp || udp || name_lookup;
        assert_eq!(apart.is_none(), granted, "{:?}", run.report);
        assert!(apart.is_none_or(|way| way.holds), "{:?}", run.report);
    }
}

fn every_outcome_is_reported() {
    assert_eq!(outcome("h"), Outcome::Exit(42));
    assert_eq!(outcome("a"), Outcome::Fault(KeepFault::Aborted));
    let died = KeepFault::Process(ProcessEnd::Signal(11));
    assert_eq!(outcome("v"), Outcome::Fault(died));
    // Its memory is measured although its number is different outside its namespace.
    match outcome("m") {
        Outcome::Fault(KeepFault::Reported { reason, .. }) => {
            assert_eq!(reason.name(), "OutOfMemory");
        }
        other => panic!("{other:?}"),
    }
    let mut limited = launch("l", [null(), null(), null()]);
    limited.timeout = Some(Duration::from_millis(150));
    let start = Instant::now();
    assert_eq!(supervised(limited).outcome, Outcome::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(150));
}

fn nothing_runs_without_confinement() {
    let (reader, writer) = std::io::pipe().unwrap();
    let launch = launch("h", [null(), writer.into(), null()]);
    let refused = run(Target::Process, &images(&KEEP), launch, |confined| {
        assert!(confined.iter().any(|way| way.by == "seccomp" && way.holds));
        Err("no")
    });
    assert!(matches!(refused, Err(SupervisorError::Refused("no"))));
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
}

fn a_failed_launch_names_its_kind() {
    let launch = launch("h", [null(), null(), null()]);
    let failed = run(Target::Process, &images(b"no program"), launch, |_| {
        Ok::<_, Infallible>(())
    });
    assert!(
        matches!(
            &failed,
            Err(SupervisorError::Launch(LaunchFailure::Process(_)))
        ),
        "{failed:?}"
    );
}
