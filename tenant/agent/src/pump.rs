// SPDX-License-Identifier: Apache-2.0

//! A released session until its end: delivers the parts, moves the streams, asks for evidence again before the verdict
//! expires, judges the receipt, and says goodbye. The Keep is trusted as far as the verdict goes, the wire not at all.

use crate::certificates;
use crate::endorser::Endorser;
use crate::fault::Fault;
use crate::manager::Manager;
use crate::opening::{Held, Judged, KeepAccess};
use crate::order::Package;
use crate::random::random;
use crate::stop::Stop;
use crate::streams::{Sink, Source, Streams};
use crate::wire::Wire;
use enarx_attestation::{Check, Endorsements, Verdict};
use enarx_session::binding::State;
use enarx_session::deployment::Deployment;
use enarx_session::document::{Exit, Started};
use enarx_session::keep::Output;
use enarx_session::receipt::{Claims, Receipt};
use enarx_session::tenant::{self, Event, Released, Session};
use enarx_session::{Moment, Refusal, time};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// Milliseconds to wait for the Keep's answer to a goodbye: everything is settled by then, so little is lost.
pub(crate) const GOODBYE: u64 = 5_000;

/// Fraction of a verdict's validity after which evidence is requested again: the rest is far more than a throttled
/// host needs.
const REATTEST_AFTER: (u64, u64) = (3, 4);

/// Everything that a session needs besides itself.
pub(crate) struct Terms<'a> {
    pub(crate) way: KeepAccess<'a>,
    /// The parts to deliver; `None`: they were delivered before.
    pub(crate) package: Option<&'a Package>,
    pub(crate) stop: &'a Stop,
    /// Leave as soon as the application runs. Its input stays open, and none of its output is acknowledged.
    pub(crate) detach: bool,
}

/// A report that waits to be judged.
enum Pending {
    /// New evidence.
    Evidence(Vec<u8>),
    /// The report over a receipt.
    Receipt(Vec<u8>, Box<Receipt>),
}

impl Pending {
    fn report(&self) -> &[u8] {
        match self {
            Self::Evidence(report) | Self::Receipt(report, _) => report,
        }
    }
}

type Fetch = Pin<Box<dyn Future<Output = Result<Endorsements, Fault>> + Send>>;

/// How a goodbye was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// Everything is stored.
    Complete,
    /// The application may run on.
    Leave,
}

/// How a session ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The receipt is there, and everything that it covers.
    Complete,
    /// The tenant left.
    Left,
}

/// A released session.
pub(crate) struct Pump<'a, S, I, O, E> {
    terms: Terms<'a>,
    wire: Wire<S>,
    pub(crate) session: Session<Released>,
    pub(crate) held: Held,
    stdin: Source<I>,
    stdout: Sink<O>,
    stderr: Sink<E>,
    pending: VecDeque<Pending>,
    fetch: Option<Fetch>,
    reattest_at: Moment,
    stops: u32,
    goodbye: Option<(Goodbye, Moment)>,
    /// The Keep answered the goodbye.
    answered: bool,
    /// Nothing more comes.
    closed: bool,
    receipt: bool,
    timer: Pin<Box<Sleep>>,
    /// The end of the application, as the Keep says in this session.
    exit: Option<Exit>,
    /// The same, in any session.
    pub(crate) last_exit: Option<Exit>,
    /// The phases of its start, as the Keep says.
    pub(crate) started: Option<Started>,
    /// The verdict over the receipt's report.
    pub(crate) receipt_verdict: Option<Verdict>,
    /// The checks that failed, when that ended the session.
    pub(crate) failed_checks: Vec<Check>,
    /// When START was handed to TLS, or the beginning for an application that ran before.
    pub(crate) delivered_at: Option<Instant>,
    /// When the first byte of output came.
    pub(crate) output_at: Option<Instant>,
    /// When the Keep first said how the application ended.
    pub(crate) exit_at: Option<Instant>,
}

