// SPDX-License-Identifier: Apache-2.0

//! A vCPU of the real KVM.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use enarx_executor::fault::Context;
use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_run, kvm_sregs, kvm_xcrs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use rustix::io::Errno;

use super::backing::Backing;
use super::entry::Enter;
use super::registers::NewVcpu;

fn errno(error: kvm_ioctls::Error) -> Errno {
    Errno::from_raw_os_error(error.errno())
}

/// A vCPU of the real kernel; keeps the memory of its machine mapped.
pub struct Vcpu {
    // Declared, and so dropped, before the memory that it uses.
    fd: VcpuFd,
    memory: Vec<Arc<dyn Backing>>,
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu")
            .field("fd", &self.fd.as_raw_fd())
            .field("slots", &self.memory.len())
            .finish()
    }
}

impl Vcpu {
    /// The vCPU `fd` of a machine whose memory is `memory`.
    pub(crate) fn keeping(fd: VcpuFd, memory: Vec<Arc<dyn Backing>>) -> Self {
        Self { fd, memory }
    }

    /// The vCPU, to be run.
    pub fn fd(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }
}

/// A vCPU of a machine whose memory others keep.
impl From<VcpuFd> for Vcpu {
    fn from(fd: VcpuFd) -> Self {
        let memory = Vec::new();
        Self { fd, memory }
    }
}

impl Enter for Vcpu {
    fn enter(&mut self) -> Result<VcpuExit<'_>, Errno> {
        self.fd.enter()
    }

    fn page(&mut self) -> &mut kvm_run {
        self.fd.page()
    }

    fn internal_error(&mut self) -> (u32, Vec<u64>) {
        self.fd.internal_error()
    }

    fn answer_hypercall(&mut self, value: u64) {
        self.fd.answer_hypercall(value);
    }

    fn inject_kick(&self) -> io::Result<()> {
        self.fd.inject_kick()
    }

    fn context(&self) -> Option<Context> {
        self.fd.context()
    }
}

impl NewVcpu for Vcpu {
    fn set_cpuid(&mut self, cpuid: &CpuId) -> Result<(), Errno> {
        self.fd.set_cpuid2(cpuid).map_err(errno)
    }

    fn sregs(&self) -> Result<kvm_sregs, Errno> {
        self.fd.get_sregs().map_err(errno)
    }

    fn set_sregs(&mut self, sregs: &kvm_sregs) -> Result<(), Errno> {
        self.fd.set_sregs(sregs).map_err(errno)
    }

    fn set_xcr0(&mut self, xcr0: u64) -> Result<(), Errno> {
        let mut xcrs = kvm_xcrs {
            nr_xcrs: 1,
            ..kvm_xcrs::default()
        };
        // The first of its sixteen places is XCR0's (its number is 0).
        xcrs.xcrs[0].value = xcr0;
        self.fd.set_xcrs(&xcrs).map_err(errno)
    }

    fn set_msrs(&mut self, msrs: &[(u32, u64)]) -> Result<usize, Errno> {
        let entries: Vec<kvm_msr_entry> = msrs
            .iter()
            .map(|&(index, data)| kvm_msr_entry {
                index,
                data,
                reserved: 0,
            })
            .collect();
        let msrs = Msrs::from_entries(&entries).map_err(|_| Errno::TOOBIG)?;
        self.fd.set_msrs(&msrs).map_err(errno)
    }

    fn set_regs(&mut self, regs: &kvm_regs) -> Result<(), Errno> {
        self.fd.set_regs(regs).map_err(errno)
    }
}
