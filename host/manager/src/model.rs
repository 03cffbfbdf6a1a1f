// SPDX-License-Identifier: Apache-2.0

//! Every order of events for a Keep under an open contract: two tenants claim it and ask again, the manager is killed
//! anywhere, its disk fails, the Keep dies, is replaced, is attached to and ended. `stateright` searches them; the
//! decisions are the manager's own functions of [`crate::record`].

use crate::record::tests::{claim, open};
use crate::record::{Claim, ClaimConsequence, Claimed, End, Record, Unclaimable, consequence};
use stateright::{Checker, Model, Property};
use std::hash::{Hash, Hasher};

/// How often something may go wrong in one story.
const KILLS: u8 = 2;
const FAILURES: u8 = 1;
const LOST_ANSWERS: u8 = 1;

/// A tenant: a token and a key.
type Tenant = usize;

fn claim_of(tenant: Tenant) -> Claim {
    let number = u8::try_from(tenant + 1).unwrap();
    claim(number, number)
}

/// The Keep in the memory of the manager that launched it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Memory {
    holder: Option<Tenant>,
    ending: bool,
    alive: bool,
}

/// A tenant's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
    /// Not asked, or without an answer: it will be asked again.
    None,
    /// It has the lock of launches, and the Keep in memory was checked.
    Checked,
    /// The record was asked; `None`: it could not be written.
    Recorded(Option<Result<(), &'static str>>),
    /// The answer is on its way.
    Decided(Result<(), &'static str>),
    /// The answer is there.
    Told(Result<(), &'static str>),
}

#[derive(Clone, Debug)]
struct State {
    record: Record,
    memory: Option<Memory>,
    locked: Option<Tenant>,
    requests: [Request; 2],
    attached: [bool; 2],
    /// Tenants who were ever told that the Keep is theirs.
    given: [bool; 2],
    kills: u8,
    failures: u8,
    lost: u8,
}

impl State {
    fn owner(&self) -> Option<Tenant> {
        (0..2).find(|tenant| self.record.owner == Some(claim_of(*tenant).owner))
    }

    /// Everything that distinguishes two states.
    fn key(&self) -> impl Hash + Eq + use<> {
        (
            self.owner(),
            self.record.end.is_some(),
            self.memory.clone(),
            self.locked,
            self.requests,
            self.attached,
            self.given,
            (self.kills, self.failures, self.lost),
        )
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ask(Tenant),
    Record(Tenant),
    /// The disk fails; true: the written data exists nevertheless.
    FailToRecord(Tenant, bool),
    Decide(Tenant),
    Tell(Tenant),
    LoseAnswer(Tenant),
    /// The manager is killed, and started again.
    Kill,
    /// The Keep ends by itself, or by a wish that was made.
    Die,
    RecordEnd,
    /// Another Keep needs the place.
    GiveWay,
    Attach(Tenant),
    Delete(Tenant),
}

fn name(reason: Unclaimable) -> &'static str {
    match reason {
        Unclaimable::Taken => "keep.taken",
        Unclaimable::Gone => "keep.gone",
        Unclaimable::Unknown => "contract.open",
    }
}

fn end() -> End {
    End {
        reason: "end".to_string(),
        code: None,
        at: 1,
    }
}

struct Claims;

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            record: open(),
            memory: Some(Memory {
                holder: None,
                ending: false,
                alive: true,
            }),
            locked: None,
            requests: [Request::None; 2],
            attached: [false; 2],
            given: [false; 2],
            kills: 0,
            failures: 0,
            lost: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for tenant in 0..2 {
            match state.requests[tenant] {
                Request::None if state.locked.is_none() => actions.push(Action::Ask(tenant)),
                Request::Checked => {
                    actions.push(Action::Record(tenant));
                    if state.failures < FAILURES {
                        actions.push(Action::FailToRecord(tenant, false));
                        actions.push(Action::FailToRecord(tenant, true));
                    }
                }
                Request::Recorded(_) => actions.push(Action::Decide(tenant)),
                Request::Decided(_) => {
                    actions.push(Action::Tell(tenant));
                    if state.lost < LOST_ANSWERS {
                        actions.push(Action::LoseAnswer(tenant));
                    }
                }
                _ => {}
            }
            if let Some(memory) = &state.memory
                && memory.holder == Some(tenant)
                && memory.alive
            {
                if !state.attached[tenant] {
                    actions.push(Action::Attach(tenant));
                }
                if !memory.ending {
                    actions.push(Action::Delete(tenant));
                }
            }
        }
        if state.kills < KILLS {
            actions.push(Action::Kill);
        }
        if let Some(memory) = &state.memory {
            if memory.alive {
                actions.push(Action::Die);
                if memory.holder.is_none() && !memory.ending && state.locked.is_none() {
                    actions.push(Action::GiveWay);
                }
            } else if state.record.end.is_none() {
                actions.push(Action::RecordEnd);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(tenant) => {
                let refused = state
                    .memory
                    .as_ref()
                    .is_some_and(|memory| memory.holder.is_none() && memory.ending);
                if refused {
                    state.requests[tenant] = Request::Decided(Err("keep.gone"));
                } else {
                    state.locked = Some(tenant);
                    state.requests[tenant] = Request::Checked;
                }
            }
            Action::Record(tenant) => {
                let recorded = state.record.claim(&claim_of(tenant));
                state.requests[tenant] =
                    Request::Recorded(Some(recorded.map(drop_claimed).map_err(name)));
                apply(&mut state, tenant, consequence(Some(recorded.into())));
            }
            Action::FailToRecord(tenant, written) => {
                state.failures += 1;
                if written {
                    let _ = state.record.claim(&claim_of(tenant));
                }
                state.requests[tenant] = Request::Recorded(None);
                apply(&mut state, tenant, consequence(None));
            }
            Action::Decide(tenant) => {
                let Request::Recorded(recorded) = state.requests[tenant] else {
                    return None;
                };
                state.locked = None;
                state.requests[tenant] = Request::Decided(recorded.unwrap_or(Err("store")));
            }
            Action::Tell(tenant) => {
                let Request::Decided(answer) = state.requests[tenant] else {
                    return None;
                };
                state.requests[tenant] = Request::Told(answer);
                state.given[tenant] |= answer.is_ok();
            }
            Action::LoseAnswer(tenant) => {
                state.lost += 1;
                state.requests[tenant] = Request::None;
            }
            Action::Kill => {
                state.kills += 1;
                state.memory = None;
                state.locked = None;
                state.attached = [false; 2];
                // The next manager begins with this.
                if state.record.end.is_none() {
                    state.record.end = Some(end());
                }
                for request in &mut state.requests {
                    if !matches!(request, Request::Told(_)) {
                        *request = Request::None;
                    }
                }
            }
            Action::Die => {
                state.memory.as_mut()?.alive = false;
                state.attached = [false; 2];
            }
            Action::RecordEnd => state.record.end = Some(end()),
            Action::Attach(tenant) => state.attached[tenant] = true,
            Action::GiveWay | Action::Delete(_) => state.memory.as_mut()?.ending = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nobody but one tenant is ever given the Keep",
                |_, state: &State| state.given != [true; 2] && state.attached != [true; 2],
            ),
            Property::always("whoever has the Keep is on the disk", |_, state: &State| {
                (0..2).all(|tenant| {
                    let has = state.given[tenant] || state.attached[tenant];
                    !has || state.owner() == Some(tenant)
                })
            }),
            // Its tenant, or the manager for another Keep's sake.
            Property::always("somebody can end a Keep that lives", |_, state: &State| {
                state.memory.as_ref().is_none_or(|memory| {
                    !memory.alive || memory.ending || memory.holder == state.owner()
                })
            }),
            Property::eventually("every claim is answered", |_, state: &State| {
                state
                    .requests
                    .iter()
                    .all(|request| matches!(request, Request::Told(_)))
            }),
            Property::sometimes("a tenant attaches", |_, state: &State| state.attached[0]),
            Property::sometimes("one gets it and one does not", |_, state: &State| {
                state.requests == [Request::Told(Ok(())), Request::Told(Err("keep.taken"))]
            }),
            Property::sometimes("nobody gets it", |_, state: &State| {
                state.requests == [Request::Told(Err("keep.gone")); 2]
            }),
            Property::sometimes(
                "a claim outlives a kill before its answer",
                |_, state: &State| state.kills > 0 && state.given[1] && state.record.end.is_some(),
            ),
            Property::sometimes(
                "a claim that may be lost ends the Keep",
                |_, state: &State| {
                    state.failures > 0 && state.memory.as_ref().is_some_and(|memory| memory.ending)
                },
            ),
        ]
    }
}

fn drop_claimed(_: Claimed) {}

/// Carries out the manager's step with its Keep, before it gives the lock back.
fn apply(state: &mut State, tenant: Tenant, consequence: ClaimConsequence) {
    let Some(memory) = &mut state.memory else {
        return;
    };
    match consequence {
        ClaimConsequence::Give => {
            memory.holder.get_or_insert(tenant);
        }
        ClaimConsequence::Withdraw if memory.holder.is_none() => memory.ending = true,
        ClaimConsequence::Withdraw | ClaimConsequence::Refuse(_) => {}
    }
}

#[test]
fn a_keep_has_one_tenant_in_every_order_of_events() {
    let checker = Claims.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 500);
}
