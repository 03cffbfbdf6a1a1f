//! The main external loop: runs the vCPUs and serves their exits until the Keep ends.
//!
//! vCPU threads hold no lock while they run or sleep. The thread that called [`run`] waits for the
//! end, starts vCPUs that the guest asks for, and watches the time limit; it is not confined. It takes no
//! lock under which requests of the Keep are performed, so the end comes whatever the Keep asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use enarx_exits::{ExitFunction, FaultReport, LOG_BYTES, PORT};
use kvm_ioctls::{VcpuExit, VcpuFd};
use zerocopy::IntoBytes;

use super::confinement::Confinement;
use super::fault::Fault;
use super::memory::GuestMemory;
use super::poller::{Poller, Traffic};
use super::vcpu;
use crate::error::KvmError;
use crate::platform::{Event, Platform, Served};
use crate::snp::exits::Exit;
use crate::vm::processor::Processor;
use enarx_executor::interrupt::Interruptible;
use enarx_executor::launch::{GRACE, LeftBehind, Outcome};
use enarx_executor::refused::{Refusals, Refused, RefusedCalls};
use enarx_executor::{Progress, SharedExecutor};

/// Functions that are counted: their numbers are below this.
const FUNCTIONS: usize = 12;

/// A Keep while it runs.
pub struct Keep {
    // Declared, and so dropped, before the memory that they use.
    executor: SharedExecutor,
    platform: Box<dyn Platform>,
    memory: Arc<GuestMemory>,
    confinement: Confinement,
    vcpus: Vec<Vcpu>,
    control: Mutex<Control>,
    changed: Condvar,
    poller: Poller,
    polling: Interruptible,
    counts: [AtomicU64; FUNCTIONS],
    refusals: Refusals,
}

/// What other threads want of a vCPU.
#[derive(Default)]
struct Vcpu {
    /// The token of `Park` and `Unpark`.
    token: Mutex<bool>,
    unparked: Condvar,
    /// The kick vector is to be injected.
    kick: AtomicBool,
    /// The thread, once it runs.
    thread: Interruptible,
}

#[derive(Default)]
struct Control {
    outcome: Option<Outcome>,
    /// vCPUs that the guest wants started.
    wanted: Vec<u32>,
    started: u64,
    /// Up to where the guest wants memory.
    memory: Option<u64>,
    /// The polling thread is wanted, and runs.
    poller: (bool, bool),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data stays consistent between statements; a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keep {
    pub fn new(
        executor: SharedExecutor,
        platform: Box<dyn Platform>,
        memory: Arc<GuestMemory>,
        confinement: Confinement,
        vcpus: u32,
        refused_calls: RefusedCalls,
    ) -> Self {
        Self {
            executor,
            platform,
            memory,
            confinement,
            vcpus: (0..vcpus).map(|_| Vcpu::default()).collect(),
            control: Mutex::new(Control {
                started: 1,
                ..Control::default()
            }),
            changed: Condvar::new(),
            poller: Poller::default(),
            polling: Interruptible::default(),
            counts: Default::default(),
            refusals: Refusals::new(refused_calls),
        }
    }

    /// System calls and exceptions of the runtime where the microkernel counts them, exits served, by
    /// function, and refused system calls.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        let (system_calls, exceptions) = self.memory.counters();
        let of_kernel = [
            ("system calls".into(), system_calls),
            ("exceptions".into(), exceptions),
        ];
        let refused = self.refusals.counts().into_iter();
        let refused = refused.map(|(call, count)| (format!("refused system call {call}"), count));
        let counted = self.platform.counts_entries();
        of_kernel
            .into_iter()
            .filter(move |_| counted)
            .chain(self.exits())
            .chain(refused)
    }

    fn exits(&self) -> impl Iterator<Item = (String, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter_map(|(number, count)| {
                let count = count.load(Ordering::Relaxed);
                let function = ExitFunction::from_number(u32::try_from(number).ok()?)?;
                (count != 0).then(|| (format!("exits {function:?}").to_lowercase(), count))
            })
    }

    /// Ends the Keep, unless it has ended already, and makes every thread notice.
    fn end(&self, outcome: Outcome) {
        lock(&self.control).outcome.get_or_insert(outcome);
        self.changed.notify_all();
        self.poller.end();
        self.executor.interrupt();
        self.interrupt();
    }

