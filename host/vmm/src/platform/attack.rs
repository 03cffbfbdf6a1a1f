// SPDX-License-Identifier: Apache-2.0

//! Where a hostile VMM could interfere with a Keep: the seams of the simulated platform. Ordinary
//! launches have none of this; tests play attacks by it.

use std::fmt::Debug;

use enarx_simulator::{Hypervisor, SharedMemory};
use enarx_snp::launch::PageType;
use kvm_bindings::kvm_vcpu_events;
use kvm_ioctls::VcpuFd;

/// An event that the host injects before the next instruction of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// An exception.
    Exception {
        /// Its vector.
        vector: u8,
        /// Its error code, for vectors that have one.
        error_code: Option<u32>,
    },
    /// An external interrupt of this vector, whether the vCPU takes interrupts or not.
    Interrupt(u8),
}

/// The attacks of a hostile VMM. Every method leaves things as they are unless it is overridden.
pub trait Attack: Debug + Send + Sync {
    /// A page of the launch, already measured, before it is put into the guest's memory.
    fn page(&self, _kind: PageType, _gpa: u64, _bytes: &mut [u8; 4096]) {}

    /// The guest is about to validate the memory at `gpa`.
    fn pvalidate(&self, _gpa: u64, _hypervisor: &Hypervisor) {}

    /// The guest exited through the GHCB of `vcpu`; the answer is already in the shared memory.
    fn answer(&self, _vcpu: u32, _memory: &dyn SharedMemory) {}

    /// The guest asked the host by the MSR protocol; its answer, which may be changed.
    fn msr(&self, _vcpu: u32, answer: u64) -> u64 {
        answer
    }

    /// vCPU `vcpu` is about to run at `rip`, at privilege level `cpl`; called on its thread.
    fn inject(&self, _vcpu: u32, _cpl: u8, _rip: u64) -> Option<Injected> {
        None
    }

    /// True if vCPU `vcpu` is run although the guest did not ask for it.
    fn starts(&self, _vcpu: u32) -> bool {
        false
    }

    /// vCPU `vcpu` sends the firmware a message. True if the host carries it, false if it says that the firmware is busy.
    fn carries(&self, _vcpu: u32) -> bool {
        true
    }

    /// vCPU `vcpu` asks for the end of the Keep. True if the host runs on as if it had not.
    fn ignores_end(&self, _vcpu: u32) -> bool {
        false
    }

    /// The guest has started vCPU `vcpu`. Returns another vCPU, unused by the guest, to run beside it in
    /// the state that was measured for `vcpu`: on hardware both are vCPU `vcpu`.
    fn double(&self, _vcpu: u32) -> Option<u32> {
        None
    }
}

/// Queues an event for the vCPU's next run.
pub(super) fn inject(vcpu: &VcpuFd, injected: Injected) -> Result<(), kvm_ioctls::Error> {
    let mut events: kvm_vcpu_events = vcpu.get_vcpu_events()?;
    match injected {
        Injected::Exception { vector, error_code } => {
            events.exception.injected = 1;
            events.exception.nr = vector;
            events.exception.has_error_code = u8::from(error_code.is_some());
            events.exception.error_code = error_code.unwrap_or(0);
        }
        Injected::Interrupt(vector) => {
            events.interrupt.injected = 1;
            events.interrupt.nr = vector;
            events.interrupt.soft = 0;
        }
    }
    vcpu.set_vcpu_events(&events)
}
