// SPDX-License-Identifier: Apache-2.0

//! Tests of the protocol from outside: both ends together, each against a hostile other, and everything that is
//! encoded and decoded. The drivers, which the fuzz targets use too, are a crate.

mod calls;
mod directory;
mod ends;
mod hostile;
mod interleaving;
mod spec;
mod threads;

use proptest::test_runner::Config;

/// Few cases under Miri, which is some hundred times slower.
fn config() -> Config {
    Config {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..Config::default()
    }
}
