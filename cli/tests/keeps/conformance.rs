// SPDX-License-Identifier: Apache-2.0

//! Every function of WASI that Keeps offer, called from WebAssembly inside every kind of Keep: the programs of
//! `tests/programs/conformance` print the results as lines, and the lines must be those of native Wasmtime.
//!
//! If a Keep is right and Wasmtime is not, or both are allowed, the difference is in [`DIFFERENCES`] with
//! its reason; a difference that no longer occurs fails the test. The imports of the programs show which
//! functions were called: the table `COVERAGE.md` beside them lists these, and a test of `keep/wasi`
//! compares the table with the linker. So a function that is added but not covered fails a test.

mod differences;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::common::{backends, clean, enarx, terminal};
use super::programs::{Programs, programs, root};
use differences::{DIFFERENCES, Difference, MISSING};

const PREVIEW1: &str = "conformance-preview1.wasm";
const PREVIEW2: &str = "conformance-preview2.wasm";
const PREVIEW3: &str = "conformance-preview3.wasm";
/// Uses `wasi:http` 0.3.
const HTTP: &str = "conformance-http.wasm";
/// Uses 0.2 and 0.3 together.
const MIXED: &str = "conformance-mixed.wasm";
/// Uses the sockets of both.
const MIXED_SOCKETS: &str = "conformance-mixed-sockets.wasm";

/// Longest time of one run on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// The text to read from standard input.
const INPUT: &str = "The quick brown fox jumps over the lazy dog; nobody reads all of this.\n";

/// The directory that a program gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    /// The private file system of the Keep; natively an empty directory.
    Private,
    /// A directory of the host.
    Host(Content),
    /// A read-only one.
    ReadOnly(Content),
}

/// The contents of a directory of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    /// A file and a directory.
    Plain,
    /// Entries that programs rarely meet.
    Odd,
    /// The devices of this machine.
    Devices,
}

/// The files, pipes or terminal behind the standard streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Input from a file, output to pipes.
    File,
    /// Input from a pipe, output to pipes.
    Pipe,
    /// Like a pipe, to which nobody writes before the program has ended.
    Silent,
    /// A terminal for all three.
    Terminal,
}

/// One run of a conformance program.
#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    directory: Directory,
    network: bool,
    streams: Streams,
}

const fn run(
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    directory: Directory,
) -> Run {
    Run {
        name,
        program,
        arguments,
        directory,
        network: false,
        streams: Streams::File,
    }
}

const fn plain(
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
) -> Run {
    run(name, program, arguments, Directory::Host(Content::Nothing))
}

const fn through(streams: Streams, run: Run) -> Run {
    Run { streams, ..run }
}

