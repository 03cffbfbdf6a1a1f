// SPDX-License-Identifier: Apache-2.0

//! The costs of Keeps as counts: system calls and exceptions that the microkernel serves, and exits from the virtual machine.
//! Unlike times they do not depend on what else the machine does, so a change that makes a Keep slow fails here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use enarx_harness::needs;
use serde_json::Value;

use super::common::enarx;
use super::programs::{TIMEOUT, programs};

/// Runs a program in a plain KVM Keep with these flags, and returns its counts by name.
pub fn counts(program: &Path, flags: &[&str], arguments: &[&str]) -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let output = enarx()
        .args(["run", "--quiet", "--backend", "kvm", "--timeout", TIMEOUT])
        .args(["--timings", "--report-to"])
        .arg(&report)
        .args(flags)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    read(&report)
}

/// The counts of a report by name.
pub fn read(report: &Path) -> BTreeMap<String, u64> {
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let counters = report["counters"].as_array().unwrap();
    let count = |counter: &Value| {
        let name = counter["name"].as_str().unwrap().to_owned();
        (name, counter["count"].as_u64().unwrap())
    };
    counters.iter().map(count).collect()
}

/// The exits from the virtual machine, of all kinds.
pub fn exits(counts: &BTreeMap<String, u64>) -> u64 {
    let exits = counts.iter().filter(|(name, _)| name.starts_with("exits "));
    exits.map(|(_, count)| count).sum()
}

/// The threads that compile once shared one arena of the allocator: 47,873 system calls for CPython, nearly all of them waits
/// for its lock, and slower than one thread alone. CPython makes some 950 now, and takes too long here; SQLite has a twelfth
/// of its code.
#[test]
fn compiling_on_two_vcpus_makes_few_system_calls() {
    needs::kvm();
    let program = programs().folder.join("sql.wasm");
    let on = |vcpus| counts(&program, &["--vcpus", vcpus], &[":memory:"]);
    let (one, two) = (on("1"), on("2"));
    // 49 and 142 to 204 were seen, with 16 and 22 to 34 exits.
    assert!(one["system calls"] <= 100, "{one:?}");
    assert!(two["system calls"] <= 500, "{two:?}");
    assert!(exits(&one) <= 50, "{one:?}");
    assert!(exits(&two) <= 150, "{two:?}");
}
