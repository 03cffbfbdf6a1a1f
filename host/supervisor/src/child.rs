// SPDX-License-Identifier: Apache-2.0

//! The process that serves one Keep: it drops what it inherited, launches the Keep, and is confined before the
//! first instruction of the guest.

#![expect(
    unsafe_code,
    reason = "descriptors and the environment are given up by a process that was just made"
)]

use std::convert::Infallible;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use enarx_backend::launch::{Images, Target};
use enarx_confine::process::give_up_privileges;
use enarx_confine::report::record_violations;
use enarx_confine::seccomp::{any_thread, apply, calls, compile};
use enarx_executor::DESCRIPTORS;
use enarx_executor::fault::{HostFault, KeepFault, ProcessEnd};
use enarx_executor::grant::NetworkGrant;
use enarx_executor::launch::{Confine, Confined, Gate, Jail, Launch, Report, Run};
use enarx_executor::lookups::{Client, Lookups, channels};
use enarx_exits::exit_code;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::stdio::{dup2_stdin, dup2_stdout, stderr};
use seccompiler::SeccompAction;

use crate::failure::LaunchFailure;
use crate::message::{self, Message};
use crate::spawn::{self, Namespaces};

/// Serves the Keep and ends this process, which was just made for it.
pub fn serve(target: Target, images: &Images, launch: Launch, socket: OwnedFd) -> Infallible {
    // SAFETY: the descriptor is never closed: this process ends by `exit`.
    let socket: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(socket.into_raw_fd()) };
    use_one_arena();
    // The runtime of a `process` Keep, which descends from this process, reserves far more addresses than it has memory.
    let memory = match target {
        Target::Process => Resource::Data,
        Target::Kvm | Target::Simulated(..) | Target::Snp(_) => Resource::As,
    };
    let message = give_up(&launch, memory, socket).map_or_else(
        |error| Message::Failed(LaunchFailure::SetUp(error.to_string())),
        |(lookups, namespaces)| {
            let own = in_namespaces(namespaces, launch.grant.network);
            let with = own.clone();
            let gate = Gate::new(move |confined| {
                let confined = [confined, &with].concat();
                let told = message::send(socket, &Message::Confined(confined));
                if told.is_err() || !message::await_go(socket) {
                    spawn::exit(1);
                }
            });
            let confine = Confine::Process(Jail { gate, lookups });
            let mut message = launch_and_serve(target, images, launch, confine);
            if let Message::Ended(run) = &mut message {
                run.report.confinement.extend(own);
            }
            message
        },
    );
    // A supervisor that is gone has killed this process.
    let _ = message::send(socket, &message);
    spawn::exit(0)
}

/// Lets all threads share the C library's first arena of memory. With others it opens files of /proc and /sys to learn how
/// many there may be, and whether one may shrink, and no thread that serves a Keep may open a file.
fn use_one_arena() {
    // SAFETY: changes one word of the allocator's; this process has one thread.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// The namespaces of the process as ways of confining it. It needs that of the host's network if any is granted.
fn in_namespaces(has: Namespaces, network: NetworkGrant) -> Vec<Confined> {
    let own = Confined::new("user, PID, IPC and UTS namespaces", has.own);
    let without_network = network == NetworkGrant::default();
    let network = without_network.then(|| Confined::new("network namespace", has.network));
    [own].into_iter().chain(network).collect()
}

/// The last message of a process that serves a Keep.
fn launch_and_serve(target: Target, images: &Images, launch: Launch, confine: Confine) -> Message {
    let run = AssertUnwindSafe(|| enarx_backend::run(target, images, launch, confine));
    match catch_unwind(run) {
        Ok(Ok(run)) => Message::Ended(Box::new(run)),
        Ok(Err(error)) => Message::Failed(error.into()),
        Err(_) => Message::Ended(Box::new(Run {
            outcome: KeepFault::Host(HostFault::Panicked).into(),
            report: Report::default(),
        })),
    }
}

/// Bytes of memory for the process that serves a Keep, in addition to the Keep's own: its code and buffers, and
/// the runtime. A quarter of it is used.
const OVERHEAD: u64 = 256 << 20;
/// The same for each vCPU: the stack of a thread, which is counted whole, and what is kept for it.
const OVERHEAD_OF_VCPU: u64 = 4 << 20;

/// Bytes of memory that the process that serves a Keep may have, even if a Keep has taken it over.
fn memory_limit(launch: &Launch) -> u64 {
    let of_vcpus = u64::from(launch.vcpus).saturating_mul(OVERHEAD_OF_VCPU);
    // It exists once, and a second time while it is copied into the Keep.
    let application = u64::try_from(launch.objects.application.len()).unwrap_or(u64::MAX);
    [launch.memory, OVERHEAD, of_vcpus, application, application]
        .into_iter()
        .fold(0, u64::saturating_add)
}

/// Permanently limits a resource, unless it already has a lower limit.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let before = getrlimit(resource).maximum;
    let most = Some(before.unwrap_or(most).min(most));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, limit)?)
}

