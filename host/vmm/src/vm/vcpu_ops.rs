// SPDX-License-Identifier: Apache-2.0

//! Operations on a vCPU between its runs: first state, answers to its exits, the kick vector.
#![expect(
    unsafe_code,
    reason = "an ioctl and the shared page of a vCPU have no safe interface"
)]

use std::io;
use std::os::fd::AsRawFd;

use enarx_executor::fault::Context;
use enarx_executor::interrupt;
use enarx_exits::KICK_VECTOR;
use enarx_snp::vmsa::Vmsa;
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_MP_STATE_RUNNABLE, kvm_enable_cap, kvm_mp_state, kvm_run,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;

use crate::error::{KvmError, refused};
use crate::vm::entry::Enter;
use crate::vm::registers::Registers;
use crate::vm::vcpu::Vcpu;

/// `KVM_INTERRUPT`, `_IOW(KVMIO, 0x86, struct kvm_interrupt)` (Linux `linux/kvm.h`).
pub const KVM_INTERRUPT: u64 = 0x4004_ae86;

/// Creates vCPU `id` with its first state.
///
/// # Errors
/// [`KvmError::Refused`], [`KvmError::Vcpu`].
pub fn create(vm: &VmFd, id: u32, cpuid: &CpuId, state: &Vmsa) -> Result<Vcpu, KvmError> {
    let fd = vm
        .create_vcpu(id.into())
        .map_err(refused("create a vCPU"))?;
    let mut vcpu = Vcpu::from(fd);
    Registers::of(state).apply(id, &mut vcpu, cpuid)?;
    Ok(vcpu)
}

/// Where KVM plays local APICs instead of memory (Intel SDM volume 3A, section 11.4.1).
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// Gives the machine local APICs, and nothing else of an interrupt controller, before its first vCPU.
/// The Keep has no use for them; but the first and last vCPU without one make Linux rewrite its own
/// code, which takes longer than all else that a vCPU needs. Only where it was tried (`kvm_pvm`).
///
/// # Errors
/// [`KvmError::Refused`].
pub fn split_interrupts(vm: &VmFd) -> Result<(), KvmError> {
    let mut capability = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        ..kvm_enable_cap::default()
    };
    // Inputs of an I/O APIC that the VMM would play.
    capability.args[0] = 24;
    vm.enable_cap(&capability)
        .map_err(refused("split the interrupt controller"))
}

/// Makes a vCPU with a local APIC runnable at once, and able to take the interrupts of [`inject_kick`].
///
/// # Errors
/// [`KvmError::Refused`].
pub fn take_interrupts(vcpu: &VcpuFd) -> Result<(), KvmError> {
    /// The local vector table's entry for LINT0, and what makes it an external interrupt (Intel SDM
    /// volume 3A, section 11.5.1).
    const LVT_LINT0: usize = 0x350;
    const EXTERNAL: [i8; 4] = [0, 7, 0, 0];
    let set = || {
        let mut state = vcpu.get_lapic()?;
        state.regs[LVT_LINT0..LVT_LINT0 + 4].copy_from_slice(&EXTERNAL);
        vcpu.set_lapic(&state)?;
        vcpu.set_mp_state(kvm_mp_state {
            mp_state: KVM_MP_STATE_RUNNABLE,
        })
    };
    set().map_err(refused("set the local APIC"))
}

/// Puts the answer to the RDMSR that the vCPU has just left for.
pub fn answer_read_msr(vcpu: &mut VcpuFd, data: u64) {
    let run = vcpu.get_kvm_run();
    // The member of the union that KVM_EXIT_X86_RDMSR uses, which the caller has just seen.
    run.__bindgen_anon_1.msr.data = data;
}

impl Enter for VcpuFd {
    fn enter(&mut self) -> Result<VcpuExit<'_>, Errno> {
        self.run()
            .map_err(|error| Errno::from_raw_os_error(error.errno()))
    }

    fn page(&mut self) -> &mut kvm_run {
        self.get_kvm_run()
    }

    fn internal_error(&mut self) -> (u32, Vec<u64>) {
        // SAFETY: the member that KVM_EXIT_INTERNAL_ERROR uses, which the caller has just seen; it is made of integers,
        // so any bytes are a value of it.
        let internal = unsafe { self.get_kvm_run().__bindgen_anon_1.internal };
        let count = usize::try_from(internal.ndata).unwrap_or(usize::MAX);
        let data = internal.data.into_iter().take(count).collect();
        (internal.suberror, data)
    }

    fn answer_hypercall(&mut self, value: u64) {
        // The member of the union that KVM_EXIT_HYPERCALL uses, which the caller has just seen.
        self.get_kvm_run().__bindgen_anon_1.hypercall.ret = value;
    }

    fn inject_kick(&self) -> io::Result<()> {
        let vector = u32::from(KICK_VECTOR);
        // SAFETY: `struct kvm_interrupt` is one u32; KVM reads it during the call.
        let result =
            unsafe { libc::ioctl(self.as_raw_fd(), KVM_INTERRUPT as _, &raw const vector) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn context(&self) -> Option<Context> {
        let (regs, sregs) = (self.get_regs().ok()?, self.get_sregs().ok()?);
        Some(Context {
            rip: regs.rip,
            rsp: regs.rsp,
            cr2: sregs.cr2,
        })
    }
}

/// Runs `f` so that an interruption of this thread, before or during `KVM_RUN`, ends that call.
pub fn interruptible<R>(vcpu: &mut VcpuFd, f: impl FnOnce(&mut VcpuFd) -> R) -> R {
    let run: *mut kvm_run = vcpu.get_kvm_run();
    // SAFETY: the mapping of a vCPU's `kvm_run` lives as long as the vCPU, which is borrowed during the call;
    // its byte is written here and by `set_kvm_immediate_exit` only.
    unsafe { interrupt::with_flag(&raw mut (*run).immediate_exit, || f(vcpu)) }
}
