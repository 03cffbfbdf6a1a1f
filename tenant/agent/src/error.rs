// SPDX-License-Identifier: Apache-2.0

//! Why a deployment failed as a whole, or a session after the verdict. The fault of each host is in it.

use crate::fault::{Fault, Refused, explained};
use crate::ticket::Ticket;
use enarx_attestation::{Check, PolicyError};
use enarx_session::deployment::DeploymentError;
use enarx_session::document::Exit;

/// A session that failed after the verdict, when the Keep had been given something, or was about to; or one with an
/// application that runs already.
#[derive(Debug)]
pub struct Failed {
    /// The host, `HOST:PORT`.
    pub host: String,
    /// Why.
    pub fault: Fault,
    /// True if START was sent, now or earlier: the application may have run, and may still run. False: the Keep was ended,
    /// nothing ran.
    pub started: bool,
    /// The end of the application, if the Keep reported it. Without a receipt this is not a success.
    pub exit: Option<Exit>,
    /// Checks of the verifier that failed, when that is why: of a later verdict, or of the receipt.
    pub checks: Vec<Check>,
    /// The ticket by which the application can be attached to, if it still runs; `None`: nothing was started.
    pub ticket: Option<Box<Ticket>>,
}

/// Why nothing was deployed, or why it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// No host was named.
    #[error("no host is named to deploy to")]
    NoTarget,
    /// The order can be no deployment.
    #[error(transparent)]
    Order(#[from] DeploymentError),
    /// The policy can accept no evidence.
    #[error("the policy cannot be used: {0}")]
    Policy(#[from] PolicyError),
    /// No host was accepted, and at least one was refused for its evidence. Nothing was released to any.
    #[error("no host was accepted, and nothing was sent: {}", listed(.0))]
    Refused(Vec<Refused>),
    /// No host got as far as being judged. Nothing was released to any.
    #[error("no host could be asked for evidence, and nothing was sent: {}", listed(.0))]
    Unavailable(Vec<Refused>),
    /// The session failed after the verdict, or before reaching an application that already runs.
    #[error("the session with {} failed: {}", .0.host, explained(&.0.fault, &.0.checks))]
    Failed(Box<Failed>),
    /// The agent left on request, without the application's end.
    #[error("detached from {host} before the application ended")]
    Left {
        /// The host, `HOST:PORT`.
        host: String,
        /// The ticket by which the application can be attached to.
        ticket: Box<Ticket>,
    },
    /// Cancelled on request, before anything was released.
    #[error("stopped on request, before anything was sent")]
    Cancelled,
}

impl DeployError {
    /// The name of the error, stable; of several hosts that of the last which was refused for its evidence, or else of the
    /// last.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NoTarget => "agent.no-target",
            Self::Order(error) => error.code(),
            Self::Policy(_) => "policy.usable",
            Self::Refused(hosts) => hosts
                .iter()
                .rev()
                .find(|host| host.fault.is_evidence_refusal())
                .map_or("evidence.refused", Refused::code),
            Self::Unavailable(hosts) => hosts.last().map_or("agent.no-target", Refused::code),
            Self::Failed(failed) => failed.fault.code(),
            Self::Left { .. } => "agent.left",
            Self::Cancelled => "agent.cancelled",
        }
    }
}

/// Characters up to which a list of hosts is printed in full. Longer messages are cut off at about this length.
const LISTED: usize = 1_600;
/// Characters that each host has in a longer list at least.
const MIN_REASON_CHARS: usize = 160;

/// The hosts and why they were not taken. Each has its share of a long list: what one says does not push out another.
fn listed(hosts: &[Refused]) -> String {
    let texts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let length = |text: &String| text.chars().count();
    if texts.len() < 2 || texts.iter().map(length).sum::<usize>() <= LISTED {
        return texts.join("; ");
    }
    let share = MIN_REASON_CHARS.max(LISTED / texts.len());
    let parts: Vec<_> = texts
        .iter()
        .map(|text| match text.char_indices().nth(share) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text.clone(),
        })
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::canonical::Name;

    #[test]
    fn no_host_hides_the_reason_of_another() {
        let host = |name: &str, sentence: &str| Refused {
            host: name.to_owned(),
            fault: Fault::Manager {
                status: 403,
                code: Name::cleaned("token"),
                sentence: sentence.to_owned(),
            },
            checks: Vec::new(),
        };
        let long = "x".repeat(5_000);
        let hosts = vec![host("a:1", &long), host("b:1", "for a reason")];
        let told = DeployError::Unavailable(hosts).to_string();
        assert!(told.chars().count() < 2_000, "{told}");
        assert!(told.contains("xxx…; b:1: "), "{told}");
        assert!(told.ends_with("for a reason"), "{told}");
        let alone = DeployError::Unavailable(vec![host("a:1", &long)]).to_string();
        assert!(alone.ends_with(&long), "{alone}");
    }
}
