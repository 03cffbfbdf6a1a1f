// SPDX-License-Identifier: Apache-2.0

//! Traffic of one connection: the places, memory and time that it takes of a server; and the bounds that connections to
//! servers have, too. The peer is not trusted.
//!
//! Memory comes out of the budget of the instances: so peers that keep much waiting get no answer, and the Keep goes on.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::body::outgoing::SentProgress;
use crate::charge::Charge;
use crate::limits::Place;
use crate::lock::lock;

/// Longest time that a connection may be idle, and that a peer may take none of the waiting data.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Most bytes of the headers of a message.
pub const HEADERS_MAX: u32 = 32 * 1024;
/// Bytes that are kept of a connection in either direction.
pub const BUFFER: usize = 64 * 1024;
/// Bytes of a message that HTTP/2 keeps beside those that the component has written.
pub const SEND_BUFFER: usize = 32 * 1024;
/// Memory that a connection is counted as, in bytes: headers that are not whole yet, and buffers.
pub const CONNECTION_MEMORY: u64 = 64 * 1024;
/// Memory that is counted for TLS on each connection, in bytes: an incomplete handshake message or record, and
/// encrypted data that is not sent.
pub const TLS_MEMORY: u64 = 128 * 1024;

/// Interval of pings to an HTTP/2 peer, and the time to answer: a peer that disappeared silently is noticed even while
/// a request is answered.
pub const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Most requests of one connection that its peer reset before they were answered, minus the answered ones: beginning
/// and resetting costs a peer almost nothing, and the server an instance ("rapid reset", CVE-2023-44487).
const GIVEN_UP_MAX: u32 = 100;

/// The requests of one connection.
pub struct Traffic(Mutex<State>);

struct State {
    in_flight: usize,
    /// When a request came or ended last.
    moved: Instant,
    given_up: u32,
    /// The bodies that are sent.
    bodies: Vec<SentProgress>,
}

/// A judgement of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, and is judged again then.
    GoesOn(Instant),
    /// There was no request for a long time.
    IsIdle,
    /// Its peer takes none of the waiting data.
    IsStuck,
}

fn later(time: Instant) -> Instant {
    time.checked_add(PATIENCE).unwrap_or(time)
}

impl Traffic {
    /// The traffic of a connection that begins now.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            in_flight: 0,
            moved: now,
            given_up: 0,
            bodies: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// True if no request is in flight.
    pub fn is_quiet(&self) -> bool {
        self.lock().in_flight == 0
    }

    /// True if the peer resets more requests than it lets finish.
    pub fn is_abused(&self) -> bool {
        self.lock().given_up > GIVEN_UP_MAX
    }

    /// Checks the connection. Bodies of which the peer has taken nothing for too long are dropped, so that the
    /// component that writes them ends.
    pub fn judge(&self, now: Instant) -> Verdict {
        let mut state = self.lock();
        let mut moved = state.moved;
        let mut any_stuck = false;
        state.bodies.retain(|body| {
            let Some((last, is_owed)) = body.last() else {
                return false;
            };
            moved = moved.max(last);
            if is_owed && later(last) <= now {
                any_stuck = true;
                body.give_up();
            }
            true
        });
        if state.in_flight == 0 {
            let end = later(state.moved);
            return if end <= now {
                Verdict::IsIdle
            } else {
                Verdict::GoesOn(end)
            };
        }
        if any_stuck && later(moved) <= now {
            return Verdict::IsStuck;
        }
        Verdict::GoesOn(later(now))
    }
}

/// A request in flight, until its response was sent or it was reset.
pub struct Flight {
    traffic: Arc<Traffic>,
    is_answered: bool,
    _place: Place,
    _memory: Charge,
}

impl Flight {
    /// A request of a connection, with its place in the server and its memory.
    pub fn new(traffic: &Arc<Traffic>, place: Place, memory: Charge) -> Self {
        let mut state = traffic.lock();
        state.in_flight += 1;
        state.moved = Instant::now();
        drop(state);
        Self {
            traffic: Arc::clone(traffic),
            is_answered: false,
            _place: place,
            _memory: memory,
        }
    }

