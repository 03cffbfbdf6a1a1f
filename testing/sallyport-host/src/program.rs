// SPDX-License-Identifier: Apache-2.0

//! A program of WASI, and a host that answers everything that decodes and nothing that is so: both do what bytes say, for property
//! tests and a fuzz target. Neither is trusted by the code between them, which is what is tested.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::task::Poll;

use enarx_configuration::sockets::{Peer, Socket};
use enarx_sallyport::call::RESOLVED_SIZE;
use enarx_sallyport::directory::{Entry, EntryWriter};
use enarx_sallyport::poll::{self, Events};
use enarx_sallyport::types::{FileType, ShutdownHow, Time};
use enarx_sallyport::{Call, Handle, REGION_SIZE, Region, Stat, Status};
use enarx_sallyport_drivers::script::Script;
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::fs::host::HostFileSystem;
use enarx_wasi::fs::{FileSystem as _, Listing, Node, OpenOptions, TimeChange};
use enarx_wasi::port::{Operation, Port};
use enarx_wasi::sockets::{Connection, Listener, Opened, Opener};
use enarx_wasi::stream::{Input, STDOUT};

use crate::liar::{Answer, Liar};

/// Most steps of a program.
const STEPS: usize = 48;
/// Most bytes that a program reads or writes at a time: more than one call carries.
const MAX_TRANSFER: usize = 300_000;

/// How often the host is asked for an answer to what was called back or closed, at the end.
const LAST: usize = 10_000;

/// Regions that no run uses.
static REGIONS: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A number up to `most`, often one of both ends.
fn up_to(script: &mut Script<'_>, most: u64) -> u64 {
    match script.byte() % 8 {
        0 => 0,
        1 => most,
        2 => most.saturating_sub(u64::from(script.byte())),
        3 => script.u64().min(most),
        _ => u64::from(script.byte()).min(most),
    }
}

fn size(script: &mut Script<'_>, most: usize) -> usize {
    let most = u64::try_from(most).expect("64 bits");
    usize::try_from(up_to(script, most)).expect("it is not above")
}

fn one_of<T: Copy>(script: &mut Script<'_>, choices: &[T]) -> T {
    *script.pick(choices).expect("there are some")
}

/// A handle of few, so that the host gives some twice.
fn handle(script: &mut Script<'_>) -> Handle {
    Handle(u32::from(script.byte() % 8) + 16)
}

/// The host: it decides by bytes, and remembers what it was asked to watch.
struct Host {
    bytes: Script<'static>,
    watched: BTreeSet<[u8; poll::ENTRY_SIZE as usize]>,
}

/// Bytes of a reply that decode, between the bounds of the call.
fn reply(Host { bytes, watched }: &mut Host, call: &Call) -> Vec<u8> {
    let limits = call.reply_limits().expect("no program ends here");
    let most = usize::try_from(limits.capacity).expect("64 bits");
    match call {
        Call::Stat { .. } | Call::StatAt { .. } => {
            let mut ns = || bytes.u32() % Time::SECOND;
            let [atim_ns, mtim_ns, ctim_ns] = [ns(), ns(), ns()];
            let mut record = Vec::new();
            for _ in 0..7 {
                record.extend(up_to(bytes, u64::MAX).to_le_bytes());
            }
            record.extend([atim_ns, mtim_ns, ctim_ns].map(u32::to_le_bytes).concat());
            record.push(bytes.byte() % (FileType::MAX + 1));
            record.extend([0; 11]);
            let record = record.try_into().expect("80 bytes");
            assert!(Stat::decode(&record).is_some());
            record.to_vec()
        }
        Call::LocalAddress { .. } | Call::PeerAddress { .. } => bytes.address().to_bytes().to_vec(),
        Call::UdpReceive { length, .. } => {
            let mut datagram = bytes.address().to_bytes().to_vec();
            let length = usize::try_from(*length).expect("64 bits");
            datagram.resize(datagram.len() + size(bytes, length), 7);
            datagram
        }
        Call::Resolve { .. } => {
            let count = usize::from(bytes.byte() % 4);
            let size = usize::try_from(RESOLVED_SIZE).expect("64 bits");
            (0..count * size).map(|_| bytes.byte()).collect()
        }
        Call::ReadDir { .. } => {
            let mut listing = vec![0; most];
            let mut writer = EntryWriter::new(&mut listing);
            for _ in 0..bytes.byte() % 8 {
                let name: Vec<u8> = (0..bytes.byte() % 16).map(|_| bytes.byte()).collect();
                // A name that no entry may have is left out.
                let _ = writer.push(&Entry {
                    next_cookie: bytes.u64(),
                    ino: bytes.u64(),
                    kind: one_of(bytes, FileType::ALL),
                    name: &name,
                });
            }
            let length = writer.length();
            listing.truncate(length);
            listing
        }
        Call::Poll { .. } => {
            let reported = usize::try_from(poll::REPORTED_MAX).expect("64 bits");
            // Without bytes, all that is left.
            let is_ready = |_: &[u8; 8]| bytes.is_over() || bytes.byte().is_multiple_of(2);
            let ready: Vec<_> = watched
                .iter()
                .copied()
                .filter(is_ready)
                .take(reported - 1)
                .collect();
            watched.retain(|entry| !ready.contains(entry));
            let mut reply = ready.concat();
            if bytes.byte().is_multiple_of(4) {
                let entry = poll::Entry {
                    handle: handle(bytes),
                    events: Events::all(),
                };
                reply.extend(entry.to_bytes());
            }
            reply
        }
        _ => vec![bytes.byte(); size(bytes, most)],
    }
}

