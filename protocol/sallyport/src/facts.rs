// SPDX-License-Identifier: Apache-2.0

//! The facts about itself that the host states at launch. They are in the region; the Keep does not trust
//! them.

/// The host's statements to the Keep at launch. The Keep does not trust them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// Frequency of the time-stamp counter in kHz; 0 = unknown.
    pub tsc_khz: u64,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Wall clock at launch, in nanoseconds since the UNIX epoch.
    pub wall_ns: u64,
}
