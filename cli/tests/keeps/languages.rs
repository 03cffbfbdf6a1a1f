// SPDX-License-Identifier: Apache-2.0

//! One program in several languages: what their libraries need before `main` and for the most ordinary
//! things (hash maps, arguments, environment, streams, files, clocks, random numbers), in every kind of
//! Keep. Sources: `tests/programs/languages`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek as _, Write as _};

use tempfile::TempDir;

use super::common::{backends, enarx};
use super::programs::{TIMEOUT, programs};

/// Runs the program of a language in every kind of Keep.
fn starts(language: &str, program: &str) {
    interprets(language, program, None);
}

/// The same for an interpreter, which gets its script as `/data/NAME`.
fn interprets(language: &str, program: &str, script: Option<(&str, &[u8])>) {
    let programs = programs();
    let expected = format!(
        "one 1\ntwo 2\nNAME value\nlines 3\nnote from {language}\nslept yes\ndate yes\nrandom "
    );
    let mut seen = BTreeSet::new();
    for backend in backends() {
        let folder = TempDir::new().unwrap();
        let mut script_arguments = Vec::new();
        if let Some((name, text)) = script {
            fs::write(folder.path().join(name), text).unwrap();
            script_arguments = vec!["--module".to_owned(), format!("/data/{name}")];
        }
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(b"a\nb\nc\n").unwrap();
        input.rewind().unwrap();
        let output = enarx()
            .args(["run", "--quiet", "--backend", backend, "--timeout", TIMEOUT])
            .args(["--env", "NAME=value", "--dir"])
            .arg(format!("{}::/data", folder.path().display()))
            .arg(programs.folder.join(program))
            .arg("--")
            .args(script_arguments)
            .args(["two", "one", "two"])
            .stdin(input)
            .output()
            .unwrap();
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
        assert_eq!(stderr, "", "{program}, {backend}");
        assert_eq!(output.status.code(), Some(0), "{program}, {backend}");
        let random = stdout
            .strip_prefix(&expected)
            .and_then(|rest| rest.strip_suffix('\n'));
        let random = random.unwrap_or_else(|| panic!("{program}, {backend}: {stdout}"));
        let number = u64::from_str_radix(random, 16)
            .unwrap_or_else(|_| panic!("{program}, {backend}: {random}"));
        assert!(seen.insert(number), "{program}, {backend}: {random} twice");
        let note = fs::read_to_string(folder.path().join("note")).unwrap();
        assert_eq!(note, format!("from {language}\n"), "{program}, {backend}");
    }
}

#[test]
fn c() {
    starts("C", "start-c.wasm");
}

#[test]
fn cpp() {
    starts("C++", "start-cpp.wasm");
}

#[test]
fn rust() {
    starts("Rust", "start-rust.wasm");
}

#[test]
fn go() {
    starts("Go", "start-go.wasm");
}

#[test]
fn python() {
    starts("Python", "start-python.wasm");
}

#[test]
fn javascript() {
    let script = include_bytes!("../../../tests/programs/languages/start.js");
    interprets("JavaScript", "qjs.wasm", Some(("start.js", script)));
}
