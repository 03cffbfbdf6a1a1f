// SPDX-License-Identifier: Apache-2.0

//! Deployments end to end: real managers, agents and Keeps on the simulated platform, over real sockets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use enarx_harness::needs;
use tempfile::TempDir;

use super::common::{self, SIMULATED_STATE};

/// Longest time for operations that take milliseconds.
const PATIENCE: Duration = Duration::from_mins(3);

pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name)
}

/// A host with its own manager. It ends with this.
pub struct Host {
    folder: TempDir,
    manager: Child,
    pub to: String,
    setup: Setup,
}

/// The settings of a host.
#[derive(Clone)]
pub struct Setup {
    /// Properties of its simulated platform.
    pub simulated: Vec<String>,
    /// Further arguments of its manager.
    pub arguments: Vec<String>,
    /// Further variables of its manager.
    pub environment: Vec<(String, PathBuf)>,
    /// The events that its manager logs.
    pub log: &'static str,
    /// Its manager continues where it cannot write, as on a full disk.
    pub ignores_limit: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            simulated: vec![SIMULATED_STATE.to_owned()],
            arguments: Vec::new(),
            environment: Vec::new(),
            log: "info,enarx=debug",
            ignores_limit: false,
        }
    }
}

impl Setup {
    /// Starts a manager with the state in this folder, and waits until it listens. Returns its line for `--to`.
    fn serve(&self, folder: &Path, listen: &str) -> (Child, String) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let mut command = common::enarx();
        if self.ignores_limit {
            // SIGXFSZ, which would end a process that writes beyond its limit: a full disk does not send it.
            command = common::clean(Path::new("sh"));
            command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
            command.arg(env!("CARGO_BIN_EXE_enarx"));
        }
        let mut manager = command
            .args(["host", "serve", "--backend", "sim"])
            .args(["--listen", listen, "--state"])
            .arg(folder.join("state"))
            .args(&self.arguments)
            .env("ENARX_SIM", self.simulated.join(","))
            .env("ENARX_LOG", self.log)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut to = String::new();
        BufReader::new(manager.stdout.take().unwrap())
            .read_line(&mut to)
            .unwrap();
        let to = to.trim().to_owned();
        let log = || fs::read_to_string(folder.join("log"));
        assert!(!to.is_empty(), "{:?}", log());
        (manager, to)
    }
}

impl Host {
    /// A host of the simulated platform with these further properties.
    pub fn start(simulated: &[&str]) -> Self {
        Self::serving(simulated, &[])
    }

    /// A host like that of [`Self::start`], whose manager has these further arguments.
    pub fn serving(simulated: &[&str], arguments: &[&str]) -> Self {
        let mut setup = Setup::default();
        setup
            .simulated
            .extend(simulated.iter().map(ToString::to_string));
        setup
            .arguments
            .extend(arguments.iter().map(ToString::to_string));
        Self::with(setup)
    }

    /// A host with these settings.
    pub fn with(setup: Setup) -> Self {
        needs::kvm();
        let folder = tempfile::tempdir().unwrap();
        let token = common::enarx()
            .args(["host", "token", "add", "alice", "--state"])
            .arg(folder.path().join("state"))
            .output()
            .unwrap();
        assert!(token.status.success());
        fs::write(folder.path().join("token"), token.stdout).unwrap();
        // Nobody else gets this port while no manager has it.
        let place = format!("127.0.0.1:{}", common::free_port());
        let (manager, to) = setup.serve(folder.path(), &place);
        Self {
            folder,
            manager,
            to,
            setup,
        }
    }

    /// Kills its manager.
    pub fn kill(&mut self) {
        self.manager.kill().unwrap();
        self.manager.wait().unwrap();
    }

    /// Starts a manager again with the same state and at the same address, after [`Self::kill`].
    pub fn restart(&mut self) {
        let place = self.place().to_owned();
        let to;
        (self.manager, to) = self.setup.serve(self.folder.path(), &place);
        assert_eq!(to, self.to);
    }

