// SPDX-License-Identifier: Apache-2.0

//! The release manifest: a publisher's statement about the releases of Enarx and their launch digests. Its exact bytes
//! are signed, and are parsed only after their signature has been verified with a key that the caller trusts.

use std::collections::BTreeSet;

use enarx_attestation::hex::Hex;
use enarx_attestation::policy::located;
use enarx_attestation::printable::printable;
use enarx_attestation::reference::{
    GuestPolicyFloor, LaunchDigest, PlatformKind, ReleaseStatus, is_release_version,
};
use enarx_attestation::{ReferenceValue, Timestamp};
use enarx_boot::layout::MAX_VCPUS;
use enarx_snp::bits::GuestPolicy;
use enarx_snp::product;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::{Layers, Measurement};
use crate::release_fault::{MAX_REASON_LEN, ReleaseFault};
use crate::signature::{self, PublicKey, SignatureError};

/// Version of the format of a manifest.
pub const FORMAT: u32 = 1;
/// Bytes of the largest manifest.
pub const MAX_MANIFEST_LEN: usize = 4 << 20;
/// The highest serial number: TOML's highest integer.
const MAX_SERIAL: u64 = i64::MAX as u64;

/// The reason why a manifest cannot be used, regardless of its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too large.
    #[error("the manifest has {len} bytes, at most {MAX_MANIFEST_LEN} are read")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// Not text.
    #[error("the manifest is not text in UTF-8")]
    NotText,
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("the manifest cannot be read: {0}")]
    Format(String),
    /// Of another version of the format.
    #[error("the manifest has format {found}, this program knows format {FORMAT}; update it")]
    UnknownFormat {
        /// The format found.
        found: u32,
    },
    /// TOML cannot hold its serial number.
    #[error("the manifest is wrong: serial must be at most {MAX_SERIAL}")]
    Serial,
    /// It has a value that TOML does not give back.
    #[error("the manifest is wrong: it does not survive writing and reading")]
    Unwritable,
    /// A release is wrong.
    #[error("the manifest is wrong: release {version:?}: {fault}")]
    Release {
        /// The version of the release, as the manifest has it.
        version: String,
        /// The fault of the release.
        fault: ReleaseFault,
    },
}

/// Why a signed manifest is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature is not valid.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signed content cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Older than a manifest that was seen before.
    #[error(
        "the manifest has the serial number {serial}, at least {minimum} is expected: an old one replaced it; take the \
        newest from the publisher"
    )]
    Rollback {
        /// The serial number found.
        serial: u64,
        /// The lowest serial number that is accepted.
        minimum: u64,
    },
    /// Its time is over.
    #[error("the manifest expired at {not_after}; take the newest from the publisher")]
    Expired {
        /// Last time at which it may be used.
        not_after: Timestamp,
    },
}

/// Why a release may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not in the manifest.
    #[error("the manifest has no release {version}")]
    Unknown {
        /// The version asked for.
        version: String,
    },
    /// Not yet to be used.
    #[error("release {version} may not be used before {not_before}")]
    NotYet {
        /// The version.
        version: String,
        /// First time at which it may be used.
        not_before: Timestamp,
    },
    /// No longer to be used.
    #[error("release {version} expired at {not_after}; use a newer one")]
    Expired {
        /// The version.
        version: String,
        /// Last time at which it may be used.
        not_after: Timestamp,
    },
    /// Not to be used at all.
    #[error("release {version} is withdrawn: {reason}")]
    Withdrawn {
        /// The version.
        version: String,
        /// Why.
        reason: String,
    },
}

/// A publisher's statements about its releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub format: u32,
    /// Increases with every manifest that the publisher signs, so that an old one is recognized.
    pub serial: u64,
    /// Last time at which this manifest may be used.
    pub not_after: Timestamp,
    /// The releases.
    #[serde(default)]
    pub releases: Vec<Release>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Release {
    /// Version, by which policies name it.
    pub version: String,
    /// Its status.
    pub status: ReleaseStatus,
    /// Why it is deprecated or withdrawn.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// First time at which it may be used.
    pub not_before: Timestamp,
    /// Last time at which it may be used.
    pub not_after: Timestamp,
    /// Its minimum requirements for the guest policy.
    #[serde(default)]
    pub guest_policy: GuestPolicyFloor,
    /// Its layers.
    pub layers: Layers,
    /// Its launch digests.
    pub launches: Vec<LaunchDigest>,
}