    /// Makes every thread look whether the Keep has ended.
    fn interrupt(&self) {
        for vcpu in &self.vcpus {
            vcpu.unparked.notify_all();
            vcpu.thread.interrupt();
        }
        self.polling.interrupt();
    }

    fn ended(&self) -> bool {
        lock(&self.control).outcome.is_some()
    }

    fn unpark(&self, number: u64) {
        let Some(vcpu) = usize::try_from(number)
            .ok()
            .and_then(|index| self.vcpus.get(index))
        else {
            return;
        };
        *lock(&vcpu.token) = true;
        vcpu.unparked.notify_all();
        let mut control = lock(&self.control);
        let bit = 1u64 << (number & 63);
        if control.started & bit == 0 {
            control.started |= bit;
            control.wanted.push(u32::try_from(number).unwrap_or(0));
            self.changed.notify_all();
        }
    }

    /// Has the ring polled, by a thread that is started the first time.
    fn want_polling(&self) {
        self.poller.want();
        let mut control = lock(&self.control);
        if !control.poller.1 {
            control.poller.0 = true;
            self.changed.notify_all();
        }
    }

    /// Has the guest's memory extended up to `end`, and waits for it.
    fn want_memory(&self, end: u64) {
        let mut control = lock(&self.control);
        control.memory = Some(end);
        self.changed.notify_all();
        while control.memory.is_some() && control.outcome.is_none() {
            control = self
                .changed
                .wait(control)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn park(&self, me: usize, timeout: Option<Duration>) {
        let vcpu = &self.vcpus[me];
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut token = lock(&vcpu.token);
        while !*token && !self.ended() {
            token = match deadline {
                None => vcpu
                    .unparked
                    .wait(token)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    vcpu.unparked
                        .wait_timeout(token, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        *token = false;
    }

    /// Serves one exit by the port; an outcome ends the Keep.
    fn serve(&self, me: usize, number: u32) -> Option<Outcome> {
        let record = self.memory.record(me);
        let args = record.args;
        let function = ExitFunction::from_number(number)?;
        self.counts[function as usize].fetch_add(1, Ordering::Relaxed);
        let progress = match function {
            ExitFunction::Exit => return Some(Outcome::Exit(low_word(args[0]).cast_signed())),
            ExitFunction::Fault => {
                let report = FaultReport::from_args(args);
                return Some(Outcome::Fault(Fault(report).to_string()));
            }
            ExitFunction::Ring => self.executor.drain_all(),
            ExitFunction::Wait => self.executor.wait(low_word(args[0]), nanoseconds(args[1])),
            ExitFunction::Park => {
                self.park(me, nanoseconds(args[0]));
                return None;
            }
            ExitFunction::Unpark => {
                self.unpark(args[0]);
                return None;
            }
            ExitFunction::Kick => {
                for (index, vcpu) in self.vcpus.iter().enumerate() {
                    if args[0] >> index & 1 == 1 {
                        vcpu.kick.store(true, Ordering::Release);
                        vcpu.thread.interrupt();
                    }
                }
                return None;
            }
            ExitFunction::Discard => {
                if self.memory.discard(args[0], args[1]) {
                    return None;
                }
                return Some(Outcome::Fault(
                    "the Keep was ended: it gave back memory that is not its own".into(),
                ));
            }
            ExitFunction::Memory => {
                self.want_memory(args[0]);
                return None;
            }
            ExitFunction::Refused => {
                let call = Refused {
                    number: args[0],
                    errno: Some(args[1]),
                };
                return self.refusals.note(call, args[2]).map(Outcome::Fault);
            }
            ExitFunction::Log => {
                let length = usize::try_from(args[0]).unwrap_or(0).min(LOG_BYTES);
                self.executor
                    .log_last_words(&args[1..].as_bytes()[..length]);
                return None;
            }
        };
        match progress {
            // After a wait the guest looks, and waits again.
            Ok(Progress::Idle | Progress::More) => None,
            Ok(Progress::Exit(code)) => Some(Outcome::Exit(code)),
            Err(error) => Some(Outcome::Fault(error.to_string())),
        }
    }

    /// Serves a write of `number` to the port of the exits; an outcome ends the Keep.
    fn port(&self, me: usize, number: u32, traffic: &mut Traffic) -> Option<Outcome> {
        if ExitFunction::from_number(number).is_none() {
            return Some(Outcome::Fault(format!(
                "the Keep asked for function {number}"
            )));
        }
        if let Some(outcome) = self.serve(me, number) {
            return Some(outcome);
        }
        let rung = [ExitFunction::Ring as u32, ExitFunction::Wait as u32].contains(&number);
        if rung && traffic.note(Instant::now()) {
            self.want_polling();
        }
        None
    }

    /// Runs vCPU `me` until the Keep ends.
    fn run_vcpu(&self, me: usize, vcpu: &mut VcpuFd) -> Outcome {
        let mut traffic = Traffic::default();
        loop {
            if self.ended() {
                return Outcome::TimedOut;
            }
            if self.vcpus[me].kick.swap(false, Ordering::AcqRel) {
                let run = vcpu.get_kvm_run();
                if run.if_flag != 0 && run.ready_for_interrupt_injection != 0 {
                    run.request_interrupt_window = 0;
                    if let Err(error) = vcpu::inject_kick(vcpu) {
                        return Outcome::Fault(format!("KVM refused an interrupt: {error}"));
                    }
                } else {
                    self.vcpus[me].kick.store(true, Ordering::Release);
                    run.request_interrupt_window = 1;
                }
            }
            let id = u32::try_from(me).unwrap_or(u32::MAX);
            if let Err(error) = self.platform.before_run(id, vcpu) {
                return Outcome::Fault(error);
            }
            match vcpu.run() {
                Ok(VcpuExit::IoOut(PORT, data)) => {
                    let Ok(number) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else {
                        return Outcome::Fault("the Keep wrote a port in a wrong size".into());
                    };
                    if let Some(outcome) = self.port(me, number, &mut traffic) {
                        return outcome;
                    }
                }
                Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
                Ok(VcpuExit::Shutdown) => {
                    return Outcome::Fault(describe(vcpu, "a triple fault in its microkernel"));
                }
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return Outcome::Fault(format!(
                        "the CPU refused to enter the Keep ({reason:#x})"
                    ));
                }
                Ok(VcpuExit::InternalError) => {
                    return Outcome::Fault(describe(vcpu, "KVM cannot go on (internal error)"));
                }
                Ok(exit) => {
                    let event = match exit {
                        VcpuExit::X86Rdmsr(exit) => Event::ReadMsr(exit.index),
                        VcpuExit::X86Wrmsr(exit) => Event::WriteMsr(exit.index, exit.data),
                        VcpuExit::Hypercall(exit) => Event::Snp(Exit::Hypercall {
                            number: exit.nr,
                            args: exit.args,
                        }),
                        VcpuExit::SystemEvent(kind, data) => Event::Snp(Exit::SystemEvent {
                            kind,
                            data: data.first().copied(),
                        }),
                        VcpuExit::MemoryFault { flags, gpa, size } => {
                            Event::Snp(Exit::MemoryFault { flags, gpa, size })
                        }
                        exit => Event::Other(format!("{exit:x?}")),
                    };
                    match self.platform.event(id, vcpu, event) {
                        Served::Resume => {}
                        Served::Port(number) => {
                            if let Some(outcome) = self.port(me, number, &mut traffic) {
                                return outcome;
                            }
                        }
                        Served::End(outcome) => return outcome,
                    }
                }
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                    vcpu.set_kvm_immediate_exit(0);
                }
                Err(error) => {
                    return Outcome::Fault(format!("KVM could not run the Keep: {error}"));
                }
            }
        }
    }
}

fn describe(vcpu: &VcpuFd, what: &str) -> String {
    let text = format!("the Keep ended: {what}");
    // Those of an encrypted guest cannot be read.
    let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        return text;
    };
    let (rip, rsp, cr2) = (regs.rip, regs.rsp, sregs.cr2);
    format!("{text}\n  RIP {rip:#018x}  RSP {rsp:#018x}  CR2 {cr2:#018x}")
}

/// The lower half of an argument that has 32 bits.
fn low_word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn nanoseconds(value: u64) -> Option<Duration> {
    (value != u64::MAX).then(|| Duration::from_nanos(value))
}

/// The outcome of a thread's work; a thread that panics ends the Keep, which would run on without it.
fn or_panicked(work: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Outcome::Fault(
            "the host gave the Keep up: one of its threads panicked; please report this".into(),
        )
    })
}

