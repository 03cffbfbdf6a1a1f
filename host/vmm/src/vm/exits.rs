// SPDX-License-Identifier: Apache-2.0

//! The run loop: runs the vCPUs and serves their exits until the Keep ends.
//!
//! vCPU threads hold no lock while they run or sleep. The thread that called [`run`] waits for the
//! end, starts vCPUs that the guest asks for, and watches the time limit. It takes no lock under which requests
//! of the Keep are performed, so the end comes whatever the Keep asks for. It is confined if its whole process
//! is ([`Keep::confine_process`]); otherwise it shares memory with threads that are.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use enarx_confine::ConfineError;
use enarx_confine::landlock::Enforcement;
use enarx_executor::fault::{HostFault, KeepFault, StrayExit, VcpuHistory};
use enarx_executor::interrupt::Interruptible;
use enarx_executor::launch::{Confined, Counter, GRACE, Outcome, join_until};
use enarx_executor::poller::Poller;
use enarx_executor::refused::{Refusals, Refused, RefusedCalls};
use enarx_executor::traffic::Traffic;
use enarx_executor::{Progress, SharedExecutor};
use enarx_exits::{ExitFunction, FaultReport, LOG_BYTES};
use enarx_sallyport::Until;
use kvm_ioctls::VcpuFd;
use zerocopy::IntoBytes;

use super::confinement::Confinement;
use super::entry::{self, EntryOutcome};
use super::limits::Limits;
use super::memory::GuestMemory;
use super::vcpu::Vcpu;
use super::vcpu_ops;
use crate::error::KvmError;
use crate::platform::{ExitAction, Platform};

/// The consequence of an exit: the vCPU runs again, or the Keep has this outcome.
type Flow = ControlFlow<Outcome>;

/// A Keep while it runs.
pub struct Keep {
    // Declared, and so dropped, before the memory that they use.
    executor: SharedExecutor,
    platform: Box<dyn Platform>,
    memory: Arc<GuestMemory>,
    confinement: Confinement,
    /// This machine has more than one processor for the threads. Asked before they are confined.
    parallel: bool,
    vcpus: Vec<VcpuRequests>,
    control: Mutex<Control>,
    changed: Condvar,
    poller: Poller,
    polling: Interruptible,
    /// Exits served, in the order of [`ExitFunction::ALL`].
    counts: [AtomicU64; ExitFunction::ALL.len()],
    /// Landlock's enforcement for the threads, once one of them is confined.
    landlock: OnceLock<Enforcement>,
    refusals: Refusals,
}

/// Requests of other threads to a vCPU.
#[derive(Default)]
struct VcpuRequests {
    /// The token of `Park` and `Unpark`.
    token: Mutex<bool>,
    unparked: Condvar,
    /// The kick vector should be injected.
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
    polling: Polling,
}

/// State of a vCPU's thread that outlasts an exit.
#[derive(Default)]
struct ThreadState {
    traffic: Traffic,
    history: VcpuHistory,
}

/// The polling thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Polling {
    /// Not requested yet.
    #[default]
    Off,
    /// It should be started.
    Wanted,
    /// It was started.
    Running,
}

