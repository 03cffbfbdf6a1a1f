// SPDX-License-Identifier: Apache-2.0

//! The ways in which a release of a manifest is wrong, with one sentence each.

use enarx_attestation::reference::PlatformKind;
use enarx_boot::layout::MAX_VCPUS;
use enarx_snp::product;

/// Bytes of the longest reason of a release.
pub(crate) const MAX_REASON_LEN: usize = 1000;

/// A value of a release that contradicts another one or is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseFault {
    /// A policy could not name it by its version.
    #[error("not a version")]
    Version,
    /// Another release has its version.
    #[error("it is listed twice")]
    Twice,
    /// It is withdrawn, and nobody is told why.
    #[error("it is withdrawn without a reason")]
    NoReason,
    /// Its reason cannot be shown on a terminal.
    #[error("the reason is not one line of at most {MAX_REASON_LEN} bytes")]
    Reason,
    /// A time that does not exist in the calendar, as written in the manifest.
    #[error("the time {0} is after the year 9999; seconds since 1970 are meant, not milliseconds")]
    Time(u64),
    /// It ends before it begins.
    #[error("not-after is before not-before")]
    Times,
    /// An unknown bit or version of the guest policy.
    #[error("guest-policy: {0:?} is not known")]
    GuestPolicy(String),
    /// A bit of the guest policy that nothing could have.
    #[error("guest-policy: {0} is required and forbidden, so nothing could ever match")]
    Contradiction(String),
    /// It measures to nothing.
    #[error("it has no launches, so nothing could ever match")]
    NoLaunches,
    /// A launch with more vCPUs than a Keep can have, or none.
    #[error("vcpus must be 1 to {MAX_VCPUS}")]
    Vcpus,
    /// A launch that no processor could make.
    #[error("a launch without products")]
    NoProducts,
    /// An unknown product.
    #[error(
        "the product {0:?} is not one of {known}, so its launch could never match",
        known = product::GENERATIONS.map(|generation| generation.name).join(", ")
    )]
    Product(String),
    /// Two digests for the same launch.
    #[error("two launches for {platform} {product:?} with {vcpus} vCPUs")]
    Launches {
        /// The platform of both.
        platform: PlatformKind,
        /// A product of both.
        product: String,
        /// Their number of vCPUs.
        vcpus: u32,
    },
    /// A simulated launch would count as a genuine one.
    #[error("a digest for both snp and simulated")]
    Platforms,
}
