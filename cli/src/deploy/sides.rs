// SPDX-License-Identifier: Apache-2.0

//! The two sides of a deployment: this command is the tenant, and the host is somebody else, or this command, too.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use enarx_agent::{Ending, Key, Order, Stop, Target, deploy, deploy_detached};
use enarx_attestation::Policy;
use enarx_manager::{Manager, Settings};

use super::flags::Arguments;
use super::kept::{Kept, failed, keep_ticket};
use super::limit::{Due, Ended, Limit};
use super::signals::interrupts;
use super::targets::target;
use crate::failure::{Exit, Failure};
use crate::host::flags::Launches;
use crate::host::serve;
use crate::output::unnamed;
use crate::resources::OwnImages;
use crate::summary::Summary;
use crate::workload::Stream;
use crate::{ends, policy, tickets};

/// A deployment that is about to begin.
pub struct Deployment<'a> {
    /// The command's arguments.
    pub arguments: &'a Arguments,
    /// The tenant's order.
    pub order: Order,
    /// The time limit, if there is one.
    pub due: Option<Due>,
    /// The tenant's key.
    pub key: &'a Key,
    /// The ends of the program's standard streams.
    pub streams: [Stream; 3],
}

impl Deployment<'_> {
    /// Deploys to other hosts.
    ///
    /// # Errors
    /// The failure of the deployment, with its exit code.
    pub async fn deploy_to(
        self,
        targets: &[Target],
        policy: Policy,
        summary: &mut Summary,
    ) -> Result<Ended, Failure> {
        let Self {
            arguments,
            order,
            due,
            key,
            streams: named,
        } = self;
        let stop = Stop::new(arguments.grace);
        let limit = due.map(|due| Limit::start(due, &stop));
        let interrupts = interrupts(&stop)?;
        let platforms = OwnImages {
            simulated: !policy.insecure_simulated_roots.is_empty(),
        };
        let mut trust = arguments.trust.trust(policy)?;
        // A variable for all deployments has no effect if there is no vendor.
        trust.renews_lists &= !arguments.local;
        if arguments.detach {
            tickets::check()?;
        }
        let result = if arguments.detach {
            deploy_detached(targets, order, key, &trust, &platforms, &stop).await
        } else {
            let streams = ends::streams(named);
            deploy(targets, order, key, &trust, &platforms, streams, &stop)
                .await
                .map(|deployed| Ending::Complete(Box::new(deployed)))
        };
        interrupts.abort();
        let keep = if arguments.local {
            Kept::of_local
        } else {
            keep_ticket(&result, targets, summary).await?;
            Kept::of
        };
        if let Some(limit) = limit {
            return limit.judge(result, summary, keep);
        }
        let ending = result.map_err(|error| failed(&error, summary, keep))?;
        Ok((ending, None))
    }

    /// Plays the host, too: a manager in this process, on a port of this machine.
    ///
    /// # Errors
    /// As [`Self::deploy_to`]; [`Exit::Unavailable`] and [`Exit::Output`] where this machine can be no host.
    pub async fn local(self, summary: &mut Summary) -> Result<Ended, Failure> {
        let arguments = self.arguments;
        if !arguments.shown.quiet {
            say!(
                "enarx: --local: this machine plays the host, too, on the simulated platform: it protects nothing (--quiet silences this)"
            );
        }
        let folder = tempfile::Builder::new()
            .prefix("enarx-local-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| {
                Failure::of(
                    Exit::Output,
                    format!(
                        "the host of --local has no folder: {}: set TMPDIR to a folder that you may write to",
                        unnamed(error)
                    ),
                )
            })?;
        let settings = Settings {
            // Both sides are this one.
            doors: self.order.doors.clone(),
            ..serve::simulated(folder.path(), &arguments.machine, &Launches::default())?
        };
        let state = enarx_manager::State::open(folder.path());
        let token = state.and_then(|state| state.add_token("local"));
        let token = token.map_err(|error| Failure::of(Exit::Output, error.to_string()))?;
        let policy = match &arguments.policy {
            Some(named) => policy::load(named)?,
            None => policy::of_this_build(&settings.platforms)?,
        };
        let manager = Manager::bind(settings)
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        let targets = [target(&manager.to(), token)?];
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(manager.run(async {
            let _ = ended.await;
        }));
        let ending = self.deploy_to(&targets, policy, summary).await;
        let _ = end.send(());
        // Whatever became of the host, the deployment is done.
        let _ = serving.await;
        ending
    }
}
