// SPDX-License-Identifier: Apache-2.0

//! The result of a deployment, or of attaching to one: its application has ended, or runs on without this program.

use crate::fault::Refused;
use crate::ticket::Ticket;
use crate::timings::Timings;
use enarx_attestation::{Endorsements, Verdict};
use enarx_contract::Agreement;
use enarx_session::deployment::Deployment;
use enarx_session::document::{Exit, Started};
use enarx_session::receipt::Receipt;
use enarx_session::tenant::Identity;

/// The end of a run that did not fail.
#[derive(Debug)]
pub enum Ending {
    /// The application has ended, and everything of it is here.
    Complete(Box<Deployed>),
    /// It runs on without this program.
    Detached(Box<Detached>),
}

/// A deployment that came to its end.
#[derive(Debug)]
pub struct Deployed {
    /// The host, `HOST:PORT`.
    pub host: String,
    /// How the application ended.
    pub exit: Exit,
    /// The receipt. Its signature is valid, and it agrees with this session.
    pub receipt: Receipt,
    /// The Keep.
    pub identity: Identity,
    /// The verdict under which the application was released, or first attached to by this call; `None`: nothing shows
    /// what the Keep was.
    pub verdict: Option<Verdict>,
    /// The verdict over the receipt's report; `None`: it has none, so it proves nothing to third parties.
    pub receipt_verdict: Option<Verdict>,
    /// The contract with both signatures.
    pub agreement: Agreement,
    /// The deployment, whose digest the receipt has; `None` when this call has only attached to it.
    pub deployment: Option<Deployment>,
    /// The certificates and revocation lists by which its evidence was judged.
    pub endorsements: Endorsements,
    /// The hosts that were asked before this one, and why they were not taken.
    pub passed_over: Vec<Refused>,
    /// The phases of the application's start, as the Keep tells them.
    pub started: Option<Started>,
    /// How often the session was cut and taken up again.
    pub resumed: u32,
    /// Bytes of standard output that were not received here, because the Keep dropped them while nobody was attached,
    /// or gave them to another program of this tenant. The receipt covers them, so it is valid, but the output here is
    /// not complete.
    pub missing_stdout: u64,
    /// The same of standard error.
    pub missing_stderr: u64,
    /// The phases, and how long each took.
    pub timings: Timings,
}

/// A deployment that was left once its application ran.
#[derive(Debug)]
pub struct Detached {
    /// The host, `HOST:PORT`.
    pub host: String,
    /// The key to the application, which is attached to, stopped or ended by it. Keep it: nothing else finds the Keep again.
    pub ticket: Ticket,
    /// The Keep.
    pub identity: Identity,
    /// The verdict under which the application was released; `None`: nothing shows what the Keep is.
    pub verdict: Option<Verdict>,
    /// The contract with both signatures.
    pub agreement: Agreement,
    /// The certificates and revocation lists by which its evidence was judged.
    pub endorsements: Endorsements,
    /// The hosts that were asked before this one, and why they were not taken.
    pub passed_over: Vec<Refused>,
    /// The phases of the application's start, as the Keep tells them.
    pub started: Option<Started>,
    /// The phases, and how long each took.
    pub timings: Timings,
}
