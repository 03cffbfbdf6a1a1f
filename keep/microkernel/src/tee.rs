// SPDX-License-Identifier: Apache-2.0

//! The trusted execution environment that protects the Keep's memory from the host: the one place that
//! knows which there is.
//!
//! Two other types hold data that only SEV-SNP has, because it is needed where no [`Tee`] is available; neither checks
//! which environment there is. The boot page names the kind of launch ([`Launch::snp`](crate::launch::Launch::snp)),
//! before there is a kernel. The ledger belongs to the allocator ([`Frames`](crate::frames::Frames)), because a page
//! fault accepts a page in the middle of a table walk: as part of the `Tee` it would be borrowed through every function
//! in between.

use crate::kind::HAS_SNP;
use crate::snp::Snp;

/// The trusted execution environment.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, in the kernel, for the life of the Keep"
)]
pub enum Tee {
    /// None: plain KVM, whose host is trusted.
    None,
    /// AMD SEV-SNP.
    Snp(Snp),
}

impl Tee {
    /// SEV-SNP; `None` otherwise. The build for plain KVM has no code for it.
    #[must_use]
    pub const fn snp(&self) -> Option<&Snp> {
        match self {
            Self::Snp(snp) if HAS_SNP => Some(snp),
            _ => None,
        }
    }

    /// As [`Self::snp`], to change its state.
    pub const fn snp_mut(&mut self) -> Option<&mut Snp> {
        match self {
            Self::Snp(snp) if HAS_SNP => Some(snp),
            _ => None,
        }
    }
}
