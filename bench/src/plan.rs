// SPDX-License-Identifier: Apache-2.0

//! The plan of measurements, which every section follows.

use std::path::PathBuf;

use crate::measure::{Programs, Side};

/// A plan of measurements.
pub struct Plan {
    /// How often each side runs a job.
    pub runs: u32,
    /// Shorter kernels.
    pub quick: bool,
    /// The sides to compare: the yardstick first.
    pub sides: Vec<Side>,
    /// The executables.
    pub programs: Programs,
    /// The yardstick of servers.
    pub wasmtime: Option<PathBuf>,
}
