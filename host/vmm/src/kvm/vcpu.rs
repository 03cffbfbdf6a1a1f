//! One vCPU: its first state, its interrupts from other threads, the kick vector.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Once;

use enarx_microkernel::exits::KICK_VECTOR;
use enarx_microkernel::first_state::EFER_SVME;
use enarx_snp::vmsa::{Segment, Vmsa};
use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_run, kvm_segment, kvm_xcrs};
use kvm_ioctls::{VcpuFd, VmFd};

use super::{KvmError, refused};

/// Model-specific registers (AMD64 APM volume 2, appendix A).
mod msr {
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// `KVM_INTERRUPT`, `_IOW(KVMIO, 0x86, struct kvm_interrupt)` (Linux `linux/kvm.h`).
pub const KVM_INTERRUPT: u64 = 0x4004_ae86;

/// Creates vCPU `id` with its first state.
pub fn create(vm: &VmFd, id: u32, cpuid: &CpuId, state: &Vmsa) -> Result<VcpuFd, KvmError> {
    let vcpu = vm
        .create_vcpu(id.into())
        .map_err(refused("create a vCPU"))?;
    vcpu.set_cpuid2(cpuid).map_err(refused("set CPUID"))?;
    set_state(&vcpu, state)?;
    Ok(vcpu)
}

/// A segment register; attributes as AMD64 APM volume 2, section 4.7 packs them.
fn segment(from: &Segment) -> kvm_segment {
    let attributes = from.attributes.get();
    let bit = |number: u32| u8::from(attributes >> number & 1 == 1);
    kvm_segment {
        base: from.base.get(),
        limit: from.limit.get(),
        selector: from.selector.get(),
        type_: u8::try_from(attributes & 15).unwrap_or(0),
        s: bit(4),
        dpl: u8::try_from(attributes >> 5 & 3).unwrap_or(0),
        present: bit(7),
        avl: bit(8),
        l: bit(9),
        db: bit(10),
        g: bit(11),
        unusable: u8::from(attributes == 0),
        padding: 0,
    }
}

/// Gives a vCPU the state of a VMSA, as far as a launch sets it.
pub fn set_state(vcpu: &VcpuFd, state: &Vmsa) -> Result<(), KvmError> {
    let mut sregs = vcpu
        .get_sregs()
        .map_err(refused("read a vCPU's registers"))?;
    sregs.cs = segment(&state.cs);
    sregs.ss = segment(&state.ss);
    sregs.ds = segment(&state.ds);
    sregs.es = segment(&state.es);
    sregs.fs = segment(&state.fs);
    sregs.gs = segment(&state.gs);
    sregs.tr = segment(&state.tr);
    sregs.ldt = segment(&state.ldtr);
    let limit = |from: &Segment| u16::try_from(from.limit.get()).unwrap_or(0);
    (sregs.gdt.base, sregs.gdt.limit) = (state.gdtr.base.get(), limit(&state.gdtr));
    (sregs.idt.base, sregs.idt.limit) = (state.idtr.base.get(), limit(&state.idtr));
    sregs.cr0 = state.cr0.get();
    sregs.cr3 = state.cr3.get();
    sregs.cr4 = state.cr4.get();
    // KVM sets EFER.SVME itself where it belongs.
    sregs.efer = state.efer.get() & !EFER_SVME;
    vcpu.set_sregs(&sregs)
        .map_err(refused("set control registers"))?;

    let xcrs = kvm_xcrs {
        nr_xcrs: 1,
        xcrs: {
            let mut xcrs = kvm_xcrs::default().xcrs;
            xcrs[0].value = state.xcr0.get();
            xcrs
        },
        ..kvm_xcrs::default()
    };
    vcpu.set_xcrs(&xcrs).map_err(refused("set XCR0"))?;
    set_msrs(
        vcpu,
        &[
            (msr::STAR, state.star.get()),
            (msr::LSTAR, state.lstar.get()),
            (msr::SFMASK, state.sfmask.get()),
            (msr::KERNEL_GS_BASE, state.kernel_gs_base.get()),
        ],
    )?;
    vcpu.set_regs(&kvm_regs {
        rip: state.rip.get(),
        rsp: state.rsp.get(),
        rdi: state.rdi.get(),
        rflags: state.rflags.get(),
        ..kvm_regs::default()
    })
    .map_err(refused("set registers"))
}

/// Sets model-specific registers.
pub fn set_msrs(vcpu: &VcpuFd, registers: &[(u32, u64)]) -> Result<(), KvmError> {
    let entries: Vec<kvm_msr_entry> = registers
        .iter()
        .map(|&(index, data)| kvm_msr_entry {
            index,
            data,
            reserved: 0,
        })
        .collect();
    let msrs = Msrs::from_entries(&entries).map_err(|_| KvmError::Lacks("room for some MSRs"))?;
    let set = vcpu.set_msrs(&msrs).map_err(refused("set MSRs"))?;
    if set == entries.len() {
        Ok(())
    } else {
        Err(KvmError::Lacks("an MSR that a Keep needs"))
    }
}

/// Puts the answer to the RDMSR that the vCPU has just left for.
pub fn answer_read_msr(vcpu: &mut VcpuFd, data: u64) {
    let run = vcpu.get_kvm_run();
    // The member of the union that KVM_EXIT_X86_RDMSR uses, which the caller has just seen.
    run.__bindgen_anon_1.msr.data = data;
}

/// Queues the kick vector; the vCPU takes it when it next runs with interrupts on.
pub fn inject_kick(vcpu: &VcpuFd) -> io::Result<()> {
    let vector = u32::from(KICK_VECTOR);
    // SAFETY: `struct kvm_interrupt` is one u32; KVM reads it during the call.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_INTERRUPT as _, &raw const vector) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

thread_local! {
    /// `kvm_run` of the vCPU that this thread runs.
    static CURRENT: Cell<*mut kvm_run> = const { Cell::new(null_mut()) };
}

/// The signal that makes a vCPU thread leave the guest.
pub fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Runs with the thread's vCPU known to the signal handler, so that a signal before or during
/// `KVM_RUN` ends that call.
pub fn with_interruptible<R>(vcpu: &mut VcpuFd, f: impl FnOnce(&mut VcpuFd) -> R) -> R {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: the action is fully initialised; the handler touches a thread-local cell and one
        // byte of the mapped `kvm_run` only, which is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            libc::sigaction(signal(), &raw const action, null_mut());
        }
    });
    CURRENT.set(vcpu.get_kvm_run());
    let result = f(vcpu);
    CURRENT.set(null_mut());
    result
}

extern "C" fn on_signal(_: libc::c_int) {
    let run = CURRENT.try_with(Cell::get).unwrap_or(null_mut());
    if !run.is_null() {
        // SAFETY: the pointer is the mapping of a vCPU that lives until `with_interruptible`
        // clears it on this same thread; the byte is only written here and cleared by the loop.
        unsafe { (&raw mut (*run).immediate_exit).write_volatile(1) };
    }
}

/// The calling thread, for [`interrupt`].
pub fn this_thread() -> libc::pthread_t {
    // SAFETY: always succeeds.
    unsafe { libc::pthread_self() }
}

/// Sends the signal to a vCPU thread, which has not been joined yet.
pub fn interrupt(thread: libc::pthread_t) {
    // SAFETY: the caller holds the lock under which the thread takes its own handle away before
    // it ends, so the handle is valid.
    unsafe { libc::pthread_kill(thread, signal()) };
}
