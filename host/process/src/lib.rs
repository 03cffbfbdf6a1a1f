// SPDX-License-Identifier: Apache-2.0

//! The process backend: the runtime as a confined process of the host.
//!
//! It protects the host from the application (with the Wasm sandbox, and behind it namespaces, Landlock
//! and seccomp), but does not protect the application. The runtime is treated as hostile: it reaches the
//! host only through the sallyport, and its doorbell only carries "ring" and "wait".

mod child;
pub mod error;
mod filter;
mod reaper;
mod region;
mod start;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enarx_exits::Reason;
use enarx_exits::process::{FOREVER, RING, WAIT, WAKE};
use enarx_sallyport::{Facts, Until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::WaitIdStatus;

use child::Forbidden;
use enarx_confine::landlock::{self, Enforcement, Tcp};
use enarx_confine::process;
use enarx_confine::seccomp;
use enarx_executor::fault::{HostFault, KeepFault, ProcessEnd};
use enarx_executor::grant::Services;
use enarx_executor::interrupt::{self, Interruptible};
use enarx_executor::launch::{
    Confine, Confined, GRACE, Launch, Outcome, Phase, Report, Run, join_until,
};
use enarx_executor::poller;
use enarx_executor::refused::Refused;
use enarx_executor::traffic::Traffic;
use enarx_executor::{ExecutorError, Progress, SharedExecutor};
use error::LaunchError;
use region::Served;
use start::Parts;

/// Threads of the runtime besides one for each virtual CPU.
const SPARE_THREADS: u64 = 16;
/// Checks of the ring between two checks of the doorbell, while the ring is polled: about ten microseconds.
const LOOKS_BETWEEN_DOORBELLS: u32 = 16;

/// How the serving of a Keep ended.
#[derive(Debug)]
enum End {
    /// It asked to end with this code.
    Exit(i32),
    /// It broke a rule, or its host could not go on.
    Fault(KeepFault),
    /// A system call was forbidden.
    Forbidden(Forbidden),
    /// The time limit was reached.
    TimedOut,
    /// The process could not become the runtime.
    NotStarted(LaunchError),
    /// The process ended without a message.
    Gone,
}

/// Runs a Keep as a confined process of the program `runtime`, a static executable for Linux x86-64,
/// to its end. The calling thread stays unconfined; it watches the time limit and waits for nothing that the
/// Keep can make last.
///
/// # Errors
/// [`LaunchError`] when the Keep could not be started or served.
pub fn run(runtime: &[u8], launch: Launch, confine: Confine) -> Result<Run, LaunchError> {
    let begun = Instant::now();
    let deadline = launch
        .timeout
        .and_then(|timeout| begun.checked_add(timeout));
    // Asked before the confinement, because it may be in files.
    let parallel = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let parts = Parts::new(runtime, launch.refused_calls)?;
    let directories: Vec<(OwnedFd, bool)> = launch
        .grant
        .directories
        .iter()
        .map(|granted| Ok((granted.directory.try_clone()?, granted.read_only)))
        .collect::<io::Result<_>>()
        .map_err(LaunchError::system("a directory could not be duplicated"))?;
    let services = launch.grant.services();
    let tcp = launch.grant.tcp();
    let facts = facts(launch.vcpus);
    let (lookups, gate) = confine.split();
    let served = Served::new(facts, launch.grant, launch.objects, lookups)
        .map_err(LaunchError::system("the shared region could not be made"))?;
    let prepared = begun.elapsed();

    let threads = u64::from(launch.vcpus) + SPARE_THREADS;
    let (mut child, socket) = parts.spawn(served.region(), launch.memory, threads)?;
    let Some((had, listener)) = start::admit(&socket, deadline)? else {
        return Ok(Run {
            outcome: Outcome::TimedOut,
            report: Report::default(),
        });
    };
    let started = begun.elapsed();
    let mut confinement = confinement(had, listener.is_some());
    let server = Arc::new(Server {
        served,
        socket,
        listener,
        deadline,
        directories,
        services,
        tcp,
        whole: gate.is_some(),
        parallel,
        thread: Interruptible::default(),
    });
    if let Some(gate) = gate {
        interrupt::handle_signal();
        confinement.push(server.confine_process(child.pidfd())?);
        gate.pass(&confinement);
    }
    let (thread, end) = server.serve_until(deadline)?;
    // An allocation that fails aborts the runtime; the one that fails may be a large one.
    let aborted = matches!(&end, Ok(End::Forbidden(call)) if is_abort(call));
    let memory_used_up = aborted && child.memory().is_some_and(|used| used >= launch.memory / 2);
    // Whatever happened: the process ends now, and its end is waited for, with that of the thread.
    let limit = Instant::now() + GRACE;
    child.kill();
    let executor = server.served.executor();
    executor.interrupt();
    let left_behind = join_until(vec![thread], limit, || server.thread.interrupt());
    let status = child.end(limit);
    child.log_last_words(executor, memory_used_up);
    executor.finish_log();
    let phase = |name: &'static str, duration| Phase {
        name: name.into(),
        duration,
    };
    let report = Report {
        phases: vec![
            phase("prepare", prepared),
            phase("start and confine", started.saturating_sub(prepared)),
            phase("run", begun.elapsed().saturating_sub(started)),
        ],
        confinement,
        left_behind,
        ..Report::default()
    };
    let outcome = outcome(end?, status, memory_used_up)?;
    Ok(Run { outcome, report })
}

