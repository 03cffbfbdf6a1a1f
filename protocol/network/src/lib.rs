// SPDX-License-Identifier: Apache-2.0

//! Rules for the network: where a Keep may connect to, where it may wait, and which names it may look up. The command's
//! flags, contracts and the executor that enforces the rules use the same text.
//!
//! | rule | text |
//! |---|---|
//! | [`ConnectRule`] | `HOST`, `ADDRESS` or `NETWORK/BITS`, then `:PORTS`, then `/tcp` or `/udp` |
//! | [`ListenRule`] | `ADDRESS:` or `NETWORK/BITS:`, `PORTS`, then `/tcp` or `/udp` |
//! | [`NameRule`] | `NAME`, or `*.NAME` for all names below it |
//!
//! `PORTS` is a number or a range such as `8000-8010`; an IPv6 address before ports is in brackets. A rule has one
//! canonical form, in which it is printed; other spellings are read, too.
//!
//! Trusts nobody: parsing is total, and ambiguous text is refused. No input, no output, no look-ups, no standard
//! library.
#![no_std]
#![forbid(unsafe_code)]
// Hosts and peers control the input of this code: it refuses bad input and never panics.
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

mod address;
mod error;
mod name;
mod network;
mod ports;
mod rule;
mod text;
mod uses;

pub use address::{destination, is_guarded};
pub use error::RuleError;
pub use name::{HostName, NameRule};
pub use network::Network;
pub use ports::{Ports, Protocol};
pub use rule::{ConnectRule, ListenRule, Peer, Rules};
pub use uses::Uses;

#[cfg(test)]
mod tests;
