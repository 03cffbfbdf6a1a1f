// SPDX-License-Identifier: Apache-2.0

//! Sessions that are cut: between real commands and real Keeps, after every record of TLS and inside of every one, in
//! both directions; first sessions in each of these places, attached ones in a sample of them. The command never
//! reports a cut session as success, and no output is lost or duplicated: `enarx attach` gets what one command did not
//! get.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use super::deploy::{Host, policy, program, run, text, wait_until};
use super::door::{Direction, Door, Fate, Place, Session};
use super::kills::needs_python;

/// Hosts, each with its own thread: a deployment spends some of its time waiting.
const HOSTS: usize = 3;

/// The input of the program, and so its output: more than a record.
fn input() -> Vec<u8> {
    (0..=250).cycle().take(20_000).collect()
}

/// A deployment to this host, with a folder for the tenant's files.
struct Case<'a> {
    host: &'a Host,
    policy: &'a Path,
    tenant: PathBuf,
}

/// How the program's output survived a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    /// Before anything ran: there is no output.
    Nothing,
    /// The command whose session was cut got all of it.
    All,
    /// A second command got the rest.
    Rest,
}

/// The outcome of a command.
struct Outcome {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
    document: Value,
}

impl Case<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        self.host.tenant(arguments, self.policy, &self.tenant)
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Outcome {
        let document = self.tenant.join("document.json");
        let mut command = self.command(arguments);
        command.arg(format!("--json={}", document.display()));
        let output = run(&mut command, stdin);
        Outcome {
            code: output.status.code().unwrap(),
            stdout: output.stdout,
            stderr: text(&output.stderr),
            document: serde_json::from_slice(&fs::read(&document).unwrap()).unwrap(),
        }
    }

    fn deploy(&self) -> Outcome {
        let program = program("copy.wat");
        self.run(&["deploy", program.to_str().unwrap()], &input())
    }

    /// Detaches the same program, and returns its name.
    fn detach(&self) -> String {
        let mut command = self.command(&["deploy", "--quiet", "--detach"]);
        let output = run(command.arg(program("copy.wat")), b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }
}

/// All places of a session that ran to its end.
fn places(session: &Session) -> VecDeque<Place> {
    let ways = [Direction::FromKeep, Direction::ToKeep];
    let all = ways.into_iter().flat_map(|way| {
        let records = 0..=session.count(way);
        let last = session.count(way);
        records.flat_map(move |records| {
            [false, true].into_iter().filter_map(move |inside| {
                (records < last || !inside).then_some(Place {
                    way,
                    records,
                    inside,
                })
            })
        })
    });
    all.collect()
}

