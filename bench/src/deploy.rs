// SPDX-License-Identifier: Apache-2.0

//! Deployments on the simulated platform: the phases of a cold and of a warm one, many at once, the memory of Keeps that
//! wait, and the throughput of a session. The time for emulating a secure processor stands apart, as the
//! phase `evidence`: real ones take another time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::build::workspace;
use crate::error::Error;
use crate::measure::{self, Job, Programs, Side};
use crate::plan::Plan;
use crate::statistics::{median, ratio};
use crate::table::{Table, number};

/// A phase of a deployment, and its time in microseconds.
type Phase = (&'static str, fn(&Deployment) -> f64);

/// The phases, one after the other: together they are [`ALL`]. Names in quotation marks are those of `enarx deploy --json`.
const PHASES: [Phase; 12] = [
    ("connect: TLS to the manager, its offer", |run| {
        run.phase("connect")
    }),
    ("POST: the contract, agreed", |run| {
        run.phase("post") - run.phase("commit")
    }),
    ("commit: the manager's record of it, on its disk", |run| {
        run.phase("commit")
    }),
    ("launch of the Keep", |run| run.phase("launch")),
    ("handshake: TLS into the Keep", |run| run.phase("handshake")),
    ("report", |run| run.phase("evidence")),
    ("verdict", |run| run.phase("verdict")),
    ("transfer: the program, delivered", |run| {
        run.phase("transfer")
    }),
    ("compile", |run| run.keep("compile")),
    ("first byte: instantiated, run, received", |run| {
        run.phase("first_byte") - run.phase("transfer") - run.keep("compile")
    }),
    ("end of the program", |run| {
        run.phase("exit") - run.phase("first_byte")
    }),
    ("receipt, with its report, and goodbye", |run| {
        run.phase("run") - run.phase("exit")
    }),
];
/// The sum of the phases.
const ALL: &str = "total";
/// Those that follow each other up to the first byte; the report apart.
const TO_FIRST_BYTE: [&str; 5] = ["post", "launch", "handshake", "verdict", "first_byte"];
/// Deployments that queue for a host.
const QUEUED: usize = 50;
/// Keeps that wait, for the memory that each takes.
const WAITING: u32 = 8;
/// MiB that a program writes through a session.
const MIB: u32 = 256;
/// Longest time for what takes seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// The document of `enarx deploy --json`, as far as it is used here.
#[derive(Deserialize)]
struct Document {
    claim: Option<String>,
    timings_us: Option<BTreeMap<String, f64>>,
    keep_timings_us: Option<BTreeMap<String, f64>>,
}

/// One deployment.
struct Deployment {
    claim: String,
    /// By the tenant's clock.
    microseconds: BTreeMap<String, f64>,
    /// By the Keep's.
    keep: BTreeMap<String, f64>,
    /// From before the command's start to after its end, in microseconds.
    wall: f64,
}

impl Deployment {
    fn phase(&self, name: &str) -> f64 {
        self.microseconds.get(name).copied().unwrap_or(f64::NAN)
    }

    /// A phase of the program's start, as the Keep tells it.
    fn keep(&self, name: &str) -> f64 {
        self.keep.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// A host with a manager of its own, which ends with this, and a tenant's files beside it.
struct Host<'a> {
    programs: &'a Programs,
    folder: TempDir,
    manager: Child,
    to: String,
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.manager.kill();
        let _ = self.manager.wait();
    }
}

impl<'a> Host<'a> {
    fn start(programs: &'a Programs, warm: u32) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::system("no temporary directory"))?;
        let state = folder.path().join("host");
        let token = output(
            enarx(programs, folder.path())
                .args(["host", "token", "add", "bench", "--state"])
                .arg(&state),
        )?;
        fs::write(folder.path().join("token"), token)
            .map_err(Error::system("the token could not be written"))?;
        let policy = output(enarx(programs, folder.path()).args(["policy", "new", "--local"]))?;
        fs::write(folder.path().join("policy.toml"), policy)
            .map_err(Error::system("the policy could not be written"))?;
        let mut command = enarx(programs, folder.path());
        command
            .args([
                "host",
                "serve",
                "--backend",
                "sim",
                "--listen",
                "127.0.0.1:0",
                "--state",
            ])
            .arg(&state);
        if warm > 0 {
            command.args(["--warm", &format!("default={warm}")]);
        }
        let log = fs::File::create(folder.path().join("log"))
            .map_err(Error::system("the manager's log could not be made"))?;
        let mut manager = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Error::system("the manager could not be started"))?;
        let mut to = String::new();
        if let Some(stdout) = manager.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut to)
                .map_err(Error::system("the manager says nothing"))?;
        }
        let host = Self {
            programs,
            folder,
            manager,
            to: to.trim().to_owned(),
        };
        if host.to.is_empty() {
            let log = fs::read_to_string(host.folder.path().join("log")).unwrap_or_default();
            return Err(Error::Wrong(format!(
                "the manager did not start: {}",
                log.trim()
            )));
        }
        Ok(host)
    }

    /// A deployment of a module, whose document goes into a file of this name.
    fn command(&self, job: &[&str], document: &str) -> Command {
        let mut command = enarx(self.programs, self.folder.path());
        command
            .args(["deploy", "--to", &self.to, "--token-file"])
            .arg(self.folder.path().join("token"))
            .arg("--policy")
            .arg(self.folder.path().join("policy.toml"))
            .arg(json(&self.folder.path().join(document)))
            .args(job);
        command
    }

    fn deploy(&self, job: &[&str]) -> Result<Deployment, Error> {
        deployed(
            self.command(job, "document.json"),
            &self.folder.path().join("document.json"),
        )
    }

    /// The processes of its Keeps, and theirs.
    fn keeps(&self) -> Vec<u32> {
        let mut all = children(self.manager.id());
        let mut next = 0;
        while let Some(process) = all.get(next) {
            let more = children(*process);
            all.extend(more);
            next += 1;
        }
        all
    }

    /// Open descriptors of the manager.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.manager.id())).map_or(0, Iterator::count)
    }

    /// Waits until it has as many Keep processes at rest as it is to have.
    fn settle(&self, settled: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while !settled(self) {
            if Instant::now() > end {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(Error::Wrong(format!(
                    "the host does not come to rest: {}",
                    log.trim()
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The command, with this folder for all that it keeps.
fn enarx(programs: &Programs, home: &Path) -> Command {
    let mut command = Command::new(&programs.enarx);
    command
        .env("XDG_STATE_HOME", home)
        .env("XDG_DATA_HOME", home)
        .env("HOME", home);
    command
}

fn json(to: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from("--json=");
    flag.push(to);
    flag
}

/// The standard output of a command that ends well.
fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::system("the command could not be started"))?;
    if !output.status.success() {
        return Err(Error::Failed {
            command: format!("{command:?}"),
            code: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(output.stdout)
}

/// Runs a deployment to its end and reads its document.
fn deployed(mut command: Command, document: &Path) -> Result<Deployment, Error> {
    let start = Instant::now();
    output(&mut command)?;
    let wall = start.elapsed().as_secs_f64() * 1e6;
    let bytes =
        fs::read(document).map_err(Error::system("there is no document of the deployment"))?;
    let wrong = || Error::Wrong("the document of a deployment has no timings".into());
    let document: Document = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    Ok(Deployment {
        claim: document.claim.ok_or_else(wrong)?,
        microseconds: document.timings_us.ok_or_else(wrong)?,
        keep: document.keep_timings_us.ok_or_else(wrong)?,
        wall,
    })
}

/// The child processes of a process.
fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|it| it.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A line `NAME: N kB` of a file of /proc, in MiB.
fn mebibytes(path: PathBuf, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// Prints the tables.
pub fn print(plan: &Plan) -> Result<(), Error> {
    if let Err(error) = measure::run(&plan.programs, Side::Simulated, &hello_job()) {
        println!("Deployments are not measured: {error}\n");
        return Ok(());
    }
    phases(plan)?;
    queued(plan)?;
    waiting(plan)?;
    throughput(plan)
}

fn hello() -> String {
    workspace()
        .join("examples/hello.wasm")
        .display()
        .to_string()
}

fn hello_job() -> Job {
    Job::new(workspace().join("examples/hello.wasm"))
}

/// Cold deployments on one machine, and warm ones to a manager, in turns.
fn phases(plan: &Plan) -> Result<(), Error> {
    let host = Host::start(&plan.programs, 1)?;
    let local = host.folder.path().join("local.json");
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for turn in 0..=plan.runs {
        let mut command = enarx(&plan.programs, host.folder.path());
        command
            .args(["deploy", "--local"])
            .arg(json(&local))
            .arg(hello());
        let one = deployed(command, &local)?;
        let other = warm_deployment(&host)?;
        if turn > 0 {
            cold.push(one);
            warm.push(other);
        }
    }
    let mut table = Table::new(["hello, deployed", "cold, ms", "warm, ms"]);
    let cell = |runs: &[Deployment], value: &dyn Fn(&Deployment) -> f64| {
        let all: Vec<f64> = runs.iter().map(value).collect();
        number(median(&all).map(|microseconds| microseconds / 1e3), 1)
    };
    let mut row = |name: &str, value: &dyn Fn(&Deployment) -> f64| {
        table.row([name.to_owned(), cell(&cold, value), cell(&warm, value)]);
    };
    for (name, value) in PHASES {
        row(name, &value);
    }
    row("all, without the command's own start", &|run| {
        run.phase(ALL)
    });
    row("contract to the first byte, without the report", &|run| {
        TO_FIRST_BYTE.iter().map(|phase| run.phase(phase)).sum()
    });
    row("the command, start to end", &|run| run.wall);
    table.print("Phases of a deployment");
    Ok(())
}

/// A deployment that met a Keep that waited; one that came before there was one does not count.
fn warm_deployment(host: &Host<'_>) -> Result<Deployment, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        // The pool refills after a claim.
        thread::sleep(Duration::from_secs(2));
        let deployment = host.deploy(&[&hello()])?;
        if deployment.claim == "warm" {
            return Ok(deployment);
        }
        if Instant::now() > end {
            return Err(Error::Wrong("no deployment meets a Keep that waits".into()));
        }
    }
}

/// Many deployments at once, which wait for what the host lets one tenant have.
fn queued(plan: &Plan) -> Result<(), Error> {
    let host = Host::start(&plan.programs, 0)?;
    host.deploy(&[&hello()])?;
    host.settle(|host| host.keeps().is_empty())?;
    let descriptors = host.descriptors();
    let start = Instant::now();
    let work = |number: usize| {
        let name = format!("document-{number}.json");
        let mut command = host.command(&[&hello()], &name);
        command.env("ENARX_WAIT", "10m");
        deployed(command, &host.folder.path().join(&name))
    };
    let ended = thread::scope(|scope| {
        let workers: Vec<_> = (0..QUEUED)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        let mut ended = Vec::new();
        for worker in workers {
            let gone = |_| Error::Wrong("a deployment is gone".into());
            ended.push(worker.join().map_err(gone)?);
        }
        Ok::<_, Error>(ended)
    })?;
    let all = start.elapsed().as_secs_f64();
    let runs = ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    host.settle(|host| host.keeps().is_empty())?;
    let walls: Vec<f64> = runs.iter().map(|run| run.wall / 1e6).collect();
    let resident = mebibytes(
        format!("/proc/{}/status", host.manager.id()).into(),
        "VmHWM",
    );
    let mut table = Table::new([
        format!("{QUEUED} deployments at once, with --wait"),
        String::new(),
    ]);
    table.row(["that ended with success".to_owned(), runs.len().to_string()]);
    table.row([
        "until the last one ended, s".to_owned(),
        number(Some(all), 1),
    ]);
    table.row([
        "one of them, the queue included, median, s".to_owned(),
        number(median(&walls), 1),
    ]);
    table.row([
        "largest resident set of the manager, MiB".to_owned(),
        number(resident, 1),
    ]);
    let left = host.descriptors().saturating_sub(descriptors);
    table.row([
        "descriptors of the manager more than before".to_owned(),
        left.to_string(),
    ]);
    table.row([
        "processes of Keeps that are left".to_owned(),
        host.keeps().len().to_string(),
    ]);
    table.print("Many deployments");
    Ok(())
}

/// The memory of Keeps that wait.
fn waiting(plan: &Plan) -> Result<(), Error> {
    let host = Host::start(&plan.programs, WAITING)?;
    // For each a process that the manager knows, and those that serve the Keep.
    host.settle(|host| children(host.manager.id()).len() >= WAITING as usize)?;
    // Before they wait they rehearse.
    thread::sleep(Duration::from_secs(10));
    let of = |process: u32| mebibytes(format!("/proc/{process}/smaps_rollup").into(), "Pss");
    let all: f64 = host.keeps().into_iter().filter_map(of).sum();
    let mut table = Table::new(["Keeps that wait", ""]);
    table.row(["number".to_owned(), WAITING.to_string()]);
    let each = all / f64::from(WAITING);
    table.row([
        "proportional set of one, all its processes, MiB".to_owned(),
        number(Some(each), 1),
    ]);
    table.print("Memory of Keeps that wait");
    Ok(())
}

/// Bytes through the session against those through the pipe of a Keep on the same platform: with the start of the command, which
/// is longer for a deployment, and without what the same command takes for a program that writes nothing.
fn throughput(plan: &Plan) -> Result<(), Error> {
    let host = Host::start(&plan.programs, 0)?;
    let module = workspace()
        .join("bench/kernels/write.wasm")
        .display()
        .to_string();
    let session = |mib: u32| {
        let mut command = host.command(&[&module, "--", &mib.to_string()], "document.json");
        timed(&mut command, mib)
    };
    let pipe = |mib: u32| {
        let mut command = enarx(&plan.programs, host.folder.path());
        command.args(["run", "--quiet", "--backend", "sim", &module]);
        timed(command.arg(mib.to_string()), mib)
    };
    let rate = |seconds: f64| f64::from(MIB) / seconds;
    let (mut sessions, mut pipes) = (Vec::new(), Vec::new());
    let (mut net_sessions, mut net_pipes) = (Vec::new(), Vec::new());
    for turn in 0..=plan.runs {
        let (empty_session, whole_session) = (session(0)?, session(MIB)?);
        let (empty_pipe, whole_pipe) = (pipe(0)?, pipe(MIB)?);
        if turn > 0 {
            sessions.push(rate(whole_session));
            pipes.push(rate(whole_pipe));
            net_sessions.push(rate(whole_session - empty_session));
            net_pipes.push(rate(whole_pipe - empty_pipe));
        }
    }
    let mut table = Table::new([
        format!("{MIB} MiB to standard output"),
        "pipe of enarx run, MiB/s".into(),
        "session, MiB/s".into(),
        "session / pipe".into(),
    ]);
    for (name, sessions, pipes) in [
        ("the command's start included", sessions, pipes),
        ("without it", net_sessions, net_pipes),
    ] {
        table.row([
            name.to_owned(),
            number(median(&pipes), 0),
            number(median(&sessions), 0),
            number(ratio(&sessions, &pipes), 2),
        ]);
    }
    table.print("Throughput of a session");
    Ok(())
}

/// Seconds of a command that writes so many MiB.
fn timed(command: &mut Command, mib: u32) -> Result<f64, Error> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::system("the command could not be started"))?;
    let mut length = 0_u64;
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stdout
                .read(&mut buffer)
                .map_err(Error::system("its output could not be read"))?
            {
                0 => break,
                count => length += count as u64,
            }
        }
    }
    let status = child
        .wait()
        .map_err(Error::system("its exit status could not be read"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() || length != u64::from(mib) << 20 {
        return Err(Error::Wrong(format!(
            "{command:?}: {status}, {length} bytes"
        )));
    }
    Ok(seconds)
}
