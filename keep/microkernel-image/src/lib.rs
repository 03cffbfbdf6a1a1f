//! The microkernel of a Keep, built reproducibly.
#![forbid(unsafe_code)]

/// The microkernel, an ELF executable linked for `enarx_microkernel::layout::KERNEL_VIRTUAL`.
pub const MICROKERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel"));
