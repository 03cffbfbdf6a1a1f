// SPDX-License-Identifier: Apache-2.0

//! An application in a Keep until its end, over successive sessions: when a connection is cut, a new one is opened, the
//! Keep is judged again, and the streams continue. The host can cut connections as often as it likes and gains nothing.

use crate::ending::{Deployed, Detached, Ending};
use crate::error::{DeployError, Failed};
use crate::fault::Fault;
use crate::line::Stream;
use crate::manager::Manager;
use crate::opening::{Judged, KeepAccess, Lap, Rejection};
use crate::order::Package;
use crate::pump::{End, GOODBYE, Pump, Terms};
use crate::stop::Stop;
use crate::streams::Streams;
use crate::ticket::Ticket;
use crate::timings::Timings;
use enarx_attestation::Verdict;
use enarx_contract::Agreement;
use enarx_session::Refusal;
use enarx_session::deployment::Deployment;
use enarx_session::document::Exit;
use enarx_session::keep::Output;
use enarx_session::tenant::{Identity, Outcome, Wanted};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

/// Pauses before each further try, in milliseconds: together as long as a manager takes to start again, or a laptop to
/// find its network.
const PAUSES: [u64; 6] = [250, 500, 1_000, 2_000, 4_000, 8_000];

/// How long a tenant that leaves waits for the reader of the output that has come.
const READER_PATIENCE: Duration = Duration::from_millis(500);

/// After a session of this length, or with new output, the tries count from the beginning.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// Tries to attach again, counted.
struct Tries {
    /// Since the last progress.
    failed: usize,
    /// Begin of the last session.
    since: Instant,
    /// Bytes of output when the last session began.
    seen: u64,
}

impl Tries {
    fn new() -> Self {
        Self {
            failed: 0,
            since: Instant::now(),
            seen: 0,
        }
    }

    /// Records that a session was cut, with `seen` bytes of output received so far.
    fn cut(&mut self, seen: u64) {
        if seen > self.seen || self.since.elapsed() >= STABLE_AFTER {
            self.failed = 0;
        }
        self.seen = seen;
    }

    /// Notes that a new session has begun.
    fn begun(&mut self) {
        self.since = Instant::now();
    }

    /// Takes the pause before the next try; `None` after enough of them.
    fn next(&mut self) -> Option<Duration> {
        let pause = PAUSES.get(self.failed).copied();
        self.failed = self.failed.saturating_add(1);
        pause.map(Duration::from_millis)
    }
}

/// The application, and the document that names its parts.
pub(crate) struct Delivery<'a> {
    pub(crate) package: &'a Package,
    pub(crate) deployment: Deployment,
}

/// An application that is being handed to a Keep, or is attached to.
pub(crate) struct Run<'a> {
    pub(crate) way: KeepAccess<'a>,
    pub(crate) agreement: &'a Agreement,
    /// `None`: everything was delivered before.
    pub(crate) delivery: Option<Delivery<'a>>,
    /// SHA-256 of the deployment.
    pub(crate) deployment: [u8; 32],
    pub(crate) stop: &'a Stop,
    pub(crate) detach: bool,
    pub(crate) begun: Instant,
    pub(crate) timings: Timings,
}

/// A run whose sessions are over: its ending has this besides the last session.
struct EndedRun {
    ticket: Box<Ticket>,
    identity: Identity,
    verdict: Option<Verdict>,
    /// How often the session was cut and taken up again.
    resumed: u32,
    timings: Timings,
}

