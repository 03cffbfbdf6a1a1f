//! The tests of the verifier as its callers see it.

mod genuine;
mod mutation;
mod oracles;
mod platform;
mod releases;
mod schema;
mod simulated;
mod vectors;