/// Every run. The name starts with the program, so that differences can be told for several at once.
const RUNS: &[Run] = &[
    plain("preview1 host", PREVIEW1, &["all"]),
    run("preview1 private", PREVIEW1, &["all"], Directory::Private),
    run(
        "preview1 odd",
        PREVIEW1,
        &["odd"],
        Directory::Host(Content::Odd),
    ),
    run(
        "preview1 devices",
        PREVIEW1,
        &["devices"],
        Directory::ReadOnly(Content::Devices),
    ),
    run(
        "preview1 read-only",
        PREVIEW1,
        &["read-only"],
        Directory::ReadOnly(Content::Plain),
    ),
    plain("preview1 stdin file", PREVIEW1, &["stdin", "10"]),
    plain("preview1 stdin all", PREVIEW1, &["stdin", "1000"]),
    through(
        Streams::Pipe,
        plain("preview1 stdin pipe", PREVIEW1, &["stdin", "10"]),
    ),
    plain("preview1 poll-stdin file", PREVIEW1, &["poll-stdin"]),
    through(
        Streams::Pipe,
        plain("preview1 poll-stdin pipe", PREVIEW1, &["poll-stdin"]),
    ),
    through(
        Streams::Terminal,
        plain("preview1 terminal", PREVIEW1, &["streams"]),
    ),
    plain("preview1 exit 0", PREVIEW1, &["exit", "0"]),
    plain("preview1 exit 7", PREVIEW1, &["exit", "7"]),
    plain("preview1 exit 125", PREVIEW1, &["exit", "125"]),
    plain("preview1 exit 126", PREVIEW1, &["exit", "126"]),
    plain(
        "preview1 exit 4294967295",
        PREVIEW1,
        &["exit", "4294967295"],
    ),
    plain("preview1 invalid 0", PREVIEW1, &["invalid", "0"]),
    plain("preview1 invalid 1", PREVIEW1, &["invalid", "1"]),
    plain("preview1 invalid 2", PREVIEW1, &["invalid", "2"]),
    plain("preview1 invalid 3", PREVIEW1, &["invalid", "3"]),
    plain("preview1 invalid 4", PREVIEW1, &["invalid", "4"]),
    plain("preview1 invalid 5", PREVIEW1, &["invalid", "5"]),
    plain("preview1 invalid 6", PREVIEW1, &["invalid", "6"]),
    plain("preview1 invalid 7", PREVIEW1, &["invalid", "7"]),
    plain("preview1 invalid 8", PREVIEW1, &["invalid", "8"]),
    plain("preview1 invalid 9", PREVIEW1, &["invalid", "9"]),
    plain("preview1 invalid 10", PREVIEW1, &["invalid", "10"]),
    plain("preview1 invalid 11", PREVIEW1, &["invalid", "11"]),
    plain("preview1 invalid 12", PREVIEW1, &["invalid", "12"]),
    plain("preview1 invalid 13", PREVIEW1, &["invalid", "13"]),
    plain("preview1 invalid 14", PREVIEW1, &["invalid", "14"]),
    plain("preview1 invalid 15", PREVIEW1, &["invalid", "15"]),
    plain("preview1 invalid 16", PREVIEW1, &["invalid", "16"]),
    plain("preview1 invalid 17", PREVIEW1, &["invalid", "17"]),
    plain("preview1 invalid 18", PREVIEW1, &["invalid", "18"]),
    plain("preview1 pointer 0", PREVIEW1, &["pointer", "0"]),
    plain("preview1 pointer 1", PREVIEW1, &["pointer", "1"]),
    plain("preview1 pointer 2", PREVIEW1, &["pointer", "2"]),
    plain("preview1 pointer 3", PREVIEW1, &["pointer", "3"]),
    plain("preview1 pointer 4", PREVIEW1, &["pointer", "4"]),
    plain("preview1 pointer 5", PREVIEW1, &["pointer", "5"]),
    plain("preview1 pointer 6", PREVIEW1, &["pointer", "6"]),
    plain("preview1 pointer 7", PREVIEW1, &["pointer", "7"]),
    plain("preview2 host", PREVIEW2, &["all"]),
    run("preview2 private", PREVIEW2, &["all"], Directory::Private),
    run(
        "preview2 odd",
        PREVIEW2,
        &["odd"],
        Directory::Host(Content::Odd),
    ),
    run(
        "preview2 devices",
        PREVIEW2,
        &["devices"],
        Directory::ReadOnly(Content::Devices),
    ),
    run(
        "preview2 read-only",
        PREVIEW2,
        &["read-only"],
        Directory::ReadOnly(Content::Plain),
    ),
    Run {
        network: true,
        ..plain("preview2 sockets", PREVIEW2, &["sockets"])
    },
    plain("preview2 no-network", PREVIEW2, &["no-network"]),
    plain("preview2 stdin file", PREVIEW2, &["stdin", "25"]),
    plain("preview2 stdin all", PREVIEW2, &["stdin", "1000"]),
    through(
        Streams::Pipe,
        plain("preview2 stdin pipe", PREVIEW2, &["stdin", "25"]),
    ),
    plain("preview2 poll-stdin file", PREVIEW2, &["poll-stdin"]),
    through(
        Streams::Pipe,
        plain("preview2 poll-stdin pipe", PREVIEW2, &["poll-stdin"]),
    ),
    through(
        Streams::Terminal,
        plain("preview2 terminal", PREVIEW2, &["terminals"]),
    ),
    plain("preview2 exit", PREVIEW2, &["exit"]),
    plain("preview2 exit-error", PREVIEW2, &["exit-error"]),
    plain(
        "preview2 exit-with-code 0",
        PREVIEW2,
        &["exit-with-code", "0"],
    ),
    plain(
        "preview2 exit-with-code 7",
        PREVIEW2,
        &["exit-with-code", "7"],
    ),
    plain(
        "preview2 exit-with-code 255",
        PREVIEW2,
        &["exit-with-code", "255"],
    ),
    plain("preview2 error", PREVIEW2, &["error"]),
    plain("preview2 trap 0", PREVIEW2, &["trap", "0"]),
    plain("preview2 trap 1", PREVIEW2, &["trap", "1"]),
    plain("preview2 trap 2", PREVIEW2, &["trap", "2"]),
    plain("preview2 trap 3", PREVIEW2, &["trap", "3"]),
    plain("preview2 trap 4", PREVIEW2, &["trap", "4"]),
    plain("preview3 host", PREVIEW3, &["all"]),
    run("preview3 private", PREVIEW3, &["all"], Directory::Private),
    run(
        "preview3 read-only",
        PREVIEW3,
        &["read-only"],
        Directory::ReadOnly(Content::Plain),
    ),
    plain("preview3 stdin file", PREVIEW3, &["stdin", "25"]),
    plain("preview3 stdin all", PREVIEW3, &["stdin", "1000"]),
    through(
        Streams::Pipe,
        plain("preview3 stdin pipe", PREVIEW3, &["stdin", "25"]),
    ),
    plain("preview3 wait-stdin file", PREVIEW3, &["wait-stdin"]),
    through(
        Streams::Pipe,
        plain("preview3 wait-stdin pipe", PREVIEW3, &["wait-stdin"]),
    ),
    through(
        Streams::Silent,
        plain("preview3 give-up-stdin", PREVIEW3, &["give-up-stdin"]),
    ),
    plain("preview3 pass", PREVIEW3, &["pass"]),
    through(
        Streams::Terminal,
        plain("preview3 terminal", PREVIEW3, &["terminals"]),
    ),
    plain("preview3 exit", PREVIEW3, &["exit"]),
    plain("preview3 exit-error", PREVIEW3, &["exit-error"]),
    plain(
        "preview3 exit-with-code 7",
        PREVIEW3,
        &["exit-with-code", "7"],
    ),
    plain("preview3 error", PREVIEW3, &["error"]),
    plain("preview3 trap", PREVIEW3, &["trap"]),
    Run {
        network: true,
        ..plain("http", HTTP, &["all"])
    },
    plain("mixed host", MIXED, &[]),
    run("mixed private", MIXED, &[], Directory::Private),
    Run {
        network: true,
        ..plain("preview3 sockets", PREVIEW3, &["sockets"])
    },
    plain("preview3 no-network", PREVIEW3, &["no-network"]),
    Run {
        network: true,
        ..plain("mixed sockets", MIXED_SOCKETS, &[])
    },
];

