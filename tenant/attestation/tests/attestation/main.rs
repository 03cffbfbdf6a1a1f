//! The tests of the verifier as its callers see it.
#![allow(clippy::print_stderr, reason = "a test says what it leaves out")]

mod attacks;
mod expected;
mod genuine;
mod kinds;
mod mutation;
mod oracles;
mod platform;
mod releases;
mod schema;
mod simulated;
mod switches;
mod vectors;
