// SPDX-License-Identifier: Apache-2.0

//! The executor against a Keep's end in the same program.

use std::fs;
use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use enarx_sallyport::directory::Entries;
use enarx_sallyport::poll::{self, Events};
use enarx_sallyport::types::{Object, OpenFlags, SocketOption, Time, TimeChange};
use enarx_sallyport::{
    Call, Facts, FileType, Handle, KeepEnd, REGION_SIZE, Region, Reply, SharedMemory,
    SocketAddress, Stat, Status, Ticket, Until,
};
use proptest::prelude::*;
use seccompiler::SeccompAction;
use tempfile::TempDir;

use super::SharedExecutor;
use crate::addresses::{Addresses, Names, Policy};
use crate::grant::{Grant, GrantedDirectory, NetworkGrant, Services};
use crate::launch::Objects;
use crate::rate::{Rate, Rates};
use crate::step::{Progress, STEP};
use enarx_confine::seccomp;

const ROOT: Handle = Handle::FIRST_ROOT;
const READ: OpenFlags = OpenFlags::READ;
const NO_LIMIT: Option<Duration> = Some(Duration::from_secs(20));

/// A Keep with network permissions. The calling thread is from now on under the filter of a thread that serves
/// it; what that forbids fails.
fn networked(tcp: bool, udp: bool, name_lookup: bool) -> Keep {
    networked_at(tcp, udp, name_lookup, Policy::default())
}

/// The same, with rules for addresses and names.
fn networked_at(tcp: bool, udp: bool, name_lookup: bool, policy: Policy) -> Keep {
    let network = NetworkGrant {
        tcp,
        udp,
        name_lookup,
    };
    let grant = Grant {
        network,
        policy,
        ..Grant::of_streams([null(), null(), null()])
    };
    let keep = Keep::of(grant);
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = seccomp::thread().chain(super::allowed(network));
    seccomp::apply(&seccomp::compile(allowed, forbidden).unwrap()).unwrap();
    keep
}

struct Keep {
    end: KeepEnd<Region>,
    region: Region,
    executor: SharedExecutor,
}

fn null() -> OwnedFd {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

impl Keep {
    fn new(stdio: [OwnedFd; 3], directories: &[(&Path, bool)]) -> Self {
        Self::granted(stdio, directories, NetworkGrant::default())
    }

    fn granted(stdio: [OwnedFd; 3], directories: &[(&Path, bool)], network: NetworkGrant) -> Self {
        Self::with_listeners(stdio, directories, network, [None, None])
    }

    /// With a door and a listener, if they are given.
    fn with_listeners(
        stdio: [OwnedFd; 3],
        directories: &[(&Path, bool)],
        network: NetworkGrant,
        [door, listener]: [Option<OwnedFd>; 2],
    ) -> Self {
        Self::with_grant(stdio, directories, network, [door, listener], None)
    }

    fn with_grant(
        stdio: [OwnedFd; 3],
        directories: &[(&Path, bool)],
        network: NetworkGrant,
        [door, listener]: [Option<OwnedFd>; 2],
        quota: Option<u64>,
    ) -> Self {
        Self::of(Grant {
            stdio,
            directories: directories
                .iter()
                .map(|(path, read_only)| GrantedDirectory {
                    directory: fs::File::open(path).unwrap().into(),
                    read_only: *read_only,
                    quota,
                })
                .collect(),
            network,
            policy: Policy::default(),
            evidence: None,
            door,
            listener,
            rates: Rates::default(),
        })
    }

    fn of(grant: Grant) -> Self {
        Self::with_lookups(grant, crate::lookups::Lookups::Thread)
    }

    fn with_lookups(grant: Grant, lookups: crate::lookups::Lookups) -> Self {
        let words: Vec<AtomicU64> = (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let region = Region::from_static(Box::leak(words.into_boxed_slice())).unwrap();
        let configuration = b"{}".to_vec();
        let application = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let objects = Objects {
            contract: b"terms".to_vec(),
            ..Objects::program(configuration, application)
        };
        let executor =
            SharedExecutor::with(region, Facts::default(), grant, objects, lookups).unwrap();
        Self {
            end: KeepEnd::attach(region).unwrap(),
            region,
            executor,
        }
    }

    fn with_directory(directory: &Path, read_only: bool) -> Self {
        Self::new([null(), null(), null()], &[(directory, read_only)])
    }

    fn submit(&mut self, call: &Call, input: &[u8]) -> Ticket {
        self.end.submit(call, &[input]).unwrap()
    }

    /// The next reply, waiting for it, with its bytes.
    fn reply(&mut self) -> (Reply, Vec<u8>) {
        loop {
            if let Some(reply) = self.end.reap().unwrap() {
                let mut bytes = vec![0; reply.length as usize];
                self.end.read_reply(&reply, 0, &mut bytes).unwrap();
                self.end.release(reply.ticket);
                return (reply, bytes);
            }
            let seen = self.end.completions_seen();
            let progress = self
                .executor
                .wait(seen, Until::Completion, NO_LIMIT)
                .unwrap();
            assert!(matches!(progress, Progress::Idle | Progress::More));
        }
    }

    fn call(&mut self, call: &Call, input: &[u8]) -> Result<(Reply, Vec<u8>), Status> {
        let ticket = self.submit(call, input);
        let (reply, bytes) = self.reply();
        assert_eq!(reply.ticket, ticket);
        match reply.status {
            Status::Ok => Ok((reply, bytes)),
            status => Err(status),
        }
    }

    fn open(&mut self, path: &str, flags: OpenFlags) -> Result<Handle, Status> {
        let call = Call::Open {
            dir: ROOT,
            flags,
            path_length: length(path),
        };
        let (reply, _) = self.call(&call, path.as_bytes())?;
        Ok(reply.handle().unwrap())
    }

    /// A call that names one path.
    fn path(&mut self, path: &str, call: impl Fn(u32) -> Call) -> Result<Vec<u8>, Status> {
        Ok(self.call(&call(length(path)), path.as_bytes())?.1)
    }

    fn stat(&mut self, path: &str, follow: bool) -> Result<Stat, Status> {
        let bytes = self.path(path, |path_length| Call::StatAt {
            dir: ROOT,
            follow,
            path_length,
        })?;
        Ok(Stat::decode(bytes.as_slice().try_into().unwrap()).unwrap())
    }

    fn two_paths(&mut self, call: &Call, first: &str, second: &str) -> Result<(), Status> {
        self.call(call, format!("{first}{second}").as_bytes())
            .map(drop)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Status> {
        let call = Call::Rename {
            from_dir: ROOT,
            to_dir: ROOT,
            from_length: length(from),
            to_length: length(to),
        };
        self.two_paths(&call, from, to)
    }

    fn symlink(&mut self, target: &str, link: &str) -> Result<(), Status> {
        let call = Call::Symlink {
            dir: ROOT,
            target_length: length(target),
            link_length: length(link),
        };
        self.two_paths(&call, target, link)
    }

    fn link(&mut self, from: &str, to: &str, follow: bool) -> Result<(), Status> {
        let call = Call::Link {
            from_dir: ROOT,
            to_dir: ROOT,
            follow,
            from_length: length(from),
            to_length: length(to),
        };
        self.two_paths(&call, from, to)
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap()
}

fn write(stream: Handle, bytes: &[u8]) -> Call {
    Call::StreamWrite {
        stream,
        length: u32::try_from(bytes.len()).unwrap(),
    }
}

const fn read_stdin(length: u32) -> Call {
    Call::StreamRead {
        stream: Handle::STDIN,
        length,
    }
}

#[test]
fn objects_are_loaded_in_pieces_and_never_past_their_end() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let load = |object, offset, length| Call::Load {
        object,
        offset,
        length,
    };
    let (reply, bytes) = keep
        .call(&load(Object::Configuration, 0, 100), b"")
        .unwrap();
    assert_eq!((reply.value, bytes.as_slice()), (2, b"{}".as_slice()));

    let mut application = Vec::new();
    loop {
        let offset = application.len() as u64;
        let (reply, bytes) = keep
            .call(&load(Object::Application, offset, 131_072), b"")
            .unwrap();
        assert_eq!(reply.value, 300_000);
        if bytes.is_empty() {
            break;
        }
        application.extend(bytes);
    }
    assert_eq!(application.len(), 300_000);
    assert_eq!(application[299_999], 299_999_u32.to_le_bytes()[0]);
    let (_, bytes) = keep
        .call(&load(Object::Application, u64::MAX, 131_072), b"")
        .unwrap();
    assert_eq!(bytes, b"");
}

/// A Keep with a directory, and these rates.
fn at_rates(directory: &Path, rates: Rates) -> Keep {
    Keep::of(Grant {
        directories: vec![GrantedDirectory {
            directory: fs::File::open(directory).unwrap().into(),
            read_only: false,
            quota: None,
        }],
        rates,
        ..Grant::of_streams([null(), null(), null()])
    })
}

#[test]
fn syncs_that_come_too_fast_wait_and_hold_up_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut keep = at_rates(
        dir.path(),
        Rates {
            syncs: Rate {
                burst: 1,
                per_second: 2,
            },
            ..Rates::default()
        },
    );
    let handle = keep
        .open("new", OpenFlags::WRITE | OpenFlags::CREATE)
        .unwrap();
    let sync = |data_only| Call::Sync { handle, data_only };
    let start = Instant::now();
    keep.call(&sync(false), b"").unwrap();
    let late = [sync(true), sync(false)].map(|call| keep.submit(&call, b""));
    let clock = keep.submit(&Call::ClockWall, b"");
    let order = [(); 3].map(|()| {
        let (reply, _) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        reply.ticket
    });
    assert_eq!(order, [clock, late[0], late[1]]);
    assert!(
        start.elapsed() >= Duration::from_millis(990),
        "{:?}",
        start.elapsed()
    );
    // One that waits ends with its handle.
    let waits = keep.submit(&sync(true), b"");
    let close = keep.submit(&Call::Close { handle }, b"");
    let replies = [keep.reply().0, keep.reply().0];
    let status = |ticket| {
        replies
            .iter()
            .find(|it| it.ticket == ticket)
            .unwrap()
            .status
    };
    assert_eq!(
        (status(waits), status(close)),
        (Status::Cancelled, Status::Ok)
    );
}

#[test]
fn requests_that_come_too_fast_hold_their_thread_back() {
    let dir = TempDir::new().unwrap();
    let requests = |burst, per_second| Rates {
        requests: Rate { burst, per_second },
        ..Rates::default()
    };
    let mut keep = at_rates(dir.path(), requests(10, 100));
    let start = Instant::now();
    for _ in 0..50 {
        keep.call(&Call::ClockWall, b"").unwrap();
    }
    assert!(
        start.elapsed() >= Duration::from_millis(390),
        "{:?}",
        start.elapsed()
    );
    // A thread that is held back ends with the Keep.
    let mut keep = at_rates(dir.path(), requests(0, 0));
    for _ in 0..60 {
        keep.submit(&Call::ClockWall, b"");
    }
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            keep.executor.interrupt();
        });
        keep.executor.wait(0, Until::Completion, NO_LIMIT).unwrap();
    });
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn megabytes_through_a_full_pipe_arrive_in_order() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    let collector = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    let expected: Vec<u8> = (0..32_u8).flat_map(|n| vec![n; 131_072]).collect();
    for pair in expected.chunks(2 * 131_072) {
        // Two at once: the second must not overtake the first.
        for piece in pair.chunks(131_072) {
            keep.submit(&write(Handle::STDOUT, piece), piece);
        }
        for _ in 0..2 {
            let (reply, _) = keep.reply();
            assert_eq!((reply.status, reply.value), (Status::Ok, 131_072));
        }
    }
    drop(keep);
    assert!(collector.join().unwrap() == expected);
}

