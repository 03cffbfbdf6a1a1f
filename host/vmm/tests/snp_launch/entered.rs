// SPDX-License-Identifier: Apache-2.0

//! `KVM_RUN` of the fake kernel: its vCPUs follow a script, by the rules of the real one (Linux 6.12
//! `arch/x86/kvm/x86.c` and `svm/sev.c`; kvm-ioctls 0.25, `VcpuFd::run`).

use std::collections::VecDeque;
use std::io;

use enarx_executor::fault::Context;
use enarx_vmm::vm::entry::Enter;
use kvm_bindings::{KVM_EXIT_HYPERCALL, KVM_EXIT_IO, KVM_EXIT_MEMORY_FAULT, kvm_run};
use kvm_ioctls::{HypercallExit, VcpuExit};
use rustix::io::Errno;

use super::fake::{Event, Processor};
use super::played::Play;

/// The vector of the kicks (`KICK_VECTOR`).
const KICK: u32 = enarx_exits::KICK_VECTOR as u32;

impl Processor {
    fn note(&self, event: Event) {
        self.state.lock().unwrap().events.push(event);
    }

    /// The next step of the script, if this vCPU may run at all.
    fn next(&mut self) -> Result<Play, Errno> {
        let mut state = self.state.lock().unwrap();
        // `pre_sev_run`: there is no valid VMSA before FINISH.
        if !state.finished {
            return Err(Errno::INVAL);
        }
        let vcpu = self.id;
        // `KVM_REQ_UPDATE_PROTECTED_GUEST_STATE`, served by the vCPU that will start, when it runs.
        let start = state.vcpus[vcpu].start.take();
        if start.is_some() || !self.played.entered {
            let vmsa = start.unwrap_or(0);
            state.events.push(Event::Entered { vcpu, vmsa });
            self.played.entered = true;
        }
        let plays = state.script.runs.get_mut(&vcpu);
        Ok(plays
            .and_then(VecDeque::pop_front)
            .expect("the script goes on"))
    }

    /// Makes the flags say whether an interrupt could be taken.
    fn interrupts(&mut self, on: bool) {
        self.played.page.if_flag = on.into();
        self.played.page.ready_for_interrupt_injection =
            u8::from(on && self.played.queued.get().is_none());
    }
}

impl Enter for Processor {
    fn enter(&mut self) -> Result<VcpuExit<'_>, Errno> {
        let vcpu = self.id;
        if self.played.page.immediate_exit != 0 {
            return Err(Errno::INTR);
        }
        if std::mem::take(&mut self.played.asked) {
            let value = self.played.ret;
            self.note(Event::Answered { vcpu, value });
        }
        // An interrupt is taken once interrupts are on; it was queued only then.
        if let Some(vector) = self.played.queued.take() {
            self.note(Event::Interrupt { vcpu, vector });
        }
        loop {
            match self.next()? {
                Play::Port(port, bytes) => {
                    self.played.page.exit_reason = KVM_EXIT_IO;
                    self.played.bytes = bytes;
                    return Ok(VcpuExit::IoOut(port, &self.played.bytes));
                }
                Play::Hypercall(args) => {
                    let played = &mut self.played;
                    played.page.exit_reason = KVM_EXIT_HYPERCALL;
                    (played.ret, played.asked) = (u64::MAX, true);
                    return Ok(VcpuExit::Hypercall(HypercallExit {
                        nr: 12,
                        args,
                        ret: &mut played.ret,
                        longmode: 1,
                    }));
                }
                Play::SystemEvent(kind, words) => {
                    self.played.words = words;
                    return Ok(VcpuExit::SystemEvent(kind, &self.played.words));
                }
                Play::MemoryFault(flags, gpa) => {
                    // The one exit that comes with a failed call, EFAULT.
                    self.played.page.exit_reason = KVM_EXIT_MEMORY_FAULT;
                    let size = 4096;
                    return Ok(VcpuExit::MemoryFault { flags, gpa, size });
                }
                Play::Create(other, vmsa) => {
                    // `sev_snp_ap_creation`: not at the beginning of a large page, because of an erratum.
                    assert!(vmsa.is_multiple_of(4096) && !vmsa.is_multiple_of(2 << 20));
                    self.state.lock().unwrap().vcpus[other].start = Some(vmsa);
                }
                Play::Signal(on) => {
                    self.interrupts(on);
                    return Err(Errno::INTR);
                }
                Play::Window => {
                    self.interrupts(true);
                    if self.played.page.request_interrupt_window != 0 {
                        return Ok(VcpuExit::IrqWindowOpen);
                    }
                }
                Play::On(play) => {
                    self.interrupts(true);
                    let mut state = self.state.lock().unwrap();
                    state.script.runs.get_mut(&vcpu).unwrap().push_front(*play);
                }
                Play::Shutdown => return Ok(VcpuExit::Shutdown),
                Play::FailEntry(reason, processor) => {
                    return Ok(VcpuExit::FailEntry(reason, processor));
                }
                Play::Internal(suberror, words) => {
                    (self.played.suberror, self.played.words) = (suberror, words);
                    return Ok(VcpuExit::InternalError);
                }
                Play::Fails(errno) => return Err(errno),
            }
        }
    }

    fn page(&mut self) -> &mut kvm_run {
        &mut self.played.page
    }

    fn internal_error(&mut self) -> (u32, Vec<u64>) {
        (self.played.suberror, self.played.words.clone())
    }

    fn answer_hypercall(&mut self, value: u64) {
        assert_eq!(self.played.page.exit_reason, KVM_EXIT_HYPERCALL);
        self.played.ret = value;
    }

    fn inject_kick(&self) -> io::Result<()> {
        // `kvm_vcpu_ioctl_interrupt`, without an interrupt controller in the kernel.
        if self.played.queued.get().is_some() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.played.queued.set(Some(KICK));
        Ok(())
    }

    fn context(&self) -> Option<Context> {
        // KVM_GET_REGS of an encrypted guest is EINVAL.
        None
    }
}