/// Deploys over a connection that is cut at this place; later connections meet junk, so that the command gives up, and
/// another one attaches.
fn cut(case: &Case<'_>, door: &Door, place: Place) -> Recovery {
    door.fates(&[Fate::Cut(place), Fate::Junk]);
    let first = case.deploy();
    let told = format!("{place:?}: {} {}", first.code, first.stderr);
    let input = input();
    assert!(input.starts_with(&first.stdout), "{told}");
    assert_eq!(first.document["exit_code"], first.code, "{told}");
    if first.code == 0 {
        // Everything had arrived: output, receipt and goodbye.
        assert!(first.stdout == input, "{told}");
        assert_eq!(
            first.document["receipt"]["body"]["exit"]["code"], 0,
            "{told}"
        );
        assert_eq!(
            first.document["receipt"]["body"]["streams"]["stdout"]["bytes"],
            input.len(),
            "{told}"
        );
        return Recovery::All;
    }
    let Some(ticket) = first.document["ticket"].as_str() else {
        // Before anything ran: before the verdict another try may help; after it the release was in vain.
        let code = first.document["code"].as_str().unwrap();
        assert!([70, 75].contains(&first.code), "{told}");
        assert!(
            ["session.truncated", "session.handshake", "relay.protocol"].contains(&code),
            "{told}"
        );
        assert!(first.stdout.is_empty(), "{told}");
        let said = if first.code == 75 {
            "nothing was sent"
        } else {
            "nothing ran"
        };
        assert!(first.stderr.contains(said), "{told}");
        return Recovery::Nothing;
    };
    assert_eq!(first.code, 70, "{told}");
    // The message says that the program may run, how to continue it, and how to end it.
    for words in [
        "may still run".to_owned(),
        format!("`enarx attach {ticket}`"),
        format!("`enarx stop {ticket}`"),
    ] {
        assert!(first.stderr.contains(&words), "{words}: {told}");
    }
    let rest = &input[first.stdout.len()..];
    // Its standard input continues at the Keep's position, which is unknown here: all of it may be needed or none.
    let second = case.run(&["attach", ticket], &[]);
    let told = format!("{told} then {} {}", second.code, second.stderr);
    if second.document["code"] == "evidence.state" {
        // START was lost: according to its own evidence the Keep has never run anything.
        assert_eq!(second.code, 3, "{told}");
        let end = format!("`enarx keeps end {ticket}`");
        assert!(second.stderr.contains(&end), "{told}");
        assert!(!second.stderr.contains("may still run"), "{told}");
        assert!(
            first.stdout.is_empty() && second.stdout.is_empty(),
            "{told}"
        );
        // It would wait for two minutes.
        let mut end = case.command(&["keeps", "end", ticket]);
        assert!(end.status().unwrap().success(), "{told}");
        return Recovery::Nothing;
    }
    assert!(rest.starts_with(&second.stdout), "{told}");
    assert_eq!(second.code, 0, "{told}");
    let receipt = &second.document["receipt"]["body"]["streams"];
    let bytes = first.stdout.len() + second.stdout.len();
    // Every byte that the program wrote arrived, once.
    assert_eq!(receipt["stdout"]["bytes"], bytes, "{told}");
    assert_eq!(receipt["stderr"]["bytes"], 5, "{told}");
    // And it wrote every byte that it got.
    assert_eq!(receipt["stdin"]["bytes"], bytes, "{told}");
    Recovery::Rest
}

/// Hosts with the places before their Keeps, and a tenant.
struct Stage {
    hosts: Vec<Host>,
    doors: Vec<Door>,
    policy: PathBuf,
}

impl Stage {
    fn new() -> Self {
        needs_python();
        let hosts: Vec<Host> = (0..HOSTS).map(|_| Host::start(&[])).collect();
        Self {
            policy: policy(hosts[0].folder()),
            doors: hosts.iter().map(Door::of).collect(),
            hosts,
        }
    }

    /// A case at this host, with its own folder.
    fn case(&self, host: usize, name: &str) -> Case<'_> {
        let tenant = self.hosts[host].path(name);
        fs::create_dir_all(&tenant).unwrap();
        Case {
            host: &self.hosts[host],
            policy: &self.policy,
            tenant,
        }
    }

    /// Plays all these places, at all hosts at once. Returns how often a second command had the rest.
    fn play(
        &self,
        places: VecDeque<Place>,
        play: impl Fn(&Case<'_>, &Door, Place) -> Recovery + Sync,
    ) -> usize {
        let (waiting, got) = (Mutex::new(places), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for (index, door) in self.doors.iter().enumerate() {
                let (waiting, got, play) = (&waiting, &got, &play);
                scope.spawn(move || {
                    let next = || waiting.lock().unwrap().pop_front();
                    while let Some(place) = next() {
                        let name = format!("{:?}-{}-{}", place.way, place.records, place.inside);
                        let one = play(&self.case(index, &name), door, place);
                        got.lock().unwrap().push(one);
                    }
                });
            }
        });
        let got = got.into_inner().unwrap();
        let number = |of| got.iter().filter(|one| **one == of).count();
        let all = || -> usize { self.hosts.iter().map(|host| living(host).len()).sum() };
        // Those whose tenant's goodbye was cut wait for the tenant for a minute.
        wait_until(|| all() <= number(Recovery::All));
        for host in &self.hosts {
            for id in living(host) {
                host.ask("DELETE", &format!("/v1/keeps/{id}?grace=0"));
            }
            wait_until(|| host.keeps().is_empty());
        }
        number(Recovery::Rest)
    }
}

