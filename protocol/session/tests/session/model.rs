// SPDX-License-Identifier: Apache-2.0

//! Every order of events up to a bound, over the machines themselves: two tenants who claim one Keep under an open
//! contract, connections that are cut anywhere, attaching again, stopping, ending. `stateright` searches them.

use core::hash::{Hash, Hasher};
use enarx_session::deployment::{Deployment, Part};
use enarx_session::document::{Exit, ExitKind, Started};
use enarx_session::keep::{self, Connection, Keep, Output};
use enarx_session::tenant::{self, Outcome, Released, Session, Streams, Unjudged, Wanted};
use enarx_session::{Moment, Refusal};
use enarx_session_drivers::fixture::{self, KEEP, OTHER_TENANT, TENANT, Values};
use sha2::{Digest, Sha256};
use stateright::{Checker, Model, Property};

const NOW: Moment = Moment(0);

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "two exist in a state")]
enum Stage {
    Unjudged(Session<Unjudged>),
    Released(Session<Released>),
}

/// A connection with both ends and the bytes in flight.
#[derive(Clone, Debug)]
struct Line {
    tenant: usize,
    stage: Stage,
    at_keep: Connection,
    up: Vec<u8>,
    down: Vec<u8>,
    /// The tenant has requested to release or to attach.
    acted: bool,
    /// Standard output received over this connection and those before it whose streams it took over.
    received: Vec<u8>,
}

/// A tenant with its state that outlives connections.
#[derive(Clone, Debug, Default)]
struct Tenant {
    tried: bool,
    /// The streams of the last connection that has ended, with their data.
    streams: Option<(Streams, Vec<u8>)>,
    /// The standard output of a complete session.
    complete: Option<Vec<u8>>,
    refused: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct State {
    keep: Keep,
    lines: Vec<Line>,
    opened: u8,
    tenants: [Tenant; 2],
    /// Deployments that were started: the tenants that own them.
    starts: Vec<usize>,
    written: u8,
    exited: bool,
    stopped: bool,
    stop_seen: bool,
    /// SHA-256 of all of the above, as `Debug` writes it.
    fingerprint: [u8; 32],
}

impl State {
    fn sealed(mut self) -> Self {
        self.fingerprint = [0; 32];
        self.fingerprint = Sha256::digest(format!("{self:?}")).into();
        self
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Connect(usize),
    TenantReads(usize),
    KeepReads(usize),
    Stop(usize),
    Cut(usize),
    Write,
    Exit,
}

struct Search {
    /// Most connections that may be opened.
    connections: u8,
    /// Most bytes that the application writes.
    writes: u8,
    /// The second tenant tries to claim the Keep.
    rival: bool,
    /// The first tenant may stop the application.
    stops: bool,
    contract: enarx_contract::Contract,
    deployments: [(Deployment, Values, [u8; 32]); 2],
}

const KEYS: [u8; 2] = [TENANT, OTHER_TENANT];

impl Search {
    fn new(connections: u8, writes: u8, rival: bool, stops: bool) -> Self {
        let contract = fixture::open();
        let deployment = |application: &[u8]| {
            let (deployment, values) = fixture::smallest(&contract, application);
            let digest = Sha256::digest(deployment.encode().expect("it is legal")).into();
            (deployment, values, digest)
        };
        Self {
            connections,
            writes,
            rival,
            stops,
            deployments: [deployment(b"first"), deployment(b"second")],
            contract,
        }
    }

    /// Makes the Keep's end handle everything on its way to it. False: the connection is over.
    fn keep_reads(&self, state: &mut State, index: usize) -> bool {
        let line = &mut state.lines[index];
        let bytes = core::mem::take(&mut line.up);
        let mut input = bytes.as_slice();
        let (mut report_data, mut started) = (None, false);
        while let Ok(Some(event)) = line.at_keep.receive(&mut state.keep, &mut input, NOW) {
            match event {
                keep::Event::Attest(data) => report_data = Some(data),
                keep::Event::Start(deployment) => {
                    let whose = |(own, ..): &(Deployment, Values, [u8; 32])| own == deployment;
                    let whose = self.deployments.iter().position(whose);
                    state.starts.push(whose.expect("one of the two"));
                    started = true;
                }
                keep::Event::Stop => state.stop_seen = true,
                _ => {}
            }
            if let Some(data) = report_data.take() {
                let report = fixture::report_bytes(&self.contract, data, 1);
                line.at_keep
                    .evidence(&mut state.keep, Some(&report), NOW)
                    .expect("the right report");
            }
        }
        if started {
            state.keep.started(Started::default());
        }
        loop {
            let bytes = line.at_keep.outgoing(&mut state.keep, NOW).to_vec();
            line.at_keep.sent(bytes.len());
            line.down.extend_from_slice(&bytes);
            if bytes.is_empty() {
                return !line.at_keep.is_closed() || !line.down.is_empty();
            }
        }
    }

