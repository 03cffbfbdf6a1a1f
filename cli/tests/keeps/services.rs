// SPDX-License-Identifier: Apache-2.0

//! Servers in deployments: a component that answers HTTP from a Keep on an untrusted host, over TLS
//! with a certificate that its tenant delivers. Real managers, agents and Keeps on the simulated
//! platform; `curl` sends requests.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use enarx_harness::needs;
use rustix::process::{Pid, Signal, kill_process};

use super::common::{self, free_port};
use super::compile::compile;
use super::deploy::{Host, policy, program, run, text, wait_until};
use super::programs::programs;
use super::serve::processor_time;
use super::serve::tls::{Authority, Identity};
use super::serving::Serving;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// The doors that a host of these tests offers: the system chooses ports that nobody else uses.
const DOORS: [&str; 2] = ["--allow-listen", "127.0.0.1:1024-65535/tcp"];

fn component() -> PathBuf {
    programs().folder.join("server.wasm")
}

/// An address at which nobody listens.
pub fn free_place() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A deployed server, and the command that stays attached to it. Both end with this.
pub struct Service {
    serving: Serving,
    place: String,
}

impl Service {
    /// Starts a deployment that must listen at this address, and waits until it says that it serves.
    pub fn start(command: &mut Command, place: &str) -> Self {
        let serving = Serving::start(command);
        assert_eq!(serving.place(), place);
        Self {
            serving,
            place: place.to_owned(),
        }
    }

    pub fn curl(&self, authority: &Authority, arguments: &[&str], path: &str) -> Output {
        curl(&self.place, authority, arguments, path)
    }

    fn signal(&self, signal: Signal) {
        self.serving.signal(signal);
    }

    /// Waits for the end of the command: its exit code, and all of its output.
    pub fn wait(self) -> (Option<i32>, String) {
        let begun = self.serving.begun().to_owned();
        let (code, said) = self.serving.wait();
        (code, begun + &said)
    }

    /// Ends it as an operator would.
    pub fn end(self) -> String {
        self.signal(Signal::TERM);
        let (code, said) = self.wait();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

/// Sends a request, over TLS only.
pub fn curl(place: &str, authority: &Authority, arguments: &[&str], path: &str) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", "60", "--cacert"])
        .arg(authority.roots())
        .args(arguments)
        .arg(format!("https://{place}{path}"))
        .output()
        .unwrap()
}

/// Sends a request whose answer begins at once, and ends later; returns once it has begun.
fn begin(place: &str, authority: &Authority, path: &str) -> Child {
    let mut child = Command::new("curl")
        .args(["--silent", "--no-buffer", "--noproxy", "*"])
        .args(["--max-time", "60", "--cacert"])
        .arg(authority.roots())
        .arg(format!("https://{place}{path}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"begun\n");
    child
}

#[track_caller]
fn says(output: &Output, expected: &str) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout, expected, "{stderr}");
}

/// A host, and a tenant with a policy and a certificate.
struct Parties {
    host: Host,
    policy: PathBuf,
    authority: Authority,
    identity: Identity,
}

impl Parties {
    fn new() -> Self {
        Self::with(&DOORS)
    }

    /// The host has these arguments.
    fn with(arguments: &[&str]) -> Self {
        let host = Host::serving(&[], arguments);
        let policy = policy(host.folder());
        let authority = Authority::new();
        let identity = authority.here();
        Self {
            host,
            policy,
            authority,
            identity,
        }
    }

    /// A deployment that must listen there, with the tenant's certificate.
    fn deploy(&self, place: &str, arguments: &[&str]) -> Command {
        let mut command = self.host.deploy(&self.policy);
        command
            .args(["--addr", place])
            .args(self.identity.flags())
            .args(arguments)
            .arg(component());
        command
    }

    fn start(&self, arguments: &[&str]) -> Service {
        let place = free_place();
        Service::start(&mut self.deploy(&place, arguments), &place)
    }

