//! The launch digest against three others: virtee's crate `sev`, the package `sev-snp-measure`, and a recomputation of
//! AMD's definition in Python.
#![allow(clippy::print_stderr, reason = "a test says what it leaves out")]

mod definition;
mod firmware;
mod others;
#[path = "../program/mod.rs"]
mod program;