    /// Makes the tenant's end handle everything on its way to it. The refusal ends the connection.
    fn tenant_reads(&self, state: &mut State, index: usize) -> Result<(), Refusal> {
        let line = &mut state.lines[index];
        let tenant = &mut state.tenants[line.tenant];
        let bytes = core::mem::take(&mut line.down);
        let mut input = bytes.as_slice();
        if let Stage::Unjudged(session) = &mut line.stage {
            if session.receive(&mut input)? {
                let released = session.clone().judge(&fixture::Marks, NOW, 1)?;
                line.stage = Stage::Released(released);
            } else {
                return Ok(());
            }
        }
        if let Stage::Released(session) = &mut line.stage {
            if !line.acted {
                line.acted = true;
                match session.state() {
                    enarx_session::binding::State::Unprovisioned => {
                        session.release(&self.deployments[line.tenant].0, NOW)?;
                    }
                    enarx_session::binding::State::Provisioned => {
                        let (streams, received) = tenant.streams.take().unwrap_or_default();
                        line.received = received;
                        session.attach(streams, NOW)?;
                    }
                }
            }
            let mut goodbye = false;
            while let Some(event) = session.receive(&mut input, NOW)? {
                match event {
                    tenant::Event::Output(Output::Stdout, bytes) => {
                        line.received.extend_from_slice(bytes);
                    }
                    tenant::Event::Receipt(_) => goodbye = true,
                    _ => {}
                }
            }
            if goodbye {
                let outcome = session.clone().finish();
                if matches!(outcome, Ok(Outcome::Complete(_))) {
                    tenant.complete = Some(line.received.clone());
                }
                session.bye();
            }
        }
        self.tenant_sends(line)
    }

    fn tenant_sends(&self, line: &mut Line) -> Result<(), Refusal> {
        let Stage::Released(session) = &mut line.stage else {
            return Ok(());
        };
        let values = &self.deployments[line.tenant].1;
        loop {
            let bytes = session.outgoing(NOW)?.to_vec();
            session.sent(bytes.len());
            line.up.extend_from_slice(&bytes);
            match session.wanted(NOW) {
                Some((part, ..)) => {
                    let index = usize::from(part != Part::Application);
                    session.supply(&values[index], NOW)?;
                }
                None if bytes.is_empty() => return Ok(()),
                None => {}
            }
        }
    }

