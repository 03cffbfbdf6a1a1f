// SPDX-License-Identifier: Apache-2.0

//! The manager as a client sees it: a real server on loopback, with a stand-in for the processes of Keeps.
//!
//! This program is the stand-in too, and a manager that can be killed, by its first argument.

#[macro_use]
extern crate enarx_harness;

mod cgroups;
mod client;
mod contracts;
mod host;
mod lives;
mod outer;
mod pool;
mod refusals;
mod routes;
mod sessions;
mod stand_in;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(stand_in::ARGUMENT) => stand_in::serve(),
        Some(host::ARGUMENT) => host::serve(),
        _ => enarx_harness::main(),
    }
}
