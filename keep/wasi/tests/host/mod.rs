//! A host for tests: answers every call from memory, at once and in order.
//!
//! Files come from a private file system of the heart, so that what crosses the sallyport can be
//! compared with what does not. The network is this machine's; only there a call may have to wait.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use enarx_sallyport::directory::{Entry as WireEntry, EntryWriter};
use enarx_sallyport::keep::Violation;
use enarx_sallyport::types::{
    Object, OpenFlags, ShutdownHow, SocketOption, TimeChange as WireTimeChange,
};
use enarx_sallyport::{
    Call, Doorbell, FileType, Handle, HostEnd, KeepEnd, Region, Slot, SocketAddress,
    Stat as WireStat, Status, Submission,
};
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::error::Errno;
use enarx_wasi::fs::memory::MemoryFileSystem;
use enarx_wasi::fs::{FileSystem, Kind, Listing, Node, OpenOptions, Stat, TimeChange};
use enarx_wasi::port::{Platform, Port};
use zerocopy::IntoBytes;

/// What the host answers with, and what it was told.
#[derive(Default)]
pub struct World {
    pub configuration: Vec<u8>,
    pub application: Vec<u8>,
    pub stdin: Vec<u8>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Option<i32>,
    /// Nobody reads standard output.
    pub stdout_closed: bool,
    /// The directories of the grant, one after the other from handle 16 on.
    pub roots: Vec<Node>,
    pub files: Option<MemoryFileSystem>,
    /// Calls served so far.
    pub calls: usize,
    /// Directories that were read from their start.
    pub listings: u32,
    pub sockets: HashMap<u32, Socket>,
    /// Options that were set.
    pub options: HashMap<(u32, SocketOption), u64>,
    /// Sockets opened so far.
    pub opened: u32,
}

pub enum Socket {
    Tcp,
    Udp,
    Listener(TcpListener),
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

/// Handles of sockets start here.
const SOCKETS: u32 = 1 << 20;

/// The status of an error; `Again` makes the call wait.
fn io_status(error: &std::io::Error) -> Status {
    match error.kind() {
        ErrorKind::WouldBlock => Status::Again,
        ErrorKind::ConnectionRefused => Status::ConnectionRefused,
        ErrorKind::AddrInUse => Status::AddressInUse,
        ErrorKind::AddrNotAvailable => Status::AddressNotAvailable,
        _ => Status::Io,
    }
}

fn to_std(address: SocketAddress) -> SocketAddr {
    match address {
        SocketAddress::V4 { address, port } => (address, port).into(),
        SocketAddress::V6 { address, port, .. } => (address, port).into(),
    }
}

fn wire_address(address: SocketAddr) -> Vec<u8> {
    let port = address.port();
    let address = match address.ip() {
        IpAddr::V4(ip) => SocketAddress::V4 {
            address: ip.octets(),
            port,
        },
        IpAddr::V6(ip) => SocketAddress::V6 {
            address: ip.octets(),
            port,
            flow: 0,
            scope: 0,
        },
    };
    address.to_bytes().to_vec()
}

/// UNIX time of the test host, in ns.
pub const WALL: u64 = 1_700_000_000_123_456_789;

/// Handles of the test host are nodes of its file system, moved out of the way of fixed handles.
const OFFSET: u64 = 1000;

fn status(errno: Errno) -> Status {
    match errno {
        Errno::NotPermitted => Status::Permission,
        Errno::NoEntry => Status::NoEntry,
        Errno::BadDescriptor => Status::BadHandle,
        Errno::Exists => Status::Exists,
        Errno::NotDirectory => Status::NotDirectory,
        Errno::IsDirectory => Status::IsDirectory,
        Errno::Invalid => Status::Invalid,
        Errno::FileTooLarge => Status::FileTooLarge,
        Errno::NoSpace => Status::NoSpace,
        Errno::NameTooLong => Status::NameTooLong,
        Errno::NotEmpty => Status::NotEmpty,
        Errno::Loop => Status::Loop,
        Errno::Busy => Status::Busy,
        _ => Status::Io,
    }
}

fn wire_kind(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::SymbolicLink => FileType::SymbolicLink,
        _ => FileType::Unknown,
    }
}

