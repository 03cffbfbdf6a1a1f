// SPDX-License-Identifier: Apache-2.0

//! Opening a session with the Keep of a contract: through the manager, over TLS, to its evidence and the
//! verdict over it. Everyone on the path is hostile, and the Keep is not trusted until the verdict.

use crate::certificates;
use crate::clock::{Clock, unix_seconds};
use crate::endorser::Endorser;
use crate::fault::Fault;
use crate::judge::Judge;
use crate::line::Stream;
use crate::manager::Manager;
use crate::random::random;
use crate::target::Target;
use crate::timings::Timings;
use crate::trust::Trust;
use crate::wire::Wire;
use enarx_attestation::{Check, Endorsements, Timestamp, Verdict};
use enarx_contract::{Contract, Tee};
use enarx_session::tenant::{
    Channel, Event, Identity, InsecureUnattested, Released, Session, Unjudged, Wanted,
};
use enarx_session::{Moment, Refusal};
use enarx_tls::Key;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

/// Time for the TLS handshake with the Keep.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The reason why there is no session.
pub(crate) struct Rejection {
    pub(crate) fault: Fault,
    /// The checks of the verifier that failed.
    pub(crate) checks: Vec<Check>,
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

/// A clock for phases: each call gives the time since the last one.
pub(crate) struct Lap(pub(crate) Instant);

impl Lap {
    pub(crate) fn take(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

/// The certificates at hand, and of whom.
pub(crate) struct Held {
    pub(crate) endorser: Option<Endorser>,
    pub(crate) endorsements: Endorsements,
}

/// A session after the verdict.
pub(crate) struct Judged<S> {
    pub(crate) wire: Wire<S>,
    pub(crate) session: Session<Released>,
    pub(crate) held: Held,
    /// `None`: the tenant took a Keep without evidence.
    pub(crate) verdict: Option<Verdict>,
}

/// The Keep of a contract at a host, and the tenant's criteria for it.
#[derive(Clone, Copy)]
pub(crate) struct KeepAccess<'a> {
    pub(crate) target: &'a Target,
    pub(crate) key: &'a Key,
    pub(crate) trust: &'a Trust,
    pub(crate) contract: &'a Contract,
    /// The tenant's permission for a Keep without a TEE.
    pub(crate) unattested: Option<InsecureUnattested>,
    /// One clock for all sessions with this Keep.
    pub(crate) clock: Clock,
}

impl KeepAccess<'_> {
    /// Opens a session with the Keep and has its evidence judged. `known` is the Keep of an earlier session,
    /// `endorser` the one that the report will name according to the host: its certificates are requested
    /// while the report is made.
    ///
    /// # Errors
    /// [`Rejection`]: nothing but one ATTEST was sent.
    pub(crate) async fn open(
        &self,
        manager: &mut Manager<'_>,
        (wanted, known): (Wanted, Option<Identity>),
        endorser: Option<Endorser>,
        lap: &mut Lap,
        timings: &mut Timings,
    ) -> Result<Judged<Stream>, Rejection> {
        let stream = manager.relay(self.contract).await?;
        let mut wire = Wire::tenant(stream, self.key)?;
        let facts = timeout(HANDSHAKE, wire.handshake())
            .await
            .map_err(|_| Refusal::Timeout("TLS handshake"))??;
        timings.handshake = lap.take();
        let channel = Channel {
            keep: facts.peer,
            tenant: facts.own,
            exporter: facts.exporter,
        };
        let (contract, now) = (self.contract.clone(), self.clock.now());
        let mut session = Session::attest(contract, channel, wanted, known, random()?, now);
        let until = self.clock.instant(session.deadline());
        let evidence = async {
            timeout_at(until, evidence(&mut wire, &mut session))
                .await
                .map_err(|_| Refusal::Timeout("EVIDENCE"))?
        };
        let asking = async {
            Ok(match endorser {
                Some(endorser) => Some(certificates::ask(manager, self.trust, endorser).await),
                None => None,
            })
        };
        let ((), asked) = tokio::try_join!(evidence, asking)?;
        timings.evidence = lap.take();
        let report = session.report().unwrap_or_default();
        let endorser = Endorser::of(report);
        // Without a readable report there is nothing to ask for; the verifier says so.
        let endorsements = match endorser {
            Some(endorser) => {
                let tee = self.contract.terms().platform.tee;
                let found = certificates::find(manager, self.trust, tee, report, endorser, asked);
                Box::pin(found).await?
            }
            None => Endorsements::default(),
        };
        let held = Held {
            endorser,
            endorsements,
        };
        let (session, verdict) = self.judge(session, &held)?;
        timings.verdict = lap.take();
        Ok(Judged {
            wire,
            session,
            held,
            verdict,
        })
    }

