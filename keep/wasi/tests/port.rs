// SPDX-License-Identifier: Apache-2.0

//! The port against a host that follows a script: however many calls wait for an external event,
//! the other calls continue, and nothing is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use enarx_sallyport::keep::Violation;
use enarx_sallyport::poll::{ENTRY_SIZE, Entry, Events, REPORTED_MAX};
use enarx_sallyport::{
    Call, Doorbell, Facts, Handle, HostEnd, KeepEnd, Region, Slot, Status, Until,
};
use enarx_wasi::budget::Budget;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{MAX_TRANSFER, Operation, Platform, Port, Tasks};
use enarx_wasi::stream::Input;
use proptest::prelude::*;

/// The peer of a handle.
#[derive(Debug, Default)]
struct Peer {
    /// Received bytes or connections.
    incoming: usize,
    /// Bytes for which there is room.
    room: usize,
    /// Bytes that the Keep has written.
    written: Vec<u8>,
    /// There will be no more room.
    full: bool,
    closed: bool,
}

/// An external event while everybody sleeps.
#[derive(Clone, Copy, Debug)]
enum ExternalEvent {
    Incoming(u32, usize),
    Room(u32, usize),
}

struct World {
    end: HostEnd<Region>,
    peers: BTreeMap<u32, Peer>,
    waiting: Vec<(u32, Slot, Call, Vec<u8>)>,
    /// Watched handles, and their directions.
    watched: BTreeMap<u32, Events>,
    /// The number of entries that the Keep has had watched so far.
    entries: usize,
    script: VecDeque<ExternalEvent>,
    /// Reports every watched handle as ready.
    lies: bool,
    /// Most requests that waited at a time.
    most: usize,
    /// The number of doorbell calls, with or without sleep.
    doorbells: usize,
    accepted: u32,
    /// The number of posted completions when the last one was posted that is not a successful write.
    news: u32,
    /// The end for which the sleeping thread waits.
    sleeps: Option<Until>,
}

impl World {
    fn peer(&mut self, handle: Handle) -> &mut Peer {
        self.peers.entry(handle.0).or_default()
    }

    /// The reply to a call; `None` while it waits.
    fn reply(&mut self, call: &Call, input: &mut Vec<u8>) -> Option<(u64, Vec<u8>)> {
        match *call {
            Call::StreamRead { stream, length } => {
                let peer = self.peer(stream);
                let count = peer.incoming.min(length as usize);
                peer.incoming -= count;
                (count > 0).then(|| (0, vec![stream.0.to_le_bytes()[0]; count]))
            }
            Call::StreamWrite { stream, .. } => {
                let peer = self.peer(stream);
                let count = peer.room.min(input.len());
                peer.room -= count;
                let rest = input.split_off(count);
                peer.written.append(input);
                *input = rest;
                input.is_empty().then(|| (0, Vec::new()))
            }
            Call::TcpAccept { handle } => {
                let peer = self.peer(handle);
                peer.incoming = peer.incoming.checked_sub(1)?;
                self.accepted += 1;
                Some((u64::from(10_000 + self.accepted), Vec::new()))
            }
            Call::Poll { .. } => {
                for bytes in input.drain(..).as_slice().as_chunks::<8>().0 {
                    let entry = Entry::from_bytes(*bytes).expect("the Keep encodes well");
                    *self.watched.entry(entry.handle.0).or_default() |= entry.events;
                    self.entries += 1;
                }
                let lies = self.lies;
                let mut reply = Vec::new();
                for (handle, mut watched) in std::mem::take(&mut self.watched) {
                    let handle = Handle(handle);
                    let peer = self.peer(handle);
                    let mut ready = Events::empty();
                    ready.set(Events::READ, peer.incoming > 0 || lies || peer.closed);
                    ready.set(Events::WRITE, peer.room > 0 || lies || peer.closed);
                    let events = ready & watched;
                    if !events.is_empty() && reply.len() < (REPORTED_MAX * ENTRY_SIZE) as usize {
                        reply.extend(Entry { handle, events }.to_bytes());
                        watched -= events;
                    }
                    if !watched.is_empty() {
                        self.watched.insert(handle.0, watched);
                    }
                }
                (!reply.is_empty()).then_some((0, reply))
            }
            Call::Close { handle } => {
                self.peer(handle).closed = true;
                Some((0, Vec::new()))
            }
            Call::ClockWall => Some((7, Vec::new())),
            _ => panic!("not played: {call:?}"),
        }
    }

