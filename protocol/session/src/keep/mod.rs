// SPDX-License-Identifier: Apache-2.0

//! The Keep's end. A [`Keep`] lives as long as the Keep; a [`Connection`] belongs to one TLS connection and gets the
//! Keep at each call. The caller carries bytes between TLS and the connection, gets reports when a connection asks for
//! them, stores deliveries, runs the application, and moves its standard streams.
//!
//! A peer is not trusted until it is the contract's tenant, and even the tenant has to follow the protocol: a fault
//! closes its connection, but never ends the Keep.

mod connection;
mod delivery;
mod machine;
mod output;
mod run;

pub use connection::{Connection, Event};
pub use machine::{Fault, Keep, MAX_CONNECTIONS, Order, Sealing};
pub use output::Output;
