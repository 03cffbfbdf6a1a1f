// SPDX-License-Identifier: Apache-2.0

//! The typed policy: the tenant's requirements on the hardware. A kind of evidence is accepted only if its table is in
//! the policy file; every switch that gives up protection has `insecure` in its name. A check that was requested and
//! cannot be made is a refusal.
//!
//! `rules` has the types; `defaults` has their values and the built-in policies, `file` reads and writes TOML,
//! `consistency` checks what types cannot say, `keys` lists the schema's keys, `suggestion` finds the key that was
//! meant, `warnings` says what a policy gives up, and `explanation` shows it with the meaning of every key.

mod consistency;
mod defaults;
mod error;
mod explanation;
mod file;
mod keys;
mod rules;
mod suggestion;
mod warnings;

pub use error::PolicyError;
pub use file::located;
pub use keys::{Key, keys};
pub(crate) use rules::UP_TO_DATE;
pub use rules::{
    DEFAULT, Endorser, GuestPolicyRules, INSECURE_AUTHENTICITY_ONLY, IntelPolicy, Missing,
    MissingFacts, PlatformRules, Policy, Rule, STANDING_ATTACKS, SgxPolicy, SnpPolicy,
    TCB_STATUSES, TcbFloor, TcbKind, TdxPolicy, VERSION,
};
