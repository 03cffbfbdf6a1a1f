// SPDX-License-Identifier: Apache-2.0

//! An intermediary between a manager and the doors of its Keeps, played by a test. The bytes are what a host sees of a
//! session after the outer TLS: records of the inner TLS, whose lengths are not encrypted. They are recorded, and may
//! be cut, delayed, or dropped.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::deploy::{Host, wait_until};

/// Length in bytes of what comes before the content of a record of TLS (RFC 8446 section 5.1): type, version, length.
const HEADER: usize = 5;

/// The pause between two looks for new doors. After the door appears, a launch takes more than a hundred of them.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    ToKeep,
    FromKeep,
}

/// A place in one direction of a session: after this many records, or in the middle of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub way: Direction,
    pub records: usize,
    pub inside: bool,
}

/// The fate of a session.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Everything is forwarded.
    Pass,
    /// The connection is cut there, in both directions.
    Cut(Place),
    /// Nothing after this place is forwarded in its direction before [`Door::let_go`]. The connection stays open while
    /// the sender in this direction keeps it open.
    Hold(Place),
    /// The record after this place is omitted.
    Lose(Place),
    /// The record after this place is sent twice.
    Repeat(Place),
    /// The record after this place is sent after the next one.
    Swap(Place),
    /// Something other than a Keep answers, and does not speak TLS.
    Junk,
}

/// Everything that passed in one session.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub to_keep: Vec<u8>,
    pub from_keep: Vec<u8>,
    /// The records that passed completely, in order: direction, and length with the header.
    pub records: Vec<(Direction, usize)>,
}

impl Session {
    fn bytes(&mut self, way: Direction) -> &mut Vec<u8> {
        match way {
            Direction::ToKeep => &mut self.to_keep,
            Direction::FromKeep => &mut self.from_keep,
        }
    }

    /// The number of records that passed in this direction.
    pub fn count(&self, way: Direction) -> usize {
        self.records.iter().filter(|(of, _)| *of == way).count()
    }
}

/// The places of all Keeps that a host launches from now on.
pub struct Door(Arc<Shared>);