    /// Serves pending requests. True if something was completed.
    fn serve(&mut self) -> bool {
        let mut any = false;
        while let Some(submission) = self.end.next().expect("the Keep keeps the protocol") {
            let call = submission.call.expect("the Keep encodes well");
            if let Call::Cancel { id } = call {
                if let Some(place) = self.waiting.iter().position(|(other, ..)| *other == id) {
                    let (_, _, call, input) = self.waiting.remove(place);
                    // Like the executor: bytes that were sent cannot be called back.
                    let written = call.input_length() as usize - input.len();
                    let (status, value) = match call {
                        Call::StreamWrite { .. } if written > 0 => (Status::Ok, written as u64),
                        _ => (Status::Cancelled, 0),
                    };
                    self.end.complete(id, status, 0, value, 0).unwrap();
                }
                let id = submission.id;
                self.end.complete(id, Status::Ok, 0, 0, 0).unwrap();
                any = true;
                continue;
            }
            let mut input = vec![0; call.input_length() as usize];
            self.end.read_input(submission.slot, 0, &mut input).unwrap();
            self.waiting
                .push((submission.id, submission.slot, call, input));
        }
        for (id, slot, call, mut input) in std::mem::take(&mut self.waiting) {
            if let Call::StreamWrite { stream, .. } = call
                && self.peer(stream).full
            {
                self.end.complete(id, Status::NoSpace, 0, 0, 0).unwrap();
                self.news = self.end.completions_posted();
                any = true;
                continue;
            }
            match self.reply(&call, &mut input) {
                Some((value, bytes)) => {
                    let value = match call {
                        Call::StreamWrite { length, .. } => u64::from(length),
                        _ => value,
                    };
                    self.end.write_output(slot, 0, &bytes).unwrap();
                    let length = u32::try_from(bytes.len()).unwrap();
                    self.end.complete(id, Status::Ok, length, value, 0).unwrap();
                    if !matches!(call, Call::StreamWrite { .. }) {
                        self.news = self.end.completions_posted();
                    }
                    any = true;
                }
                None => self.waiting.push((id, slot, call, input)),
            }
        }
        self.most = self.most.max(self.waiting.len());
        any
    }
}

#[derive(Clone)]
struct Scripted(Arc<(Mutex<World>, Condvar)>);

impl Scripted {
    fn start() -> (Port, Self) {
        let words = enarx_sallyport::REGION_SIZE / 8;
        let memory: &'static [_] = (0..words)
            .map(|_| std::sync::atomic::AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak();
        let region = Region::from_static(memory).unwrap();
        let world = World {
            end: HostEnd::initialise(region, Facts::default()),
            peers: BTreeMap::new(),
            waiting: Vec::new(),
            watched: BTreeMap::new(),
            entries: 0,
            script: VecDeque::new(),
            lies: false,
            most: 0,
            doorbells: 0,
            accepted: 0,
            news: 0,
            sleeps: None,
        };
        let host = Self(Arc::new((Mutex::new(world), Condvar::new())));
        let port = Port::new(KeepEnd::attach(region).unwrap(), Arc::new(host.clone()));
        (port, host)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap()
    }

    fn script(&self, happenings: impl IntoIterator<Item = ExternalEvent>) {
        self.world().script.extend(happenings);
        self.0.1.notify_all();
    }
}

impl Doorbell for Scripted {
    fn ring(&self) {
        let mut world = self.world();
        world.doorbells += 1;
        world.serve();
        drop(world);
        self.0.1.notify_all();
    }

    fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>) {
        let mut world = self.world();
        world.doorbells += 1;
        loop {
            // An external event happens whatever the host does.
            let happening = world.script.pop_front();
            match happening {
                Some(ExternalEvent::Incoming(handle, count)) => {
                    world.peer(Handle(handle)).incoming += count;
                }
                Some(ExternalEvent::Room(handle, count)) => {
                    world.peer(Handle(handle)).room += count;
                }
                None => {}
            }
            world.serve();
            // A successful write is not news here, not even one that had to wait: a Keep that wants to know
            // continues to sleep.
            let completed = match until {
                Until::Completion => world.end.completions_posted(),
                Until::News => world.news,
            };
            world.sleeps = Some(until);
            if completed.wrapping_sub(seen).cast_signed() > 0 {
                world.sleeps = None;
                return;
            }
            if happening.is_none() {
                let longest = timeout.unwrap_or(Duration::from_secs(20));
                let (woken, waited) = self.0.1.wait_timeout(world, longest).unwrap();
                world = woken;
                if waited.timed_out() {
                    assert!(timeout.is_some(), "nothing will ever end this sleep");
                    world.sleeps = None;
                    return;
                }
            }
        }
    }
}