fn spawn(keep: &Arc<Keep>, me: u32, vcpu: Processor) -> Result<JoinHandle<()>, KvmError> {
    let keep = Arc::clone(keep);
    let index = me as usize;
    let thread = Builder::new().name(format!("vcpu {me}")).spawn(move || {
        let mut vcpu = vcpu;
        let outcome = keep.vcpus[index].thread.run(|| {
            vcpu::interruptible(vcpu.fd(), |vcpu| {
                or_panicked(|| match keep.confinement.apply() {
                    Ok(()) => keep.run_vcpu(index, vcpu),
                    Err(error) => Outcome::Fault(error.to_string()),
                })
            })
        });
        keep.end(outcome);
    })?;
    Ok(thread)
}

fn spawn_poller(keep: &Arc<Keep>) -> Result<JoinHandle<()>, KvmError> {
    let keep = Arc::clone(keep);
    let thread = Builder::new().name("poller".into()).spawn(move || {
        let outcome = keep.polling.run(|| {
            or_panicked(|| match keep.confinement.apply() {
                Ok(()) => match keep.poller.run(&keep.executor) {
                    // Only the end of the Keep ends the polling; then this outcome is too late to count.
                    Ok(None) => Outcome::TimedOut,
                    Ok(Some(code)) => Outcome::Exit(code),
                    Err(error) => Outcome::Fault(error.to_string()),
                },
                Err(error) => Outcome::Fault(error.to_string()),
            })
        });
        keep.end(outcome);
    })?;
    Ok(thread)
}