    fn end(state: &mut State, index: usize, refusal: Option<&Refusal>) {
        let line = state.lines.remove(index);
        let tenant = &mut state.tenants[line.tenant];
        if let Some(refusal) = refusal {
            let known = [
                "session.replaced",
                "release.taken",
                // A tenant that does not know its progress finds the application that the other one has started.
                "session.continuity",
            ];
            let code = known.into_iter().find(|code| *code == refusal.code());
            tenant.refused.push(code.unwrap_or("another"));
        }
        if let Stage::Released(session) = line.stage
            && line.acted
        {
            tenant.streams = Some((session.into_streams(), line.received));
        }
        state.keep.disconnect(line.at_keep, NOW);
    }
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let own = fixture::own(&self.contract);
        vec![
            State {
                keep: Keep::new(self.contract.clone(), fixture::key(KEEP), own, NOW),
                lines: Vec::new(),
                opened: 0,
                tenants: Default::default(),
                starts: Vec::new(),
                written: 0,
                exited: false,
                stopped: false,
                stop_seen: false,
                fingerprint: [0; 32],
            }
            .sealed(),
        ]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.opened < self.connections && state.lines.len() < 2 {
            actions.push(Action::Connect(0));
            // The second tenant tries once.
            if self.rival && !state.tenants[1].tried {
                actions.push(Action::Connect(1));
            }
        }
        for (index, line) in state.lines.iter().enumerate() {
            actions.push(Action::Cut(index));
            if !line.up.is_empty() {
                actions.push(Action::KeepReads(index));
            }
            if !line.down.is_empty() {
                actions.push(Action::TenantReads(index));
            }
            if matches!(line.stage, Stage::Released(_))
                && line.tenant == 0
                && self.stops
                && !state.stopped
            {
                actions.push(Action::Stop(index));
            }
        }
        if !state.starts.is_empty() && !state.exited {
            if state.written < self.writes {
                actions.push(Action::Write);
            }
            actions.push(Action::Exit);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Connect(tenant) => {
                next.opened += 1;
                next.tenants[tenant].tried = true;
                let exporter = fixture::exporter(next.opened);
                let key = fixture::key(KEYS[tenant]);
                let at_keep = next.keep.connect(key, exporter, NOW).ok()?;
                // START may have been lost with its connection.
                let wanted = Wanted::Either(self.deployments[tenant].2);
                let mut session = Session::attest(
                    self.contract.clone(),
                    fixture::channel(KEYS[tenant], next.opened),
                    wanted,
                    None,
                    [next.opened; 32],
                    NOW,
                );
                let up = session.outgoing().to_vec();
                session.sent(up.len());
                next.lines.push(Line {
                    tenant,
                    stage: Stage::Unjudged(session),
                    at_keep,
                    up,
                    down: Vec::new(),
                    acted: false,
                    received: Vec::new(),
                });
            }
            Action::KeepReads(index) => {
                if !self.keep_reads(&mut next, index) {
                    Self::end(&mut next, index, None);
                }
            }
            Action::TenantReads(index) => {
                if let Err(refusal) = self.tenant_reads(&mut next, index) {
                    Self::end(&mut next, index, Some(&refusal));
                }
            }
            Action::Stop(index) => {
                next.stopped = true;
                let line = &mut next.lines[index];
                let Stage::Released(session) = &mut line.stage else {
                    return None;
                };
                session.stop(0).ok()?;
                self.tenant_sends(line).expect("honest");
            }
            Action::Cut(index) => Self::end(&mut next, index, None),
            Action::Write => {
                next.written += 1;
                let taken = next.keep.write(Output::Stdout, &[next.written]);
                assert_eq!(taken, 1, "there is room");
                self.keep_speaks(&mut next);
            }
            Action::Exit => {
                next.exited = true;
                let exit = Exit {
                    kind: ExitKind::Exited,
                    code: 0,
                };
                let sealing = next.keep.exited(exit, NOW).expect("it runs");
                let signature = fixture::sign(KEEP, &sealing.signing_input);
                next.keep.seal(signature, None).expect("it ended");
                self.keep_speaks(&mut next);
            }
        }
        Some(next.sealed())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one deployment, once", |_, state: &State| {
                state.starts.len() <= 1
            }),
            Property::always("output in order, once", |_, state: &State| {
                let expected: Vec<u8> = (1..=state.written).collect();
                state
                    .received()
                    .all(|(_, received)| expected.starts_with(received))
            }),
            Property::always("output for its owner alone", |_, state: &State| {
                state
                    .received()
                    .all(|(tenant, bytes)| bytes.is_empty() || state.starts == [tenant])
            }),
            Property::always("complete is everything", |_, state: &State| {
                let complete = state
                    .tenants
                    .iter()
                    .filter_map(|tenant| tenant.complete.as_ref());
                complete
                    .into_iter()
                    .all(|bytes| bytes.len() == usize::from(state.written))
            }),
            Property::always(
                "finished when the owner has everything",
                |_, state: &State| {
                    !state.keep.is_finished()
                        || state.tenants.iter().any(|tenant| tenant.complete.is_some())
                },
            ),
            Property::always("refused for a reason", |_, state: &State| {
                let all = state.tenants.iter().flat_map(|tenant| &tenant.refused);
                all.into_iter().all(|code| *code != "another")
            }),
            Property::sometimes("a newer connection replaces", |_, state: &State| {
                state.tenants[0].refused.contains(&"session.replaced")
            }),
            Property::sometimes(
                "complete over another connection",
                |search: &Self, state| {
                    let complete = state.tenants[0].complete.as_ref();
                    state.opened == search.connections
                        && complete.is_some_and(|bytes| bytes.len() == usize::from(search.writes))
                },
            ),
            Property::sometimes("finished", |_, state: &State| state.keep.is_finished()),
        ];
        if self.rival {
            properties.push(Property::sometimes(
                "the second claims it",
                |_, state: &State| state.starts == [1],
            ));
            properties.push(Property::sometimes(
                "the other is told",
                |_, state: &State| {
                    let told = |tenant: &Tenant| tenant.refused.contains(&"release.taken");
                    state.tenants.iter().all(|tenant| tenant.tried)
                        && state.tenants.iter().any(told)
                },
            ));
        }
        if self.stops {
            properties.push(Property::sometimes(
                "stopped and complete",
                |_, state: &State| state.stop_seen && state.tenants[0].complete.is_some(),
            ));
        }
        properties
    }
}

impl State {
    /// Returns the standard output that each tenant has, by each of its streams.
    fn received(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let lines = self
            .lines
            .iter()
            .map(|line| (line.tenant, line.received.as_slice()));
        let ended = self
            .tenants
            .iter()
            .enumerate()
            .filter_map(|(index, tenant)| {
                let (_, received) = tenant.streams.as_ref()?;
                Some((index, received.as_slice()))
            });
        lines.chain(ended)
    }
}

impl Search {
    /// The attached connection sends what is pending.
    fn keep_speaks(&self, state: &mut State) {
        for index in 0..state.lines.len() {
            self.keep_sends(state, index);
        }
    }

    fn keep_sends(&self, state: &mut State, index: usize) {
        let _ = self;
        let line = &mut state.lines[index];
        loop {
            let bytes = line.at_keep.outgoing(&mut state.keep, NOW).to_vec();
            line.at_keep.sent(bytes.len());
            line.down.extend_from_slice(&bytes);
            if bytes.is_empty() {
                return;
            }
        }
    }
}

fn search(model: Search, at_least: usize) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    // Every property that must hold held, and every one that must be reachable was reached.
    checker.assert_properties();
    let states = checker.unique_state_count();
    assert!(states >= at_least, "only {states} states");
}

#[test]
fn no_order_of_events_runs_two_applications() {
    search(Search::new(2, 1, true, false), 2000);
}

#[test]
fn no_order_of_events_loses_output_or_gives_it_twice() {
    search(Search::new(2, 2, false, true), 10_000);
}
