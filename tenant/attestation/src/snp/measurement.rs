// SPDX-License-Identifier: Apache-2.0

//! Judging a report's launch digest: the policy accepts it directly or through a release manifest. Trusts the
//! caller, who has checked the manifest's signature; the report is hostile.

use super::product::Product;
use crate::Timestamp;
use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::hex::Hex;
use crate::policy::Policy;
use crate::reference::{
    ANY_CURRENT, GuestPolicyFloor, PlatformKind, ReferenceValue, ReleaseStatus,
};
use enarx_snp::report::Report;

/// The values that a report is judged by.
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
pub(super) fn judge(
    report: &Report,
    product: Option<&Product>,
    context: &Context<'_>,
    checks: &mut Checks,
) {
    let Context {
        policy, expected, ..
    } = context;
    let references = expected.references;
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
        at: expected.at,
    };
    let release = judge.measurement(&Hex(report.measurement), checks);
    let Some(release) = release else {
        checks.skip(
            "guest-policy.release",
            "no release was recognized by its launch digest",
        );
        return;
    };
    checks.limit_validity(release.not_after);
    checks.claim(Claim::GuestRelease, &release.release);
    checks.claim(Claim::GuestVcpus, release.launch.vcpus);
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
                format!("{found}, which belongs to no release in the manifest"),
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

    /// The policy's wish, in words.
    fn expected(&self) -> String {
        let policy = &self.policy.snp;
        let releases = policy.releases.iter().map(|wanted| self.described(wanted));
        let digests = policy.measurements.iter().map(ToString::to_string);
        let all: Vec<_> = releases.chain(digests).collect();
        all.join(" or ")
    }

    /// An entry of `snp.releases` with the manifest's data for it on this platform.
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
