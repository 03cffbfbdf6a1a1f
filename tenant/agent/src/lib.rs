// SPDX-License-Identifier: Apache-2.0

//! The tenant's end of a deployment. Runs where the tenant trusts the machine, and trusts nobody else: managers and their
//! answers, certificates and relays are the hosts', and a Keep is nobody before its evidence has passed the tenant's policy.
//!
//! [`deploy`] is the one way in: for each [`Target`] it asks the manager for a Keep under a contract, opens an attested
//! session with that Keep through the manager, has the evidence judged by [`Trust`], and releases the [`Order`] to the
//! first Keep that passes. Before a verdict only ATTEST is ever sent, which is a matter of types
//! (`enarx_session::tenant`). [`receipt::verify`] verifies receipts later, without a session.
//!
//! Libraries do not print: what happens is told by `tracing`, and times are in the result ([`Timings`]).
#![forbid(unsafe_code)]

mod clock;
mod deploy;
mod error;
mod judge;
mod line;
mod manager;
mod order;
mod peek;
mod pin;
mod pump;
pub mod receipt;
mod stop;
mod streams;
mod target;
mod terms;
mod timings;
mod wire;

pub use deploy::{Deployed, deploy};
pub use enarx_tls::Key;
pub use error::{DeployError, Failed, Fault, Refused};
pub use judge::Trust;
pub use order::{Order, Secret, Times};
pub use stop::Stop;
pub use streams::Streams;
pub use target::{Target, TargetError};
pub use terms::Platforms;
pub use timings::Timings;
