// SPDX-License-Identifier: Apache-2.0

//! Sessions that are cut: between real commands and real Keeps, after every record of TLS and inside of every one, in both
//! directions. The command never tells success of what was cut, and nothing of the output is lost or doubled: what one
//! command did not get, `enarx attach` gets.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use super::deploy::{Host, policy, program, run, text, wait_until};
use super::door::{Door, Fate, Place, Session, Way};

/// Hosts, each with a thread of its own: a deployment waits for some of its time.
const HOSTS: usize = 3;

/// The input of the program, and so its output: more than a record.
fn input() -> Vec<u8> {
    (0..=250).cycle().take(20_000).collect()
}

/// A deployment to this host, with a folder for what the tenant keeps.
struct Case<'a> {
    host: &'a Host,
    policy: &'a Path,
    tenant: PathBuf,
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
}

/// All places of a session that went on to its end.
fn places(session: &Session) -> VecDeque<Place> {
    let ways = [Way::FromKeep, Way::ToKeep];
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

/// Deploys over a connection that is cut at this place; whoever comes again meets junk, so that the command gives up, and
/// another one attaches. Returns true if the program's whole output needed both.
fn cut(case: &Case<'_>, door: &Door, place: Place) -> bool {
    fs::create_dir_all(&case.tenant).unwrap();
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
        return false;
    }
    let Some(ticket) = first.document["ticket"].as_str() else {
        // Before anything ran: before the verdict another try may help, after it the release was in vain.
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
        return false;
    };
    assert_eq!(first.code, 70, "{told}");
    // Its reader knows that the program may run, how to go on with it, and how to end it.
    for words in [
        "may run on".to_owned(),
        format!("`enarx attach {ticket}`"),
        format!("`enarx stop {ticket}`"),
    ] {
        assert!(first.stderr.contains(&words), "{words}: {told}");
    }
    let rest = &input[first.stdout.len()..];
    // Its standard input goes on where the Keep has it, which is not known here: all of it may be needed or none.
    let second = case.run(&["attach", ticket], &[]);
    let told = format!("{told} then {} {}", second.code, second.stderr);
    if second.document["code"] == "evidence.state" {
        // START was lost: by its own evidence the Keep has never run anything.
        assert_eq!(second.code, 3, "{told}");
        let end = format!("`enarx keeps end {ticket}`");
        assert!(second.stderr.contains(&end), "{told}");
        assert!(!second.stderr.contains("may run on"), "{told}");
        assert!(
            first.stdout.is_empty() && second.stdout.is_empty(),
            "{told}"
        );
        // It would wait for two minutes.
        let mut end = case.command(&["keeps", "end", ticket]);
        assert!(end.status().unwrap().success(), "{told}");
        return false;
    }
    assert!(rest.starts_with(&second.stdout), "{told}");
    assert_eq!(second.code, 0, "{told}");
    let receipt = &second.document["receipt"]["body"]["streams"];
    let bytes = first.stdout.len() + second.stdout.len();
    // Every byte that the program wrote is here, once.
    assert_eq!(receipt["stdout"]["bytes"], bytes, "{told}");
    assert_eq!(receipt["stderr"]["bytes"], 5, "{told}");
    // And it wrote every byte that it was given.
    assert_eq!(receipt["stdin"]["bytes"], bytes, "{told}");
    true
}

#[test]
fn a_session_that_is_cut_anywhere_is_no_success_and_loses_nothing() {
    let hosts: Vec<Host> = (0..HOSTS).map(|_| Host::start(&[])).collect();
    let policy = policy(hosts[0].folder());
    let doors: Vec<Door> = hosts.iter().map(Door::of).collect();
    let case = |host: usize, name: &str| Case {
        host: &hosts[host],
        policy: &policy,
        tenant: hosts[host].path(name),
    };
    // The first run shows where records end.
    let whole = case(0, "whole");
    fs::create_dir_all(&whole.tenant).unwrap();
    let outcome = whole.deploy();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout == input());
    let session = doors[0].sessions().remove(0);
    let all = places(&session);
    let number = all.len();
    assert!(number >= 30, "{:?}", session.records);
    let (waiting, both) = (Mutex::new(all), Mutex::new(0));
    thread::scope(|scope| {
        for (index, door) in doors.iter().enumerate() {
            let (case, waiting, both) = (&case, &waiting, &both);
            scope.spawn(move || {
                let next = || waiting.lock().unwrap().pop_front();
                while let Some(place) = next() {
                    let name = format!("{:?}-{}-{}", place.way, place.records, place.inside);
                    let resumed = cut(&case(index, &name), door, place);
                    *both.lock().unwrap() += usize::from(resumed);
                }
            });
        }
    });
    let both = both.into_inner().unwrap();
    assert!(both >= 10, "{both} of {number}");
    for host in &hosts {
        wait_until(|| host.keeps().is_empty());
    }
}
