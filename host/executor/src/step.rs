// SPDX-License-Identifier: Apache-2.0

//! Steps of the work for a Keep. However much it asks for, its caller is heard after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most requests that are performed before the lock is released, and the caller is asked whether the
/// Keep may continue.
pub const STEP: u32 = 64;
/// Longest time for that, unless a single request takes longer.
const STEP_TIME: Duration = Duration::from_millis(1);

/// How far a Keep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All posted requests are performed or wait for an external event. Also if the Keep is being
    /// ended ([`crate::SharedExecutor::interrupt`]): then nothing more is performed.
    Idle,
    /// There may be more: the caller looks whether the Keep may go on, and calls again.
    More,
    /// The Keep asked to end with this code.
    Exit(i32),
}

/// The bound of one step before the lock is released: [`STEP`] requests, or [`STEP_TIME`].
pub struct Step {
    requests: u32,
    end: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Step {
    /// Begins now.
    pub fn new(interrupted: &Arc<AtomicBool>) -> Self {
        Self {
            requests: 0,
            end: Instant::now() + STEP_TIME,
            interrupted: Arc::clone(interrupted),
        }
    }

    /// Counts a request. True after the last one of this step.
    pub fn is_over(&mut self) -> bool {
        self.requests += 1;
        self.requests >= STEP
            || self.interrupted.load(Ordering::Acquire)
            || Instant::now() >= self.end
    }
}
