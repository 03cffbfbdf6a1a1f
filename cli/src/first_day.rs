// SPDX-License-Identifier: Apache-2.0

//! `enarx doctor --first-day`: SEV-SNP hardware that Enarx has never run on is tried step by step, from a guest of a few
//! instructions to a Keep's evidence, and one report says what each step saw.
//!
//! Every step is a process of its own under a time limit, so that no step hides the next one. The host runs it for
//! itself; no tenant relies on it.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use enarx_doctor::{Backend, Report, State};
use enarx_launch::measured;
use enarx_snp::report::Report as Evidence;
use enarx_vmm::first_day::{self, Step};
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::images::IMAGES;
use crate::output;

/// Version of the JSON form.
const SCHEMA: u32 = 1;
/// The time limit of a step.
const LIMIT: Duration = Duration::from_mins(2);
/// The time limit that a Keep is given, less than that of its step.
const KEEP_LIMIT: &str = "90s";
/// How often the end of a step is looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Most bytes of a step's words that are kept, of each stream.
const MOST_WORDS: u64 = 64 << 10;
/// The program of the smallest Keep.
const HELLO: &[u8] = include_bytes!("../../examples/hello.wasm");
/// Functions of the program that is compiled on two processors: more code than is compiled on one (`keep/wasm`).
const FUNCTIONS: u32 = 12_000;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// A guest of a few instructions.
    Guest(Step),
    /// The smallest Keep: one processor.
    Keep,
    /// A Keep whose runtime starts its second processor.
    Processors,
    /// The evidence of the smallest Keep.
    Evidence,
}

/// All steps, in order.
const TASKS: [Task; 9] = [
    Task::Guest(Step::Toy),
    Task::Guest(Step::ToyDigest),
    Task::Guest(Step::RealDigest),
    Task::Guest(Step::Ghcb),
    Task::Keep,
    Task::Guest(Step::SecondVcpu),
    Task::Processors,
    Task::Guest(Step::Kicks),
    Task::Evidence,
];

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::Guest(step) => step.name(),
            Self::Keep => "keep",
            Self::Processors => "processors",
            Self::Evidence => "evidence",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Guest(step) => step.about(),
            Self::Keep => "the smallest Keep runs a program: one processor",
            Self::Processors => "a Keep starts its second processor to compile a large program",
            Self::Evidence => "a Keep's report has the measurement that tenants compute",
        }
    }
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ended {
    Passed,
    Failed,
    NotTried,
}

/// A step in the report.
#[derive(Debug, Serialize)]
struct StepReport {
    name: &'static str,
    about: &'static str,
    ended: Ended,
    milliseconds: u128,
    /// Observations: data of a success, or cause and remedy of a failure.
    lines: Vec<String>,
}

impl StepReport {
    fn text(&self) -> String {
        let state = match self.ended {
            Ended::Passed => "passed   ",
            Ended::Failed => "FAILED   ",
            Ended::NotTried => "not tried",
        };
        let mut text = format!("{state}  {}: {}\n", self.name, self.about);
        for line in &self.lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "           {line}");
        }
        text
    }
}

