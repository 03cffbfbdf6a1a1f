// SPDX-License-Identifier: Apache-2.0

//! Hosts of the tests: a manager in a thread of the test, or in a separate process that can be killed.

use crate::client::{Answer, Client};
use crate::contracts::{MEMORY, Signer, platform};
use crate::stand_in;
use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{Backend, Doors, Resources, Tee};
use enarx_manager::{
    Capacity, Class, Collaterals, KeepCommand, Manager, ManagerError, Rates, Settings, State,
};
use enarx_manager_api::{Collateral, KeepAnswer, KeepInfo, KeepState, Limits, PlatformOffer, path};
use rustix::process::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The argument that requests a manager in a separate process.
pub const ARGUMENT: &str = "manager";

/// A class whose Keeps behave as `name` says.
pub fn class(name: &str, warm: u32) -> Class {
    Class {
        name: Name::new(name).unwrap(),
        platform: platform(),
        image: None,
        resources: Resources {
            vcpus: 1,
            memory: MEMORY,
        },
        detached_seconds_max: 600,
        runtime_seconds_max: 3600,
        warm,
    }
}

/// A chip for which the host has collateral.
pub const CHIP: Hex<64> = Hex([7; 64]);
/// Its TCB version.
pub const TCB: Hex<8> = Hex([8; 8]);

struct OneChip;

impl Collaterals for OneChip {
    fn get(&self, chip: &[u8; 64], tcb: &[u8; 8]) -> Option<Collateral> {
        (*chip == CHIP.0 && *tcb == TCB.0).then(|| Collateral {
            vek: Base64(vec![1]),
            ask: Base64(vec![2]),
            ark: Base64(vec![3]),
            crls: vec![Base64(vec![4])],
        })
    }
}

/// Settings in which every test has room, except those of limits.
pub fn settings(state: &Path) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        state: state.to_owned(),
        name: "host-1".to_string(),
        platforms: vec![PlatformOffer {
            tee: Tee::None,
            backend: Backend::Process,
            product: None,
            guest_policy: None,
            chip_id: None,
            tcb: None,
            simulated_root: None,
        }],
        limits: Limits {
            vcpus: 20,
            memory: 20 * MEMORY,
            keeps: 20,
            runtime_seconds_max: 3600,
            detached_seconds_max: 600,
        },
        capacity: Capacity {
            keeps: 100,
            vcpus: 100,
            memory: 100 * MEMORY,
        },
        rates: Rates::default(),
        doors: Doors {
            listen: vec!["443/tcp".parse().unwrap()],
            ..Doors::default()
        },
        classes: Vec::new(),
        fresh: Duration::from_hours(24),
        keep: KeepCommand {
            program: std::env::current_exe().unwrap(),
            arguments: vec![stand_in::ARGUMENT.into()],
        },
        cgroups: None,
        certificate: None,
        collateral: Arc::new(OneChip),
        grace: Duration::ZERO,
    }
}

/// Runs a manager until `shutdown`; reports its address.
fn run(
    settings: Settings,
    tell: impl FnOnce(&Manager),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ManagerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let manager = Manager::bind(settings).await?;
        tell(&manager);
        manager.run(shutdown).await
    })
}