    /// A command of the tenant about a deployment.
    fn tenant(&self, arguments: &[&str]) -> Command {
        let state = self.host.path("tenant");
        self.host.tenant(arguments, &self.policy, &state)
    }
}

#[test]
fn one_command_serves_over_tls_on_this_machine() {
    needs::kvm();
    let authority = Authority::new();
    let identity = authority.here();
    let place = free_place();
    let mut command = common::enarx();
    command
        .args(["deploy", "--local", "--addr", &place])
        .args(identity.flags())
        .arg(component());
    let service = Service::start(&mut command, &place);
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let written = [flag, "-w", "%{http_version} %{http_code}\n"];
        let hello = service.curl(&authority, &written, "/hello");
        says(&hello, &format!("hello\n{version} 200\n"));
        says(&service.curl(&authority, &[flag], "/scheme"), "https\n");
        let sent = [flag, "--data-binary", "a body"];
        says(&service.curl(&authority, &sent, "/echo"), "a body");
    }
    // No other issuer is accepted, and nothing is sent unencrypted.
    let stranger = Authority::new();
    let refused = service.curl(&stranger, &[], "/hello");
    assert_eq!(refused.status.code(), Some(60), "{refused:?}");
    let said = service.end();
    assert!(said.contains("accepted as simulated"), "{said}");
    assert!(TcpStream::connect(&place).is_err());
}

#[test]
fn a_deployed_server_finishes_its_requests_and_gives_a_receipt() {
    let parties = Parties::new();
    let receipt = parties.host.path("receipt");
    let service = parties.start(&["--vcpus", "2", "--receipt", receipt.to_str().unwrap()]);
    let place = service.place.clone();
    says(&service.curl(&parties.authority, &[], "/hello"), "hello\n");
    // Each request has its own instance, and a trap ends only that request.
    says(&service.curl(&parties.authority, &[], "/count"), "1");
    says(&service.curl(&parties.authority, &[], "/count"), "1");
    let trapped = ["-o", "/dev/null", "-w", "%{http_code}"];
    says(&service.curl(&parties.authority, &trapped, "/trap"), "500");
    let slow = begin(&place, &parties.authority, "/begin?2000");
    let said = service.end();
    assert!(said.contains("request 4 trapped"), "{said}");
    says(&slow.wait_with_output().unwrap(), "done\n");
    assert!(TcpStream::connect(&place).is_err());
    // A log that nobody reads does not stop the server.
    let deployment = std::fs::read_to_string(parties.host.path("receipt.deployment")).unwrap();
    assert!(deployment.contains(r#""when_full":"drop""#), "{deployment}");
    let verified = common::enarx()
        .args(["receipt", "verify"])
        .arg(&receipt)
        .arg("--policy")
        .arg(&parties.policy)
        .arg("--application")
        .arg(component())
        .output()
        .unwrap();
    let said = text(&verified.stdout);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(said.contains("ended by itself with exit code 0"), "{said}");
}

#[test]
fn requests_that_exceed_the_grace_period_are_cut_off() {
    let parties = Parties::new();
    let service = parties.start(&["--grace", "2s"]);
    let mut slow = begin(&service.place, &parties.authority, "/begin?50000");
    let start = Instant::now();
    let said = service.end();
    assert!(start.elapsed() < Duration::from_secs(30), "{said}");
    assert!(said.contains("connections cut off: 1"), "{said}");
    assert!(!slow.wait().unwrap().success());
}

#[test]
fn a_request_and_its_server_have_separate_time_limits() {
    let parties = Parties::new();
    let start = Instant::now();
    // This includes the launch, which takes long on a busy machine.
    let service = parties.start(&["--request-timeout", "1s", "--timeout", "25s"]);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let late = service.curl(&parties.authority, &status, "/after?60000");
    says(&late, "504");
    // A second may be short for a busy machine.
    wait_until(|| {
        let hello = service.curl(&parties.authority, &["-w", "%{http_code}"], "/hello");
        let is_late = text(&hello.stdout).ends_with("504");
        if !is_late {
            says(&hello, "hello\n200");
        }
        !is_late
    });
    let (code, said) = service.wait();
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("longer than the time of a request"), "{said}");
    assert!(said.contains("time limit of 25s"), "{said}");
    assert!(start.elapsed() < PATIENCE, "{said}");
}

/// Its requests have no time limit, and it has one processor.
#[test]
fn an_endlessly_computing_server_ends_on_request_and_in_time() {
    const FOR_EVER: &str = "/spin?3600000";
    let parties = Parties::new();
    let spin = |place: &str| {
        let spun = curl(place, &parties.authority, &[], FOR_EVER);
        assert!(!spun.status.success(), "{spun:?}");
    };
    let service = parties.start(&["--vcpus", "1", "--grace", "2s"]);
    let place = service.place.clone();
    thread::scope(|scope| {
        let manager = parties.host.manager();
        let before = processor_time(manager);
        scope.spawn(|| spin(&place));
        // It computes after this much processor time has passed, and reports nothing.
        wait_until(|| processor_time(manager) > before + Duration::from_secs(1));
        let start = Instant::now();
        service.signal(Signal::TERM);
        let (code, said) = service.wait();
        // No processor is free to finish in order.
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("stopped before its end"), "{said}");
        assert!(start.elapsed() < Duration::from_secs(40), "{said}");
    });
    let service = parties.start(&["--vcpus", "1", "--timeout", "25s"]);
    let place = service.place.clone();
    thread::scope(|scope| {
        scope.spawn(|| spin(&place));
        let (code, said) = service.wait();
        assert_eq!(code, Some(124), "{said}");
        assert!(said.contains("time was over"), "{said}");
    });
    wait_until(|| parties.host.keeps().is_empty());
}

