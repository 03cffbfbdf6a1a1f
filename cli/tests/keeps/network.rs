// SPDX-License-Identifier: Apache-2.0

//! Rules for the network, in every kind of Keep: only what they name can be reached. The programs are components
//! that try every place that their arguments name (`tests/programs/conformance/reach.h`), one of WASI 0.2 and one of
//! 0.3.

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output};

use enarx_harness::needs;

use super::common::{backends, enarx, free_port};
use super::deploy::{self, Host};
use super::programs::programs;

/// The program, of both versions of WASI.
const PROGRAMS: [&str; 2] = ["conformance-preview2.wasm", "conformance-preview3.wasm"];

/// Runs both programs with rules, and returns their reports about each place.
fn reach(backend: &str, rules: &[&str], places: &[&str]) -> Vec<String> {
    let [said, newer] = PROGRAMS.map(|program| reach_by(program, backend, rules, places));
    assert_eq!(said, newer, "{backend} {rules:?}");
    said
}

fn reach_by(program: &str, backend: &str, rules: &[&str], places: &[&str]) -> Vec<String> {
    let output = enarx()
        .args(["run", "--quiet", "--timeout", "120s", "--backend", backend])
        .args(rules)
        .arg(programs().folder.join(program))
        .arg("reach")
        .args(places)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{backend} {rules:?}: {said}");
    lines(&said)
}

