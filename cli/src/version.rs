// SPDX-License-Identifier: Apache-2.0

//! The identity of this command, for `--version`.

use enarx_backend::Backend;

/// The version alone.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// The version, the commit that it was built from, the engine, and the kinds of Keep that are built in.
pub fn long() -> String {
    let backends: Vec<_> = Backend::ALL.iter().map(|backend| backend.name()).collect();
    format!(
        "{SHORT}\ncommit: {}\nWasmtime: {}\nbackends: {}",
        env!("ENARX_BUILD_COMMIT"),
        env!("ENARX_BUILD_WASMTIME"),
        backends.join(", ")
    )
}
