// SPDX-License-Identifier: Apache-2.0

//! Where the time of a start goes.

use std::time::Instant;

/// A stopwatch over the phases of a run.
#[derive(Debug)]
pub struct Timings {
    last: Instant,
    phases: Vec<(&'static str, u64)>,
    silent: bool,
}

impl Timings {
    /// Starts the first phase.
    pub fn start() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
            silent: false,
        }
    }

    /// Has [`Self::report`] give nothing.
    pub fn silence(&mut self) {
        self.silent = true;
    }

    /// Ends a phase.
    pub fn phase(&mut self, name: &'static str) {
        let now = Instant::now();
        let microseconds = now.saturating_duration_since(self.last).as_micros();
        self.last = now;
        let microseconds = u64::try_from(microseconds).unwrap_or(u64::MAX);
        self.phases.push((name, microseconds));
    }

    /// The phases that have ended, and their microseconds.
    pub fn phases(&self) -> &[(&'static str, u64)] {
        &self.phases
    }

    /// The lines of the phases that have ended, unless it was silenced.
    pub fn report(&self) -> Option<String> {
        let line =
            |(name, microseconds): &(_, u64)| format!("enarx-runtime: {name} {microseconds} us\n");
        (!self.silent).then(|| self.phases.iter().map(line).collect())
    }
}