#[test]
fn a_socket_and_a_file_are_written_too() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut keep = Keep::new([null(), ours.into(), file.reopen().unwrap().into()], &[]);
    let collector = thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    let bytes = vec![7; 131_072];
    for _ in 0..8 {
        keep.call(&write(Handle::STDOUT, &bytes), &bytes).unwrap();
        keep.call(&write(Handle::STDERR, &bytes), &bytes).unwrap();
    }
    drop(keep);
    assert_eq!(collector.join().unwrap().len(), 8 * 131_072);
    assert_eq!(file.as_file().metadata().unwrap().len(), 8 * 131_072);
}

#[test]
fn a_closed_reader_is_a_status() {
    let (reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    drop(reader);
    assert_eq!(
        keep.call(&write(Handle::STDOUT, b"x"), b"x").map(drop),
        Err(Status::Pipe)
    );
}

#[test]
fn a_standard_stream_has_one_direction_whatever_it_is_open_for() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let refused = Err(Status::BadHandle);
    assert_eq!(
        keep.call(&write(Handle::STDIN, b"x"), b"x").map(drop),
        refused
    );
    for stream in [Handle::STDOUT, Handle::STDERR] {
        let read = Call::StreamRead { stream, length: 1 };
        assert_eq!(keep.call(&read, b"").map(drop), refused);
    }
    keep.call(&read_stdin(1), b"").unwrap();
    keep.call(&write(Handle::STDERR, b"x"), b"x").unwrap();
}

#[test]
fn a_full_disk_is_a_status() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut keep = Keep::new([null(), full.into(), null()], &[]);
    assert_eq!(
        keep.call(&write(Handle::STDOUT, b"x"), b"x").map(drop),
        Err(Status::NoSpace)
    );
}

#[test]
fn standard_input_waits_without_keeping_others_waiting() {
    let (reader, mut writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let waiting = keep.submit(&read_stdin(100), b"");
    keep.submit(&Call::ClockWall, b"");
    let (reply, _) = keep.reply();
    assert_ne!(reply.ticket, waiting);
    assert!(reply.value > 1_600_000_000_000_000_000);

    let typist = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        writer.write_all(b"hello").unwrap();
    });
    let (reply, bytes) = keep.reply();
    assert_eq!(
        (reply.ticket, bytes.as_slice()),
        (waiting, b"hello".as_slice())
    );
    typist.join().unwrap();
    // The writer is gone: end of stream, for ever.
    for _ in 0..2 {
        assert_eq!(keep.call(&read_stdin(100), b"").unwrap().1, b"");
    }
}

#[test]
fn a_wait_ends_in_time_and_a_pending_request_can_be_cancelled() {
    let (reader, _writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let ticket = keep.submit(&read_stdin(10), b"");
    let start = Instant::now();
    let seen = keep.end.completions_seen();
    keep.executor
        .wait(seen, Until::Completion, Some(Duration::from_millis(60)))
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(keep.end.reap().unwrap().is_none());

    keep.submit(&Call::Cancel { id: ticket.id() }, b"");
    let (first, _) = keep.reply();
    let (second, _) = keep.reply();
    assert_eq!((first.ticket, first.status), (ticket, Status::Cancelled));
    assert_eq!(second.status, Status::Ok);
    // Nothing of that number waits any more.
    keep.call(&Call::Cancel { id: ticket.id() }, b"").unwrap();
}

#[test]
fn another_threads_drain_and_an_interrupt_wake_the_sleeper() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| executor.wait(seen, Until::Completion, NO_LIMIT).unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(!sleeper.is_finished());
        end.submit(&Call::ClockWall, &[]).unwrap();
        assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
        assert_eq!(sleeper.join().unwrap(), Progress::Idle);

        let seen = executor.completions_posted();
        let sleepers = [(); 2].map(|()| {
            scope.spawn(move || executor.wait(seen, Until::Completion, NO_LIMIT).unwrap())
        });
        thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        executor.interrupt();
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), Progress::Idle);
        }
        // And no later wait sleeps.
        executor.wait(seen, Until::Completion, NO_LIMIT).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn threads_sleep_where_the_system_gives_no_descriptors() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleepers = [(); 2].map(|()| {
            scope.spawn(|| {
                let calls = [libc::SYS_ppoll, libc::SYS_read, libc::SYS_close];
                let allowed = seccomp::thread().chain(seccomp::calls(&calls));
                let used_up = SeccompAction::Errno(libc::EMFILE.cast_unsigned());
                seccomp::apply(&seccomp::compile(allowed, used_up).unwrap()).unwrap();
                // A sleep may end early, as by a signal.
                while !executor.has_completed(seen, Until::Completion) {
                    let progress = executor.wait(seen, Until::Completion, NO_LIMIT);
                    assert_eq!(progress.unwrap(), Progress::Idle);
                }
            })
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!sleepers.iter().any(|sleeper| sleeper.is_finished()));
        let start = Instant::now();
        end.submit(&Call::ClockWall, &[]).unwrap();
        assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_step_is_bounded_and_none_is_taken_once_the_keep_is_being_ended() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for _ in 0..STEP {
        keep.end.submit(&Call::ClockWall, &[]).unwrap();
    }
    // All of them, or as many as a millisecond allows; whether there are more is not known.
    let mut steps = 1;
    while keep.executor.drain().unwrap() == Progress::More {
        steps += 1;
    }
    assert!(steps >= 2);
    assert_eq!(keep.executor.completions_posted(), STEP);
    for _ in 0..STEP {
        let reply = keep.end.reap().unwrap().unwrap();
        keep.end.release(reply.ticket);
    }
    keep.executor.interrupt();
    keep.end.submit(&Call::ClockWall, &[]).unwrap();
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert_eq!(keep.executor.completions_posted(), STEP);
}

#[test]
fn an_interruption_waits_for_no_lock() {
    let Keep { executor, .. } = Keep::new([null(), null(), null()], &[]);
    thread::scope(|scope| {
        // As a thread does that hangs in a system call.
        let held = executor.lock();
        let other = scope.spawn(|| {
            executor.interrupt();
            executor.finish_log();
            executor.wait(0, Until::Completion, NO_LIMIT).unwrap()
        });
        let start = Instant::now();
        while !other.is_finished() && start.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        assert!(other.is_finished(), "it waits for the lock");
        drop(held);
        assert_eq!(other.join().unwrap(), Progress::Idle);
    });
}

#[test]
fn a_request_made_while_a_thread_sleeps_is_waited_for_by_it() {
    let (reader, mut writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| executor.wait(seen, Until::Completion, NO_LIMIT).unwrap());
        thread::sleep(Duration::from_millis(50));
        end.submit(&read_stdin(10), &[]).unwrap();
        executor.drain().unwrap();
        thread::sleep(Duration::from_millis(20));
        assert!(!sleeper.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(sleeper.join().unwrap(), Progress::Idle);
    });
    assert!(keep.end.reap().unwrap().is_some());
}