/// The facts about this host that the runtime is told.
fn facts(vcpus: u32) -> Facts {
    Facts {
        // A process reads the clock by itself.
        tsc_khz: 0,
        vcpus,
        wall_ns: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0),
    }
}

/// The end of a Keep, by that of its serving and of its process. `memory_used_up`: a system call that is forbidden was an
/// allocation that failed.
fn outcome(
    end: End,
    status: rustix::io::Result<WaitIdStatus>,
    memory_used_up: bool,
) -> Result<Outcome, LaunchError> {
    Ok(match end {
        End::Exit(code) => Outcome::Exit(code),
        End::TimedOut => Outcome::TimedOut,
        End::NotStarted(error) => return Err(error),
        End::Fault(fault) => fault.into(),
        End::Forbidden(_) if memory_used_up => KeepFault::Reported {
            reason: Reason::OutOfMemory,
            detail: None,
        }
        .into(),
        End::Forbidden(call) => forbidden(&call).into(),
        End::Gone => match status {
            Ok(status) => death(&status).into(),
            Err(errno) => KeepFault::Host(HostFault::NoEnd {
                errno: errno.raw_os_error(),
            })
            .into(),
        },
    })
}

/// The state of the thread that serves the Keep. It is shared, because that thread may be left behind.
struct Server {
    served: Served,
    socket: OwnedFd,
    listener: Option<OwnedFd>,
    deadline: Option<Instant>,
    directories: Vec<(OwnedFd, bool)>,
    services: Services,
    tcp: Tcp,
    /// The process is confined as a whole, by Landlock too.
    whole: bool,
    /// There is a CPU for this thread in addition to the runtime's.
    parallel: bool,
    thread: Interruptible,
}

impl Server {
    /// Confines this process as a whole: its only child is `runtime`.
    fn confine_process(&self, runtime: BorrowedFd<'_>) -> Result<Confined, LaunchError> {
        let listener = self.listener.as_ref().map(AsFd::as_fd);
        let doorbell = self.socket.as_fd();
        let allowed = filter::serving_process(self.services, doorbell, listener, runtime);
        let granted = self.directories.iter().map(|(fd, ro)| (fd.as_fd(), *ro));
        let landlock = process::confine(granted, &self.tcp, allowed)?;
        let name = match landlock {
            Enforcement::Partial => landlock.name(),
            Enforcement::Full | Enforcement::None => "Landlock around what serves it",
        };
        Ok(Confined::new(name, landlock.confines()))
    }