/// Runs the Keep to its end. Every thread that it started has ended when this returns, but for those that
/// hang in a system call ([`GRACE`]); they keep what they use.
pub fn run(
    keep: &Arc<Keep>,
    first: Processor,
    timeout: Option<Duration>,
) -> Result<(Outcome, LeftBehind), KvmError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut threads = vec![spawn(keep, 0, first)?];
    for id in keep
        .platform
        .unasked(u32::try_from(keep.vcpus.len()).unwrap_or(0))
    {
        keep.unpark(id.into());
    }
    let outcome = loop {
        let mut control = lock(&keep.control);
        while control.outcome.is_none()
            && control.wanted.is_empty()
            && control.memory.is_none()
            && !control.poller.0
        {
            control = match deadline {
                None => keep
                    .changed
                    .wait(control)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        control.outcome = Some(Outcome::TimedOut);
                        break;
                    }
                    keep.changed
                        .wait_timeout(control, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        if let Some(outcome) = control.outcome.clone() {
            break outcome;
        }
        let wanted = std::mem::take(&mut control.wanted);
        let poller = std::mem::take(&mut control.poller.0);
        control.poller.1 |= poller;
        let memory = control.memory;
        drop(control);
        if let Some(end) = memory {
            if let Err(error) = keep.platform.extend(&keep.memory, end) {
                keep.end(Outcome::Fault(error.to_string()));
            }
            lock(&keep.control).memory = None;
            keep.changed.notify_all();
        }
        // On one processor a poller would only be in the way.
        if poller && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
            match spawn_poller(keep) {
                Ok(thread) => threads.push(thread),
                Err(error) => keep.end(Outcome::Fault(error.to_string())),
            }
        }
        for number in wanted {
            let started = keep
                .platform
                .vcpu(number)
                .and_then(|vcpu| spawn(keep, number, vcpu));
            match started {
                Ok(thread) => {
                    threads.push(thread);
                    if let Some(other) = keep.platform.unasked_beside(number) {
                        keep.unpark(other.into());
                    }
                }
                Err(error) => keep.end(Outcome::Fault(error.to_string())),
            }
        }
    };
    keep.end(outcome.clone());
    let left = LeftBehind::join(threads, Instant::now() + GRACE, || keep.interrupt());
    keep.executor.finish_log();
    Ok((outcome, left))
}
