// SPDX-License-Identifier: Apache-2.0

//! The support of this machine for every backend, what is missing, and what to type next.
//!
//! Only looks: it changes nothing, loads nothing and needs no privileges. It says nothing of trust: a tenant's verifier
//! decides that.

mod backend;
mod checks;
mod facts;
mod landlock_abi;
mod machine;
mod report;
mod snp_host;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use machine::{Host, Machine};
pub use report::{BackendReport, Check, Report, SCHEMA, State};

/// Examines a machine.
pub fn examine(machine: &dyn Machine) -> Report {
    let backends = checks::backends(machine);
    let usable = |chosen: &&Backend| {
        let mut all = backends.iter();
        all.any(|backend| backend.usable && backend.name == chosen.name())
    };
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        cpu: facts::cpu_name(machine),
        kernel: facts::kernel_release(machine),
        auto: Backend::CHOSEN.iter().find(usable).map(|one| one.name()),
        backends,
    }
}

/// Examines a machine for one backend.
pub fn examine_for(machine: &dyn Machine, backend: Backend) -> BackendReport {
    checks::backend(machine, backend)
}