#[test]
fn an_exit_comes_after_what_was_printed() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    let bytes = vec![1; 131_072];
    keep.submit(&write(Handle::STDOUT, &bytes), &bytes);
    keep.submit(&Call::Exit { code: 7 }, b"");
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    let collector = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all.len()
    });
    let progress = loop {
        match keep.executor.wait(0, Until::Completion, NO_LIMIT).unwrap() {
            Progress::Idle | Progress::More => {}
            exit @ Progress::Exit(_) => break exit,
        }
    };
    assert_eq!(progress, Progress::Exit(7));
    assert_eq!(keep.executor.drain().unwrap(), Progress::Exit(7));
    drop(keep);
    assert_eq!(collector.join().unwrap(), 131_072);
}

#[test]
fn foreign_numbers_are_statuses_and_a_broken_ring_ends_the_keep() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for handle in [3, 15, 16, 17, 1024, u32::MAX].map(Handle) {
        let calls = [
            Call::Stat { handle },
            Call::Close { handle },
            Call::StreamRead {
                stream: handle,
                length: 1,
            },
            Call::ReadAt {
                handle,
                offset: 0,
                length: 1,
            },
        ];
        for call in calls {
            assert_eq!(keep.call(&call, b"").map(drop), Err(Status::BadHandle));
        }
    }
    // The first word of a request's record: operation 0xffff, which nobody knows.
    let ticket = keep.submit(&Call::ClockWall, b"");
    let slot = enarx_sallyport::Slot::new(u32::try_from(ticket.slot()).unwrap()).unwrap();
    let word = enarx_sallyport::layout::request_entry(slot)[0];
    keep.region
        .store_u64(word, keep.region.load_u64(word) | 0xffff);
    assert_eq!(keep.reply().0.status, Status::NotImplemented);

    keep.region
        .store_u32(enarx_sallyport::layout::SQ_TAIL, 1000, Ordering::Relaxed);
    assert!(keep.executor.drain().is_err());
    assert!(keep.executor.wait(0, Until::Completion, NO_LIMIT).is_err());
}

#[test]
fn the_keeps_log_cannot_steer_a_terminal() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), null(), writer.into()], &[]);
    let text = b"a\x1b[2Jb\nc";
    let call = Call::LogWrite {
        level: enarx_sallyport::types::Level::Warn,
        length: 8,
    };
    keep.call(&call, text).unwrap();
    drop(keep);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all, "enarx: keep: a [2Jb c\n");
}

#[test]
fn last_words_end_with_their_line() {
    for (words, printed) in [
        (&["memory allocation of "][..], "memory allocation of \n"),
        (&["one\n", "two\x1b", "\n"], "one\ntwo \n"),
        (&["", "\n", ""], "\n"),
        (&[], ""),
    ] {
        let (mut reader, writer) = pipe().unwrap();
        let keep = Keep::new([null(), null(), writer.into()], &[]);
        for part in words {
            keep.executor.log_last_words(part.as_bytes());
        }
        // The second time there is nothing to end.
        keep.executor.finish_log();
        keep.executor.finish_log();
        drop(keep);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, printed);
    }
}

fn sample() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("file"), "contents").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("file", root.join("inside")).unwrap();
    dir
}

#[test]
fn files_are_opened_read_written_and_cut() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let flags = READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let handle = keep.open("sub/../new", flags).unwrap();
    assert_eq!(handle, Handle(3));
    assert_eq!(keep.open("new", flags), Err(Status::Exists));
    let write_at = |offset| Call::WriteAt {
        handle,
        offset,
        length: 3,
    };
    let far = (1 << 32) + 5;
    assert_eq!(keep.call(&write_at(far), b"abc").unwrap().0.value, 3);
    assert_eq!(keep.call(&write_at(0), b"xyz").unwrap().0.value, 3);
    let append = Call::Append { handle, length: 2 };
    assert_eq!(keep.call(&append, b"!!").unwrap().0.value, 2);
    let read_at = |offset| Call::ReadAt {
        handle,
        offset,
        length: 10,
    };
    assert_eq!(keep.call(&read_at(far), b"").unwrap().1, b"abc!!");
    assert_eq!(keep.call(&read_at(far + 5), b"").unwrap().1, b"");
    assert_eq!(
        keep.call(&read_at(u64::MAX), b"").map(drop),
        Err(Status::Invalid)
    );
    assert_eq!(
        keep.call(&write_at(u64::MAX), b"abc").map(drop),
        Err(Status::FileTooLarge)
    );
    keep.call(&Call::SetSize { handle, size: 3 }, b"").unwrap();
    assert_eq!(
        keep.call(
            &Call::SetSize {
                handle,
                size: u64::MAX
            },
            b""
        )
        .map(drop),
        Err(Status::FileTooLarge)
    );
    for data_only in [false, true] {
        keep.call(&Call::Sync { handle, data_only }, b"").unwrap();
    }
    assert_eq!(fs::read(dir.path().join("root/new")).unwrap(), b"xyz");

    keep.call(&Call::Close { handle }, b"").unwrap();
    assert_eq!(
        keep.call(&read_at(0), b"").map(drop),
        Err(Status::BadHandle)
    );
    let flags = OpenFlags::WRITE | OpenFlags::TRUNCATE;
    assert_eq!(keep.open("new", flags).unwrap(), Handle(3));
    assert_eq!(fs::read(dir.path().join("root/new")).unwrap(), b"");
    assert_eq!(
        keep.call(&read_at(0), b"").map(drop),
        Err(Status::BadHandle)
    );
}

/// Bytes that all files below a folder have, in blocks, and a block for each name; not those of links.
fn weight(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let of = |entry: fs::DirEntry| {
        let record = entry.metadata().unwrap();
        4096 + match record.file_type() {
            kind if kind.is_dir() => weight(&entry.path()),
            kind if kind.is_file() => record.len().next_multiple_of(4096),
            _ => 0,
        }
    };
    entries.map(of).sum()
}

#[test]
fn a_directory_becomes_no_fuller_than_its_quota_allows() {
    const QUOTA: u64 = 40 << 10;
    let dir = sample();
    let root = dir.path().join("root");
    let full = weight(&root) + QUOTA;
    let mut keep = Keep::with_grant(
        [null(), null(), null()],
        &[(&root, false)],
        NetworkGrant::default(),
        [None, None],
        Some(QUOTA),
    );
    let new = READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let bytes = vec![7; 64 << 10];
    let space = |keep: &mut Keep| {
        let file = keep.open("probe", new).unwrap();
        let mut most = 0;
        for blocks in 1..=16 {
            let size = blocks << 12;
            match keep.call(&Call::SetSize { handle: file, size }, b"") {
                Ok(_) => most = size,
                Err(status) => assert_eq!(status, Status::Quota),
            }
        }
        keep.call(&Call::Close { handle: file }, b"").unwrap();
        let unlink = |path_length| Call::Unlink {
            dir: ROOT,
            path_length,
        };
        keep.path("probe", unlink).unwrap();
        most
    };
    // A name of the ten blocks is the file's own.
    assert_eq!(space(&mut keep), QUOTA - 4096);
    assert_eq!(
        space(&mut keep),
        QUOTA - 4096,
        "removed files count no more"
    );

    // Every way to grow: writing, appending, cutting to a longer size, over the end of what the host has put there.
    let file = keep.open("file", new).unwrap();
    let write_at = |length, offset| Call::WriteAt {
        handle: file,
        offset,
        length,
    };
    let whole = 64 << 10;
    assert_eq!(
        keep.call(&write_at(whole, 0), &bytes).map(drop),
        Err(Status::Quota)
    );
    assert_eq!(
        keep.call(&write_at(1, 1 << 40), &bytes[..1]).map(drop),
        Err(Status::Quota)
    );
    let append = Call::Append {
        handle: file,
        length: whole,
    };
    assert_eq!(keep.call(&append, &bytes).map(drop), Err(Status::Quota));
    let size = u64::from(whole);
    let longer = Call::SetSize { handle: file, size };
    assert_eq!(keep.call(&longer, b"").map(drop), Err(Status::Quota));
    assert_eq!(fs::read(root.join("file")).unwrap(), b"contents");
    assert_eq!(space(&mut keep), QUOTA - 4096, "what failed takes nothing");
    keep.call(&write_at(8, 0), &bytes[..8]).unwrap();
    assert_eq!(space(&mut keep), QUOTA - 4096, "the length stays");

    // A file that is removed while it is open takes its space until it is closed.
    let file = keep.open("gone", new).unwrap();
    let again = keep.open("gone", READ).unwrap();
    let length = 20 << 10;
    let write = Call::WriteAt {
        handle: file,
        offset: 0,
        length,
    };
    keep.call(&write, &bytes[..20 << 10]).unwrap();
    let unlink = |path_length| Call::Unlink {
        dir: ROOT,
        path_length,
    };
    keep.path("gone", unlink).unwrap();
    let left = QUOTA - 4096 - u64::from(length);
    assert_eq!(space(&mut keep), left);
    keep.call(&Call::Close { handle: again }, b"").unwrap();
    assert_eq!(space(&mut keep), left);
    keep.call(&Call::Close { handle: file }, b"").unwrap();
    assert_eq!(space(&mut keep), QUOTA - 4096);

    // Names alone: ten blocks are ten names, of whatever kind.
    let create = |path_length| Call::CreateDir {
        dir: ROOT,
        path_length,
    };
    for number in 0..3 {
        keep.path(&format!("d{number}"), create).unwrap();
        keep.symlink("x", &format!("l{number}")).unwrap();
        keep.link("file", &format!("h{number}"), false).unwrap();
    }
    keep.open("last", new).unwrap();
    assert_eq!(keep.path("d9", create), Err(Status::Quota));
    assert_eq!(keep.symlink("x", "l9"), Err(Status::Quota));
    assert_eq!(keep.link("file", "h9", false), Err(Status::Quota));
    assert_eq!(keep.open("f9", new), Err(Status::Quota));
    assert_eq!(weight(&root), full + 3 * 4096, "hard links have one file");
    // Replacing frees a name, and renaming to another name of the same file nothing.
    keep.rename("h0", "h1").unwrap();
    assert_eq!(keep.symlink("x", "l9"), Err(Status::Quota));
    keep.rename("l0", "l1").unwrap();
    keep.symlink("x", "l9").unwrap();
    assert_eq!(keep.symlink("x", "l8"), Err(Status::Quota));
}