/// The answer to a call; `None` for now. When the bytes are over, everything has an answer.
fn answer(host: &mut Host, call: &Call, input: &[u8]) -> Option<Answer> {
    if let Call::Poll { .. } = call {
        // Whatever the answer is.
        host.watched.extend(input.as_chunks().0);
    }
    if !host.bytes.is_over() {
        match host.bytes.byte() % 8 {
            0 => return None,
            1 => {
                let statuses = match call {
                    Call::Poll { .. } => &[Status::Ok, Status::Cancelled],
                    _ => Status::ALL,
                };
                let status = one_of(&mut host.bytes, statuses);
                return Some(Answer {
                    error: Some(status).filter(|status| *status != Status::Ok),
                    bytes: if status == Status::Ok {
                        reply(host, call)
                    } else {
                        Vec::new()
                    },
                    ..Answer::default()
                });
            }
            _ => {}
        }
    }
    let limits = call.reply_limits().expect("no program ends here");
    let reply = reply(host, call);
    let bytes = &mut host.bytes;
    let is_handle = limits.value == u64::from(u32::MAX);
    Some(Answer {
        error: None,
        bytes: reply,
        value: if is_handle {
            handle(bytes).0.into()
        } else {
            up_to(bytes, limits.value)
        },
        value2: up_to(bytes, limits.value2),
    })
}

/// The state of a program.
struct Program {
    port: Port,
    bytes: Script<'static>,
    files: HostFileSystem,
    nodes: Vec<Node>,
    operations: Vec<(Call, Operation)>,
    inputs: Vec<Input>,
    connections: Vec<Connection>,
    listeners: Vec<Listener>,
    clocks: Clocks,
    budget: Budget,
}

impl Program {
    fn node(&mut self) -> Node {
        let root = Node::from(Handle::FIRST_ROOT.0);
        let which = usize::from(self.bytes.byte());
        let others = self.nodes.len();
        self.nodes
            .get(which % (others + 1))
            .copied()
            .unwrap_or(root)
    }

