// SPDX-License-Identifier: Apache-2.0

//! Real programs, in every kind of Keep that this machine has: their output, exit codes and files
//! must be the same as with native Wasmtime, byte for byte.
//!
//! `tests/programs/build` makes them from sources that others wrote; it needs the package
//! registries and a C compiler for WebAssembly. Without these the tests are ignored;
//! with `ENARX_REQUIRE_PROGRAMS=1` they fail instead.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use enarx_harness::needs;
use tempfile::TempDir;

use super::common::{backends, clean, enarx};

/// Longer than any of these programs takes on a busy machine: a Keep that hangs fails its test.
pub const TIMEOUT: &str = "300s";

/// The folder of the programs and their yardstick.
pub struct Programs {
    pub folder: PathBuf,
    pub native: PathBuf,
}

/// The outcome of a program.
#[derive(PartialEq)]
struct Outcome {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The files of its directory.
    files: BTreeMap<String, Vec<u8>>,
}

/// One run of a program: its directory is there as `/data`.
struct Job<'a> {
    program: &'a str,
    arguments: &'a [&'a str],
    stdin: &'a [u8],
    files: &'a [(&'a str, &'a [u8])],
}

pub(super) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds the programs once.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
    match PROGRAMS.get_or_init(build) {
        Ok(programs) => programs,
        Err(error) => needs::lacking("PROGRAMS", error),
    }
}

fn build() -> Result<Programs, String> {
    // .../target/<profile>/enarx
    let target = Path::new(env!("CARGO_BIN_EXE_enarx"))
        .ancestors()
        .nth(2)
        .ok_or("no target directory")?;
    let folder = target.join("programs");
    let output = Command::new(root().join("tests/programs/build"))
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("tests/programs/build: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("tests/programs/build failed: {}", said.trim()));
    }
    let native = match std::env::var_os("ENARX_NATIVE_WASMTIME") {
        Some(given) => given.into(),
        None => match native_wasmtime() {
            Some(native) => native,
            None => build_native(target)?,
        },
    };
    Ok(Programs { folder, native })
}

/// Native Wasmtime as `cargo test --workspace` builds it beside this command.
fn native_wasmtime() -> Option<PathBuf> {
    let native = Path::new(env!("CARGO_BIN_EXE_enarx")).with_file_name("native-wasmtime");
    native.exists().then_some(native)
}

/// Native Wasmtime of the same version. The command names the whole workspace so that its dependencies are
/// those that the tests have built already.
fn build_native(target: &Path) -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["build", "--locked", "--workspace", "--bin"])
        .args(["native-wasmtime", "--target-dir"])
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("native-wasmtime was not built: {}", said.trim()));
    }
    Ok(target.join("debug/native-wasmtime"))
}

impl Job<'_> {
    /// Runs natively and in every Keep, compares, and returns the common outcome.
    fn run(&self, programs: &Programs) -> Outcome {
        let native = self.outcome(clean(&programs.native), programs);
        for backend in backends() {
            let mut keep = enarx();
            keep.args(["run", "--quiet", "--backend", backend, "--timeout", TIMEOUT]);
            let keep = self.outcome(keep, programs);
            self.compare(backend, &keep, &native);
        }
        native
    }

    fn outcome(&self, mut command: Command, programs: &Programs) -> Outcome {
        let folder = TempDir::new().unwrap();
        for (name, bytes) in self.files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(self.stdin).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        let output = command
            .arg("--dir")
            .arg(format!("{}::/data", folder.path().display()))
            .arg(programs.folder.join(self.program))
            .args(self.arguments)
            .stdin(input)
            .output()
            .unwrap();
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        });
        Outcome {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
            files: files.collect(),
        }
    }

    fn compare(&self, backend: &str, keep: &Outcome, native: &Outcome) {
        let name = self.program;
        assert_eq!(
            text(&keep.stderr),
            text(&native.stderr),
            "{name}, {backend}: standard error"
        );
        assert_eq!(keep.code, native.code, "{name}, {backend}: exit code");
        // Megabytes of differences do not help.
        assert!(
            keep.stdout == native.stdout,
            "{name}, {backend}: {} bytes of standard output, natively {}: {:.200}",
            keep.stdout.len(),
            native.stdout.len(),
            text(&keep.stdout)
        );
        let names = |files: &BTreeMap<String, _>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&keep.files),
            names(&native.files),
            "{name}, {backend}: files"
        );
        for (file, bytes) in &keep.files {
            assert!(
                native.files.get(file) == Some(bytes),
                "{name}, {backend}: the content of {file}"
            );
        }
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Half a megabyte that can be compressed, but not to nothing.
fn prose() -> Vec<u8> {
    let words = [
        "keep",
        "host",
        "Tenant",
        "maß",
        "trust",
        "κλειδί",
        "measure",
        "page",
    ];
    let mut state = 1_u32;
    let mut prose = String::new();
    while prose.len() < 500_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let end = if state >> 28 == 0 { "\n" } else { " " };
        prose += words[(state >> 24) as usize % words.len()];
        prose += end;
    }
    prose.into_bytes()
}

