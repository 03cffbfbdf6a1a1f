// SPDX-License-Identifier: Apache-2.0

//! The programs of a Keep, built reproducibly.
#![forbid(unsafe_code)]

pub use enarx_boot_image::{LOADER, MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED};

/// The runtime (WASM and WASI), a static ELF executable for Linux x86-64.
pub static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime"));
