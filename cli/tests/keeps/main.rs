// SPDX-License-Identifier: Apache-2.0

//! Keeps, end to end: tests run the built command.

#[macro_use]
extern crate enarx_harness;

mod attest;
mod clocks;
mod common;
mod compile;
mod conformance;
mod counts;
mod crowd;
mod cuts;
mod deploy;
mod deploy_options;
mod documents;
mod door;
mod hostile_host;
mod jail;
mod kills;
mod languages;
mod memory;
mod names;
mod native;
mod network;
mod output;
mod programs;
mod random;
mod readiness;
mod recording;
mod run;
mod serve;
mod services;
mod serving;
mod sockets;

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}