/// The lines about places.
pub fn lines(said: &str) -> Vec<String> {
    let other = ["called ", "get-directories: "];
    said.lines()
        .filter(|line| !other.iter().any(|start| line.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

/// Compares the program's report about each place.
fn check(backend: &str, rules: &[&str], expected: &[(&str, &str)]) {
    let places: Vec<&str> = expected.iter().map(|(place, _)| *place).collect();
    let said = reach(backend, rules, &places);
    let expected: Vec<String> = expected
        .iter()
        .map(|(place, answer)| format!("{place} {answer}"))
        .collect();
    assert_eq!(said, expected, "{backend} {rules:?}");
}

/// Ports of this machine, of different numbers: one listens on TCP, one on UDP, one is unused.
struct Ports {
    tcp: TcpListener,
    udp: UdpSocket,
    free: u16,
}

impl Ports {
    fn new() -> Self {
        let free = free_port();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let other_than = [free, tcp.local_addr().unwrap().port()];
        // The two protocols have separate port numbers: the system may well assign the same one twice.
        let udp = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
            .find(|udp| !other_than.contains(&udp.local_addr().unwrap().port()))
            .unwrap();
        Self { tcp, udp, free }
    }
}

#[test]
fn connections_and_datagrams_go_only_where_rules_permit() {
    let ports = Ports::new();
    let tcp = ports.tcp.local_addr().unwrap().port();
    let udp = ports.udp.local_addr().unwrap().port();
    let free = ports.free;
    let (ok, denied) = ("ok", "access-denied");
    let place = |action: &str, port: u16| format!("{action}/127.0.0.1.{port}");
    for backend in backends() {
        // One port of this machine for each protocol, and the rest of the world, which does not include this machine.
        let one = format!("127.0.0.1:{tcp}/tcp");
        let other = format!("127.0.0.1:{udp}/udp");
        check(
            backend,
            &[
                "--allow-connect",
                &one,
                "--allow-connect",
                &other,
                "--allow-connect",
                "0.0.0.0/0",
                "--allow-connect",
                "::/0",
            ],
            &[
                (&place("tcp", tcp), ok),
                (&place("udp", udp), ok),
                (&place("tcp", udp), denied),
                (&place("udp", tcp), denied),
                (&place("tcp", free), denied),
                (&format!("tcp/127.0.0.2.{tcp}"), denied),
                ("tcp/169.254.169.254.80", denied),
                ("udp/169.254.169.254.53", denied),
                (&format!("tcp/0:0:0:0:0:0:0:1:{tcp:x}"), denied),
                ("tcp/fd00:ec2:0:0:0:0:0:254:50", denied),
                ("udp/fe80:0:0:0:0:0:0:1:35", denied),
                // IPv4 in other notations.
                (&format!("tcp/0:0:0:0:0:0:7f00:1:{free:x}"), denied),
                ("tcp/64:ff9b:0:0:0:0:a9fe:a9fe:50", denied),
                ("udp/2002:a9fe:a9fe:0:0:0:0:1:35", denied),
                // A component cannot even request these.
                (
                    &format!("tcp/0:0:0:0:0:ffff:7f00:1:{free:x}"),
                    "invalid-argument",
                ),
                (&format!("tcp/0.0.0.0.{free}"), "invalid-argument"),
                (&place("listen-tcp", free), denied),
                (&place("listen-udp", free), denied),
                ("name/localhost", "permanent-resolver-failure"),
            ],
        );
        let named = format!("127.0.0.0/8:{tcp}");
        check(
            backend,
            &["-S", "tcp", "--allow-connect", &named],
            &[(&place("tcp", tcp), ok), (&place("tcp", free), denied)],
        );
        // Everything still means everything.
        check(
            backend,
            &["-S", "inherit-network"],
            &[
                (&place("tcp", tcp), ok),
                (&place("udp", udp), ok),
                (&place("tcp", free), "connection-refused"),
            ],
        );
    }
}

#[test]
fn programs_listen_only_where_rules_permit() {
    let ports = Ports::new();
    let free = ports.free;
    let taken = ports.tcp.local_addr().unwrap().port();
    let (ok, denied) = ("ok", "access-denied");
    for backend in backends() {
        let here = format!("127.0.0.1:{free}");
        check(
            backend,
            &["--allow-listen", &here],
            &[
                (&format!("listen-tcp/127.0.0.1.{free}"), ok),
                (&format!("listen-udp/127.0.0.1.{free}"), ok),
                (&format!("listen-tcp/0.0.0.0.{free}"), denied),
                (&format!("listen-tcp/127.0.0.2.{free}"), denied),
                (&format!("listen-tcp/127.0.0.1.{taken}"), denied),
                // A port that the system chooses is one for connecting.
                ("listen-tcp/127.0.0.1.0", denied),
                (&format!("tcp/127.0.0.1.{taken}"), denied),
            ],
        );
        let everywhere = format!("{free}/tcp");
        check(
            backend,
            &["--allow-listen", &everywhere],
            &[
                (&format!("listen-tcp/0.0.0.0.{free}"), ok),
                (&format!("listen-tcp/127.0.0.1.{free}"), ok),
                (&format!("listen-udp/0.0.0.0.{free}"), denied),
            ],
        );
    }
}

#[test]
fn names_are_looked_up_only_where_rules_permit() {
    let (ok, refused) = ("ok", "permanent-resolver-failure");
    for backend in backends() {
        check(
            backend,
            &[
                "--allow-resolve",
                "LOCALHOST.",
                "--allow-connect",
                "10.0.0.1",
            ],
            &[
                ("name/localhost", ok),
                ("name/LocalHost", ok),
                ("name/localhost.test", refused),
                ("name/sub.localhost", refused),
                ("name/127.1", refused),
                // An address is not a name: it is not looked up.
                ("name/127.0.0.1", ok),
                // A look-up does not permit connections to its results.
                ("tcp/127.0.0.1.1", "access-denied"),
            ],
        );
        check(
            backend,
            &["--allow-resolve", "*.localhost"],
            &[("name/localhost", refused)],
        );
        check(
            backend,
            &["--allow-connect", "db.example:1"],
            &[
                ("name/localhost", refused),
                ("tcp/127.0.0.1.1", "access-denied"),
            ],
        );
        check(
            backend,
            &["-S", "allow-ip-name-lookup", "--allow-connect", "10.0.0.1"],
            &[("name/localhost", ok)],
        );
    }
}

#[test]
fn invalid_rules_are_named() {
    let run = |command: &mut Command| -> (Output, String) {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        (output, said)
    };
    for (flag, rule, words) in [
        ("--allow-connect", "127.1", "write a peer as"),
        ("--allow-connect", "10.1.0.0/8", "write 10.0.0.0/8"),
        ("--allow-connect", "localhost:80", "127.0.0.1"),
        ("--allow-connect", "::ffff:10.0.0.1", "10.0.0.1"),
        ("--allow-connect", "[fe80::1%eth0]:80", "without its zone"),
        ("--allow-connect", "a.example:0", "from 1 to 65535"),
        ("--allow-listen", "127.0.0.1", "8080"),
        ("--allow-resolve", "10.0.0.1", "*.example.org"),
    ] {
        let (output, said) = run(enarx().args(["run", flag, rule, "none.wasm"]));
        assert_eq!(output.status.code(), Some(2), "{rule}: {said}");
        assert!(
            said.contains(flag) && said.contains(words),
            "{rule}: {said}"
        );
    }
    for variable in [
        "ENARX_ALLOW_CONNECT",
        "ENARX_ALLOW_LISTEN",
        "ENARX_ALLOW_RESOLVE",
    ] {
        let module = "none.wasm";
        let (output, said) = run(enarx().env(variable, "1.1").args(["run", module]));
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        assert!(said.contains(variable), "{said}");
    }
}

/// Deploys the program, and returns its report about each place; `Err` with the command's output if it did not run.
fn deployed(command: &mut Command, rules: &[&str], places: &[&str]) -> Result<Vec<String>, String> {
    let command = command
        .arg("--quiet")
        .args(rules)
        .arg(programs().folder.join("conformance-preview2.wasm"))
        .args(["--", "reach"])
        .args(places);
    let output = deploy::run(command, b"");
    let (said, why) = (deploy::text(&output.stdout), deploy::text(&output.stderr));
    if output.status.code() != Some(0) {
        return Err(why);
    }
    Ok(lines(&said))
}

#[test]
fn a_deployed_program_reaches_what_both_sides_agreed_on() {
    needs::kvm();
    let ports = Ports::new();
    let tcp = ports.tcp.local_addr().unwrap().port();
    let udp = ports.udp.local_addr().unwrap().port();
    let free = ports.free;
    let offered = format!("127.0.0.1:{tcp}");
    let listening = format!("127.0.0.1:{free}/tcp");
    let host = Host::serving(
        &[],
        &[
            "--allow-connect",
            &offered,
            "--allow-connect",
            "10.0.0.0/8",
            "--allow-listen",
            &listening,
            "--allow-resolve",
            "localhost",
        ],
    );
    let policy = deploy::policy(host.folder());
    let place = |action: &str, port: u16| format!("{action}/127.0.0.1.{port}");
    let asked = format!("127.0.0.1:{tcp}/tcp");
    let said = deployed(
        &mut host.deploy(&policy),
        &[
            "--allow-connect",
            &asked,
            "--allow-listen",
            &listening,
            "--allow-resolve",
            "localhost",
        ],
        &[
            &place("tcp", tcp),
            &place("tcp", udp),
            // The host offers this, and the tenant has not requested it.
            "tcp/10.0.0.1.1",
            &place("listen-tcp", free),
            "name/localhost",
            "name/other.example",
        ],
    );
    assert_eq!(
        said.unwrap(),
        [
            format!("{} ok", place("tcp", tcp)),
            format!("{} access-denied", place("tcp", udp)),
            "tcp/10.0.0.1.1 access-denied".to_owned(),
            format!("{} ok", place("listen-tcp", free)),
            "name/localhost ok".to_owned(),
            "name/other.example permanent-resolver-failure".to_owned(),
        ]
    );
    // More than the host offers.
    let other = format!("127.0.0.1:{udp}");
    for (flag, rule) in [
        ("--allow-connect", other.as_str()),
        ("--allow-connect", "0.0.0.0/0"),
        ("--allow-connect", "db.example"),
        ("--allow-listen", "1-65535"),
        ("--allow-resolve", "*.example"),
    ] {
        let why = deployed(&mut host.deploy(&policy), &[flag, rule], &[]).unwrap_err();
        assert!(
            why.contains("contract.doors") || why.contains(rule),
            "{rule}: {why}"
        );
    }
    // Nothing was requested, so nothing is granted.
    let said = deployed(&mut host.deploy(&policy), &[], &["name/localhost"]);
    assert_eq!(said.unwrap(), ["name/localhost permanent-resolver-failure"]);
    // One machine that plays both sides agrees with itself.
    let mut local = enarx();
    let said = deployed(
        local.args(["deploy", "--local"]),
        &["--allow-connect", &asked],
        &[&place("tcp", tcp)],
    );
    assert_eq!(said.unwrap(), [format!("{} ok", place("tcp", tcp))]);
}