impl Run<'_> {
    /// Runs it to its end, or until it can be detached. `judged` was already told to deliver or to attach.
    ///
    /// # Errors
    /// [`DeployError::Failed`]; [`DeployError::Left`].
    pub(crate) async fn run<I, O, E>(
        &self,
        mut judged: Judged<Stream>,
        streams: Streams<I, O, E>,
    ) -> Result<Ending, DeployError>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let released = Instant::now();
        let verdict = judged.verdict.take();
        let identity = *judged.session.identity();
        let ticket = Ticket::new(
            self.way.target,
            self.agreement,
            self.way.contract,
            self.way.key,
            identity,
            self.deployment,
        );
        let terms = Terms {
            way: self.way,
            package: self.delivery.as_ref().map(|delivery| delivery.package),
            stop: self.stop,
            detach: self.detach,
        };
        let mut pump = Pump::new(terms, judged, streams);
        let mut resumed = 0;
        let result = Box::pin(self.sessions(&mut pump, &ticket, &mut resumed)).await;
        if !matches!(result, Ok(End::Complete)) {
            // The application's output up to here is still written. Detaching does not wait for its reader.
            let patience = if matches!(result, Ok(End::Left)) {
                READER_PATIENCE
            } else {
                Duration::from_millis(GOODBYE)
            };
            let _ = timeout(patience, pump.drain()).await;
        }
        let (stdout, stderr) = pump.written();
        let over = EndedRun {
            ticket: Box::new(ticket.at(stdout, stderr)),
            identity,
            verdict,
            resumed,
            timings: self.timings(&pump, released),
        };
        self.ending(pump, result, over)
    }

    /// The phases of the deployment, now that its sessions are over. It was released at `released`.
    fn timings<I, O, E>(&self, pump: &Pump<'_, Stream, I, O, E>, released: Instant) -> Timings {
        let since = |instant: Instant| instant.saturating_duration_since(released);
        Timings {
            transfer: pump.delivered_at.map_or(Duration::ZERO, since),
            first_byte: pump.output_at.map(since),
            exit: pump.exit_at.map(since),
            run: released.elapsed(),
            total: self.begun.elapsed(),
            ..self.timings
        }
    }

    /// Determines how it ended, from the last session and its `result`.
    fn ending<I, O, E>(
        &self,
        pump: Pump<'_, Stream, I, O, E>,
        result: Result<End, Rejection>,
        over: EndedRun,
    ) -> Result<Ending, DeployError> {
        let EndedRun {
            ticket,
            identity,
            verdict,
            resumed,
            timings,
        } = over;
        let host = self.way.target.name();
        let native = pump.session.is_native();
        let started = pump.delivered_at.is_some();
        let exit = pump.last_exit;
        let failed = |rejection, ticket| failed(&host, rejection, started, exit, ticket);
        let end = match result {
            Ok(end) => end,
            // Nobody could attach to native code.
            Err(rejection) => {
                return Err(failed(rejection, (started && !native).then_some(ticket)));
            }
        };
        let left = (!native).then(|| ticket.clone());
        let streams = pump.session.streams();
        let missing_stdout = streams.missing(Output::Stdout);
        let missing_stderr = streams.missing(Output::Stderr);
        match (end, pump.session.finish(), exit) {
            // With `detach` the Keep has answered the goodbye (`Pump::end`). This does not acknowledge a receipt that
            // arrived in the meantime: whoever attaches gets it again.
            (End::Left, Ok(_), _) if self.detach => Ok(Ending::Detached(Box::new(Detached {
                host,
                ticket: *ticket,
                identity,
                verdict,
                agreement: self.agreement.clone(),
                endorsements: pump.held.endorsements,
                passed_over: Vec::new(),
                started: pump.started,
                timings,
            }))),
            (End::Left, ..) if !self.detach && !native => Err(DeployError::Left { host, ticket }),
            (End::Left, ..) if !self.detach => Err(failed(Fault::Cancelled.into(), None)),
            (End::Complete, Ok(Outcome::Complete(receipt)), Some(exit)) => {
                if (missing_stdout, missing_stderr) != (0, 0) {
                    tracing::warn!(
                        host,
                        stdout = missing_stdout,
                        stderr = missing_stderr,
                        "bytes of the output are missing"
                    );
                }
                Ok(Ending::Complete(Box::new(Deployed {
                    passed_over: Vec::new(),
                    endorsements: pump.held.endorsements,
                    host,
                    exit,
                    receipt: *receipt,
                    identity,
                    verdict,
                    receipt_verdict: pump.receipt_verdict,
                    agreement: self.agreement.clone(),
                    deployment: self
                        .delivery
                        .as_ref()
                        .map(|delivery| delivery.deployment.clone()),
                    started: pump.started,
                    resumed,
                    missing_stdout,
                    missing_stderr,
                    timings,
                })))
            }
            (_, Err(refusal), _) => Err(failed(refusal.into(), left)),
            (_, Ok(_), _) => Err(failed(Refusal::Truncated.into(), left)),
        }
    }

    /// Session after session, until one ends by itself or there were enough tries.
    async fn sessions<I, O, E>(
        &self,
        pump: &mut Pump<'_, Stream, I, O, E>,
        ticket: &Ticket,
        resumed: &mut u32,
    ) -> Result<End, Rejection>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let mut tries = Tries::new();
        loop {
            let mut fault = match pump.run().await {
                Ok(end) => return Ok(end),
                Err(fault) => fault,
            };
            if !fault.is_cut() || pump.session.is_native() {
                let checks = std::mem::take(&mut pump.failed_checks);
                return Err(Rejection { fault, checks });
            }
            tries.cut(pump.seen());
            // Output that is not written could not be requested again: with ATTACH the Keep discards it.
            let started = pump.delivered_at.is_some();
            match self.stop.unless_left(pump.drain()).await {
                Ok(()) => {}
                Err(Fault::Cancelled) if started => return Ok(End::Left),
                Err(fault) => return Err(fault.into()),
            }
            // Before the application runs, its Keep may be found without it: then it is delivered again.
            let delivery = self.delivery.as_ref().filter(|_| !pump.has_run());
            let wanted = match delivery {
                Some(_) => Wanted::Either(self.deployment),
                None => Wanted::Running(self.deployment),
            };
            let judged = loop {
                let Some(pause) = tries.next() else {
                    return Err(fault.into());
                };
                tracing::warn!(
                    host = self.way.target.name(),
                    code = fault.code(),
                    %fault,
                    pause_ms = pause.as_millis(),
                    "the session was cut: attaching again"
                );
                let again = async {
                    sleep(pause).await;
                    Box::pin(reopen(self.way, ticket, wanted, &mut Timings::default())).await
                };
                let result = if started {
                    self.stop.unless_left(again).await
                } else {
                    self.stop.unless(again).await
                };
                match result {
                    Ok(judged) => break judged,
                    Err(Rejection {
                        fault: Fault::Cancelled,
                        ..
                    }) if started => return Ok(End::Left),
                    Err(rejection) if rejection.fault.is_cut() => fault = rejection.fault,
                    Err(rejection) => return Err(rejection),
                }
            };
            pump.resume(judged, delivery.map(|delivery| &delivery.deployment))?;
            tries.begun();
            *resumed += 1;
        }
    }
}