    /// Has the evidence judged, or uses the tenant's permission if there can be none.
    fn judge(
        &self,
        session: Session<Unjudged>,
        held: &Held,
    ) -> Result<(Session<Released>, Option<Verdict>), Rejection> {
        let now = self.clock.now();
        if let (Tee::None, Some(word)) = (self.contract.terms().platform.tee, self.unattested) {
            tracing::warn!(
                host = self.target.name(),
                "nothing proves what this Keep is: its host can read everything"
            );
            return Ok((session.accept_unattested(word, now)?, None));
        }
        let judge = self.judge_by(&held.endorsements)?;
        let age = u64::try_from(self.trust.max_age.as_millis()).unwrap_or(u64::MAX);
        match session.judge(&judge, now, age) {
            Ok(session) => Ok((session, judge.into_verdict())),
            Err(refusal) => Err(Rejection {
                fault: refusal.into(),
                checks: judge.failed_checks(),
            }),
        }
    }

    /// The judge of this Keep's evidence, now.
    ///
    /// # Errors
    /// [`Fault::Clock`].
    pub(crate) fn judge_by<'b>(
        &'b self,
        endorsements: &'b Endorsements,
    ) -> Result<Judge<'b>, Fault> {
        let at = Timestamp(unix_seconds()?);
        let mut judge = Judge::new(self.trust, endorsements, at);
        let terms = self.contract.terms();
        judge.tee = Some(terms.platform.tee);
        judge.measurement = terms.image.as_ref().map(|image| image.measurement.0);
        Ok(judge)
    }
}

/// Sends ATTEST, and receives frames up to EVIDENCE.
async fn evidence<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Unjudged>,
) -> Result<(), Fault> {
    std::future::poll_fn(|cx| {
        let count = wire.write(session.outgoing());
        session.sent(count);
        loop {
            // The answer shows that all of it was sent.
            let _ = wire.poll_send(cx);
            if !std::task::ready!(wire.poll_plaintext(cx)?) {
                return Poll::Ready(Err(Refusal::Truncated.into()));
            }
            let plaintext = wire.plaintext();
            let mut rest = plaintext;
            let result = session.receive(&mut rest);
            let taken = plaintext.len().saturating_sub(rest.len());
            wire.consume(taken);
            if result? {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Judged<S> {
    /// Sends the session's pending frames, its goodbye last, and waits for the answer to it. The Keep
    /// processes frames in order, so everything before has reached it then.
    ///
    /// # Errors
    /// [`Fault`]; [`Refusal::Truncated`] without the answer.
    pub(crate) async fn leave(&mut self, clock: Clock, until: Moment) -> Result<(), Fault> {
        self.session.bye();
        let Self { wire, session, .. } = self;
        let answer = std::future::poll_fn(|cx| {
            loop {
                let now = clock.now();
                let count = wire.write(session.outgoing(now)?);
                session.sent(count);
                // The answer shows that all of it was sent.
                let _ = wire.poll_send(cx);
                if !std::task::ready!(wire.poll_plaintext(cx)?) {
                    return Poll::Ready(Err(Fault::from(Refusal::Truncated)));
                }
                let plaintext = wire.plaintext();
                let mut rest = plaintext;
                let event = session.receive(&mut rest, now);
                let answered = event.map(|event| matches!(event, Some(Event::Bye)));
                let taken = plaintext.len().saturating_sub(rest.len());
                wire.consume(taken);
                if answered? {
                    wire.close();
                    let _ = wire.poll_send(cx);
                    return Poll::Ready(Ok(()));
                }
            }
        });
        timeout_at(clock.instant(until), answer)
            .await
            .map_err(|_| Refusal::Timeout("answer to the goodbye"))?
    }
}