fn change(change: WireTimeChange) -> TimeChange {
    match change {
        WireTimeChange::Keep => TimeChange::Keep,
        WireTimeChange::Now => TimeChange::Now,
        WireTimeChange::At(at) => TimeChange::At(at),
    }
}

fn wire_stat(stat: &Stat) -> WireStat {
    WireStat {
        dev: stat.device + 40,
        ino: stat.inode,
        nlink: stat.links,
        size: stat.size,
        atim: stat.accessed.seconds(),
        mtim: stat.modified.seconds(),
        ctim: stat.changed.seconds(),
        atim_ns: stat.accessed.nanoseconds(),
        mtim_ns: stat.modified.nanoseconds(),
        ctim_ns: stat.changed.nanoseconds(),
        kind: wire_kind(stat.kind) as u8,
        reserved: [0; 11],
    }
}

/// What a call is answered with: value, second value, bytes.
type Served = Result<(u64, u64, Vec<u8>), Status>;

impl World {
    fn add(&mut self, socket: Socket) -> u64 {
        // Handles are not used again, so that a stale one is noticed.
        self.opened += 1;
        let handle = SOCKETS + self.opened;
        self.sockets.insert(handle, socket);
        u64::from(handle)
    }

    fn network(&mut self, call: &Call, input: &[u8]) -> Served {
        let try_network = |world: &mut Self| -> std::io::Result<Served> {
            let unknown = || Ok(Err(Status::BadHandle));
            Ok(Ok(match *call {
                Call::TcpOpen { .. } => (world.add(Socket::Tcp), 0, Vec::new()),
                Call::UdpOpen { .. } => (world.add(Socket::Udp), 0, Vec::new()),
                Call::Bind { handle, address } => {
                    let bound = match world.sockets.get(&handle.0) {
                        // It listens at once, which the tests do not notice.
                        Some(Socket::Tcp) => {
                            let listener = TcpListener::bind(to_std(address))?;
                            listener.set_nonblocking(true)?;
                            Socket::Listener(listener)
                        }
                        Some(Socket::Udp) => {
                            let socket = UdpSocket::bind(to_std(address))?;
                            socket.set_nonblocking(true)?;
                            Socket::Datagrams(socket)
                        }
                        _ => return Ok(Err(Status::Invalid)),
                    };
                    world.sockets.insert(handle.0, bound);
                    (0, 0, Vec::new())
                }
                Call::TcpConnect { handle, address } => {
                    let Some(Socket::Tcp) = world.sockets.get(&handle.0) else {
                        return Ok(Err(Status::Invalid));
                    };
                    let stream = TcpStream::connect(to_std(address))?;
                    stream.set_nonblocking(true)?;
                    world.sockets.insert(handle.0, Socket::Stream(stream));
                    (0, 0, Vec::new())
                }
                Call::TcpListen { handle, .. } => match world.sockets.get(&handle.0) {
                    Some(Socket::Listener(_)) => (0, 0, Vec::new()),
                    _ => return Ok(Err(Status::Invalid)),
                },
                Call::TcpAccept { handle } => {
                    let Some(Socket::Listener(listener)) = world.sockets.get(&handle.0) else {
                        return unknown();
                    };
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    (world.add(Socket::Stream(stream)), 0, wire_address(peer))
                }
                Call::StreamRead { stream, length } => {
                    let Some(Socket::Stream(stream)) = world.sockets.get_mut(&stream.0) else {
                        return unknown();
                    };
                    let mut bytes = vec![0; length as usize];
                    let count = stream.read(&mut bytes)?;
                    bytes.truncate(count);
                    (0, 0, bytes)
                }
                Call::StreamWrite { stream, .. } => {
                    let Some(Socket::Stream(stream)) = world.sockets.get_mut(&stream.0) else {
                        return unknown();
                    };
                    // The tests send no more than the socket's buffer holds.
                    stream.write_all(input)?;
                    (input.len() as u64, 0, Vec::new())
                }
                Call::Shutdown { handle, how } => {
                    let Some(Socket::Stream(stream)) = world.sockets.get(&handle.0) else {
                        return unknown();
                    };
                    stream.shutdown(match how {
                        ShutdownHow::Receive => std::net::Shutdown::Read,
                        ShutdownHow::Send => std::net::Shutdown::Write,
                        ShutdownHow::Both => std::net::Shutdown::Both,
                    })?;
                    (0, 0, Vec::new())
                }
                Call::UdpSend {
                    handle, address, ..
                } => {
                    let Some(Socket::Datagrams(socket)) = world.sockets.get(&handle.0) else {
                        return unknown();
                    };
                    let count = socket.send_to(input, to_std(address))?;
                    (count as u64, 0, Vec::new())
                }
                Call::UdpReceive { handle, length } => {
                    let Some(Socket::Datagrams(socket)) = world.sockets.get(&handle.0) else {
                        return unknown();
                    };
                    let mut bytes = vec![0; length as usize];
                    let (count, from) = socket.recv_from(&mut bytes)?;
                    (0, 0, [&wire_address(from)[..], &bytes[..count]].concat())
                }
                Call::LocalAddress { handle } => {
                    let address = match world.sockets.get(&handle.0) {
                        Some(Socket::Listener(socket)) => socket.local_addr()?,
                        Some(Socket::Stream(socket)) => socket.local_addr()?,
                        Some(Socket::Datagrams(socket)) => socket.local_addr()?,
                        _ => return unknown(),
                    };
                    (0, 0, wire_address(address))
                }
                Call::PeerAddress { handle } => {
                    let Some(Socket::Stream(stream)) = world.sockets.get(&handle.0) else {
                        return unknown();
                    };
                    (0, 0, wire_address(stream.peer_addr()?))
                }
                Call::Close { handle } => {
                    world.sockets.remove(&handle.0);
                    (0, 0, Vec::new())
                }
                Call::SetOption {
                    handle,
                    option,
                    value,
                } => {
                    world.options.insert((handle.0, option), value);
                    (0, 0, Vec::new())
                }
                Call::GetOption { handle, option } => {
                    let value = world.options.get(&(handle.0, option));
                    (value.copied().unwrap_or(1), 0, Vec::new())
                }
                Call::Resolve { .. } if input == b"two.example" => {
                    let v4 = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
                    let v6: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
                    (0, 0, [v4.octets(), v6.octets()].concat())
                }
                Call::Resolve { .. } => return Ok(Err(Status::NameUnresolvable)),
                _ => return Ok(Err(Status::NotSupported)),
            }))
        };
        try_network(self).unwrap_or_else(|error| Err(io_status(&error)))
    }