/// The failure of a session with `host`, also for the log.
fn failed(
    host: &str,
    rejection: Rejection,
    started: bool,
    exit: Option<Exit>,
    ticket: Option<Box<Ticket>>,
) -> DeployError {
    let Rejection { fault, checks } = rejection;
    tracing::warn!(host, code = fault.code(), %fault, "the session failed");
    DeployError::Failed(Box::new(Failed {
        host: host.to_owned(),
        fault,
        started,
        exit,
        checks,
        ticket,
    }))
}

/// Opens a session with the Keep of a ticket, which has to be in the expected state, and has it judged.
///
/// # Errors
/// [`Rejection`]: nothing but one ATTEST was sent.
pub(crate) async fn reopen(
    way: KeepAccess<'_>,
    ticket: &Ticket,
    wanted: Wanted,
    timings: &mut Timings,
) -> Result<Judged<Stream>, Rejection> {
    let mut lap = Lap(Instant::now());
    let mut manager = Manager::new(way.target);
    // The manager may know why the Keep no longer exists; that it does exist is proved by evidence.
    manager.ready(way.contract).await?;
    timings.connect = lap.take();
    let known = Some(*ticket.identity());
    way.open(&mut manager, (wanted, known), None, &mut lap, timings)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_few_and_restart_with_progress() {
        let mut tries = Tries::new();
        for pause in PAUSES {
            tries.cut(0);
            assert_eq!(tries.next(), Some(Duration::from_millis(pause)));
            tries.begun();
        }
        tries.cut(0);
        assert_eq!(tries.next(), None);
        assert_eq!(tries.next(), None);
        tries.cut(1);
        assert_eq!(tries.next(), Some(Duration::from_millis(PAUSES[0])));
    }
}