/// Drops the environment, all descriptors except those of the grant, core dumps, and unlimited memory; this process is
/// the first to be killed when memory runs out. Where this machine allows namespaces, it returns in a child, the first
/// process of its own.
///
/// Returns the way to look up names, and the namespaces.
fn give_up(
    launch: &Launch,
    memory: Resource,
    socket: BorrowedFd<'static>,
) -> io::Result<(Lookups, Namespaces)> {
    // SAFETY: this process has one thread, and nobody reads the environment here.
    unsafe { spawn::clear_environment() };
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    drop(null);
    let grant = &launch.grant;
    let kept: Vec<BorrowedFd<'_>> = grant
        .stdio
        .iter()
        .chain(&grant.evidence)
        .chain(&grant.door)
        .chain(&grant.listener)
        .chain(&grant.serves)
        .chain(grant.directories.iter().map(|granted| &granted.directory))
        .map(AsFd::as_fd)
        .chain([
            socket,
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            stderr(),
        ])
        .collect();
    // SAFETY: what other descriptors the frames of the parent own is not used in this process, and not dropped: it
    // ends by `exit`.
    unsafe { spawn::close_all_but(&kept)? };
    // Where this cannot be said, the kernel chooses as usual.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    limit(memory, memory_limit(launch))?;
    let namespaces = spawn::leave_namespaces(grant.network == NetworkGrant::default());
    if namespaces.own {
        fork_first_process()?;
    }
    // The supervisor goes by the record.
    record_violations(socket, exit_code::FAULT)?;
    let lookups = if launch.grant.network.name_lookup {
        Lookups::Process(start_resolver()?)
    } else {
        Lookups::Thread
    };
    Ok((lookups, namespaces))
}

/// Returns in a child, which is the first process of its namespace; this process waits for its end and ends alike.
fn fork_first_process() -> io::Result<()> {
    let Some(child) = spawn::split()? else {
        return Ok(());
    };
    // SAFETY: this process ends by `exit`, and uses nothing but the child's descriptor.
    unsafe { spawn::close_all_but(&[child.pidfd()])? };
    let confined = give_up_privileges().and_then(|()| {
        let calls = any_thread().chain(calls(&[libc::SYS_waitid, libc::SYS_ppoll]));
        apply(&compile(calls, SeccompAction::KillProcess)?)
    });
    // Without its first process a namespace ends, and with this one its first process.
    let end = match confined {
        Ok(()) => child.wait(None).unwrap_or(ProcessEnd::Unknown),
        Err(_) => ProcessEnd::Unknown,
    };
    spawn::exit(match end {
        ProcessEnd::Status(code) => code,
        ProcessEnd::Signal(signal) => SIGNAL_STATUS + signal,
        ProcessEnd::Unknown => 1,
    })
}

/// Exit status, less the signal's number, of a process whose child was ended by a signal: as a shell's.
pub const SIGNAL_STATUS: i32 = 128;

/// Starts the process that looks up names. It ends with this one.
fn start_resolver() -> io::Result<Client> {
    let (resolver, (client, _)) = spawn::fork(channels()?, |(client, server)| {
        drop(client);
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), stderr()];
        let sockets = server.descriptors().iter().map(AsFd::as_fd);
        let kept: Vec<BorrowedFd<'_>> = streams.into_iter().chain(sockets).collect();
        // SAFETY: this process ends by `exit`, and uses nothing but its channels.
        let closed = unsafe { spawn::close_all_but(&kept) };
        // A resolver that cannot be confined answers nothing; callers get the error that there is none.
        let served = closed.and_then(|()| server.serve());
        spawn::exit(i32::from(served.is_err()))
    })?;
    // Dropped, it would be killed: it ends with this process.
    let _kept = ManuallyDrop::new(resolver);
    Ok(client)
}
