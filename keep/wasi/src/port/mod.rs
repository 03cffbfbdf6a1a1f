// SPDX-License-Identifier: Apache-2.0

//! The Keep's side of the sallyport as WASI uses it: blocking calls, waiting operations, timers, and an
//! executor of futures that sleeps only when there is nothing to do.
//!
//! The host is hostile. `enarx_sallyport` checks its answers; a breach of the protocol ends the Keep through
//! [`Platform::violation`].
//!
//! Any thread may use a port. One thread sleeps for all: the leader waits in the doorbell, without the lock,
//! and collects replies for the others, which wait for it. When the leader has its own reply, another takes
//! its place.

mod answer;
mod exchanges;
mod handle;
mod operation;
mod platform;
pub(crate) mod queue;
mod shared;
mod state;
mod tasks;
mod timer;
mod timers;
mod waits;

pub use answer::Answer;
pub use handle::{MAX_TRANSFER, Port};
pub use operation::Operation;
pub use platform::Platform;
pub use tasks::{Spawner, Tasks};
pub use timer::Timer;
