// SPDX-License-Identifier: Apache-2.0

//! Runs one program on one side and measures it from outside.
//!
//! The kernel sums up what a process's ended children used, so every measurement goes through a
//! process of its own that has one child: this same executable, started as [`RUNNER`].

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::build::workspace;
use crate::error::Error;
use crate::timings::Timings;

/// First argument of the process that runs and measures one command.
pub const RUNNER: &str = "measure-one-command";
/// Bytes of a program's output that are kept.
const KEPT: usize = 1 << 16;
/// Begins the line in which it reports.
const REPORT: &str = "enarx-bench-report: ";

/// The executables that are measured.
pub struct Programs {
    /// The `enarx` command.
    pub enarx: PathBuf,
    /// Native Wasmtime of the same version.
    pub native: PathBuf,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Native Wasmtime: the yardstick.
    Native,
    /// A Keep in a virtual machine.
    Kvm,
    /// A Keep in a confined process.
    Process,
    /// A measured Keep in a virtual machine on the simulated SEV-SNP platform.
    Simulated,
}

impl Side {
    /// Its name for `enarx run --backend`; `None` for the yardstick.
    pub fn backend(self) -> Option<&'static str> {
        match self {
            Self::Native => None,
            Self::Kvm => Some("kvm"),
            Self::Process => Some("process"),
            Self::Simulated => Some("sim"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Native => "native",
            Self::Kvm => "KVM Keep",
            Self::Process => "process Keep",
            Self::Simulated => "simulated Keep",
        })
    }
}

/// Where the program's standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Through a pipe to this process.
    Pipe,
    /// To `/dev/null`.
    Null,
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct Job {
    module: PathBuf,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    variable: Option<&'static str>,
    vcpus: Option<u32>,
    network: bool,
    output: Output,
    timings: bool,
}

impl Job {
    /// A module without arguments, its output through a pipe.
    pub fn new(module: PathBuf) -> Self {
        Self {
            module,
            arguments: Vec::new(),
            directory: None,
            variable: None,
            vcpus: None,
            network: false,
            output: Output::Pipe,
            timings: false,
        }
    }

    /// A kernel of this folder with its argument.
    pub fn kernel(name: &str, argument: &impl ToString) -> Self {
        let file = format!("bench/kernels/{name}.wasm");
        Self::new(workspace().join(file)).with_argument(argument)
    }

    /// Gives the program a further argument.
    pub fn with_argument(mut self, argument: &impl ToString) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// Lets the program use the network.
    pub fn with_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Gives the program a directory, as `/data`.
    pub fn with_directory(mut self, directory: PathBuf) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Sets a variable of the program, NAME=VALUE.
    pub fn with_variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Gives a Keep so many virtual CPUs. The yardstick has all processors of the machine.
    pub fn with_vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = Some(vcpus);
        self
    }

    /// Sends the output somewhere else.
    pub fn with_output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Asks a Keep where its time goes.
    pub fn with_timings(mut self) -> Self {
        self.timings = true;
        self
    }

    fn command(&self, programs: &Programs, side: Side, report: Option<&Path>) -> Vec<OsString> {
        let mut words: Vec<OsString> = match side.backend() {
            None => vec![programs.native.clone().into()],
            Some(backend) => vec![
                programs.enarx.clone().into(),
                "run".into(),
                "--quiet".into(),
                "--backend".into(),
                backend.into(),
            ],
        };
        if let Some(report) = report {
            words.extend(["--timings".into(), "--report-to".into(), report.into()]);
        }
        if let Some(directory) = &self.directory {
            let mut given = directory.clone().into_os_string();
            given.push("::/data");
            words.extend(["--dir".into(), given]);
        }
        if let Some(variable) = self.variable {
            words.extend(["--env".into(), variable.into()]);
        }
        if let Some(vcpus) = self.vcpus.filter(|_| side != Side::Native) {
            words.extend(["--vcpus".into(), vcpus.to_string().into()]);
        }
        if self.network {
            words.extend(match side {
                Side::Native => vec!["--network".into()],
                _ => vec!["-S".into(), "inherit-network".into()],
            });
        }
        words.push(self.module.clone().into());
        words.extend(self.arguments.iter().map(OsString::from));
        words
    }
}

