// SPDX-License-Identifier: Apache-2.0

//! The manager of Keeps on a host: takes contracts over HTTPS, signs them, starts a process for each Keep, and passes on
//! the bytes of its sessions. `enarx_manager_api` is the interface.
//!
//! Untrusted, like all of the host: the tenant believes nothing that it says and sends its application only through the
//! attested session, which is ciphertext here. The manager itself trusts nobody: tenants are limited by their tokens, a
//! Keep process by the few typed messages that [`keep_process`] accepts from it.
//!
//! * [`Manager`]: the server
//! * [`State`]: its folder with keys, certificate and tokens, usable without a server
//! * [`keep_process`]: how the manager and the process of a Keep talk, for both ends
#![forbid(unsafe_code)]

mod admission;
mod backoff;
mod bucket;
mod certificate;
mod cgroup;
mod clock;
mod error;
mod files;
mod keep;
pub mod keep_process;
mod keeps;
mod log;
mod manager;
mod metrics;
#[cfg(test)]
mod model;
mod past;
mod places;
mod pool;
mod process;
mod record;
mod refill;
mod refusal;
mod relay;
mod routes;
mod settings;
mod state;
mod store;
mod tokens;

pub use cgroup::{CgroupError, Cgroups};
pub use error::{ManagerError, StateError};
pub use manager::Manager;
pub use settings::{Capacity, Class, Collaterals, KeepCommand, Rates, Settings};
pub use state::State;
pub use tokens::Token;

/// Runs a test by a clock that goes on only when nothing else does.
#[cfg(test)]
fn run_paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}