#[test]
fn a_server_of_native_code_is_deployed_and_serves() {
    let parties = Parties::new();
    let folder = tempfile::tempdir().unwrap();
    let code = compile("sim", &component(), folder.path(), &[]);
    let place = free_place();
    let mut command = parties.host.deploy(&parties.policy);
    command
        .args(["--allow-precompiled", "--addr", &place])
        .args(parties.identity.flags())
        .arg(&code);
    let service = Service::start(&mut command, &place);
    for _ in 0..2 {
        says(&service.curl(&parties.authority, &[], "/count"), "1");
    }
    let trapped = ["-o", "/dev/null", "-w", "%{http_code}"];
    says(&service.curl(&parties.authority, &trapped, "/trap"), "500");
    says(&service.curl(&parties.authority, &[], "/hello"), "hello\n");
    let said = service.end();
    assert!(said.contains("request 3 trapped"), "{said}");
    assert!(said.contains("it was native code"), "{said}");
}

#[test]
fn a_detached_server_runs_on_and_is_attached_to_and_stopped() {
    let parties = Parties::new();
    let place = free_place();
    let detach = |place: &str| {
        let mut command = parties.tenant(&["deploy", "--detach", "--addr", place]);
        let command = command.args(parties.identity.flags()).arg(component());
        let output = run(command, b"");
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains(&format!("serving HTTPS on https://{place}/")),
            "{said}"
        );
        text(&output.stdout).trim().to_owned()
    };
    let name = detach(&place);
    let ask = |path: &str| curl(&place, &parties.authority, &["--http1.1"], path);
    says(&ask("/hello"), "hello\n");
    assert!(ask("/trap").status.success());
    let stopped = run(&mut parties.tenant(&["stop", &name]), b"");
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    wait_until(|| TcpStream::connect(&place).is_err());
    // Its log waits for the next attached command, and so does its receipt.
    let attached = run(&mut parties.tenant(&["attach", "-q", &name]), b"");
    let log = text(&attached.stderr);
    assert_eq!(attached.status.code(), Some(0), "{log}");
    assert!(log.contains("request 2 trapped"), "{log}");
    wait_until(|| parties.host.keeps().is_empty());

    // Attached to while it serves, and ended by the attached command.
    let name = detach(&place);
    let mut attach = parties.tenant(&["attach", "-q", &name]);
    let mut child = attach
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(ask("/trap").status.success());
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("request 1 trapped"), "{line}");
    says(&ask("/hello"), "hello\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    wait_until(|| parties.host.keeps().is_empty());
}