impl Platform for Scripted {
    fn violation(&self, violation: &Violation) -> ! {
        panic!("the host of this test is honest, but: {violation}")
    }

    fn exit(&self, code: i32) -> ! {
        panic!("exit {code}")
    }
}

fn read(port: &Port, handle: u32) -> Operation {
    read_up_to(port, handle, 100)
}

fn read_up_to(port: &Port, handle: u32, length: u32) -> Operation {
    let stream = Handle(handle);
    let call = Call::StreamRead { stream, length };
    port.start(&call, &[]).unwrap()
}

fn write(port: &Port, handle: u32, bytes: &[u8]) -> Operation {
    let call = Call::StreamWrite {
        stream: Handle(handle),
        length: u32::try_from(bytes.len()).unwrap(),
    };
    port.start(&call, &[bytes]).unwrap()
}

fn accept(port: &Port, handle: u32) -> Operation {
    let handle = Handle(handle);
    port.start(&Call::TcpAccept { handle }, &[]).unwrap()
}

/// Sleeps until an operation is answered.
fn wait_for(port: &Port, operation: &Operation) {
    port.block_on(operation.ready());
}

fn clock(port: &Port) {
    let answer = port.call(&Call::ClockWall, &[], &mut []).unwrap();
    assert_eq!(answer.value, 7);
}

/// More than there are slots.
const MORE_THAN_SLOTS: u32 = 1000;

#[test]
fn a_thousand_idle_peers_delay_no_other_call() {
    let (port, host) = Scripted::start();
    let operations: Vec<_> = (0..MORE_THAN_SLOTS)
        .map(|handle| read(&port, 100 + handle))
        .collect();
    clock(&port);
    // The one with an event is found, also among those that hold no slot.
    for speaker in [0, 1, 63, 64, 500, 999] {
        host.script([ExternalEvent::Incoming(100 + speaker, 3)]);
        wait_for(&port, &operations[speaker as usize]);
        clock(&port);
    }
    let ready = operations.iter().filter(|operation| operation.is_ready());
    assert_eq!(ready.count(), 6);
    assert!(host.world().most < 64, "{}", host.world().most);
}

#[test]
fn the_cost_of_one_peer_is_independent_of_the_others() {
    let (port, host) = Scripted::start();
    let mut operations: Vec<_> = (0..MORE_THAN_SLOTS)
        .map(|handle| read(&port, 100 + handle))
        .collect();
    clock(&port);
    let last = MORE_THAN_SLOTS - 1;
    for _ in 0..100 {
        host.script([ExternalEvent::Incoming(100 + last, 100)]);
        wait_for(&port, &operations[last as usize]);
        operations[last as usize] = read(&port, 100 + last);
    }
    // Each of the others is named once, and the one with the event each time.
    let entries = host.world().entries;
    assert!(entries <= MORE_THAN_SLOTS as usize + 100, "{entries}");
}

#[test]
fn peers_that_send_at_once_are_all_served() {
    let (port, host) = Scripted::start();
    let mut operations: Vec<_> = (0..MORE_THAN_SLOTS)
        .map(|handle| read(&port, 100 + handle))
        .collect();
    host.script((0..MORE_THAN_SLOTS).map(|handle| ExternalEvent::Incoming(100 + handle, 5)));
    for (handle, operation) in (0..MORE_THAN_SLOTS).zip(&mut operations) {
        let mut bytes = [0; 100];
        let answer = operation.take(&mut bytes).unwrap();
        assert_eq!(answer.length, 5);
        assert_eq!(bytes[0], (100 + handle).to_le_bytes()[0]);
    }
}

#[test]
fn untaken_answers_delay_no_other_call() {
    let (port, host) = Scripted::start();
    let operations: Vec<_> = (0..MORE_THAN_SLOTS)
        .map(|handle| read(&port, 100 + handle))
        .collect();
    host.script((0..MORE_THAN_SLOTS).map(|handle| ExternalEvent::Incoming(100 + handle, 5)));
    for operation in &operations {
        wait_for(&port, operation);
        clock(&port);
    }
}

#[test]
fn no_call_overtakes_an_earlier_one_on_its_handle() {
    let (port, host) = Scripted::start();
    // As many as have a slot at once.
    let idle: Vec<_> = (0..24).map(|handle| read(&port, 100 + handle)).collect();
    let first = write(&port, 500, b"a");
    drop(idle);
    clock(&port);
    let second = write(&port, 500, b"b");
    host.script([ExternalEvent::Room(500, 2)]);
    for written in [first, second] {
        wait_for(&port, &written);
    }
    assert_eq!(host.world().peer(Handle(500)).written, b"ab");
}