/// The outcome of a run.
struct Outcome {
    /// Functions that were called: interface, then name.
    called: BTreeSet<(String, String)>,
    /// The program's output, then the facts known from outside: `exit code`, and what is `left` of its input.
    lines: Vec<String>,
    stderr: String,
}

impl Outcome {
    fn new(said: &str, code: Option<i32>, left: &str, stderr: String) -> Self {
        let mut called = BTreeSet::new();
        let mut lines = Vec::new();
        for line in said.lines() {
            match line
                .strip_prefix("called ")
                .and_then(|it| it.split_once(' '))
            {
                Some((interface, function)) => {
                    called.insert((interface.to_owned(), function.to_owned()));
                }
                None => lines.push(line.to_owned()),
            }
        }
        lines.push(format!("exit code: {}", code.unwrap_or(-1)));
        lines.push(format!("left: {}", left.escape_debug()));
        Self {
            called,
            lines,
            stderr,
        }
    }
}

/// A directory for a run, and what must stay open meanwhile.
struct Prepared {
    path: PathBuf,
    _folder: TempDir,
    _kept: Vec<OwnedFd>,
}

fn set_time(path: &Path, time: SystemTime) {
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_times(times)
        .unwrap();
}

impl Content {
    fn prepare(self) -> Prepared {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_owned();
        let mut kept: Vec<OwnedFd> = Vec::new();
        match self {
            Self::Nothing => {}
            Self::Plain => {
                fs::write(path.join("file"), "contents").unwrap();
                fs::create_dir(path.join("dir")).unwrap();
            }
            Self::Odd => {
                kept.push(UnixListener::bind(path.join("socket")).unwrap().into());
                rustix::fs::mkfifoat(
                    rustix::fs::CWD,
                    path.join("pipe"),
                    rustix::fs::Mode::from_raw_mode(0o600),
                )
                .unwrap();
                // With both ends open, opening it once more does not block.
                let both = File::options().read(true).write(true).clone();
                kept.push(both.open(path.join("pipe")).unwrap().into());
                symlink("socket", path.join("to-socket")).unwrap();
                symlink("pipe", path.join("to-pipe")).unwrap();
                symlink("../outside", path.join("outside")).unwrap();
                symlink("/etc/hostname", path.join("absolute")).unwrap();
                fs::write(path.join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
                let year = Duration::from_hours(365 * 24);
                for (name, time) in [
                    ("old", SystemTime::UNIX_EPOCH - 5 * year),
                    ("older", SystemTime::UNIX_EPOCH - 60 * year),
                    ("future", SystemTime::UNIX_EPOCH + 400 * year),
                ] {
                    fs::write(path.join(name), name).unwrap();
                    set_time(&path.join(name), time);
                }
            }
            Self::Devices => {
                return Prepared {
                    path: "/dev".into(),
                    _folder: folder,
                    _kept: kept,
                };
            }
        }
        Prepared {
            path,
            _folder: folder,
            _kept: kept,
        }
    }
}

/// Waits for the end of a run that must end.
fn wait(child: &mut Child, name: &str) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{name} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads to the end, in a separate thread. A terminal ends with an error when its other side is closed.
fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
        }
        bytes
    })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

