// SPDX-License-Identifier: Apache-2.0

//! SIGKILL for manager, Keep process, VMM and tenant's command, in every state of a deployment: no process is left, no
//! Keep without a contract, no contract that counts forever, and no success. States are recognized by the manager's log
//! and API, and by the records at the Keep's door, which are held back there.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use enarx_harness::needs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::deploy::{
    Host, children, descendants, is_gone, policy, program, run, text, until_first_output,
    wait_until,
};
use super::door::{Direction, Door, Fate, Place, Session};

/// A state of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A Keep waits to be claimed.
    Offered,
    /// It belongs to a tenant, who has sent it nothing yet.
    Claimed,
    /// The process for a Keep of the tenant's own contract exists, and the Keep does not.
    Launching,
    /// The VMM exists, too, and has not launched the Keep.
    Loading,
    /// A Keep of the tenant's own contract runs, and has received nothing.
    Launched,
    /// The tenant has its evidence.
    Attested,
    /// It has the list of what will be delivered, and nothing else.
    Released,
    /// It has part of the delivery.
    Delivering,
    /// The tenant knows that its program runs, and has none of its output.
    Started,
    Running,
    /// Its program was told to end, and continues as long as it may.
    Stopping,
    /// Its program runs without its tenant.
    Detached,
    /// Its tenant has returned to it.
    Attached,
    /// The tenant knows how it ended, and has no receipt.
    Finished,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Manager,
    KeepProcess,
    Vmm,
    Tenant,
}

/// The first records of a session, as in an undisturbed one.
#[derive(Clone, Copy)]
struct Beginning {
    /// Records to the Keep before its evidence: the handshake, and ATTEST.
    asked: usize,
    /// Records from the Keep, its evidence included.
    answered: usize,
}

/// More bytes than any record of the Keep's part of the handshake, and less than evidence with a report.
pub const EVIDENCE: usize = 1500;

/// Records of a Keep after its evidence: STARTED comes first, and what follows for a program that writes nothing is the end
/// of two outputs and EXIT.
const STARTED: usize = 1;
const EXIT: usize = 4;

/// Bytes of a file that takes many records, and a record number in the middle of it: what comes before the file
/// takes fewer, and so does what comes after.
const FILE: usize = 500_000;
const IN_FILE: usize = 20;

impl Beginning {
    fn of(session: &Session) -> Self {
        let mut beginning = Self {
            asked: 0,
            answered: 0,
        };
        for (way, length) in &session.records {
            match way {
                Direction::ToKeep => beginning.asked += 1,
                Direction::FromKeep => beginning.answered += 1,
            }
            if *way == Direction::FromKeep && *length > EVIDENCE {
                return beginning;
            }
        }
        panic!("there is no evidence: {:?}", session.records);
    }
}

/// A host, the intermediary before its Keeps, and a tenant.
struct Stage {
    host: Host,
    door: Door,
    policy: PathBuf,
    beginning: Beginning,
}

impl Stage {
    /// A stage, with this many Keeps that wait.
    fn new(warm: &str) -> Self {
        let host = Host::serving(&[], &["--warm", warm]);
        let policy = policy(host.folder());
        let door = Door::of(&host);
        let mut stage = Self {
            host,
            door,
            policy,
            beginning: Beginning {
                asked: 0,
                answered: 0,
            },
        };
        stage.works();
        stage.beginning = Beginning::of(&stage.door.sessions()[0]);
        stage
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let state = self.host.path("tenant");
        self.host.tenant(arguments, &self.policy, &state)
    }

    /// Deploys without disturbance.
    #[track_caller]
    fn works(&self) {
        self.door.fates(&[]);
        let program = program("exit.wat");
        let output = run(
            &mut self.command(&["deploy", program.to_str().unwrap()]),
            b"",
        );
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    }

    /// The Keeps of the tenant's contracts that the manager reports as alive.
    fn living(&self) -> Vec<Value> {
        let list = self.host.ask("GET", "/v1/keeps");
        let keeps = list["keeps"].as_array().unwrap().iter();
        keeps
            .filter(|keep| keep["state"] != "ended")
            .cloned()
            .collect()
    }

    /// Waits until the manager's log contains this more often than before.
    #[track_caller]
    fn wait_for_log(&self, words: &str, before: usize) {
        wait_until(|| self.host.log().matches(words).count() > before);
    }