struct Shared {
    fates: Mutex<VecDeque<Fate>>,
    sessions: Mutex<Vec<Arc<Mutex<Session>>>>,
    is_open: AtomicBool,
    is_over: AtomicBool,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Door {
    /// Intercepts every Keep that this host launches from now on.
    pub fn of(host: &Host) -> Self {
        Self::before(&host.path("state/keeps"))
    }

    /// Intercepts every door that appears in this folder.
    pub fn before(folder: &Path) -> Self {
        let shared = Arc::new(Shared {
            fates: Mutex::default(),
            sessions: Mutex::default(),
            is_open: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (folder, watching) = (folder.to_owned(), shared.clone());
        thread::spawn(move || watch(&folder, &watching));
        Self(shared)
    }

    /// The fates of the next sessions, in order. Later ones pass.
    pub fn fates(&self, fates: &[Fate]) {
        *lock(&self.0.fates) = fates.iter().copied().collect();
    }

    /// Forwards what is held back, now and from now on.
    pub fn let_go(&self) {
        self.0.is_open.store(true, Ordering::SeqCst);
    }

    /// The sessions so far, in order.
    pub fn sessions(&self) -> Vec<Session> {
        let sessions = lock(&self.0.sessions);
        sessions
            .iter()
            .map(|session| lock(session).clone())
            .collect()
    }

    /// Waits until the last session has reached this place.
    #[track_caller]
    pub fn wait_for(&self, way: Direction, records: usize) {
        wait_until(|| {
            let sessions = lock(&self.0.sessions);
            let last = sessions.last();
            last.is_some_and(|session| lock(session).count(way) >= records)
        });
    }
}

/// Intercepts doors as they appear.
fn watch(folder: &Path, shared: &Arc<Shared>) {
    let mut taken: BTreeSet<PathBuf> = BTreeSet::new();
    while !shared.is_over.load(Ordering::SeqCst) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for door in entries.map(|entry| entry.path()) {
            if door.extension().is_some_and(|it| it == "sock") && taken.insert(door.clone()) {
                // It listens before it takes the place of the door, in one step: a connection finds one or the other.
                let (own, behind) = (door.with_extension("own"), door.with_extension("keep"));
                let listener = UnixListener::bind(&own).unwrap();
                match renameat_with(CWD, &own, CWD, &door, RenameFlags::EXCHANGE) {
                    // The Keep has ended, and its door with it.
                    Err(Errno::NOENT) => {
                        fs::remove_file(&own).unwrap();
                        continue;
                    }
                    exchanged => exchanged.unwrap(),
                }
                fs::rename(&own, &behind).unwrap();
                let shared = shared.clone();
                // It ends with the test's process.
                thread::spawn(move || {
                    for near in listener.incoming() {
                        let near = near.unwrap();
                        // The Keep may have ended.
                        if let Ok(far) = UnixStream::connect(&behind) {
                            relay(&near, &far, &shared);
                        }
                    }
                });
            }
        }
        thread::sleep(CHECK_INTERVAL);
    }
}

fn relay(near: &UnixStream, far: &UnixStream, shared: &Arc<Shared>) {
    let fate = lock(&shared.fates).pop_front().unwrap_or(Fate::Pass);
    let session = Arc::new(Mutex::new(Session::default()));
    lock(&shared.sessions).push(session.clone());
    if matches!(fate, Fate::Junk) {
        let mut near = near;
        // The other end may be closed.
        let _ = near.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _ = near.shutdown(Shutdown::Write);
        let _ = near.read(&mut [0; 4096]);
        return;
    }
    for (way, from, to) in [
        (Direction::ToKeep, near, far),
        (Direction::FromKeep, far, near),
    ] {
        let mut pump = Pump {
            way,
            from: from.try_clone().unwrap(),
            to: to.try_clone().unwrap(),
            fate,
            session: session.clone(),
            shared: shared.clone(),
        };
        thread::spawn(move || {
            pump.run();
            let _ = pump.to.shutdown(Shutdown::Write);
        });
    }
}

/// One direction of a session.
struct Pump {
    way: Direction,
    from: UnixStream,
    to: UnixStream,
    fate: Fate,
    session: Arc<Mutex<Session>>,
    shared: Arc<Shared>,
}

/// The length of the record at the start of these bytes, if they contain all of it.
fn record(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER>()?;
    let length = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    (bytes.len() >= length).then_some(length)
}

impl Pump {
    /// Forwards this direction to its end, or as far as its fate allows.
    fn run(&mut self) {
        let (mut waiting, mut held) = (Vec::new(), Vec::new());
        let mut passed = 0;
        let mut chunk = vec![0; 32 << 10];
        loop {
            match self.fate {
                Fate::Cut(place) if place.way == self.way && passed == place.records => {
                    if !place.inside {
                        return self.cut();
                    }
                    if let Some(length) = record(&waiting) {
                        self.pass(&waiting[..length / 2]);
                        return self.cut();
                    }
                }
                Fate::Hold(place) if place.way == self.way && passed == place.records => {
                    if !self.hold(&mut waiting) {
                        return self.cut();
                    }
                    self.fate = Fate::Pass;
                }
                _ => {}
            }
            if let Some(length) = record(&waiting) {
                let mut whole: Vec<u8> = waiting.drain(..length).collect();
                let here = |place: Place| place.way == self.way && passed == place.records;
                match self.fate {
                    Fate::Lose(place) if here(place) => whole.clear(),
                    Fate::Repeat(place) if here(place) => whole.extend_from_within(..),
                    Fate::Swap(place) if here(place) => std::mem::swap(&mut whole, &mut held),
                    _ => whole.append(&mut held),
                }
                if !self.pass(&whole) {
                    return;
                }
                passed += 1;
                lock(&self.session).records.push((self.way, length));
                continue;
            }
            let count = self.from.read(&mut chunk).unwrap_or(0);
            if count == 0 {
                self.pass(&waiting);
                return;
            }
            waiting.extend_from_slice(&chunk[..count]);
        }
    }

    /// Holds back what arrives until it may be forwarded; false if nothing more arrives, or the test is over.
    fn hold(&self, waiting: &mut Vec<u8>) -> bool {
        self.from.set_read_timeout(Some(CHECK_INTERVAL)).unwrap();
        let mut chunk = [0; 4096];
        while !self.shared.is_open.load(Ordering::SeqCst) {
            if self.shared.is_over.load(Ordering::SeqCst) {
                return false;
            }
            match (&self.from).read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => waiting.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return false,
                },
            }
        }
        self.from.set_read_timeout(None).unwrap();
        true
    }

    /// Records bytes and forwards them; false if nobody receives them.
    fn pass(&mut self, bytes: &[u8]) -> bool {
        lock(&self.session).bytes(self.way).extend_from_slice(bytes);
        self.to.write_all(bytes).is_ok()
    }

    fn cut(&self) {
        for end in [&self.from, &self.to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