#[test]
fn a_server_without_a_certificate_needs_an_insecure_flag() {
    let parties = Parties::new();
    let place = free_place();
    let deploy = |arguments: &[&str]| {
        let mut command = parties.host.deploy(&parties.policy);
        command.args(arguments).arg(component());
        command
    };
    for (arguments, words) in [
        (&["--addr", &place][..], "--tls-cert"),
        (&["--insecure-http"], "--addr 0.0.0.0:8443"),
        (&["--insecure-http", "--addr", "127.0.0.1:0"], "port 0"),
    ] {
        let output = run(&mut deploy(arguments), b"");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // Flags of servers are refused for any other program.
    let mut command = parties.host.deploy(&parties.policy);
    command.args(["--addr", &place]).arg(program("exit.wat"));
    let output = run(&mut command, b"");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.starts_with("enarx: --addr: "), "{said}");
    assert!(parties.host.keeps().is_empty());

    let mut command = deploy(&["--insecure-http", "--addr", &place]);
    let service = Service::start(&mut command, &place);
    let hello = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "60"])
        .arg(format!("http://{place}/scheme"))
        .output()
        .unwrap();
    says(&hello, "http\n");
    let said = service.end();
    assert!(
        said.contains("the host can read and change everything"),
        "{said}"
    );
}

#[test]
fn a_server_that_cannot_listen_or_has_a_wrong_key_says_so_and_serves_nobody() {
    let parties = Parties::with(&["--allow-listen", "127.0.0.1:1024-40000/tcp"]);
    // The host does not offer the port: the contract is refused.
    let output = run(&mut parties.deploy("127.0.0.1:40001", &[]), b"");
    let said = text(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("nothing was sent"), "{said}");
    assert!(said.contains("127.0.0.1:40001/tcp"), "{said}");
    // Somebody else listens there.
    let (_taken, place) = (1024..40_000)
        .rev()
        .find_map(|port| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            let place = listener.local_addr().unwrap().to_string();
            Some((listener, place))
        })
        .unwrap();
    let output = run(&mut parties.deploy(&place, &[]), b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("cannot listen at {place}: address in use")),
        "{said}"
    );
    // The key belongs to another certificate.
    let other = parties.authority.certify(&["other.example"], 2090);
    let mut command = parties.host.deploy(&parties.policy);
    command
        .args(["--addr", "127.0.0.1:1024", "--tls-cert"])
        .arg(&parties.identity.chain)
        .arg("--tls-key")
        .arg(&other.key)
        .arg(component());
    let output = run(&mut command, b"");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("serving"), "{said}");
    assert!(said.contains("key"), "{said}");
}

#[test]
fn an_enarx_toml_sets_address_certificate_and_clients() {
    let parties = Parties::new();
    let place = free_place();
    let port = place.rsplit_once(':').unwrap().1;
    let config = parties.host.path("Enarx.toml");
    let text = format!(
        "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n\
         [[files]]\nkind = \"listen\"\nname = \"web\"\naddr = \"127.0.0.1\"\nport = {port}\n\
         certificate = \"{}\"\nkey = \"{}\"\nclient-auth = \"require\"\nroots = \"file:{}\"\n",
        parties.identity.chain.display(),
        parties.identity.key.display(),
        parties.authority.roots().display()
    );
    std::fs::write(&config, text).unwrap();
    let deploy = |arguments: &[&str]| {
        let mut command = parties.host.deploy(&parties.policy);
        command.arg("--config").arg(&config).args(arguments);
        command.arg(component());
        command
    };
    let output = run(&mut deploy(&["--insecure-http"]), b"");
    assert_eq!(output.status.code(), Some(2));
    let service = Service::start(&mut deploy(&[]), &place);
    let known = parties.authority.certify(&["client.example"], 2090);
    let unknown = Authority::new().certify(&["client.example"], 2091);
    let shows = |identity: &Identity| {
        let [chain, key] = [&identity.chain, &identity.key].map(|it| it.display().to_string());
        let shown = ["--cert", &chain, "--key", &key];
        service.curl(&parties.authority, &shown, "/hello")
    };
    says(&shows(&known), "hello\n");
    let refused = [
        shows(&unknown),
        service.curl(&parties.authority, &[], "/hello"),
    ];
    for refused in refused {
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{refused:?}"
        );
    }
    service.end();
}
