// SPDX-License-Identifier: Apache-2.0

//! Reports verified with releases: which release is accepted, which is refused, and with which words.

use crate::platform::{DAY, NOW, Platform};
use crate::vectors::{self, Case};
use enarx_attestation::hex::Hex;
use enarx_attestation::policy::SnpPolicy;
use enarx_attestation::reference::{
    ANY_CURRENT, GuestPolicyFloor, LaunchDigest, PlatformKind, ReleaseStatus,
};
use enarx_attestation::{
    Expected, Outcome, Overall, Policy, ReferenceValue, Timestamp, Verdict, Verifier,
};
use enarx_snp::product::{GENOA, MILAN};
use zerocopy::IntoBytes;

use ReleaseStatus::{Current, Deprecated, Withdrawn};

/// The digest in the reports of [`Platform`].
const DIGEST: Hex<48> = Hex([4; 48]);
const OTHER: Hex<48> = Hex([5; 48]);

fn reference(release: &str, status: ReleaseStatus, digest: Hex<48>) -> ReferenceValue {
    ReferenceValue {
        release: release.to_owned(),
        status,
        reason: match status {
            Current => String::new(),
            Deprecated => "superseded".to_owned(),
            Withdrawn => "a hole in the microkernel".to_owned(),
        },
        not_before: Timestamp(NOW - 9 * DAY),
        not_after: Timestamp(NOW + 9 * DAY),
        guest_policy: GuestPolicyFloor::default(),
        launch: LaunchDigest {
            platform: PlatformKind::Simulated,
            products: vec!["milan".to_owned(), "turin".to_owned()],
            vcpus: 2,
            digest,
        },
    }
}

/// A Milan platform whose policy names these releases and no digest.
fn platform(releases: &[&str]) -> Platform {
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.measurements.clear();
    platform.policy.snp.releases = releases.iter().map(|r| (*r).to_owned()).collect();
    platform
}

fn judged(platform: &Platform, references: &[ReferenceValue]) -> Verdict {
    let endorsement = platform.endorse();
    let mut report = platform.report;
    endorsement.sign(&mut report);
    Verifier::new(platform.policy.clone()).verify(
        report.as_bytes(),
        &platform.endorsements(&endorsement),
        &Expected::at(Timestamp(NOW)).with_references(references),
    )
}

const NO_RELEASES: &str = "the policy names neither releases nor measurements";

/// Asserts the outcome of the measurement, that no other check fails, and words of the finding.
#[track_caller]
fn assert_measurement(verdict: &Verdict, outcome: Outcome, words: &str) {
    let check = verdict.check("guest.measurement").unwrap();
    assert_eq!(check.outcome, outcome, "{verdict}");
    assert!(check.actual.contains(words), "{words}: {check:?}");
    let failed = verdict
        .with_outcome(Outcome::Fail)
        .map(|check| check.name.as_ref());
    let failed: Vec<_> = failed.collect();
    match outcome {
        Outcome::Fail => {
            assert_eq!(failed, ["guest.measurement"], "{verdict}");
            assert_eq!(verdict.overall, Overall::Invalid);
            assert!(!verdict.claims.contains_key("guest.release"));
        }
        _ => assert!(failed.is_empty(), "{verdict}"),
    }
}

#[test]
fn a_release_that_the_policy_names_is_accepted() {
    let references = [
        reference("0.7.9", Current, OTHER),
        reference("0.8.0", Current, DIGEST),
    ];
    for releases in [&["0.8.0"][..], &[ANY_CURRENT], &["0.7.9", "0.8.0"]] {
        let verdict = judged(&platform(releases), &references);
        assert_measurement(
            &verdict,
            Outcome::Pass,
            "release 0.8.0 (simulated, 2 vCPUs)",
        );
        assert_eq!(verdict.overall, Overall::Simulated);
        assert_eq!(verdict.claims["guest.release"], "0.8.0");
        assert_eq!(verdict.claims["guest.vcpus"], "2");
    }
    let verdict = judged(&platform(&["0.7.9"]), &references);
    assert_measurement(
        &verdict,
        Outcome::Fail,
        "release 0.8.0 (simulated, 2 vCPUs), which is current and not one that the policy names",
    );
    let check = verdict.check("guest.measurement").unwrap();
    assert_eq!(check.expected, "release 0.7.9 (simulated, 1 launch digest)");
}

