// SPDX-License-Identifier: Apache-2.0

//! A launched virtual machine, and what every launch of one needs.

use std::sync::Arc;
use std::time::Instant;

use enarx_executor::launch::Phase;
use kvm_ioctls::{Kvm, VmFd};

use crate::error::{KvmError, refused};
use crate::platform::Platform;
use crate::vm::memory::GuestMemory;
use crate::vm::vcpu::Vcpu;

/// Memory that a Keep has beyond its image and first heap, at least, in bytes.
const MIN_FREE: u64 = 16 << 20;

/// True if SYSCALL does not raise the privilege level: KVM of the kind `kvm_pvm`.
#[must_use]
pub fn is_pvm() -> bool {
    std::path::Path::new("/sys/module/kvm_pvm").exists()
}

/// The share of the machine that a Keep is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepSize {
    /// vCPUs: processors, and spare ones for threads that sleep.
    pub vcpus: u32,
    /// Memory, in bytes.
    pub memory: u64,
}

impl KeepSize {
    /// The least memory for what ends at `end`, in bytes.
    ///
    /// # Errors
    /// [`KvmError::TooSmall`] when the Keep has less.
    pub fn check(self, end: u64) -> Result<u64, KvmError> {
        let least = end + MIN_FREE;
        if least > self.memory {
            return Err(KvmError::TooSmall(least >> 20));
        }
        Ok(least)
    }

    /// The error for memory that the system refuses.
    pub fn refused(self) -> impl FnOnce(std::io::Error) -> KvmError {
        let size = self.memory >> 20;
        move |source| KvmError::Memory { size, source }
    }
}

/// A launched virtual machine.
pub(crate) struct Launched {
    // Declared, and so dropped, before the memory that they use.
    pub first: Vcpu,
    pub platform: Box<dyn Platform>,
    pub memory: Arc<GuestMemory>,
    /// Corrections that the firmware made to the CPUID page, in words.
    pub corrections: Vec<String>,
}

/// Makes a virtual machine.
pub(crate) fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => return other.map_err(refused("create a virtual machine")),
        }
    }
}

/// Where the time of a launch goes.
pub(crate) struct Timeline {
    last: Instant,
    phases: Vec<Phase>,
}

impl Timeline {
    pub fn new() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Ends a phase.
    pub fn mark(&mut self, name: &'static str) {
        let now = Instant::now();
        let duration = now - self.last;
        tracing::debug!(phase = name, ?duration);
        let name = name.into();
        self.phases.push(Phase { name, duration });
        self.last = now;
    }

    /// The phases that have ended.
    pub fn phases(self) -> Vec<Phase> {
        self.phases
    }
}
