// SPDX-License-Identifier: Apache-2.0

//! Reference values: the launch digests of released Keeps, as a release manifest vouches for them.

use crate::Timestamp;
use crate::hex::Hex;
use crate::version::version;
use enarx_snp::bits::GuestPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name in `snp.releases` that stands for every release whose status is `current`.
pub const ANY_CURRENT: &str = "any-current";
/// Characters of the longest version of a release.
const MAX_VERSION_LEN: usize = 64;

/// True if `version` can name a release: 1 to 64 of letters, digits, `.`, `-`, `_` and `+`, and not [`ANY_CURRENT`].
pub fn is_release_version(version: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    (1..=MAX_VERSION_LEN).contains(&version.len())
        && version.chars().all(known)
        && version != ANY_CURRENT
}

/// The kind of platform that measured a launch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformKind {
    /// AMD SEV-SNP.
    Snp,
    /// The simulated platform: no hardware protects such a guest.
    Simulated,
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Snp => "snp",
            Self::Simulated => "simulated",
        })
    }
}

/// The publisher's judgement of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStatus {
    /// To be used.
    Current,
    /// Superseded; accepted, with a degraded verdict, where a policy names it.
    Deprecated,
    /// Not to be used; refused whatever a policy names.
    Withdrawn,
}

impl fmt::Display for ReleaseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Current => "current",
            Self::Deprecated => "deprecated",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// The launch digest of a release for one number of vCPUs on one kind of platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LaunchDigest {
    /// The kind of platform.
    pub platform: PlatformKind,
    /// Product generations that have this digest: milan, genoa, bergamo-siena, turin.
    pub products: Vec<String>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// The launch digest.
    pub digest: Hex<48>,
}

/// A release's minimum requirements for the guest policy (56860 GUEST_POLICY), by the names of its bits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GuestPolicyFloor {
    /// Bits that must be set, such as single-socket.
    pub require: Vec<String>,
    /// Bits that must not be set, such as debug.
    pub forbid: Vec<String>,
    /// Least ABI version that the guest policy must ask of the firmware, as major.minor.
    pub min_abi: Option<String>,
}

impl GuestPolicyFloor {
    /// The first name or version that means nothing, `None` when all are known.
    pub fn unknown(&self) -> Option<&str> {
        let known = |name: &str| GuestPolicy::BITS.iter().any(|bit| bit.name == name);
        let bits = self.require.iter().chain(&self.forbid);
        let abi = self.min_abi.iter().filter(|v| version::<2>(v).is_none());
        bits.filter(|name| !known(name))
            .chain(abi)
            .map(String::as_str)
            .next()
    }

    /// Lists the shortfalls of a guest policy; empty when it suffices. A name that is not known is a shortfall.
    pub(crate) fn problems(&self, found: GuestPolicy) -> Vec<String> {
        let set = |name: &String| {
            let bit = GuestPolicy::BITS.iter().find(|bit| bit.name == *name);
            bit.map(|bit| found.has(*bit))
        };
        let required = self.require.iter().filter(|name| set(name) != Some(true));
        let forbidden = self.forbid.iter().filter(|name| set(name) != Some(false));
        let abi = (found.abi_major(), found.abi_minor());
        let too_old = self
            .min_abi
            .as_ref()
            .filter(|least| version::<2>(least).is_none_or(|[major, minor]| abi < (major, minor)));
        required
            .map(|name| format!("{name} is not set"))
            .chain(forbidden.map(|name| format!("{name} is set")))
            .chain(too_old.map(|_| format!("ABI {}.{}", abi.0, abi.1)))
            .collect()
    }
}

impl fmt::Display for GuestPolicyFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.require.iter().map(|name| format!("{name} set"));
        let clear = self.forbid.iter().map(|name| format!("{name} not set"));
        let abi = self.min_abi.iter().map(|v| format!("ABI at least {v}"));
        let all: Vec<_> = set.chain(clear).chain(abi).collect();
        f.write_str(&all.join(", "))
    }
}

/// One launch digest of one release, with all that its publisher says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceValue {
    /// Version of the release.
    pub release: String,
    /// Its status.
    pub status: ReleaseStatus,
    /// Why it is deprecated or withdrawn; empty for a current one.
    pub reason: String,
    /// First time at which it may be used.
    pub not_before: Timestamp,
    /// Last time at which it may be used.
    pub not_after: Timestamp,
    /// Its minimum requirements for the guest policy.
    pub guest_policy: GuestPolicyFloor,
    /// The launch and its digest.
    pub launch: LaunchDigest,
}

impl fmt::Display for ReferenceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.launch.vcpus == 1 { "" } else { "s" };
        write!(
            f,
            "release {} ({}, {} vCPU{plural})",
            self.release, self.launch.platform, self.launch.vcpus
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_name_releases() {
        for good in ["0.8.0", "1.0.0-rc.1+build_7", "x"] {
            assert!(is_release_version(good), "{good}");
        }
        let long = "1".repeat(65);
        for bad in ["", ANY_CURRENT, "0 8", "0.8\n", "ü", &long] {
            assert!(!is_release_version(bad), "{bad}");
        }
    }

    #[test]
    fn a_floor_says_what_a_guest_policy_lacks() {
        let floor = GuestPolicyFloor {
            require: vec!["single-socket".into()],
            forbid: vec!["debug".into(), "smt".into()],
            min_abi: Some("1.55".into()),
        };
        assert_eq!(floor.unknown(), None);
        let good = GuestPolicy::SINGLE_SOCKET.mask() | 0x0137;
        assert!(floor.problems(GuestPolicy(good)).is_empty());
        let bad = GuestPolicy::DEBUG.mask() | 0x0136;
        assert_eq!(
            floor.problems(GuestPolicy(bad)),
            ["single-socket is not set", "debug is set", "ABI 1.54"]
        );
        let unknown = GuestPolicyFloor {
            forbid: vec!["everything".into()],
            ..GuestPolicyFloor::default()
        };
        assert_eq!(unknown.unknown(), Some("everything"));
        assert!(!unknown.problems(GuestPolicy(0)).is_empty());
    }
}