#[test]
fn expected_and_found_releases_are_reported() {
    let mut platform = platform(&["0.8.0", ANY_CURRENT, "0.9.0"]);
    let verdict = platform.verify();
    assert_measurement(&verdict, Outcome::Fail, "no release manifest was given");
    let verdict = judged(&platform, &[]);
    assert_measurement(&verdict, Outcome::Fail, "to no release in the manifest");
    let mut snp = reference("1.0.0", Current, OTHER);
    snp.launch.platform = PlatformKind::Snp;
    let references = [
        reference("0.8.0", Current, OTHER),
        reference("0.8.0", Current, Hex([6; 48])),
        reference("0.8.1", Current, OTHER),
        reference("0.8.2", Deprecated, OTHER),
        snp,
    ];
    let verdict = judged(&platform, &references);
    assert_measurement(
        &verdict,
        Outcome::Fail,
        "04, which belongs to no release in the manifest",
    );
    assert_eq!(
        verdict.check("guest.measurement").unwrap().expected,
        "release 0.8.0 (simulated, 2 launch digests) or any current release (0.8.0, 0.8.1, simulated) \
         or release 0.9.0 (the manifest has none for simulated)"
    );
    // A manifest that nothing in the policy refers to would have no effect.
    platform.policy.snp.releases.clear();
    for references in [&references[..], &[]] {
        let verdict = judged(&platform, references);
        assert_measurement(&verdict, Outcome::Fail, NO_RELEASES);
    }
    assert_measurement(&platform.verify(), Outcome::Skipped, "names none");
}

#[test]
fn deprecated_releases_degrade_and_withdrawn_ones_are_refused() {
    let deprecated = [reference("0.7.0", Deprecated, DIGEST)];
    let verdict = judged(&platform(&["0.7.0"]), &deprecated);
    assert_measurement(
        &verdict,
        Outcome::Warn,
        "release 0.7.0 (simulated, 2 vCPUs), which is deprecated: superseded",
    );
    assert!(verdict.is_accepted());
    assert_measurement(
        &judged(&platform(&[ANY_CURRENT]), &deprecated),
        Outcome::Fail,
        "which is deprecated and not one that the policy names",
    );

    let withdrawn = [
        reference("0.8.0", Current, DIGEST),
        reference("0.7.1", Withdrawn, DIGEST),
    ];
    let mut platform = platform(&["0.7.1", "0.8.0", ANY_CURRENT]);
    let words = "release 0.7.1 (simulated, 2 vCPUs), which is withdrawn: a hole in the microkernel";
    assert_measurement(&judged(&platform, &withdrawn), Outcome::Fail, words);
    // Nor does a digest in the policy outweigh it, with or without releases.
    platform.policy.snp.measurements = vec![DIGEST];
    assert_measurement(&judged(&platform, &withdrawn), Outcome::Fail, words);
    platform.policy.snp.releases.clear();
    assert_measurement(&judged(&platform, &withdrawn), Outcome::Fail, words);
}

#[test]
fn releases_are_limited_to_times_and_products() {
    let platform = platform(&["0.8.0"]);
    let with = |change: &dyn Fn(&mut ReferenceValue)| {
        let mut value = reference("0.8.0", Current, DIGEST);
        change(&mut value);
        judged(&platform, &[value])
    };
    let skew = u64::from(platform.policy.clock_skew_seconds);
    let verdict = with(&|v| v.not_after = Timestamp(NOW - skew));
    assert_measurement(&verdict, Outcome::Pass, "0.8.0");
    let verdict = with(&|v| v.not_after = Timestamp(NOW - skew - 1));
    assert_measurement(&verdict, Outcome::Fail, "which expired at 2026-09-21T");
    let verdict = with(&|v| v.not_before = Timestamp(NOW + skew));
    assert_measurement(&verdict, Outcome::Pass, "0.8.0");
    let verdict = with(&|v| v.not_before = Timestamp(NOW + skew + 1));
    assert_measurement(&verdict, Outcome::Fail, "which may not be used before 2026");
    let verdict = with(&|v| v.launch.products = vec!["turin".to_owned()]);
    let words = "which is for turin, but the CPU is milan";
    assert_measurement(&verdict, Outcome::Fail, words);
    // A second entry for the same digest may still match.
    let mut turin = reference("0.8.0", Current, DIGEST);
    turin.launch.products = vec!["turin".to_owned()];
    let both = [turin, reference("0.8.0", Current, DIGEST)];
    assert_measurement(&judged(&platform, &both), Outcome::Pass, "0.8.0");
}