/// Requests to the control thread.
struct Work {
    /// vCPUs to be started.
    vcpus: Vec<u32>,
    /// The polling thread should be started.
    poller: bool,
    /// The requested end of the guest's memory.
    memory: Option<u64>,
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
            parallel: std::thread::available_parallelism().is_ok_and(|count| count.get() > 1),
            vcpus: (0..vcpus).map(|_| VcpuRequests::default()).collect(),
            control: Mutex::new(Control {
                started: 1,
                ..Control::default()
            }),
            changed: Condvar::new(),
            poller: Poller::default(),
            polling: Interruptible::default(),
            counts: Default::default(),
            landlock: OnceLock::new(),
            refusals: Refusals::new(refused_calls),
        }
    }

    /// System calls and exceptions of the runtime where the microkernel counts them, exits served, by
    /// function, and refused system calls.
    pub fn counters(&self) -> impl Iterator<Item = Counter> {
        let (system_calls, exceptions) = self.memory.counters();
        let of_kernel = [("system calls", system_calls), ("exceptions", exceptions)];
        let of_kernel = of_kernel.map(|(name, count)| Counter {
            name: name.into(),
            count,
        });
        let refused = self.refusals.counts().into_iter();
        let refused = refused.map(|(call, count)| Counter {
            name: format!("refused system call {call}"),
            count,
        });
        let counted = self.platform.counts_entries();
        of_kernel
            .into_iter()
            .filter(move |_| counted)
            .chain(self.exits())
            .chain(refused)
    }

    fn exits(&self) -> impl Iterator<Item = Counter> {
        let counts = ExitFunction::ALL.iter().zip(&self.counts);
        counts.filter_map(|(function, count)| {
            let count = count.load(Ordering::Relaxed);
            (count != 0).then(|| Counter {
                name: format!("exits {}", function.name().to_lowercase()),
                count,
            })
        })
    }

    fn count(&self, function: ExitFunction) {
        let mut counts = ExitFunction::ALL.iter().zip(&self.counts);
        if let Some((_, count)) = counts.find(|(known, _)| **known == function) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Confines this process, which has one thread and serves this Keep alone.
    ///
    /// # Errors
    /// [`ConfineError`] when the kernel refuses.
    pub fn confine_process(&mut self) -> Result<(), ConfineError> {
        let (calls, control) = (self.platform.calls(), self.platform.control_calls());
        let landlock = self.confinement.confine_process(calls, control)?;
        self.landlock.get_or_init(|| landlock);
        Ok(())
    }

    /// How the vCPU threads are confined.
    pub fn confinement(&self) -> Vec<Confined> {
        let landlock = self.landlock.get().copied().unwrap_or(Enforcement::None);
        let limits = self.platform.limits();
        [("seccomp", true), (landlock.name(), landlock.confines())]
            .into_iter()
            .chain(limits.map(|limits| ("filter of MSRs", limits.msrs)))
            .map(|(by, holds)| Confined::new(by, holds))
            .collect()
    }

    /// Limits of the guest's CPU that KVM does not offer.
    pub fn unlimited(&self) -> Vec<Cow<'static, str>> {
        let limits = self.platform.limits().into_iter();
        limits
            .flat_map(Limits::missing)
            .map(Cow::Borrowed)
            .collect()
    }

    /// Confines the calling thread and does its work. A thread that cannot be confined, or panics, ends the
    /// Keep, which would run on without it.
    fn confined(&self, work: impl FnOnce()) {
        let confined = || match self.confinement.apply() {
            Ok(landlock) => {
                self.landlock.get_or_init(|| landlock);
                work();
            }
            Err(error) => self.end(KeepFault::unconfined(error).into()),
        };
        if catch_unwind(AssertUnwindSafe(confined)).is_err() {
            self.end(KeepFault::Host(HostFault::Panicked).into());
        }
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
        self.poller.request_polling(&self.executor);
        let mut control = lock(&self.control);
        if control.polling == Polling::Off {
            control.polling = Polling::Wanted;
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

    fn park(&self, vcpu: usize, timeout: Option<Duration>) {
        let vcpu = &self.vcpus[vcpu];
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

    /// Sleeps until there is something to do for the vCPU threads, the Keep has ended, or the time limit is
    /// reached.
    fn wait_for_work(&self, deadline: Option<Instant>) -> ControlFlow<Outcome, Work> {
        let mut control = lock(&self.control);
        loop {
            if let Some(outcome) = &control.outcome {
                return ControlFlow::Break(outcome.clone());
            }
            let poller = control.polling == Polling::Wanted;
            if poller || !control.wanted.is_empty() || control.memory.is_some() {
                if poller {
                    control.polling = Polling::Running;
                }
                return ControlFlow::Continue(Work {
                    vcpus: std::mem::take(&mut control.wanted),
                    poller,
                    memory: control.memory,
                });
            }
            control = match deadline {
                None => self
                    .changed
                    .wait(control)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        control.outcome = Some(Outcome::TimedOut);
                        continue;
                    }
                    self.changed
                        .wait_timeout(control, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Serves a write of `number` to the port of the functions.
    fn port(&self, vcpu: usize, number: u32, state: &mut ThreadState) -> Flow {
        let Some(function) = ExitFunction::from_number(number) else {
            return end(KeepFault::Exit(StrayExit::Function(number)));
        };
        self.count(function);
        state.history.calls += 1;
        state.history.last = number;
        self.serve(vcpu, function)?;
        let rung = matches!(function, ExitFunction::Ring | ExitFunction::Wait);
        if rung && state.traffic.note(Instant::now(), self.executor.work()) {
            self.want_polling();
        }
        Flow::Continue(())
    }

    /// Serves a function that vCPU `vcpu` calls.
    fn serve(&self, vcpu: usize, function: ExitFunction) -> Flow {
        let args = self.memory.record(vcpu).args;
        match function {
            ExitFunction::Exit => {
                return Flow::Break(Outcome::Exit(low_word(args[0]).cast_signed()));
            }
            ExitFunction::Fault => return end(KeepFault::reported(FaultReport::from_args(args))),
            ExitFunction::Ring => return progress(self.executor.drain_all()),
            ExitFunction::Wait => {
                let (seen, limit) = (low_word(args[0]), nanoseconds(args[1]));
                // An unknown kind ends the sleep soonest.
                let until = u8::try_from(args[2]).ok().and_then(Until::from_number);
                let until = until.unwrap_or_default();
                // The poller works on while this vCPU takes the answers.
                if self.executor.is_served(seen, until) {
                    return Flow::Continue(());
                }
                return progress(self.resting(|| self.executor.wait(seen, until, limit)));
            }
            ExitFunction::Park => self.resting(|| self.park(vcpu, nanoseconds(args[0]))),
            ExitFunction::Unpark => self.unpark(args[0]),
            ExitFunction::Kick => {
                for (index, vcpu) in self.vcpus.iter().enumerate() {
                    if args[0] >> index & 1 == 1 {
                        vcpu.kick.store(true, Ordering::Release);
                        vcpu.thread.interrupt();
                    }
                }
            }
            ExitFunction::Discard => {
                let [gpa, length, ..] = args;
                if !self.memory.discard(gpa, length) {
                    return end(KeepFault::Exit(StrayExit::Discard { gpa, length }));
                }
            }
            ExitFunction::Memory => self.want_memory(args[0]),
            ExitFunction::Refused => {
                let call = Refused {
                    number: args[0],
                    errno: Some(args[1]),
                };
                if self.refusals.note(call) {
                    let rip = Some(args[2]);
                    return end(KeepFault::RefusedCall { call, rip });
                }
            }
            ExitFunction::Log => {
                let length = usize::try_from(args[0]).unwrap_or(0).min(LOG_BYTES);
                self.executor
                    .log_last_words(&args[1..].as_bytes()[..length]);
            }
        }
        Flow::Continue(())
    }

    /// Performs a request for a waiting vCPU, which posts nothing in the meantime.
    fn resting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.poller.rest();
        let waited = wait();
        self.poller.rise();
        waited
    }

    /// Runs vCPU `vcpu` until the Keep ends.
    fn run_vcpu(&self, vcpu: usize, fd: &mut VcpuFd) {
        self.poller.rise();
        let mut state = ThreadState::default();
        state.history.vcpu = u32::try_from(vcpu).unwrap_or(u32::MAX);
        while !self.ended() {
            if let Flow::Break(outcome) = self.run_once(vcpu, fd, &mut state) {
                self.end(outcome);
            }
        }
    }

    /// Runs vCPU `vcpu` to its next exit, and serves it.
    fn run_once(&self, vcpu: usize, fd: &mut VcpuFd, state: &mut ThreadState) -> Flow {
        let id = state.history.vcpu;
        state.history.kicked = self.kick(vcpu, fd)?;
        state.history.kicks += u64::from(state.history.kicked);
        if let Err(fault) = self.platform.before_run(id, fd) {
            return end(fault);
        }
        let exit = match entry::enter(fd) {
            EntryOutcome::Port(number) => return self.port(vcpu, number, state),
            EntryOutcome::Again => return Flow::Continue(()),
            EntryOutcome::Ended(KeepFault::TripleFault { context, .. }) => {
                let history = Some(state.history);
                return end(KeepFault::TripleFault { context, history });
            }
            EntryOutcome::Ended(fault) => return end(fault),
            EntryOutcome::Unhandled(exit) => exit,
        };
        match self.platform.serve(id, fd, exit) {
            ExitAction::Resume => Flow::Continue(()),
            ExitAction::Port(number) => self.port(vcpu, number, state),
            ExitAction::End(fault) => end(fault),
        }
    }

    /// Injects the kick vector into a vCPU that should get it, or makes it exit as soon as it can take it; true if it was
    /// injected.
    fn kick(&self, vcpu: usize, fd: &mut VcpuFd) -> ControlFlow<Outcome, bool> {
        let wanted = &self.vcpus[vcpu].kick;
        if !wanted.swap(false, Ordering::AcqRel) {
            return ControlFlow::Continue(false);
        }
        match entry::kick(fd) {
            Ok(injected) => {
                if !injected {
                    wanted.store(true, Ordering::Release);
                }
                ControlFlow::Continue(injected)
            }
            Err(fault) => ControlFlow::Break(Outcome::Fault(fault)),
        }
    }
}

/// Ends the Keep by a fault.
fn end(fault: KeepFault) -> Flow {
    Flow::Break(Outcome::Fault(fault))
}

/// Returns the consequence of the executor's work. After a wait, the guest checks its completions and waits
/// again.
fn progress(progress: Result<Progress, enarx_executor::ExecutorError>) -> Flow {
    match progress {
        Ok(Progress::Idle | Progress::More) => Flow::Continue(()),
        Ok(Progress::Exit(code)) => Flow::Break(Outcome::Exit(code)),
        Err(error) => Flow::Break(error.into()),
    }
}

/// The lower half of an argument that has 32 bits.
fn low_word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn nanoseconds(value: u64) -> Option<Duration> {
    (value != u64::MAX).then(|| Duration::from_nanos(value))
}

fn spawn(keep: &Arc<Keep>, id: u32, mut vcpu: Vcpu) -> Result<JoinHandle<()>, KvmError> {
    let keep = Arc::clone(keep);
    let index = id as usize;
    let thread = Builder::new().name(format!("vcpu {id}")).spawn(move || {
        keep.vcpus[index].thread.run(|| {
            vcpu_ops::interruptible(vcpu.fd(), |fd| {
                keep.confined(|| keep.run_vcpu(index, fd));
            });
        });
    })?;
    Ok(thread)
}

fn spawn_poller(keep: &Arc<Keep>) -> Result<JoinHandle<()>, KvmError> {
    let keep = Arc::clone(keep);
    let thread = Builder::new().name("poller".into()).spawn(move || {
        keep.polling.run(|| {
            keep.confined(|| match keep.poller.run(&keep.executor) {
                // The Keep has ended by other means.
                Ok(None) => {}
                Ok(Some(code)) => keep.end(Outcome::Exit(code)),
                Err(error) => keep.end(error.into()),
            });
        });
    })?;
    Ok(thread)
}

/// Runs the Keep to its end. Every thread that it started has ended when this returns, except those that hang
/// in a system call ([`GRACE`]), whose names are returned; they keep the resources that they use.
///
/// # Errors
/// [`KvmError::Host`] when a thread cannot be started.
pub fn run(
    keep: &Arc<Keep>,
    first: Vcpu,
    timeout: Option<Duration>,
) -> Result<(Outcome, Vec<String>), KvmError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut threads = vec![spawn(keep, 0, first)?];
    let vcpus = u32::try_from(keep.vcpus.len()).unwrap_or(0);
    for id in keep.platform.vcpus_started_by_host(vcpus) {
        keep.unpark(id.into());
    }
    let outcome = loop {
        match keep.wait_for_work(deadline) {
            ControlFlow::Break(outcome) => break outcome,
            ControlFlow::Continue(work) => do_work(keep, work, &mut threads),
        }
    };
    keep.end(outcome.clone());
    let left = join_until(threads, Instant::now() + GRACE, || keep.interrupt());
    keep.executor.finish_log();
    Ok((outcome, left))
}

/// Performs requests of the vCPU threads that they may not perform themselves. A failure ends the Keep.
fn do_work(keep: &Arc<Keep>, work: Work, threads: &mut Vec<JoinHandle<()>>) {
    if let Some(end) = work.memory {
        if let Err(fault) = keep.platform.extend(&keep.memory, end) {
            keep.end(fault.into());
        }
        lock(&keep.control).memory = None;
        keep.changed.notify_all();
    }
    // On one processor a poller would only be in the way.
    if work.poller && keep.parallel {
        match spawn_poller(keep) {
            Ok(thread) => threads.push(thread),
            Err(error) => keep.end(KeepFault::no_thread(error).into()),
        }
    }
    for id in work.vcpus {
        let vcpu = keep.platform.vcpu(id);
        match vcpu.and_then(|vcpu| spawn(keep, id, vcpu)) {
            Ok(thread) => {
                threads.push(thread);
                if let Some(other) = keep.platform.vcpu_started_beside(id) {
                    keep.unpark(other.into());
                }
            }
            Err(error) => keep.end(KeepFault::no_thread(error).into()),
        }
    }
}