#[test]
fn nothing_moves_from_one_quota_into_another() {
    let [one, other] = [sample(), sample()];
    let folders = [one.path().join("root"), other.path().join("root")];
    let mut keep = Keep::with_grant(
        [null(), null(), null()],
        &[(&folders[0], false), (&folders[1], false)],
        NetworkGrant::default(),
        [None, None],
        Some(1 << 20),
    );
    let rename = Call::Rename {
        from_dir: ROOT,
        to_dir: Handle(ROOT.0 + 1),
        from_length: 4,
        to_length: 3,
    };
    let moved = keep.two_paths(&rename, "file", "new");
    assert_eq!(moved, Err(Status::CrossDevice));
    let link = Call::Link {
        from_dir: ROOT,
        to_dir: Handle(ROOT.0 + 1),
        follow: false,
        from_length: 4,
        to_length: 3,
    };
    let linked = keep.two_paths(&link, "file", "new");
    assert_eq!(linked, Err(Status::CrossDevice));
}

#[test]
fn no_path_leads_out() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let absolute = dir.path().join("secret");
    let outside = [
        "..",
        "../secret",
        "sub/../../secret",
        "out",
        "absolute",
        "up",
        "up/secret",
        "up/root/file",
        "/etc/passwd",
        "/",
        absolute.to_str().unwrap(),
    ];
    for path in outside {
        assert_eq!(
            keep.open(path, READ),
            Err(Status::NotCapable),
            "open {path}"
        );
        assert_eq!(
            keep.stat(path, true).map(drop),
            Err(Status::NotCapable),
            "stat {path}"
        );
        let times = |path_length| Call::SetTimesAt {
            dir: ROOT,
            follow: true,
            atim: TimeChange::Now,
            mtim: TimeChange::At(Time::default()),
            path_length,
        };
        assert_eq!(
            keep.path(path, times),
            Err(Status::NotCapable),
            "times {path}"
        );
    }
    let outside = [
        "..",
        "../secret",
        "../new",
        "up/secret",
        "sub/../../x",
        "/x",
        "//",
    ];
    for path in outside {
        let calls: [fn(u32) -> Call; 4] = [
            |path_length| Call::CreateDir {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::RemoveDir {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::Unlink {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::ReadLink {
                dir: ROOT,
                path_length,
            },
        ];
        for call in calls {
            assert_eq!(keep.path(path, call), Err(Status::NotCapable), "{path}");
        }
        assert_eq!(keep.rename("file", path), Err(Status::NotCapable), "{path}");
        assert_eq!(keep.rename(path, "new"), Err(Status::NotCapable), "{path}");
        assert_eq!(keep.symlink("x", path), Err(Status::NotCapable), "{path}");
        assert_eq!(
            keep.link("file", path, false),
            Err(Status::NotCapable),
            "{path}"
        );
        assert_eq!(
            keep.link(path, "new", false),
            Err(Status::NotCapable),
            "{path}"
        );
    }
    // Links are seen as links, and a slash behind one does not follow it.
    assert_eq!(
        keep.stat("out", false).unwrap().file_type(),
        Some(FileType::SymbolicLink)
    );
    let read_link = |path_length| Call::ReadLink {
        dir: ROOT,
        path_length,
    };
    assert_eq!(keep.path("out", read_link).unwrap(), b"../secret");
    assert_eq!(keep.path("up/", read_link), Err(Status::NotCapable));
    assert_eq!(keep.link("up/", "x", false), Err(Status::NotCapable));
    assert_eq!(
        keep.open("inside", READ | OpenFlags::NOFOLLOW),
        Err(Status::Loop)
    );
    keep.open("inside", READ).unwrap();
    assert_eq!(keep.symlink("/etc/passwd", "x"), Err(Status::NotCapable));
    assert_eq!(keep.link("inside", "x", true), Err(Status::Invalid));
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_read_only_directory_refuses_every_change() {
    let dir = sample();
    let root = dir.path().join("root");
    let mut keep = Keep::with_directory(&root, true);
    let before = fs::metadata(root.join("file")).unwrap();
    for flags in [
        OpenFlags::WRITE,
        READ | OpenFlags::TRUNCATE,
        READ | OpenFlags::CREATE,
        READ | OpenFlags::APPEND,
    ] {
        assert_eq!(keep.open("file", flags), Err(Status::ReadOnly));
        assert_eq!(keep.open("new", flags), Err(Status::ReadOnly));
    }
    let handle = keep.open("file", READ).unwrap();
    let sub = keep.open("sub", READ | OpenFlags::DIRECTORY).unwrap();
    let (atim, mtim) = (at(5, 0), at(5, 0));
    let calls = [
        (
            Call::WriteAt {
                handle,
                offset: 0,
                length: 1,
            },
            "x",
        ),
        (Call::Append { handle, length: 1 }, "x"),
        (Call::SetSize { handle, size: 0 }, ""),
        (Call::SetTimes { handle, atim, mtim }, ""),
        (
            Call::SetTimes {
                handle: sub,
                atim,
                mtim,
            },
            "",
        ),
        (
            Call::SetTimesAt {
                dir: ROOT,
                follow: true,
                atim,
                mtim,
                path_length: 4,
            },
            "file",
        ),
        (
            Call::CreateDir {
                dir: sub,
                path_length: 1,
            },
            "x",
        ),
        (
            Call::RemoveDir {
                dir: sub,
                path_length: 4,
            },
            "deep",
        ),
        (
            Call::Unlink {
                dir: ROOT,
                path_length: 4,
            },
            "file",
        ),
    ];
    for (call, input) in calls {
        assert_eq!(
            keep.call(&call, input.as_bytes()).map(drop),
            Err(Status::ReadOnly),
            "{call:?}"
        );
    }
    assert_eq!(keep.rename("file", "x"), Err(Status::ReadOnly));
    assert_eq!(keep.link("file", "x", false), Err(Status::ReadOnly));
    assert_eq!(keep.symlink("file", "x"), Err(Status::ReadOnly));
    let after = fs::metadata(root.join("file")).unwrap();
    assert_eq!(
        (before.mtime_nsec(), before.ctime_nsec(), before.len()),
        (after.mtime_nsec(), after.ctime_nsec(), after.len())
    );
    let read = Call::ReadAt {
        handle,
        offset: 0,
        length: 100,
    };
    assert_eq!(keep.call(&read, b"").unwrap().1, b"contents");
}

#[test]
fn special_files_are_not_opened() {
    let dir = sample();
    let fifo = dir.path().join("root/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    assert_eq!(keep.open("fifo", READ), Err(Status::NotSupported));
    assert_eq!(
        keep.stat("fifo", true).unwrap().file_type(),
        Some(FileType::Unknown)
    );
    let mut keep = Keep::with_directory(Path::new("/dev"), true);
    assert_eq!(keep.open("null", READ), Err(Status::NotSupported));
}

#[test]
fn names_are_made_moved_and_removed() {
    let dir = sample();
    let root = dir.path().join("root");
    let mut keep = Keep::with_directory(&root, false);
    let create = |path_length| Call::CreateDir {
        dir: ROOT,
        path_length,
    };
    let remove = |path_length| Call::RemoveDir {
        dir: ROOT,
        path_length,
    };
    let unlink = |path_length| Call::Unlink {
        dir: ROOT,
        path_length,
    };
    keep.path("made/", create).unwrap();
    assert_eq!(keep.path("made", create), Err(Status::Exists));
    keep.rename("file", "made/file").unwrap();
    assert_eq!(keep.path("made", remove), Err(Status::NotEmpty));
    assert_eq!(keep.path("made", unlink), Err(Status::IsDirectory));
    keep.symlink("file", "made/link").unwrap();
    keep.link("made/file", "hard", false).unwrap();
    assert_eq!(keep.stat("hard", false).unwrap().nlink, 2);
    assert_eq!(keep.stat("made/link", true).unwrap().size, 8);
    assert_eq!(keep.stat("made/link", false).unwrap().size, 4);
    for path in ["made/link", "made/file"] {
        keep.path(path, unlink).unwrap();
    }
    keep.path("made/", remove).unwrap();
    assert_eq!(keep.path("made", remove), Err(Status::NoEntry));
    assert_eq!(keep.path(".", remove), Err(Status::Invalid));
    assert_eq!(keep.path("sub/..", remove), Err(Status::NotEmpty));
    assert_eq!(keep.path("hard/", unlink), Err(Status::NotDirectory));
    assert_eq!(keep.path("", unlink), Err(Status::NoEntry));
    assert_eq!(keep.path("a\0b", unlink), Err(Status::IllegalSequence));
    assert_eq!(
        keep.path(&"x".repeat(5000), unlink),
        Err(Status::NameTooLong)
    );
    assert_eq!(
        keep.path(&"x".repeat(300), unlink),
        Err(Status::NameTooLong)
    );
    assert_eq!(fs::read(root.join("hard")).unwrap(), b"contents");
}

/// A change to a time.
fn at(seconds: i64, nanoseconds: u32) -> TimeChange {
    TimeChange::At(Time::new(seconds, nanoseconds).unwrap())
}

#[test]
fn times_are_set_to_the_nanosecond() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let change = |atim, mtim, follow| {
        move |path_length| Call::SetTimesAt {
            dir: ROOT,
            follow,
            atim,
            mtim,
            path_length,
        }
    };
    keep.path("inside", change(at(1, 500_000_007), at(-1, 9), true))
        .unwrap();
    let stat = keep.stat("file", false).unwrap();
    assert_eq!((stat.atim, stat.atim_ns), (1, 500_000_007));
    assert_eq!((stat.mtim, stat.mtim_ns), (-1, 9));
    keep.path("inside", change(TimeChange::Keep, at(0, 9), false))
        .unwrap();
    assert_eq!(keep.stat("file", false).unwrap().mtim, -1);
    let stat = keep.stat("inside", false).unwrap();
    assert_eq!((stat.mtim, stat.mtim_ns), (0, 9));
    let handle = keep.open("file", READ).unwrap();
    let (atim, mtim) = (TimeChange::Keep, TimeChange::Now);
    keep.call(&Call::SetTimes { handle, atim, mtim }, b"")
        .unwrap();
    let (_, bytes) = keep.call(&Call::Stat { handle }, b"").unwrap();
    let stat = Stat::decode(bytes.as_slice().try_into().unwrap()).unwrap();
    assert_eq!((stat.atim, stat.atim_ns), (1, 500_000_007));
    assert!(stat.mtim > 1_600_000_000);
}

#[test]
fn a_directory_is_listed_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for n in 0..500 {
        let name = format!("{n:0>40}");
        fs::write(dir.path().join(&name), "").unwrap();
        expected.push(name.into_bytes());
    }
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink("d", dir.path().join("l")).unwrap();
    expected.extend([b"d".to_vec(), b"l".to_vec()]);
    let mut keep = Keep::with_directory(dir.path(), true);
    let mut found = Vec::new();
    let mut cookie = 0;
    loop {
        let call = Call::ReadDir {
            handle: ROOT,
            cookie,
            length: 1000,
        };
        let (_, bytes) = keep.call(&call, b"").unwrap();
        if bytes.is_empty() {
            break;
        }
        for entry in Entries::new(&bytes) {
            let entry = entry.unwrap();
            cookie = entry.next_cookie;
            let kind = match entry.name {
                b"d" => FileType::Directory,
                b"l" => FileType::SymbolicLink,
                _ => FileType::RegularFile,
            };
            assert_eq!(entry.kind, kind);
            found.push(entry.name.to_vec());
        }
    }
    found.sort();
    expected.sort();
    assert!(found == expected);
    let call = Call::ReadDir {
        handle: ROOT,
        cookie: u64::MAX,
        length: 1000,
    };
    assert_eq!(keep.call(&call, b"").map(drop), Err(Status::Invalid));
}

#[test]
fn handles_are_bounded() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    keep.executor.lock().handles.limit_to(500);
    // The standard streams and the directory are among them.
    let room = 500 - 4;
    for _ in 0..room {
        keep.open("file", READ).unwrap();
    }
    assert_eq!(keep.open("file", READ), Err(Status::TooManyHandles));
    keep.call(&Call::Close { handle: Handle(5) }, b"").unwrap();
    assert_eq!(keep.open("file", READ), Ok(Handle(5)));
}

const LOCALHOST: SocketAddress = SocketAddress::V4 {
    address: [127, 0, 0, 1],
    port: 0,
};

fn address_of(bytes: &[u8]) -> SocketAddress {
    SocketAddress::from_bytes(bytes.try_into().unwrap()).unwrap()
}

fn handle_of(reply: &Reply) -> Handle {
    reply.handle().unwrap()
}

#[test]
fn the_network_is_closed_unless_granted() {
    let mut keep = networked(false, false, false);
    let calls = [
        (Call::TcpOpen { ipv6: false }, ""),
        (Call::UdpOpen { ipv6: false }, ""),
        (Call::Resolve { name_length: 9 }, "localhost"),
    ];
    for (call, input) in calls {
        assert_eq!(
            keep.call(&call, input.as_bytes()).map(drop),
            Err(Status::NotCapable)
        );
    }
}

#[test]
fn one_permission_is_not_another() {
    // A thread is confined once.
    let refused = |(tcp, udp): (bool, bool), call: Call| {
        let answer =
            thread::spawn(move || networked(tcp, udp, false).call(&call, b"").map(drop)).join();
        assert_eq!(answer.unwrap(), Err(Status::NotCapable));
    };
    refused((true, false), Call::UdpOpen { ipv6: true });
    refused((false, true), Call::TcpOpen { ipv6: true });
}

/// A policy of these rules, with no names but those that are named.
fn policy(connect: &[String], listen: &[String], names: &[&str]) -> Policy {
    Policy {
        addresses: Addresses::Only {
            connect: connect.iter().map(|rule| rule.parse().unwrap()).collect(),
            listen: listen.iter().map(|rule| rule.parse().unwrap()).collect(),
        },
        names: Names::Only(names.iter().map(|rule| rule.parse().unwrap()).collect()),
    }
}

#[test]
fn addresses_are_those_of_the_rules() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let [allowed, listening] = [&server, &own].map(|it| it.local_addr().unwrap().port());
    // Another process could take it meanwhile: then the bind fails, and the test with it.
    drop(own);
    let connect = [
        format!("127.0.0.1:{allowed}"),
        "0.0.0.0/0".to_owned(),
        "::/0".to_owned(),
    ];
    let listen = [format!("127.0.0.1:{listening}")];
    let mut keep = networked_at(true, true, false, policy(&connect, &listen, &[]));
    let v4 = |address: [u8; 4], port| SocketAddress::V4 { address, port };
    let v6 = |segments: [u16; 8], port| SocketAddress::V6 {
        address: std::net::Ipv6Addr::from(segments).octets(),
        port,
        flow: 0,
        scope: 0,
    };
    let local = |port| v4([127, 0, 0, 1], port);
    let tcp = Call::TcpOpen { ipv6: false };
    let udp = Call::UdpOpen { ipv6: false };
    // Not even rules for everything are rules for these.
    let elsewhere = [
        local(listening),
        v4([0; 4], listening),
        v4([169, 254, 169, 254], allowed),
        v4([127, 0, 0, 2], allowed),
        v4([255; 4], allowed),
        v6([0, 0, 0, 0, 0, 0, 0, 1], listening),
        v6([0; 8], listening),
        v6([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], listening),
        v6([0, 0, 0, 0, 0, 0, 0x7f00, 1], listening),
        v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 80),
        v6([0x2002, 0x7f00, 1, 0, 0, 0, 0, 1], listening),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 1], allowed),
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 80),
    ];
    let datagrams = handle_of(&keep.call(&udp, b"").unwrap().0);
    let send = |address| Call::UdpSend {
        handle: datagrams,
        address,
        length: 1,
    };
    for address in elsewhere {
        let ipv6 = matches!(address, SocketAddress::V6 { .. });
        let handle = handle_of(&keep.call(&Call::TcpOpen { ipv6 }, b"").unwrap().0);
        let connect = Call::TcpConnect { handle, address };
        let answer = keep.call(&connect, b"").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        let answer = keep.call(&send(address), b"x").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        keep.call(&Call::Close { handle }, b"").unwrap();
    }
    let handle = handle_of(&keep.call(&tcp, b"").unwrap().0);
    let address = local(allowed);
    keep.call(&Call::TcpConnect { handle, address }, b"")
        .unwrap();
    keep.call(&send(local(allowed)), b"x").unwrap();

    // A port of its own choice, for all addresses, or that of a client, is no place to wait for connections.
    let wrong = [v4([0; 4], listening), local(allowed)];
    for open in [tcp, udp] {
        let handle = handle_of(&keep.call(&open, b"").unwrap().0);
        for address in wrong {
            let bind = Call::Bind { handle, address };
            let answer = keep.call(&bind, b"").map(drop);
            assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        }
    }
    for address in [None, Some(local(0))] {
        let handle = handle_of(&keep.call(&tcp, b"").unwrap().0);
        if let Some(address) = address {
            keep.call(&Call::Bind { handle, address }, b"").unwrap();
        }
        let listen = Call::TcpListen { handle, backlog: 1 };
        let answer = keep.call(&listen, b"").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
    }
    for open in [tcp, udp] {
        let handle = handle_of(&keep.call(&open, b"").unwrap().0);
        let address = local(listening);
        keep.call(&Call::Bind { handle, address }, b"").unwrap();
        if open == tcp {
            keep.call(&Call::TcpListen { handle, backlog: 1 }, b"")
                .unwrap();
        }
    }
}

