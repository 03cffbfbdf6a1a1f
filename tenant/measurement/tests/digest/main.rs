// SPDX-License-Identifier: Apache-2.0

//! Launch digests: those of a build, and the digest against three others: virtee's crate `sev`, the package
//! `sev-snp-measure`, and a recomputation of AMD's definition in Python.

#[macro_use]
extern crate enarx_harness;

mod build;
mod definition;
mod firmware;
mod others;
mod program;

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}