    fn said(&self, words: &str) -> usize {
        self.host.log().matches(words).count()
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        self.begin_program("delivered.wat", arguments)
    }

    fn begin_program(&self, name: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .arg(program(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Brings a deployment into this state; the tenant's command, if there is one.
    fn reach(&self, state: State) -> Option<Child> {
        let hold = |way, records| {
            Fate::Hold(Place {
                way,
                records,
                inside: false,
            })
        };
        let Beginning { asked, answered } = self.beginning;
        let sessions = self.door.sessions().len();
        let until = |fate, name, arguments: &[&str], way, seen| {
            self.door.fates(&[fate]);
            let child = self.begin_program(name, arguments);
            wait_until(|| self.door.sessions().len() > sessions);
            self.door.wait_for(way, seen);
            Some(child)
        };
        let held = |records, way, seen| {
            let fate = hold(Direction::ToKeep, records);
            until(fate, "delivered.wat", &["deploy"], way, seen)
        };
        // Nothing more comes from the Keep.
        let silent = |name, records| {
            let fate = hold(Direction::FromKeep, records);
            until(fate, name, &["deploy"], Direction::FromKeep, records)
        };
        match state {
            State::Offered => {
                wait_until(|| {
                    let ready = self.host.ask("GET", "/v1/offer")["ready"].clone();
                    ready.as_array().is_some_and(|ready| !ready.is_empty())
                });
                None
            }
            State::Claimed => {
                self.reach(State::Offered);
                let claims = self.said("a Keep was claimed");
                let child = held(0, Direction::ToKeep, 0);
                self.wait_for_log("a Keep was claimed", claims);
                child
            }
            State::Launching | State::Loading => Some(self.launching(state)),
            State::Launched => held(0, Direction::ToKeep, 0),
            State::Attested => held(asked, Direction::FromKeep, answered),
            State::Released => held(asked + 1, Direction::ToKeep, asked + 1),
            State::Delivering => {
                let file = self.host.path("file");
                fs::write(&file, vec![b'x'; FILE]).unwrap();
                let file = format!("etc/app.conf={}", file.display());
                let records = asked + IN_FILE;
                let fate = hold(Direction::ToKeep, records);
                let arguments = ["deploy", "--file", &file];
                until(
                    fate,
                    "delivered.wat",
                    &arguments,
                    Direction::ToKeep,
                    records,
                )
            }
            State::Started => silent("delivered.wat", answered + STARTED),
            State::Stopping => {
                let arguments = ["deploy", "--grace", "2m"];
                let started = answered + STARTED;
                let child = until(
                    Fate::Pass,
                    "forever.wat",
                    &arguments,
                    Direction::FromKeep,
                    started,
                )?;
                let count = || {
                    let sessions = self.door.sessions();
                    sessions
                        .last()
                        .map(|session| session.count(Direction::ToKeep))
                };
                let before = count();
                signal(child.id(), Signal::INT);
                wait_until(|| count() > before);
                Some(child)
            }
            State::Attached => {
                self.reach(State::Detached);
                Some(until_first_output(&mut self.attach()))
            }
            State::Finished => silent("exit.wat", answered + EXIT),
            State::Running => {
                let program = program("delivered.wat");
                Some(until_first_output(self.command(&["deploy"]).arg(program)))
            }
            State::Detached => {
                let child = self.begin(&["deploy", "--quiet", "--detach"]);
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
                let name = text(&output.stdout);
                fs::write(self.host.path("name"), name.trim()).unwrap();
                None
            }
            State::Ended => {
                self.works();
                // Its process goes before its end is recorded.
                wait_until(|| self.living().is_empty() && self.host.keeps().is_empty());
                None
            }
        }
    }

    /// Begins a deployment, and stops the process of its Keep, or the VMM, before it has launched the Keep. If it is too
    /// late, the deployment is ended, and another one begun.
    fn launching(&self, state: State) -> Child {
        // Between the Keep's process and the VMM another process waits, if the machine allows namespaces.
        let (depth, patience) = match state {
            State::Loading => (2, Duration::from_secs(5)),
            _ => (0, Duration::ZERO),
        };
        for _ in 0..20 {
            let others = self.host.keeps();
            let mut child = self.begin(&["deploy"]);
            let begun = Instant::now();
            let (keep, stopped) = loop {
                let keeps = self.host.keeps();
                if let Some(keep) = keeps.iter().find(|keep| !others.contains(keep)) {
                    let line = [vec![*keep], descendants(*keep)].concat();
                    let all = line.get(depth).copied();
                    let last = line.last().filter(|_| begun.elapsed() >= patience);
                    if let Some(process) = all.or(last.copied()) {
                        break (*keep, process);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            };
            signal(stopped, Signal::STOP);
            let living = self.living();
            if living[0]["state"] == "launching" {
                return child;
            }
            signal(stopped, Signal::CONT);
            child.kill().unwrap();
            child.wait().unwrap();
            let id = living[0]["id"].as_str().unwrap();
            self.host.ask("DELETE", &format!("/v1/keeps/{id}?grace=0"));
            wait_until(|| is_gone(keep));
        }
        panic!("every Keep is launched before its process can be stopped");
    }

    /// Attaches to the detached deployment.
    fn attach(&self) -> Command {
        let name = fs::read_to_string(self.host.path("name")).unwrap();
        self.command(&["attach", "--quiet", &name])
    }

    /// Kills `victim` in `state`, and checks what is left.
    fn play(&mut self, state: State, victim: Victim) {
        let what = format!("{victim:?} killed: {state:?}");
        let (warm, records) = (self.host.keeps(), self.said("a Keep has ended"));
        let mut tenant = self.reach(state);
        let keeps = self.host.keeps();
        let keep = match state {
            State::Ended => None,
            State::Offered | State::Claimed => keeps.first().copied(),
            _ => keeps.iter().find(|keep| !warm.contains(keep)).copied(),
        };
        let family = match victim {
            Victim::Manager => descendants(self.host.manager()),
            _ => keep
                .into_iter()
                .flat_map(|keep| [vec![keep], descendants(keep)].concat())
                .collect(),
        };
        let least = match state {
            State::Ended => 0,
            State::Launching => 1,
            _ => 2,
        };
        assert!(family.len() >= least, "{what}: {family:?}");
        match victim {
            Victim::Manager => {
                self.host.kill();
                wake(state, &family);
                for process in &family {
                    wait_until(|| is_gone(*process));
                }
                self.host.restart();
            }
            Victim::KeepProcess | Victim::Vmm => {
                let keep = keep.unwrap();
                // A tenant whose session is cut has the Keep ended, and the manager may learn that before it learns of the
                // Keep's process: the tenant acts when the end is recorded.
                let tenant = tenant.as_ref().map(Child::id);
                tenant.inspect(|tenant| signal(*tenant, Signal::STOP));
                signal(
                    match victim {
                        Victim::Vmm => vmm(keep),
                        _ => keep,
                    },
                    Signal::KILL,
                );
                wake(state, &family);
                self.wait_for_log("a Keep has ended", records);
                tenant.inspect(|tenant| signal(*tenant, Signal::CONT));
            }
            Victim::Tenant => {
                if state == State::Detached {
                    tenant = Some(until_first_output(&mut self.attach()));
                }
                let mut tenant = tenant.take().unwrap();
                tenant.kill().unwrap();
                tenant.wait().unwrap();
                self.left_by_its_tenant(state, &family, &what);
                wake(state, &family);
            }
        }
        for process in &family {
            wait_until(|| is_gone(*process));
        }
        // The other end learns that it is not a success.
        if let Some(tenant) = tenant {
            let output = tenant.wait_with_output().unwrap();
            let stderr = text(&output.stderr);
            let code = output.status.code().unwrap();
            assert!([70, 75].contains(&code), "{what}: {code}: {stderr}");
        }
        // Nothing counts any more: all contracts of the tenant have ended, with a reason.
        wait_until(|| self.living().is_empty());
        if state == State::Detached && victim != Victim::Tenant {
            let output = run(&mut self.attach(), b"");
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(70), "{what}: {stderr}");
            assert!(stderr.contains("its Keep ended"), "{what}: {stderr}");
        }
        let list = self.host.ask("GET", "/v1/keeps");
        let last = &list["keeps"][0];
        if state != State::Offered {
            let reason = last["reason"].as_str().unwrap();
            let expected = match (victim, state) {
                (_, State::Ended) | (Victim::Tenant, State::Detached) => "done",
                (Victim::Manager, _) => "manager-lost",
                (Victim::Tenant, _) => "deleted",
                (Victim::KeepProcess, _) => "keep.died",
                (Victim::Vmm, _) => "the process that serves the Keep was killed",
            };
            assert!(reason.starts_with(expected), "{what}: {reason}");
        }
    }

    /// The Keep of a tenant whose command was killed still belongs to the contract, and the tenant can end it.
    fn left_by_its_tenant(&self, state: State, family: &[u32], what: &str) {
        let living = self.living();
        assert_eq!(living.len(), 1, "{what}: {living:?}");
        assert!(family.iter().all(|process| !is_gone(*process)), "{what}");
        if state == State::Detached {
            // It continues, and the next command gets all of its output.
            let mut child = self
                .attach()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(b"late").unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(7),
                "{what}: {}",
                text(&output.stderr)
            );
            let stdout = text(&output.stdout);
            assert!(stdout.starts_with("delivered.wat"), "{what}: {stdout}");
            assert!(stdout.ends_with("late"), "{what}: {stdout}");
            return;
        }
        let id = living[0]["id"].as_str().unwrap();
        self.host.ask("DELETE", &format!("/v1/keeps/{id}?grace=0"));
    }
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// Continues what was stopped in this state. A process that was stopped before it had requested to end with its parent
/// cannot check that. It may have ended.
fn wake(state: State, family: &[u32]) {
    if matches!(state, State::Launching | State::Loading) {
        for process in family {
            let process = Pid::from_raw((*process).try_into().unwrap()).unwrap();
            let _ = kill_process(process, Signal::CONT);
        }
    }
}

/// The process that serves the virtual machine: the only one that the Keep's process starts.
fn vmm(keep: u32) -> u32 {
    let children = children(keep);
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// Plays these states with every possible victim.
fn play(warm: &str, states: &[State]) {
    let mut stage = Stage::new(warm);
    for state in states {
        let victims = [
            Victim::Tenant,
            Victim::KeepProcess,
            Victim::Vmm,
            Victim::Manager,
        ];
        for victim in victims {
            let is_there = match state {
                // There is none, or it is killed in the state before, once it has returned.
                State::Offered | State::Attached => victim != Victim::Tenant,
                // The VMM does not exist yet: it is killed in the next state.
                State::Launching => victim != Victim::Vmm,
                State::Ended => victim == Victim::Manager,
                _ => true,
            };
            if is_there {
                stage.play(*state, victim);
            }
        }
    }
    // There is room for the next.
    stage.works();
}

/// Checks the requirements of [`Host::ask`], in the thread of the test.
pub fn needs_python() {
    if let Err(error) = Command::new("python3").arg("--version").output() {
        needs::lacking("PROGRAMS", &format!("python3: {error}"));
    }
}

#[test]
fn killing_any_process_in_any_state_leaves_nothing_behind() {
    needs::kvm();
    needs_python();
    thread::scope(|scope| {
        let all = [
            ("1", &[State::Offered, State::Claimed][..]),
            ("0", &[State::Launched, State::Attested, State::Released]),
            (
                "0",
                &[
                    State::Running,
                    State::Detached,
                    State::Loading,
                    State::Ended,
                ],
            ),
            ("0", &[State::Launching, State::Delivering, State::Started]),
            ("0", &[State::Stopping, State::Attached, State::Finished]),
        ];
        for (warm, states) in all {
            scope.spawn(move || play(warm, states));
        }
    });
}

/// Nobody ends a Keep whose tenant's command was killed: its contract does.
#[test]
#[ignore = "it waits for the times of contracts, more than two minutes"]
fn a_keep_ends_after_its_tenant_was_killed() {
    needs_python();
    let stage = Stage::new("0");
    for state in [State::Running, State::Launched, State::Released] {
        let mut tenant = stage.reach(state).unwrap();
        tenant.kill().unwrap();
        tenant.wait().unwrap();
    }
    stage.door.let_go();
    assert_eq!(stage.living().len(), 3);
    // 60 seconds without a session, and 120 without an application.
    let begun = Instant::now();
    while !stage.living().is_empty() {
        assert!(
            begun.elapsed() < Duration::from_mins(3),
            "{:?}",
            stage.living()
        );
        thread::sleep(Duration::from_secs(1));
    }
    wait_until(|| stage.host.keeps().is_empty());
    stage.works();
}
