//! Reference values: the launch digests of released Keeps, as a release manifest vouches for them, and how a report is
//! judged by them. Trusts the caller, who has checked the manifest's signature; the report is hostile.

use crate::Timestamp;
use crate::checks::Checks;
use crate::hex::Hex;
use crate::policy::{Policy, version};
use crate::snp::Product;
use enarx_snp::bits::GuestPolicy;
use enarx_snp::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name in `snp.releases` that stands for every release whose status is `current`.
pub const ANY_CURRENT: &str = "any-current";
/// Characters of the longest version of a release.
const MAX_VERSION_LEN: usize = 64;

/// Whether `version` can name a release: 1 to 64 of letters, digits, `.`, `-`, `_` and `+`, and not [`ANY_CURRENT`].
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

/// What its publisher says of a release.
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
    /// Product generations on which it is this digest: milan, genoa, bergamo-siena, turin.
    pub products: Vec<String>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// The launch digest.
    pub digest: Hex<48>,
}

/// The least that a release asks of the guest policy (56860 GUEST_POLICY), by the names of its bits.
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

    /// What a guest policy lacks; empty when it suffices. A name that is not known is lacking.
    fn problems(&self, found: GuestPolicy) -> Vec<String> {
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
    /// The least that it asks of the guest policy.
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

/// What a report is judged by.
struct Judge<'a> {
    policy: &'a Policy,
    /// True if a manifest was given.
    manifest: bool,
    references: &'a [ReferenceValue],
    product: Option<&'a Product>,
    platform: PlatformKind,
    at: Timestamp,
}

const IMAGE: &str = "another program was launched, or with another number of vCPUs: run what the policy names; add its \
                     digest only if you recomputed it yourself (`enarx measure`)";

/// Judges the launch digest by `snp.measurements` and `snp.releases`, and the guest policy by the release's floor.
pub(crate) fn judge(
    report: &Report,
    product: Option<&Product>,
    policy: &Policy,
    references: Option<&[ReferenceValue]>,
    at: Timestamp,
    checks: &mut Checks,
) {
    let platform = if checks.simulated {
        PlatformKind::Simulated
    } else {
        PlatformKind::Snp
    };
    let judge = Judge {
        policy,
        manifest: references.is_some(),
        references: references.unwrap_or_default(),
        product,
        platform,
        at,
    };
    let release = judge.measurement(&Hex(report.measurement), checks);
    let Some(release) = release else {
        checks.skip(
            "guest-policy.release",
            "no release was recognized by its launch digest",
        );
        return;
    };
    checks.claim("guest.release", &release.release);
    checks.claim("guest.vcpus", release.launch.vcpus);
    let floor = &release.guest_policy;
    let problems = floor.problems(report.guest_policy());
    if *floor == GuestPolicyFloor::default() {
        checks.skip("guest-policy.release", "the release asks for nothing");
    } else {
        let actual = if problems.is_empty() {
            "as asked".to_owned()
        } else {
            problems.join(", ")
        };
        checks.test(
            "guest-policy.release",
            problems.is_empty(),
            format!("{floor} (asked by release {})", release.release),
            actual,
            "launch the guest with the guest policy that its release asks for",
        );
    }
}