impl<'a, S, I, O, E> Pump<'a, S, I, O, E>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    pub(crate) fn new(terms: Terms<'a>, judged: Judged<S>, streams: Streams<I, O, E>) -> Self {
        let Judged {
            wire,
            session,
            held,
            ..
        } = judged;
        let clock = terms.way.clock;
        let now = clock.now();
        let timer = Box::pin(tokio::time::sleep_until(clock.instant(now)));
        let reattest_at = reattest_at(&session, now);
        let delivered_at = (session.state() == State::Provisioned).then(Instant::now);
        Self {
            terms,
            wire,
            session,
            held,
            stdin: Source::new(streams.stdin),
            stdout: Sink::new(streams.stdout),
            stderr: Sink::new(streams.stderr),
            pending: VecDeque::new(),
            fetch: None,
            reattest_at,
            stops: 0,
            goodbye: None,
            answered: false,
            closed: false,
            receipt: false,
            timer,
            exit: None,
            last_exit: None,
            started: None,
            receipt_verdict: None,
            failed_checks: Vec::new(),
            delivered_at,
            output_at: None,
            exit_at: None,
        }
    }

    /// Runs the session to its end.
    ///
    /// # Errors
    /// [`Fault`]: the session is over, without success. The output that came is for [`Self::drain`].
    pub(crate) async fn run(&mut self) -> Result<End, Fault> {
        let result = std::future::poll_fn(|cx| self.poll(cx)).await;
        if result.is_ok() {
            self.wire.close();
            let wire = &mut self.wire;
            // A courtesy: nothing depends on it.
            let farewell = std::future::poll_fn(|cx| wire.poll_send(cx));
            let _ = tokio::time::timeout(Duration::from_millis(GOODBYE), farewell).await;
        }
        result
    }

    /// Goes on with the same application over a new session. Whatever output came before must have been written. To a Keep
    /// that does not have the application, `deployment` is delivered again.
    ///
    /// # Errors
    /// [`Fault`]: nothing was sent.
    pub(crate) fn resume(
        &mut self,
        judged: Judged<S>,
        deployment: Option<&Deployment>,
    ) -> Result<(), Fault> {
        let now = self.terms.way.clock.now();
        let Judged {
            wire,
            session,
            held,
            ..
        } = judged;
        // Attaching would refuse too, but take the streams with it.
        if now >= session.expires() {
            return Err(Refusal::MaxAge.into());
        }
        let before = std::mem::replace(&mut self.session, session);
        match (self.session.state(), deployment) {
            (State::Unprovisioned, Some(deployment)) => {
                let streams = before.into_streams();
                self.session.release_again(deployment, streams, now)?;
            }
            _ if self.terms.detach => self.session.attach(tenant::Streams::after(0, 0), now)?,
            _ => self.session.attach(before.into_streams(), now)?,
        }
        self.wire = wire;
        self.held = held;
        self.pending.clear();
        self.fetch = None;
        self.reattest_at = reattest_at(&self.session, now);
        // A wish to end may not have reached the Keep: it is said again.
        self.stops = 0;
        self.goodbye = None;
        self.answered = false;
        self.closed = false;
        self.receipt = false;
        self.exit = None;
        Ok(())
    }

    /// Writes the output that is there.
    ///
    /// # Errors
    /// [`Fault::Output`].
    pub(crate) async fn drain(&mut self) -> Result<(), Fault> {
        std::future::poll_fn(|cx| {
            self.stdout.poll(cx)?;
            self.stderr.poll(cx)?;
            if self.stdout.is_done() && self.stderr.is_done() {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    /// True if the application has shown that it runs.
    pub(crate) fn has_run(&self) -> bool {
        self.started.is_some() || self.last_exit.is_some() || self.seen() > 0
    }

    /// Bytes of output that have come.
    pub(crate) fn seen(&self) -> u64 {
        let streams = self.session.streams();
        let (stdout, stderr) = (streams.seen(Output::Stdout), streams.seen(Output::Stderr));
        stdout.saturating_add(stderr)
    }

    /// Bytes of standard output and standard error that are written, those before this program included.
    pub(crate) fn written(&self) -> (u64, u64) {
        if self.terms.detach {
            return (0, 0);
        }
        let streams = self.session.streams();
        let written = |output, open| streams.seen(output).saturating_sub(open);
        (
            written(Output::Stdout, self.stdout.open()),
            written(Output::Stderr, self.stderr.open()),
        )
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Fault>> {
        loop {
            let now = self.terms.way.clock.now();
            let mut moved = self.apply_stop(cx, now)?;
            moved |= self.receive(cx, now)?;
            moved |= self.judge(cx, now)?;
            moved |= self.reattest(now)?;
            if self.session.state() == State::Provisioned && self.exit.is_none() {
                moved |= self.stdin.poll(&mut self.session, now, cx)?;
            }
            moved |= self.write(cx)?;
            moved |= self.say_goodbye(now);
            moved |= self.send(cx, now)?;
            if let Some(end) = self.end(now)? {
                return Poll::Ready(Ok(end));
            }
            match self.goodbye {
                None => self.session.tick(now)?,
                Some((_, until)) if self.terms.detach && now >= until => {
                    return Poll::Ready(Err(Refusal::Timeout("answer to the goodbye").into()));
                }
                Some(_) => {}
            }
            if !moved && !self.is_due(cx, now) {
                return Poll::Pending;
            }
        }
    }

    /// Heeds the tenant's wish to end.
    fn apply_stop(&mut self, cx: &Context<'_>, now: Moment) -> Result<bool, Fault> {
        let requests = self.terms.stop.poll_requests(cx);
        if requests == self.stops || self.goodbye.is_some() {
            return Ok(false);
        }
        let first = self.stops == 0;
        self.stops = requests;
        if first {
            if self.session.state() == State::Unprovisioned {
                return Err(Fault::Cancelled);
            }
            let grace = self.terms.stop.grace().as_millis();
            let grace = u32::try_from(grace).unwrap_or(time::MAX_GRACE);
            tracing::info!(grace_ms = grace, "asking the application to end");
            self.session.stop(grace)?;
        }
        if requests > 1 {
            tracing::info!("leaving");
            // A receipt must not be acknowledged whose output has not been written: the Keep would forget it.
            if !self.receipt {
                self.session.bye();
            }
            self.goodbye = Some((Goodbye::Leave, now.after(GOODBYE)));
        }
        Ok(true)
    }

    /// Receives from the Keep.
    fn receive(&mut self, cx: &mut Context<'_>, now: Moment) -> Result<bool, Fault> {
        let mut moved = false;
        while !self.closed {
            match self.wire.poll_plaintext(cx)? {
                Poll::Pending => break,
                Poll::Ready(false) => self.closed = true,
                Poll::Ready(true) => self.take(now)?,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Hands one frame of the plaintext, or a part of one, to the session.
    fn take(&mut self, now: Moment) -> Result<(), Fault> {
        let plaintext = self.wire.plaintext();
        let mut rest = plaintext;
        let event = self.session.receive(&mut rest, now);
        let taken = plaintext.len().saturating_sub(rest.len());
        match event? {
            None | Some(Event::Handled | Event::Attached | Event::OutputEnd(_)) => {}
            Some(Event::Started(started)) => {
                tracing::debug!("the application runs");
                let order = self.terms.package.map(Package::order);
                if let Some(tell) = order.and_then(|order| order.started.as_ref())
                    && self.started.is_none()
                {
                    tell(&self.terms.way.target.name());
                }
                self.started = Some(started);
                if self.terms.detach && self.goodbye.is_none() {
                    // Before anything else is taken: a goodbye after the receipt would acknowledge it.
                    self.session.bye();
                    self.goodbye = Some((Goodbye::Leave, now.after(GOODBYE)));
                }
            }
            Some(Event::Output(output, bytes)) => {
                self.output_at.get_or_insert_with(Instant::now);
                match output {
                    Output::Stdout => self.stdout.push(bytes),
                    Output::Stderr => self.stderr.push(bytes),
                }
            }
            Some(Event::Evidence) => {
                let report = self.session.report().unwrap_or_default().to_vec();
                self.pending.push_back(Pending::Evidence(report));
            }
            Some(Event::Exit(exit)) => {
                tracing::debug!(kind = ?exit.kind, code = exit.code, "the application has ended");
                self.exit_at.get_or_insert_with(Instant::now);
                self.exit = Some(exit);
                self.last_exit = Some(exit);
            }
            Some(Event::Receipt(receipt)) => {
                self.receipt = true;
                if let Some(report) = &receipt.report {
                    let report = report.0.clone();
                    let receipt = Box::new(receipt.clone());
                    self.pending.push_back(Pending::Receipt(report, receipt));
                }
            }
            Some(Event::Bye) => self.answered = true,
        }
        self.wire.consume(taken);
        Ok(())
    }

    /// Judges what waits to be judged, one after the other, with certificates of its chip and TCB version.
    fn judge(&mut self, cx: &mut Context<'_>, now: Moment) -> Result<bool, Fault> {
        let mut moved = false;
        while let Some(pending) = self.pending.front() {
            let endorser = Endorser::of(pending.report());
            let at_hand = endorser.is_some() && endorser == self.held.endorser;
            let enough = at_hand && matches!(pending, Pending::Receipt(..));
            if let (false, Some(wanted)) = (enough, endorser) {
                let fetch = self.fetch.get_or_insert_with(|| {
                    let KeepAccess {
                        target,
                        trust,
                        contract,
                        ..
                    } = self.terms.way;
                    let (target, trust) = (target.clone(), trust.clone());
                    let tee = contract.terms().platform.tee;
                    let report = pending.report().to_vec();
                    Box::pin(async move {
                        let mut manager = Manager::new(&target);
                        certificates::find(&mut manager, &trust, tee, &report, wanted, None).await
                    })
                });
                let Poll::Ready(result) = fetch.as_mut().poll(cx) else {
                    break;
                };
                self.fetch = None;
                match result {
                    Ok(endorsements) => {
                        self.held = Held {
                            endorser,
                            endorsements,
                        };
                    }
                    // The verifier says whether those at hand are still good.
                    Err(fault) if at_hand => {
                        tracing::warn!(%fault, "no newer certificates, judging by those at hand");
                    }
                    Err(fault) => return Err(fault),
                }
            }
            let Some(pending) = self.pending.pop_front() else {
                break;
            };
            moved = true;
            let judge = self.terms.way.judge_by(&self.held.endorsements)?;
            let result = match &pending {
                Pending::Evidence(_) => self.session.judge_again(&judge, now),
                // Without a TEE there is no verdict that a report could be under.
                Pending::Receipt(..) if !self.session.is_attested() => Ok(()),
                Pending::Receipt(_, receipt) => {
                    let claims = Claims {
                        contract: Some(self.terms.way.contract),
                        precompiled: self.session.is_native(),
                        ..Claims::default()
                    };
                    receipt.verify(&judge, &claims)
                }
            };
            if let Err(refusal) = result {
                self.failed_checks = judge.failed_checks();
                return Err(refusal.into());
            }
            match pending {
                Pending::Evidence(_) => {
                    tracing::info!("attested again");
                    self.reattest_at = reattest_at(&self.session, now);
                }
                Pending::Receipt(..) => self.receipt_verdict = judge.into_verdict(),
            }
        }
        Ok(moved)
    }

    /// Asks for evidence again before the verdict expires.
    fn reattest(&mut self, now: Moment) -> Result<bool, Fault> {
        let over = self.goodbye.is_some() || self.exit.is_some() || self.closed;
        let cannot = self.session.is_native() || !self.session.is_attested();
        if over || cannot || now < self.reattest_at {
            return Ok(false);
        }
        self.session.reattest(random()?, now)?;
        // Set again by the next verdict; without one the session's own time limits end it.
        self.reattest_at = Moment(u64::MAX);
        Ok(true)
    }

    /// Writes output, and acknowledges it to the Keep.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let (through, moved) = self.stdout.poll(cx)?;
        self.session.consumed(Output::Stdout, through);
        let (through, also) = self.stderr.poll(cx)?;
        self.session.consumed(Output::Stderr, through);
        Ok(moved || also)
    }

    /// True if the receipt is there and judged, and all output is written.
    fn is_complete(&self) -> bool {
        self.receipt && self.pending.is_empty() && self.stdout.is_done() && self.stderr.is_done()
    }

    fn say_goodbye(&mut self, now: Moment) -> bool {
        if self.goodbye.is_some() || !self.is_complete() {
            return false;
        }
        self.session.bye();
        self.goodbye = Some((Goodbye::Complete, now.after(GOODBYE)));
        true
    }

    /// Sends pending frames.
    fn send(&mut self, cx: &mut Context<'_>, now: Moment) -> Result<bool, Fault> {
        let mut moved = false;
        loop {
            let full = loop {
                if let Some((part, offset, room)) = self.session.wanted(now) {
                    let package = self.terms.package;
                    let bytes = package.map_or(&[][..], |package| package.part(part));
                    let from = usize::try_from(offset).unwrap_or(usize::MAX);
                    let rest = bytes.get(from..).unwrap_or_default();
                    let chunk = rest.get(..room.min(rest.len())).unwrap_or_default();
                    self.session.supply(chunk, now)?;
                }
                let bytes = self.session.outgoing(now)?;
                if bytes.is_empty() {
                    break false;
                }
                let count = self.wire.write(bytes);
                if count == 0 {
                    break true;
                }
                self.session.sent(count);
                moved = true;
            };
            if self.delivered_at.is_none() && self.session.state() == State::Provisioned {
                self.delivered_at = Some(Instant::now());
            }
            let drained = self.wire.poll_send(cx).is_ready();
            if !drained || !full || self.wire.is_broken() {
                return Ok(moved);
            }
        }
    }

    /// The end, if it has come.
    fn end(&self, now: Moment) -> Result<Option<End>, Fault> {
        if self.terms.detach && self.goodbye.is_some() {
            // Without an answer, it means nothing.
            return match (self.answered, self.closed) {
                (true, _) => Ok(Some(End::Left)),
                (_, true) => Err(Refusal::Truncated.into()),
                _ => Ok(None),
            };
        }
        if let Some((goodbye, until)) = self.goodbye {
            // If the tenant detaches, a receipt is not waited for.
            let unsaid = goodbye == Goodbye::Leave && self.receipt;
            let over = self.answered || self.closed || unsaid || now >= until;
            return Ok(over.then_some(match goodbye {
                Goodbye::Complete => End::Complete,
                Goodbye::Leave => End::Left,
            }));
        }
        if self.closed && !self.receipt {
            return Err(Refusal::Truncated.into());
        }
        Ok(None)
    }

    /// True if a time is over that something waits for; otherwise the task is woken then.
    fn is_due(&mut self, cx: &mut Context<'_>, now: Moment) -> bool {
        let next = match self.goodbye {
            Some((_, until)) => until,
            None if self.session.is_native() => self.session.deadline(),
            None => self.session.deadline().min(self.reattest_at),
        };
        // Later than now, whatever a deadline says: no busy loop.
        let next = next.max(now.after(1));
        self.timer
            .as_mut()
            .reset(self.terms.way.clock.instant(next));
        self.timer.as_mut().poll(cx).is_ready()
    }
}

/// When to ask for evidence again after a verdict at `now`.
fn reattest_at(session: &Session<Released>, now: Moment) -> Moment {
    let (part, whole) = REATTEST_AFTER;
    let age = session.expires().since(now);
    // Not more often than a Keep gives reports.
    now.after((age / whole * part).max(time::BETWEEN_REPORTS))
}
