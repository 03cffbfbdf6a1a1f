// SPDX-License-Identifier: Apache-2.0

//! The programs of a Keep, built reproducibly.
#![forbid(unsafe_code)]

pub use enarx_boot_image::{LOADER, MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED};

const FILE: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime"));
// It has a name: bytes without one are copied into every unit of code whose constants refer to them.
static BYTES: [u8; FILE.len()] = *FILE;

/// The runtime (WASM and WASI), a static ELF executable for Linux x86-64.
pub static RUNTIME: &[u8] = &BYTES;

/// SHA-256 of [`RUNTIME`].
pub const RUNTIME_SHA256: [u8; 32] =
    *include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime.sha256"));
