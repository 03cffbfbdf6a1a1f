// SPDX-License-Identifier: Apache-2.0

//! The deployment: one host after the other is asked for a Keep and its Keep for evidence, until one passes the policy.
//! To that one the application is released, and to no other.

use crate::clock::{Clock, unix_seconds};
use crate::error::{DeployError, Failed, Fault, Refused};
use crate::judge::Trust;
use crate::manager::Manager;
use crate::order::{Order, Package, random};
use crate::peek::{Endorser, Peek};
use crate::pump::{End, Held, Pump, Terms};
use crate::stop::Stop;
use crate::streams::Streams;
use crate::target::Target;
use crate::terms::{self, Platforms};
use crate::timings::Timings;
use crate::wire::Wire;
use enarx_attestation::{Check, Endorsements, Verdict};
use enarx_contract::canonical::Base64;
use enarx_contract::{Agreement, Contract, Countersignature, Side, Tee, signing_input};
use enarx_session::document::{Exit, Started};
use enarx_session::receipt::Receipt;
use enarx_session::tenant::{Channel, Identity, Outcome, Released, Session, Unjudged, Wanted};
use enarx_session::{Moment, Refusal};
use enarx_tls::Key;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

/// Time for the TLS handshake with the Keep.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Time for the request that ends a Keep which is not used. It ends by itself too, only later.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// A deployment that came to its end.
#[derive(Debug)]
pub struct Deployed {
    /// The host, `HOST:PORT`.
    pub host: String,
    /// How the application ended.
    pub exit: Exit,
    /// The receipt. Its signature holds, and it says of this session what is true of it.
    pub receipt: Receipt,
    /// The Keep.
    pub identity: Identity,
    /// The verdict under which the application was released; `None`: nothing shows what the Keep was.
    pub verdict: Option<Verdict>,
    /// The verdict over the receipt's report; `None`: it has none, so it means nothing to others.
    pub receipt_verdict: Option<Verdict>,
    /// The contract with both signatures.
    pub agreement: Agreement,
    /// The certificates and revocation lists by which its evidence was judged.
    pub endorsements: Endorsements,
    /// The hosts that were asked before this one, and why they were not taken.
    pub passed_over: Vec<Refused>,
    /// The phases of the application's start, as the Keep tells them.
    pub started: Option<Started>,
    /// How long what took.
    pub timings: Timings,
}

/// Deploys to the first of `targets` whose Keep passes the policy, and runs the application to its end.
///
/// Every host is asked for its offer and for a Keep of a contract, and the Keep for evidence over a session of its own. A
/// host that is not taken learns the tenant's key and the contract, and its Keep is ended. After the release there is no
/// other host: the application runs at most once.
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
    if targets.is_empty() {
        return Err(DeployError::NoTarget);
    }
    trust.policy.check()?;
    let package = Package::new(order)?;
    let tenant = Tenant {
        key,
        trust,
        platforms,
        package: &package,
        stop,
    };
    let mut refused = Vec::new();
    for target in targets {
        let host = target.name();
        // Boxed: the future of a whole session is large.
        match Box::pin(tenant.approach(target)).await {
            Ok(accepted) => {
                let mut deployed = Box::pin(tenant.run(target, accepted, streams)).await?;
                deployed.passed_over = refused;
                return Ok(deployed);
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
    if refused.iter().any(|host| host.fault.is_of_evidence()) {
        return Err(DeployError::Refused(refused));
    }
    Err(DeployError::Unavailable(refused))
}

/// Why a host is not taken.
struct Rejection {
    fault: Fault,
    checks: Vec<Check>,
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            checks: Vec::new(),
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Fault::from(refusal).into()
    }
}

/// The tenant, in one deployment.
struct Tenant<'a> {
    key: &'a Key,
    trust: &'a Trust,
    platforms: &'a dyn Platforms,
    package: &'a Package,
    stop: &'a Stop,
}

/// A Keep that passed the policy.
struct Accepted<S> {
    contract: Contract,
    agreement: Agreement,
    wire: Wire<S>,
    peek: Peek,
    session: Session<Released>,
    held: Held,
    verdict: Option<Verdict>,
    clock: Clock,
    timings: Timings,
    begun: Instant,
}

/// Takes the time since the last call.
struct Lap(Instant);