#[test]
fn one_protocol_of_a_rule_is_not_the_other() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let address = SocketAddress::V4 {
        address: [127, 0, 0, 1],
        port,
    };
    let rules = [format!("127.0.0.1:{port}/udp")];
    let mut keep = networked_at(true, true, false, policy(&rules, &rules, &[]));
    let tcp = handle_of(&keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap().0);
    let udp = handle_of(&keep.call(&Call::UdpOpen { ipv6: false }, b"").unwrap().0);
    let connect = Call::TcpConnect {
        handle: tcp,
        address,
    };
    let bind = |handle| Call::Bind { handle, address };
    for call in [connect, bind(tcp)] {
        assert_eq!(keep.call(&call, b"").map(drop), Err(Status::NotCapable));
    }
    keep.call(&bind(udp), b"").unwrap();
    let send = Call::UdpSend {
        handle: udp,
        address,
        length: 1,
    };
    keep.call(&send, b"x").unwrap();
}

#[test]
fn names_are_looked_up_once_and_have_no_address_that_must_be_named() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    // A name server of the attacker's, which gives another answer each time.
    let lookups = crate::lookups::answering(|name| {
        let addresses: &[&str] = match (name, ASKED.fetch_add(1, Ordering::Relaxed)) {
            ("db.example", 0) => &["169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0"],
            ("db.example", 1) => &["127.0.0.1", "192.0.2.1", "::1"],
            ("db.example", _) => &["192.0.2.99"],
            ("api.example", _) => &["127.0.0.1"],
            _ => return Err(Status::NameUnresolvable),
        };
        Ok(addresses.iter().map(|it| it.parse().unwrap()).collect())
    });
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let network = NetworkGrant {
        tcp: true,
        udp: true,
        name_lookup: true,
    };
    let grant = Grant {
        network,
        policy: policy(&["db.example".to_owned()], &[], &["*.example"]),
        ..Grant::of_streams([null(), null(), null()])
    };
    let mut keep = Keep::with_lookups(grant, lookups);
    let mut look_up = |name: &str| {
        let name_length = u32::try_from(name.len()).unwrap();
        let answer = keep.call(&Call::Resolve { name_length }, name.as_bytes());
        answer.map(|(_, bytes)| {
            let (addresses, rest) = bytes.as_chunks::<16>();
            assert!(rest.is_empty());
            let mapped = addresses.iter().map(|it| std::net::Ipv6Addr::from(*it));
            mapped.map(|it| it.to_canonical().to_string()).collect()
        })
    };
    let found = |address: &str| Ok::<Vec<String>, _>(vec![address.to_owned()]);
    for refused in [
        "localhost",
        "other.test",
        "db.example.test",
        "127.1",
        "db.example\0",
    ] {
        assert_eq!(look_up(refused), Err(Status::NotCapable), "{refused:?}");
    }
    assert_eq!(
        ASKED.load(Ordering::Relaxed),
        0,
        "refused names leave the machine"
    );
    assert_eq!(look_up("db.example"), Err(Status::NotCapable));
    for _ in 0..3 {
        assert_eq!(look_up("DB.Example."), found("192.0.2.1"));
    }
    assert_eq!(ASKED.load(Ordering::Relaxed), 2, "the second answer counts");
    // A name that is only looked up may have any address; that opens no way there.
    assert_eq!(look_up("api.example"), found("127.0.0.1"));
    assert_eq!(look_up("no.such.example"), Err(Status::NameUnresolvable));
    for ip in [[127, 0, 0, 1], [192, 0, 2, 99]] {
        let address = SocketAddress::V4 { address: ip, port };
        let open = |ipv6| Call::UdpOpen { ipv6 };
        let handle = handle_of(&keep.call(&open(false), b"").unwrap().0);
        let send = Call::UdpSend {
            handle,
            address,
            length: 1,
        };
        assert_eq!(
            keep.call(&send, b"x").map(drop),
            Err(Status::NotCapable),
            "{ip:?}"
        );
    }
}

