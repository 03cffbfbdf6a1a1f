// SPDX-License-Identifier: Apache-2.0

//! Why a deployment failed as a whole, or a session after the verdict. The fault of each host is in it.

use crate::fault::{Fault, Refused};
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
    /// How the application ended, if the Keep said so. Without its receipt that is no success.
    pub exit: Option<Exit>,
    /// Checks of the verifier that failed, when that is why: of a later verdict, or of the receipt.
    pub checks: Vec<Check>,
    /// By which the application can be attached to, if it still runs; `None`: nothing was started.
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
    /// No host came as far as to be judged. Nothing was released to any.
    #[error("no host could be asked for evidence, and nothing was sent: {}", listed(.0))]
    Unavailable(Vec<Refused>),
    /// The session failed after the verdict, or on the way to an application that runs already.
    #[error("the session with {} failed: {}", .0.host, .0.fault)]
    Failed(Box<Failed>),
    /// The agent left on request, without the application's end.
    #[error("left {host} before the application's end")]
    Left {
        /// The host, `HOST:PORT`.
        host: String,
        /// By which the application can be attached to.
        ticket: Box<Ticket>,
    },
    /// Given up on request, before anything was released.
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
                .find(|host| host.fault.is_of_evidence())
                .map_or("evidence.refused", Refused::code),
            Self::Unavailable(hosts) => hosts.last().map_or("agent.no-target", Refused::code),
            Self::Failed(failed) => failed.fault.code(),
            Self::Left { .. } => "agent.left",
            Self::Cancelled => "agent.cancelled",
        }
    }
}

fn listed(hosts: &[Refused]) -> String {
    let texts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
