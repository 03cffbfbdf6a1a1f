// SPDX-License-Identifier: Apache-2.0

//! `enarx host keep`: the process of one Keep. Its manager starts it, and it ends with its manager.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use enarx_backend::launch::Target;
use enarx_contract::{Backend, Contract, Terms};
use enarx_executor::addresses::Policy;
use enarx_executor::grant::Grant;
use enarx_executor::launch::{Launch, Objects, Outcome};
use enarx_executor::refused::RefusedCalls;
use enarx_exits::exit_code;
use enarx_manager::keep_process::{Control, ControlError, Report};
use enarx_vmm::launch::Measured;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::flags::{Launches, Machine};
use crate::failure::{Exit, Failure};
use crate::images::IMAGES;
use crate::simulated;

/// Time that a Keep has beyond all times of its contract before its process ends it.
const AFTER_ALL_TIMES: Duration = Duration::from_mins(1);

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    launches: Launches,
    /// As for `enarx run`: for tests of Enarx
    #[arg(long, env = "ENARX_END_ON_REFUSED_CALLS")]
    end_on_refused_calls: bool,
}

/// Serves a Keep to its end.
///
/// # Errors
/// When the manager is gone or gives no order; the end of a Keep is told to the manager.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(format!("the Keep's process: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    let mut control = Control::from_stdin().map_err(failed)?;
    // A manager that died before the request above has closed the socket.
    let order = control.order().map_err(|error| of_control(&error))?;
    let ended = serve(arguments, &mut control, &order.contract.0, &order.door);
    let report = match &ended {
        Ok(outcome) => Report::Ended {
            reason: reason(outcome),
            code: match outcome {
                Outcome::Exit(code) => Some(*code),
                Outcome::Fault(_) => Some(exit_code::FAULT.into()),
                Outcome::TimedOut => Some(exit_code::TIMED_OUT.into()),
            },
        },
        Err(failure) => Report::Ended {
            reason: failure.sentence.clone(),
            code: None,
        },
    };
    control
        .report(&report)
        .map_err(|error| of_control(&error))?;
    ended.map(|_| ExitCode::SUCCESS)
}

fn of_control(error: &ControlError) -> Failure {
    Failure::of(
        Exit::Usage,
        format!("{error}: `enarx host serve` starts this command"),
    )
}

/// The end of a Keep in a sentence, for the manager's record.
fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit(0) => "done".to_owned(),
        Outcome::Exit(code) => format!("the runtime ended with code {code}: see the Keep's log"),
        Outcome::Fault(fault) => fault.to_string(),
        Outcome::TimedOut => "the times of the contract are over".to_owned(),
    }
}

/// The time after which nothing under this contract goes on.
fn longest(terms: &Terms) -> Duration {
    let times = &terms.times;
    [
        times.unprovisioned_seconds,
        times.runtime_seconds_max,
        times.detached_seconds_max,
    ]
    .into_iter()
    .map(|seconds| Duration::from_secs(seconds.into()))
    .fold(AFTER_ALL_TIMES, Duration::saturating_add)
}

/// Launches the Keep of a contract and serves it to its end.
fn serve(
    arguments: &Arguments,
    control: &mut Control,
    contract: &[u8],
    door: &Path,
) -> Result<Outcome, Failure> {
    let contract = Contract::decode(contract).map_err(|error| Failure::data(error.to_string()))?;
    let terms = contract.terms();
    if !terms.doors.directories.is_empty() {
        return Err(Failure::data(
            "this host opens no directories for applications",
        ));
    }
    let rules = terms.doors.rules();
    let measured = Measured {
        host_data: contract.digest().0,
        fault_addresses: false,
        variant: arguments.launches.variant(),
    };
    let target = match terms.platform.backend {
        Backend::Snp => Target::Snp(measured),
        Backend::Sim => {
            Target::Simulated(simulated::machine(&arguments.machine.options())?, measured)
        }
        Backend::Kvm => Target::Kvm,
        Backend::Process => Target::Process,
    };
    let null = || {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let failed = |error: io::Error| Failure::new(format!("the Keep's process: {error}"));
    let launch = Launch {
        grant: Grant {
            door: Some(open_door(door).map_err(failed)?),
            network: rules.uses(),
            policy: Policy::only(rules),
            // The application's streams are the session's. The runtime's own messages go to the log.
            ..Grant::of_streams([
                null().map_err(failed)?,
                null().map_err(failed)?,
                io::stderr().as_fd().try_clone_to_owned().map_err(failed)?,
            ])
        },
        objects: Objects::contract(contract.bytes().to_vec()),
        memory: terms.resources.memory,
        vcpus: terms.resources.vcpus,
        timeout: Some(longest(terms)),
        grace: Duration::ZERO,
        timings: false,
        refused_calls: if arguments.end_on_refused_calls && terms.platform.backend != Backend::Snp {
            RefusedCalls::End
        } else {
            RefusedCalls::Count
        },
    };
    let watching = control.try_clone().map_err(failed)?;
    let start = |_: &[_]| -> Result<(), String> {
        // The supervisor has made the Keep's process, so another thread may begin here. The Keep ends with this process.
        let watch = move || {
            let mut watching = watching;
            watching.wait_for_end();
            std::process::exit(Exit::Other.code().into());
        };
        let thread = thread::Builder::new().name("manager".to_owned());
        thread.spawn(watch).map_err(|error| {
            let remedy = enarx_confine::process::remedy(&error);
            format!("the end of the manager cannot be waited for: {error}{remedy}")
        })?;
        let ready = control.report(&Report::Ready);
        ready.map_err(|error| error.to_string())
    };
    let run = enarx_supervisor::run(target, &IMAGES, launch, start)
        .map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    Ok(run.outcome)
}

/// The door, at a place in the manager's folder.
fn open_door(place: &Path) -> io::Result<OwnedFd> {
    let door = UnixListener::bind(place)?;
    door.set_nonblocking(true)?;
    Ok(door.into())
}
