// SPDX-License-Identifier: Apache-2.0

//! An application that already runs, found by its ticket. Hosts and Keeps are no more trusted than before: every
//! session has its own verdict, and the Keep has to be the known one with the known deployment.

use crate::clock::Clock;
use crate::ending::{Deployed, Ending};
use crate::error::{DeployError, Failed};
use crate::fault::Fault;
use crate::manager::Manager;
use crate::opening::{KeepAccess, Rejection};
use crate::pump::GOODBYE;
use crate::run::{Run, reopen};
use crate::stop::Stop;
use crate::streams::Streams;
use crate::target::Target;
use crate::ticket::Ticket;
use crate::timings::Timings;
use crate::trust::Trust;
use enarx_session::keep::Output;
use enarx_session::tenant::{self, Wanted};
use enarx_session::time;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A fault before reaching an application that runs, or may run.
fn failed(ticket: &Ticket, rejection: Rejection) -> DeployError {
    let Rejection { fault, checks } = rejection;
    DeployError::Failed(Box::new(Failed {
        host: ticket.host(),
        fault,
        started: true,
        exit: None,
        checks,
        ticket: Some(Box::new(ticket.clone())),
    }))
}

fn way<'a>(ticket: &'a Ticket, target: &'a Target, trust: &'a Trust) -> KeepAccess<'a> {
    KeepAccess {
        target,
        key: ticket.key(),
        trust,
        contract: ticket.contract(),
        unattested: ticket.unattested(),
        clock: Clock::start(),
    }
}

/// The expected state of a ticket's Keep.
fn wanted(ticket: &Ticket) -> Wanted {
    Wanted::Running(*ticket.deployment())
}

/// Attaches to the application of a ticket, and stays with it to its end.
///
/// The Keep's evidence is judged, and it has to be the Keep of the ticket, running the ticket's deployment. Output
/// continues after the bytes that the ticket records as received, standard input after those that the Keep has. This
/// ends an older session with the application. A session that is cut is resumed as in [`crate::deploy`].
///
/// In the result's [`Timings`], contract and launch are zero; `connect` includes asking for the Keep's state; times
/// from RELEASE on count from ATTACH.
///
/// # Errors
/// [`DeployError::Failed`], with the ticket for the next attempt to attach, whose numbers may be larger; its fault
/// concerns evidence ([`Fault::is_evidence_refusal`]) if the Keep is a different one or does not pass the policy.
/// [`DeployError::Left`]; [`DeployError::Cancelled`] if the end was requested before the application was reached: the
/// application continues.
pub async fn attach<I, O, E>(
    ticket: &Ticket,
    token: Zeroizing<String>,
    trust: &Trust,
    streams: Streams<I, O, E>,
    stop: &Stop,
) -> Result<Deployed, DeployError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    trust.policy.check()?;
    let target = ticket
        .target(token)
        .map_err(|fault| failed(ticket, fault.into()))?;
    let begun = Instant::now();
    let mut timings = Timings::default();
    let way = way(ticket, &target, trust);
    let work = Box::pin(stop.unless(reopen(way, ticket, wanted(ticket), &mut timings)));
    let mut judged = match work.await {
        Ok(judged) => judged,
        Err(Rejection {
            fault: Fault::Cancelled,
            ..
        }) => return Err(DeployError::Cancelled),
        Err(rejection) => return Err(failed(ticket, rejection)),
    };
    tracing::info!(host = ticket.host(), "the Keep is accepted");
    let received = tenant::Streams::after(
        ticket.received(Output::Stdout),
        ticket.received(Output::Stderr),
    );
    judged
        .session
        .attach(received, way.clock.now())
        .map_err(|refusal| failed(ticket, refusal.into()))?;
    let run = Run {
        way,
        agreement: ticket.agreement(),
        delivery: None,
        deployment: *ticket.deployment(),
        stop,
        detach: false,
        begun,
        timings,
    };
    match Box::pin(run.run(judged, streams)).await? {
        Ending::Complete(deployed) => Ok(*deployed),
        // It occurs only after a request to detach.
        Ending::Detached(detached) => Err(DeployError::Left {
            host: detached.host,
            ticket: Box::new(detached.ticket),
        }),
    }
}

/// Asks the application of a ticket to end, and its Keep to end it after `grace`, at most 10 minutes. Its streams
/// stay with whoever is attached. When this returns, the Keep has received the request (or had one before, if the
/// application has ended).
///
/// # Errors
/// [`DeployError::Policy`]; [`DeployError::Failed`]: the Keep may not have the wish. It may be said again.
pub async fn stop_keep(
    ticket: &Ticket,
    token: Zeroizing<String>,
    trust: &Trust,
    grace: Duration,
) -> Result<(), DeployError> {
    trust.policy.check()?;
    let work = async {
        let target = ticket.target(token)?;
        let way = way(ticket, &target, trust);
        let mut timings = Timings::default();
        let opening = Box::pin(reopen(way, ticket, wanted(ticket), &mut timings));
        let mut judged = opening.await?;
        let grace = u32::try_from(grace.as_millis()).unwrap_or(time::MAX_GRACE);
        judged.session.stop(grace)?;
        let until = way.clock.now().after(GOODBYE);
        judged.leave(way.clock, until).await?;
        Ok::<_, Rejection>(())
    };
    Box::pin(work)
        .await
        .map_err(|rejection| failed(ticket, rejection))
}

/// Asks the host to end the Keep of a ticket, at once and with everything in it. Nothing proves that the host does
/// so, and no evidence is requested: the host could end the Keep at any time anyway.
///
/// # Errors
/// [`DeployError::Failed`] when the host's manager does not take the request.
pub async fn end_keep(ticket: &Ticket, token: Zeroizing<String>) -> Result<(), DeployError> {
    let target = ticket.target(token);
    let target = target.map_err(|fault| failed(ticket, fault.into()))?;
    end_keep_at(ticket, &target).await
}

/// As [`end_keep`], at its host as `target` names it.
///
/// # Errors
/// As [`end_keep`].
pub async fn end_keep_at(ticket: &Ticket, target: &Target) -> Result<(), DeployError> {
    let mut manager = Manager::new(target);
    Box::pin(manager.end(ticket.contract()))
        .await
        .map_err(|fault| failed(ticket, fault.into()))
}
