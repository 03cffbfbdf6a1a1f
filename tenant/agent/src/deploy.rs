// SPDX-License-Identifier: Apache-2.0

//! The deployment: one host after the other is asked for a Keep and its Keep for evidence, until one passes the policy.
//! The application is released only to that one.

use crate::clock::{Clock, unix_seconds};
use crate::ending::{Deployed, Ending};
use crate::endorser::Endorser;
use crate::error::{DeployError, Failed};
use crate::fault::{Fault, Refused};
use crate::fit;
use crate::line::Stream;
use crate::manager::Manager;
use crate::opening::{Judged, KeepAccess, Lap, Rejection};
use crate::order::{Order, Package};
use crate::queue::Waiting;
use crate::random::random;
use crate::run::{Delivery, Run};
use crate::stop::Stop;
use crate::streams::{SilentInput, Streams};
use crate::target::Target;
use crate::terms::{self, Platforms};
use crate::timings::{Claim, Timings};
use crate::trust::Trust;
use enarx_contract::canonical::Base64;
use enarx_contract::{Agreement, Contract, Countersignature, Side, signing_input};
use enarx_session::Refusal;
use enarx_session::deployment::Deployment;
use enarx_session::tenant::Wanted;
use enarx_tls::Key;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

/// Time for ending an unused Keep, all attempts together. It also ends by itself, but later, and counts towards the
/// tenant's limits until then.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Pauses between the tries, in milliseconds.
const CLEAN_UP_PAUSES: [u64; 5] = [250, 500, 1_000, 2_000, 4_000];

/// Deploys to the first of `targets` whose Keep passes the policy, and runs the application to its end.
///
/// Every host is asked for its offer and for a Keep of a contract, and the Keep for evidence over a session of its own.
/// A host that is not accepted learns the tenant's key and the contract, and its Keep is ended. After the release no
/// other host is tried: the application runs at most once. A session that is cut is resumed, each time after a new
/// verdict over the same Keep, until several attempts in a row have failed. If no host was accepted and one of them is
/// full, they are asked again as the order's [`crate::Queue`] says.
///
/// Needs a tokio runtime with I/O and time. The future may be dropped at any time: an application that runs then goes on as
/// the order's [`enarx_session::deployment::Detached`] says, and a Keep without one ends by itself.
///
/// # Errors
/// [`DeployError`]. Unless it is [`DeployError::Failed`] or [`DeployError::Left`], nothing of the order was sent to anybody.
pub async fn deploy<I, O, E>(
    targets: &[Target],
    order: Order,
    key: &Key,
    trust: &Trust,
    platforms: &dyn Platforms,
    streams: Streams<I, O, E>,
    stop: &Stop,
) -> Result<Deployed, DeployError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let package = admit(targets, order, trust)?;
    let tenant = Tenant {
        key,
        trust,
        platforms,
        package: &package,
        stop,
    };
    match Box::pin(tenant.deploy(targets, streams, false)).await? {
        (Ending::Complete(mut deployed), passed_over) => {
            deployed.passed_over = passed_over;
            Ok(*deployed)
        }
        // It occurs only after a request to detach.
        (Ending::Detached(detached), _) => Err(DeployError::Left {
            host: detached.host,
            ticket: Box::new(detached.ticket),
        }),
    }
}

/// Deploys like [`deploy`], and detaches as soon as the application runs. Its standard input stays open and its output
/// waits in the Keep, as the order's [`enarx_session::deployment::Detached`] says, for whoever attaches with the
/// ticket; with 0 seconds there, the Keep stops it at once. The result is [`Ending::Complete`] if the application never
/// ran, because the Keep could not start it.
///
/// # Errors
/// [`DeployError`] as for [`deploy`]. When the application may run although leaving failed, [`Failed::ticket`] is there.
pub async fn deploy_detached(
    targets: &[Target],
    order: Order,
    key: &Key,
    trust: &Trust,
    platforms: &dyn Platforms,
    stop: &Stop,
) -> Result<Ending, DeployError> {
    let package = admit(targets, order, trust)?;
    let tenant = Tenant {
        key,
        trust,
        platforms,
        package: &package,
        stop,
    };
    let streams = Streams {
        stdin: SilentInput,
        stdout: tokio::io::sink(),
        stderr: tokio::io::sink(),
    };
    match Box::pin(tenant.deploy(targets, streams, true)).await? {
        (Ending::Detached(mut detached), passed_over) => {
            detached.passed_over = passed_over;
            Ok(Ending::Detached(detached))
        }
        (Ending::Complete(mut deployed), passed_over) => {
            deployed.passed_over = passed_over;
            Ok(Ending::Complete(deployed))
        }
    }
}

/// Checks what can be checked before any host is asked.
fn admit(targets: &[Target], order: Order, trust: &Trust) -> Result<Package, DeployError> {
    if targets.is_empty() {
        return Err(DeployError::NoTarget);
    }
    trust.policy.check()?;
    Ok(Package::new(order)?)
}