/// Otherwise each would be watched first, and cost another request to the host.
#[test]
fn abandoned_answers_free_their_slots() {
    let (port, host) = Scripted::start();
    for turn in 0..MORE_THAN_SLOTS {
        let handle = 100 + turn;
        let operation = read(&port, handle);
        if turn % 2 == 0 {
            host.script([ExternalEvent::Incoming(handle, 1)]);
            wait_for(&port, &operation);
        }
        drop(operation);
    }
    clock(&port);
    assert_eq!(host.world().entries, 0);
}

#[test]
fn a_cancelled_write_tells_how_much_was_written() {
    let (port, host) = Scripted::start();
    let text: Vec<u8> = (0..200).collect();
    let mut operations: Vec<_> = (0..MORE_THAN_SLOTS / 5)
        .map(|handle| write(&port, 100 + handle, &text))
        .collect();
    // Some hold a slot and others do not; some of both have been begun.
    host.script(
        (0..MORE_THAN_SLOTS / 5)
            .step_by(3)
            .map(|it| ExternalEvent::Room(100 + it, 50)),
    );
    port.block_on(port.sleep_until(Instant::now() + Duration::from_millis(50)));
    let mut counts = Vec::new();
    for (handle, operation) in (100..).zip(&mut operations) {
        let count = operation.take_back().unwrap();
        assert_eq!(host.world().peer(Handle(handle)).written, text[..count]);
        assert_eq!(operation.take_back(), Err(Errno::Invalid));
        clock(&port);
        counts.push(count);
    }
    assert!(counts.contains(&0) && counts.contains(&50), "{counts:?}");
    // Room that appears later is not theirs.
    host.script((0..MORE_THAN_SLOTS / 5).map(|handle| ExternalEvent::Room(100 + handle, 200)));
    let mut whole = write(&port, 100, b"whole");
    wait_for(&port, &whole);
    assert_eq!(whole.take_back(), Ok(5));
    for (handle, count) in (100..).zip(counts) {
        let more: &[u8] = if handle == 100 { b"whole" } else { b"" };
        let expected = [&text[..count], more].concat();
        assert_eq!(host.world().peer(Handle(handle)).written, expected);
    }
}

#[test]
fn peers_that_do_not_read_delay_no_other_call() {
    let (port, host) = Scripted::start();
    let text: Vec<u8> = (0..200).collect();
    let mut operations: Vec<_> = (0..MORE_THAN_SLOTS / 5)
        .map(|handle| write(&port, 100 + handle, &text))
        .collect();
    clock(&port);
    // Room appears in pieces, so that a write is begun and has to wait again.
    for size in [1, 99, 60, 40] {
        host.script((0..MORE_THAN_SLOTS / 5).map(|handle| ExternalEvent::Room(100 + handle, size)));
    }
    for operation in &mut operations {
        assert_eq!(operation.take(&mut []).unwrap().value, 200);
    }
    for (handle, peer) in &host.world().peers {
        assert_eq!(peer.written, text, "{handle}");
    }
}

#[test]
fn a_host_that_calls_every_handle_ready_only_delays() {
    let (port, host) = Scripted::start();
    host.world().lies = true;
    let operations: Vec<_> = (0..200).map(|handle| read(&port, 100 + handle)).collect();
    for speaker in [150, 199, 30] {
        clock(&port);
        host.script([ExternalEvent::Incoming(100 + speaker, 3)]);
        wait_for(&port, &operations[speaker as usize]);
    }
    assert!(host.world().most < 64, "{}", host.world().most);
}

#[test]
fn an_untaken_connection_is_closed() {
    let (port, host) = Scripted::start();
    // Cancelled before it arrives, cancelled when it is there, and cancelled while watched.
    drop(accept(&port, 50));
    let there = accept(&port, 51);
    host.script([ExternalEvent::Incoming(51, 1)]);
    wait_for(&port, &there);
    drop(there);
    let idle: Vec<_> = (0..100).map(|handle| accept(&port, 100 + handle)).collect();
    clock(&port);
    drop(idle);
    clock(&port);
    let world = host.world();
    let polls = |call: &Call| matches!(call, Call::Poll { .. });
    let waits = world.waiting.iter().find(|(_, _, call, _)| !polls(call));
    assert!(waits.is_none(), "{waits:?}");
    assert_eq!(world.accepted, 1);
    assert!(world.peers[&10_001].closed);
}

