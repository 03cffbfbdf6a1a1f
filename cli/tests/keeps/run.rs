// SPDX-License-Identifier: Apache-2.0

//! `enarx run`, end to end, in every kind of Keep that this machine has.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::common::{self, backends};

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name)
}

/// The command, with empty input.
fn enarx() -> Command {
    let mut command = common::enarx();
    command.stdin(Stdio::null());
    command
}

fn run(backend: &str, arguments: &[&str]) -> Output {
    enarx()
        .args(["run", "--quiet", "--backend", backend])
        .args(arguments)
        .output()
        .unwrap()
}

fn run_with_input(backend: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = enarx()
        .args(["run", "--quiet", "--backend", backend])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that does not read to the end does not fail the test.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Asserts the exit code, an empty standard output, and one sentence that contains all the words.
#[track_caller]
fn assert_sentence(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.starts_with("enarx: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

fn path(name: &str) -> String {
    program(name).into_os_string().into_string().unwrap()
}

/// The best kind of Keep here.
fn best() -> &'static str {
    backends().next().unwrap()
}

#[test]
fn arguments_and_variables_arrive() {
    for backend in backends() {
        let module = path("arguments.wat");
        let mut command = enarx();
        command
            .env("ENARX_TEST_INHERITED", "from here")
            .args(["run", "--backend", backend, "-q", "--env", "A=b c"])
            .args(["--env", "ENARX_TEST_INHERITED", "--env", "EMPTY="])
            .arg(&module)
            .args(["--", "one", "--two", "", "-q"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let expected =
            "arguments.wat\0one\0--two\0\0-q\0A=b c\0ENARX_TEST_INHERITED=from here\0EMPTY=\0";
        assert_eq!(text(&output.stdout), expected);
        assert_eq!(text(&output.stderr), "");

        // The words after the program belong to the program, also those that this command knows.
        let mut command = enarx();
        command
            .args(["run", "--backend", backend, "-q", &module])
            .args(["--timings", "--help", "-v", "--", "-q"]);
        let output = command.output().unwrap();
        let own = text(&output.stdout).split('\0').take(6).collect::<Vec<_>>();
        assert_eq!(
            own,
            ["arguments.wat", "--timings", "--help", "-v", "--", "-q"]
        );

        // Without `--`, and variables from the environment.
        let mut command = enarx();
        command
            .env("ENARX_ENV", "X=1\nY=2")
            .env("ENARX_BACKEND", backend)
            .env("ENARX_QUIET", "true")
            .args(["run", &module, "a", "--env", "--", "b"]);
        let output = command.output().unwrap();
        assert_eq!(
            text(&output.stdout),
            "arguments.wat\0a\0--env\0--\0b\0X=1\0Y=2\0"
        );
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn megabytes_pass_through_the_standard_streams() {
    let input: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for backend in backends() {
        let output = run_with_input(backend, &[&path("copy.wat")], &input);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout == input, "{} bytes", output.stdout.len());
        assert_eq!(text(&output.stderr), "done\n");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_program() {
    for backend in backends() {
        let mut child = enarx()
            .args(["run", "-q", "--backend", backend, &path("copy.wat")])
            .stdin(fs::File::open("/dev/zero").unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        // The errno of WASI for a broken pipe.
        assert_eq!(child.wait().unwrap().code(), Some(64));
    }
}

#[test]
fn exit_codes_and_traps() {
    for backend in backends() {
        let output = run(backend, &[&path("exit.wat")]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(7), ""));

        let output = run(backend, &[&path("trap.wat")]);
        assert_eq!(output.status.code(), Some(134), "{output:?}");
        assert_eq!(text(&output.stdout), "before\n");
        let error = text(&output.stderr);
        assert!(error.contains("integer divide by zero"), "{error}");
        assert!(error.contains("divide"), "no backtrace: {error}");
    }
}

#[test]
fn the_time_limit_ends_the_program() {
    for backend in backends() {
        let start = Instant::now();
        let output = run(backend, &["--timeout", "300ms", &path("forever.wat")]);
        assert_sentence(&output, 124, &["time limit of 300ms", "--timeout"]);
        let elapsed = start.elapsed();
        assert!(
            elapsed >= Duration::from_millis(300) && elapsed < Duration::from_mins(1),
            "{elapsed:?}"
        );
        let output = run(backend, &["-W", "timeout=200ms", &path("forever.wat")]);
        assert_sentence(&output, 124, &["200ms"]);
    }
}

#[test]
fn a_killed_command_leaves_no_process_behind() {
    let mut command = enarx()
        .args(["run", "-q", "--backend", "process", &path("forever.wat")])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", command.id());
    let start = Instant::now();
    // The process that serves the Keep, and the runtime.
    let child = |children: &str| loop {
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "no child appeared"
        );
        let child = fs::read_to_string(children).unwrap().trim().to_owned();
        if !child.is_empty() {
            break child;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let vmm = child(&children);
    let runtime = child(&format!("/proc/{vmm}/task/{vmm}/children"));
    command.kill().unwrap();
    command.wait().unwrap();
    // The process that adopted it reaps it; until then it is a zombie.
    for process in [vmm, runtime] {
        let alive = || {
            let status = fs::read_to_string(format!("/proc/{process}/status"));
            status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        while alive() {
            assert!(
                start.elapsed() < Duration::from_mins(2),
                "{process} lives on"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn only_granted_directories_are_accessible() {
    for backend in backends() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("input"), "contents").unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        symlink("../secret", data.join("link")).unwrap();
        symlink("/etc/passwd", data.join("absolute")).unwrap();
        let granted = format!("{}::/data", data.display());
        let output = run(backend, &["--dir", &granted, &path("files.wat")]);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "contents"),
            "{output:?}"
        );
        assert_eq!(fs::read(data.join("output")).unwrap(), b"contents");

        // Read-only: the read works, the write does not.
        fs::remove_file(data.join("output")).unwrap();
        let output = run(
            backend,
            &["--dir", &format!("{granted}:ro"), &path("files.wat")],
        );
        assert_eq!(text(&output.stdout), "contents");
        assert_ne!(output.status.code(), Some(0));
        assert!(!data.join("output").exists());

        // From the environment.
        let mut command = enarx();
        let output = command
            .env("ENARX_DIR", &granted)
            .args(["run", "-q", "--backend", backend, &path("files.wat")])
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "contents")
        );

        for outside in [
            "../secret",
            "link",
            "absolute",
            "/etc/passwd",
            "x/../../secret",
        ] {
            let arguments = ["--dir", &granted, &path("escape.wat")];
            let output = run_with_input(backend, &arguments, outside.as_bytes());
            let errno = output.status.code().unwrap();
            // Not permitted, as in Wasmtime; no such file if the path to it does not exist.
            assert!([44, 63].contains(&errno), "{outside}: {errno}");
        }
        let output = run_with_input(backend, &["--dir", &granted, &path("escape.wat")], b"input");
        assert_eq!(output.status.code(), Some(0));
        // Without a directory the Keep has its own, which is empty.
        let output = run(backend, &[&path("files.wat")]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(44), ""));
    }
}

/// Through files of /proc a program could write the memory of the process that serves it.
#[test]
fn a_directory_gives_access_to_files_not_to_the_kernel() {
    for backend in backends() {
        let open = |name: &str| {
            let arguments = ["--dir", "/::/host", &path("escape.wat")];
            run_with_input(backend, &arguments, name.as_bytes())
        };
        assert_eq!(open("etc/passwd").status.code(), Some(0), "{backend}");
        for name in [
            "proc/self/mem",
            "proc/self/environ",
            "proc/1/status",
            "proc",
        ] {
            let output = open(name);
            // Not supported, as for devices.
            assert_eq!(output.status.code(), Some(58), "{name}: {output:?}");
        }
        let output = run(backend, &["--dir", "/proc::/proc", &path("escape.wat")]);
        assert_ne!(output.status.code(), Some(0), "{backend}");
        let expected = "the directory /proc is an interface of the kernel";
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
}

/// A file read sequentially is read ahead: the program still sees what another program writes meanwhile, as soon as it
/// can know of it.
#[test]
fn writes_of_others_to_a_file_are_seen() {
    for backend in backends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("input");
        let write = |round: u8| fs::write(&file, vec![round; 1 << 20]).unwrap();
        write(0);
        let granted = format!("{}::/data", directory.path().display());
        let mut child = enarx()
            .args(["run", "--quiet", "--backend", backend, "--timeout", "60"])
            .args(["--dir", &granted, &path("rounds.wat")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        for round in 1..50 {
            write(round);
            input.write_all(&[round]).unwrap();
            let mut copied = vec![0; 3 * 4096];
            output.read_exact(&mut copied).unwrap();
            assert!(copied.iter().all(|it| *it == round), "{backend} {round}");
        }
        drop(input);
        assert!(child.wait().unwrap().success(), "{backend}");
    }
}

#[test]
fn directories_have_quotas() {
    for backend in backends() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("input"), "contents").unwrap();
        let run_with = |quota: &str| {
            let granted = format!("{}::/data:quota={quota}", directory.path().display());
            run(backend, &["--dir", &granted, &path("files.wat")])
        };
        // The program copies eight bytes into a new file: a block for its name and one for its contents.
        let refused = run_with("4K");
        // `nospc` of WASI.
        assert_eq!(refused.status.code(), Some(51), "{refused:?}");
        let output = directory.path().join("output");
        assert_eq!(fs::read(&output).unwrap_or_default(), b"", "{backend}");
        let _ = fs::remove_file(&output);
        let copied = run_with("8K");
        assert_eq!(copied.status.code(), Some(0), "{copied:?}");
        assert_eq!(fs::read(&output).unwrap(), b"contents", "{backend}");
    }
}

#[test]
fn memory_is_limited() {
    for backend in backends() {
        let times = |arguments: &[&str]| {
            let module = path("grow.wat");
            let arguments: Vec<&str> = arguments.iter().copied().chain([module.as_str()]).collect();
            let output = run(backend, &arguments);
            assert_eq!(text(&output.stderr), "", "{backend}");
            output.status.code().unwrap()
        };
        let small = times(&["--memory", "256M"]);
        assert!(
            (1..4).contains(&small),
            "{backend}: {small} times 64 MiB of 256 MiB"
        );
        // A program whose compilation needs more memory than the Keep has.
        let functions = "(func (param i32) (result i32) (i32.load (local.get 0)))".repeat(40_000);
        let large = format!("(module (memory 1) {functions} (func (export \"_start\")))");
        let file = tempfile::Builder::new().suffix(".wat").tempfile().unwrap();
        fs::write(&file, large).unwrap();
        let output = run(backend, &["--memory", "80M", file.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(70), "{output:?}");
        assert_eq!(
            text(&output.stderr),
            "enarx: the Keep ended: its memory is used up; give it more with --memory\n"
        );

        let limited = times(&["-W", "max-memory-size=130M"]);
        assert_eq!(limited, 2);
    }
}

/// A module with one function of this many instructions that do nothing: below 256 MiB.
fn nothing(count: usize) -> Vec<u8> {
    let mut module = wat::parse_str("(module (func (export \"_start\")))").unwrap();
    // The section of code: its length, one function, its length, no locals, its end.
    assert_eq!(module.split_off(module.len() - 6), [10, 4, 1, 2, 0, 11]);
    let leb128 = |value: usize| {
        let parts = [0, 7, 14, 21].map(|shift| u8::try_from(value >> shift & 0x7f).unwrap());
        let [a, b, c, d] = parts;
        [a | 0x80, b | 0x80, c | 0x80, d]
    };
    let function = leb128(count + 2);
    module.push(10);
    module.extend(leb128(1 + function.len() + count + 2));
    module.push(1);
    module.extend(function);
    module.push(0);
    module.resize(module.len() + count, 1);
    module.push(11);
    module
}

/// Previously a module of many megabytes was compiled for more than a minute, and then its Keep ran out of memory.
#[test]
fn a_program_whose_compiler_lacks_memory_is_refused_at_once() {
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    fs::write(&file, nothing(5 << 20)).unwrap();
    for backend in backends() {
        let small = run(backend, &["--memory", "64M", file.path().to_str().unwrap()]);
        assert_sentence(
            &small,
            1,
            &["its 5 MiB of code", "85 MiB at least", "--memory 512M"],
        );
        let large = run(
            backend,
            &["--memory", "512M", file.path().to_str().unwrap()],
        );
        assert_eq!(large.status.code(), Some(0), "{large:?}");
    }
}

#[test]
fn too_much_memory_for_a_virtual_machine_is_a_usage_error() {
    for backend in backends() {
        let output = run(backend, &["--memory", "500G", &path("exit.wat")]);
        if backend == "process" {
            assert_eq!(output.status.code(), Some(7), "{output:?}");
        } else {
            assert_sentence(&output, 2, &["--memory", "at most 400G", backend]);
        }
        let output = run(backend, &["--memory", "400G", &path("exit.wat")]);
        assert_eq!(output.status.code(), Some(7), "{backend}: {output:?}");
    }
}

#[test]
fn a_program_can_come_from_standard_input() {
    let module = wat::parse_file(path("exit.wat")).unwrap();
    for backend in backends() {
        let output = run_with_input(backend, &["-"], &module);
        assert_eq!(output.status.code(), Some(7), "{backend}: {output:?}");
    }
}

#[test]
fn functions_are_invoked() {
    for backend in backends() {
        let output = run(
            backend,
            &["--invoke", "add", &path("numbers.wat"), "2", "3"],
        );
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "5\n"),
            "{output:?}"
        );
        let output = run(backend, &["--invoke", "subtract", &path("numbers.wat")]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("`subtract` found; it exports add"));
    }
}

#[test]
fn a_missing_import_is_named() {
    for backend in backends() {
        let output = run(backend, &[&path("stranger.wat")]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let sentence =
            "it imports nothing of nowhere, but modules are given only wasi_snapshot_preview1";
        assert!(text(&output.stderr).contains(sentence), "{output:?}");
    }
}

#[test]
fn the_line_about_protection_is_true() {
    for backend in backends() {
        let output = enarx()
            .args(["run", "--backend", backend, &path("exit.wat")])
            .output()
            .unwrap();
        let simulated = match backend {
            "sim" => "SIMULATED SEV-SNP, for development: ",
            _ => "",
        };
        assert_eq!(
            text(&output.stderr),
            format!(
                "enarx: backend {backend}: {simulated}protects the host from the application; does NOT protect the application from the host (--quiet silences this)\n"
            )
        );
    }
    // Without a choice, the best there is.
    let output = enarx().args(["run", &path("exit.wat")]).output().unwrap();
    // If it is not the usual one, the line says why.
    let line = match best() {
        "process" => "enarx: backend process (kvm passed over: ".to_owned(),
        usual => format!("enarx: backend {usual}: "),
    };
    assert!(text(&output.stderr).starts_with(&line), "{output:?}");
}

#[test]
fn timings_are_printed_on_standard_error() {
    for backend in backends() {
        let output = run(backend, &["--timings", &path("exit.wat")]);
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(7), b"".as_slice())
        );
        assert!(text(&output.stderr).lines().count() >= 3, "{output:?}");
    }
}

#[test]
fn measurements_come_from_data_not_from_text() {
    let directory = tempfile::tempdir().unwrap();
    for backend in backends() {
        let file = directory.path().join(backend);
        let file = file.to_str().unwrap();
        let output = run(backend, &["--report-to", file, &path("exit.wat")]);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(output.stderr, b"", "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let phases = report["phases"].as_array().unwrap();
        assert!(phases.len() >= 3, "{report}");
        for phase in phases {
            assert!(phase["name"].is_string() && phase["microseconds"].is_number());
        }
        let confined = report["confinement"].as_array().unwrap();
        let seccomp = confined.iter().find(|way| way["by"] == "seccomp");
        assert_eq!(
            seccomp.map(|way| &way["holds"]),
            Some(&true.into()),
            "{report}"
        );
        let exits = |name| {
            let counters = report["counters"].as_array().unwrap();
            counters.iter().any(|counter| counter["name"] == name)
        };
        assert_eq!(exits("exits ring"), backend != "process", "{report}");
    }
}

#[test]
fn wrong_files_are_reported_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let backend = best();
    let missing = run(backend, &["/nowhere/app.wasm"]);
    assert_sentence(
        &missing,
        66,
        &["/nowhere/app.wasm", "No such file", "check the path"],
    );
    let folder = run(backend, &[directory.path().to_str().unwrap()]);
    assert_sentence(&folder, 66, &["Is a directory"]);
    let script = run(backend, &[&file("script", b"#!/bin/sh\n")]);
    assert_sentence(&script, 65, &["is not WebAssembly"]);
    let empty = run(backend, &[&file("empty.wasm", b"")]);
    assert_sentence(&empty, 65, &["is not WebAssembly"]);
    let text = run(backend, &[&file("bad.wat", b"(module (func (i32.frob)))")]);
    assert_sentence(&text, 65, &["not valid WebAssembly text"]);
    let module = path("exit.wat");
    let absent = run(backend, &["--dir", "/nowhere::/data", &module]);
    assert_sentence(&absent, 66, &["/nowhere", "No such file", "--dir"]);
    let regular = run(backend, &["--dir", &module, &module]);
    assert_sentence(&regular, 66, &["not a directory"]);
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = run(backend, &["--dir", pipe.to_str().unwrap(), &module]);
    assert_sentence(&pipe, 66, &["not a directory"]);
    // One colon, as in other commands.
    let colon = format!("{}:/data", directory.path().display());
    let colon = run(backend, &["--dir", &colon, &module]);
    assert_sentence(&colon, 66, &["did you mean", "::/data?"]);
    // Correct at the start, wrong after it: the engine reports it.
    let broken = run(backend, &[&file("broken.wasm", b"\0asm\x01\0\0\0\xff\xff")]);
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
}

#[test]
fn wrong_command_lines_are_answered_with_the_right_one() {
    let module = path("exit.wat");
    let wrong: &[(&[&str], &[&str])] = &[
        (&["run"], &["MODULE"]),
        (&["run", "--frobnicate", &module], &["--frobnicate"]),
        (&["run", "--memory", "lots", &module], &["--memory", "64M"]),
        (
            &["run", "--memory", "1M", &module],
            &["--memory", "at least"],
        ),
        (
            &["run", "--timeout", "soon", &module],
            &["--timeout", "500ms"],
        ),
        (&["run", "--vcpus", "0", &module], &["--vcpus"]),
        (&["run", "--vcpus", "63", &module], &["63", "1 to 62"]),
        (&["run", "--vcpus", "64", &module], &["64", "1 to 62"]),
        (
            &["run", "--backend", "magic", &module],
            &["magic", "sim", "kvm", "process"],
        ),
        (&["run", "--env", "=x", &module], &["NAME=VALUE"]),
        (&["run", "--env", "", &module], &["NAME=VALUE"]),
        (
            &["run", "--env", "NOT_UTF8", &module],
            &["NOT_UTF8", "UTF-8"],
        ),
        (
            &["run", "--env", "SURELY_NOT_SET_HERE", &module],
            &["SURELY_NOT_SET_HERE"],
        ),
        (&["run", "--dir", "a::", &module], &["HOST::GUEST"]),
        (
            &["run", "-W", "fuel=3", &module],
            &["fuel", "max-memory-size"],
        ),
        (
            &["run", "-S", "threads", &module],
            &["threads", "inherit-network"],
        ),
        (&["fly"], &["fly"]),
    ];
    for (arguments, words) in wrong {
        let output = enarx()
            .env("NOT_UTF8", OsStr::from_bytes(b"\xff"))
            .args(*arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("enarx: "), "{said}");
        // The command may find a wrong value, in a sentence, or clap may, whose words end with the usage.
        let usage = said.contains("\nUsage: enarx ");
        assert!(usage || said.lines().count() == 1, "{said}");
        for word in *words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }
}

#[test]
fn variables_that_are_not_utf8_are_left_out_and_named() {
    let mut command = enarx();
    command
        .env_clear()
        .env("GOOD", "yes")
        .env("BAD", OsStr::from_bytes(b"\xff"))
        .env(OsStr::from_bytes(b"\xfename"), "x")
        .args(["run", "--backend", "process", "-S", "inherit-env"])
        .arg(path("arguments.wat"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "arguments.wat\0GOOD=yes\0");
    let message = text(&output.stderr).lines().next().unwrap();
    assert!(
        message.contains("not UTF-8")
            && message.contains("BAD")
            && message.contains("\u{fffd}name"),
        "{message}"
    );
}

/// A component with functions in exported interfaces.
const INTERFACES: &str = r#"(component
    (core module $m
        (func (export "one") (result i32) i32.const 1)
        (func (export "two") (result i32) i32.const 2))
    (core instance $i (instantiate $m))
    (func $one (result u32) (canon lift (core func $i "one")))
    (func $two (result u32) (canon lift (core func $i "two")))
    (instance $first (export "count" (func $one)) (export "only" (func $one)))
    (instance $second (export "count" (func $two)))
    (export "some:where/first@1.2.0" (instance $first))
    (export "some:where/second@1.2.0" (instance $second))
    (export "top" (func $two)))"#;

#[test]
fn functions_of_exported_interfaces_are_invoked() {
    let file = tempfile::Builder::new().suffix(".wat").tempfile().unwrap();
    fs::write(&file, INTERFACES).unwrap();
    let file = file.path().to_str().unwrap();
    for backend in backends() {
        for (name, result) in [
            ("top", "2\n"),
            ("only", "1\n"),
            ("some:where/first#count", "1\n"),
            ("some:where/second@1.2.0#count", "2\n"),
        ] {
            let output = run(backend, &["--invoke", name, file]);
            assert_eq!(
                (output.status.code(), text(&output.stdout)),
                (Some(0), result),
                "{name}: {output:?}"
            );
        }
        for (name, words) in [
            ("count", &["some:where/first@1.2.0#count", "second"][..]),
            ("some:where/second#only", &["some:where/second#only"]),
            ("some:where/first", &["some:where/first"]),
            ("nothing", &["nothing"]),
        ] {
            let output = run(backend, &["--invoke", name, file]);
            assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
            for word in words {
                assert!(text(&output.stderr).contains(word), "{output:?}");
            }
        }
    }
}

#[test]
fn a_required_tee_is_not_replaced() {
    for extra in [&[][..], &["--backend", "process"]] {
        let output = enarx()
            .args(["run", "--require-tee"])
            .args(extra)
            .arg(path("exit.wat"))
            .output()
            .unwrap();
        assert_sentence(
            &output,
            69,
            &["--require-tee", "snp: ", "tdx: ", "enarx doctor"],
        );
    }
}

#[test]
fn help_has_examples_exit_codes_and_variables() {
    let output = enarx().args(["run", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for part in [
        "Examples:",
        "Exit codes:",
        "134",
        "124",
        "ENARX_BACKEND",
        "ENARX_DIR",
        "ENARX_ENV",
        "ENARX_ALLOW_CONNECT",
        "ENARX_ALLOW_LISTEN",
        "ENARX_MEMORY",
        "ENARX_TIMEOUT",
        "ENARX_REQUIRE_TEE",
    ] {
        assert!(help.contains(part), "{part}");
    }
    // Ranges of numbers, however the lines are wrapped.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for range in [
        "at least 64M, in a virtual machine at most 400G",
        "Virtual CPUs of the Keep, at most 62",
        "8 to 64 bytes",
    ] {
        assert!(words.contains(range), "{range}");
    }
    let output = enarx().arg("--version").output().unwrap();
    assert!(text(&output.stdout).starts_with("enarx 0."));
}

/// Every test of the command ends its Keeps at a system call that no Keep has, by this variable.
#[test]
fn the_command_reads_the_variable_of_the_tests() {
    let output = enarx()
        .env("ENARX_END_ON_REFUSED_CALLS", "neither yes nor no")
        .args(["run", &path("exit.wat")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
