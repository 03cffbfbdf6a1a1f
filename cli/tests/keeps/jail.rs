// SPDX-License-Identifier: Apache-2.0

//! The process that serves a Keep, seen from outside while the Keep runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{backends, clean, enarx};

/// A secret in the environment of the command.
const SECRET: &str = "a-secret-of-the-user";
/// The longest time until a Keep runs.
const START_LIMIT: Duration = Duration::from_mins(1);

fn program(name: &str) -> String {
    format!("{}/tests/programs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A command that is ended with its Keep.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command: Command = enarx();
        command
            .arg("run")
            .args(arguments)
            .arg(program("forever.wat"))
            .env("SECRET", SECRET)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// The processes that it has started, and theirs.
    fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.0.id()];
        let mut next = 0;
        while let Some(process) = found.get(next) {
            let children = format!("/proc/{process}/task/{process}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .map(|id| id.parse::<u32>().unwrap()),
            );
            next += 1;
        }
        found.split_off(1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread of a process that serves a Keep, or is a Keep.
#[derive(Debug)]
struct Thread {
    name: String,
    status: BTreeMap<String, String>,
}

impl Thread {
    /// The current threads of a process.
    fn all(process: u32) -> Vec<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task"));
        let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
        let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        status
            .map(|text| {
                let fields = text.lines().filter_map(|line| line.split_once(':'));
                let status: BTreeMap<_, _> = fields
                    .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                    .collect();
                let name = status["Name"].clone();
                Self { name, status }
            })
            .collect()
    }

    /// Under filters, without new privileges and without capabilities.
    fn is_confined(&self) -> bool {
        let is = |field: &str, value| self.status.get(field).is_some_and(|found| found == value);
        let none = "0000000000000000";
        is("Seccomp", "2") && is("NoNewPrivs", "1") && is("CapEff", none) && is("CapPrm", none)
    }
}

/// [`await_keep`] for a Keep that cannot have ended.
fn keep(command: &Running, backend: &str) -> Vec<u32> {
    await_keep(command, backend, || false).unwrap()
}

/// Waits until the Keep runs and its helpers, like the process that looks names up, are confined; the processes that
/// serve it, or are it. If a thread serves the Keep, every thread of its process is confined as soon as this one is. `None`
/// if it `is_over` by then.
fn await_keep(command: &Running, backend: &str, is_over: impl Fn() -> bool) -> Option<Vec<u32>> {
    let start = Instant::now();
    loop {
        let processes = command.descendants();
        let serves = |thread: &Thread| match backend {
            "process" => thread.name == "enarx-keep",
            _ => thread.name == "vcpu 0",
        };
        let (mut runs, mut all_confined) = (false, true);
        for process in &processes {
            let threads = Thread::all(*process);
            all_confined &= threads.iter().all(Thread::is_confined);
            if threads
                .iter()
                .any(|thread| serves(thread) && thread.is_confined())
            {
                // Read once more: some were read before that thread.
                let threads = Thread::all(*process);
                let confined = threads.iter().all(Thread::is_confined);
                assert!(confined, "{backend}: {threads:#?}");
                runs = true;
            }
        }
        if runs && all_confined {
            return Some(processes);
        }
        if is_over() {
            return None;
        }
        assert!(start.elapsed() < START_LIMIT, "{backend}: {processes:?}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_thread_that_shares_memory_with_what_serves_a_keep_is_confined() {
    for backend in backends() {
        for network in ["", "inherit-network,allow-ip-name-lookup"] {
            let mut arguments = vec!["-q", "--backend", backend, "--memory", "256M"];
            if !network.is_empty() {
                arguments.extend(["-S", network]);
            }
            let command = Running::start(&arguments);
            let processes = keep(&command, backend);
            // Also those that start later: the program has begun by then.
            for _ in 0..20 {
                for process in &processes {
                    for thread in Thread::all(*process) {
                        assert!(thread.is_confined(), "{backend} {network}: {thread:#?}");
                    }
                }
                sleep(Duration::from_millis(10));
            }
            for process in processes {
                // Only root can read it, because the process cannot be traced.
                let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
                let environment = String::from_utf8_lossy(&environment);
                assert!(!environment.contains(SECRET), "{backend}: {environment}");
                let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
                let limit = |name: &str| -> [u64; 2] {
                    let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
                    let values = line.trim_start_matches(name).split_whitespace();
                    let values = values.take(2).map(|value| value.parse().unwrap());
                    values.collect::<Vec<_>>().try_into().unwrap()
                };
                assert_eq!(limit("Max core file size"), [0, 0], "{backend}");
                // The Keep's own memory, and little more: a Keep that has compromised the process gains little.
                let [soft, hard] = limit(match backend {
                    "process" => "Max data size",
                    _ => "Max address space",
                });
                assert_eq!(soft, hard, "{backend}");
                assert!((256 << 20..=576 << 20).contains(&hard), "{backend}: {hard}");
                let first = fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
                assert_eq!(first.trim(), "1000", "{backend}");
            }
        }
    }
}

#[test]
fn a_keep_gets_no_descriptors_that_the_command_inherited() {
    for backend in backends() {
        let inherited = tempfile::NamedTempFile::new().unwrap();
        let name = inherited.path().to_str().unwrap().to_owned();
        // A shell is the simplest program that passes a descriptor on.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec 7<\"$0\"; exec \"$@\"", &name])
            .arg(env!("CARGO_BIN_EXE_enarx"))
            .args(["run", "-q", "--backend", backend, &program("forever.wat")])
            .env("ENARX_SIM", crate::common::SIMULATED_STATE)
            .stdin(Stdio::null());
        let command = Running(command.spawn().unwrap());
        for process in keep(&command, backend) {
            let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
                continue;
            };
            for descriptor in descriptors {
                let target = fs::read_link(descriptor.unwrap().path()).unwrap_or_default();
                assert_ne!(target.to_str(), Some(&*name), "{backend}");
            }
        }
    }
}

/// Abstract Unix sockets belong to a network namespace, and all of its processes see them: those of a Keep only
/// if some network access is granted.
#[test]
fn a_keep_without_network_is_served_in_a_network_namespace_of_its_own() {
    let name = format!("enarx-jail-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for backend in backends() {
        for network in [false, true] {
            let mut arguments = vec!["-q", "--backend", backend];
            if network {
                arguments.extend(["-S", "inherit-network"]);
            }
            let command = Running::start(&arguments);
            let sees = keep(&command, backend).into_iter().map(|process| {
                let sockets = fs::read_to_string(format!("/proc/{process}/net/unix")).unwrap();
                sockets.contains(&name)
            });
            let sees: Vec<bool> = sees.collect();
            assert_eq!(sees.contains(&true), network, "{backend}: {sees:?}");
        }
    }
}

/// A shell that sees neither KVM nor further namespaces on this machine, and then executes its arguments.
const LESS_CONFINED: &str = r#"
    [ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm || exit 1
    for kind in user pid ipc uts net mnt; do
        echo 0 > "/proc/sys/user/max_${kind}_namespaces" || exit 1
    done
    exec "$@""#;

/// Runs a program that ends with 7, on a machine that lacks what confines a Keep in addition to Landlock and filters.
fn run_with_less_confinement(flags: &[&str]) -> Output {
    let mut command = clean(Path::new("unshare"));
    command
        .args(["--user", "--map-root-user", "--mount"])
        .args(["sh", "-c", LESS_CONFINED, "sh"])
        .args([env!("CARGO_BIN_EXE_enarx"), "run"])
        .args(flags)
        .arg(program("exit.wat"))
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// Asserts that the output names all namespaces that a Keep lacks: of the process that serves it, and of its runtime.
#[track_caller]
fn lacks(said: &str) {
    for namespaces in [
        "user, PID, IPC and UTS namespaces",
        "network namespace",
        "user namespace",
        "network, IPC, UTS and mount namespaces",
    ] {
        assert!(said.contains(namespaces), "{namespaces}: {said}");
    }
}

/// The line that every run prints reports weaker protection, and `--require-confinement` refuses it.
#[test]
fn a_machine_with_less_confinement_is_reported_or_refused() {
    for backend in backends() {
        let mut command = enarx();
        command
            .args(["run", "--backend", backend, "--require-confinement"])
            .arg(program("exit.wat"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{backend}: {output:?}");
    }
    let weaker = run_with_less_confinement(&[]);
    assert_eq!(weaker.status.code(), Some(7), "{weaker:?}");
    let said = String::from_utf8(weaker.stderr).unwrap();
    for words in [
        "enarx: backend process (kvm passed over: ",
        "`enarx doctor`)), weaker without ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    lacks(&said);
    let refused = run_with_less_confinement(&["--require-confinement", "--quiet"]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.starts_with("enarx: --require-confinement: this machine does not offer "),
        "{said}"
    );
    lacks(&said);
}

#[test]
fn a_machine_without_proc_is_told_to_mount_it() {
    let mut command = clean(Path::new("unshare"));
    command
        .args(["--user", "--map-root-user", "--mount"])
        .args(["sh", "-ec", "mount -t tmpfs none /proc; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_enarx"), "run", "--quiet"])
        .args(["--backend", "process"])
        .arg(program("exit.wat"));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("mount /proc"), "{said}");
}

/// A Keep may have compromised the process that serves it: then that process no longer enforces the time limit.
#[test]
fn a_vmm_that_does_nothing_is_ended_at_its_time_limit() {
    // True if the Keep could be stopped within this many seconds.
    let is_ended = |backend, limit: u32| {
        let timeout = format!("{limit}.5s");
        let mut command = Running::start(&["-q", "--backend", backend, "--timeout", &timeout]);
        let start = Instant::now();
        // Before its end may have begun.
        let is_over = || start.elapsed() >= Duration::from_secs(limit.into());
        let Some(processes) = await_keep(&command, backend, is_over) else {
            return false;
        };
        for process in processes {
            let mut stop = Command::new("kill");
            stop.args(["-STOP", &process.to_string()]);
            if !stop.output().unwrap().status.success() {
                return false;
            }
        }
        let said = BufReader::new(command.0.stderr.take().unwrap()).lines();
        let said: Vec<String> = said.map_while(Result::ok).collect();
        let status = command.0.wait().unwrap();
        assert_eq!(status.code(), Some(124), "{backend}: {said:?}");
        assert!(start.elapsed() < Duration::from_mins(1), "{backend}");
        let words = format!("time limit of {timeout}");
        assert!(said[0].contains(&words), "{backend}: {said:?}");
        true
    };
    for backend in backends() {
        // On a busy machine the first limits may be too short.
        let mut limits = [1, 2, 4, 8, 16].into_iter();
        assert!(limits.any(|limit| is_ended(backend, limit)), "{backend}");
    }
}
