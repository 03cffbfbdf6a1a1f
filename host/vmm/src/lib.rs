// SPDX-License-Identifier: Apache-2.0

//! The virtual machine monitor: launches Keeps in virtual machines and serves their exits.
//!
//! The tenant does not trust it. It protects the host from the Keep: the guest reaches its own memory,
//! the shared windows, and the exits that [`vm`] serves, and the vCPU threads can do little else on the
//! host (`enarx_confine`). Protection of the Keep from the host is a matter of its [`platform`]; plain
//! KVM protects nothing.

#[cfg(test)]
#[macro_use]
extern crate enarx_harness;

pub mod error;
pub mod first_day;
pub mod launch;
mod launched;
pub mod platform;
pub mod snp;
pub mod vm;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use enarx_boot::layout::{EXIT_PHYSICAL, LARGE, MAX_VCPUS, SALLYPORT_SIZE};
use enarx_executor::SharedExecutor;
use enarx_executor::launch::{Counter, Report, Run};
use enarx_exits::{FACTS_OFFSET, HostFacts};
use enarx_launch::measured::SPARE_VCPUS;
use enarx_sallyport::Facts;
use enarx_sallyport::layout::REGION_SIZE;
use kvm_ioctls::{Cap, Kvm};
use zerocopy::IntoBytes;

use error::KvmError;
use launch::VmLaunch;
pub use launched::is_pvm;
use launched::{KeepSize, Launched, Timeline};
use platform::simulated::Simulated;
use platform::{plain, simulated};
use vm::confinement::Confinement;
use vm::exits::{self, Keep};
use vm::stats::Stats;

const _: () = assert!(SALLYPORT_SIZE == REGION_SIZE as u64);

/// Smallest memory of a Keep, in bytes.
pub const MIN_MEMORY: u64 = 64 << 20;

/// Most processors of a Keep: each of its vCPUs but the spare ones.
pub const MAX_PROCESSORS: u32 = 64 - SPARE_VCPUS;
const _: () = assert!(MAX_PROCESSORS as usize + SPARE_VCPUS as usize == MAX_VCPUS);

/// Runs a Keep to its end on plain KVM.
///
/// # Errors
/// [`KvmError`] when it could not be launched; a Keep that was launched has an outcome.
pub fn run(launch: VmLaunch) -> Result<Run, KvmError> {
    run_on(launch, plain::launch)
}

/// Runs a Keep to its end on genuine SEV-SNP.
///
/// # Errors
/// As [`run`].
pub fn run_snp(launch: VmLaunch) -> Result<Run, KvmError> {
    run_on(launch, platform::snp::launch)
}

/// Runs a Keep to its end on the simulated platform, on `machine`.
///
/// # Errors
/// As [`run`].
pub fn run_simulated(machine: &Simulated, launch: VmLaunch) -> Result<Run, KvmError> {
    run_on(
        launch,
        |kvm: &Kvm, launch: &VmLaunch, size, timeline: &mut Timeline| {
            simulated::launch(machine, kvm, launch, size, timeline)
        },
    )
}

/// The launch of one kind of virtual machine.
trait PlatformLaunch:
    FnOnce(&Kvm, &VmLaunch, KeepSize, &mut Timeline) -> Result<Launched, KvmError>
{
}

impl<F> PlatformLaunch for F where
    F: FnOnce(&Kvm, &VmLaunch, KeepSize, &mut Timeline) -> Result<Launched, KvmError>
{
}

fn run_on(machine: VmLaunch, platform_launch: impl PlatformLaunch) -> Result<Run, KvmError> {
    let mut timeline = Timeline::new();
    let kvm = Kvm::new()
        .map_err(|error| KvmError::Device(std::io::Error::from_raw_os_error(error.errno())))?;
    if !kvm.check_extension(Cap::UserMemory) || !kvm.check_extension(Cap::ImmediateExit) {
        return Err(KvmError::Lacks("user memory or immediate exits"));
    }
    let processors = machine.launch.vcpus.clamp(1, MAX_PROCESSORS);
    let size = KeepSize {
        vcpus: processors + SPARE_VCPUS,
        memory: machine.launch.memory.max(MIN_MEMORY) / LARGE * LARGE,
    };
    let Launched {
        memory,
        platform,
        mut first,
        corrections,
    } = platform_launch(&kvm, &machine, size, &mut timeline)?;
    let launch = machine.launch;
    let stats = launch.timings.then(|| Stats::of(first.fd()).ok()).flatten();
    let tsc_khz = platform.frequency_for_keep(first.fd().get_tsc_khz().map_or(0, u64::from));
    let wall_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
    let facts = HostFacts {
        tsc_khz,
        wall_ns,
        memory_end: size.memory,
        vcpus: size.vcpus.into(),
        processors: processors.into(),
    };
    memory.load(EXIT_PHYSICAL + FACTS_OFFSET as u64, facts.as_bytes());
    let region = memory.region();
    let confinement = Confinement::new(&launch.grant, platform.calls())?;
    let facts = Facts {
        tsc_khz,
        vcpus: processors,
        wall_ns,
    };
    let (lookups, gate) = machine.confine.split();
    let executor = SharedExecutor::with(region, facts, launch.grant, launch.objects, lookups)?;
    let mut keep = Keep::new(
        executor,
        platform,
        memory,
        confinement,
        size.vcpus,
        launch.refused_calls,
    );
    if let Some(gate) = gate {
        keep.confine_process()?;
        gate.pass(&keep.confinement());
    }
    let keep = Arc::new(keep);
    timeline.mark("confine");
    let (outcome, left_behind) = exits::run(&keep, first, launch.timeout)?;
    timeline.mark("keep");
    let emulated = stats.and_then(|stats| stats.counter("insn_emulation"));
    let emulated = emulated.map(|count| Counter {
        name: "instructions emulated by KVM".into(),
        count,
    });
    let report = Report {
        phases: timeline.phases(),
        counters: keep.counters().chain(emulated).collect(),
        confinement: keep.confinement(),
        unlimited: keep.unlimited(),
        corrections,
        left_behind,
    };
    Ok(Run { outcome, report })
}

#[cfg(test)]
fn main() -> std::process::ExitCode {
    enarx_harness::main()
}
