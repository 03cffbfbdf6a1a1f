// SPDX-License-Identifier: Apache-2.0

//! Process Keeps in processes of their own: what is granted works inside the whole confinement, and every end arrives.
//!
//! Without the usual harness, which has threads: the supervisor forks.
#![expect(
    clippy::print_stdout,
    reason = "a test program without the usual harness"
)]

use std::time::{Duration, Instant};

use enarx_backend::launch::{Images, Runtime, Target};
use enarx_executor::fault::{KeepFault, ProcessEnd};
use enarx_executor::grant::NetworkGrant;
use enarx_executor::launch::{Launch, Outcome, Run};
use enarx_supervisor::{SupervisorError, run};
use enarx_test_keeps::{KEEP, launch, null};

fn supervised(launch: Launch) -> Run {
    let images = Images {
        runtime: Runtime::of(KEEP.as_slice()),
        microkernel: &[],
        microkernel_plain: &[],
        microkernel_simulated: &[],
        loader: &[],
    };
    run(Target::Process, &images, launch, |_| Ok(())).unwrap()
}

fn outcome(mode: &str) -> Outcome {
    supervised(launch(mode, [null(), null(), null()])).outcome
}

fn main() {
    the_network_works_where_it_is_granted();
    every_end_arrives();
    a_refused_confinement_runs_nothing();
    println!("process: 3 tests passed");
}

/// The program connects, sends datagrams and looks up a name; its exit code says what it was refused.
fn the_network_works_where_it_is_granted() {
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
        // A Keep that needs no network has none to speak into.
        let mut ways = run.report.confinement.iter();
        let apart = ways.find(|way| way.by == "network namespace");
        let granted = tcp || udp || name_lookup;
        assert_eq!(apart.is_none(), granted, "{:?}", run.report);
        assert!(apart.is_none_or(|way| way.holds), "{:?}", run.report);
    }
}

fn every_end_arrives() {
    assert_eq!(outcome("h"), Outcome::Exit(42));
    assert_eq!(outcome("a"), Outcome::Fault(KeepFault::Aborted));
    let died = KeepFault::Process(ProcessEnd::Signal(11));
    assert_eq!(outcome("v"), Outcome::Fault(died));
    // Its memory is measured although its number is another outside of its namespace.
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

fn a_refused_confinement_runs_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let launch = launch("h", [null(), writer.into(), null()]);
    let images = Images {
        runtime: Runtime::of(KEEP.as_slice()),
        microkernel: &[],
        microkernel_plain: &[],
        microkernel_simulated: &[],
        loader: &[],
    };
    let refused = run(Target::Process, &images, launch, |confined| {
        assert!(confined.iter().any(|way| way.by == "seccomp" && way.holds));
        Err("no".to_owned())
    });
    assert!(matches!(refused, Err(SupervisorError::Refused(_))));
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
}