    fn node(&self, handle: Handle) -> Result<Node, Status> {
        let number = u64::from(handle.0);
        if number >= OFFSET {
            return Ok(number - OFFSET);
        }
        usize::try_from(number.checked_sub(16).ok_or(Status::BadHandle)?)
            .ok()
            .and_then(|index| self.roots.get(index).copied())
            .ok_or(Status::BadHandle)
    }

    fn fs(&mut self) -> Result<&mut MemoryFileSystem, Status> {
        self.files.as_mut().ok_or(Status::BadHandle)
    }

    fn serve(&mut self, call: &Call, input: &[u8]) -> Served {
        self.calls += 1;
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8(input[range].to_vec()).map_err(|_| Status::IllegalSequence)
        };
        let all = 0..input.len();
        let done = |result: Result<(), Errno>| result.map(|()| (0, 0, Vec::new())).map_err(status);
        match *call {
            Call::Load {
                object,
                offset,
                length,
            } => {
                let bytes = match object {
                    Object::Configuration => &self.configuration,
                    Object::Application => &self.application,
                };
                let start = usize::try_from(offset).unwrap().min(bytes.len());
                let end = (start + length as usize).min(bytes.len());
                Ok((bytes.len() as u64, 0, bytes[start..end].to_vec()))
            }
            Call::StreamRead {
                stream: Handle::STDIN,
                length,
            } => {
                let count = self.stdin.len().min(length as usize);
                Ok((0, 0, self.stdin.drain(..count).collect()))
            }
            Call::StreamWrite {
                stream: Handle::STDOUT,
                ..
            } => {
                if self.stdout_closed {
                    return Err(Status::Pipe);
                }
                self.stdout.extend_from_slice(input);
                Ok((input.len() as u64, 0, Vec::new()))
            }
            Call::StreamWrite {
                stream: Handle::STDERR,
                ..
            } => {
                self.stderr.extend_from_slice(input);
                Ok((input.len() as u64, 0, Vec::new()))
            }
            Call::ClockWall => Ok((WALL, 0, Vec::new())),
            Call::Open { dir, flags, .. } => {
                let node = self.node(dir)?;
                let has = |flag| flags.contains(flag);
                let options = OpenOptions {
                    read: has(OpenFlags::READ),
                    write: has(OpenFlags::WRITE),
                    create: has(OpenFlags::CREATE),
                    exclusive: has(OpenFlags::EXCLUSIVE),
                    truncate: has(OpenFlags::TRUNCATE),
                    directory: has(OpenFlags::DIRECTORY),
                    follow: !has(OpenFlags::NOFOLLOW),
                };
                let path = text(all)?;
                let (node, kind) = self.fs()?.open(node, &path, options).map_err(status)?;
                Ok((node + OFFSET, wire_kind(kind) as u64, Vec::new()))
            }
            Call::Close { handle } if handle.0 < SOCKETS => {
                let node = self.node(handle)?;
                self.fs()?.close(node);
                done(Ok(()))
            }
            Call::ReadAt {
                handle,
                offset,
                length,
            } => {
                let node = self.node(handle)?;
                let mut bytes = vec![0; length as usize];
                let count = self
                    .fs()?
                    .read_at(node, offset, &mut bytes)
                    .map_err(status)?;
                bytes.truncate(count);
                Ok((0, 0, bytes))
            }
            Call::WriteAt { handle, offset, .. } => {
                let node = self.node(handle)?;
                let count = self.fs()?.write_at(node, offset, input).map_err(status)?;
                Ok((count as u64, 0, Vec::new()))
            }
            Call::Append { handle, .. } => {
                let node = self.node(handle)?;
                let count = self.fs()?.append(node, input).map_err(status)?;
                Ok((count as u64, 0, Vec::new()))
            }
            Call::Stat { handle } => {
                let node = self.node(handle)?;
                let stat = self.fs()?.stat(node).map_err(status)?;
                Ok((0, 0, wire_stat(&stat).as_bytes().to_vec()))
            }
            Call::StatAt { dir, follow, .. } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                let stat = self.fs()?.stat_at(node, &path, follow).map_err(status)?;
                Ok((0, 0, wire_stat(&stat).as_bytes().to_vec()))
            }
            Call::SetSize { handle, size } => {
                let node = self.node(handle)?;
                done(self.fs()?.set_size(node, size))
            }
            Call::SetTimes { handle, atim, mtim } => {
                let node = self.node(handle)?;
                done(self.fs()?.set_times(node, change(atim), change(mtim)))
            }
            Call::SetTimesAt {
                dir,
                follow,
                atim,
                mtim,
                ..
            } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                let (atim, mtim) = (change(atim), change(mtim));
                done(self.fs()?.set_times_at(node, &path, follow, atim, mtim))
            }
            Call::Sync { handle, data_only } => {
                let node = self.node(handle)?;
                done(self.fs()?.sync(node, data_only))
            }
            Call::ReadDir {
                handle,
                cookie,
                length,
            } => {
                let node = self.node(handle)?;
                self.listings += u32::from(cookie == 0);
                let mut listing = Listing::new(Budget::new(u64::MAX));
                self.fs()?
                    .read_directory(node, &mut listing)
                    .map_err(status)?;
                let mut bytes = vec![0; length as usize];
                let mut writer = EntryWriter::new(&mut bytes);
                let skipped = usize::try_from(cookie).unwrap();
                for (entry, next_cookie) in listing.entries().iter().zip(1..).skip(skipped) {
                    let wire = WireEntry {
                        next_cookie,
                        ino: entry.inode,
                        kind: wire_kind(entry.kind),
                        name: entry.name.as_bytes(),
                    };
                    if writer.push(&wire).is_err() {
                        break;
                    }
                }
                let count = writer.length();
                bytes.truncate(count);
                Ok((0, 0, bytes))
            }
            Call::CreateDir { dir, .. } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                done(self.fs()?.create_directory(node, &path))
            }
            Call::RemoveDir { dir, .. } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                done(self.fs()?.remove_directory(node, &path))
            }
            Call::Unlink { dir, .. } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                done(self.fs()?.unlink(node, &path))
            }
            Call::ReadLink { dir, .. } => {
                let (node, path) = (self.node(dir)?, text(all)?);
                let target = self.fs()?.read_link(node, &path).map_err(status)?;
                Ok((0, 0, target.into_bytes()))
            }
            Call::Rename {
                from_dir,
                to_dir,
                from_length,
                ..
            } => {
                let (from_node, to_node) = (self.node(from_dir)?, self.node(to_dir)?);
                let from = text(0..from_length as usize)?;
                let to = text(from_length as usize..input.len())?;
                done(self.fs()?.rename(from_node, &from, to_node, &to))
            }
            Call::Link {
                from_dir,
                to_dir,
                from_length,
                ..
            } => {
                let (from_node, to_node) = (self.node(from_dir)?, self.node(to_dir)?);
                let from = text(0..from_length as usize)?;
                let to = text(from_length as usize..input.len())?;
                done(self.fs()?.link(from_node, &from, to_node, &to))
            }
            Call::Symlink {
                dir, target_length, ..
            } => {
                let node = self.node(dir)?;
                let target = text(0..target_length as usize)?;
                let path = text(target_length as usize..input.len())?;
                done(self.fs()?.symlink(&target, node, &path))
            }
            _ => self.network(call, input),
        }
    }
}

