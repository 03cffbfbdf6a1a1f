// SPDX-License-Identifier: Apache-2.0

//! Attestation evidence in, verdict with reasons out: AMD SEV-SNP reports, Intel TDX and SGX quotes. This runs on the
//! tenant's side and trusts the vendors' roots, the policy and the clock that the caller gives; everything else
//! (evidence, certificates, revocation lists, collateral) is hostile until checked.
//!
//! Pure: no files, no network, no clock, no threads. [`Verifier::verify`] is the only entry point: [`Endorsements`] are
//! the vendor's statements about the hardware, [`Policy`] is what the tenant always requires, [`Expected`] what this
//! evidence must match, and [`Verdict`] names every check with its outcome, what was expected, what was found, and how
//! to fix it.
#![forbid(unsafe_code)]

pub mod attacks;
mod catalogue;
mod checks;
mod claim;
pub mod container;
mod context;
mod ear;
mod endorsements;
mod evidence;
mod expected;
pub mod hex;
pub mod inspect;
pub mod intel;
pub mod pem;
pub mod policy;
pub mod printable;
pub mod reference;
mod relying;
pub mod snp;
mod time;
mod verdict;
mod verifier;
mod version;
pub mod vouch;
mod x509;

pub use catalogue::CATALOGUE;
pub use claim::{Claim, UnknownClaim};
pub use ear::{EAR_LIFETIME, EarError, Tier};
pub use endorsements::{AmdEndorsements, Endorsements, RevocationList};
pub use evidence::{Evidence, EvidenceError};
pub use expected::Expected;
pub use policy::{Policy, PolicyError};
pub use reference::ReferenceValue;
pub use relying::{Appraisal, AttestationResult, EarRefusal, MAX_EAR_LEN, Wanted};
pub use time::{Timestamp, TimestampError};
pub use verdict::{Check, EvidenceKind, Outcome, Overall, Verdict};
pub use verifier::Verifier;
pub use x509::CheckedSignatures;