    /// Serves the Keep by a thread of its own, until one side ends it or the time is over; the thread may
    /// still be about to end then.
    fn serve_until(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<(JoinHandle<()>, Result<End, LaunchError>), LaunchError> {
        let (said, ended) = channel();
        let server = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("enarx-keep".into())
            .spawn(move || server.run(&said))
            .map_err(LaunchError::system("a thread could not be started"))?;
        let end = match deadline {
            None => ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                ended.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        let end = match end {
            Ok(end) => end,
            Err(RecvTimeoutError::Timeout) => Ok(End::TimedOut),
            Err(RecvTimeoutError::Disconnected) => {
                Ok(End::Fault(KeepFault::Host(HostFault::Panicked)))
            }
        };
        Ok((thread, end))
    }

    /// The thread.
    fn run(&self, said: &Sender<Result<End, LaunchError>>) {
        let confine = || -> Result<(), LaunchError> {
            if !self.whole {
                let directories = self.directories.iter().map(|(fd, ro)| (fd.as_fd(), *ro));
                landlock::restrict(directories, &self.tcp)?;
            }
            let listener = self.listener.as_ref().map(AsFd::as_fd);
            seccomp::apply(&filter::server(
                self.services,
                self.socket.as_fd(),
                listener,
            )?)?;
            Ok(())
        };
        let end = self.thread.run(|| {
            confine().map(|()| {
                serve(
                    &self.served,
                    &self.socket,
                    self.listener.as_ref(),
                    self.deadline,
                    self.parallel,
                )
            })
        });
        // Nobody listens any more when the time is over.
        let _ = said.send(end);
    }
}

/// Serves the Keep until one side ends it. With `parallel` it polls the ring while there are many requests.
fn serve(
    served: &Served,
    socket: &OwnedFd,
    listener: Option<&OwnedFd>,
    deadline: Option<Instant>,
    parallel: bool,
) -> End {
    let result = || -> Result<End, ExecutorError> {
        let executor = served.executor();
        let mut beside: Vec<BorrowedFd<'_>> = vec![socket.as_fd()];
        beside.extend(listener.map(AsFd::as_fd));
        let mut waiting: Option<Waiting> = None;
        let mut traffic = Traffic::default();
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(End::TimedOut);
            }
            let (seen, until, end) = match &waiting {
                Some(waiting) => (waiting.seen, waiting.until, earliest(waiting.end, deadline)),
                // The runtime computes; its requests continue.
                None => (executor.completions_posted(), Until::Completion, deadline),
            };
            let timeout = end.map(|end| end.saturating_duration_since(now));
            // The rest of a step is taken the next time, after checking everything else.
            if let Progress::Exit(code) =
                executor.wait_or_readable(seen, until, timeout, &beside)?
            {
                return Ok(End::Exit(code));
            }
            if let Some(wait) = &waiting
                && wait.is_over(executor)
            {
                waiting = None;
                wake(socket)?;
                if traffic.note(Instant::now(), executor.work())
                    && parallel
                    && let Some(code) = poll_ring(executor, &beside, deadline)?
                {
                    return Ok(End::Exit(code));
                }
                continue;
            }
            match take_message(socket)? {
                Message::None => {
                    if let Some(listener) = listener
                        && readable(listener)?
                        && let Ok(call) = child::receive_notification(listener.as_fd())
                    {
                        return Ok(End::Forbidden(call));
                    }
                }
                Message::Ring => {
                    if let Progress::Exit(code) = executor.drain()? {
                        return Ok(End::Exit(code));
                    }
                    if traffic.note(Instant::now(), executor.work())
                        && parallel
                        && let Some(code) = poll_ring(executor, &beside, deadline)?
                    {
                        return Ok(End::Exit(code));
                    }
                }
                Message::Wait(wait) => waiting = Some(wait),
                Message::NotStarted(error) => return Ok(End::NotStarted(error)),
                Message::Unknown => return Ok(End::Fault(KeepFault::Doorbell)),
                Message::Closed => {
                    // Its last words may be in the ring.
                    return Ok(match executor.drain_all()? {
                        Progress::Exit(code) => End::Exit(code),
                        Progress::Idle | Progress::More => End::Gone,
                    });
                }
            }
        }
    };
    result().unwrap_or_else(|error| End::Fault(error.into()))
}