/// A new socket, bound to a port of this machine, and its address.
fn bound(keep: &mut Keep, open: Call) -> (Handle, SocketAddress) {
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    let address = LOCALHOST;
    keep.call(&Call::Bind { handle, address }, b"").unwrap();
    let (_, bytes) = keep.call(&Call::LocalAddress { handle }, b"").unwrap();
    (handle, address_of(&bytes))
}

#[test]
fn sockets_do_what_their_state_allows() {
    let mut keep = networked(true, true, false);
    let open = Call::TcpOpen { ipv6: false };
    let (handle, address) = bound(&mut keep, open);
    // Twice is once too often.
    let bind = Call::Bind { handle, address };
    assert_eq!(keep.call(&bind, b"").map(drop), Err(Status::Invalid));
    let accept = Call::TcpAccept { handle };
    assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::Invalid));
    let read = Call::StreamRead {
        stream: handle,
        length: 1,
    };
    assert_eq!(keep.call(&read, b"").map(drop), Err(Status::NotConnected));
    // A socket that is bound and does not listen takes no connections.
    let other = handle_of(&keep.call(&open, b"").unwrap().0);
    let connect = Call::TcpConnect {
        handle: other,
        address,
    };
    assert_eq!(
        keep.call(&connect, b"").map(drop),
        Err(Status::ConnectionRefused)
    );
    for backlog in [0, 5, u32::MAX] {
        keep.call(&Call::TcpListen { handle, backlog }, b"")
            .unwrap();
    }
    // A connection from an address of one's own choice.
    let (from, own) = bound(&mut keep, open);
    let connect = Call::TcpConnect {
        handle: from,
        address,
    };
    keep.call(&connect, b"").unwrap();
    let (_, peer) = keep.call(&Call::TcpAccept { handle }, b"").unwrap();
    assert_eq!(address_of(&peer), own);
    assert_eq!(keep.call(&connect, b"").map(drop), Err(Status::Invalid));
    let listen = Call::TcpListen {
        handle: from,
        backlog: 1,
    };
    assert_eq!(keep.call(&listen, b"").map(drop), Err(Status::Invalid));
    let (datagrams, _) = bound(&mut keep, Call::UdpOpen { ipv6: false });
    let connect = Call::TcpConnect {
        handle: datagrams,
        address,
    };
    assert_eq!(keep.call(&connect, b"").map(drop), Err(Status::Invalid));
}

#[test]
fn the_door_gives_connections_without_an_address_and_nothing_else_of_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let door: OwnedFd = listener.into();
    let services = Services {
        network: NetworkGrant::default(),
        door: Some(door.as_raw_fd()),
        listener: None,
    };
    let mut keep = Keep::with_listeners(
        [null(), null(), null()],
        &[],
        NetworkGrant::default(),
        [Some(door), None],
    );
    let peer = UnixStream::connect(&path).unwrap();
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = seccomp::thread().chain(super::allowed(services));
    // The peer is this thread's too, so it reads and writes as the executor does.
    seccomp::apply(&seccomp::compile(allowed, forbidden).unwrap()).unwrap();
    let accept = Call::TcpAccept {
        handle: Handle::DOOR,
    };
    let (reply, address) = keep.call(&accept, b"").unwrap();
    let none = SocketAddress::V4 {
        address: [0; 4],
        port: 0,
    };
    assert_eq!(address, none.to_bytes());
    let connection = Handle(u32::try_from(reply.value).unwrap());
    assert_eq!(connection, Handle(4));
    assert_eq!(rustix::io::write(&peer, b"hello"), Ok(5));
    let read = Call::StreamRead {
        stream: connection,
        length: 100,
    };
    assert_eq!(keep.call(&read, b"").unwrap().1, b"hello");
    let write = Call::StreamWrite {
        stream: connection,
        length: 5,
    };
    keep.call(&write, b"world").unwrap();
    let mut answer = [0; 5];
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(5));
    assert_eq!(&answer, b"world");
    drop(peer);
    assert_eq!(keep.call(&read, b"").unwrap().1, b"");
    keep.call(&Call::Close { handle: connection }, b"").unwrap();
    let open = Call::TcpOpen { ipv6: false };
    assert_eq!(keep.call(&open, b"").map(drop), Err(Status::NotCapable));
}

#[test]
fn a_listener_gives_connections_until_it_is_ended_and_nothing_else_of_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (granted, ours): (OwnedFd, _) = (listener.try_clone().unwrap().into(), listener);
    let services = Services {
        listener: Some(granted.as_raw_fd()),
        ..Services::default()
    };
    let network = NetworkGrant::default();
    let stdio = [null(), null(), null()];
    let mut keep = Keep::with_listeners(stdio, &[], network, [None, Some(granted)]);
    let peer = TcpStream::connect(address).unwrap();
    let port = peer.local_addr().unwrap().port();
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = seccomp::thread().chain(super::allowed(services));
    seccomp::apply(&seccomp::compile(allowed, forbidden).unwrap()).unwrap();
    let handle = Handle::LISTENER;
    let accept = Call::TcpAccept { handle };
    let (reply, from) = keep.call(&accept, b"").unwrap();
    let expected = SocketAddress::V4 {
        address: [127, 0, 0, 1],
        port,
    };
    assert_eq!(from, expected.to_bytes());
    let connection = Handle(u32::try_from(reply.value).unwrap());
    let write = Call::StreamWrite {
        stream: connection,
        length: 5,
    };
    keep.call(&write, b"hello").unwrap();
    let shutdown = Call::Shutdown {
        handle: connection,
        how: enarx_sallyport::types::ShutdownHow::Send,
    };
    keep.call(&shutdown, b"").unwrap();
    let mut answer = [0; 6];
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(5));
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(0));
    let open = Call::TcpOpen { ipv6: false };
    assert_eq!(keep.call(&open, b"").map(drop), Err(Status::NotCapable));
    // Ended from outside, as the supervisor does it, it fails for ever.
    rustix::net::shutdown(&ours, rustix::net::Shutdown::Both).unwrap();
    for _ in 0..2 {
        assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::Invalid));
    }
}

