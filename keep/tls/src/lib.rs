// SPDX-License-Identifier: Apache-2.0

//! The TLS of the attested session ([SPEC.md](../../protocol/session/SPEC.md), section 2), for both of its ends: one profile,
//! in which there is nothing to negotiate, and no input and output. Part of the Keep, so trusted by the tenant, who runs
//! the same code.
//!
//! * [`Key`]: a P-256 key pair, of a Keep, a tenant or a host
//! * [`Connection`]: bytes of the peer in, bytes for the peer out; [`Connection::facts`] are what evidence binds
//! * [`web`]: ordinary TLS with certificates, for the application of a Keep, which nothing binds to its evidence
//!
//! Both ends of a session present raw public keys (RFC 7250). Whether a peer's key is trusted is decided elsewhere:
//! by the contract in the Keep, by the verdict at the tenant. Until then a tenant does not trust its peer, and nobody
//! ever trusts the host in between.
//!
//! This is the only crate that names the provider of cryptography, Graviola. No clock is read, no file opened. Random
//! numbers come from `getrandom`, which the Keep's runtime is compiled to call as a system call (`image/recipe`).
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

mod alert;
mod connection;
mod error;
mod key;
mod peer;
mod provider;
mod records;
pub mod web;

pub use alert::Alert;
pub use connection::{Connection, Facts, MAX_BUFFERED, MAX_HANDSHAKE};
pub use error::{Fault, TlsError};
pub use key::Key;
pub use provider::check_cpu;
#[cfg(feature = "web")]
pub use provider::provider;
pub use records::MAX_SILENT;