/// Bytes of input that a call brings.
fn input_length(call: &Call) -> u32 {
    match *call {
        Call::StreamWrite { length, .. }
        | Call::LogWrite { length, .. }
        | Call::Evidence { length }
        | Call::WriteAt { length, .. }
        | Call::UdpSend { length, .. }
        | Call::Append { length, .. } => length,
        Call::Resolve { name_length } => name_length,
        Call::Open { path_length, .. }
        | Call::StatAt { path_length, .. }
        | Call::SetTimesAt { path_length, .. }
        | Call::CreateDir { path_length, .. }
        | Call::RemoveDir { path_length, .. }
        | Call::Unlink { path_length, .. }
        | Call::ReadLink { path_length, .. } => path_length,
        Call::Rename {
            from_length,
            to_length,
            ..
        }
        | Call::Link {
            from_length,
            to_length,
            ..
        } => from_length + to_length,
        Call::Symlink {
            target_length,
            link_length,
            ..
        } => target_length + link_length,
        _ => 0,
    }
}

/// The host's end with its world.
pub struct Host {
    pub end: HostEnd<Region>,
    pub world: World,
    /// Calls that wait for the network.
    waiting: Vec<(u32, Slot, Call, Vec<u8>)>,
}

impl Host {
    /// A host with this world.
    pub fn new(end: HostEnd<Region>, world: World) -> Self {
        Self {
            end,
            world,
            waiting: Vec::new(),
        }
    }