#[test]
fn without_a_door_there_is_none() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let accept = Call::TcpAccept {
        handle: Handle::DOOR,
    };
    assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::BadHandle));
    let load = Call::Load {
        object: Object::Contract,
        offset: 0,
        length: 100,
    };
    let (reply, bytes) = keep.call(&load, b"").unwrap();
    assert_eq!((reply.value, &bytes[..]), (5, &b"terms"[..]));
}

#[test]
fn tcp_connects_accepts_carries_and_ends() {
    let mut keep = networked(true, false, false);
    let open = Call::TcpOpen { ipv6: false };
    let (listener, address) = bound(&mut keep, open);
    let listen = Call::TcpListen {
        handle: listener,
        backlog: 8,
    };
    keep.call(&listen, b"").unwrap();
    let client = handle_of(&keep.call(&open, b"").unwrap().0);
    let SocketAddress::V4 { port, .. } = address else {
        panic!()
    };
    assert_ne!(port, 0);

    // The accept waits until a connection comes.
    let accept = keep.submit(&Call::TcpAccept { handle: listener }, b"");
    let seen = keep.end.completions_seen();
    keep.executor
        .wait(seen, Until::Completion, Some(Duration::from_millis(20)))
        .unwrap();
    assert!(keep.end.reap().unwrap().is_none());
    let connect = Call::TcpConnect {
        handle: client,
        address,
    };
    let connect = keep.submit(&connect, b"");
    let mut server = Handle(0);
    for _ in 0..2 {
        let (reply, bytes) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        if reply.ticket == accept {
            server = handle_of(&reply);
            assert!(matches!(address_of(&bytes), SocketAddress::V4 { .. }));
        } else {
            assert_eq!(reply.ticket, connect);
        }
    }
    let (_, peer) = keep
        .call(&Call::PeerAddress { handle: client }, b"")
        .unwrap();
    assert_eq!(address_of(&peer), address);
    let (_, local) = keep
        .call(&Call::LocalAddress { handle: server }, b"")
        .unwrap();
    assert_eq!(address_of(&local), address);

    // Reads that are made ahead are answered in their order, each with what comes next.
    let ahead: Vec<Ticket> = (0..8)
        .map(|_| {
            let call = Call::StreamRead {
                stream: server,
                length: 1000,
            };
            keep.submit(&call, b"")
        })
        .collect();
    let first: Vec<u8> = (0..8_u8).flat_map(|number| [number; 1000]).collect();
    let written = keep.submit(&write(client, &first), &first);
    let mut answered = Vec::new();
    let mut got = Vec::new();
    for _ in 0..=ahead.len() {
        let (reply, bytes) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        if reply.ticket != written {
            answered.push(reply.ticket);
            got.extend(bytes);
        }
    }
    assert_eq!(answered, ahead);
    assert_eq!(got, first);

    // More than the buffers of the kernel hold: writes wait for reads.
    let piece = vec![3; 131_072];
    let mut written = 0;
    let mut read = 0_usize;
    for _ in 0..64 {
        keep.submit(&write(client, &piece), &piece);
        keep.submit(
            &Call::StreamRead {
                stream: server,
                length: 131_072,
            },
            b"",
        );
        for _ in 0..2 {
            let (reply, bytes) = keep.reply();
            assert_eq!(reply.status, Status::Ok);
            written += reply.value;
            read += bytes.len();
        }
    }
    keep.call(
        &Call::Shutdown {
            handle: client,
            how: enarx_sallyport::types::ShutdownHow::Send,
        },
        b"",
    )
    .unwrap();
    loop {
        let call = Call::StreamRead {
            stream: server,
            length: 131_072,
        };
        let (_, bytes) = keep.call(&call, b"").unwrap();
        if bytes.is_empty() {
            break;
        }
        read += bytes.len();
    }
    assert_eq!((written, read as u64), (64 * 131_072, 64 * 131_072));

    // Closing a handle ends what waits for it.
    let waiting = keep.submit(&Call::TcpAccept { handle: listener }, b"");
    keep.submit(&Call::Close { handle: listener }, b"");
    let (first, _) = keep.reply();
    assert_eq!((first.ticket, first.status), (waiting, Status::Cancelled));
    assert_eq!(keep.reply().0.status, Status::Ok);
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    assert_eq!(
        keep.call(&Call::TcpConnect { handle, address }, b"")
            .map(drop),
        Err(Status::ConnectionRefused)
    );
}

#[test]
fn datagrams_go_both_ways() {
    let mut keep = networked(false, true, false);
    let open = Call::UdpOpen { ipv6: false };
    let (one, one_address) = bound(&mut keep, open);
    let (other, other_address) = bound(&mut keep, open);
    let receive = keep.submit(
        &Call::UdpReceive {
            handle: other,
            length: 5,
        },
        b"",
    );
    let send = Call::UdpSend {
        handle: one,
        address: other_address,
        length: 7,
    };
    let sent = keep.submit(&send, b"message");
    for _ in 0..2 {
        let (reply, bytes) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        if reply.ticket == receive {
            let (from, datagram) = bytes.split_at(32);
            assert_eq!(address_of(from), one_address);
            // A datagram longer than asked for is cut off.
            assert_eq!(datagram, b"messa");
        } else {
            assert_eq!((reply.ticket, reply.value), (sent, 7));
        }
    }
    let listen = Call::TcpAccept { handle: one };
    assert_eq!(keep.call(&listen, b"").map(drop), Err(Status::Invalid));
    let huge = vec![0; 100_000];
    let send = Call::UdpSend {
        handle: one,
        address: other_address,
        length: 100_000,
    };
    assert_eq!(keep.call(&send, &huge).map(drop), Err(Status::MessageSize));
}

#[test]
fn socket_options_are_set_and_read() {
    let mut keep = networked(true, false, false);
    let (reply, _) = keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap();
    let handle = handle_of(&reply);
    let second = 1_000_000_000;
    let options = [
        (SocketOption::NoDelay, 1),
        (SocketOption::KeepAlive, 1),
        (SocketOption::KeepAliveIdle, 60 * second),
        (SocketOption::KeepAliveInterval, 5 * second),
        (SocketOption::KeepAliveCount, 7),
        (SocketOption::HopLimit, 33),
        (SocketOption::ReuseAddress, 0),
    ];
    for (option, value) in options {
        keep.call(
            &Call::SetOption {
                handle,
                option,
                value,
            },
            b"",
        )
        .unwrap();
        let (reply, _) = keep.call(&Call::GetOption { handle, option }, b"").unwrap();
        assert_eq!(reply.value, value, "{option:?}");
    }
    let wrong = [
        (SocketOption::NoDelay, 2),
        (SocketOption::HopLimit, 256),
        (SocketOption::HopLimit, u64::MAX),
        (SocketOption::KeepAliveCount, u64::MAX),
    ];
    for (option, value) in wrong {
        let call = Call::SetOption {
            handle,
            option,
            value,
        };
        assert_eq!(
            keep.call(&call, b"").map(drop),
            Err(Status::Invalid),
            "{option:?}"
        );
    }
    let call = Call::GetOption {
        handle: Handle::STDIN,
        option: SocketOption::NoDelay,
    };
    assert_eq!(keep.call(&call, b"").map(drop), Err(Status::NotSocket));
}

#[test]
fn names_are_looked_up_while_the_keep_goes_on() {
    let mut keep = networked(false, false, true);
    let (_, bytes) = keep
        .call(&Call::Resolve { name_length: 9 }, b"127.0.0.9")
        .unwrap();
    assert_eq!(bytes[10..], [0xff, 0xff, 127, 0, 0, 9]);
    let (_, bytes) = keep
        .call(&Call::Resolve { name_length: 3 }, b"::5")
        .unwrap();
    assert_eq!((bytes.len(), bytes[15]), (16, 5));
    let bad = Call::Resolve { name_length: 1 };
    assert_eq!(
        keep.call(&bad, b"\xff").map(drop),
        Err(Status::NameUnresolvable)
    );
    let long = Call::Resolve { name_length: 300 };
    assert_eq!(
        keep.call(&long, &[b'a'; 300]).map(drop),
        Err(Status::NameTooLong)
    );
}

/// A request as a hostile Keep may write it.
#[derive(Clone, Debug)]
struct Wild {
    operation: u16,
    flags: u16,
    handle: u32,
    length: u32,
    offset: u64,
    arguments: [u64; 5],
    input: String,
}

fn wild() -> impl Strategy<Value = Wild> {
    // Small numbers and those at the edges; names that lead out of the directory and into it.
    let number =
        || prop_oneof![4 => 0..20_u64, 2 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(1 << 32)];
    let input = proptest::collection::vec(
        prop_oneof![
            Just(".."),
            Just("/"),
            Just("secret"),
            Just("file"),
            Just("out"),
            Just("up"),
            Just("absolute"),
            Just("sub"),
            Just("deep"),
            Just("."),
            Just("new"),
            Just("inside"),
        ],
        0..6,
    );
    (
        // All but the exit, which ends the serving.
        prop_oneof![8 => 0..0x50_u16, 1 => any::<u16>()].prop_filter("exit", |number| *number != 6),
        prop_oneof![0..0x200_u16, any::<u16>()],
        prop_oneof![4 => 14..24_u32, 2 => 0..4_u32, 1 => any::<u32>()],
        prop_oneof![4 => 0..20_u32, 1 => 0..140_000_u32, 1 => any::<u32>()],
        number(),
        [number(), number(), number(), number(), number()],
        input,
    )
        .prop_map(
            |(operation, flags, handle, length, offset, arguments, input)| Wild {
                operation,
                flags,
                handle,
                length,
                offset,
                arguments,
                input: input.concat(),
            },
        )
}