/// Tries this machine; `rehearse`: what needs no hardware, on the simulated platform.
///
/// # Errors
/// [`Exit::Unavailable`] without SEV-SNP, [`Exit::Fault`] if a step fails; [`Failure`] otherwise.
pub fn run(
    machine: &Report,
    rehearse: bool,
    json: bool,
    file: Option<&Path>,
) -> Result<ExitCode, Failure> {
    if !rehearse {
        check(machine)?;
    }
    let folder = tempfile::tempdir().map_err(|error| {
        Failure::new(format!("no folder can be made for the first day: {error}"))
    })?;
    let command = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this command cannot be found: {error}")))?;
    let day = Day {
        command,
        folder: folder.path().to_owned(),
        backend: if rehearse {
            Backend::Simulated
        } else {
            Backend::Snp
        },
    };
    let mut text = head(machine, rehearse);
    if !json {
        out!("{text}");
    }
    let mut steps = Vec::new();
    for task in TASKS {
        let told = day.tell(task);
        let words = told.text();
        if !json {
            out!("{words}");
        }
        text.push_str(&words);
        steps.push(told);
    }
    let failed = steps
        .iter()
        .filter(|told| told.ended == Ended::Failed)
        .count();
    let end = foot(failed, rehearse);
    text.push_str(&end);
    let document = serde_json::json!({
        "schema": SCHEMA,
        "rehearsal": rehearse,
        "machine": machine,
        "steps": steps,
    });
    if json {
        output::print_json(&document);
    } else {
        out!("{end}");
    }
    if let Some(file) = file {
        let report = if json {
            format!("{document:#}\n")
        } else {
            text
        };
        write_report(file, &report)?;
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    output::complain(format!(
        "{failed} of {} steps failed; each says what to do, and the report may be sent to the project",
        TASKS.len()
    ));
    Ok(Exit::Fault.into())
}

fn write_report(file: &Path, report: &str) -> Result<(), Failure> {
    output::create(file, report.as_bytes()).map_err(|error| {
        let name = output::shown(file);
        Failure::of(
            Exit::Output,
            format!("the report cannot be written to {name}: {error}"),
        )
    })
}

/// Refuses a machine that cannot begin.
fn check(machine: &Report) -> Result<(), Failure> {
    let unavailable = |sentence| Err(Failure::of(Exit::Unavailable, sentence));
    let Some(snp) = machine.backend(Backend::Snp.name()) else {
        return unavailable("the first day cannot begin: this command has no SEV-SNP".to_owned());
    };
    let missing = |check: &&enarx_doctor::Check| check.required && check.state != State::Ok;
    match snp.checks.iter().find(missing) {
        None => Ok(()),
        Some(check) => {
            let next = check.next.as_deref().unwrap_or("see `enarx doctor`");
            unavailable(format!(
                "the first day cannot begin: {}: {}; next: {next}",
                check.name, check.found
            ))
        }
    }
}

fn head(machine: &Report, rehearse: bool) -> String {
    let mut text = String::from("First day on SEV-SNP hardware\n");
    if rehearse {
        text.push_str(
            "REHEARSAL on the simulated platform: says nothing about hardware, and much is not tried\n",
        );
    }
    text.push('\n');
    text.push_str(&machine.to_tree());
    text.push('\n');
    text
}

fn foot(failed: usize, rehearse: bool) -> String {
    let mut text = String::from("\n");
    if failed != 0 {
        text.push_str(
            "The kernel's log says more about what failed: sudo dmesg | grep -e kvm -e SEV -e SNP -e vmgexit -e ccp\n",
        );
    } else if !rehearse {
        text.push_str(
            "Everything passed. Next, from a clone: cargo test -p enarx-vmm --test snp_hardware -- --ignored --test-threads=1\n",
        );
    }
    text
}

/// Runs one step in this process; [`run`] reads its output.
///
/// # Errors
/// [`Exit::Usage`] for a step that does not exist, [`Exit::Fault`] if it fails.
pub fn step(name: &str) -> Result<ExitCode, Failure> {
    let Some(step) = Step::ALL.into_iter().find(|step| step.name() == name) else {
        return Err(Failure::usage(format!("there is no step {name}")));
    };
    let images = measured::Images {
        microkernel: IMAGES.microkernel,
        loader: IMAGES.loader,
        runtime: IMAGES.runtime,
    };
    let lines = first_day::take(step, &images)
        .map_err(|error| Failure::of(Exit::Fault, error.to_string()))?;
    for line in lines {
        outln!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The tools of all steps.
struct Day {
    command: PathBuf,
    folder: PathBuf,
    backend: Backend,
}

/// Output and end of a process.
struct ProcessResult {
    /// `None`: it was ended at the limit.
    status: Option<ExitStatus>,
    stdout: String,
    stderr: String,
}

impl ProcessResult {
    fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Its end and all its words, as a failure.
    fn failure(&self) -> Vec<String> {
        let end = match self.status {
            None => format!(
                "did not end within {} seconds and was killed: the guest runs, but does not do what it should",
                LIMIT.as_secs()
            ),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("ended by signal {signal}; please report this"),
                (None, None) => "ended in an unknown way".to_owned(),
            },
        };
        let words = self.stderr.lines().chain(self.stdout.lines());
        [end].into_iter().chain(words.map(str::to_owned)).collect()
    }
}

impl Day {
    fn tell(&self, task: Task) -> StepReport {
        let begin = Instant::now();
        let (ended, lines) = match self.take(task) {
            Ok(None) => (Ended::NotTried, vec!["needs SEV-SNP hardware".to_owned()]),
            Ok(Some(lines)) => (Ended::Passed, lines),
            Err(lines) => (Ended::Failed, lines),
        };
        StepReport {
            name: task.name(),
            about: task.about(),
            ended,
            milliseconds: begin.elapsed().as_millis(),
            lines,
        }
    }

    /// Runs a step; returns what it saw, `None` if it cannot be tried here, or why it failed.
    fn take(&self, task: Task) -> Result<Option<Vec<String>>, Vec<String>> {
        match task {
            Task::Guest(_) if self.backend != Backend::Snp => Ok(None),
            Task::Guest(step) => {
                let said = self.says(["doctor", "--first-day", "--step", step.name()])?;
                if !said.succeeded() {
                    return Err(said.failure());
                }
                Ok(Some(said.stdout.lines().map(str::to_owned).collect()))
            }
            Task::Keep => self.hello(1, &[]).map(|()| Some(Vec::new())),
            Task::Processors => self.processors().map(Some),
            Task::Evidence => self.evidence().map(Some),
        }
    }

    /// Runs the smallest program.
    fn hello(&self, vcpus: u32, more: &[&OsStr]) -> Result<(), Vec<String>> {
        let said = self.keep(vcpus, "hello.wasm", HELLO, more)?;
        if said.succeeded() && said.stdout == "Hello, world!\n" {
            return Ok(());
        }
        Err(said.failure())
    }

    fn processors(&self) -> Result<Vec<String>, Vec<String>> {
        let module = wat::parse_str(large_program()).map_err(|error| vec![error.to_string()])?;
        let said = self.keep(2, "large.wasm", &module, &["--timings".as_ref()])?;
        if !said.succeeded() {
            return Err(said.failure());
        }
        let started = |line: &&str| line.contains("count: exits unpark ");
        let Some(line) = said.stderr.lines().find(started) else {
            let mut lines = said.failure();
            let first = "the Keep ran, but never started its second processor";
            lines.insert(0, first.to_owned());
            return Err(lines);
        };
        Ok(vec![line.to_owned()])
    }

    fn evidence(&self) -> Result<Vec<String>, Vec<String>> {
        let folder = self.folder.join("evidence");
        self.hello(1, &["--attest-to".as_ref(), folder.as_os_str()])?;
        let platform = self.backend.name();
        let said = self.says([
            "measure",
            "--platform",
            platform,
            "--vcpus",
            "1",
            "--digest",
        ])?;
        if !said.succeeded() {
            return Err(said.failure());
        }
        let expected = said.stdout.trim();
        let file = folder.join("report.bin");
        let bytes = std::fs::read(&file)
            .map_err(|error| vec![format!("the Keep wrote no report: {error}")])?;
        let report = Evidence::parse(&bytes)
            .map_err(|error| vec![format!("the report cannot be read: {error}")])?;
        let found = base16ct::lower::encode_string(&report.measurement);
        // Not the report itself, by whose chip id a machine can be recognized.
        let version = report.version;
        if found == expected {
            return Ok(vec![format!(
                "report version {version}, measurement {found}"
            )]);
        }
        Err(vec![
            format!("the report's measurement is {found}, but tenants compute {expected}"),
            "`enarx inspect` shows the report of `enarx run --backend snp --vcpus 1 --attest-to DIR`; please report this"
                .to_owned(),
        ])
    }

    /// Runs a program in a Keep.
    fn keep(
        &self,
        vcpus: u32,
        name: &str,
        program: &[u8],
        more: &[&OsStr],
    ) -> Result<ProcessResult, Vec<String>> {
        let file = self.folder.join(name);
        std::fs::write(&file, program).map_err(|error| {
            vec![format!(
                "{} cannot be written: {error}",
                output::shown(&file)
            )]
        })?;
        let vcpus = vcpus.to_string();
        let mut arguments: Vec<&OsStr> = [
            "run",
            "--quiet",
            "--backend",
            self.backend.name(),
            "--vcpus",
            &vcpus,
            "--timeout",
            KEEP_LIMIT,
        ]
        .map(OsStr::new)
        .into();
        arguments.extend(more);
        arguments.push(file.as_os_str());
        self.says(arguments)
    }

    /// Runs this command with these arguments under the limit.
    fn says<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<ProcessResult, Vec<String>> {
        let mut command = Command::new(&self.command);
        command.args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ENARX_") {
                command.env_remove(name);
            }
        }
        bounded(&mut command).map_err(|error| {
            let remedy = enarx_confine::process::remedy(&error);
            vec![format!("the step could not be started: {error}{remedy}")]
        })
    }
}

