// SPDX-License-Identifier: Apache-2.0

//! The executor against a Keep's end in the same program.

mod files;
mod hostile;
mod log;
mod network;
mod objects;
mod polls;
mod quotas;
mod rates;
mod sleep;
mod streams;

use std::fs;
use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
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

const NO_LIMIT: Option<Duration> = Some(Duration::from_mins(2));

/// Longer than a busy machine takes for moments, and shorter than [`NO_LIMIT`].
const PATIENCE: Duration = Duration::from_mins(1);

/// By then a thread that was about to sleep is asleep. One that is not finds the event that would wake it at once: the test
/// covers less, and passes.
const ASLEEP: Duration = Duration::from_millis(50);

/// A Keep with network permissions. From now on the calling thread is under the filter of a thread that serves
/// the Keep; forbidden calls fail.
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

    /// With a door and a listener, if given.
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
            directories: directories
                .iter()
                .map(|(path, read_only)| GrantedDirectory {
                    directory: fs::File::open(path).unwrap().into(),
                    read_only: *read_only,
                    quota,
                })
                .collect(),
            network,
            door,
            listener,
            ..Grant::of_streams(stdio)
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

const LOCALHOST: SocketAddress = SocketAddress::V4 {
    address: [127, 0, 0, 1],
    port: 0,
};

fn handle_of(reply: &Reply) -> Handle {
    reply.handle().unwrap()
}

fn address_of(bytes: &[u8]) -> SocketAddress {
    SocketAddress::from_bytes(bytes.try_into().unwrap()).unwrap()
}
