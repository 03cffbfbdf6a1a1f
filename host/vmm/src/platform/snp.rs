// SPDX-License-Identifier: Apache-2.0

//! Genuine SEV-SNP: private memory that the host cannot read, measured by the secure processor.
//!
//! The VMM keeps the shared side of the one memory slot; the private side is the kernel's.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use enarx_launch::measured::{self, C_BIT, Parameters};
use kvm_ioctls::{Kvm, VcpuFd};

use super::{ExitAction, Platform, out_of_bounds};
use crate::error::KvmError;
use crate::launch::VmLaunch;
use crate::launched::{KeepSize, Launched, Timeline};
use crate::snp::abi::KVM_SET_MEMORY_ATTRIBUTES;
use crate::snp::guest::{Guest, Request};
use crate::snp::ioctl::{Host, Machine};
use crate::snp::launcher::SnpError;
use crate::snp::probe::Offer;
use crate::vm::cpuid::Cpu;
use crate::vm::entry::UnhandledExit;
use crate::vm::image::Load;
use crate::vm::memory::GuestMemory;
use crate::vm::vcpu::Vcpu;
use enarx_confine::seccomp::{Allow, word};

/// The calls that page state changes of a machine need: `KVM_SET_MEMORY_ATTRIBUTES`, and fallocate(2) that frees its
/// private memory.
fn conversions(machine: RawFd, private: impl IntoIterator<Item = RawFd>) -> Vec<Allow> {
    let free = word(libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE);
    let private: Vec<u32> = private.into_iter().map(word).collect();
    vec![
        Allow::ioctl(&[KVM_SET_MEMORY_ATTRIBUTES]).descriptor(0, machine),
        Allow::call(libc::SYS_fallocate)
            .word(0, &private)
            .word(1, &[free]),
    ]
}

/// A SEV-SNP machine.
struct Snp {
    guest: Guest<Machine>,
}

impl Platform for Snp {
    fn calls(&self) -> Vec<Allow> {
        let machine = self.guest.machine();
        conversions(machine.fd().as_raw_fd(), machine.private_memory())
    }

    fn vcpu(&self, id: u32) -> Result<Vcpu, KvmError> {
        self.guest.vcpu(id).ok_or(KvmError::Plan("such vCPU"))
    }

    fn serve(&self, _: u32, vcpu: &mut VcpuFd, exit: UnhandledExit) -> ExitAction {
        let UnhandledExit::Snp(exit) = exit else {
            return out_of_bounds(&exit);
        };
        match self.guest.answer(vcpu, exit) {
            Ok(()) => ExitAction::Resume,
            Err(fault) => fault.into(),
        }
    }
}

/// Launches a Keep.
pub(crate) fn launch(
    _: &Kvm,
    launch: &VmLaunch,
    size: KeepSize,
    timeline: &mut Timeline,
) -> Result<Launched, KvmError> {
    let host = Host::open()?;
    // Before the C-bit, which processors without SEV-SNP have elsewhere or not at all.
    Offer::of(&host).map_err(SnpError::from)?;
    let mut cpu = Cpu::new(host.kvm(), false)?;
    let c_bit = cpu.with_own_encryption();
    if c_bit != C_BIT {
        return Err(KvmError::CBit { found: c_bit });
    }
    let parameters = Parameters {
        vcpus: size.vcpus,
        c_bit,
        fault_addresses: launch.measured.fault_addresses,
        variant: launch.measured.variant,
    };
    let layout = measured::launch(&launch.images, &parameters)?;
    size.check(layout.end)?;
    timeline.mark("plan");

    let memory = GuestMemory::in_place(size.memory, &layout.shared).map_err(size.refused())?;
    Load::new(&memory, &layout.runtime, launch.images.runtime.bytes()).load_remaining()?;
    timeline.mark("image");

    let cpuids: Vec<_> = (0..size.vcpus).map(|id| cpu.cpuid(id)).collect();
    let guest = Guest::launch(
        &host,
        Request {
            pages: layout.pages,
            shared: &layout.shared,
            cpuid_page: cpu.page()?,
            cpuids: &cpuids,
            size: size.memory,
            memory: memory.backing(),
            identity: None,
            host_data: launch.measured.host_data,
            variant: launch.measured.variant,
        },
    )?;
    let corrections = guest.corrections().iter().map(ToString::to_string);
    let corrections = corrections.collect();
    let platform = Snp { guest };
    let first = platform.vcpu(0)?;
    timeline.mark("machine");
    Ok(Launched {
        memory: Arc::new(memory),
        platform: Box::new(platform),
        first,
        corrections,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use kvm_bindings::kvm_memory_attributes;
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, ftruncate, memfd_create};

    use super::*;
    use crate::vm::confinement::Confinement;
    use enarx_confine::bpf::allows;
    use enarx_confine::seccomp::checks::check;
    use enarx_executor::grant::Grant;

    #[test]
    fn only_this_machines_memory_may_be_converted() {
        let program = check(conversions(5, [7, 8]));
        let free = u64::from(word(libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE));
        let fallocate = |fd, mode| allows(&program, libc::SYS_fallocate, [fd, mode, 0, 1, 0, 0]);
        assert!(fallocate(7, free) && fallocate(8, free));
        assert!(!fallocate(6, free) && !fallocate(7, 0));
        let convert = |fd| {
            let request = u64::from(KVM_SET_MEMORY_ATTRIBUTES);
            allows(&program, libc::SYS_ioctl, [fd, request, 0, 0, 0, 0])
        };
        assert!(convert(5) && !convert(7));
    }

    #[test]
    fn a_confined_thread_may_convert_pages() {
        let null = || File::open("/dev/null").unwrap().into();
        let grant = Grant::of_streams([null(), null(), null()]);
        enarx_harness::needs::kvm();
        let vm = Kvm::new().unwrap().create_vm().unwrap();
        let private = memfd_create("private", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&private, 2 << 20).unwrap();
        fallocate(&private, FallocateFlags::empty(), 0, 2 << 20).unwrap();
        let full = fstat(&private).unwrap().st_blocks;
        let calls = conversions(vm.as_raw_fd(), [private.as_raw_fd()]);
        let confinement = Confinement::new(&grant, calls).unwrap();
        let thread = thread::spawn(move || {
            confinement.apply().unwrap();
            // Any other system call would end this process; a plain machine has no private memory.
            let refused = vm.set_memory_attributes(kvm_memory_attributes::default());
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&private, mode, 0, 1 << 20).unwrap();
            (refused.is_err(), private)
        });
        let (refused, private) = thread.join().unwrap();
        assert!(refused);
        assert_eq!(fstat(&private).unwrap().st_blocks, full / 2);
    }
}
