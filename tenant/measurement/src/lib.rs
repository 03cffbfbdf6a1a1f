// SPDX-License-Identifier: Apache-2.0

//! Measurements of a released Keep: launch digests recomputed offline, the digests of its layers, and the signed
//! manifest by which a publisher vouches for them. This runs on the tenant's and on the publisher's side and trusts the
//! publisher's public keys that the caller gives; manifests and signatures are hostile until verified.
//!
//! Pure: bytes in, results out; no files, no network, no clock, no randomness. [`launch_digest`] folds a page list,
//! [`Measurement`] is what `enarx measure` prints, [`verify`] checks a [`Manifest`] and yields the
//! [`enarx_attestation::ReferenceValue`]s that the verifier judges by.
#![forbid(unsafe_code)]

/// The examples of the verifier's page, one of which also uses manifests.
#[cfg(doctest)]
#[doc = include_str!("../../attestation/README.md")]
pub struct Examples;

mod digest;
mod layers;
mod manifest;
mod release_fault;
mod signature;

pub use digest::launch_digest;
pub use layers::{Build, Layer, Layers, MeasuredLaunch, Measurement, PageCounts};
pub use manifest::{
    FORMAT, MAX_MANIFEST_LEN, Manifest, ManifestError, Release, ReleaseError, VerifiedManifest,
    VerifyError, verify,
};
pub use release_fault::ReleaseFault;
pub use signature::{KeyError, PrivateKey, PublicKey, SEED_LEN, SignatureError, sign};
