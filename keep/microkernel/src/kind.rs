// SPDX-License-Identifier: Apache-2.0

//! The kind of build: for SEV-SNP and its simulation, or for plain KVM.

/// True if this build can run on SEV-SNP. The build for plain KVM has no code for
/// it, which keeps it small: the compiler removes code guarded by this, and `#[cfg]`
/// removes instructions that do not exist.
pub const HAS_SNP: bool = !cfg!(feature = "plain");
