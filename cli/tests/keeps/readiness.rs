// SPDX-License-Identifier: Apache-2.0

//! Readiness: a program that polls with a time limit of zero finds existing data, in every kind of Keep.

use std::fs::{self, File};
use std::io::pipe;
use std::process::Stdio;

use super::common::{backends, enarx};
use super::programs::programs;

/// The output of a program that polls a clock and standard input.
fn looks(program: &str, backend: &str, stdin: Stdio) -> String {
    let output = enarx()
        .args(["run", "--quiet", "--backend", backend, "--timeout", "60s"])
        .arg(programs().folder.join(program))
        .args(["--", "look-at-stdin"])
        .stdin(stdin)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}, {backend}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // The other lines list the functions called, and what the C library has found.
    let looks = |line: &&str| line.starts_with("success ") || line.starts_with("ready: ");
    let lines = text.lines().filter(looks);
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn polling_standard_input_finds_available_input() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    fs::write(&path, "x").unwrap();
    // A clock by itself, and together with the input.
    for (program, clock, both) in [
        ("conformance-preview1.wasm", "success 1\n", "success 1 2\n"),
        ("conformance-preview2.wasm", "ready: 1 0\n", "ready: 1 1\n"),
    ] {
        for backend in backends() {
            // A file: a byte of it, then its end, which is also ready.
            let file = File::open(&path).unwrap();
            assert_eq!(
                looks(program, backend, file.into()),
                both.repeat(3),
                "{program}, {backend}"
            );
            // A pipe to which nobody has written.
            let (reader, writer) = pipe().unwrap();
            assert_eq!(
                looks(program, backend, reader.into()),
                clock,
                "{program}, {backend}"
            );
            drop(writer);
        }
    }
}
