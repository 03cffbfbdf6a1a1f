// SPDX-License-Identifier: Apache-2.0

//! Where the time of a start goes.

use std::fmt::Write as _;
use std::time::Instant;

/// A stopwatch over the phases of a run.
#[derive(Debug)]
pub struct Timings {
    last: Instant,
    report: Option<String>,
}

impl Timings {
    /// Starts the first phase.
    pub fn start() -> Self {
        Self {
            last: Instant::now(),
            report: Some(String::new()),
        }
    }

    /// Keeps no report from now on.
    pub fn silence(&mut self) {
        self.report = None;
    }

    /// Ends a phase.
    pub fn phase(&mut self, name: &str) {
        let now = Instant::now();
        let microseconds = now.saturating_duration_since(self.last).as_micros();
        self.last = now;
        if let Some(report) = &mut self.report {
            // Writing to a string does not fail.
            let _ = writeln!(report, "enarx-runtime: {name} {microseconds} us");
        }
    }

    /// The lines of the phases that have ended.
    pub fn report(&self) -> Option<&str> {
        self.report.as_deref()
    }
}
