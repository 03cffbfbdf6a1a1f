// SPDX-License-Identifier: Apache-2.0

//! Plain KVM: the runtime is mapped straight in, and nothing is measured.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{Builder, ScopedJoinHandle};

use enarx_boot::first_state::{CpuTables, FirstState, TSS_STRIDE};
use enarx_confine::seccomp::Allow;
use enarx_executor::fault::KeepFault;
use enarx_launch::plain::{Parameters, Plan};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::{CREATE_VCPU, ExitAction, Platform, SET_MEMORY, out_of_bounds};
use crate::error::{KvmError, refused};
use crate::launch::VmLaunch;
use crate::launched::{KeepSize, Launched, Timeline, create_vm, is_pvm};
use crate::vm::cpuid::Cpu;
use crate::vm::entry::UnhandledExit;
use crate::vm::image::Load;
use crate::vm::limits::{self, Limits};
use crate::vm::memory::GuestMemory;
use crate::vm::vcpu::Vcpu;
use crate::vm::vcpu_ops;

/// Memory that the guest has from the beginning, if it has that much, in bytes: KVM without nested paging
/// in hardware keeps records of 1/256 of it, and takes 1 ms for those of 1 GiB.
const MEMORY_AT_LAUNCH: u64 = 128 << 20;

/// A virtual machine of plain KVM.
struct Plain {
    vm: VmFd,
    cpu: Cpu,
    state: FirstState,
    /// See [`vcpu_ops::split_interrupts`].
    split_interrupts: bool,
    limits: Limits,
}

impl Platform for Plain {
    fn limits(&self) -> Option<Limits> {
        Some(self.limits)
    }

    fn control_calls(&self) -> Vec<Allow> {
        vec![Allow::ioctl(&[CREATE_VCPU, SET_MEMORY]).descriptor(0, self.vm.as_raw_fd())]
    }

    fn counts_entries(&self) -> bool {
        true
    }

    fn vcpu(&self, id: u32) -> Result<Vcpu, KvmError> {
        let own = |tables: CpuTables| CpuTables {
            tss: tables.tss + u64::from(id) * TSS_STRIDE,
            ..tables
        };
        let state = FirstState {
            tables: self.state.tables.map(own),
            ..self.state
        };
        let state = state.vmsa(id.into());
        let mut vcpu = vcpu_ops::create(&self.vm, id, &self.cpu.cpuid(id), &state)?;
        if self.split_interrupts {
            vcpu_ops::take_interrupts(vcpu.fd())?;
        }
        Ok(vcpu)
    }

    fn extend(&self, memory: &GuestMemory, end: u64) -> Result<(), KeepFault> {
        memory
            .extend(&self.vm, end)
            .map_err(|error| KeepFault::kvm("map more of the Keep's memory", error.errno()))
    }

    fn serve(&self, _: u32, _: &mut VcpuFd, exit: UnhandledExit) -> ExitAction {
        out_of_bounds(&exit)
    }
}

/// Launches a Keep.
pub(crate) fn launch(
    kvm: &Kvm,
    launch: &VmLaunch,
    size: KeepSize,
    timeline: &mut Timeline,
) -> Result<Launched, KvmError> {
    let runtime = launch.images.runtime.bytes();
    let plan = Plan::new(runtime)?;
    let least = size.check(plan.end())?;
    let memory = GuestMemory::in_place(size.memory, &plan.shared()).map_err(size.refused())?;
    timeline.mark("plan");

    // The image is copied while KVM makes the machine, and then by both threads.
    let load = Load::new(&memory, plan.placements(), runtime);
    let (platform, first) = std::thread::scope(|scope| {
        // Where there can be no second thread, this one does it all.
        let helper = Builder::new()
            .spawn_scoped(scope, || load.load_remaining())
            .ok();
        let pvm = is_pvm();
        let cpu = Cpu::new(kvm, pvm)?;
        let parameters = Parameters {
            vcpus: size.vcpus,
            memory: size.memory,
            huge_pages: cpu.huge_pages,
            syscall_by_ud: pvm,
            cr4: cpu.cr4,
            xcr0: cpu.xcr0,
        };
        let layout = plan.launch(launch.images.microkernel, &parameters)?;
        let vm = create_vm(kvm)?;
        let limits = Limits::set(&vm, &[limits::SEGMENT_BASES]);
        let split_interrupts =
            pvm && size.memory <= vcpu_ops::LOCAL_APIC && kvm.check_extension(Cap::SplitIrqchip);
        if split_interrupts {
            vcpu_ops::split_interrupts(&vm)?;
        }
        memory
            .register(&vm, size.memory.min(MEMORY_AT_LAUNCH.max(least)))
            .map_err(refused("map the Keep's memory"))?;
        let platform = Plain {
            vm,
            cpu,
            state: layout.state,
            split_interrupts,
            limits,
        };
        let first = platform.vcpu(0)?;
        timeline.mark("machine");
        for page in &layout.pages {
            memory.load(page.gpa, &page.bytes[..]);
        }
        load.load_remaining()?;
        match helper.map(ScopedJoinHandle::join) {
            Some(Ok(loaded)) => loaded?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {}
        }
        timeline.mark("image");
        Ok::<_, KvmError>((platform, first))
    })?;
    Ok(Launched {
        memory: Arc::new(memory),
        platform: Box::new(platform),
        first,
        corrections: Vec::new(),
    })
}
