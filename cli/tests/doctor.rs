// SPDX-License-Identifier: Apache-2.0

//! `enarx doctor` on the machine at hand; made-up machines are tested where the checks are.

#[macro_use]
extern crate enarx_harness;

use std::process::Command;

use enarx_harness::needs;

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

fn doctor(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_enarx"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tree_names_every_backend() {
    let tree = doctor(&["doctor"]);
    for backend in ["snp", "tdx", "sim", "kvm", "process"] {
        assert!(tree.contains(&format!("\n{backend}: ")), "{tree}");
    }
    // Whatever is missing is followed by a next step.
    let mut lines = tree.lines().peekable();
    while let Some(line) = lines.next() {
        if line.contains("─ missing") || line.contains("─ unknown") {
            assert!(lines.peek().unwrap().contains("next: "), "{line}");
        }
    }
    assert_eq!(tree, doctor(&["platform", "info"]));
}

#[test]
fn the_json_is_readable_by_machines() {
    let report: serde_json::Value = serde_json::from_str(&doctor(&["doctor", "--json"])).unwrap();
    assert_eq!(report["schema"], 1);
    let backends = report["backends"].as_array().unwrap();
    let names: Vec<_> = backends
        .iter()
        .map(|backend| backend["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["snp", "tdx", "sim", "kvm", "process"]);
    for backend in backends {
        for field in ["protects_application", "built_in", "supported", "usable"] {
            assert!(backend[field].is_boolean(), "{field}");
        }
        assert!(
            backend["checks"]
                .as_array()
                .is_some_and(|checks| !checks.is_empty())
        );
    }
    let process = &backends[4];
    assert_eq!(
        (&process["usable"], &process["protects_application"]),
        (&true.into(), &false.into())
    );
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let doctor = Command::new(env!("CARGO_BIN_EXE_enarx"))
        .args(["doctor", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(doctor.status.code(), Some(74), "{doctor:?}");
}

/// Runs the first-day test, with output for people.
fn first_day(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_enarx"))
        .args(["doctor", "--first-day"])
        .args(arguments)
        .env_remove("ENARX_JSON")
        .output()
        .unwrap()
}

#[test]
fn the_first_day_begins_on_hardware_alone() {
    let machine: serde_json::Value = serde_json::from_str(&doctor(&["doctor", "--json"])).unwrap();
    if machine["backends"][0]["supported"] == true {
        needs::lacking("NO_SNP", "this machine has SEV-SNP: the first day begins");
    }
    let output = first_day(&[]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("enarx: the first day cannot begin: "),
        "{text}"
    );
    assert!(
        text.contains("; next: ") && text.lines().count() == 1,
        "{text}"
    );
    // A single step also names what it lacks.
    let output = first_day(&["--step", "toy"]);
    assert_eq!(output.status.code(), Some(70), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/dev/sev"),
        "{output:?}"
    );
    let output = first_day(&["--step", "lunch"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_first_day_is_rehearsed_on_the_simulated_platform() {
    needs::kvm();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.txt");
    let output = first_day(&["--rehearse", "--report", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    assert!(
        text.contains("\nREHEARSAL on the simulated platform"),
        "{text}"
    );
    let steps = [
        "not tried  toy: ",
        "not tried  toy-digest: ",
        "not tried  real-digest: ",
        "not tried  ghcb: ",
        "passed     keep: ",
        "not tried  second-vcpu: ",
        "passed     processors: ",
        "not tried  kicks: ",
        "passed     evidence: ",
    ];
    let mut lines = text.lines();
    for step in steps {
        assert!(lines.any(|line| line.starts_with(step)), "{step}: {text}");
    }
    assert!(text.contains("measurement "), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
}
