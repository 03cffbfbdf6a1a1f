// SPDX-License-Identifier: Apache-2.0

//! Facts about a machine, as Linux reports them.

use crate::machine::Machine;

/// The processor's name, from `/proc/cpuinfo`.
pub fn cpu_name(machine: &dyn Machine) -> String {
    cpuinfo(machine, "model name").unwrap_or_else(|| "an unknown processor".into())
}

/// The kernel's release.
pub fn kernel_release(machine: &dyn Machine) -> String {
    machine
        .read("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

/// The first value of a field of `/proc/cpuinfo`.
fn cpuinfo(machine: &dyn Machine, field: &str) -> Option<String> {
    machine
        .read("/proc/cpuinfo")
        .ok()?
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == field)
        .map(|(_, value)| value.trim().to_owned())
}

/// True if the processor has this flag, as Linux names it.
pub fn has_cpu_flag(machine: &dyn Machine, flag: &str) -> Option<bool> {
    cpuinfo(machine, "flags").map(|flags| flags.split_whitespace().any(|word| word == flag))
}
