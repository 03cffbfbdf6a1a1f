//! One vCPU: its first state, its interrupts from other threads, the kick vector.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Once;

use enarx_launch::layout::{self as launch, State};
use enarx_microkernel::exits::KICK_VECTOR;
use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_run, kvm_segment, kvm_xcrs};
use kvm_ioctls::{VcpuFd, VmFd};

use super::cpuid::Cpu;
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

/// Creates vCPU `id` with the launch's first state.
pub fn create(vm: &VmFd, id: u32, cpu: &Cpu, state: &State) -> Result<VcpuFd, KvmError> {
    let vcpu = vm
        .create_vcpu(id.into())
        .map_err(refused("create a vCPU"))?;
    vcpu.set_cpuid2(&cpu.cpuid(id))
        .map_err(refused("set CPUID"))?;

    let mut sregs = vcpu
        .get_sregs()
        .map_err(refused("read a vCPU's registers"))?;
    let data = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 0x10,
        type_: 3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 0x08,
        type_: 11,
        db: 0,
        l: 1,
        ..data
    };
    sregs.ss = data;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
    sregs.tr = kvm_segment {
        base: state.tss_base(id),
        limit: launch::TSS_LIMIT.into(),
        // No descriptor stands behind it: the register is loaded here, never by LTR.
        selector: 0x28,
        type_: 11,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = state.gdt;
    (sregs.idt.base, sregs.idt.limit) = state.idt;
    sregs.cr0 = launch::CR0;
    sregs.cr3 = state.cr3;
    sregs.cr4 = cpu.cr4;
    sregs.efer = launch::EFER;
    vcpu.set_sregs(&sregs)
        .map_err(refused("set control registers"))?;

    let xcrs = kvm_xcrs {
        nr_xcrs: 1,
        xcrs: {
            let mut xcrs = kvm_xcrs::default().xcrs;
            xcrs[0].value = cpu.xcr0;
            xcrs
        },
        ..kvm_xcrs::default()
    };
    vcpu.set_xcrs(&xcrs).map_err(refused("set XCR0"))?;

    let entries = [
        (msr::STAR, launch::STAR),
        (msr::LSTAR, state.lstar),
        (msr::SFMASK, launch::SFMASK),
        (msr::KERNEL_GS_BASE, state.rsp(id)),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        reserved: 0,
    });
    let msrs = Msrs::from_entries(&entries).map_err(|_| KvmError::Lacks("room for four MSRs"))?;
    let set = vcpu.set_msrs(&msrs).map_err(refused("set MSRs"))?;
    if set != entries.len() {
        return Err(KvmError::Lacks("an MSR of SYSCALL"));
    }
    vcpu.set_regs(&kvm_regs {
        rip: state.rip,
        rsp: state.rsp(id),
        rdi: id.into(),
        rflags: 2,
        ..kvm_regs::default()
    })
    .map_err(refused("set registers"))?;
    Ok(vcpu)
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