impl<'a> Judge<'a> {
    /// Judges the launch digest; the release that it is accepted as.
    fn measurement(&self, found: &Hex<48>, checks: &mut Checks) -> Option<&'a ReferenceValue> {
        const NAME: &str = "guest.measurement";
        let policy = &self.policy.snp;
        let of_digest = |v: &&'a ReferenceValue| v.launch.digest == *found;
        let candidates: Vec<_> = self.references.iter().filter(of_digest).collect();
        let withdrawn = |v: &&&ReferenceValue| v.status == ReleaseStatus::Withdrawn;
        // A publisher withdraws what must not run: a digest in the policy does not outweigh that.
        if let Some(value) = candidates.iter().find(withdrawn) {
            checks.fail(
                NAME,
                "a release that is not withdrawn",
                format!("{value}, which is withdrawn: {}", value.reason),
                "run a current release",
            );
            return None;
        }
        let pinned = policy.measurements.contains(found);
        let here = |v: &&ReferenceValue| v.launch.platform == self.platform;
        // Nor one that its publisher made for the other kind of platform.
        if pinned && (candidates.is_empty() || candidates.iter().any(here)) {
            checks.pass(NAME, self.expected(), found.to_string());
            let acceptable = |v: &&&ReferenceValue| self.acceptable(v).is_ok();
            return candidates.iter().find(acceptable).copied();
        }
        if self.manifest && policy.releases.is_empty() && policy.measurements.is_empty() {
            checks.fail(
                NAME,
                "a policy that says which releases it accepts",
                format!("{found}, and the policy names neither releases nor measurements"),
                "name releases in snp.releases, such as any-current, or give no release manifest",
            );
            return None;
        }
        if policy.releases.is_empty() && !pinned {
            checks.one_of(NAME, &policy.measurements, found, IMAGE);
            return None;
        }
        let mut refusals = Vec::new();
        let mut deprecated = None;
        for value in candidates {
            match self.acceptable(value) {
                Err(refusal) => refusals.push(format!("{value}{refusal}")),
                Ok(()) if value.status == ReleaseStatus::Deprecated => deprecated = Some(value),
                Ok(()) => {
                    checks.pass(NAME, self.expected(), format!("{found}, {value}"));
                    return Some(value);
                }
            }
        }
        if let Some(value) = deprecated {
            checks.warn(
                NAME,
                self.expected(),
                format!("{value}, which is deprecated: {}", value.reason),
                "move to a current release",
            );
            return Some(value);
        }
        let (actual, remedy) = if !self.manifest {
            (
                format!("{found}, and no release manifest was given"),
                "give the signed release manifest and its public key",
            )
        } else if refusals.is_empty() {
            (
                format!("{found}, which is of no release in the manifest"),
                "run a released image, or take the manifest that names this one",
            )
        } else {
            (
                refusals.join("; "),
                "run a release that the policy accepts, or name this one in snp.releases",
            )
        };
        checks.fail(NAME, self.expected(), actual, remedy);
        None
    }

    /// Why the policy does not accept a release that is not withdrawn.
    fn acceptable(&self, value: &ReferenceValue) -> Result<(), String> {
        let launch = &value.launch;
        if launch.platform != self.platform {
            let kind = match self.platform {
                PlatformKind::Snp => "not of a simulator",
                PlatformKind::Simulated => "of a simulator",
            };
            return Err(format!(", but the report is {kind}"));
        }
        let policy = &self.policy.snp;
        let current = value.status == ReleaseStatus::Current;
        let names =
            |wanted: &String| *wanted == value.release || (*wanted == ANY_CURRENT && current);
        if !policy.releases.iter().any(names) && !policy.measurements.contains(&launch.digest) {
            return Err(format!(
                ", which is {} and not one that the policy names",
                value.status
            ));
        }
        let listed = |name: &str| launch.products.iter().any(|p| p == name);
        let fits = |product: &Product| product.generations().all(|g| listed(g.name));
        if !self.product.is_some_and(fits) {
            let product = self
                .product
                .map_or_else(|| "unknown".to_owned(), ToString::to_string);
            return Err(format!(
                ", which is for {}, but the CPU is {product}",
                launch.products.join(", ")
            ));
        }
        let skew = self.policy.clock_skew_seconds;
        if value.not_before > self.at.later(skew) {
            return Err(format!(
                ", which may not be used before {}",
                value.not_before
            ));
        }
        if value.not_after < self.at.earlier(skew) {
            return Err(format!(", which expired at {}", value.not_after));
        }
        Ok(())
    }

    /// What the policy asks for, in words.
    fn expected(&self) -> String {
        let policy = &self.policy.snp;
        let releases = policy.releases.iter().map(|wanted| self.described(wanted));
        let digests = policy.measurements.iter().map(ToString::to_string);
        let all: Vec<_> = releases.chain(digests).collect();
        all.join(" or ")
    }

    /// An entry of `snp.releases` with what the manifest has for it on this platform.
    fn described(&self, wanted: &str) -> String {
        let platform = self.platform;
        let here = |v: &&ReferenceValue| v.launch.platform == platform;
        if wanted == ANY_CURRENT {
            let current = |v: &&ReferenceValue| v.status == ReleaseStatus::Current;
            let mut names: Vec<&str> = self
                .references
                .iter()
                .filter(here)
                .filter(current)
                .map(|v| v.release.as_str())
                .collect();
            names.dedup();
            return match names.as_slice() {
                [] => format!("any current release (the manifest has none for {platform})"),
                names => format!("any current release ({}, {platform})", names.join(", ")),
            };
        }
        let named = |v: &&ReferenceValue| v.release == wanted;
        let digests = self.references.iter().filter(here).filter(named).count();
        match digests {
            0 => format!("release {wanted} (the manifest has none for {platform})"),
            1 => format!("release {wanted} ({platform}, 1 launch digest)"),
            digests => format!("release {wanted} ({platform}, {digests} launch digests)"),
        }
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
