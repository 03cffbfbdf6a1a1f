// SPDX-License-Identifier: Apache-2.0

//! `enarx doctor` on the machine at hand; made-up machines are tested where the checks are.

use std::process::Command;

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
fn a_report_that_cannot_be_written_is_no_success() {
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