    /// The address and port at which it listens.
    pub fn place(&self) -> &str {
        self.to.split(['/', '#']).nth(2).unwrap()
    }

    /// Sends its manager a request, like a program that does not know Enarx. The certificate is not checked.
    pub fn ask(&self, method: &str, path: &str) -> serde_json::Value {
        const ASK: &str = "
import http.client, ssl, sys
place, method, path, token = sys.argv[1:]
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection(place, context=context, timeout=60)
connection.request(method, path, headers={'Authorization': 'Bearer ' + token})
print(connection.getresponse().read().decode())
";
        let token = fs::read_to_string(self.path("token")).unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", ASK, self.place(), method, path, token.trim()]);
        match python.output() {
            Ok(output) => serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr))),
            Err(error) => needs::lacking("PROGRAMS", &format!("python3: {error}")),
        }
    }

    /// The process of its manager.
    pub fn manager(&self) -> u32 {
        self.manager.id()
    }

    /// The output of its managers so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A deployment to this host under this policy.
    pub fn deploy(&self, policy: &Path) -> Command {
        let mut command = common::enarx();
        command
            .args(["deploy", "--to", &self.to, "--token-file"])
            .arg(self.path("token"))
            .arg("--policy")
            .arg(policy);
        command
    }

    /// A command of its tenant, who has this policy and keeps tickets in this folder.
    pub fn tenant(&self, arguments: &[&str], policy: &Path, state: &Path) -> Command {
        let mut command = common::enarx();
        command
            .args(arguments)
            .env("ENARX_TO", &self.to)
            .env("ENARX_TOKEN_FILE", self.path("token"))
            .env("ENARX_POLICY", policy)
            .env("XDG_STATE_HOME", state);
        command
    }

    /// The processes of its Keeps.
    pub fn keeps(&self) -> Vec<u32> {
        children(self.manager.id())
    }
}

/// The children of a process.
pub fn children(process: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
    {
        let list = task.unwrap().path().join("children");
        let list = fs::read_to_string(list).unwrap_or_default();
        children.extend(
            list.split_whitespace()
                .map(|pid| pid.parse::<u32>().unwrap()),
        );
    }
    children
}

/// The processes that a process has started, and those that these have, and so on.
pub fn descendants(process: u32) -> Vec<u32> {
    let mut all = children(process);
    let mut next = 0;
    while let Some(process) = all.get(next) {
        let more = children(*process);
        all.extend(more);
        next += 1;
    }
    all
}

/// True if there is no such process, or only a zombie: it may have been adopted.
pub fn is_gone(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.manager.kill();
        let _ = self.manager.wait();
    }
}

/// Prints the policy of this build and this machine's simulated platform to a file.
pub fn policy(folder: &Path) -> PathBuf {
    let policy = common::enarx()
        .args(["policy", "new", "--local"])
        .output()
        .unwrap();
    assert!(policy.status.success(), "{policy:?}");
    let path = folder.join("policy.toml");
    fs::write(&path, policy.stdout).unwrap();
    path
}

