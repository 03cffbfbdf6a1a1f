// SPDX-License-Identifier: Apache-2.0

//! Starts and ends the processes of Keeps. All are started by one thread that lives as long as the manager: a process that
//! asked to be killed with its parent is killed when the *thread* ends that started it (prctl(2)).

use crate::KeepCommand;
use crate::cgroup::{KeepCgroup, KeepCgroups};
use crate::record::Id;
use enarx_contract::Resources;
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

/// Stack of a thread that waits for the end of a process, in bytes.
const WAITER_STACK: usize = 64 << 10;

/// The resources of a process of a test, which has no cgroup.
#[cfg(test)]
const NOTHING: Resources = Resources {
    vcpus: 0,
    memory: 0,
};

/// The process of a Keep. It is killed when this is dropped; a thread waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: Arc<OwnedFd>,
    end: watch::Receiver<Option<String>>,
}

impl Process {
    fn new(pidfd: OwnedFd) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let (sender, end) = watch::channel(None);
        let waited_for = pidfd.clone();
        std::thread::Builder::new()
            .name("keep-end".to_string())
            .stack_size(WAITER_STACK)
            .spawn(move || sender.send_replace(Some(wait(&waited_for))))?;
        Ok(Self { pidfd, end })
    }

    /// A process that lives until this is dropped.
    #[cfg(test)]
    pub(crate) fn of_test() -> io::Result<Self> {
        let command = KeepCommand {
            program: "/bin/sleep".into(),
            arguments: vec!["100".into()],
        };
        let Started { process, .. } = start(
            &command,
            None,
            enarx_contract::canonical::Hex([0; 16]),
            NOTHING,
        )?;
        Ok(process)
    }

    /// Kills it. One that has ended and was waited for is no process any more.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until it has ended; how, in words.
    pub(crate) async fn ended(&self) -> String {
        let mut end = self.end.clone();
        let found = end.wait_for(Option::is_some).await;
        found
            .ok()
            .and_then(|end| end.clone())
            .unwrap_or_else(unknown)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn unknown() -> String {
    "unknown".to_string()
}

/// Waits until a process has ended; how, in words.
fn wait(pidfd: &OwnedFd) -> String {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    let Ok(Some(status)) = status else {
        return unknown();
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => unknown(),
    }
}

/// A process that was just started, with the manager's ends.
#[derive(Debug)]
pub(crate) struct Started {
    pub process: Process,
    pub control: UnixStream,
    /// Its standard error.
    pub errors: OwnedFd,
    /// Its cgroup, to be dropped after it has ended; it waits for that. `None`: it has none.
    pub cgroup: Option<KeepCgroup>,
}

/// The variables that a Keep's process gets: where its user's folders are, and the one for tests of Enarx.
const ENVIRONMENT: [&str; 4] = [
    "ENARX_END_ON_REFUSED_CALLS",
    "HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
];

/// An order to the thread for a process.
struct Request {
    id: Id,
    resources: Resources,
    answer: oneshot::Sender<io::Result<Started>>,
}

/// The thread that starts processes. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Starter(mpsc::Sender<Request>);

impl Starter {
    /// Starts the thread.
    pub(crate) fn new(command: KeepCommand, cgroups: Option<KeepCgroups>) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("keeps".to_string())
            .spawn(move || {
                for Request {
                    id,
                    resources,
                    answer,
                } in requests
                {
                    let started = start(&command, cgroups.as_ref(), id, resources);
                    // Nobody waits any more: the process is dropped, and killed.
                    let _ = answer.send(started);
                }
            })?;
        Ok(Self(sender))
    }

    /// Starts the process of a Keep of these resources.
    pub(crate) async fn start(&self, id: Id, resources: Resources) -> io::Result<Started> {
        let (sender, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        let request = Request {
            id,
            resources,
            answer: sender,
        };
        self.0.send(request).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn start(
    command: &KeepCommand,
    cgroups: Option<&KeepCgroups>,
    id: Id,
    resources: Resources,
) -> io::Result<Started> {
    let (control, other_end) = UnixStream::pair()?;
    let kept = ENVIRONMENT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::from(OwnedFd::from(other_end)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C is for the manager, which ends its Keeps in order.
        .process_group(0)
        .env_clear()
        .envs(kept)
        .spawn()?;
    // It is our child and not reaped, so the number still names it.
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let process = match pidfd.map_err(io::Error::from).and_then(Process::new) {
        Ok(process) => process,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    // It does nothing before it has its order.
    let cgroup = cgroups
        .map(|cgroups| cgroups.hold(id, resources, child.id()))
        .transpose()
        .map_err(io::Error::other)?;
    let errors = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Started {
        process,
        control,
        errors: errors.into(),
        cgroup,
    })
}