    /// There is a response, with this body if a component writes it.
    pub fn answered(&mut self, body: Option<SentProgress>) {
        self.is_answered = true;
        self.traffic.lock().bodies.extend(body);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.traffic.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.moved = Instant::now();
        state.given_up = if self.is_answered {
            state.given_up.saturating_sub(1)
        } else {
            state.given_up.saturating_add(1)
        };
        if state.in_flight == 0 {
            state.bodies.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::outgoing::{Message, OutgoingBody};
    use crate::limits::Places;
    use bytes::Bytes;
    use enarx_wasi::budget::{Allowance, Budget};
    use wasmtime_wasi_io::streams::OutputStream;

    fn flight(traffic: &Arc<Traffic>, budget: &Budget) -> Option<Flight> {
        let place = Places::new(1).try_take().expect("a place of its own");
        Some(Flight::new(traffic, place, Charge::take(budget, 100)?))
    }

    #[test]
    fn the_memory_of_a_request_is_given_back_with_it() {
        let (budget, traffic) = (Budget::new(250), Traffic::new(Instant::now()));
        let both = (flight(&traffic, &budget), flight(&traffic, &budget));
        assert!(both.0.is_some() && both.1.is_some());
        assert!(flight(&traffic, &budget).is_none() && !traffic.is_quiet());
        drop(both);
        assert!(traffic.is_quiet() && budget.take(250));
    }

    #[test]
    fn a_connection_without_requests_is_idle_after_a_while() {
        let begin = Instant::now();
        let traffic = Traffic::new(begin);
        let end = begin + PATIENCE;
        assert_eq!(traffic.judge(begin), Verdict::GoesOn(end));
        assert_eq!(traffic.judge(end), Verdict::IsIdle);
        let budget = Budget::new(100);
        let waits = flight(&traffic, &budget);
        // Its component takes its time, and nothing waits to be sent.
        let much_later = Instant::now() + 10 * PATIENCE;
        assert_eq!(
            traffic.judge(much_later),
            Verdict::GoesOn(much_later + PATIENCE)
        );
        drop(waits);
        assert!(matches!(traffic.judge(end), Verdict::GoesOn(_)));
    }

    #[test]
    fn a_peer_that_reads_nothing_is_stuck_and_its_component_ends() {
        let (budget, traffic) = (Budget::new(200), Traffic::new(Instant::now()));
        let mut bodies = Vec::new();
        let mut flights = Vec::new();
        for _ in 0..2 {
            let (mut body, sent) = OutgoingBody::new(Message::Response, None);
            let mut flight = flight(&traffic, &budget).expect("there is memory");
            flight.answered(Some(sent.progress()));
            let allowance = Allowance::new(&Budget::new(u64::MAX), u64::MAX);
            let stream = body.stream(&allowance).unwrap().expect("the first");
            flights.push(flight);
            bodies.push((body, sent, stream));
        }
        bodies[0].2.write(Bytes::from_static(b"waits")).unwrap();
        let now = Instant::now();
        assert!(matches!(traffic.judge(now), Verdict::GoesOn(_)));
        assert!(bodies[0].2.check_write().is_ok());
        let late = now + PATIENCE + Duration::from_secs(1);
        assert_eq!(traffic.judge(late), Verdict::IsStuck);
        assert!(bodies[0].2.check_write().is_err());
        assert!(bodies[1].2.check_write().is_ok());
        // Nothing waits any more.
        bodies.remove(0);
        flights.remove(0);
        assert!(matches!(traffic.judge(late), Verdict::GoesOn(_)));
    }

    #[test]
    fn a_peer_that_abandons_too_many_requests_is_detected() {
        let (budget, traffic) = (Budget::new(100), Traffic::new(Instant::now()));
        for _ in 0..GIVEN_UP_MAX {
            drop(flight(&traffic, &budget));
        }
        assert!(!traffic.is_abused());
        let mut answered = flight(&traffic, &budget).expect("there is memory");
        answered.answered(None);
        drop(answered);
        drop(flight(&traffic, &budget));
        assert!(!traffic.is_abused());
        drop(flight(&traffic, &budget));
        assert!(traffic.is_abused());
    }
}
