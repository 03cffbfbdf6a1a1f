// SPDX-License-Identifier: Apache-2.0

//! The tests of the verifier as its callers see it.

#[macro_use]
extern crate enarx_harness;

mod attacks;
mod attempts;
mod expected;
mod genuine;
mod kinds;
mod mutation;
mod oracles;
mod platform;
mod releases;
mod revocation;
mod schema;
mod simulated;
mod switches;
mod vectors;

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}
