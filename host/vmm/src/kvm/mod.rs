//! Keeps in virtual machines: what every kind of them has in common, and plain KVM.
//!
//! The VMM protects the host from the Keep: the guest reaches its own memory, the shared windows, and
//! the exits served in [`exits`]; the vCPU threads can do little else on the host (see
//! [`crate::confine`]). What protects the Keep from the host is a matter of its [`Platform`]; plain
//! KVM protects nothing.

pub mod confinement;
mod cpuid;
mod exits;
mod fault;
pub mod hostility;
mod image;
pub(crate) mod memory;
mod plain;
mod platform;
mod poller;
mod simulated;
mod snp;
mod stats;
mod vcpu;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enarx_launch::layout as plan;
use enarx_launch::measured::{C_BIT, SPARE_VCPUS};
use enarx_microkernel::exits::{FACTS_OFFSET, HostFacts};
use enarx_microkernel::layout::{EXIT_PHYSICAL, LARGE, MAX_VCPUS, SALLYPORT_SIZE};
use enarx_sallyport::Facts;
use enarx_sallyport::layout::REGION_SIZE;
use kvm_ioctls::{Cap, Kvm, VmFd};
use zerocopy::IntoBytes;

use crate::executor::SharedExecutor;
use crate::launch::{Launch, Outcome, Report};
use crate::snp::linux::Processor;
use confinement::Confinement;
use exits::Keep;
use memory::GuestMemory;
use platform::Platform;
use stats::Stats;

const _: () = assert!(SALLYPORT_SIZE == REGION_SIZE as u64);

/// Smallest memory of a Keep, in bytes.
pub const MIN_MEMORY: u64 = 64 << 20;

/// Memory that a Keep has beyond its image and first heap, at least, in bytes.
const MIN_FREE: u64 = 16 << 20;

/// Most processors of a Keep.
const MAX_PROCESSORS: u32 = 64 - SPARE_VCPUS;
const _: () = assert!(MAX_PROCESSORS as usize + SPARE_VCPUS as usize == MAX_VCPUS);

