//! The programs that the secure processor measures page by page, built reproducibly.
#![forbid(unsafe_code)]

/// The microkernel, an ELF executable linked for `enarx_boot::layout::KERNEL_VIRTUAL`.
pub const MICROKERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel"));

/// The microkernel for the simulated platform: it has another measurement.
pub const MICROKERNEL_SIMULATED: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel-simulated"));

/// The loader, an ELF executable linked for `enarx_boot::image_info::ADDRESS`.
pub const LOADER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-loader"));