fn compresses(programs: &Programs, program: &str) {
    let prose = prose();
    let through_pipe = Job {
        program,
        arguments: &["-9", "-c"],
        stdin: &prose,
        files: &[],
    }
    .run(programs);
    assert_eq!(through_pipe.code, Some(0));
    assert!(through_pipe.stdout.len() < prose.len() / 3);

    let back = Job {
        program,
        arguments: &["-d", "-c", "/data/prose.bz2"],
        stdin: &[],
        files: &[("prose.bz2", &through_pipe.stdout)],
    }
    .run(programs);
    assert_eq!(back.code, Some(0));
    assert!(back.stdout == prose);

    // In place: the compressed file replaces the other one.
    let file = Job {
        program,
        arguments: &["-9", "-v", "/data/prose"],
        stdin: &[],
        files: &[("prose", &prose)],
    }
    .run(programs);
    assert_eq!(file.code, Some(0), "{}", text(&file.stderr));
    assert_eq!(file.files.keys().collect::<Vec<_>>(), ["prose.bz2"]);
    assert!(file.files["prose.bz2"] == through_pipe.stdout);
}

#[test]
fn bzip2_compresses_streams_and_files() {
    let programs = programs();
    compresses(programs, "bzip2.wasm");
}

#[test]
fn bzip2_as_a_component_compresses_streams_and_files() {
    let programs = programs();
    compresses(programs, "bzip2-component.wasm");
}

#[test]
fn bzip2_reads_its_authors_sample_and_refuses_a_broken_one() {
    let programs = programs();
    let sample = fs::read(programs.folder.join("sample1.bz2")).unwrap();
    let job = |stdin| Job {
        program: "bzip2.wasm",
        arguments: &["-d"],
        stdin,
        files: &[],
    };
    let whole = job(&sample).run(programs);
    assert_eq!(whole.code, Some(0));
    assert!(whole.stdout == fs::read(programs.folder.join("sample1.ref")).unwrap());

    let mut damaged = sample.clone();
    damaged[sample.len() / 2] ^= 1;
    let broken = job(&damaged).run(programs);
    assert_eq!(broken.code, Some(2));
    assert!(
        text(&broken.stderr).contains("Data integrity error"),
        "{}",
        text(&broken.stderr)
    );
}

#[test]
fn sqlite_keeps_a_database_in_a_directory() {
    let programs = programs();
    let program = "sql.wasm";
    let statements = fs::read(root().join("tests/programs/database.sql")).unwrap();
    let created = Job {
        program,
        arguments: &["/data/bank.db"],
        stdin: &statements,
        files: &[],
    }
    .run(programs);
    assert_eq!(created.code, Some(0), "{}", text(&created.stderr));
    assert!(
        text(&created.stdout).contains("\n500|265736|owner-0500\n"),
        "{}",
        text(&created.stdout)
    );
    assert!(text(&created.stdout).contains("\nok\n"));
    // No journal is left.
    assert_eq!(created.files.keys().collect::<Vec<_>>(), ["bank.db"]);
    let database = &created.files["bank.db"];
    assert!(database.starts_with(b"SQLite format 3\0"));

    // Another Keep continues with the file; the last statement breaks a rule and changes nothing.
    let next = Job {
        program,
        arguments: &["/data/bank.db"],
        stdin:
            b"SELECT count(*) FROM ledger; DELETE FROM account WHERE id > 10; PRAGMA quick_check; \
                 UPDATE account SET balance = -1;",
        files: &[("bank.db", database)],
    }
    .run(programs);
    assert_eq!(next.code, Some(1));
    assert_eq!(text(&next.stdout), "166\nok\n");
    assert!(
        text(&next.stderr).contains("CHECK constraint failed"),
        "{}",
        text(&next.stderr)
    );
    assert!(next.files["bank.db"] != *database);
}

#[test]
fn quickjs_runs_a_script_with_files_and_an_exception() {
    let programs = programs();
    let script = fs::read(root().join("tests/programs/interpreter.js")).unwrap();
    let prose = prose();
    let outcome = Job {
        program: "qjs.wasm",
        arguments: &["--module", "/data/interpreter.js"],
        stdin: &[],
        files: &[("interpreter.js", &script), ("input.txt", &prose)],
    }
    .run(programs);
    assert_eq!(outcome.code, Some(1));
    assert!(
        text(&outcome.stdout).starts_with("primes 7919 3682913\n"),
        "{}",
        text(&outcome.stdout)
    );
    assert!(
        text(&outcome.stderr).contains("RangeError: as meant"),
        "{}",
        text(&outcome.stderr)
    );
    assert!(outcome.files.contains_key("output.json"));
}

fn counts_words(programs: &Programs, program: &str) -> Option<i32> {
    let one_line = text(&prose()).replace('\n', " ");
    let outcome = Job {
        program,
        arguments: &["3"],
        stdin: one_line.as_bytes(),
        files: &[],
    }
    .run(programs);
    assert_eq!(text(&outcome.stdout).lines().count(), 3);
    outcome.code
}

#[test]
fn assemblyscript_counts_words() {
    let programs = programs();
    assert_eq!(counts_words(programs, "words.wasm"), Some(8));
}

#[test]
fn assemblyscript_as_a_component_counts_words() {
    let programs = programs();
    // WASI 0.2 has only success and failure.
    assert_eq!(counts_words(programs, "words-component.wasm"), Some(1));
}