/// One region for all cases: they come one after the other.
fn region_for_cases() -> Region {
    static WORDS: OnceLock<Vec<AtomicU64>> = OnceLock::new();
    let words = WORDS.get_or_init(|| (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect());
    Region::from_static(words).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is asked: everything is answered once, and nothing outside the directory changes.
    #[test]
    fn wild_requests_are_answered_and_reach_nothing_outside(requests in proptest::collection::vec(wild(), 1..200)) {
        use enarx_sallyport::layout::{CQ_HEAD, CQ_TAIL, SQ_TAIL, request_entry, submission_entry};
        let dir = sample();
        let region = region_for_cases();
        let grant = Grant {
            directories: vec![GrantedDirectory {
                directory: fs::File::open(dir.path().join("root")).unwrap().into(),
                read_only: false,
                quota: Some(1 << 20),
            }],
            ..Grant::of_streams([null(), null(), null()])
        };
        let executor = SharedExecutor::new(region, Facts::default(), grant, Objects::default()).unwrap();
        let slot = enarx_sallyport::Slot::new(0).unwrap();
        for (number, request) in (0_u32..).zip(&requests) {
            region.write(slot, 0, request.input.as_bytes()).unwrap();
            let head = u64::from(request.operation)
                | u64::from(request.flags) << 16
                | u64::from(number & 0xffff) << 48;
            let words = [
                head,
                u64::from(request.handle) | u64::from(request.length) << 32,
                request.offset,
            ];
            for (place, word) in request_entry(slot).into_iter().zip(words.into_iter().chain(request.arguments)) {
                region.store_u64(place, word);
            }
            region.store_u32(submission_entry(number), 0, Ordering::Relaxed);
            region.store_u32(SQ_TAIL, number + 1, Ordering::Release);
            prop_assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
            prop_assert_eq!(region.load_u32(CQ_TAIL, Ordering::Acquire), number + 1, "{:?}", request);
            region.store_u32(CQ_HEAD, number + 1, Ordering::Release);
        }
        let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(outside.len(), 2, "{:?}", outside);
        prop_assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
    }
}

/// A call that has these handles watched and waits for one of them, and its input.
fn poll(entries: &[(Handle, Events)]) -> (Call, Vec<u8>) {
    let call = Call::Poll {
        count: u32::try_from(entries.len()).unwrap(),
    };
    (call, named(entries))
}

/// Entries as bytes.
fn named(entries: &[(Handle, Events)]) -> Vec<u8> {
    let entry = |(handle, events): &(Handle, Events)| poll::Entry {
        handle: *handle,
        events: *events,
    };
    let bytes = entries.iter().map(entry).flat_map(poll::Entry::to_bytes);
    bytes.collect()
}

#[test]
fn one_request_waits_for_many_handles() {
    let (stdin, mut writer) = pipe().unwrap();
    let (reader, stdout) = pipe().unwrap();
    let mut keep = Keep::new([stdin.into(), stdout.into(), null()], &[]);
    let stdin = (Handle::STDIN, Events::READ);
    let stdout = (Handle::STDOUT, Events::WRITE);

    let (call, input) = poll(&[stdin, stdout]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[stdout]));

    // Nothing else is ready: other calls go on, and it is answered when something is. Handles that were named are
    // not watched any more, the others still are.
    let (call, input) = poll(&[]);
    let ticket = keep.submit(&call, &input);
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert!(!keep.end.has_completions());
    keep.call(&Call::ClockWall, b"").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            writer.write_all(b"x").unwrap();
        });
        let (reply, bytes) = keep.reply();
        assert_eq!((reply.ticket, bytes), (ticket, named(&[stdin])));
    });

    // A reader that is gone is told by a write, so the stream is ready.
    drop(reader);
    let (call, input) = poll(&[stdout]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[stdout]));
}

#[test]
fn directions_of_one_handle_are_watched_apart() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = SocketAddress::V4 {
        address: [127, 0, 0, 1],
        port: listener.local_addr().unwrap().port(),
    };
    // A thread that began before this one was confined.
    let (said, speaks) = channel();
    let peer = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        while let Ok(()) = speaks.recv() {
            peer.write_all(b"x").unwrap();
        }
    });
    let mut keep = networked(true, false, false);
    let open = Call::TcpOpen { ipv6: false };
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    keep.call(&Call::TcpConnect { handle, address }, b"")
        .unwrap();
    let (read, write) = ((handle, Events::READ), (handle, Events::WRITE));
    let (call, input) = poll(&[(handle, Events::all())]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[write]));
    // Two requests wait, and the first is answered first.
    let first = keep.submit(&poll(&[]).0, b"");
    let second = keep.submit(&poll(&[]).0, b"");
    said.send(()).unwrap();
    let (reply, ready) = keep.reply();
    assert_eq!((reply.ticket, ready), (first, named(&[read])));
    let (call, input) = poll(&[write]);
    let third = keep.submit(&call, &input);
    let (reply, ready) = keep.reply();
    assert_eq!((reply.ticket, ready), (second, named(&[write])));
    // When the peer is gone, both are ready.
    drop(said);
    peer.join().unwrap();
    let (call, input) = poll(&[read, write]);
    keep.submit(&call, &input);
    let (reply, ready) = keep.reply();
    let both = (handle, Events::all());
    assert_eq!((reply.ticket, ready), (third, named(&[both])));
}

#[test]
fn handles_that_never_wait_are_ready() {
    let directory = sample();
    let mut keep = Keep::with_directory(&directory.path().join("root"), false);
    let file = keep.open("file", READ).unwrap();
    let both = Events::all();
    // Of the last two, one does not exist, and one has not this direction.
    let entries = [
        (file, both),
        (ROOT, Events::READ),
        (Handle(999), Events::WRITE),
        (Handle::STDOUT, Events::READ),
    ];
    let (call, input) = poll(&entries);
    let mut entries = entries.to_vec();
    entries.sort_by_key(|(handle, _)| handle.0);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&entries));
}

#[test]
fn a_watch_is_called_back_and_ends_with_its_handle() {
    let mut keep = networked(true, false, false);
    let listeners = [(); 2].map(|()| {
        let (reply, _) = keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap();
        let handle = handle_of(&reply);
        let address = LOCALHOST;
        keep.call(&Call::Bind { handle, address }, b"").unwrap();
        let backlog = 8;
        keep.call(&Call::TcpListen { handle, backlog }, b"")
            .unwrap();
        handle
    });
    let (call, input) = poll(&listeners.map(|handle| (handle, Events::READ)));

    let ticket = keep.submit(&call, &input);
    keep.submit(&Call::Cancel { id: ticket.id() }, b"");
    let statuses: Vec<_> = (0..2)
        .map(|_| keep.reply().0)
        .map(|reply| (reply.ticket == ticket, reply.status))
        .collect();
    assert_eq!(statuses, [(true, Status::Cancelled), (false, Status::Ok)]);

    // It was taken back, and what is watched was not.
    let (call, _) = poll(&[]);
    let ticket = keep.submit(&call, b"");
    let handle = listeners[1];
    keep.submit(&Call::Close { handle }, b"");
    let replies: Vec<_> = (0..2)
        .map(|_| keep.reply())
        .map(|(reply, bytes)| (reply.ticket == ticket, reply.status, bytes))
        .collect();
    let closed = (true, Status::Ok, named(&[(handle, Events::READ)]));
    assert_eq!(replies, [closed, (false, Status::Ok, Vec::new())]);
}

#[test]
fn what_is_ready_and_never_taken_is_bounded() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let missing = |from: u32| -> Vec<_> {
        let handles = from..from + poll::ENTRIES_MAX / 2;
        handles.map(|it| (Handle(it), Events::READ)).collect()
    };
    let mut said = 0;
    let refused = (0..5).any(|turn| {
        let (call, input) = poll(&missing(1000 + turn * poll::ENTRIES_MAX));
        let answer = keep.call(&call, &input);
        said += usize::from(answer.is_ok());
        answer.is_err_and(|status| status == Status::NoBuffers)
    });
    assert!(refused && said > 0, "{said}");
    // Once it is taken, there is room.
    let (call, _) = poll(&[]);
    for _ in 0..poll::ENTRIES_MAX / poll::REPORTED_MAX / 2 {
        let reply = keep.call(&call, b"").unwrap().1;
        assert_eq!(
            reply.len(),
            (poll::REPORTED_MAX * poll::ENTRY_SIZE) as usize
        );
    }
    let (call, input) = poll(&missing(1));
    keep.call(&call, &input).unwrap();
}

#[test]
fn a_malformed_list_of_handles_is_refused() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for entry in [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 4, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 9],
    ] {
        let answer = keep.call(&Call::Poll { count: 1 }, &entry).map(drop);
        assert_eq!(answer, Err(Status::Invalid), "{entry:?}");
    }
}
