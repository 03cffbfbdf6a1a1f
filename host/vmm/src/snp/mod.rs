// SPDX-License-Identifier: Apache-2.0

//! The SEV-SNP launcher: a Keep on an AMD EPYC host with Linux 6.11 or later.
//!
//! # Order
//!
//! [`launcher`] creates the machine, its memory and its vCPUs in the only order that KVM accepts: `KVM_CREATE_VM`,
//! `KVM_ENABLE_CAP` (page state changes), `KVM_SEV_INIT2`, memory slots and attributes, `KVM_SEV_SNP_LAUNCH_START`,
//! vCPUs with CPUID before registers, `KVM_SEV_SNP_LAUNCH_UPDATE` for every listed page,
//! `KVM_SEV_SNP_LAUNCH_FINISH`. The launch is the ordered page list from which the tenant recomputes the
//! measurement; the vCPUs' registers are also taken from the list ([`crate::vm::registers`]). [`guest`] launches a
//! Keep's layout with it and handles the additional exits of SEV-SNP.
//!
//! # Trust
//!
//! All of this belongs to the host, and the tenant trusts none of it. It protects the host: [`exits`] checks the
//! guest's requests before they are performed.
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
