// SPDX-License-Identifier: Apache-2.0

//! The launch of every kind of Keep, and its outcome.

use std::borrow::Cow;
use std::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::ExecutorError;
use crate::fault::KeepFault;
use crate::grant::Grant;
use crate::lookups::Lookups;
use crate::refused::RefusedCalls;

/// The work of a Keep, and its bounds.
#[derive(Debug)]
pub struct Launch {
    /// Everything that the host does for this Keep.
    pub grant: Grant,
    /// The bytes that the Keep loads.
    pub objects: Objects,
    /// Memory of the Keep, in bytes.
    pub memory: u64,
    /// Virtual CPUs of the Keep, at least 1.
    pub vcpus: u32,
    /// Wall-clock limit of the whole run.
    pub timeout: Option<Duration>,
    /// The time that a server has to finish once its listener was ended.
    pub grace: Duration,
    /// Have the runtime print where its time goes, and KVM's counters read.
    pub timings: bool,
    /// The consequence of system calls that the runtime makes and a Keep does not have. A genuine measured
    /// Keep does not report them.
    pub refused_calls: RefusedCalls,
}

/// The objects of the sallyport: bytes that a Keep loads.
#[derive(Debug, Default)]
pub struct Objects {
    /// The configuration; empty if the Keep's tenant delivers everything.
    pub configuration: Vec<u8>,
    /// The application, likewise.
    pub application: Vec<u8>,
    /// The contract of a Keep whose tenant delivers everything.
    pub contract: Vec<u8>,
}

impl Objects {
    /// The objects of a Keep that runs this application.
    #[must_use]
    pub fn program(configuration: Vec<u8>, application: Vec<u8>) -> Self {
        Self {
            configuration,
            application,
            contract: Vec::new(),
        }
    }

    /// The objects of a Keep whose tenant delivers everything under this contract.
    #[must_use]
    pub fn contract(contract: Vec<u8>) -> Self {
        Self {
            contract,
            ..Self::default()
        }
    }
}

/// The confinement of whatever serves a Keep.
#[derive(Debug)]
pub enum Confine {
    /// Each thread that serves the Keep by itself: the rest of the program stays as it is, and shares their
    /// memory. For programs that are nothing but tests or benchmarks.
    Threads,
    /// The whole process, which is the Keep's alone and has one thread.
    Process(Jail),
}

/// The needs of a process that is confined as a whole.
#[derive(Debug)]
pub struct Jail {
    /// Asked once it is confined.
    pub gate: Gate,
    /// The thread or process that looks up names.
    pub lookups: Lookups,
}

impl Confine {
    /// Returns the name look-up, and the gate of a process that will be confined as a whole.
    #[must_use]
    pub fn split(self) -> (Lookups, Option<Gate>) {
        match self {
            Self::Threads => (Lookups::Thread, None),
            Self::Process(Jail { gate, lookups }) => (lookups, Some(gate)),
        }
    }
}

/// Asked once a process is confined, before the first instruction of its Keep: it returns when the Keep may run.
pub struct Gate(Box<Open>);

type Open = dyn FnOnce(&[Confined]) + Send;

impl Gate {
    /// A gate that calls `open`.
    #[must_use]
    pub fn new(open: impl FnOnce(&[Confined]) + Send + 'static) -> Self {
        Self(Box::new(open))
    }

    /// Waits until the Keep may run in a process that is confined in these ways.
    pub fn pass(self, confined: &[Confined]) {
        (self.0)(confined);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// Total time that the threads serving a Keep have after its end. Nothing that they do takes that long,
/// except a system call that hangs, for instance in a network file system whose server does not answer.
/// Such a thread is left behind, because waiting for it might never end.
pub const GRACE: Duration = Duration::from_millis(500);

/// Waits for the end of threads, until `limit`, and calls `interrupt` until they have ended: a signal may come
/// before the system call that it is to end. The names of those that were left behind: they are confined, find
/// the Keep ended as soon as their system call returns, and end themselves; what they use lives as long as
/// they do.
#[must_use]
pub fn join_until(
    threads: Vec<JoinHandle<()>>,
    limit: Instant,
    interrupt: impl Fn(),
) -> Vec<String> {
    /// Rounds of yielding before the first sleep: most threads need a moment only.
    const YIELDS: u32 = 50;
    /// Sleep between two looks after that.
    const SLEEP: Duration = Duration::from_micros(50);
    let mut left = Vec::new();
    for thread in threads {
        let mut round = 0_u32;
        while !thread.is_finished() && Instant::now() < limit {
            interrupt();
            if round < YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(SLEEP);
            }
            round = round.saturating_add(1);
        }
        if thread.is_finished() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        } else {
            let name = thread.thread().name().unwrap_or("unnamed").to_owned();
            tracing::warn!(thread = name, "left behind: it hangs in a system call");
            left.push(name);
        }
    }
    left
}

/// How a Keep ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The runtime ended with this exit code.
    Exit(i32),
    /// The Keep ended itself, or was ended, because of a fault.
    Fault(KeepFault),
    /// The time limit was reached.
    TimedOut,
}

impl From<KeepFault> for Outcome {
    fn from(fault: KeepFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ExecutorError> for Outcome {
    fn from(error: ExecutorError) -> Self {
        Self::Fault(error.into())
    }
}

/// The run of a Keep: its end, and what was seen on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The end.
    pub outcome: Outcome,
    /// Data about the run, for people and measurements.
    pub report: Report,
}

/// Observations of a run in addition to its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The phases of launch and run in their order; they adjoin.
    pub phases: Vec<Phase>,
    /// The counters.
    pub counters: Vec<Counter>,
    /// How the threads and processes that serve the Keep are confined.
    pub confinement: Vec<Confined>,
    /// Limits of the guest's CPU that this machine does not offer, so that a Keep is unlimited there.
    #[serde(default)]
    pub unlimited: Vec<Cow<'static, str>>,
    /// Corrections that the secure processor's firmware made to the CPUID page, in words.
    pub corrections: Vec<String>,
    /// Threads that hang in a system call and were left behind.
    pub left_behind: Vec<String>,
}

/// A phase of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its length.
    #[serde(rename = "microseconds", with = "microseconds")]
    pub duration: Duration,
}

/// A duration as microseconds.
mod microseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(length.as_secs_f64() * 1e6)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)? / 1e6;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// A number that was counted during a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The thing that is counted.
    pub name: String,
    /// How often it was.
    pub count: u64,
}

impl Confined {
    /// A way, and whether it holds.
    #[must_use]
    pub const fn new(by: &'static str, holds: bool) -> Self {
        let by = Cow::Borrowed(by);
        Self { by, holds }
    }
}

/// A way of confining, and whether it is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// The way.
    pub by: Cow<'static, str>,
    /// It is fully in effect.
    pub holds: bool,
}
