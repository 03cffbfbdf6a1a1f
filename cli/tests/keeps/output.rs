// SPDX-License-Identifier: Apache-2.0

//! Output that cannot be written: no message changes an exit code or delays the end, and a
//! result that was not delivered is not a success.

use std::fs::{self, File};
use std::io::{Read, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use enarx_snp::report::REPORT_LEN;

use super::common::{self, backends, terminal, with_room};

fn program(name: &str) -> String {
    format!("{}/tests/programs/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn enarx(arguments: &[&str]) -> Command {
    let mut command = common::enarx();
    command
        .args(arguments)
        .env("ENARX_STORE", "/nonexistent/store")
        .stdin(Stdio::null());
    command
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe whose reader has closed it.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A standard error.
type Place = fn() -> Stdio;

/// Standard errors that cannot be written.
const PLACES: [(&str, Place); 2] = [("/dev/full", full), ("a pipe without reader", closed)];

/// Asserts the exit code for every standard error; nothing is printed on standard output.
#[track_caller]
fn assert_code(arguments: &[&str], code: i32) {
    for (name, place) in PLACES {
        let output = enarx(arguments).stderr(place()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}, {name}");
        assert_eq!(output.stdout, b"", "{arguments:?}, {name}");
    }
}

#[test]
fn no_message_changes_the_exit_code_of_a_wrong_command() {
    let exit = program("exit.wat");
    for usage in [
        &["fly"][..],
        &[],
        &["run"],
        &["run", "--vcpus", "0", &exit],
        &["run", "--memory", "1", &exit],
        &["verify"],
    ] {
        assert_code(usage, 2);
    }
    assert_code(&["run", "/nonexistent/module.wasm"], 66);
    assert_code(&["run", "--require-tee", "--backend", "process", &exit], 69);
    for refused in [
        &["policy", "check", "/nonexistent"][..],
        &["verify", "/nonexistent/report.bin"],
        &["inspect", "/nonexistent/report.bin"],
        &["certs", "import", "/nonexistent"],
        &["release", "list", "/nonexistent", "--key", "/nonexistent"],
    ] {
        assert_code(refused, 66);
    }
}

#[test]
fn no_message_changes_the_exit_code_of_a_program() {
    let [exit, trap, forever] = ["exit.wat", "trap.wat", "forever.wat"].map(program);
    for backend in backends() {
        let run = |more: &[&str]| -> Vec<String> {
            let all = [&["run", "--backend", backend], more].concat();
            all.into_iter().map(str::to_owned).collect()
        };
        for (arguments, code) in [
            (run(&[&exit]), 7),
            (run(&["-q", &exit]), 7),
            (run(&["--timings", &exit]), 7),
            (run(&["-q", "--timeout", "300ms", &forever]), 124),
            (run(&["--timeout", "300ms", "--timings", &forever]), 124),
            (
                run(&["--memory", "64M", "--dir", "/nonexistent", &exit]),
                66,
            ),
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            assert_code(&arguments, code);
        }
        for (name, place) in PLACES {
            let mut command = enarx(&["run", "--backend", backend, &trap]);
            let output = command.stderr(place()).output().unwrap();
            assert_eq!(output.status.code(), Some(134), "{backend}, {name}");
            assert_eq!(output.stdout, b"before\n", "{backend}, {name}");
        }
    }
}

/// In `wasi:io` a flush completes when everything written before it has reached the reader.
#[test]
fn a_flush_waits_for_pending_writes() {
    /// Bytes that a pipe holds (pipe(7)).
    const PIPE: u64 = 64 << 10;
    const PATIENCE: Duration = Duration::from_mins(1);
    let flush = program("flush.wat");
    let flushes = |backend, pause| {
        let (mut reader, stdout) = pipe().unwrap();
        let mut child = enarx(&["run", "-q", "--backend", backend, &flush])
            .stdout(stdout)
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        while rustix::io::ioctl_fionread(&reader).unwrap() < PIPE {
            assert!(Instant::now() < end, "{backend}: the pipe does not fill");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The program fails if its flush takes less than a second.
        std::thread::sleep(pause);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 96 << 10, "{backend}");
        child.wait().unwrap().code()
    };
    for backend in backends() {
        // On a busy machine the flush may begin at the end of the first pause.
        let mut pauses = [2, 4, 8, 16].map(Duration::from_secs).into_iter();
        let waits = pauses.any(|pause| flushes(backend, pause) == Some(0));
        assert!(waits, "{backend}");
    }
}

#[test]
fn a_caller_that_reads_nothing_learns_the_end_in_time() {
    const LIMIT: Duration = Duration::from_millis(300);
    // In addition to the limit and what may follow it: the start of an unoptimised command on a busy machine.
    const LATE: Duration = Duration::from_mins(1);
    let flood = program("flood.wat");
    let copy = program("copy.wat");
    for backend in backends() {
        for module in [&flood, &copy] {
            let (mut said, stderr) = pipe().unwrap();
            let (_printed, stdout) = pipe().unwrap();
            let start = Instant::now();
            let status = enarx(&["run", "--backend", backend, "--timeout", "300ms", module])
                .stdin(File::open("/dev/zero").unwrap())
                .stdout(stdout)
                .stderr(stderr)
                .status()
                .unwrap();
            let elapsed = start.elapsed();
            assert_eq!(status.code(), Some(124), "{backend}, {module}");
            assert!(elapsed >= LIMIT && elapsed < LIMIT + LATE, "{elapsed:?}");
            // Nobody else has the pipe: it contains all of the output.
            let mut text = Vec::new();
            said.read_to_end(&mut text).unwrap();
            assert!(text.starts_with(b"enarx: backend "), "{backend}");
        }
    }
}

/// Commands whose purpose is their output.
const RESULTS: &[&[&str]] = &[
    &["doctor"],
    &["doctor", "--json"],
    &["platform", "info"],
    &["measure"],
    &["measure", "--json"],
    &["measure", "--platform", "sim", "--vcpus", "1", "--digest"],
    &["policy", "check", "default"],
    &["policy", "explain", "default"],
    &["policy", "schema"],
    &["--help"],
    &["run", "--help"],
    &["--version"],
    &["completions", "bash"],
];

/// A file that is not evidence.
fn no_evidence(folder: &Path) -> String {
    let path = folder.join("report.bin");
    fs::write(&path, [0; REPORT_LEN]).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = no_evidence(folder.path());
    let verdicts = [&["verify", &evidence][..], &["verify", "--json", &evidence]];
    for arguments in RESULTS.iter().copied().chain(verdicts) {
        let output = enarx(arguments).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("standard output could not be written") && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
        // Not even this can be reported.
        let mut command = enarx(arguments);
        let status = command.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(74), "{arguments:?}");
    }
}

#[test]
fn output_that_does_not_fit_is_reported() {
    const NO_SPACE: i32 = 51;
    const WRITE_FAILURE: &str = "enarx: standard output could not be written: no space left\n";
    let fill = program("fill.wat");
    for backend in backends() {
        // A part of the first piece, and of a later one, which the host may take after the program has ended.
        for (room, pieces) in [(8_u32, 1_usize), (96, 2), (1000, 32)] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            let run = enarx(&["run", "--quiet", "--backend", backend, &fill]);
            let mut shell = common::clean(Path::new("sh"));
            shell.args(["-c", "\"$@\" >\"$0\"; code=$?; wc -c <\"$0\"; exit $code"]);
            shell.arg(&out).arg(run.get_program());
            shell.args(run.get_args()).args(vec!["piece"; pieces]);
            let within = with_room(room, folder.path(), &shell).output().unwrap();
            let (code, said) = (within.status.code(), String::from_utf8(within.stderr));
            let is_told = code == Some(NO_SPACE) && said.as_deref() == Ok("");
            let is_said = code == Some(74) && said.as_deref() == Ok(WRITE_FAILURE);
            assert!(
                is_told || is_said && pieces > 1,
                "{backend}, {room}: {code:?}, {said:?}"
            );
            let written = String::from_utf8(within.stdout).unwrap();
            assert_eq!(written.trim(), (room << 10).to_string(), "{backend}");
        }
    }
}

#[test]
fn a_reader_that_stops_early_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = no_evidence(folder.path());
    for arguments in RESULTS {
        let output = enarx(arguments).stdout(closed()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
    // The verdict of `enarx verify … | head -1` is that of `enarx verify`.
    for arguments in [&["verify", &evidence][..], &["verify", "--json", &evidence]] {
        let output = enarx(arguments).stdout(closed()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let output = enarx(arguments).stdout(Stdio::piped()).output().unwrap();
        assert!(!output.stdout.is_empty());
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
    }
}

/// Words about a state have colours on a terminal, and nowhere else; without them the text is the same.
#[test]
fn only_a_terminal_has_colours() {
    let on_terminal = |changes: &[(&str, &str)]| {
        let (mut ours, theirs) = terminal();
        let mut command = enarx(&["doctor"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(changes.iter().copied());
        let mut child = command.stdout(theirs).spawn().unwrap();
        // Only the child holds the other side now: reading fails when it has ended and nothing is left.
        drop(command);
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(length) = ours.read(&mut piece) {
            said.extend_from_slice(&piece[..length]);
        }
        assert!(child.wait().unwrap().success());
        String::from_utf8(said).unwrap().replace("\r\n", "\n")
    };
    let plain = enarx(&["doctor"]).env_remove("NO_COLOR").output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains("ok ") && !plain.contains('\x1b'), "{plain}");
    let coloured = on_terminal(&[]);
    assert!(coloured.contains("\x1b[32mok\x1b[0m "), "{coloured}");
    for changes in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let said = on_terminal(&[changes]);
        assert!(!said.contains('\x1b'), "{changes:?}: {said}");
        assert_eq!(said.lines().count(), plain.lines().count(), "{changes:?}");
    }
    assert!(on_terminal(&[("NO_COLOR", "")]).contains('\x1b'));
}