#[test]
fn a_digest_in_the_policy_counts_in_addition_to_releases() {
    let mut platform = platform(&["0.8.0"]);
    platform.policy.snp.measurements = vec![DIGEST];
    let verdict = platform.verify();
    assert_measurement(&verdict, Outcome::Pass, "0404");
    assert!(!verdict.claims.contains_key("guest.release"));
    let verdict = judged(&platform, &[reference("0.7.9", Current, DIGEST)]);
    assert_measurement(&verdict, Outcome::Pass, "0404");
    assert_eq!(verdict.claims["guest.release"], "0.7.9");
}

#[test]
fn a_digest_of_the_other_kind_of_platform_never_counts() {
    let mut genuine = reference("0.8.0", Current, DIGEST);
    genuine.launch.platform = PlatformKind::Snp;
    let words = "release 0.8.0 (snp, 2 vCPUs), but the report is of a simulator";
    let mut platform = platform(&["0.8.0"]);
    let verdict = judged(&platform, std::slice::from_ref(&genuine));
    assert_measurement(&verdict, Outcome::Fail, words);
    platform.policy.snp.measurements = vec![DIGEST];
    let verdict = judged(&platform, std::slice::from_ref(&genuine));
    assert_measurement(&verdict, Outcome::Fail, words);
    platform.policy.snp.releases.clear();
    assert_measurement(&judged(&platform, &[genuine]), Outcome::Fail, words);
}

#[test]
fn genuine_reports_are_judged_by_genuine_releases() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-genoa-v3-vcek-227a641d");
    let digest: Hex<48> = case.text("measurement").unwrap().parse().unwrap();
    let policy = Policy {
        snp: SnpPolicy {
            releases: vec![ANY_CURRENT.to_owned()],
            ..Policy::insecure_authenticity_only().snp
        },
        ..Policy::insecure_authenticity_only()
    };
    let mut value = reference("0.8.0", Current, digest);
    value.launch.products = vec![GENOA.name.to_owned()];
    let judged = |value: &ReferenceValue| {
        Verifier::new(policy.clone()).verify(
            &case.evidence,
            &case.endorsements,
            &Expected::at(Timestamp(NOW)).with_references(std::slice::from_ref(value)),
        )
    };
    assert_measurement(
        &judged(&value),
        Outcome::Fail,
        "release 0.8.0 (simulated, 2 vCPUs), but the report is not of a simulator",
    );
    value.launch.platform = PlatformKind::Snp;
    let verdict = judged(&value);
    assert_measurement(&verdict, Outcome::Pass, "release 0.8.0 (snp, 2 vCPUs)");
    assert_eq!(verdict.overall, Overall::Valid);
}

#[test]
fn a_release_requires_its_guest_policy() {
    const NAME: &str = "guest-policy.release";
    let mut platform = platform(&["0.8.0"]);
    let mut value = reference("0.8.0", Current, DIGEST);
    let skipped = judged(&platform, std::slice::from_ref(&value));
    assert_eq!(skipped.check(NAME).unwrap().outcome, Outcome::Skipped);
    value.guest_policy = GuestPolicyFloor {
        require: vec!["single-socket".to_owned()],
        forbid: vec!["debug".to_owned()],
        min_abi: Some("1.58".to_owned()),
    };
    let verdict = judged(&platform, std::slice::from_ref(&value));
    assert_eq!(verdict.check(NAME).unwrap().outcome, Outcome::Pass);
    platform.policy.snp.guest_policy.insecure_allow_debug = true;
    platform.policy.snp.guest_policy.min_abi = None;
    // Debug on, ABI 1.57.
    platform.report.policy.set(0x3DB_0139);
    let verdict = judged(&platform, &[value]);
    let check = verdict.check(NAME).unwrap();
    assert_eq!(check.outcome, Outcome::Fail, "{verdict}");
    assert_eq!(
        check.expected,
        "single-socket set, debug not set, ABI at least 1.58 (asked by release 0.8.0)"
    );
    assert_eq!(check.actual, "debug is set, ABI 1.57");
}
