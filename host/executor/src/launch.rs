//! What every kind of Keep is launched with, and how it ended.

use std::time::Duration;

use crate::grant::Grant;
use crate::refused::RefusedCalls;

/// What a Keep is to run, and within which bounds.
#[derive(Debug)]
pub struct Launch {
    /// What the host does for this Keep, and nothing else.
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
    /// Count what the Keep does.
    pub timings: bool,
    /// What system calls lead to that the runtime makes and a Keep does not have. A genuine measured
    /// Keep does not tell.
    pub refused_calls: RefusedCalls,
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