    fn file(&mut self) {
        let (node, other) = (self.node(), self.node());
        let bytes = &mut self.bytes;
        let files = &mut self.files;
        let at = up_to(bytes, u64::MAX);
        match bytes.byte() % 16 {
            0 | 1 => {
                let flags = bytes.byte();
                let options = OpenOptions {
                    read: flags & 1 != 0,
                    write: flags & 2 != 0,
                    create: flags & 4 != 0,
                    directory: flags & 8 != 0,
                    follow: flags & 16 != 0,
                    ..OpenOptions::default()
                };
                if let Ok((node, _)) = files.open(node, "a/b", options) {
                    self.nodes.push(node);
                }
            }
            2..7 => {
                let mut buffer = vec![0; size(bytes, MAX_TRANSFER)];
                let offset = if bytes.byte() < 200 { at % 1024 } else { at };
                if let Ok(count) = files.read_at(node, offset, &mut buffer) {
                    assert!(count <= buffer.len());
                }
            }
            7 => {
                let buffer = vec![1; size(bytes, MAX_TRANSFER)];
                if let Ok(count) = files.write_at(node, at, &buffer) {
                    assert!(count <= buffer.len());
                }
            }
            8 => {
                let buffer = vec![1; size(bytes, MAX_TRANSFER)];
                if let Ok(count) = files.append(node, &buffer) {
                    assert!(count <= buffer.len());
                }
            }
            9 => {
                let _ = files.stat(node);
                let _ = files.stat_at(node, "a", at.is_multiple_of(2));
            }
            10 | 11 => {
                let mut listing = Listing::new(self.budget.clone());
                if files.read_directory(node, &mut listing).is_ok() {
                    let names = listing.entries().iter().map(|entry| entry.name.as_str());
                    for name in names {
                        assert!(!name.is_empty() && !name.contains(['/', '\0']));
                        assert!(name != "." && name != "..");
                    }
                }
            }
            12 => drop(files.read_link(node, "link")),
            13 => {
                let _ = files.rename(node, "a", other, "b");
                let _ = files.set_size(node, at);
                let _ = files.set_times(node, TimeChange::Now, TimeChange::Keep);
            }
            14 => {
                let _ = files.sync(node, at.is_multiple_of(2));
            }
            _ => {
                let which = usize::from(bytes.byte());
                if !self.nodes.is_empty() {
                    let node = self.nodes.swap_remove(which % self.nodes.len());
                    files.close(node);
                }
            }
        }
    }

    fn start(&mut self) {
        let bytes = &mut self.bytes;
        let handle = handle(bytes);
        let length = u32::try_from(size(bytes, 1000)).expect("it is short");
        let call = match bytes.byte() % 8 {
            0..3 => Call::StreamRead {
                stream: handle,
                length,
            },
            3 => Call::StreamWrite {
                stream: handle,
                length,
            },
            4 => Call::TcpAccept { handle },
            5 => Call::UdpReceive { handle, length },
            6 => Call::TcpConnect {
                handle,
                address: bytes.address(),
            },
            _ => Call::Shutdown {
                handle,
                how: one_of(bytes, ShutdownHow::ALL),
            },
        };
        let input = vec![2; usize::try_from(call.input_length()).expect("64 bits")];
        if let Ok(operation) = self.port.start(&call, &[&input]) {
            self.operations.push((call, operation));
        }
    }

    fn end(&mut self) {
        if self.operations.is_empty() {
            return;
        }
        let which = usize::from(self.bytes.byte()) % self.operations.len();
        let how = self.bytes.byte() % 4;
        if how == 0 {
            let (_, operation) = &self.operations[which];
            self.port.block_on(operation.ready());
            assert!(operation.is_ready());
            return;
        }
        let (call, mut operation) = self.operations.swap_remove(which);
        match (how, call) {
            (1, _) => {}
            (2, Call::StreamWrite { length, .. }) => {
                if let Ok(count) = operation.take_back() {
                    assert!(count <= usize::try_from(length).expect("64 bits"));
                }
            }
            _ => {
                let mut output = [0; 100];
                if let Ok(answer) = operation.take(&mut output) {
                    assert!(answer.length <= output.len());
                }
                assert!(operation.take(&mut output).is_err(), "it was taken");
            }
        }
    }

    fn open(&mut self) {
        let opener = Opener {
            port: &self.port,
            clocks: &self.clocks,
            issuers: &[],
            budget: &self.budget,
        };
        let (port, tls) = (self.bytes.u16(), None);
        let peer = match self.bytes.byte() % 3 {
            0 => Peer::Listen {
                address: None,
                port,
                tls: None,
            },
            1 => Peer::Connect {
                host: "192.0.2.1".to_owned(),
                port,
                tls,
            },
            _ => Peer::Connect {
                host: "db.example".to_owned(),
                port,
                tls,
            },
        };
        match opener.open(&Socket {
            descriptor: 3,
            peer,
        }) {
            Ok(Opened::Connection(connection)) => self.connections.push(*connection),
            Ok(Opened::Listener(listener)) => self.listeners.push(*listener),
            Err(_) => {}
        }
    }

