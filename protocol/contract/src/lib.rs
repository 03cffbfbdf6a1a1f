// SPDX-License-Identifier: Apache-2.0

//! The contract of a Keep: which host runs it, for which tenant, on which platform, with which image, resources, doors
//! and times. Tenant and host sign the same canonical bytes; their SHA-256 is the HOST_DATA of the Keep's launch, so
//! every report of the Keep names the contract. [SPEC.md](../SPEC.md) is the specification.
//!
//! Trusts nobody: every decoder is total, every refusal has a name ([`ContractError::code`]). No input, no output, no
//! clock, no standard library; the Keep, its host and its tenant share this crate. Security rests on HOST_DATA and on
//! the attested session. The signatures serve accounting and disputes.
#![no_std]
#![forbid(unsafe_code)]
// Hosts and peers decide over the input of this code: it refuses, and does not panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;

mod agreement;
pub mod canonical;
mod contract;
mod doors;
mod error;
mod form;
mod key;
mod side;
mod term;
mod terms;

pub use agreement::{Agreement, Countersignature, signing_input};
pub use contract::{
    Backend, Contract, Host, Image, MAX_CLOCK_SKEW, MAX_VCPUS, MinTcb, PROBE, Platform, Resources,
    Tee, Tenant, Terms, Times,
};
pub use doors::{Directory, Doors, MAX_DOORS, Wanted};
pub use error::ContractError;
pub use form::{ContractDigest, MAX_ENCODED, VERSION};
pub use key::{PublicKey, SPKI_SIZE, Signature};
pub use side::Side;
pub use term::Term;
pub use terms::KeepFacts;