impl Run {
    /// Runs in a kind of Keep, or natively.
    fn perform(&self, backend: Option<&str>, programs: &Programs) -> Outcome {
        let (content, read_only) = match self.directory {
            Directory::Private => (Content::Nothing, false),
            Directory::Host(content) => (content, false),
            Directory::ReadOnly(content) => (content, true),
        };
        let prepared = content.prepare();
        let mut command = match backend {
            None => clean(&programs.native),
            Some(backend) => {
                let mut command = enarx();
                command.args(["run", "--quiet", "--backend", backend, "--timeout", "100s"]);
                command
            }
        };
        if backend.is_none() || self.directory != Directory::Private {
            let suffix = if read_only { ":ro" } else { "" };
            let directory = format!("{}::/{suffix}", prepared.path.display());
            command.args(["--dir", &directory]);
        }
        if self.network {
            match backend {
                None => command.arg("--network"),
                Some(_) => command.args(["-S", "inherit-network", "-S", "allow-ip-name-lookup"]),
            };
        }
        command.args(["--env", "A=1", "--env", "EMPTY=", "--env", "TEXT=maß \"x\""]);
        command.arg(programs.folder.join(self.program));
        if backend.is_some() {
            command.arg("--");
        }
        command.args(self.arguments).args(["second argument", ""]);
        let name = format!("{}, {}", self.name, backend.unwrap_or("native"));
        let (status, stdout, stderr, left) = match self.streams {
            Streams::Terminal => run_on_terminal(command, &name),
            Streams::File => {
                let mut input = tempfile::tempfile().unwrap();
                input.write_all(INPUT.as_bytes()).unwrap();
                input.rewind().unwrap();
                let given = input.try_clone().unwrap().into();
                let (status, stdout, stderr) = with_pipes(command, given, &name);
                // All that have the file open share one position in it.
                let mut left = Vec::new();
                input.read_to_end(&mut left).unwrap();
                (status, stdout, stderr, left)
            }
            Streams::Pipe | Streams::Silent => {
                let (mut reader, mut writer) = std::io::pipe().unwrap();
                let speaker = if self.streams == Streams::Pipe {
                    writer.write_all(INPUT.as_bytes()).unwrap();
                    drop(writer);
                    None
                } else {
                    Some(writer)
                };
                let given = OwnedFd::from(reader.try_clone().unwrap());
                let (status, stdout, stderr) = with_pipes(command, given, &name);
                drop(speaker);
                let mut left = Vec::new();
                reader.read_to_end(&mut left).unwrap();
                (status, stdout, stderr, left)
            }
        };
        let outcome = Outcome::new(&text(stdout), status.code(), &text(left), text(stderr));
        assert!(
            !outcome.lines.iter().any(|line| line.starts_with("FAILED")),
            "{name}: {:?}",
            outcome.lines
        );
        outcome
    }

