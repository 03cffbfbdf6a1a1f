// SPDX-License-Identifier: Apache-2.0

//! A host for tests of the Keep's side: the real executor, with files and streams of the test.
//!
//! [`InProcess`] serves in the thread that rings; [`Host`] serves when it is called. [`liar`] is a host that says what a test
//! wants, and [`program`] a program for use against it, both made of bytes.

#![forbid(unsafe_code)]

pub mod liar;
pub mod program;

use std::fs::File;
use std::io::{PipeReader, Read, Seek, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enarx_executor::grant::{Grant, GrantedDirectory, NetworkGrant};
use enarx_executor::launch::Objects;
use enarx_executor::{Progress, SharedExecutor};
use enarx_sallyport::keep::Violation;
use enarx_sallyport::{Doorbell, Facts, KeepEnd, REGION_SIZE, Region, Until};
use enarx_wasi::port::{Platform, Port};
use rustix::io::ioctl_fionbio;
use tempfile::TempDir;

/// The longest sleep before the Keep's output is collected again, which may be what it waits for.
const PAUSE: Duration = Duration::from_millis(2);

/// A Keep's surroundings at its host. The network is this machine's.
#[derive(Default)]
pub struct World {
    /// The encoded configuration.
    pub configuration: Vec<u8>,
    /// The application.
    pub application: Vec<u8>,
    /// Standard input, whole.
    pub stdin: Vec<u8>,
    /// Empty directories of the grant, this many; the Keep may write them.
    pub directories: usize,
    /// The door of the grant: a Unix socket that listens, non-blocking.
    pub door: Option<OwnedFd>,
}

/// An output of the Keep, and the bytes read from it.
struct Output {
    /// `None` when nobody reads any more.
    reader: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl Output {
    /// Takes the Keep's output.
    fn collect(&mut self) {
        let mut piece = [0; 4096];
        while let Some(reader) = &mut self.reader
            && let Ok(count @ 1..) = reader.read(&mut piece)
        {
            self.bytes.extend_from_slice(&piece[..count]);
        }
    }
}

/// The host of one Keep.
pub struct Host {
    executor: SharedExecutor,
    folders: Vec<TempDir>,
    outputs: Mutex<[Output; 2]>,
    exit: Mutex<Option<i32>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// A host over `region`, which it initialises.
    ///
    /// # Panics
    /// If the system does not give files and pipes.
    pub fn new(region: Region, world: World) -> Self {
        let mut stdin = tempfile::tempfile().expect("a file");
        stdin.write_all(&world.stdin).expect("it is written");
        stdin.rewind().expect("it is a file");
        let output = || {
            let (reader, writer) = pipe().expect("a pipe");
            ioctl_fionbio(&reader, true).expect("it may not block");
            let output = Output {
                reader: Some(reader),
                bytes: Vec::new(),
            };
            (output, writer.into())
        };
        let ((stdout, stdout_fd), (stderr, stderr_fd)) = (output(), output());
        let folders: Vec<_> = (0..world.directories)
            .map(|_| TempDir::new().expect("a folder"))
            .collect();
        let granted = folders.iter().map(|folder| GrantedDirectory {
            directory: File::open(folder.path()).expect("our folder").into(),
            read_only: false,
            quota: None,
        });
        let grant = Grant {
            directories: granted.collect(),
            network: NetworkGrant {
                tcp: true,
                udp: true,
                name_lookup: true,
            },
            door: world.door,
            ..Grant::of_streams([stdin.into(), stdout_fd, stderr_fd])
        };
        let executor = SharedExecutor::new(
            region,
            Facts::default(),
            grant,
            Objects::program(world.configuration, world.application),
        );
        Self {
            executor: executor.expect("an executor"),
            folders,
            outputs: Mutex::new([stdout, stderr]),
            exit: Mutex::new(None),
        }
    }

    /// Performs everything that was submitted and need not wait.
    ///
    /// # Panics
    /// If the Keep breaks the protocol.
    pub fn serve(&self) {
        self.note(
            self.executor
                .drain_all()
                .expect("the Keep keeps the protocol"),
        );
        self.collect();
    }

    /// Serves until a completion of the kind `until` past `seen` is posted, or `timeout` is over.
    ///
    /// # Panics
    /// As [`Self::serve`].
    pub fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>) {
        let start = Instant::now();
        loop {
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            let pause = left.map_or(PAUSE, |left| left.min(PAUSE));
            let progress = self.executor.wait(seen, until, Some(pause));
            self.note(progress.expect("the Keep keeps the protocol"));
            self.collect();
            let is_over = left.is_some_and(|left| left.is_zero());
            if self.executor.has_completed(seen, until) || is_over {
                return;
            }
        }
    }

    fn note(&self, progress: Progress) {
        if let Progress::Exit(code) = progress {
            *lock(&self.exit) = Some(code);
        }
    }

    fn collect(&self) {
        for output in &mut *lock(&self.outputs) {
            output.collect();
        }
    }

    fn output(&self, which: usize) -> Vec<u8> {
        // A pipe that is read has room for more of what the Keep has posted.
        loop {
            let before = lock(&self.outputs)[which].bytes.len();
            self.serve();
            let output = &lock(&self.outputs)[which];
            if output.bytes.len() == before {
                return output.bytes.clone();
            }
        }
    }

    /// All that the Keep has written to standard output.
    pub fn stdout(&self) -> Vec<u8> {
        self.output(0)
    }

    /// All that the Keep has written to standard error, its log included.
    pub fn stderr(&self) -> Vec<u8> {
        self.output(1)
    }

    /// From now on nobody reads standard output.
    pub fn close_stdout(&self) {
        lock(&self.outputs)[0].reader = None;
    }

    /// Requests that the Keep has made.
    pub fn calls(&self) -> u32 {
        self.serve();
        self.executor.activity().0
    }

    /// The exit code, once the Keep has asked to end.
    pub fn exit(&self) -> Option<i32> {
        *lock(&self.exit)
    }

    /// A directory of the grant, on this machine.
    ///
    /// # Panics
    /// If there is no such directory.
    pub fn folder(&self, index: usize) -> &Path {
        self.folders[index].path()
    }
}

/// A host in the Keep's thread: it serves whenever it is rung.
#[derive(Clone)]
pub struct InProcess(Arc<Host>);

impl InProcess {
    /// A port to a host with this world.
    ///
    /// # Panics
    /// As [`Host::new`].
    pub fn start(world: World) -> (Port, Self) {
        let memory: &'static [_] = (0..REGION_SIZE / 8)
            .map(|_| AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak();
        let region = Region::from_static(memory).expect("its length is right");
        let host = Self(Arc::new(Host::new(region, world)));
        let end = KeepEnd::attach(region).expect("the host has initialised it");
        (Port::new(end, Arc::new(host.clone())), host)
    }
}

impl std::ops::Deref for InProcess {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Doorbell for InProcess {
    fn ring(&self) {
        self.0.serve();
    }

    fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>) {
        self.0.wait(seen, until, timeout);
    }
}

impl Platform for InProcess {
    fn violation(&self, violation: &Violation) -> ! {
        panic!("the host is honest, but: {violation}")
    }

    fn exit(&self, code: i32) -> ! {
        panic!("exit {code}")
    }
}