/// The time and resources that a command used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// From before its start to after its end, in microseconds.
    pub wall: f64,
    /// User and system time of it and the children that it waited for, in microseconds.
    pub cpu: f64,
    /// Largest resident set of any of these processes, in KiB.
    pub resident: f64,
    /// Page faults that the host served without reading a disk.
    pub faults: f64,
}

/// The results of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The time and resources that it used.
    pub usage: Usage,
    /// The first 64 KiB of its standard output.
    pub stdout: String,
    /// Bytes of standard output that arrived through the pipe.
    pub length: u64,
    /// Its standard error.
    pub stderr: String,
    /// Where its time went; empty unless the job asks for it.
    pub timings: Timings,
}

/// Runs a job once on one side, without input.
pub fn run(programs: &Programs, side: Side, job: &Job) -> Result<Run, Error> {
    run_with_input(programs, side, job, Stdio::null())
}

/// Runs a job once on one side.
pub fn run_with_input(
    programs: &Programs,
    side: Side,
    job: &Job,
    input: Stdio,
) -> Result<Run, Error> {
    let report = (job.timings && side != Side::Native)
        .then(NamedTempFile::new)
        .transpose()
        .map_err(Error::system("no temporary file"))?;
    let command = job.command(programs, side, report.as_ref().map(NamedTempFile::path));
    let shown = command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let own = std::env::current_exe().map_err(Error::system("this executable was not found"))?;
    let mut child = Command::new(own)
        .arg(RUNNER)
        .args(&command)
        // The yardstick compiles in every turn, too.
        .env("ENARX_NO_CACHE", "true")
        .stdin(input)
        .stdout(match job.output {
            Output::Pipe => Stdio::piped(),
            Output::Null => Stdio::null(),
        })
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::system("the runner could not be started"))?;
    let (mut stdout, mut length) = (Vec::new(), 0);
    if let Some(mut pipe) = child.stdout.take() {
        let mut piece = vec![0; 1 << 16];
        loop {
            let read = pipe
                .read(&mut piece)
                .map_err(Error::system("the output could not be read"))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            // A piece is as large as the writer made it.
            let room = KEPT.saturating_sub(stdout.len());
            stdout.extend(bytes.iter().take(room));
            length += bytes.len() as u64;
        }
    }
    let ended = child
        .wait_with_output()
        .map_err(Error::system("the runner was lost"))?;
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    let (said, usage) = stderr.rsplit_once(REPORT).unwrap_or((&stderr, ""));
    match serde_json::from_str(usage) {
        Ok(usage) if ended.status.success() => Ok(Run {
            usage,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            length,
            stderr: said.to_owned(),
            timings: match report {
                Some(file) => {
                    let report = std::fs::read(file.path())
                        .map_err(Error::system("the report could not be read"))?;
                    Timings::read(&report, said)?
                }
                None => Timings::default(),
            },
        }),
        _ => Err(Error::Failed {
            command: shown,
            code: ended.status.to_string(),
            stderr: said.trim().to_owned(),
        }),
    }
}

/// The process that has one child: runs the command and reports on standard error what it used.
pub fn runner(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let wall = start.elapsed();
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{}: {error}", program.to_string_lossy());
            return ExitCode::FAILURE;
        }
    };
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return ExitCode::FAILURE;
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let usage = Usage {
        wall: wall.as_secs_f64() * 1e6,
        cpu: (usage.user_time() + usage.system_time()).num_microseconds() as f64,
        resident: usage.max_rss() as f64,
        faults: usage.minor_page_faults() as f64,
    };
    match serde_json::to_string(&usage) {
        Ok(report) => eprintln!("\n{REPORT}{report}"),
        Err(_) => return ExitCode::FAILURE,
    }
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
