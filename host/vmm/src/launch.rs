// SPDX-License-Identifier: Apache-2.0

//! A Keep to be launched in a virtual machine.

use enarx_executor::launch::{Confine, Launch};
use enarx_launch::measured::Images;
use enarx_launch::variant::Variant;

/// Parameters of a measured launch other than its programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// HOST_DATA: it is in the Keep's reports but not measured.
    pub host_data: [u8; 32],
    /// The fault report has addresses; the measurement says so.
    pub fault_addresses: bool,
    /// Guest policy and SEV features; the latter are measured.
    pub variant: Variant,
}

/// A Keep to be launched in a virtual machine.
#[derive(Debug)]
pub struct VmLaunch {
    /// The programs of the Keep. Plain KVM has no use for the loader.
    pub images: Images<'static>,
    /// Parameters of a measured launch; plain KVM does not use them.
    pub measured: Measured,
    /// The work of the Keep.
    pub launch: Launch,
    /// The confinement of whatever serves the Keep.
    pub confine: Confine,
}