    /// Returns the outcome of [`Self::perform`], performed once for all tests of this process.
    fn outcome(&self, backend: Option<&str>, programs: &Programs) -> Arc<Outcome> {
        type Cell = Arc<OnceLock<Arc<Outcome>>>;
        static OUTCOMES: OnceLock<Mutex<HashMap<String, Cell>>> = OnceLock::new();
        let key = format!("{} {backend:?}", self.name);
        let cell = {
            let outcomes = OUTCOMES.get_or_init(Mutex::default);
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(outcomes.entry(key).or_default())
        };
        Arc::clone(cell.get_or_init(|| Arc::new(self.perform(backend, programs))))
    }

    /// Compares all kinds of Keeps with native Wasmtime.
    fn compare(&self, programs: &Programs) {
        let native = self.outcome(None, programs);
        let mut failures = String::new();
        for backend in backends() {
            let keep = self.outcome(Some(backend), programs);
            let name = format!("{}, {backend}", self.name);
            failures += &compare(self.name, &name, &keep, &native);
        }
        assert!(failures.is_empty(), "{failures}");
    }
}

fn with_pipes(mut command: Command, stdin: OwnedFd, name: &str) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = wait(&mut child, name);
    (status, stdout.join().unwrap(), stderr.join().unwrap())
}

/// With a terminal for all standard streams; what is written is standard output.
fn run_on_terminal(mut command: Command, name: &str) -> (ExitStatus, Vec<u8>, Vec<u8>, Vec<u8>) {
    let (ours, theirs) = terminal();
    let mut child = command
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    // The command has the other side, too, until it ends.
    drop(command);
    let stdout = read_all(ours);
    let status = wait(&mut child, name);
    (status, stdout.join().unwrap(), Vec::new(), Vec::new())
}

/// True if `text` is `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    (0..=text.len())
        .filter(|place| text.is_char_boundary(*place))
        .any(|place| matches(rest, &text[place..]))
}

impl Difference {
    /// True if two lines show this difference; a line that one of them lacks is empty.
    fn is_between(&self, keep: &str, native: &str) -> bool {
        let fits = |value: &str, line: &str| match value {
            MISSING => line.is_empty(),
            value => matches(&format!("{}: {value}", self.line), line),
        };
        fits(self.keep, keep) && fits(self.native, native)
    }
}

/// The result that a line is about.
fn subject(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(subject, _)| subject)
}

/// Pairs of lines about the same subject; a line that only one of them has is beside an empty one.
fn pairs<'a>(keep: &'a [String], native: &'a [String]) -> Vec<(&'a str, &'a str)> {
    if keep.len() == native.len() {
        let lines = keep.iter().zip(native);
        return lines.map(|(ours, theirs)| (&**ours, &**theirs)).collect();
    }
    // The longest common subsequence of the subjects.
    let mut common = vec![vec![0_u32; native.len() + 1]; keep.len() + 1];
    for ours in (0..keep.len()).rev() {
        for theirs in (0..native.len()).rev() {
            common[ours][theirs] = if subject(&keep[ours]) == subject(&native[theirs]) {
                common[ours + 1][theirs + 1] + 1
            } else {
                common[ours + 1][theirs].max(common[ours][theirs + 1])
            };
        }
    }
    let (mut ours, mut theirs) = (0, 0);
    let mut pairs = Vec::new();
    loop {
        match (keep.get(ours), native.get(theirs)) {
            (None, None) => return pairs,
            (Some(line), Some(other)) if subject(line) == subject(other) => {
                pairs.push((&**line, &**other));
                ours += 1;
                theirs += 1;
            }
            (Some(line), other)
                if other.is_none() || common[ours + 1][theirs] >= common[ours][theirs + 1] =>
            {
                pairs.push((line, ""));
                ours += 1;
            }
            (_, other) => {
                pairs.push(("", other.map_or("", |line| line)));
                theirs += 1;
            }
        }
    }
}