#[track_caller]
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = thread::spawn(move || {
        // A program may end before it has read everything.
        let _ = to.write_all(&stdin);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_command_plays_both_sides_and_says_so() {
    needs::kvm();
    let mut command = common::enarx();
    let output = run(
        command
            .args(["deploy", "--local"])
            .arg(program("delivered.wat")),
        b"from standard input",
    );
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert_eq!(
        text(&output.stdout),
        "delivered.wat\0\n\n\\\n\\\nfrom standard input"
    );
    assert!(stderr.contains("protects nothing"), "{stderr}");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
}

/// Waits until a Keep is ready after the last launch.
fn await_warm(host: &Host, launches: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = fs::read_to_string(host.path("log")).unwrap();
        if log.matches("state=\"ready\"").count() >= launches {
            return;
        }
        assert!(Instant::now() < end, "{log}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The value of a line of `--timings`.
fn timing(stderr: &str, phase: &str) -> String {
    let start = format!("enarx: deploy: {phase} ");
    let line = stderr.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("{phase}: {stderr}"))
        .to_owned()
}

#[test]
fn a_plain_deployment_claims_a_keep_that_waits() {
    let host = Host::serving(&[], &["--warm", "1"]);
    let policy = policy(host.folder.path());
    await_warm(&host, 1);
    let deploy = |arguments: &[&str]| {
        let mut command = host.deploy(&policy);
        command.arg("--timings").args(arguments);
        let output = run(command.arg(program("delivered.wat")), b"input");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{stderr}");
        assert!(text(&output.stdout).ends_with("input"));
        stderr
    };
    let receipt = host.path("receipt");
    let warm = deploy(&["--receipt", receipt.to_str().unwrap()]);
    assert_eq!(timing(&warm, "claim"), "warm");
    let verified = common::enarx()
        .args(["receipt", "verify", "--policy"])
        .args([&policy, &receipt])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    // Another time limit of the tenant makes another contract.
    let cold = deploy(&["--timeout", "1m"]);
    assert_eq!(timing(&cold, "claim"), "cold");
    // Another one waits by then.
    await_warm(&host, 3);
    assert_eq!(timing(&deploy(&[]), "claim"), "warm");
}

#[test]
fn everything_is_delivered_and_nothing_stays_on_the_host() {
    let host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let marker = "MARKER-3b9d1f";
    fs::write(host.path("key.txt"), format!("{marker} key")).unwrap();
    fs::write(host.path("conf.txt"), format!("{marker} file")).unwrap();
    let tenant = tempfile::tempdir().unwrap();
    for name in ["key.txt", "conf.txt"] {
        fs::rename(host.path(name), tenant.path().join(name)).unwrap();
    }
    let named = |guest: &str, name: &str| format!("{guest}={}", tenant.path().join(name).display());
    let receipt = tenant.path().join("receipt");
    let mut command = host.deploy(&policy);
    command
        .args(["--env", &format!("PLAIN={marker} variable")])
        .args(["--secret", &named("SECRET", "key.txt")])
        .args(["--secret-file", &named("key", "key.txt")])
        .args(["--file", &named("/etc/app.conf", "conf.txt")])
        .arg("--receipt")
        .arg(&receipt)
        .arg(program("delivered.wat"))
        .args(["--", "-x", &format!("{marker} argument")]);
    let output = run(&mut command, format!("{marker} input").as_bytes());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert_eq!(
        text(&output.stdout),
        format!(
            "delivered.wat\0-x\0{marker} argument\0\n\
             PLAIN={marker} variable\0SECRET={marker} key\0\n\
             {marker} file\n{marker} key\n{marker} input"
        )
    );
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(written["body"]["exit"]["code"], 7);
    let stdout = &written["body"]["streams"]["stdout"];
    assert_eq!(stdout["bytes"], output.stdout.len());
    // Neither in the host's files nor in its manager's most verbose output.
    let mut files = vec![host.folder.path().to_owned()];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(marker.len())
                .any(|part| part == marker.as_bytes());
            assert!(!found, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

/// The policy with another list of launch digests.
pub fn with_digest(policy: &Path, digest: &str) -> PathBuf {
    let text = fs::read_to_string(policy).unwrap();
    let start = text.find("measurements = [").unwrap();
    let end = start + text[start..].find(']').unwrap();
    let changed = format!(
        "{}measurements = [\"{digest}\"{}",
        &text[..start],
        &text[end..]
    );
    let path = policy.with_extension("other.toml");
    fs::write(&path, changed).unwrap();
    path
}

#[test]
fn a_bad_host_is_refused_by_name_and_is_sent_nothing() {
    let good = Host::start(&[]);
    let own = policy(good.folder.path());
    let other_digest = with_digest(&own, &"00".repeat(48));
    let debug = Host::start(&["debug=y"]);
    let old = Host::start(&["tcb=0200000000000564"]);
    let revoked = Host::start(&["revoked=y"]);
    for (host, policy, code) in [
        (&good, &other_digest, "guest.measurement"),
        (&debug, &own, "guest-policy.debug"),
        (&old, &own, "tcb."),
        (&revoked, &own, "crl.vek"),
    ] {
        let output = run(host.deploy(policy).arg(program("delivered.wat")), b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{code}: {stderr}");
        assert!(stderr.contains(code), "{stderr}");
        assert!(stderr.contains("nothing was sent"), "{stderr}");
        assert_eq!(text(&output.stdout), "");
    }
    // A policy that does not mention simulators accepts none.
    let output = run(
        good.deploy(Path::new("default"))
            .arg(program("delivered.wat")),
        b"",
    );
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("simulated on milan"), "{stderr}");
}

#[test]
fn withheld_reports_are_awaited_for_a_limited_time() {
    let slow = Host::start(&["busy=3s"]);
    let policy = policy(slow.folder.path());
    let start = Instant::now();
    let output = run(slow.deploy(&policy).arg(program("delivered.wat")), b"");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(start.elapsed() >= Duration::from_secs(2));

    let closed = Host::start(&["busy=forever"]);
    let output = run(closed.deploy(&policy).arg(program("delivered.wat")), b"");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("evidence.busy"), "{stderr}");
    assert_eq!(text(&output.stdout), "");
}

/// Verifies a receipt.
fn verify(receipt: &Path, policy: &Path, application: &Path) -> Output {
    let mut command = common::enarx();
    command
        .args(["receipt", "verify"])
        .arg(receipt)
        .arg("--policy")
        .arg(policy)
        .arg("--application")
        .arg(application)
        .env("ENARX_STORE", "/nonexistent/store");
    command.output().unwrap()
}

#[test]
fn a_receipt_is_verified_without_the_host_and_refused_by_name() {
    let host = Host::start(&[]);
    let own = policy(host.folder.path());
    let application = host.path("application.wasm");
    fs::write(&application, wat::parse_file(program("exit.wat")).unwrap()).unwrap();
    let receipt = host.path("receipt");
    let mut command = host.deploy(&own);
    command.arg("--receipt").arg(&receipt).arg(&application);
    assert_eq!(run(&mut command, b"").status.code(), Some(7));
    let folder = host.folder.path().to_owned();
    let other_digest = with_digest(&own, &"00".repeat(48));
    let accepted = verify(&receipt, &own, &application);
    // As text it is the same application.
    let as_text = verify(&receipt, &own, &program("exit.wat"));
    assert!(as_text.status.success(), "{}", text(&as_text.stderr));
    let shown = text(&accepted.stdout);
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    assert!(shown.contains("is valid: simulated"), "{shown}");
    assert!(
        shown.contains("ended by itself with exit code 7"),
        "{shown}"
    );
    let forged = folder.join("forged");
    let bytes = fs::read_to_string(&receipt).unwrap();
    fs::write(&forged, bytes.replace("\"code\":7", "\"code\":0")).unwrap();
    let certificates = folder.join("receipt.certs");
    std::os::unix::fs::symlink(certificates, folder.join("forged.certs")).unwrap();
    for (receipt, policy, application, code) in [
        (&receipt, &own, &program("trap.wat"), "receipt.application"),
        (&receipt, &other_digest, &application, "guest.measurement"),
        (&forged, &own, &application, "receipt.signature"),
        (
            &receipt,
            &PathBuf::from("default"),
            &application,
            "chain.root",
        ),
    ] {
        let refused = verify(receipt, policy, application);
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(code), "{code}: {stderr}");
    }
}

/// A host launches all its Keeps with the configured guest policy, which is in the contract and in the evidence.
#[test]
fn a_tenant_demands_a_guest_policy_of_its_host() {
    const RULES: &str = "[snp.guest-policy]\nsmt = \"forbid\"\nsingle-socket = \"require\"\n";
    let strict = Host::serving(&["smt=n"], &["--sev", "smt=n,single-socket"]);
    let lax = Host::start(&["smt=n"]);
    let policy = policy(strict.folder.path());
    let rules = fs::read_to_string(&policy).unwrap() + RULES;
    fs::write(&policy, rules).unwrap();
    let output = run(strict.deploy(&policy).arg(program("exit.wat")), b"");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let output = run(lax.deploy(&policy).arg(program("exit.wat")), b"");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    for code in ["guest-policy.smt", "guest-policy.single-socket"] {
        assert!(stderr.contains(code), "{stderr}");
    }
    // Contracts name the measurement of a launch without it.
    let output = common::enarx()
        .args(["host", "serve", "--backend", "sim", "--sev", "debug-swap"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_first_accepted_host_of_several_runs_the_program() {
    let (bad, good) = (Host::start(&["debug=y"]), Host::start(&[]));
    let policy = policy(good.folder.path());
    let mut command = common::enarx();
    command
        .args(["deploy", "--to", &bad.to, "--to", &good.to, "--token-file"])
        .arg(bad.path("token"))
        .arg("--token-file")
        .arg(good.path("token"))
        .arg("--policy")
        .arg(&policy)
        .arg(program("exit.wat"));
    let output = run(&mut command, b"");
    let stderr = text(&output.stderr);
    let accepted = good.to.split(['/', '#']).nth(2).unwrap();
    assert!(stderr.contains(&format!("ran on {accepted}")), "{stderr}");
    assert!(stderr.contains("guest-policy.debug"), "{stderr}");
    // The Keep of the refused host was told to end.
    wait_until(|| bad.keeps().is_empty());
}

#[test]
fn unreachable_hosts_are_not_reported_as_refused_evidence() {
    let host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let (place, pin) = host.to.split_once('#').unwrap();
    let other_pin = format!("{place}#sha256={}", "00".repeat(32));
    fs::write(host.path("other-token"), "enarx_00").unwrap();
    for (to, token, said, code) in [
        (
            format!("https://127.0.0.1:1#{pin}"),
            "token",
            "no connection",
            75,
        ),
        (other_pin, "token", "not sha256=0000", 1),
        (host.to.clone(), "other-token", "token", 1),
    ] {
        let mut command = common::enarx();
        command
            .args(["deploy", "--to", &to, "--token-file"])
            .arg(host.path(token))
            .arg("--policy")
            .arg(&policy)
            .arg(program("exit.wat"));
        let output = run(&mut command, b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
}

/// Waits until `done`, which is a short time.
#[track_caller]
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it takes too long");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a deployment that waits for its standard input, and waits until its Keep runs.
fn waiting(host: &Host, policy: &Path) -> Child {
    until_first_output(host.deploy(policy).arg(program("delivered.wat")))
}

/// Starts a command, and waits for its first output: its program runs.
pub fn until_first_output(command: &mut Command) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    child
}

#[test]
fn a_killed_keep_is_never_success() {
    let host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let child = waiting(&host, &policy);
    let keeps = host.keeps();
    assert_eq!(keeps.len(), 1);
    let pid = rustix::process::Pid::from_raw(keeps[0].try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{stderr}");
    assert!(stderr.contains("its Keep ended"), "{stderr}");
    assert!(stderr.contains("may have run"), "{stderr}");

    // After a command that was the host, too, nothing continues, and nothing can be found again.
    let state = host.path("tenant");
    let mut command = common::enarx();
    command
        .args(["deploy", "--local", "--quiet", "--json"])
        .arg(program("delivered.wat"))
        .env("XDG_STATE_HOME", &state);
    let child = until_first_output(&mut command);
    let keep = rustix::process::Pid::from_raw(children(child.id())[0].try_into().unwrap());
    rustix::process::kill_process(keep.unwrap(), rustix::process::Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{stderr}");
    assert!(stderr.contains("has ended with this command"), "{stderr}");
    assert!(!stderr.contains("enarx attach"), "{stderr}");
    assert_eq!(last_document(&stderr)["ticket"], serde_json::Value::Null);
    assert!(!state.exists());
}

#[test]
fn a_host_with_a_full_disk_ends_its_runs_and_promises_no_keep() {
    let host = Host::with(Setup {
        ignores_limit: true,
        ..Setup::default()
    });
    let policy = policy(host.folder.path());
    let child = waiting(&host, &policy);
    let manager = rustix::process::Pid::from_raw(host.manager().try_into().unwrap());
    let may_write = |bytes| {
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(manager, rustix::process::Resource::Fsize, limit).unwrap();
    };
    let deploy = || {
        let mut command = host.deploy(&policy);
        run(command.arg(program("delivered.wat")), b"another")
    };
    may_write(Some(0));
    let refused = deploy();
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("store.full"), "{stderr}");
    assert_eq!(text(&refused.stdout), "");
    // Output, exit code and receipt of the running one: the command verifies the receipt, and fails without it.
    let mut child = child;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"and this to its end").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(text(&output.stdout).ends_with("and this to its end"));
    may_write(None);
    let output = deploy();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("another"));
}

#[test]
fn a_killed_manager_leaves_no_keep_behind() {
    let mut host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let child = waiting(&host, &policy);
    let keeps = host.keeps();
    assert_eq!(keeps.len(), 1);
    // The Keep's process and the one that serves the Keep.
    let serving = children(keeps[0]);
    assert!(!serving.is_empty());
    host.kill();
    for pid in keeps.iter().chain(&serving) {
        wait_until(|| is_gone(*pid));
    }
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn a_detached_program_runs_on_and_is_found_again() {
    let host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let tenant = host.path("tenant");
    let command = |arguments: &[&str]| {
        let mut command = common::enarx();
        command.args(arguments).env("XDG_STATE_HOME", &tenant);
        command.env("ENARX_TOKEN_FILE", host.path("token"));
        command.env("ENARX_POLICY", &policy);
        command
    };
    let detach = || {
        let mut detached = command(&["deploy", "-q", "--detach", "--to", &host.to]);
        let output = run(detached.arg(program("delivered.wat")), b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    let list = || text(&command(&["keeps", "list", "-q"]).output().unwrap().stdout);
    // The host's owner gets the line that the manager printed, with a port that was chosen at its start.
    let mut show = command(&["host", "show", "--state"]);
    let shown = show.arg(host.path("state")).output().unwrap();
    let first = format!("to: {}\n", host.to);
    let shown = text(&shown.stdout);
    assert!(shown.starts_with(&first), "{shown:?}");
    assert!(shown.contains("\nsimulated root: "), "{shown}");
    let name = detach();
    assert_eq!(list().trim(), name);
    let listed = command(&["keeps", "list"]).output().unwrap();
    let listed = text(&listed.stdout);
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[0], name, "{listed}");
    assert!(row[1].starts_with("127.0.0.1:"), "{listed}");
    assert!(row[3].starts_with("second") && row.len() == 4, "{listed}");
    let listed = command(&["keeps", "list", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["keeps"][0]["name"], name.as_str());
    assert_eq!(listed["keeps"][0]["host"], row[1]);
    let shown = command(&["keeps", "show", &name[..6]]).output().unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains("host: 127.0.0.1:"), "{shown}");
    assert_eq!(host.keeps().len(), 1);
    // It waits for its standard input, which the next command provides.
    let output = run(&mut command(&["attach", "-q", &name]), b"late input");
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(stdout.starts_with("delivered.wat") && stdout.ends_with("late input"));
    assert_eq!(list(), "");
    wait_until(|| host.keeps().is_empty());

    // Stopped, and its receipt fetched.
    let name = detach();
    let stopped = command(&["stop", &name]).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    let output = run(&mut command(&["attach", "-q", &name]), b"");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));

    // Ended by the host, without one.
    let name = detach();
    let ended = command(&["keeps", "end", &name]).output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    wait_until(|| host.keeps().is_empty());
    assert_eq!(list(), "");

    // A program whose ticket cannot be stored would be out of reach: it is not deployed.
    let file = host.path("file");
    fs::write(&file, "").unwrap();
    let mut nowhere = command(&["deploy", "-q", "--detach", "--to", &host.to]);
    nowhere.env("XDG_STATE_HOME", &file);
    let output = run(nowhere.arg(program("delivered.wat")), b"");
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
    assert!(host.keeps().is_empty());
}

#[test]
fn output_and_the_programs_end_do_not_wait_for_the_secure_processor() {
    // From 12 to 30 seconds the host passes no reports on, so the receipt has to wait for its own.
    let host = Host::start(&["busy=12s..30s"]);
    let policy = policy(host.folder.path());
    let mut child = waiting(&host, &policy);
    let running = Instant::now();
    // The window has begun by now.
    thread::sleep(Duration::from_secs(12));
    let closed = Instant::now();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"the last words").unwrap();
    drop(stdin);
    let mut seen = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while !seen.ends_with("the last words") {
        let part = stdout.fill_buf().unwrap();
        assert!(!part.is_empty(), "{seen}");
        seen.push_str(&text(part));
        let count = part.len();
        stdout.consume(count);
    }
    let took = closed.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "{took:?} of {:?}",
        running.elapsed()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
}

#[test]
fn delivered_files_are_the_tenants_and_not_the_programs() {
    needs::kvm();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.conf");
    fs::write(&file, "as delivered").unwrap();
    let mut command = common::enarx();
    command
        .args(["deploy", "--local", "--quiet", "--file"])
        .arg(format!("etc/app.conf={}", file.display()))
        .arg(program("package.wat"));
    let output = run(&mut command, b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // 63 is EPERM (WASI preview 1, errno): what Wasmtime says of a directory that is open read-only.
    assert_eq!(text(&output.stdout), "0ooooooo00as delivered");
}

/// The document of `--json`, the last line of standard error.
fn last_document(stderr: &str) -> serde_json::Value {
    serde_json::from_str(stderr.lines().last().unwrap()).unwrap()
}

#[test]
fn a_program_whose_ticket_cannot_be_stored_is_ended() {
    // Long enough to remove the folder of tickets after it was checked.
    let host = Host::start(&["busy=4s"]);
    let policy = policy(host.folder.path());
    let state = host.path("tenant");
    let mut command = host.deploy(&policy);
    command
        .args(["--detach", "--quiet", "--json"])
        .arg(program("delivered.wat"))
        .env("XDG_STATE_HOME", &state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until(|| !host.keeps().is_empty());
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "").unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("so the program was ended"), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    let document = last_document(&stderr);
    assert_eq!(document["code"], "ticket.lost");
    assert_eq!(document["ticket"], serde_json::Value::Null);
    wait_until(|| host.keeps().is_empty());

    // The same if a session is lost that was not meant to be detached.
    let nowhere = host.path("nowhere");
    fs::write(&nowhere, "").unwrap();
    let mut command = host.deploy(&policy);
    command
        .args(["--quiet", "--json"])
        .arg(program("delivered.wat"));
    let child = until_first_output(command.env("XDG_STATE_HOME", &nowhere));
    let keep = rustix::process::Pid::from_raw(host.keeps()[0].try_into().unwrap()).unwrap();
    rustix::process::kill_process(keep, rustix::process::Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    for words in [
        "its Keep ended",
        "cannot be used",
        "so the program was ended",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    let document = last_document(&stderr);
    assert_eq!(document["code"], "ticket.lost");
    assert_eq!(document["ticket"], serde_json::Value::Null);
}

#[test]
fn an_interrupted_deployment_stops_its_program() {
    let host = Host::start(&[]);
    let policy = policy(host.folder.path());
    let child = waiting(&host, &policy);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // Its standard input ends, and so does the program.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    wait_until(|| host.keeps().is_empty());
}
