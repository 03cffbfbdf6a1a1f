// SPDX-License-Identifier: Apache-2.0

//! One entry into the guest: what KVM answers to `KVM_RUN`, and the kick that is due before it.
//!
//! This is a trait, so that tests can fake a kernel that enters a SEV-SNP guest. The guest is not trusted:
//! exits are checked where they are handled.
#![forbid(unsafe_code)]

use std::io;

use enarx_executor::fault::{Context, HostFault, KeepFault, StrayExit};
use enarx_exits::PORT;
use kvm_bindings::{KVM_EXIT_X86_BUS_LOCK, kvm_run};
use kvm_ioctls::VcpuExit;
use rustix::io::Errno;

use crate::snp::exits::Exit;

/// A vCPU that can be entered.
pub trait Enter {
    /// `KVM_RUN`, with its result. A memory fault is an exit, although the call fails with EFAULT.
    ///
    /// # Errors
    /// The kernel's.
    fn enter(&mut self) -> Result<VcpuExit<'_>, Errno>;

    /// The page that KVM shares: flags of interrupts, and whether to exit at once.
    fn page(&mut self) -> &mut kvm_run;

    /// Suberror and data of the `KVM_EXIT_INTERNAL_ERROR` that the vCPU has just left for.
    fn internal_error(&mut self) -> (u32, Vec<u64>);

    /// Puts the answer to the hypercall that the vCPU has just left for.
    fn answer_hypercall(&mut self, value: u64);

    /// Queues the kick vector (`KVM_INTERRUPT`); the vCPU takes it when it next runs with interrupts on.
    ///
    /// # Errors
    /// The system's.
    fn inject_kick(&self) -> io::Result<()>;

    /// Where the vCPU is; `None` for an encrypted guest, whose registers cannot be read.
    fn context(&self) -> Option<Context>;
}

/// An exit that the run loop leaves to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnhandledExit {
    /// RDMSR of a register that KVM leaves to us; `answer_read_msr` of `vm/vcpu_ops.rs` gives the answer.
    ReadMsr(u32),
    /// WRMSR of such a register.
    WriteMsr(u32, u64),
    /// An exit that SEV-SNP adds; `answer_hypercall` of `vm/vcpu_ops.rs` gives the answer to a hypercall.
    Snp(Exit),
    /// Any other exit, in words.
    Other(String),
}

/// The outcome of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum EntryOutcome {
    /// The guest wrote this to the port of the functions.
    Port(u32),
    /// Nothing to serve: a signal, or the window for an interrupt.
    Again,
    /// An exit for the platform.
    Unhandled(UnhandledExit),
    /// The Keep cannot go on.
    Ended(KeepFault),
}

/// Enters the guest once.
pub fn enter(vcpu: &mut impl Enter) -> EntryOutcome {
    match vcpu.enter() {
        Ok(VcpuExit::IoOut(PORT, data)) => match <[u8; 4]>::try_from(data) {
            Ok(number) => EntryOutcome::Port(u32::from_le_bytes(number)),
            Err(_) => EntryOutcome::Ended(KeepFault::Exit(StrayExit::PortSize(data.len()))),
        },
        Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => EntryOutcome::Again,
        Ok(VcpuExit::Shutdown) => EntryOutcome::Ended(KeepFault::TripleFault {
            context: vcpu.context(),
            history: None,
        }),
        Ok(VcpuExit::FailEntry(reason, processor)) => {
            EntryOutcome::Ended(KeepFault::Host(HostFault::Entry { reason, processor }))
        }
        Ok(VcpuExit::InternalError) => {
            let (suberror, data) = vcpu.internal_error();
            let context = vcpu.context();
            EntryOutcome::Ended(KeepFault::Host(HostFault::Internal {
                suberror,
                data,
                context,
            }))
        }
        Ok(exit) => EntryOutcome::Unhandled(unhandled(exit)),
        Err(Errno::INTR | Errno::AGAIN) => {
            vcpu.page().immediate_exit = 0;
            EntryOutcome::Again
        }
        Err(errno) => EntryOutcome::Ended(KeepFault::Host(HostFault::Run {
            errno: errno.raw_os_error(),
            protected: vcpu.context().is_none(),
        })),
    }
}

/// Injects the kick vector, or has the vCPU exit as soon as it can take it: true if it was injected.
///
/// # Errors
/// [`KeepFault`]: the Keep has to end.
pub fn kick(vcpu: &mut impl Enter) -> Result<bool, KeepFault> {
    let run = vcpu.page();
    let ready = run.if_flag != 0 && run.ready_for_interrupt_injection != 0;
    run.request_interrupt_window = u8::from(!ready);
    if ready {
        vcpu.inject_kick().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            KeepFault::kvm("inject an interrupt", errno)
        })?;
    }
    Ok(ready)
}

/// An exit that the platform decides.
fn unhandled(exit: VcpuExit<'_>) -> UnhandledExit {
    match exit {
        VcpuExit::X86Rdmsr(exit) => UnhandledExit::ReadMsr(exit.index),
        VcpuExit::X86Wrmsr(exit) => UnhandledExit::WriteMsr(exit.index, exit.data),
        VcpuExit::Hypercall(exit) => UnhandledExit::Snp(Exit::Hypercall {
            number: exit.nr,
            args: exit.args,
        }),
        VcpuExit::SystemEvent(kind, data) => UnhandledExit::Snp(Exit::SystemEvent {
            kind,
            data: data.first().copied(),
        }),
        VcpuExit::MemoryFault { flags, gpa, size } => {
            UnhandledExit::Snp(Exit::MemoryFault { flags, gpa, size })
        }
        VcpuExit::Unsupported(KVM_EXIT_X86_BUS_LOCK) => {
            UnhandledExit::Other("a lock of the bus".into())
        }
        exit => UnhandledExit::Other(format!("{exit:x?}")),
    }
}
