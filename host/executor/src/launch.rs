//! The launch of every kind of Keep, and its outcome.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::grant::Grant;
use crate::refused::RefusedCalls;

/// The work of a Keep, and its bounds.
#[derive(Debug)]
pub struct Launch {
    /// Everything that the host does for this Keep.
    pub grant: Grant,
    /// Object `Configuration` of the sallyport.
    pub configuration: Vec<u8>,
    /// Object `Application` of the sallyport.
    pub application: Vec<u8>,
    /// Memory of the Keep, in bytes.
    pub memory: u64,
    /// Virtual CPUs of the Keep, at least 1.
    pub vcpus: u32,
    /// Wall-clock limit of the whole run.
    pub timeout: Option<Duration>,
    /// Report counters, the split of the start time, and how the Keep is confined.
    pub timings: bool,
    /// The consequence of system calls that the runtime makes and a Keep does not have. A genuine measured
    /// Keep does not tell.
    pub refused_calls: RefusedCalls,
    /// Takes the lines that are about this launch.
    pub report: Report,
}

/// Takes a line about a launch: what `timings` asks for, what the secure processor corrected, threads that
/// were left behind. Libraries do not print.
pub type Report = fn(&str);

/// How long the threads that serve a Keep have after its end, in all. Nothing that they do takes that long,
/// except a system call that hangs: in a network file system whose server does not answer, for instance.
/// Such a thread is left behind, because an end that waits for it might never come.
pub const GRACE: Duration = Duration::from_millis(500);

/// Threads that were left behind. They are confined, find the Keep ended as soon as their system call
/// returns, and end themselves; what they use lives as long as they do.
#[derive(Debug, Default)]
pub struct LeftBehind(Vec<String>);

impl LeftBehind {
    /// Waits for the end of threads, until `limit`, and calls `interrupt` until they have ended: a signal may come before
    /// the system call that it is to end.
    pub fn join(threads: Vec<JoinHandle<()>>, limit: Instant, interrupt: impl Fn()) -> Self {
        let mut left = Vec::new();
        for thread in threads {
            let mut round = 0_u32;
            while !thread.is_finished() && Instant::now() < limit {
                interrupt();
                // Most need a moment only.
                if round < 50 {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(Duration::from_micros(50));
                }
                round = round.saturating_add(1);
            }
            if thread.is_finished() {
                // A thread that panicked has said so itself.
                let _ = thread.join();
            } else {
                left.push(thread.thread().name().unwrap_or("unnamed").to_owned());
            }
        }
        Self(left)
    }

    /// Says what was left behind.
    pub fn report(&self, report: Report) {
        for name in &self.0 {
            report(&format!(
                "the thread \"{name}\" hangs in a system call that it made for the Keep, and is left behind: look at the granted directories and streams"
            ));
        }
    }
}

/// How a Keep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime ended with this exit code.
    Exit(i32),
    /// The Keep ended itself, or was ended, because of a fault; the text is the report.
    Fault(String),
    /// The time limit was reached.
    TimedOut,
}