    /// Serves everything that is submitted; whether there was anything.
    pub fn serve(&mut self) -> bool {
        let mut any = false;
        for (id, slot, call, input) in std::mem::take(&mut self.waiting) {
            any |= self.attempt(id, slot, call, input);
        }
        while let Some(submission) = self.end.next().expect("the Keep keeps the protocol") {
            any = true;
            self.serve_one(&submission);
        }
        any
    }

    fn serve_one(&mut self, submission: &Submission) {
        let Submission { id, slot, call } = *submission;
        let call = call.expect("the Keep encodes well");
        match call {
            Call::Exit { code } => self.world.exit = Some(code),
            Call::Cancel { id: other } => {
                if let Some(place) = self.waiting.iter().position(|(id, ..)| *id == other) {
                    self.waiting.remove(place);
                    self.end
                        .complete(other, Status::Cancelled, 0, 0, 0)
                        .unwrap();
                }
                self.end.complete(id, Status::Ok, 0, 0, 0).unwrap();
            }
            call => {
                let mut input = vec![0; input_length(&call) as usize];
                self.end.read_input(slot, 0, &mut input).unwrap();
                self.attempt(id, slot, call, input);
            }
        }
    }

    /// Answers a call unless it has to wait; whether it was answered.
    fn attempt(&mut self, id: u32, slot: Slot, call: Call, input: Vec<u8>) -> bool {
        let served = self.world.serve(&call, &input);
        if matches!(served, Err(Status::Again)) {
            self.waiting.push((id, slot, call, input));
            return false;
        }
        self.answer(id, slot, served);
        true
    }