/// Differences between a Keep's outcome and the native one that are not in the table, and those in the
/// table that do not occur.
fn compare(run: &str, name: &str, keep: &Outcome, native: &Outcome) -> String {
    let mut wrong: Vec<String> = Vec::new();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let known: Vec<(usize, &Difference)> = DIFFERENCES
        .iter()
        .enumerate()
        .filter(|(_, difference)| difference.count(run).is_some())
        .collect();
    for (ours, theirs) in pairs(&keep.lines, &native.lines) {
        if ours == theirs {
            continue;
        }
        let mut matching = known
            .iter()
            .filter(|(_, difference)| difference.is_between(ours, theirs));
        match (matching.next(), matching.next()) {
            (Some((index, _)), None) => *seen.entry(*index).or_default() += 1,
            (Some(_), Some(_)) => wrong.push(format!(
                "{name}: two differences match {ours}\n    natively: {theirs}"
            )),
            (None, _) => wrong.push(format!("{name}: {ours}\n    natively: {theirs}")),
        }
    }
    for (index, difference) in known {
        let count = seen.get(&index).copied().unwrap_or(0);
        if difference.count(run) != Some(count) {
            wrong.push(format!(
                "{name}: {count} lines differ as {:?} ({:?}, natively {:?}: {}), instead of {:?}",
                difference.line,
                difference.keep,
                difference.native,
                difference.why,
                difference.count(run)
            ));
        }
    }
    // If the program succeeds, standard error contains its own words; the words about a failure are the runtime's.
    let both_succeed = [keep, native]
        .iter()
        .all(|outcome| outcome.lines.iter().any(|line| line == "exit code: 0"));
    if both_succeed && keep.stderr != native.stderr || !wrong.is_empty() {
        wrong.push(format!(
            "{name}: standard error: {}\n    natively: {}",
            keep.stderr, native.stderr
        ));
    }
    wrong.into_iter().map(|line| line + "\n").collect()
}

/// Compares the runs whose name starts with `start`.
fn compare_all(programs: &Programs, start: &str) {
    let mut any = false;
    for run in RUNS.iter().filter(|run| run.name.starts_with(start)) {
        any = true;
        run.compare(programs);
    }
    assert!(any, "no run is named {start}");
}

macro_rules! comparisons {
    ($($test:ident: $start:literal;)*) => {
        $(#[test]
        fn $test() {
            compare_all(programs(), $start);
        })*

        /// Starts of the names of the runs that are compared.
        const COMPARED: &[&str] = &[$($start),*];
    };
}

comparisons! {
    preview1_in_a_directory_of_the_host: "preview1 host";
    preview1_in_the_private_file_system: "preview1 private";
    preview1_meets_odd_files: "preview1 odd";
    preview1_meets_devices: "preview1 devices";
    preview1_in_a_read_only_directory: "preview1 read-only";
    preview1_leaves_what_it_does_not_read: "preview1 stdin";
    preview1_polls_and_leaves_everything: "preview1 poll-stdin";
    preview1_on_a_terminal: "preview1 terminal";
    preview1_ends_with_a_code: "preview1 exit";
    preview1_passes_invalid_values: "preview1 invalid";
    preview1_passes_invalid_pointers: "preview1 pointer";
    preview2_in_a_directory_of_the_host: "preview2 host";
    preview2_in_the_private_file_system: "preview2 private";
    preview2_meets_odd_files: "preview2 odd";
    preview2_meets_devices: "preview2 devices";
    preview2_in_a_read_only_directory: "preview2 read-only";
    preview2_on_the_network: "preview2 sockets";
    preview2_without_a_network: "preview2 no-network";
    preview2_leaves_what_it_does_not_read: "preview2 stdin";
    preview2_polls_and_leaves_everything: "preview2 poll-stdin";
    preview2_on_a_terminal: "preview2 terminal";
    preview2_ends_with_a_code: "preview2 exit";
    preview2_fails: "preview2 error";
    preview2_traps: "preview2 trap";
    preview3_in_a_directory_of_the_host: "preview3 host";
    preview3_in_the_private_file_system: "preview3 private";
    preview3_in_a_read_only_directory: "preview3 read-only";
    preview3_leaves_what_it_does_not_read: "preview3 stdin";
    preview3_waits_for_input_and_leaves_it: "preview3 wait-stdin";
    preview3_gives_up_a_read: "preview3 give-up-stdin";
    preview3_passes_input_on: "preview3 pass";
    preview3_on_a_terminal: "preview3 terminal";
    preview3_ends_with_a_code: "preview3 exit";
    preview3_fails: "preview3 error";
    preview3_traps: "preview3 trap";
    http_of_0_3: "http";
    both_versions_of_components_together: "mixed";
    preview3_on_the_network: "preview3 sockets";
    preview3_without_a_network: "preview3 no-network";
}

