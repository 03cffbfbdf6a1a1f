// SPDX-License-Identifier: Apache-2.0

//! The kinds of virtual machines, and the operations that differ between them once launched.

pub mod attack;
pub(crate) mod plain;
pub mod simulated;
pub(crate) mod snp;

use kvm_ioctls::VcpuFd;

use crate::error::KvmError;
use crate::snp::exits::Exit;
use crate::vm::entry::UnhandledExit;
use crate::vm::limits::Limits;
use crate::vm::memory::GuestMemory;
use crate::vm::vcpu::Vcpu;
use enarx_confine::seccomp::Allow;
use enarx_executor::fault::{KeepFault, StrayExit};
use enarx_exits::ExitFunction;

/// `KVM_CREATE_VCPU` (Linux `linux/kvm.h`).
const CREATE_VCPU: u32 = 0xae41;
/// `KVM_SET_USER_MEMORY_REGION` (Linux `linux/kvm.h`).
const SET_MEMORY: u32 = 0x4020_ae46;

/// The platform's decision on an [`UnhandledExit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitAction {
    /// Run the vCPU again.
    Resume,
    /// The guest wrote this to the port of the functions.
    Port(u32),
    /// End the Keep.
    End(KeepFault),
}

impl From<KeepFault> for ExitAction {
    fn from(fault: KeepFault) -> Self {
        Self::End(fault)
    }
}

/// A virtual machine of one kind.
pub trait Platform: Send + Sync {
    /// System calls that serving its exits needs, beyond those of every vCPU thread.
    fn calls(&self) -> Vec<Allow> {
        Vec::new()
    }

    /// System calls of the thread that starts vCPUs, beyond those of every vCPU thread.
    fn control_calls(&self) -> Vec<Allow> {
        Vec::new()
    }

    /// True if the microkernel counts entries from user code where the host sees it.
    fn counts_entries(&self) -> bool {
        false
    }

    /// The limits of the guest's CPU; `None` if none were requested from KVM.
    fn limits(&self) -> Option<Limits> {
        None
    }

    /// The frequency of the time-stamp counter, in kHz, that the Keep is told if the real one is `khz`.
    fn frequency_for_keep(&self, khz: u64) -> u64 {
        khz
    }

    /// vCPU `id` is about to run.
    ///
    /// # Errors
    /// [`KeepFault`]: the Keep ends.
    fn before_run(&self, _id: u32, _vcpu: &mut VcpuFd) -> Result<(), KeepFault> {
        Ok(())
    }

    /// vCPUs that a hostile host starts although the guest does not ask for it.
    fn vcpus_started_by_host(&self, _vcpus: u32) -> Vec<u32> {
        Vec::new()
    }

    /// Another vCPU that a hostile host starts once the guest has started vCPU `id`.
    fn vcpu_started_beside(&self, _id: u32) -> Option<u32> {
        None
    }

    /// vCPU `id`, which the guest wants started.
    ///
    /// # Errors
    /// [`KvmError`] when KVM refuses.
    fn vcpu(&self, id: u32) -> Result<Vcpu, KvmError>;

    /// Gives the guest more memory, up to `end`, a guest physical address.
    ///
    /// # Errors
    /// [`KeepFault`] when this kind of Keep does not ask for that, when there is not that much, or KVM refuses.
    fn extend(&self, _memory: &GuestMemory, _end: u64) -> Result<(), KeepFault> {
        Err(KeepFault::Exit(StrayExit::Function(
            ExitFunction::Memory as u32,
        )))
    }

    /// Serves an exit of vCPU `id`.
    fn serve(&self, id: u32, vcpu: &mut VcpuFd, exit: UnhandledExit) -> ExitAction;
}

/// The decision on an exit that no Keep makes.
pub fn out_of_bounds(exit: &UnhandledExit) -> ExitAction {
    KeepFault::Exit(stray(exit)).into()
}

/// An exit that no Keep makes, as described at its end.
fn stray(exit: &UnhandledExit) -> StrayExit {
    match exit {
        UnhandledExit::ReadMsr(register) => StrayExit::ReadMsr(*register),
        UnhandledExit::WriteMsr(register, _) => StrayExit::WriteMsr(*register),
        UnhandledExit::Snp(Exit::Hypercall { number, .. }) => StrayExit::Hypercall(*number),
        UnhandledExit::Snp(Exit::SystemEvent { kind, .. }) => StrayExit::SystemEvent(*kind),
        UnhandledExit::Snp(Exit::MemoryFault { gpa, .. }) => StrayExit::Memory(*gpa),
        UnhandledExit::Other(name) => StrayExit::Other(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_exit_is_reported_by_its_kind() {
        let memory = Exit::MemoryFault {
            flags: 0,
            gpa: 0x5000,
            size: 0x1000,
        };
        let event = Exit::SystemEvent {
            kind: 2,
            data: None,
        };
        let hypercall = Exit::Hypercall {
            number: 9,
            args: [0; 6],
        };
        for (exit, expected, words) in [
            (
                UnhandledExit::ReadMsr(0x10),
                StrayExit::ReadMsr(0x10),
                "register 0x10",
            ),
            (
                UnhandledExit::WriteMsr(0x11, 7),
                StrayExit::WriteMsr(0x11),
                "wrote the register 0x11",
            ),
            (
                UnhandledExit::Snp(hypercall),
                StrayExit::Hypercall(9),
                "hypercall 9",
            ),
            (
                UnhandledExit::Snp(event),
                StrayExit::SystemEvent(2),
                "event 2",
            ),
            (
                UnhandledExit::Snp(memory),
                StrayExit::Memory(0x5000),
                "0x5000",
            ),
            (
                UnhandledExit::Other("Hlt".to_owned()),
                StrayExit::Other("Hlt".to_owned()),
                "Hlt",
            ),
        ] {
            assert_eq!(stray(&exit), expected);
            assert!(expected.to_string().contains(words), "{expected}");
        }
    }
}