/// Takes requests from the ring until they cease, something else arrives, or the time is over. Returns the exit code
/// if the Keep asked to end.
fn poll_ring(
    executor: &SharedExecutor,
    beside: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> Result<Option<i32>, ExecutorError> {
    let mut fds: Vec<PollFd<'_>> = beside
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let mut looks = 0_u32;
    poller::poll(executor, || {
        looks = looks.wrapping_add(1);
        !looks.is_multiple_of(LOOKS_BETWEEN_DOORBELLS)
            || (poll(&mut fds, Some(&Timespec::default())) == Ok(0)
                && deadline.is_none_or(|deadline| Instant::now() < deadline))
    })
}

/// A runtime that sleeps until something is completed.
#[derive(Debug)]
struct Waiting {
    seen: u32,
    until: Until,
    end: Option<Instant>,
}

impl Waiting {
    fn is_over(&self, executor: &SharedExecutor) -> bool {
        executor.has_completed(self.seen, self.until)
            || self.end.is_some_and(|end| end <= Instant::now())
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

enum Message {
    None,
    Ring,
    Wait(Waiting),
    NotStarted(LaunchError),
    Unknown,
    Closed,
}

fn take_message(socket: &OwnedFd) -> Result<Message, ExecutorError> {
    let mut bytes = [0; 16];
    let flags = RecvFlags::DONTWAIT;
    let count = match rustix::io::retry_on_intr(|| recv(socket, &mut bytes, flags)) {
        Ok((count, _)) => count,
        Err(Errno::AGAIN) => return Ok(Message::None),
        Err(Errno::CONNRESET) => return Ok(Message::Closed),
        Err(errno) => return Err(errno.into()),
    };
    Ok(match bytes.get(..count) {
        Some(&[RING]) => Message::Ring,
        Some(&[WAIT, a, b, c, d, until, ref nanoseconds @ ..]) => {
            match (Until::from_number(until), nanoseconds.try_into()) {
                (Some(until), Ok(nanoseconds)) => {
                    let limit = u64::from_le_bytes(nanoseconds);
                    Message::Wait(Waiting {
                        seen: u32::from_le_bytes([a, b, c, d]),
                        until,
                        end: (limit != FOREVER)
                            .then(|| Instant::now().checked_add(Duration::from_nanos(limit)))
                            .flatten(),
                    })
                }
                _ => Message::Unknown,
            }
        }
        Some(&[]) => Message::Closed,
        // Only before the exec; a runtime that says so later gains nothing.
        Some(bytes) => start::failure(bytes).map_or(Message::Unknown, Message::NotStarted),
        None => Message::Unknown,
    })
}

fn wake(socket: &OwnedFd) -> Result<(), ExecutorError> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::io::retry_on_intr(|| send(socket, &[WAKE], flags)) {
        // A runtime that does not read its wakes has enough of them; one that is gone is noticed next.
        Ok(_) | Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn readable(fd: &OwnedFd) -> Result<bool, ExecutorError> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// True if a call is the way in which abort(3) ends a process.
fn is_abort(call: &Forbidden) -> bool {
    let [_, _, signal, ..] = call.arguments;
    call.number == libc::SYS_tgkill && u64::try_from(libc::SIGABRT) == Ok(signal)
}

/// The fault of a runtime that made a forbidden call.
fn forbidden(call: &Forbidden) -> KeepFault {
    if is_abort(call) {
        return KeepFault::Aborted;
    }
    let named = Refused {
        number: call.number.cast_unsigned(),
        errno: None,
    };
    if filter::is_refused(call.number) {
        return KeepFault::RefusedCall {
            call: named,
            rip: Some(call.rip),
        };
    }
    KeepFault::ForbiddenCall(Some(named))
}

/// The fault of a runtime whose process ended without a message.
fn death(status: &WaitIdStatus) -> KeepFault {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => KeepFault::Process(ProcessEnd::Status(code)),
        (None, Some(libc::SIGSYS)) => KeepFault::ForbiddenCall(None),
        (None, Some(signal)) => KeepFault::Process(ProcessEnd::Signal(signal)),
        (None, None) => KeepFault::Process(ProcessEnd::Unknown),
    }
}

/// How the runtime's process is confined.
fn confinement(had: u8, listener: bool) -> Vec<Confined> {
    let has = |bit: u8| had & bit != 0;
    [
        ("seccomp", true),
        ("reports of forbidden calls", listener),
        ("Landlock", has(child::HAS_LANDLOCK)),
        ("user namespace", has(child::HAS_USER_NAMESPACE)),
        (
            "network, IPC, UTS and mount namespaces",
            has(child::HAS_NAMESPACES),
        ),
    ]
    .map(|(by, holds)| Confined::new(by, holds))
    .into()
}