/// Runs a command until it ends, or ends it at the limit.
fn bounded(command: &mut Command) -> io::Result<ProcessResult> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()?;
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(CHECK_INTERVAL);
    };
    let words = |file: &mut std::fs::File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MOST_WORDS).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(ProcessResult {
        status,
        stdout: words(&mut stdout)?,
        stderr: words(&mut stderr)?,
    })
}

/// A program with so much code that a runtime with two processors compiles on both.
fn large_program() -> String {
    let mut text = String::from("(module (func (export \"_start\"))");
    for number in 0..FUNCTIONS {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "(func (param i64) (result i64) (i64.xor (i64.mul (local.get 0) (i64.const {})) \
             (i64.rotl (i64.add (local.get 0) (i64.const {number})) (i64.const 7))))",
            u64::from(number) * 0x1_0000_0001
        );
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_are_distinct_and_every_guest_is_a_step() {
        let mut names = TASKS.map(Task::name);
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for step in Step::ALL {
            assert!(TASKS.contains(&Task::Guest(step)), "{step:?}");
        }
    }

    #[test]
    fn the_large_program_is_compiled_on_more_than_one_processor() {
        let module = wat::parse_str(large_program()).unwrap();
        // `PARALLEL_FROM` of keep/wasm.
        assert!(module.len() > 256 << 10, "{}", module.len());
    }

    #[test]
    fn a_failed_step_is_reported_with_its_exit_code_and_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo because >&2; exit 70"]);
        let said = bounded(&mut command).unwrap();
        assert!(!said.succeeded());
        assert_eq!(
            said.failure(),
            ["ended with exit code 70", "because", "out"]
        );
        let mut command = Command::new("sh");
        command.args(["-c", "kill -SEGV $$"]);
        let said = bounded(&mut command).unwrap();
        assert_eq!(said.failure(), ["ended by signal 11; please report this"]);
    }
}
