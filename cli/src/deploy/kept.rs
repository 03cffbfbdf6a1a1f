// SPDX-License-Identifier: Apache-2.0

//! Deployments that failed: the ticket of a program that may run on is kept, and the failure says how it is reached.

use enarx_agent::{DeployError, Ending, Fault, Target, Ticket, end_keep_at};
use enarx_session::Refusal;
use enarx_session::binding::State;

use crate::failure::{Exit, Failure};
use crate::summary::Summary;
use crate::tickets;

/// Stores the ticket of a program that continues, or may continue, to run. If that fails nobody could reach
/// it, so it is ended.
///
/// # Errors
/// [`Exit::Output`], with the name `ticket.lost`.
pub async fn keep_ticket(
    result: &Result<Ending, DeployError>,
    targets: &[Target],
    summary: &mut Summary,
) -> Result<(), Failure> {
    let (ticket, before) = match result {
        Ok(Ending::Detached(detached)) => (&detached.ticket, String::new()),
        Ok(Ending::Complete(_)) => return Ok(()),
        Err(error) => match ticket(error) {
            Some(ticket) => (ticket, format!("{error}; ")),
            None => return Ok(()),
        },
    };
    let Err(failure) = tickets::save(ticket) else {
        return Ok(());
    };
    let host = ticket.host();
    let what = match targets.iter().find(|target| target.name() == host) {
        Some(target) => match end_keep_at(ticket, target).await {
            Ok(()) => "so the program was ended".to_owned(),
            Err(error) => format!("and the program may still run, because {error}"),
        },
        None => format!("and the program may still run at {host}"),
    };
    if let Err(error) = result {
        summary.failed(error, None);
    }
    let sentence = format!("{before}{}, {what}", failure.sentence);
    Err(Failure::of(Exit::Output, sentence).named("ticket.lost"))
}

/// The ticket of a deployment that may run on.
fn ticket(error: &DeployError) -> Option<&Ticket> {
    match error {
        DeployError::Failed(failed) => failed.ticket.as_deref(),
        DeployError::Left { ticket, .. } => Some(ticket),
        _ => None,
    }
}

/// The ticket of a deployment that failed, kept for the next command.
pub enum Kept {
    /// There is none.
    Nothing,
    /// It has this name.
    Under(String),
    /// The one with this name could not be kept, for this reason.
    Lost(String, String),
    /// The host was this command: nothing runs on without it.
    Over,
}

impl Kept {
    /// Keeps the ticket, if the application may run on.
    pub fn of(error: &DeployError) -> Self {
        match ticket(error) {
            None => Self::Nothing,
            Some(ticket) => match tickets::save(ticket) {
                Ok(name) => Self::Under(name),
                Err(failure) => Self::Lost(tickets::name(ticket), failure.sentence),
            },
        }
    }

    /// The same where the host is this command and ends with it.
    pub fn of_local(error: &DeployError) -> Self {
        ticket(error).map_or(Self::Nothing, |_| Self::Over)
    }

    /// The name by which the deployment is found again.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Under(name) => Some(name),
            Self::Nothing | Self::Lost(..) | Self::Over => None,
        }
    }

    /// The end of a sentence about a failure: whether the program may run on, and how it is reached then.
    pub fn rest(&self, error: &DeployError) -> String {
        match (self, error) {
            (Self::Under(name), error) if is_unused(error) => format!(
                "; the Keep says that it has no application, so the end of the delivery may never have reached it: \
                `enarx keeps end {name}` ends it; then deploy again"
            ),
            (Self::Under(name), DeployError::Failed(failed)) if matches!(failed.fault, Fault::KeepEnded(_)) => format!(
                "; that is only the host's claim, and the program may have run: `enarx attach {name}` asks it again, \
                `enarx keeps end {name}` forgets the program"
            ),
            (Self::Under(name), _) => format!(
                "; the program may have run, and may still run: `enarx attach {name}` continues with it, `enarx stop {name}` ends it"
            ),
            (Self::Lost(name, why), _) => format!(
                "; the program may have run, and may still run: `enarx stop {name}` ends it, if there is an earlier ticket; {why}"
            ),
            (Self::Over, _) => {
                "; the program may have run, and has ended with this command, which was also its host"
                    .to_owned()
            }
            (Self::Nothing, DeployError::Failed(failed)) if failed.started => {
                "; the program is native code, to which nobody can attach, so it has ended with the session".to_owned()
            }
            (Self::Nothing, DeployError::Failed(_)) => "; nothing ran".to_owned(),
            (Self::Nothing, _) => String::new(),
        }
    }
}

/// True if an application was delivered to a Keep that says it has none. Nothing proves this or the
/// contrary.
fn is_unused(error: &DeployError) -> bool {
    let DeployError::Failed(failed) = error else {
        return false;
    };
    matches!(
        failed.fault,
        Fault::Session(Refusal::State(State::Unprovisioned))
    )
}

/// Has the ticket of a deployment that failed kept, and takes it up into the summary.
pub fn failed(
    error: &DeployError,
    summary: &mut Summary,
    keep: fn(&DeployError) -> Kept,
) -> Failure {
    let kept = keep(error);
    summary.failed(error, kept.name());
    failure(error, &kept)
}

/// The failure of a deployment, whose ticket was kept so.
pub fn failure(error: &DeployError, kept: &Kept) -> Failure {
    let exit = match error {
        DeployError::Refused(_) => Exit::Refused,
        // It was asked, and its lists do not satisfy the policy.
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.lacks_platform()) => {
            Exit::Refused
        }
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.is_temporary()) => {
            Exit::Network
        }
        DeployError::Failed(failed) if failed.fault.is_output_failure() => Exit::Output,
        DeployError::Failed(failed) if failed.fault.is_evidence_refusal() => Exit::Refused,
        DeployError::Failed(_) => Exit::Fault,
        DeployError::Order(_) | DeployError::Policy(_) => Exit::Data,
        DeployError::NoTarget => Exit::Usage,
        DeployError::Unavailable(_) | DeployError::Left { .. } | DeployError::Cancelled => {
            Exit::Other
        }
    };
    let advice = match error {
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.is_full()) => {
            "; --wait waits until there is room"
        }
        _ => "",
    };
    Failure::of(exit, format!("{error}{advice}{}", kept.rest(error))).named(error.code())
}