/// The tenant, in one deployment.
struct Tenant<'a> {
    key: &'a Key,
    trust: &'a Trust,
    platforms: &'a dyn Platforms,
    package: &'a Package,
    stop: &'a Stop,
}

/// A contract that both sides have signed.
struct Agreed {
    agreement: Agreement,
    /// How long the host says that it took to record it.
    commit: Option<Duration>,
}

/// A Keep that passed the policy.
struct Accepted {
    contract: Contract,
    agreement: Agreement,
    judged: Judged<Stream>,
    clock: Clock,
    timings: Timings,
    begun: Instant,
}

impl Tenant<'_> {
    /// Deploys to the first host that is taken.
    async fn deploy<I, O, E>(
        &self,
        targets: &[Target],
        streams: Streams<I, O, E>,
        detach: bool,
    ) -> Result<(Ending, Vec<Refused>), DeployError>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let mut waiting = Waiting::start(self.package.order().queue, Instant::now());
        let refused = loop {
            let mut refused = Vec::new();
            for target in targets {
                let host = target.name();
                // Boxed: the future of a whole session is large.
                match Box::pin(self.approach(target)).await {
                    Ok(accepted) => {
                        let ended = Box::pin(self.run(target, accepted, streams, detach)).await?;
                        return Ok((ended, refused));
                    }
                    Err(Rejection {
                        fault: Fault::Cancelled,
                        ..
                    }) => return Err(DeployError::Cancelled),
                    Err(Rejection { fault, checks }) => {
                        tracing::warn!(host, code = fault.code(), %fault, "host not taken");
                        refused.push(Refused {
                            host,
                            fault,
                            checks,
                        });
                    }
                }
            }
            // Without random bytes there is no further try, and nothing else would work either.
            let Ok(Some(pause)) = waiting.next(&refused, Instant::now()) else {
                break refused;
            };
            tracing::info!(
                pause_ms = pause.as_millis(),
                "no host has room: asking again"
            );
            let pause = async {
                sleep(pause).await;
                Ok::<_, Fault>(())
            };
            if self.stop.unless(pause).await.is_err() {
                return Err(DeployError::Cancelled);
            }
        };
        if refused.iter().any(|host| host.fault.is_evidence_refusal()) {
            return Err(DeployError::Refused(refused));
        }
        Err(DeployError::Unavailable(refused))
    }

    /// Gets a Keep that passes the policy from one host. Otherwise the Keep, if there is one, is ended.
    async fn approach(&self, target: &Target) -> Result<Accepted, Rejection> {
        let begun = Instant::now();
        let mut lap = Lap(begun);
        let mut manager = Manager::new(target);
        let offer = self.stop.unless(manager.offer()).await?;
        let mut timings = Timings {
            connect: lap.take(),
            ..Timings::default()
        };
        let order = self.package.order();
        let now = unix_seconds()?;
        let chosen = terms::choose(&offer, order, self.platforms)?;
        let endorser = Endorser::offered(chosen.0);
        let mut contract = terms::contract(
            &offer,
            chosen,
            order,
            &self.trust.policy,
            self.key.public(),
            now,
            random()?,
        )?;
        let wanted = fit::Wanted {
            terms: contract.terms(),
            now,
        };
        let ready = fit::ready(&offer, &wanted);
        let asking = self.ask(target, &mut manager, &mut contract, ready);
        // The last contract that was asked about is the one whose Keep may have to be ended.
        let asked = Box::pin(self.stop.unless(asking)).await;
        let clock = Clock::start();
        let way = self.way(target, &contract, clock);
        let work = async {
            let (Agreed { agreement, commit }, claim) = asked?;
            timings.claim = claim;
            timings.post = lap.take();
            // The manager's claim, as far as it is plausible.
            timings.commit = commit.map(|commit| commit.min(timings.post));
            manager.ready(&contract).await?;
            timings.launch = lap.take();
            let wanted = (Wanted::Fresh, None);
            let session = way.open(&mut manager, wanted, endorser, &mut lap, &mut timings);
            let judged = Box::pin(session).await?;
            Ok::<_, Rejection>((agreement, judged))
        };
        match Box::pin(self.stop.unless(work)).await {
            Ok((agreement, judged)) => {
                tracing::info!(host = target.name(), "the Keep is accepted");
                Ok(Accepted {
                    contract,
                    agreement,
                    judged,
                    clock,
                    timings,
                    begun,
                })
            }
            Err(rejection) => {
                Box::pin(self.clean_up(target, &contract)).await;
                Err(rejection)
            }
        }
    }

    /// Claims the first of the `ready` Keeps that nobody else has claimed, or otherwise asks for one under the tenant's
    /// own `contract`. `contract` becomes the contract that is requested, even if this is cancelled.
    ///
    /// # Errors
    /// [`Fault`].
    async fn ask(
        &self,
        target: &Target,
        manager: &mut Manager<'_>,
        contract: &mut Contract,
        ready: Vec<Contract>,
    ) -> Result<(Agreed, Claim), Fault> {
        let own = contract.clone();
        for open in ready {
            *contract = open;
            tracing::info!(host = target.name(), keep = %contract.keep_id(), "claiming a Keep");
            match self.sign_and_ask(manager, contract).await {
                Ok(agreed) => return Ok((agreed, Claim::Warm)),
                Err(fault) if fault.is_refused_claim() => {
                    tracing::debug!(host = target.name(), %fault, "the Keep cannot be claimed");
                }
                Err(fault) => return Err(fault),
            }
        }
        *contract = own;
        tracing::info!(host = target.name(), keep = %contract.keep_id(), "asking for a Keep");
        Ok((self.sign_and_ask(manager, contract).await?, Claim::Cold))
    }

    /// Signs a contract and asks for its Keep.
    ///
    /// # Errors
    /// [`Fault`].
    async fn sign_and_ask(
        &self,
        manager: &mut Manager<'_>,
        contract: &Contract,
    ) -> Result<Agreed, Fault> {
        let input = signing_input(Side::Tenant, contract.digest());
        let tenant = Countersignature {
            key: self.key.public(),
            signature: self.key.sign(&input)?,
        };
        let (host, commit) = manager.create(contract, &tenant).await?;
        let agreement = Agreement {
            contract: Base64(contract.bytes().to_vec()),
            tenant: Some(tenant),
            host: Some(host),
        };
        Ok(Agreed { agreement, commit })
    }

    fn way<'b>(
        &'b self,
        target: &'b Target,
        contract: &'b Contract,
        clock: Clock,
    ) -> KeepAccess<'b> {
        KeepAccess {
            target,
            key: self.key,
            trust: self.trust,
            contract,
            unattested: self.package.order().unattested,
            clock,
        }
    }

    /// Releases the order to an accepted Keep, and runs it to its end or leaves it.
    async fn run<I, O, E>(
        &self,
        target: &Target,
        accepted: Accepted,
        streams: Streams<I, O, E>,
        detach: bool,
    ) -> Result<Ending, DeployError>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Accepted {
            contract,
            agreement,
            mut judged,
            clock,
            timings,
            begun,
        } = accepted;
        let result = match self.release(&contract, &mut judged, clock) {
            Ok((deployment, digest)) => {
                let run = Run {
                    way: self.way(target, &contract, clock),
                    agreement: &agreement,
                    delivery: Some(Delivery {
                        package: self.package,
                        deployment,
                    }),
                    deployment: digest,
                    stop: self.stop,
                    detach,
                    begun,
                    timings,
                };
                run.run(judged, streams).await
            }
            Err(fault) => Err(DeployError::Failed(Box::new(Failed {
                host: target.name(),
                fault,
                started: false,
                exit: None,
                checks: Vec::new(),
                ticket: None,
            }))),
        };
        if matches!(&result, Err(DeployError::Failed(failed)) if !failed.started || self.package.order().source.is_some())
        {
            Box::pin(self.clean_up(target, &contract)).await;
        }
        result
    }

    /// Ends an unused Keep, with retries if its manager cannot be reached for a while; callers need not wait for it. If
    /// it fails, the Keep costs the host memory, and for a while part of the tenant's limits.
    async fn clean_up(&self, target: &Target, contract: &Contract) {
        let tries = async {
            let mut pauses = CLEAN_UP_PAUSES.into_iter();
            loop {
                let fault = match Manager::new(target).end(contract).await {
                    Ok(()) => return Ok(()),
                    Err(fault) => fault,
                };
                let Some(pause) = pauses.next().filter(|_| fault.is_cut()) else {
                    return Err(fault);
                };
                tracing::info!(host = target.name(), %fault, "its Keep is not ended yet: asking again");
                sleep(Duration::from_millis(pause)).await;
            }
        };
        let tries = Box::pin(self.stop.unless_left(tries));
        match timeout(CLEAN_UP, tries).await {
            Ok(Ok(())) => tracing::debug!(host = target.name(), "its Keep is ended"),
            Ok(Err(fault)) => tracing::warn!(host = target.name(), %fault, "its Keep is not ended"),
            Err(_) => tracing::warn!(host = target.name(), "its Keep is not ended in time"),
        }
    }

    /// Begins to deliver, and returns the deployment with its digest.
    fn release(
        &self,
        contract: &Contract,
        judged: &mut Judged<Stream>,
        clock: Clock,
    ) -> Result<(Deployment, [u8; 32]), Fault> {
        let deployment = self.package.deployment(contract, unix_seconds()?)?;
        let digest = Sha256::digest(deployment.encode().map_err(Refusal::from)?);
        judged.session.release(&deployment, clock.now())?;
        Ok((deployment, digest.into()))
    }
}