#[test]
fn every_run_is_compared_and_every_difference_has_a_run() {
    for run in RUNS {
        let compared = COMPARED.iter().any(|start| run.name.starts_with(start));
        assert!(compared, "{} is not compared", run.name);
    }
    for difference in DIFFERENCES {
        for (run, _) in difference.runs {
            assert!(RUNS.iter().any(|it| it.name == *run), "{run}");
        }
        assert!(difference.why.ends_with('.'), "{}", difference.line);
    }
}

/// The coverage table, as it is beside the programs.
fn table(programs: &Programs) -> String {
    let mut callers: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for run in RUNS {
        let outcome = run.outcome(None, programs);
        for function in &outcome.called {
            callers.entry(function.clone()).or_default().push(run.name);
        }
    }
    let mut table = String::from(
        "# What the conformance programs cover\n\n\
         Made by the test `every_offered_function_is_called` (`cli/tests/keeps/conformance.rs`), which fails when\n\
         this is not what it finds: every function that a Keep offers, and the runs that call it. With\n\
         `ENARX_UPDATE_COVERAGE=1` it writes this file anew.\n",
    );
    let mut last = "";
    for ((interface, function), runs) in &callers {
        if interface != last {
            write!(
                table,
                "\n## `{interface}`\n\n| function | called by |\n|---|---|\n"
            )
            .unwrap();
            last = interface;
        }
        let mut runs = runs.clone();
        let more = runs.len().saturating_sub(3);
        runs.truncate(3);
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        writeln!(table, "| `{function}` | {}{more} |", runs.join(", ")).unwrap();
    }
    table
}

#[test]
fn every_offered_function_is_called() {
    let programs = programs();
    let path = root().join("tests/programs/conformance/COVERAGE.md");
    let table = table(programs);
    if std::env::var_os("ENARX_UPDATE_COVERAGE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == table,
        "{} is not what the programs cover; ENARX_UPDATE_COVERAGE=1 writes it anew",
        path.display()
    );
    let named = enarx_documents::covered(&table);
    let kinds = backends().map(Some).chain([None]);
    for backend in kinds {
        let mut called = BTreeSet::new();
        for run in RUNS {
            called.extend(run.outcome(backend, programs).called.iter().cloned());
        }
        assert_eq!(called, named, "{}", backend.unwrap_or("native"));
    }
}

#[test]
fn a_stop_does_not_make_a_sleep_longer() {
    use rustix::process::{Pid, Signal, kill_process_group};
    use std::os::unix::process::CommandExt;

    const SLEEP: Duration = Duration::from_secs(8);
    /// When it is stopped, the last one has more than this left to sleep.
    const MIN_REMAINING: Duration = Duration::from_secs(5);
    let programs = programs();
    let mut keeps: Vec<_> = backends()
        .map(|backend| {
            let mut command = enarx();
            let child = command
                .args(["run", "--quiet", "--backend", backend])
                .arg(programs.folder.join(PREVIEW1))
                .args(["--", "sleep", &SLEEP.as_millis().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            (backend, child)
        })
        .collect();
    let mut starts = Vec::new();
    for (_, child) in &mut keeps {
        // The first line comes before the sleep.
        let mut line = Vec::new();
        let stdout = child.stdout.as_mut().unwrap();
        while !line.ends_with(b"asleep\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        starts.push(Instant::now());
    }
    let signal = |signal| {
        for (_, child) in &keeps {
            kill_process_group(Pid::from_child(child), signal).unwrap();
        }
    };
    // After a second all of them sleep; the stop lasts beyond the end of that. Most of the last one's sleep would be left if it
    // began again at the stop.
    std::thread::sleep(Duration::from_secs(1));
    signal(Signal::STOP);
    std::thread::sleep(SLEEP);
    signal(Signal::CONT);
    let resumed = Instant::now();
    for ((backend, mut child), start) in keeps.into_iter().zip(starts) {
        let status = wait(&mut child, backend);
        let (slept, longer) = (start.elapsed(), resumed.elapsed());
        assert!(status.success(), "{backend}: {status}");
        assert!(
            slept >= SLEEP && longer < MIN_REMAINING,
            "{backend}: {slept:?}, {longer:?} after the stop"
        );
    }
}