#[test]
fn an_answer_is_taken_once() {
    let (port, host) = Scripted::start();
    let mut operation = read(&port, 5);
    host.script([ExternalEvent::Incoming(5, 2)]);
    assert_eq!(operation.take(&mut [0; 8]).unwrap().length, 2);
    assert_eq!(operation.take(&mut [0; 8]), Err(Errno::Invalid));
}

#[test]
fn a_length_that_does_not_fit_is_refused() {
    let (port, _host) = Scripted::start();
    let call = Call::StreamWrite {
        stream: Handle(5),
        length: 3,
    };
    assert_eq!(port.start(&call, &[b"four"]).err(), Some(Errno::Invalid));
}

#[test]
fn threads_share_one_sleep() {
    let (port, host) = Scripted::start();
    std::thread::scope(|scope| {
        for handle in 0..8_u32 {
            let port = port.clone();
            scope.spawn(move || {
                for turn in 0..50 {
                    let mut operation = read_up_to(&port, 100 + handle, 1);
                    let mut bytes = [0; 1];
                    let answer = operation.take(&mut bytes).unwrap();
                    assert_eq!(answer.length, 1, "{handle} {turn}");
                    clock(&port);
                }
            });
        }
        // Not in the order in which the threads wait.
        for turn in 0..50 {
            for handle in [3, 1, 7, 0, 2, 6, 5, 4] {
                host.script([ExternalEvent::Incoming(100 + handle, 1)]);
            }
            if turn % 10 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

/// A flag that is set when this is dropped, also by a panic.
struct Setter<'a>(&'a AtomicBool);

impl Drop for Setter<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_answer_collected_by_another_thread_ends_the_sleep() {
    let (port, host) = Scripted::start();
    let ended = AtomicBool::new(false);
    host.world().end.set_polling(true);
    let idle = read(&port, 101);
    std::thread::scope(|scope| {
        // A host that polls.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                host.world().serve();
                std::thread::yield_now();
            }
        });
        // Collects everything that has arrived, for all.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                assert!(!idle.is_ready());
            }
        });
        let _ended = Setter(&ended);
        for _ in 0..2000 {
            host.world().peer(Handle(100)).incoming += 1;
            let answer = read(&port, 100).take(&mut [0; 100]).unwrap();
            assert_eq!(answer.length, 1);
        }
    });
}

/// Reads `length` bytes of a stream, at most `piece` at a time, and compares them with the peer's data.
fn read_all(port: &Port, input: &Input, handle: u32, length: usize, piece: usize) {
    let mut read = 0;
    while read < length {
        let bytes = port.block_on(input.read_some(piece)).unwrap();
        assert!(!bytes.is_empty() && bytes.len() <= piece);
        assert_eq!(bytes, vec![handle.to_le_bytes()[0]; bytes.len()]);
        read += bytes.len();
    }
    assert_eq!(read, length);
}

#[test]
fn a_large_stream_costs_few_doorbells() {
    let (port, host) = Scripted::start();
    let input = Input::own(port.clone(), Handle(5), &Budget::new(1 << 20));
    let (length, piece) = (128 * MAX_TRANSFER, MAX_TRANSFER / 2);
    host.world().peer(Handle(5)).incoming = length;
    let begin = Instant::now();
    read_all(&port, &input, 5, length, piece);
    // The host performs eight reads of such pieces at a time. In addition, a program that does not sleep makes it look every
    // millisecond.
    let looks = usize::try_from(begin.elapsed().as_millis()).unwrap();
    let doorbells = host.world().doorbells;
    assert!(
        doorbells <= length / piece / 8 + 2 + looks,
        "{doorbells} in {looks} ms"
    );
    // The other end's bytes cause no wait: those that the program has not requested are in transit.
    let waiting = host.world().waiting.len();
    assert!(waiting <= 8, "{waiting}");
}

#[test]
fn small_streams_and_those_without_memory_are_not_read_ahead() {
    let (port, host) = Scripted::start();
    let quiet = Input::own(port.clone(), Handle(5), &Budget::new(1 << 20));
    let poor = Input::own(port.clone(), Handle(6), &Budget::new(1000));
    for _ in 0..20 {
        host.script([ExternalEvent::Incoming(5, 1000)]);
        read_all(&port, &quiet, 5, 1000, 64 << 10);
        host.script([ExternalEvent::Incoming(6, 2 * MAX_TRANSFER)]);
        read_all(&port, &poor, 6, 2 * MAX_TRANSFER, 64 << 10);
        let world = host.world();
        assert_eq!((world.waiting.len(), world.most), (0, 1));
    }
}

