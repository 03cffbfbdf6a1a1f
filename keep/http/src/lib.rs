// SPDX-License-Identifier: Apache-2.0

//! HTTP in a Keep: a server whose requests are answered by components of the worlds `wasi:http/proxy` 0.2 and `wasi:http/service` 0.3,
//! and their own requests to other servers.
//!
//! HTTP and TLS are spoken here, inside the Keep: the host accepts connections and moves bytes.
//! Trusted code; the host, the peers and the component are not trusted.
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

mod account;
pub mod bindings;
mod body;
mod charge;
mod client;
mod coding;
mod door;
mod error;
mod fields;
mod handler;
mod kept;
mod limits;
mod link;
mod lock;
mod messages;
pub mod preview3;
mod refusal;
mod reply;
mod secure;
mod server;
mod stream;
mod target;
mod traffic;
mod types;
mod view;

pub use bindings::ProxyPre;
#[cfg(feature = "fuzzing")]
pub use client::ask_twice;
pub use client::{ServerAccess, Trust};
pub use door::Door;
pub use handler::Handler;
pub use kept::{Kept, Room};
pub use link::{add_to_linker, is_imported};
pub use server::{Instances, Serving, Settings};
pub use view::{Http, View};
