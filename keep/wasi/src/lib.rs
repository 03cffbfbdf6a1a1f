// SPDX-License-Identifier: Apache-2.0

//! The WASI of a Keep: one core, three front ends (preview 1, 0.2 and 0.3).
//!
//! The core ([`context`], [`fs`], [`stream`], [`sockets`], [`clock`], [`random`]) knows nothing of WebAssembly;
//! [`preview1`], [`preview2`] and [`preview3`] translate. All of it is trusted and measured; the guest on one side
//! and the host behind [`port`] on the other are not trusted.
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

pub mod budget;
pub mod clock;
pub mod context;
pub mod error;
pub mod fs;
mod interfaces;
pub mod port;
pub mod preview1;
pub mod preview2;
pub mod preview3;
pub mod random;
pub mod sockets;
pub mod stream;

/// The program asked to end with this exit code; the error that stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exited with code {0}")]
pub struct Exit(pub i32);

/// The state of a store that runs a program on the front end `S`.
pub trait View<S>: Send + 'static {
    /// The state of the front end.
    fn wasi(&mut self) -> &mut S;
}
