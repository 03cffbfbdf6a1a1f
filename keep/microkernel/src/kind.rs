// SPDX-License-Identifier: Apache-2.0

//! The kind of build: for SEV-SNP and its simulation, or for plain KVM.

/// True if this build can stand on SEV-SNP. That for plain KVM has no code for it, which makes it small; the compiler leaves out
/// what stands behind this, and `#[cfg]` what needs instructions that are not there.
pub const HAS_SNP: bool = !cfg!(feature = "plain");
