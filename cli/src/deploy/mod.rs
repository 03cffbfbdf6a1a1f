// SPDX-License-Identifier: Apache-2.0

//! `enarx deploy`: an application on a host that nobody trusts. `enarx-agent` does the work.

mod flags;
mod kept;
mod limit;
mod order;
mod program;
mod server;
mod show;
mod sides;
mod signals;
mod targets;

use std::process::ExitCode;

use enarx_agent::{Ending, Key};

use self::limit::Due;
use self::order::Ordered;
use self::sides::Deployment;
use crate::failure::{Exit, Failure};
use crate::host::serve;
use crate::input::in_time;
use crate::summary::Summary;
use crate::typed::Flag;
use crate::workload::Workload;
use crate::{policy, tickets};

pub use self::flags::Arguments;
pub use self::kept::{Kept, failed, failure};
pub use self::show::{Shown, show};
pub use self::signals::{GRACE, interrupts};
pub use self::targets::tokens;

/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut summary = Summary::default();
    let done = work(arguments, &mut summary);
    arguments.shown.json.end(summary, done).into()
}

fn work(arguments: &Arguments, summary: &mut Summary) -> Result<u8, Failure> {
    let due = arguments
        .limit()
        .map(|limit| Due::begin(limit, arguments.grace));
    let end = due.map(|due| due.at);
    arguments.shown.check()?;
    arguments.check_host()?;
    arguments.typed.refuse_unless(arguments.local, Flag::Sim, || {
        "--sim: these are properties of the platform that --local simulates; a host has its own: leave it out".to_owned()
    })?;
    arguments.typed.refuse_unless(!arguments.local, Flag::FetchLists, || {
        "--fetch-lists: the platform that --local simulates is not one of AMD's, so AMD has no lists about it: leave it out"
            .to_owned()
    })?;
    let mut workload = match &arguments.config {
        Some(path) => in_time(path, end, |path| Workload::read(Some(path)))?,
        None => Workload::default(),
    };
    if !arguments.shown.quiet {
        workload.warn();
    }
    let Ordered { order, is_server } = arguments.order(&mut workload, end)?;
    let key = Key::generate().map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    let deployment = Deployment {
        arguments,
        order,
        due,
        key: &key,
        streams: workload.streams,
    };
    let ending = if arguments.local {
        serve::block_on(deployment.local(summary))?
    } else {
        let targets = arguments.targets(end)?;
        let policy = arguments.policy.as_deref().ok_or_else(|| {
            Failure::usage(
                "state what you accept with --policy: `enarx policy new` prints a policy for this build",
            )
        })?;
        let policy = policy::load(policy)?;
        serve::block_on(deployment.deploy_to(&targets, policy, summary))?
    };
    match ending? {
        (Ending::Complete(deployed), over) => {
            summary.complete(&deployed);
            let ended = show(&arguments.shown, &deployed, over)?;
            match over {
                // It has ended because it was asked to, however it did so.
                Some(limit) if is_server => Err(limit::reached(limit)),
                _ => Ok(ended),
            }
        }
        (Ending::Detached(detached), _) => {
            let name = tickets::name(&detached.ticket);
            summary.detached(&detached, &name);
            if !arguments.shown.quiet {
                say!(
                    "enarx: it keeps running on {} without this command: `enarx attach {name}`",
                    detached.host
                );
            }
            outln!("{name}");
            Ok(0)
        }
    }
}
