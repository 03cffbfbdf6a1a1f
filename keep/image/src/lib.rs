//! The measured programs of a Keep, built reproducibly.
#![forbid(unsafe_code)]

/// The microkernel, an ELF executable linked for `enarx_microkernel::layout::KERNEL_VIRTUAL`.
pub const MICROKERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel"));
/// The runtime (WASM and WASI), a static ELF executable for Linux x86-64.
pub const RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime"));
