// SPDX-License-Identifier: Apache-2.0

//! The SEV-SNP launcher: a Keep on an AMD EPYC host with Linux 6.11 or later.
//!
//! # Order
//!
//! [`launcher`] makes the machine, its memory and its vCPUs in the one order that KVM takes:
//! `KVM_CREATE_VM`, `KVM_ENABLE_CAP` (page state changes), `KVM_SEV_INIT2`, memory slots and
//! attributes, `KVM_SEV_SNP_LAUNCH_START`, vCPUs with CPUID before registers,
//! `KVM_SEV_SNP_LAUNCH_UPDATE` for every listed page, `KVM_SEV_SNP_LAUNCH_FINISH`. The launch
//! is the ordered page list that the tenant recomputes the measurement from; the vCPUs'
//! registers are taken from the list too ([`crate::vm::registers`]). [`guest`] takes a Keep's layout through it and
//! serves what SEV-SNP adds to the exits.
//!
//! # Trust
//!
//! All of this is the host's and the tenant trusts none of it. It protects the host: what the
//! guest asks for is checked in [`exits`] before it is done.
//!
//! # Tests
//!
//! `tests/snp_launch` runs the launcher against a fake KVM and secure processor that enforce the
//! documented rules, recompute the launch digest, and play `KVM_RUN`. [`crate::first_day`] is for a
//! real EPYC host (`enarx doctor --first-day`), as is `tests/snp_hardware.rs`. Those tests are ignored
//! by default; on a host where `enarx doctor` reports every required line of `snp` as ok, run them as
//! a user who may open `/dev/kvm` and `/dev/sev`:
//!
//! ```sh
//! cargo test -p enarx-vmm --test snp_hardware -- --ignored --test-threads=1
//! ```

pub mod abi;
pub mod cpuid;
pub mod device;
pub mod exits;
pub mod firmware;
pub mod guest;
pub mod ioctl;
pub mod launcher;
pub mod memory;
pub mod pages;
pub mod platform_status;
pub mod probe;