/// A manager in a thread.
pub struct Host {
    pub state: State,
    pub address: SocketAddr,
    pub to: String,
    pub folder: Arc<TempDir>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ManagerError>>>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A host with changed settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::in_folder(Arc::new(folder), change)
    }

    pub fn in_folder(folder: Arc<TempDir>, change: impl FnOnce(&mut Settings)) -> Self {
        let path = folder.path().join("state");
        await_unlocked(&path);
        let state = State::open(&path).unwrap();
        let mut settings = settings(&path);
        change(&mut settings);
        let (sender, place) = std::sync::mpsc::channel();
        let (shutdown, wanted) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let tell = |manager: &Manager| {
                sender.send((manager.address(), manager.to())).unwrap();
            };
            run(settings, tell, async {
                let _ = wanted.await;
            })
        });
        let (address, to) = place.recv().expect("the manager starts");
        Self {
            state,
            address,
            to,
            folder,
            shutdown: Some(shutdown),
            thread: Some(thread),
        }
    }

    /// A new token.
    pub fn token(&self, name: &str) -> String {
        self.state.add_token(name).unwrap().to_string()
    }

    /// A connection with this token.
    pub fn connect(&self, token: &str) -> Client {
        Client::connect(self.address, self.state.fingerprint(), Some(token))
    }

    /// A new token, and a connection with it.
    pub fn client(&self, name: &str) -> Client {
        self.connect(&self.token(name))
    }

    /// A connection that may read figures.
    pub fn client_of_figures(&self) -> Client {
        self.client(path::FIGURES_TOKEN)
    }

    /// Requests the manager's end.
    pub fn shut_down(&mut self) {
        let _ = self.shutdown.take().unwrap().send(());
    }

    /// Waits until the manager has ended.
    pub fn join(&mut self) -> Result<(), ManagerError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn contract_host(&self) -> enarx_contract::Host {
        enarx_contract::Host {
            key: self.state.key().public(),
            name: Name::new("host-1").unwrap(),
        }
    }

    /// Requests a new Keep that behaves as `class` says.
    pub fn ask(&self, client: &mut Client, class: &str) -> Answer {
        let signer = Signer::new();
        let new = signer.sign(signer.terms(self.contract_host(), class));
        client.post(path::KEEPS, &new)
    }

    /// A new Keep that behaves as `class` says.
    pub fn launch(&self, client: &mut Client, class: &str) -> KeepInfo {
        let answer = self.ask(client, class);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json::<KeepAnswer>().keep
    }

    /// A new Keep that is ready.
    pub fn ready(&self, client: &mut Client) -> KeepInfo {
        let keep = self.launch(client, "echo");
        let keep = wait(client, &keep.id, KeepState::Ready);
        assert_eq!(keep.state, KeepState::Ready);
        keep
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.unwrap().unwrap();
            }
        }
    }
}

/// Waits until a Keep has this state.
pub fn wait(client: &mut Client, id: &Hex<16>, state: KeepState) -> KeepInfo {
    let answer = client.get(&path::keep_wait(id, state));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The process of a Keep, according to its log.
pub fn process(client: &mut Client, id: &Hex<16>) -> u32 {
    let log = client.get(&path::log(id)).text();
    let line = log.lines().find_map(|line| line.strip_prefix("pid "));
    line.expect(&log).parse().unwrap()
}

/// Waits until the process is gone.
pub fn gone(process: u32) {
    let path = format!("/proc/{process}/stat");
    wait_until(|| {
        // A zombie counts as gone.
        std::fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "))
    });
}

/// Waits until no process has the lock of this state folder. Every other test of this program starts processes: one that
/// was forked while a manager ran here has its descriptors, and so its lock, until it executes its own program.
pub fn await_unlocked(state: &Path) {
    let lock = File::open(state.join("manager.lock"));
    wait_until(|| lock.as_ref().map_or(true, |lock| lock.try_lock().is_ok()));
}

/// Waits until this holds, for a minute at most.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A manager in a separate process.
pub struct Process(Child);

impl Process {
    /// Starts it with this state folder; returns its address.
    pub fn new(state: &Path) -> (Self, SocketAddr) {
        Self::with_warm(state, 0)
    }

    /// The same, with two Keeps that wait.
    pub fn with_pool(state: &Path) -> (Self, SocketAddr) {
        Self::with_warm(state, 2)
    }

    fn with_warm(state: &Path, warm: u32) -> (Self, SocketAddr) {
        // A signal that a shell ignores is ignored by the program that it executes: a write beyond a limit fails then.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .arg(state)
            .arg(warm.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        (Self(child), line.trim().parse().expect(&line))
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The manager of [`Process`]; it ends after two minutes.
pub fn serve() -> ExitCode {
    let mut arguments = std::env::args().skip(2);
    let state = arguments.next().unwrap();
    let warm = arguments.next().unwrap().parse().unwrap();
    let mut settings = settings(Path::new(&state));
    settings.classes = vec![class("echo", warm)];
    let tell = |manager: &Manager| {
        let mut output = std::io::stdout();
        writeln!(output, "{}", manager.address()).unwrap();
        output.flush().unwrap();
    };
    let end = async { tokio::time::sleep(Duration::from_mins(2)).await };
    let result = run(settings, tell, end);
    ExitCode::from(u8::from(result.is_err()))
}