/// Why a Keep could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No usable `/dev/kvm`.
    #[error("/dev/kvm cannot be opened: {0}; `enarx doctor` says what is missing")]
    Device(#[source] std::io::Error),
    /// KVM refused a step.
    #[error("KVM refused to {step}: {source}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// KVM lacks something.
    #[error("this KVM lacks {0}; `enarx doctor` says more")]
    Lacks(&'static str),
    /// The memory asked for cannot be had.
    #[error(
        "the Keep's memory of {size} MiB cannot be reserved: {source}; ask for less with --memory"
    )]
    Memory {
        /// Size in MiB.
        size: u64,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The Keep needs more memory than it was given.
    #[error("a Keep needs at least {0} MiB of memory; ask for more with --memory")]
    TooSmall(u64),
    /// The image cannot be laid out.
    #[error(transparent)]
    Image(#[from] plan::LaunchError),
    /// The vCPU threads cannot be confined.
    #[error(transparent)]
    Confine(#[from] crate::confine::ConfineError),
    /// The simulated secure processor refused something.
    #[error("the simulated secure processor refused to {step}: {status}")]
    Firmware {
        /// What was asked.
        step: &'static str,
        /// Its answer.
        status: enarx_simulator::Status,
    },
    /// The simulated machine cannot be played.
    #[error(transparent)]
    Simulator(#[from] enarx_simulator::Error),
    /// A vCPU's first registers could not be set.
    #[error(transparent)]
    Vcpu(#[from] crate::snp::vcpu::VcpuError),
    /// A device of SEV-SNP cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::snp::linux::OpenError),
    /// The SEV-SNP launch failed.
    #[error(transparent)]
    Snp(#[from] crate::snp::launcher::SnpError),
    /// The processor's C-bit is not where the measurement has it.
    #[error(
        "this processor's C-bit is {found} and Keeps are measured for {C_BIT}; use another EPYC processor, and report this one"
    )]
    CBit {
        /// What CPUID says.
        found: u32,
    },
    /// A thread could not be started, or the executor not prepared.
    #[error("the host cannot serve the Keep: {0}")]
    Host(#[from] std::io::Error),
}

fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Refused { step, source }
}

/// Whether SYSCALL does not raise the privilege level: KVM of the kind `kvm_pvm`.
#[must_use]
pub fn is_pvm() -> bool {
    std::path::Path::new("/sys/module/kvm_pvm").exists()
}

/// Runs a Keep to its end on plain KVM.
///
/// # Errors
/// [`KvmError`] when it could not be launched; a Keep that was launched has an [`Outcome`].
pub fn run(launch: Launch) -> Result<Outcome, KvmError> {
    run_on(launch, plain::launch)
}

/// Runs a Keep to its end on genuine SEV-SNP.
///
/// # Errors
/// As [`run`].
pub fn run_snp(launch: Launch) -> Result<Outcome, KvmError> {
    run_on(launch, snp::launch)
}

/// Runs a Keep to its end on the simulated platform.
///
/// # Errors
/// As [`run`].
pub fn run_simulated(launch: Launch) -> Result<Outcome, KvmError> {
    run_on(launch, simulated::launch)
}

/// The simulated machine: its certificates are what a verifier needs beside a report.
///
/// # Errors
/// [`KvmError::Simulator`] when its keys cannot be read or made.
pub fn simulated_machine(
    machine: &crate::launch::Simulated,
) -> Result<enarx_simulator::Machine, KvmError> {
    let machine = enarx_simulator::Machine::open(&machine.folder, machine.settings.clone())?;
    Ok(machine)
}

/// What a Keep is given of the machine.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// vCPUs: processors, and spare ones for threads that sleep.
    vcpus: u32,
    /// Memory, in bytes.
    memory: u64,
}

impl Size {
    /// The least memory for what ends at `end`; refuses less.
    fn check(self, end: u64) -> Result<u64, KvmError> {
        let least = end + MIN_FREE;
        if least > self.memory {
            return Err(KvmError::TooSmall(least >> 20));
        }
        Ok(least)
    }

    /// The error for memory that the system refuses.
    fn refused(self) -> impl FnOnce(std::io::Error) -> KvmError {
        let size = self.memory >> 20;
        move |source| KvmError::Memory { size, source }
    }
}

/// A launched virtual machine.
struct Launched {
    // Declared, and so dropped, before the memory that they use.
    first: Processor,
    platform: Box<dyn Platform>,
    memory: Arc<GuestMemory>,
}

/// Launches a virtual machine for a Keep of a size.
type Launcher = fn(&Kvm, &Launch, Size, &mut Timeline) -> Result<Launched, KvmError>;

fn run_on(launch: Launch, launcher: Launcher) -> Result<Outcome, KvmError> {
    let mut timeline = Timeline::new();
    let kvm = Kvm::new()
        .map_err(|error| KvmError::Device(std::io::Error::from_raw_os_error(error.errno())))?;
    if !kvm.check_extension(Cap::UserMemory) || !kvm.check_extension(Cap::ImmediateExit) {
        return Err(KvmError::Lacks("user memory or immediate exits"));
    }
    let processors = launch.vcpus.clamp(1, MAX_PROCESSORS);
    let size = Size {
        vcpus: processors + SPARE_VCPUS,
        memory: launch.memory.max(MIN_MEMORY) / LARGE * LARGE,
    };
    let Launched {
        memory,
        platform,
        mut first,
    } = launcher(&kvm, &launch, size, &mut timeline)?;
    let stats = launch.timings.then(|| Stats::of(first.fd()).ok()).flatten();
    let tsc_khz = first.fd().get_tsc_khz().map_or(0, u64::from);
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
    let executor = SharedExecutor::new(
        region,
        Facts {
            tsc_khz,
            vcpus: processors,
            wall_ns,
        },
        launch.grant,
        launch.configuration,
        launch.application,
    )?;
    let keep = Arc::new(Keep::new(
        executor,
        platform,
        memory,
        confinement,
        size.vcpus,
    ));
    timeline.mark("confine");
    let (outcome, left) = exits::run(&keep, first, launch.timeout)?;
    timeline.mark("keep");
    left.report(launch.report);
    if launch.timings {
        timeline.report(launch.report);
        let emulated = stats.and_then(|stats| stats.counter("insn_emulation"));
        let emulated = emulated.map(|count| ("instructions emulated by KVM".into(), count));
        for (name, count) in keep.counters().chain(emulated) {
            (launch.report)(&format!("count: {name} {count}"));
        }
    }
    Ok(outcome)
}

fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => return other.map_err(refused("create a virtual machine")),
        }
    }
}

/// Where the time of a launch goes.
struct Timeline {
    last: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timeline {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Ends a phase.
    fn mark(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now - self.last));
        self.last = now;
    }

    fn report(&self, report: Report) {
        for (phase, duration) in &self.phases {
            report(&format!("vmm: {phase} {} us", duration.as_micros()));
        }
    }
}
