// SPDX-License-Identifier: Apache-2.0

//! Why a Keep in a virtual machine could not be launched.

use enarx_launch::layout as plan;
use enarx_launch::measured::C_BIT;
use enarx_launch::variant::Variant;

/// Why a Keep could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No usable `/dev/kvm`.
    #[error("/dev/kvm cannot be opened: {0}; `enarx doctor` says what is missing")]
    Device(#[source] std::io::Error),
    /// KVM refused a step.
    #[error("KVM refused to {step}: {source}")]
    Refused {
        /// The step that was tried.
        step: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// The plan of the launch lacks something: a defect of this program.
    #[error("the launch has no {0}; please report this")]
    Plan(&'static str),
    /// KVM lacks something.
    #[error("this KVM lacks {0}; `enarx doctor` says more")]
    Lacks(&'static str),
    /// This host's KVM describes more of the CPU than a CPUID page takes.
    #[error(
        "the CPUID page has no room for leaf {0:#x} of this processor; please report this with the processor's name"
    )]
    CpuidPage(u32),
    /// The requested memory is not available.
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
    Confine(#[from] enarx_confine::ConfineError),
    /// The simulated secure processor refused something.
    #[error("the simulated secure processor refused to {step}: {status}")]
    Firmware {
        /// The request.
        step: &'static str,
        /// Its answer.
        status: enarx_simulator::Status,
    },
    /// The simulated machine does not satisfy the guest policy.
    #[error(
        "the simulated machine does not support a launch with {0}: change --sev, or the machine with --sim"
    )]
    Variant(Variant),
    /// The simulated machine cannot be set up.
    #[error(transparent)]
    Simulator(#[from] enarx_simulator::Error),
    /// A vCPU's first registers could not be set.
    #[error(transparent)]
    Vcpu(#[from] crate::vm::registers::VcpuError),
    /// A device of SEV-SNP cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::snp::ioctl::OpenError),
    /// The SEV-SNP launch failed.
    #[error(transparent)]
    Snp(#[from] crate::snp::launcher::SnpError),
    /// The processor's C-bit is not at the position that the measurement uses.
    #[error(
        "this processor's C-bit is {found} and Keeps are measured for {C_BIT}; use another EPYC processor, and report this one"
    )]
    CBit {
        /// The number in CPUID.
        found: u32,
    },
    /// A thread could not be started, or the executor not prepared.
    #[error("the host cannot serve the Keep: {0}{remedy}", remedy = enarx_confine::process::remedy(.0))]
    Host(#[from] std::io::Error),
}

/// Names the step that KVM refused, for `map_err`.
pub(crate) fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Refused { step, source }
}
