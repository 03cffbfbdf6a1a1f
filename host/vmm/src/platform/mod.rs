//! The kinds of virtual machines, and the operations that differ between them once launched.

pub mod attack;
pub(crate) mod plain;
pub mod simulated;
pub(crate) mod snp;

use kvm_ioctls::VcpuFd;

use crate::error::KvmError;
use crate::snp::exits::Exit;
use crate::vm::memory::GuestMemory;
use crate::vm::processor::Processor;
use enarx_confine::seccomp::Allow;
use enarx_executor::launch::Outcome;

/// An exit that the main external loop leaves to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// RDMSR of a register that KVM leaves to us; [`crate::vm::vcpu::answer_read_msr`] gives the answer.
    ReadMsr(u32),
    /// WRMSR of such a register.
    WriteMsr(u32, u64),
    /// An exit that SEV-SNP adds; [`crate::vm::vcpu::answer_hypercall`] gives the answer to a hypercall.
    Snp(Exit),
    /// Any other exit, in words.
    Other(String),
}

/// What follows an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// Run the vCPU again.
    Resume,
    /// The guest wrote this to the port of the exits.
    Port(u32),
    /// The Keep has ended.
    End(Outcome),
}

/// A virtual machine of one kind.
pub trait Platform: Send + Sync {
    /// System calls that serving its events needs, beyond those of every vCPU thread.
    fn calls(&self) -> Vec<Allow> {
        Vec::new()
    }

    /// Tells if the microkernel counts entries from user code where the host sees it.
    fn counts_entries(&self) -> bool {
        false
    }

    /// vCPU `id` is about to run.
    ///
    /// # Errors
    /// What failed, in words: the Keep ends.
    fn before_run(&self, _id: u32, _vcpu: &mut VcpuFd) -> Result<(), String> {
        Ok(())
    }

    /// vCPUs that run although the guest does not ask for them.
    fn unasked(&self, _vcpus: u32) -> Vec<u32> {
        Vec::new()
    }

    /// Another vCPU that runs once the guest has started vCPU `id`, although the guest does not ask for it.
    fn unasked_beside(&self, _id: u32) -> Option<u32> {
        None
    }

    /// vCPU `id`, which the guest wants started.
    ///
    /// # Errors
    /// [`KvmError`] when KVM refuses.
    fn vcpu(&self, id: u32) -> Result<Processor, KvmError>;

    /// Makes more of the memory the guest's, up to `end`.
    ///
    /// # Errors
    /// [`KvmError`] when there is not that much, or KVM refuses.
    fn extend(&self, _memory: &GuestMemory, _end: u64) -> Result<(), KvmError> {
        Err(KvmError::Lacks("memory that comes in parts"))
    }

    /// Serves an event of vCPU `id`.
    fn event(&self, id: u32, vcpu: &mut VcpuFd, event: Event) -> Served;
}

/// The outcome of a guest that did what no Keep does.
pub fn out_of_bounds(event: &Event) -> Served {
    Served::End(Outcome::Fault(format!(
        "the Keep left its bounds: {event:x?}"
    )))
}