impl Manifest {
    /// A manifest without releases.
    #[must_use]
    pub fn new() -> Self {
        Self {
            format: FORMAT,
            serial: 0,
            not_after: Timestamp(0),
            releases: Vec::new(),
        }
    }

    /// Adds a release and increments the serial number. The manifest may be used as long as one of its releases.
    ///
    /// # Errors
    /// [`ManifestError`], such as for a version that is there already; the manifest is as before then.
    pub fn add(&mut self, release: Release) -> Result<(), ManifestError> {
        let mut next = self.clone();
        next.serial = next.serial.saturating_add(1);
        next.not_after = next.not_after.max(release.not_after);
        next.releases.push(release);
        next.check()?;
        *self = next;
        Ok(())
    }

    /// Reads a manifest. Nothing in it is to be believed before its signature has been checked: see [`verify`].
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        /// The version of the format alone, whatever else is there.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        if bytes.len() > MAX_MANIFEST_LEN {
            return Err(ManifestError::TooLarge { len: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| ManifestError::NotText)?;
        let format = |error: toml::de::Error| {
            ManifestError::Format(located(text, error.span(), error.message()))
        };
        let head: Head = toml::from_str(text).map_err(format)?;
        if head.format != FORMAT {
            return Err(ManifestError::UnknownFormat { found: head.format });
        }
        let manifest: Self = toml::from_str(text).map_err(format)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// This manifest as TOML.
    ///
    /// # Errors
    /// [`ManifestError`] when it could not be read back.
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        self.check()?;
        let text = toml::to_string(self).map_err(|e| ManifestError::Format(e.to_string()))?;
        if Self::parse(text.as_bytes())? == *self {
            Ok(text)
        } else {
            Err(ManifestError::Unwritable)
        }
    }

    /// The published schema of a manifest as JSON.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }

    /// Checks what types cannot say.
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::UnknownFormat { found: self.format });
        }
        if self.serial > MAX_SERIAL {
            return Err(ManifestError::Serial);
        }
        let mut versions = BTreeSet::new();
        let mut digests: [BTreeSet<Hex<48>>; 2] = Default::default();
        for release in &self.releases {
            release.check().map_err(|fault| release.wrong(fault))?;
            if !versions.insert(&release.version) {
                return Err(release.wrong(ReleaseFault::Twice));
            }
            let [genuine, simulated] = &mut digests;
            for launch in &release.launches {
                let (own, other) = match launch.platform {
                    PlatformKind::Snp => (&mut *genuine, &*simulated),
                    PlatformKind::Simulated => (&mut *simulated, &*genuine),
                };
                own.insert(launch.digest);
                if other.contains(&launch.digest) {
                    return Err(release.wrong(ReleaseFault::Platforms));
                }
            }
        }
        Ok(())
    }
}

impl Release {
    /// A current release of a measured build, for guests that the host may neither debug nor migrate.
    #[must_use]
    pub fn of(measurement: &Measurement, not_before: Timestamp, not_after: Timestamp) -> Self {
        Self {
            version: measurement.version.clone(),
            status: ReleaseStatus::Current,
            reason: String::new(),
            not_before,
            not_after,
            guest_policy: GuestPolicyFloor {
                forbid: [GuestPolicy::DEBUG, GuestPolicy::MIGRATE_MA]
                    .map(|bit| bit.name.to_owned())
                    .to_vec(),
                ..GuestPolicyFloor::default()
            },
            layers: measurement.layers,
            launches: measurement
                .launches
                .iter()
                .map(|measured| measured.launch.clone())
                .collect(),
        }
    }

    /// True if the release may be used at this time. A deprecated one may.
    ///
    /// # Errors
    /// [`ReleaseError::Withdrawn`], [`ReleaseError::NotYet`] or [`ReleaseError::Expired`].
    pub fn usable(&self, at: Timestamp) -> Result<(), ReleaseError> {
        let version = self.version.clone();
        if self.status == ReleaseStatus::Withdrawn {
            let reason = self.reason.clone();
            return Err(ReleaseError::Withdrawn { version, reason });
        }
        if at < self.not_before {
            let not_before = self.not_before;
            return Err(ReleaseError::NotYet {
                version,
                not_before,
            });
        }
        if at > self.not_after {
            let not_after = self.not_after;
            return Err(ReleaseError::Expired { version, not_after });
        }
        Ok(())
    }

