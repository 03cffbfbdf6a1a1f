// SPDX-License-Identifier: Apache-2.0

//! A server with more peers than the sallyport has slots, in every kind of Keep: idle ones, and ones that do
//! not read, delay neither the others nor the program's other calls.

use super::common::{backends, enarx};
use super::programs::{TIMEOUT, programs};

/// Returns the expected output of the program (`tests/programs/conformance/crowd.h`).
fn expected(count: u32) -> String {
    let heard =
        |speaker: u32| format!("peer {speaker} of {count}: heard {speaker}, 1 byte, 1 back\n");
    let speakers = [0, 1, 63, 64, count / 2, count - 1];
    let mut lines = vec!["get-directories: \"/\"\nnobody speaks: ok\n".to_owned()];
    lines.extend(speakers.map(heard));
    lines.push("slow peers: 100\n".into());
    lines.extend(speakers.into_iter().filter(|it| *it >= 100).map(heard));
    lines.push("a slow peer that reads is written to\n".into());
    lines.concat()
}

#[test]
fn idle_and_slow_peers_do_not_delay_others() {
    let program = programs().folder.join("conformance-preview2.wasm");
    let count = 1000;
    for backend in backends() {
        let output = enarx()
            .args(["run", "--quiet", "--backend", backend, "--timeout", TIMEOUT])
            .args(["-S", "inherit-network"])
            .arg(&program)
            .args(["crowd", &count.to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        // The program also lists the functions called, for the test of the conformance program.
        let said: String = said
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("called "))
            .collect();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*said, &*error),
            (Some(0), &*expected(count), ""),
            "{backend}"
        );
    }
}