    fn answer(&mut self, id: u32, slot: Slot, served: Served) {
        match served {
            Ok((value, value2, bytes)) => {
                self.end.write_output(slot, 0, &bytes).unwrap();
                let length = u32::try_from(bytes.len()).unwrap();
                self.end
                    .complete(id, Status::Ok, length, value, value2)
                    .unwrap();
            }
            Err(status) => self.end.complete(id, status, 0, 0, 0).unwrap(),
        }
    }
}

/// A host in the same thread: it serves whenever it is rung.
#[derive(Clone)]
pub struct InProcess(pub Arc<Mutex<Host>>);

impl InProcess {
    /// A port to a host with this world.
    pub fn start(world: World) -> (Port, Self) {
        let words = enarx_sallyport::REGION_SIZE / 8;
        let memory: &'static [_] = (0..words)
            .map(|_| std::sync::atomic::AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak();
        let region = Region::from_static(memory).unwrap();
        let end = HostEnd::initialise(region, enarx_sallyport::Facts::default());
        let host = Self(Arc::new(Mutex::new(Host::new(end, world))));
        let port = Port::new(KeepEnd::attach(region).unwrap(), Arc::new(host.clone()));
        (port, host)
    }

    /// Looks at the world.
    pub fn world<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        look(&mut self.0.lock().unwrap().world)
    }

    /// Gives the host a file system, with one directory of the grant.
    pub fn give_files(&self) {
        // The clock of the host's files needs a port of its own.
        let (port, _) = Self::start(World::default());
        let files = MemoryFileSystem::new(Clocks::new(port), Budget::new(1 << 30));
        self.world(|world| {
            world.roots = vec![files.root()];
            world.files = Some(files);
        });
    }
}

impl Doorbell for InProcess {
    fn ring(&self) {
        self.0.lock().unwrap().serve();
    }

    fn wait(&self, _seen: u32, timeout: Option<Duration>) {
        let mut host = self.0.lock().unwrap();
        if host.serve() {
            return;
        }
        let poll = Duration::from_millis(1);
        let pause = if host.waiting.is_empty() {
            timeout.expect("nothing would ever end this wait")
        } else {
            timeout.map_or(poll, |timeout| timeout.min(poll))
        };
        drop(host);
        std::thread::sleep(pause);
    }
}

impl Platform for InProcess {
    fn violation(&self, violation: &Violation) -> ! {
        panic!("the test host is honest, but: {violation}")
    }

    fn exit(&self, code: i32) -> ! {
        panic!("exit {code}")
    }
}