#[test]
fn streams_that_are_read_ahead_leave_room_for_others() {
    let (port, host) = Scripted::start();
    let budget = Budget::new(100 << 20);
    let inputs: Vec<_> = (0..100)
        .map(|handle| Input::own(port.clone(), Handle(100 + handle), &budget))
        .collect();
    for (handle, input) in (100..).zip(&inputs) {
        host.script([ExternalEvent::Incoming(handle, 2 * MAX_TRANSFER)]);
        read_all(&port, input, handle, 2 * MAX_TRANSFER, 64 << 10);
    }
    // None of them sends any more: requests to them hold less than half of the slots.
    let waiting = host.world().waiting.len();
    assert!((8..32).contains(&waiting), "{waiting}");
    clock(&port);
    for (handle, input) in (100..).zip(&inputs) {
        host.script([ExternalEvent::Incoming(handle, 10)]);
        read_all(&port, input, handle, 10, 64 << 10);
    }
    drop(inputs);
    clock(&port);
    assert_eq!(
        host.world().waiting.len(),
        0,
        "something was not called back"
    );
}

#[test]
fn a_program_that_never_sleeps_hears_its_peer() {
    let (port, host) = Scripted::start();
    let operation = read(&port, 5);
    host.world().peer(Handle(5)).incoming = 1;
    // It polls again and again, and never waits.
    let begin = Instant::now();
    while !port.block_on(std::future::ready(operation.is_ready())) {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn tasks_are_polled_only_when_ready() {
    let (port, host) = Scripted::start();
    let tasks = Tasks::default();
    let spawner = tasks.spawner();
    let (polls, heard) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    for handle in 100..100 + MORE_THAN_SLOTS {
        let (operation, port) = (read(&port, handle), port.clone());
        let (polls, heard) = (Arc::clone(&polls), Arc::clone(&heard));
        spawner.spawn(async move {
            let mut answer = std::pin::pin!(operation.ready());
            std::future::poll_fn(|context| {
                polls.fetch_add(1, Ordering::Relaxed);
                answer.as_mut().poll(context)
            })
            .await;
            port.sleep_until(Instant::now() + Duration::from_millis(1))
                .await;
            heard.lock().unwrap().push(handle);
        });
    }
    let speakers = [100, 101, 163, 164, 600, 1099];
    host.script(speakers.map(|speaker| ExternalEvent::Incoming(speaker, 3)));
    let all = || heard.lock().unwrap().len() == speakers.len();
    let begin = Instant::now();
    while !all() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        tasks.run(
            &port,
            port.sleep_until(Instant::now() + Duration::from_millis(5)),
        );
    }
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    assert_eq!(heard, speakers);
    let polls = polls.load(Ordering::Relaxed);
    assert_eq!(polls, MORE_THAN_SLOTS as usize + speakers.len());
    drop(tasks);
    clock(&port);
}

#[test]
fn an_output_error_is_reported_once_at_the_end_at_the_latest() {
    const OUT: Handle = Handle::STDOUT;
    let (port, host) = Scripted::start();
    let has_room = |room, full| {
        let mut world = host.world();
        (world.peer(OUT).room, world.peer(OUT).full) = (room, full);
    };
    has_room(usize::MAX, false);
    // From this many bytes on, a write is not waited for.
    port.write(OUT, &vec![0; 64 << 10]).unwrap();
    let ways: [fn(&Port) -> _; 2] = [|port| port.flush(OUT), |port| port.write(OUT, b"!")];
    for told in ways {
        has_room(0, false);
        for _ in 0..3 {
            port.write(OUT, b"?").unwrap();
        }
        has_room(0, true);
        assert_eq!(told(&port), Err(Errno::NoSpace));
        has_room(usize::MAX, false);
        port.flush(OUT).unwrap();
        port.write(OUT, b"!").unwrap();
        port.flush(OUT).unwrap();
    }
}

#[test]
fn the_success_of_an_unawaited_write_ends_no_sleep() {
    const ROUNDS: usize = 100;
    let (port, host) = Scripted::start();
    let (its_port, its_host) = (port.clone(), host.clone());
    host.script([ExternalEvent::Room(100, ROUNDS)]);
    Tasks::default().run(&port, async move {
        for _ in 0..ROUNDS {
            let reading = read(&its_port, 100);
            let written = write(&its_port, 100, b"!");
            // The host takes the write first, and learns of the peer when it polls next.
            its_host.script([ExternalEvent::Room(101, 1), ExternalEvent::Incoming(100, 1)]);
            reading.ready().await;
            assert!(written.is_ready());
        }
    });
    let doorbells = host.world().doorbells;
    assert!(doorbells <= ROUNDS + 10, "{doorbells}");
}

#[test]
fn a_task_that_begins_to_await_a_write_is_woken() {
    let (port, host) = Scripted::start();
    let (tasks, begin) = (Tasks::default(), Instant::now());
    let heard = Arc::new(AtomicUsize::new(0));
    let (its_port, its_host, its_heard) = (port.clone(), host.clone(), Arc::clone(&heard));
    std::thread::scope(|scope| {
        scope.spawn(|| tasks.help(&port));
        let ended: Arc<Mutex<Option<Waker>>> = Arc::default();
        let its_ended = Arc::clone(&ended);
        tasks.spawner().spawn_long(async move {
            // Until both threads know the deadline, of which one notifies the other.
            its_port
                .sleep_until(Instant::now() + Duration::from_millis(20))
                .await;
            let writing = write(&its_port, 100, b"!");
            // The other thread sleeps, and nobody waits for the write.
            while its_host.world().sleeps != Some(Until::News) {
                std::thread::yield_now();
            }
            let mut is_told = false;
            std::future::poll_fn(|context| {
                if writing.poll_ready(context) {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut is_told, true) {
                    its_host.script([ExternalEvent::Room(100, 1)]);
                }
                Poll::Pending
            })
            .await;
            its_heard.fetch_add(1, Ordering::SeqCst);
            if let Some(waker) = its_ended.lock().unwrap().take() {
                waker.wake();
            }
        });
        let mut limit = Box::pin(port.sleep_until(Instant::now() + Duration::from_secs(20)));
        let heard = Arc::clone(&heard);
        tasks.run(
            &port,
            std::future::poll_fn(move |context| {
                *ended.lock().unwrap() = Some(context.waker().clone());
                if heard.load(Ordering::SeqCst) > 0 {
                    return Poll::Ready(());
                }
                limit.as_mut().poll(context)
            }),
        );
    });
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert!(begin.elapsed() < Duration::from_secs(20), "at the limit");
}

#[test]
fn a_computing_task_delays_no_other_while_a_thread_is_free() {
    let (port, host) = Scripted::start();
    let tasks = Tasks::default();
    let spawner = tasks.spawner();
    let (heard, computes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for handle in 100..164 {
        let (operation, heard, port) = (read(&port, handle), Arc::clone(&heard), port.clone());
        spawner.spawn(async move {
            operation.ready().await;
            // Later than the deadlines that the sleeping threads knew.
            port.sleep_until(Instant::now() + Duration::from_millis(1))
                .await;
            heard.fetch_add(1, Ordering::SeqCst);
        });
    }
    // Two at a time compute until all others have heard from their peers.
    let patience = Instant::now() + Duration::from_secs(20);
    for _ in 0..2 {
        let (heard, computes) = (Arc::clone(&heard), Arc::clone(&computes));
        spawner.spawn_long(async move {
            computes.fetch_add(1, Ordering::SeqCst);
            while heard.load(Ordering::SeqCst) < 64 || computes.load(Ordering::SeqCst) < 2 {
                assert!(Instant::now() < patience);
                std::hint::spin_loop();
            }
        });
    }
    let (all, its_port) = (Arc::clone(&heard), port.clone());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| tasks.help(&port));
        }
        scope.spawn(|| {
            for handle in 100..164 {
                host.script([ExternalEvent::Incoming(handle, 1)]);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        tasks.run(&port, async move {
            while all.load(Ordering::SeqCst) < 64 {
                its_port
                    .sleep_until(Instant::now() + Duration::from_millis(2))
                    .await;
            }
        });
    });
    assert_eq!(computes.load(Ordering::SeqCst), 2);
}

/// No help was requested at the beginning of the slow one: all before it were quick.
#[test]
fn a_task_that_computes_unexpectedly_long_delays_no_other() {
    let (port, host) = Scripted::start();
    let tasks = Tasks::default();
    let (spawner, heard) = (tasks.spawner(), Arc::new(AtomicUsize::new(0)));
    let patience = Instant::now() + Duration::from_secs(20);
    let (operation, its_heard) = (read(&port, 100), Arc::clone(&heard));
    spawner.spawn(async move {
        operation.ready().await;
        its_heard.fetch_add(1, Ordering::SeqCst);
    });
    std::thread::scope(|scope| {
        scope.spawn(|| tasks.help(&port));
        let (its_port, its_host) = (port.clone(), host.clone());
        tasks.run(&port, async move {
            for turn in 0..100 {
                let (sender, quick) = futures_channel::oneshot::channel();
                spawner.spawn_long(async move { sender.send(turn).unwrap() });
                assert_eq!(quick.await, Ok(turn));
            }
            its_host.script([ExternalEvent::Incoming(100, 1)]);
            let its_heard = Arc::clone(&heard);
            spawner.spawn_long(async move {
                while its_heard.load(Ordering::SeqCst) == 0 {
                    assert!(Instant::now() < patience, "nobody heard of the peer");
                    std::hint::spin_loop();
                }
            });
            while heard.load(Ordering::SeqCst) == 0 {
                its_port
                    .sleep_until(Instant::now() + Duration::from_millis(2))
                    .await;
            }
        });
    });
}

#[test]
fn timers_end_in_order_and_leave_nothing_behind() {
    let (port, _host) = Scripted::start();
    let tasks = Tasks::default();
    let (spawner, ended) = (tasks.spawner(), Arc::new(Mutex::new(Vec::new())));
    let begin = Instant::now();
    for delay in [30, 10, 20, 10] {
        let (port, ended) = (port.clone(), Arc::clone(&ended));
        spawner.spawn(async move {
            let deadline = begin + Duration::from_millis(delay);
            port.sleep_until(deadline).await;
            assert!(Instant::now() >= deadline);
            ended.lock().unwrap().push(delay);
        });
    }
    // A cancelled one wakes nobody.
    drop(port.sleep_until(begin + Duration::from_millis(15)));
    let (its_port, its_ended) = (port.clone(), Arc::clone(&ended));
    tasks.run(&port, async move {
        // On a busy machine all of them may be over at once, and this one with them.
        while its_ended.lock().unwrap().len() < 4 {
            let next = Instant::now() + Duration::from_millis(1);
            its_port.sleep_until(next).await;
        }
    });
    assert_eq!(*ended.lock().unwrap(), [10, 10, 20, 30]);
}

/// A step of a program, or of the outside.
#[derive(Clone, Debug)]
enum Turn {
    Read(u32),
    Write(u32, usize),
    Accept(u32),
    Drop(usize),
    Take(usize),
    Clock,
    Happens(u32, usize),
    Lies(bool),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let handle = 100..130_u32;
    let turn = prop_oneof![
        4 => handle.clone().prop_map(Turn::Read),
        2 => (handle.clone(), 1..300_usize).prop_map(|(handle, length)| Turn::Write(handle, length)),
        1 => (200..210_u32).prop_map(Turn::Accept),
        1 => any::<usize>().prop_map(Turn::Drop),
        2 => any::<usize>().prop_map(Turn::Take),
        1 => Just(Turn::Clock),
        3 => (handle, 1..100_usize).prop_map(|(handle, count)| Turn::Happens(handle, count)),
        1 => any::<bool>().prop_map(Turn::Lies),
    ];
    proptest::collection::vec(turn, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever waits and whichever peer sends: a call that does not wait is answered, at most the permitted slots
    /// are held, and every operation ends once its peer has sent something.
    #[test]
    fn every_call_ends(turns in turns()) {
        let (port, host) = Scripted::start();
        let mut operations: Vec<(u32, Operation)> = Vec::new();
        for turn in turns {
            match turn {
                Turn::Read(handle) => operations.push((handle, read(&port, handle))),
                Turn::Write(handle, length) => {
                    operations.push((handle, write(&port, handle, &vec![7; length])));
                }
                Turn::Accept(handle) => operations.push((handle, accept(&port, handle))),
                Turn::Drop(index) if !operations.is_empty() => {
                    operations.swap_remove(index % operations.len());
                }
                Turn::Take(index) if !operations.is_empty() => {
                    let (handle, mut operation) = operations.swap_remove(index % operations.len());
                    // Others may wait for the same handle and be faster.
                    let enough = operations.len() + 1;
                    host.script((0..enough).flat_map(|_| [
                        ExternalEvent::Incoming(handle, 100),
                        ExternalEvent::Room(handle, 300),
                    ]));
                    operation.take(&mut [0; 100]).unwrap();
                }
                Turn::Drop(_) | Turn::Take(_) => {}
                Turn::Clock => clock(&port),
                Turn::Happens(handle, count) => host.script([ExternalEvent::Incoming(handle, count)]),
                Turn::Lies(lies) => host.world().lies = lies,
            }
        }
        host.world().lies = false;
        let enough = operations.len();
        let handles: Vec<u32> = operations.iter().map(|(handle, _)| *handle).collect();
        for handle in handles {
            host.script((0..enough).flat_map(|_| [
                ExternalEvent::Incoming(handle, 100),
                ExternalEvent::Room(handle, 300),
            ]));
        }
        for (_, mut operation) in operations {
            operation.take(&mut [0; 100]).unwrap();
        }
        clock(&port);
        prop_assert!(host.world().most < 64);
    }
}
