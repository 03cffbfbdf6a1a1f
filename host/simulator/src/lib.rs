// SPDX-License-Identifier: Apache-2.0

//! A software AMD secure processor, and the parts between it and a guest: the reverse map table and the host's side
//! of the GHCB protocol. With it the SEV-SNP path runs on any KVM; it protects nothing from the host.
//!
//! Untrusted side of the house, pure: no KVM, no ioctl, no guest memory but through [`SharedMemory`]. The guest's
//! messages are hostile here too: every decoder is total. Sources are quoted as in [`enarx_snp`]; KVM means
//! `arch/x86/kvm/svm/sev.c` of Linux 6.18.
//!
//! Life of a guest: [`Machine::open`], [`Launching::start`], `update` for each page, `update_vmsa` for each vCPU,
//! [`Launching::finish`], then [`Hypervisor::new`] with the [`Running`] guest, whose methods the threads of the vCPUs
//! call.
#![forbid(unsafe_code)]

mod cpuid;
mod guest;
mod hypervisor;
mod id_block;
mod launch;
mod machine;
mod rmp;
mod settings;
mod status;
mod store;

pub use enarx_snp_authority::KeyKind;
pub use guest::Running;
pub use hypervisor::{Action, Config, Hypervisor, PageChange, SharedMemory, Violation};
pub use launch::Launching;
pub use machine::{Certificates, Machine};
pub use rmp::{Fault, Pvalidate, Rmp};
pub use settings::{Settings, Tcb};
pub use status::Status;
pub use store::Error;