impl Lap {
    fn take(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

impl<'a> Tenant<'a> {
    /// Brings one host as far as a Keep that passed the policy. Otherwise the Keep, if there is one, is ended.
    async fn approach(&self, target: &Target) -> Result<Accepted<crate::line::Stream>, Rejection> {
        let begun = Instant::now();
        let mut lap = Lap(begun);
        let mut manager = Manager::new(target);
        let offer = self.stop.unless(manager.offer()).await?;
        let mut timings = Timings {
            connect: lap.take(),
            ..Timings::default()
        };
        let order = self.package.order();
        let contract = terms::contract(
            &offer,
            terms::choose(&offer, order, self.platforms)?,
            order,
            &self.trust.policy,
            self.key.public(),
            unix_seconds()?,
            random()?,
        )?;
        let input = signing_input(Side::Tenant, contract.digest());
        let signature = self.key.sign(&input).map_err(Fault::from)?;
        tracing::info!(host = target.name(), keep = %contract.keep_id(), "asking for a Keep");
        let work = async {
            let host = manager.create(&contract, signature).await?;
            timings.post = lap.take();
            let agreement = Agreement {
                contract: Base64(contract.bytes().to_vec()),
                tenant: Some(Countersignature {
                    key: self.key.public(),
                    signature,
                }),
                host: Some(host),
            };
            manager.ready(&contract).await?;
            timings.launch = lap.take();
            let session = self.attest(target, &mut manager, &contract, &mut lap, &mut timings);
            let judged = Box::pin(session).await?;
            Ok::<_, Rejection>((agreement, judged))
        };
        match Box::pin(self.stop.unless(work)).await {
            Ok((agreement, judged)) => {
                tracing::info!(host = target.name(), "the Keep is accepted");
                let Judged {
                    wire,
                    peek,
                    session,
                    held,
                    verdict,
                    clock,
                } = judged;
                Ok(Accepted {
                    contract,
                    agreement,
                    wire,
                    peek,
                    session,
                    held,
                    verdict,
                    clock,
                    timings,
                    begun,
                })
            }
            Err(rejection) => {
                Box::pin(clean_up(target, &contract)).await;
                Err(rejection)
            }
        }
    }

    /// Opens a session with the Keep of a contract and has its evidence judged.
    async fn attest(
        &self,
        target: &Target,
        manager: &mut Manager<'_>,
        contract: &Contract,
        lap: &mut Lap,
        timings: &mut Timings,
    ) -> Result<Judged<crate::line::Stream>, Rejection> {
        let stream = manager.relay(contract).await?;
        let mut wire = Wire::tenant(stream, self.key)?;
        let facts = timeout(HANDSHAKE, wire.handshake())
            .await
            .map_err(|_| Refusal::Timeout("TLS handshake"))??;
        timings.handshake = lap.take();
        let clock = Clock::start();
        let channel = Channel {
            keep: facts.peer,
            tenant: facts.own,
            exporter: facts.exporter,
        };
        let nonce = random()?;
        let mut session = Session::attest(
            contract.clone(),
            channel,
            Wanted::Fresh,
            None,
            nonce,
            clock.now(),
        );
        let mut peek = Peek::new();
        let until = clock.instant(session.deadline());
        tokio::time::timeout_at(until, evidence(&mut wire, &mut session, &mut peek))
            .await
            .map_err(|_| Refusal::Timeout("EVIDENCE"))??;
        timings.evidence = lap.take();
        let endorser = peek.report().and_then(Endorser::of);
        // Without a readable report there is nothing to ask for; the verifier says so.
        let endorsements = match endorser {
            Some(endorser) => manager.endorsements(endorser).await?,
            None => Endorsements::default(),
        };
        let held = Held {
            endorser,
            endorsements,
        };
        let (session, verdict) = self.judge(target, contract, session, &held, clock)?;
        timings.verdict = lap.take();
        Ok(Judged {
            wire,
            peek,
            session,
            held,
            verdict,
            clock,
        })
    }

    /// Has the evidence judged, or takes the tenant's word where there can be none.
    fn judge(
        &self,
        target: &Target,
        contract: &Contract,
        session: Session<Unjudged>,
        held: &Held,
        clock: Clock,
    ) -> Result<(Session<Released>, Option<Verdict>), Rejection> {
        let unattested = self.package.order().unattested;
        if let (Tee::None, Some(word)) = (contract.terms().platform.tee, unattested) {
            tracing::warn!(
                host = target.name(),
                "nothing shows what this Keep is: its host can read everything"
            );
            return Ok((session.accept_unattested(word, clock.now())?, None));
        }
        let terms = self.terms(target, contract, clock);
        let judge = terms.judge(&held.endorsements)?;
        let age = u64::try_from(self.trust.max_age.as_millis()).unwrap_or(u64::MAX);
        match session.judge(&judge, clock.now(), age) {
            Ok(session) => Ok((session, judge.into_verdict())),
            Err(refusal) => Err(Rejection {
                fault: refusal.into(),
                checks: judge.failed_checks(),
            }),
        }
    }

    fn terms<'b>(&self, target: &'b Target, contract: &'b Contract, clock: Clock) -> Terms<'b>
    where
        'a: 'b,
    {
        Terms {
            target,
            trust: self.trust,
            contract,
            package: self.package,
            stop: self.stop,
            clock,
        }
    }

    /// Releases the order to an accepted Keep, and runs it to its end.
    async fn run<S, I, O, E>(
        &self,
        target: &Target,
        accepted: Accepted<S>,
        streams: Streams<I, O, E>,
    ) -> Result<Deployed, DeployError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Accepted {
            contract,
            agreement,
            wire,
            peek,
            mut session,
            held,
            verdict,
            clock,
            mut timings,
            begun,
        } = accepted;
        let host = target.name();
        let released = clock.now();
        let deployment = unix_seconds().and_then(|now| self.package.deployment(&contract, now));
        let result = deployment.and_then(|deployment| Ok(session.release(&deployment, released)?));
        if let Err(fault) = result {
            Box::pin(clean_up(target, &contract)).await;
            return Err(DeployError::Failed(Box::new(Failed {
                host,
                fault,
                started: false,
                exit: None,
                checks: Vec::new(),
            })));
        }
        let terms = self.terms(target, &contract, clock);
        let mut pump = Pump::new(terms, wire, session, peek, held, streams);
        let result = pump.run().await;
        let since = |moment: Moment| Duration::from_millis(moment.since(released));
        timings.transfer = pump.delivered_at.map_or(Duration::ZERO, since);
        timings.first_byte = pump.output_at.map(since);
        timings.run = since(clock.now());
        timings.total = begun.elapsed();
        let started = pump.delivered_at.is_some();
        let exit = pump.exit;
        let failed = |fault, checks| {
            DeployError::Failed(Box::new(Failed {
                host: host.clone(),
                fault,
                started,
                exit,
                checks,
            }))
        };
        let end = match result {
            Ok(end) => end,
            Err(fault) => {
                if !started {
                    Box::pin(clean_up(target, &contract)).await;
                }
                tracing::warn!(host, code = fault.code(), %fault, "the session failed");
                return Err(failed(fault, pump.failed_checks));
            }
        };
        let identity = *pump.session.identity();
        let (phases, receipt_verdict) = (pump.started, pump.receipt_verdict);
        match (end, pump.session.finish(), exit) {
            (End::Left, ..) => Err(DeployError::Left { host }),
            (End::Complete, Ok(Outcome::Complete(receipt)), Some(exit)) => Ok(Deployed {
                passed_over: Vec::new(),
                endorsements: pump.held.endorsements,
                host,
                exit,
                receipt: *receipt,
                identity,
                verdict,
                receipt_verdict,
                agreement,
                started: phases,
                timings,
            }),
            (End::Complete, Err(refusal), _) => Err(failed(refusal.into(), Vec::new())),
            (End::Complete, Ok(_), _) => Err(failed(Refusal::Truncated.into(), Vec::new())),
        }
    }
}

/// A session after the verdict.
struct Judged<S> {
    wire: Wire<S>,
    peek: Peek,
    session: Session<Released>,
    held: Held,
    verdict: Option<Verdict>,
    clock: Clock,
}

/// Sends ATTEST, and takes what comes up to EVIDENCE.
async fn evidence<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Unjudged>,
    peek: &mut Peek,
) -> Result<(), Fault> {
    std::future::poll_fn(|cx| {
        let count = wire.write(session.outgoing());
        session.sent(count);
        loop {
            // The answer shows that all of it was sent.
            let _ = wire.poll_send(cx);
            if !std::task::ready!(wire.poll_plaintext(cx)?) {
                return std::task::Poll::Ready(Err(Refusal::Truncated.into()));
            }
            let plaintext = wire.plaintext();
            let mut rest = plaintext;
            let result = session.receive(&mut rest);
            let taken = plaintext.len().saturating_sub(rest.len());
            peek.take(plaintext.get(..taken).unwrap_or_default());
            wire.consume(taken);
            if result? {
                return std::task::Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

/// Has a Keep ended that is not used. A failure is the host's loss.
async fn clean_up(target: &Target, contract: &Contract) {
    let mut manager = Manager::new(target);
    match timeout(CLEAN_UP, manager.end(contract)).await {
        Ok(Ok(())) => tracing::debug!(host = target.name(), "its Keep is ended"),
        Ok(Err(fault)) => tracing::warn!(host = target.name(), %fault, "its Keep is not ended"),
        Err(_) => tracing::warn!(host = target.name(), "its Keep is not ended in time"),
    }
}
