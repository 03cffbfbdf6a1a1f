// SPDX-License-Identifier: Apache-2.0

//! The programs that the secure processor measures page by page, built reproducibly.
#![forbid(unsafe_code)]

/// The microkernel for SEV-SNP, an ELF executable linked for `enarx_boot::layout::KERNEL_VIRTUAL`.
pub const MICROKERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel"));

/// The microkernel for plain KVM, which nobody measures.
pub const MICROKERNEL_PLAIN: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel-plain"));

/// The microkernel for the simulated platform: it has another measurement.
pub const MICROKERNEL_SIMULATED: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/enarx-microkernel-simulated"));

/// The loader, an ELF executable linked for `enarx_boot::image_info::ADDRESS`.
pub const LOADER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enarx-loader"));