    fn converse(&mut self) {
        let how = self.bytes.byte();
        if let Some(listener) = self.listeners.first_mut() {
            let taken = self.port.block_on(std::future::poll_fn(|context| {
                // As one that does not wait.
                Poll::Ready(match listener.poll_ready(context) {
                    Poll::Ready(()) => listener.take().ok(),
                    Poll::Pending => None,
                })
            }));
            self.connections.extend(taken);
        }
        let Some(connection) = self.connections.last_mut() else {
            return;
        };
        let mut buffer = vec![0; size(&mut self.bytes, MAX_TRANSFER)];
        let length = buffer.len();
        let count = self
            .port
            .block_on(std::future::poll_fn(|context| match how % 8 {
                0..3 => connection.poll_read(context, &mut buffer, how & 64 != 0),
                3 | 4 => connection.poll_write(context, &buffer),
                5 => connection.poll_sent(context).map_ok(|()| 0),
                6 => {
                    connection.end_writing();
                    connection.poll_ended(context).map_ok(|()| 0)
                }
                _ => Poll::Ready(connection.take_back()),
            }));
        if let Ok(count) = count {
            assert!(count <= length || how % 8 == 7);
        }
        if how & 128 != 0 {
            self.connections.pop();
        }
    }

    fn step(&mut self) {
        match self.bytes.byte() % 16 {
            0..6 => self.file(),
            6 | 7 => self.start(),
            8 | 9 => self.end(),
            10 => {
                let bytes = vec![3; size(&mut self.bytes, MAX_TRANSFER)];
                let _ = self.port.write(STDOUT, &bytes);
                let _ = self.port.flush(STDOUT);
            }
            11 => {
                let handle = handle(&mut self.bytes);
                let port = self.port.clone();
                self.inputs.push(if self.bytes.byte().is_multiple_of(2) {
                    Input::own(port, handle, &self.budget)
                } else {
                    Input::shared(port, handle)
                });
            }
            12 | 13 => {
                let limit = size(&mut self.bytes, MAX_TRANSFER);
                let how = self.bytes.byte();
                let Some(input) = self.inputs.last() else {
                    return;
                };
                match how % 4 {
                    0 => {
                        let mut buffer = vec![0; limit];
                        if let Ok(count) = input.read(&mut buffer) {
                            assert!(count <= limit);
                        }
                    }
                    1 => {
                        let _ = input.poll_ready();
                    }
                    2 => {
                        if let Ok(bytes) = self.port.block_on(input.read_some(limit)) {
                            assert!(bytes.len() <= limit);
                        }
                    }
                    _ => {
                        if let Ok(bytes) = input.read_available(limit) {
                            assert!(bytes.len() <= limit);
                        }
                    }
                }
            }
            14 => {
                self.open();
                let _ = self.clocks.wall();
                let _ = self.clocks.wall_time();
            }
            _ => self.converse(),
        }
    }
}

/// Runs a program and its host as the bytes say, and checks that the program is told nothing impossible, that each call ends,
/// and that none is left with the host.
///
/// # Panics
/// If that is not so.
pub fn run(script: &[u8]) {
    let (program, host) = script.split_at(script.len() / 2);
    let [program, host] = [program, host].map(|bytes| Script::new(bytes.to_vec()));
    let mut host = Host {
        bytes: host,
        watched: BTreeSet::new(),
    };
    let pooled = REGIONS.lock().expect("nobody panics with it").pop();
    let memory = pooled.unwrap_or_else(|| {
        let words = (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0));
        words.collect::<Vec<_>>().leak()
    });
    let region = Region::from_static(memory).expect("its length is right");
    let (port, liar) = Liar::over(region, move |call, input| answer(&mut host, call, input));
    let mut program = Program {
        port: port.clone(),
        bytes: program,
        files: HostFileSystem::new(port.clone()),
        nodes: Vec::new(),
        operations: Vec::new(),
        inputs: Vec::new(),
        connections: Vec::new(),
        listeners: Vec::new(),
        clocks: Clocks::new(port.clone()),
        budget: Budget::new(1 << 20),
    };
    for _ in 0..STEPS {
        if program.bytes.is_over() {
            break;
        }
        program.step();
    }
    drop(program);
    for _ in 0..LAST {
        let _ = port.call(&Call::ClockWall, &[], &mut []);
        if liar.open() == 0 {
            break;
        }
    }
    assert_eq!(liar.open(), 0, "a call is left with the host");
    drop((port, liar));
    REGIONS.lock().expect("nobody panics with it").push(memory);
}