/// The names of the Keeps that live.
fn living(host: &Host) -> Vec<String> {
    let keeps = host.ask("GET", "/v1/keeps")["keeps"].clone();
    let living = keeps.as_array().unwrap().iter();
    let living = living.filter(|keep| keep["state"] != "ended");
    living
        .map(|keep| keep["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_session_cut_anywhere_is_a_failure_and_loses_nothing() {
    let stage = Stage::new();
    // The first run shows where records end.
    let outcome = stage.case(0, "whole").deploy();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout == input());
    let session = stage.doors[0].sessions().remove(0);
    let all = places(&session);
    let number = all.len();
    assert!(number >= 30, "{:?}", session.records);
    let both = stage.play(all, cut);
    assert!(both >= 10, "{both} of {number}");
}

/// Attaches to a program that waits, over a connection that is cut at this place; later connections meet junk, so that the
/// command gives up, and another one attaches.
fn cut_attached(case: &Case<'_>, door: &Door, place: Place) -> Recovery {
    // A command that made only one attempt has left the fate of the next unused.
    door.fates(&[]);
    let name = case.detach();
    door.fates(&[Fate::Cut(place), Fate::Junk]);
    let input = input();
    let first = case.run(&["attach", &name], &input);
    let told = format!("{place:?}: {} {}", first.code, first.stderr);
    assert!(input.starts_with(&first.stdout), "{told}");
    assert_eq!(first.document["exit_code"], first.code, "{told}");
    if first.code == 0 {
        // Everything had arrived: output, receipt and goodbye.
        assert!(first.stdout == input, "{told}");
        let streams = &first.document["receipt"]["body"]["streams"];
        assert_eq!(streams["stdout"]["bytes"], input.len(), "{told}");
        return Recovery::All;
    }
    // Before the verdict another try may help, and after it the command knows no more.
    assert!([70, 75].contains(&first.code), "{told}");
    let code = first.document["code"].as_str().unwrap();
    assert!(
        ["session.truncated", "session.handshake", "relay.protocol"].contains(&code),
        "{told}"
    );
    assert!(
        first.stderr.contains(&format!("`enarx attach {name}`")),
        "{told}"
    );
    door.fates(&[]);
    let second = case.run(&["attach", &name], &[]);
    let told = format!("{told} then {} {}", second.code, second.stderr);
    assert_eq!(second.code, 0, "{told}");
    let rest = &input[first.stdout.len()..];
    assert!(rest.starts_with(&second.stdout), "{told}");
    let streams = &second.document["receipt"]["body"]["streams"];
    let bytes = first.stdout.len() + second.stdout.len();
    // Every byte that the program wrote arrived, once, and it wrote every byte that it got.
    assert_eq!(streams["stdout"]["bytes"], bytes, "{told}");
    assert_eq!(streams["stderr"]["bytes"], 5, "{told}");
    assert_eq!(streams["stdin"]["bytes"], bytes, "{told}");
    Recovery::Rest
}

/// The places of a session that a command has with a program to which it attaches.
fn attached_places(stage: &Stage) -> VecDeque<Place> {
    let case = stage.case(0, "whole");
    let name = case.detach();
    let outcome = case.run(&["attach", &name], &input());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout == input());
    let session = stage.doors[0].sessions().pop().unwrap();
    let all = places(&session);
    assert!(all.len() >= 30, "{:?}", session.records);
    all
}

/// This many of all, the same each time while the number to choose from is the same.
fn sample(mut all: VecDeque<Place>, number: usize) -> VecDeque<Place> {
    // Knuth's generator (The Art of Computer Programming 2, section 3.3.4, line 26), its upper half.
    let mut state = 11_u64;
    let mut taken = VecDeque::new();
    while taken.len() < number && !all.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 32).unwrap() % all.len();
        taken.extend(all.remove(index));
    }
    taken
}

/// Places of an attached session that are tried: each takes its own Keep and two or three commands.
const SAMPLE: usize = 12;

#[test]
fn a_cut_attached_session_is_a_failure_and_loses_nothing() {
    let stage = Stage::new();
    let places = sample(attached_places(&stage), SAMPLE);
    assert_eq!(places.len(), SAMPLE);
    let both = stage.play(places, cut_attached);
    assert!(both >= SAMPLE / 2, "{both} of {SAMPLE}");
}
