// SPDX-License-Identifier: Apache-2.0

//! The tenant's end of a deployment. It runs on a machine that the tenant trusts, and trusts nobody else: managers and
//! their answers, certificates and relays belong to the hosts, and a Keep is not trusted before its evidence has
//! passed the tenant's policy.
//!
//! [`deploy`] is the way in: for each [`Target`] it asks the manager for a Keep under a contract, opens an attested
//! session with that Keep through the manager, has the evidence judged by [`Trust`], and releases the [`Order`] to the
//! first Keep that passes. Before a verdict only ATTEST is ever sent, which is a matter of types
//! (`enarx_session::tenant`). [`receipt::verify`] verifies receipts later, without a session.
//!
//! [`deploy_detached`] detaches from the application once it runs, and returns a [`Ticket`] for it. With the ticket,
//! [`attach`] resumes its streams and waits for its end, [`stop_keep`] asks it to end, and [`end_keep`] asks the host
//! to end its Keep. A Keep found by a ticket is judged again each time, and has to be the same one with the same
//! deployment.
//!
//! Libraries do not print: events go to `tracing`, and times are in the result ([`Timings`]).
#![forbid(unsafe_code)]

mod attach;
mod certificates;
mod clock;
mod deploy;
mod ending;
mod endorser;
mod error;
mod fault;
mod fit;
mod judge;
mod line;
mod manager;
mod opening;
mod order;
mod pause;
mod pin;
mod pump;
mod queue;
mod random;
pub mod receipt;
mod run;
mod stop;
mod streams;
mod target;
mod terms;
mod ticket;
mod timings;
mod trust;
mod wire;

pub use attach::{attach, end_keep, end_keep_at, stop_keep};
pub use deploy::{deploy, deploy_detached};
pub use enarx_tls::Key;
// For whatever else the tenant fetches by TLS.
pub use enarx_tls::provider as web_provider;
pub use ending::{Deployed, Detached, Ending};
pub use error::{DeployError, Failed};
pub use fault::{Fault, Refused};
pub use order::{Order, Secret, Started, Times};
pub use queue::Queue;
pub use stop::Stop;
pub use streams::Streams;
pub use target::{Target, TargetError, check_token};
pub use terms::Platforms;
pub use ticket::{MAX_TICKET, Ticket, TicketError};
pub use timings::{Claim, Timings};
pub use trust::{Certificates, Found, Renewed, Trust};
