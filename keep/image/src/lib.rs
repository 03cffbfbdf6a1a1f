//! The measured image of a Keep: the programs, and the one ordered list of pages by which every
//! launch loads them and every measurement recomputes it.
#![forbid(unsafe_code)]

pub mod elf;
pub mod launch;
mod tables;

/// The microkernel, an ELF executable linked for [`enarx_microkernel::layout::KERNEL_VIRTUAL`].
pub const MICROKERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel"));
/// The runtime (WASM and WASI), a static ELF executable for Linux x86-64.
pub const RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-runtime"));