    fn wrong(&self, fault: ReleaseFault) -> ManifestError {
        ManifestError::Release {
            version: self.version.clone(),
            fault,
        }
    }

    /// Checks what types cannot say.
    fn check(&self) -> Result<(), ReleaseFault> {
        if !is_release_version(&self.version) {
            return Err(ReleaseFault::Version);
        }
        if self.status == ReleaseStatus::Withdrawn && self.reason.trim().is_empty() {
            return Err(ReleaseFault::NoReason);
        }
        // The reason is shown on terminals.
        if self.reason.len() > MAX_REASON_LEN || printable(&self.reason) != self.reason {
            return Err(ReleaseFault::Reason);
        }
        for time in [self.not_before, self.not_after] {
            if time > Timestamp::LAST_DATE {
                return Err(ReleaseFault::Time(time.0));
            }
        }
        if self.not_before > self.not_after {
            return Err(ReleaseFault::Times);
        }
        if let Some(name) = self.guest_policy.unknown() {
            return Err(ReleaseFault::GuestPolicy(name.to_owned()));
        }
        let policy = &self.guest_policy;
        if let Some(name) = policy.require.iter().find(|n| policy.forbid.contains(n)) {
            return Err(ReleaseFault::Contradiction(name.clone()));
        }
        if self.launches.is_empty() {
            return Err(ReleaseFault::NoLaunches);
        }
        let mut launches = BTreeSet::new();
        for launch in &self.launches {
            let range = 1..=MAX_VCPUS;
            if !usize::try_from(launch.vcpus).is_ok_and(|vcpus| range.contains(&vcpus)) {
                return Err(ReleaseFault::Vcpus);
            }
            if launch.products.is_empty() {
                return Err(ReleaseFault::NoProducts);
            }
            for product in &launch.products {
                if product::by_name(product).is_none() {
                    return Err(ReleaseFault::Product(product.clone()));
                }
                if !launches.insert((launch.platform, product, launch.vcpus)) {
                    return Err(ReleaseFault::Launches {
                        platform: launch.platform,
                        product: product.clone(),
                        vcpus: launch.vcpus,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A manifest whose signature is valid; [`verify`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    signed_by: Hex<32>,
}

impl VerifiedManifest {
    /// Returns the publisher's manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Fingerprint of the key that signed it.
    #[must_use]
    pub fn signed_by(&self) -> Hex<32> {
        self.signed_by
    }

    /// The release of this version, when it may be used at this time.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn release(&self, version: &str, at: Timestamp) -> Result<&Release, ReleaseError> {
        let release = self
            .manifest
            .releases
            .iter()
            .find(|release| release.version == version)
            .ok_or_else(|| ReleaseError::Unknown {
                version: version.to_owned(),
            })?;
        release.usable(at)?;
        Ok(release)
    }

    /// Returns the verifier's references: every launch digest of every release, even withdrawn ones, which are refused
    /// by name.
    #[must_use]
    pub fn reference_values(&self) -> Vec<ReferenceValue> {
        let releases = self.manifest.releases.iter();
        releases
            .flat_map(|release| {
                release.launches.iter().map(|launch| ReferenceValue {
                    release: release.version.clone(),
                    status: release.status,
                    reason: release.reason.clone(),
                    not_before: release.not_before,
                    not_after: release.not_after,
                    guest_policy: release.guest_policy.clone(),
                    launch: launch.clone(),
                })
            })
            .collect()
    }
}

/// Checks a manifest: its signature under one of the trusted keys first, then its form, then its serial number against
/// the lowest that the caller accepts (the highest one it has seen), then its time.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(
    bytes: &[u8],
    signature: &[u8],
    trusted: &[PublicKey],
    minimum_serial: Option<u64>,
    at: Timestamp,
) -> Result<VerifiedManifest, VerifyError> {
    let signed_by = signature::check(bytes, signature, trusted)?.fingerprint();
    let manifest = Manifest::parse(bytes)?;
    if let Some(minimum) = minimum_serial.filter(|minimum| manifest.serial < *minimum) {
        let serial = manifest.serial;
        return Err(VerifyError::Rollback { serial, minimum });
    }
    if at > manifest.not_after {
        let not_after = manifest.not_after;
        return Err(VerifyError::Expired { not_after });
    }
    Ok(VerifiedManifest {
        manifest,
        signed_by,
    })
}
