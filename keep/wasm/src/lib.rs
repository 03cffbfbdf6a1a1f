// SPDX-License-Identifier: Apache-2.0

//! The WebAssembly engine of a Keep: configuration, compilation, instantiation, limits.
//!
//! Trusted code; the engine confines the application, and values of the configuration are
//! checked where they are used.
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

mod bounds;
mod concurrency;
mod engine;
mod form;
mod ground;
mod invoke;
mod limits;
mod pool;
mod precompiled;
mod rehearsal;
mod room;
mod run;
mod segments;
mod serve;
mod state;
mod timings;
mod wants;

pub use ground::EngineEnvironment;
pub use rehearsal::rehearse;
pub use run::{End, EndKind, run};
pub use timings::Timings;
