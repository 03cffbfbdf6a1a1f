// SPDX-License-Identifier: Apache-2.0

//! Evidence of another kind than the policy covers, and values that a kind of evidence cannot be compared with.

use crate::platform::Platform;
use crate::vectors::{self, Case};
use enarx_attestation::hex::Hex;
use enarx_attestation::reference::{GuestPolicyFloor, LaunchDigest, PlatformKind, ReleaseStatus};
use enarx_attestation::{
    Endorsements, EvidenceKind, Expected, Outcome, Overall, Policy, ReferenceValue, Timestamp,
    Verdict, Verifier,
};
use enarx_snp::product::MILAN;
use proptest::prelude::*;

/// Policies that cover only SEV-SNP.
const SNP_ALONE: [&str; 4] = [
    "[snp]\nmeasurements = [\"DIGEST\"]",
    "[snp]\nreleases = [\"any-current\"]",
    "[snp.min-tcb.genoa]\nsnp = 1",
    "[snp]",
];

fn policy(tables: &str) -> Policy {
    let text = format!("version = 1\n{tables}").replace("DIGEST", &"ab".repeat(48));
    Policy::from_toml(&text).unwrap()
}

fn release() -> ReferenceValue {
    ReferenceValue {
        release: "0.8.0".to_owned(),
        status: ReleaseStatus::Current,
        reason: String::new(),
        not_before: Timestamp(0),
        not_after: Timestamp(4_000_000_000),
        guest_policy: GuestPolicyFloor::default(),
        launch: LaunchDigest {
            platform: PlatformKind::Snp,
            products: vec!["genoa".to_owned()],
            vcpus: 1,
            digest: Hex([1; 48]),
        },
    }
}

/// Genuine quotes that the default policy accepts, with the time at which it does.
fn good_quotes() -> Vec<(Case, Timestamp)> {
    let folder = vectors::folder();
    let quotes = Case::all(&folder).into_iter().filter(|case| !case.is_snp());
    let quotes = quotes.filter_map(|case| {
        let at = case.expected.get("verify_at_unix")?.as_u64()?;
        let at = Timestamp(at);
        let verdict = verify(&case, Policy::default(), at);
        verdict.is_accepted().then_some((case, at))
    });
    let quotes: Vec<_> = quotes.collect();
    let of = |tee: &str| {
        quotes
            .iter()
            .filter(|(c, _)| c.name.starts_with(tee))
            .count()
    };
    assert!(of("tdx") >= 9, "{} quotes of TDs", of("tdx"));
    assert!(of("sgx") >= 1, "{} quotes of enclaves", of("sgx"));
    quotes
}

fn verify(case: &Case, policy: Policy, at: Timestamp) -> Verdict {
    Verifier::new(policy).verify(&case.evidence, &case.endorsements, &Expected::at(at))
}

#[track_caller]
fn assert_refused(verdict: &Verdict, check: &str) {
    assert_eq!(verdict.overall, Overall::Invalid, "{verdict}");
    let outcome = verdict.check(check).map(|check| check.outcome);
    assert_eq!(outcome, Some(Outcome::Fail), "{check}\n{verdict}");
}

#[test]
fn a_policy_about_snp_accepts_no_genuine_quote() {
    for (case, at) in good_quotes() {
        for tables in SNP_ALONE {
            assert_refused(&verify(&case, policy(tables), at), "evidence.accepted");
            let references = [release()];
            let expected = Expected::at(at).with_references(&references);
            let verdict =
                Verifier::new(policy(tables)).verify(&case.evidence, &case.endorsements, &expected);
            assert_refused(&verdict, "evidence.accepted");
            assert_refused(&verdict, "guest.measurement");
        }
        // Nor does a policy about the other kind of quote.
        let other = match case.name.split_once('-') {
            Some(("sgx", _)) => "[tdx]\n[snp]",
            _ => "[sgx]\n[snp]",
        };
        assert_refused(&verify(&case, policy(other), at), "evidence.accepted");
        let all = verify(&case, policy("[sgx]\n[tdx]"), at);
        assert!(all.is_accepted(), "{}\n{all}", case.name);
    }
}

#[test]
fn a_policy_about_quotes_accepts_no_report() {
    let platform = Platform::new(&MILAN);
    let root = platform.policy.insecure_simulated_roots[0];
    let text = format!("insecure-simulated-roots = [\"{root}\"]\n");
    let mut changed = Platform::new(&MILAN);
    for tables in ["[tdx]", "[sgx]", "[tdx]\n[sgx]\n[intel]"] {
        changed.policy = policy(&format!("{text}{tables}"));
        assert_refused(&changed.verify(), "evidence.accepted");
    }
}

#[test]
fn report_data_is_compared_in_every_kind_of_evidence() {
    let expected = Some(Hex([9; 64]));
    let mut policy = Policy::default();
    policy.snp.report_data = expected;
    policy.tdx.report_data = expected;
    policy.sgx.report_data = expected;
    for (case, at) in good_quotes() {
        assert_refused(&verify(&case, policy.clone(), at), "guest.report-data");
        let mut right = Policy::default();
        let own = case.text("report_data").unwrap().parse().unwrap();
        right.tdx.report_data = Some(own);
        right.sgx.report_data = Some(own);
        let verdict = verify(&case, right, at);
        assert!(verdict.is_accepted(), "{}\n{verdict}", case.name);
    }
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.report_data = expected;
    assert_refused(&platform.verify(), "guest.report-data");
}

#[test]
fn quotes_are_refused_under_a_policy_with_releases() {
    for (case, at) in good_quotes() {
        for references in [vec![release()], Vec::new()] {
            let expected = Expected::at(at).with_references(&references);
            let verdict = Verifier::new(Policy::default()).verify(
                &case.evidence,
                &case.endorsements,
                &expected,
            );
            assert_refused(&verdict, "guest.measurement");
        }
    }
}

#[test]
fn uncompared_values_are_listed_last() {
    for (case, at) in good_quotes() {
        let verdict = verify(&case, Policy::default(), at);
        let text = verdict.to_string();
        let last = text.lines().last().unwrap();
        let (names, passes) = match verdict.tee {
            EvidenceKind::Tdx => (
                "tdx.mrtd, tdx.rtmr0, tdx.rtmr1, tdx.rtmr2, tdx.rtmr3",
                "any TD",
            ),
            _ => ("sgx.mrenclave", "any enclave"),
        };
        let expected = format!(
            "accepted, but NOT compared: {names}, guest.report-data ({passes} on such a platform passes)"
        );
        assert_eq!(last, expected, "{}", case.name);
        assert!(text.lines().next().unwrap().contains("ANY guest"), "{text}");
        assert_eq!(
            verdict.not_compared.join(", "),
            format!("{names}, guest.report-data")
        );

        // With a name for the guest, the rest is still said.
        let mut named = Policy::default();
        let claim = |name: &str| verdict.claims[name].as_str();
        if verdict.tee == EvidenceKind::Tdx {
            named.tdx.mrtd = vec![claim("tdx.mrtd").parse().unwrap()];
            named.tdx.report_data = Some(claim("guest.report-data").parse().unwrap());
        } else {
            named.sgx.mrsigner = vec![claim("sgx.mrsigner").parse().unwrap()];
        }
        let verdict = verify(&case, named, at);
        assert!(verdict.is_accepted(), "{verdict}");
        assert!(!verdict.to_string().contains("ANY guest"));
        let rest = verdict.not_compared.join(", ");
        match verdict.tee {
            EvidenceKind::Tdx => assert_eq!(rest, "tdx.rtmr0, tdx.rtmr1, tdx.rtmr2, tdx.rtmr3"),
            _ => assert_eq!(rest, "sgx.isv-prod-id, guest.report-data"),
        }
    }

    let mut platform = Platform::new(&MILAN);
    let pinned = platform.verify();
    assert!(
        pinned.is_accepted() && pinned.not_compared.is_empty(),
        "{pinned}"
    );
    assert!(!pinned.to_string().contains("NOT compared"));
    platform.policy.snp.report_data = None;
    let verdict = platform.verify();
    assert!(
        verdict.to_string().ends_with(
            "accepted, but NOT compared: guest.report-data (evidence of any time and for anybody passes)\n"
        ),
        "{verdict}"
    );
    let snp = &mut platform.policy.snp;
    snp.measurements.clear();
    snp.author_key_digests.clear();
    assert_eq!(platform.verify().not_compared, ["guest.report-data"]);
    platform.policy.snp.id_key_digests.clear();
    let verdict = platform.verify();
    assert!(
        verdict.to_string().ends_with(
            "accepted, but NOT compared: guest.measurement, guest.report-data (any guest on such a chip passes)\n"
        ),
        "{verdict}"
    );
    assert_eq!(
        verdict.not_compared,
        ["guest.measurement", "guest.report-data"]
    );
    // A refused verdict calls nothing accepted.
    platform.policy.snp.host_data = Some(Hex([0; 32]));
    assert!(!platform.verify().to_string().contains("accepted, but"));
}

#[test]
fn collateral_may_be_a_little_too_young_and_not_too_old() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "tdx-v4-b0c06f000000-3ab56d67");
    let judged = |at, skew| {
        let policy = Policy {
            clock_skew_seconds: skew,
            ..Policy::default()
        };
        verify(&case, policy, at).is_accepted()
    };
    // The first and last second at which all of it is in force.
    let good = case.expected["verify_at_unix"].as_u64().unwrap();
    let border = |mut inside: u64, mut outside: u64| {
        while inside.abs_diff(outside) > 1 {
            let middle = u64::midpoint(inside, outside);
            if judged(Timestamp(middle), 0) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        Timestamp(inside)
    };
    let year = 365 * 86_400;
    let (first, last) = (border(good, good - year), border(good, good + year));
    assert!(judged(first.earlier(300), 300));
    assert!(!judged(first.earlier(301), 300));
    assert!(!judged(last.later(1), 300));
}

/// A quote of August 2025, and collateral that was fetched in September: also if that has expired by now.
#[test]
fn a_quote_of_the_past_is_judged_by_collateral_that_was_fetched_since() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "tdx-v4-20a06f000000-9069d475");
    let time = |text: &str| -> Timestamp { text.parse().unwrap() };
    let judged = |at: &str, known_at: &str| {
        let expected = Expected::at(time(at)).known_at(time(known_at));
        let policy = Policy {
            clock_skew_seconds: 0,
            ..Policy::default()
        };
        Verifier::new(policy).verify(&case.evidence, &case.endorsements, &expected)
    };
    let past = "2025-08-20T00:00:00Z";
    // Its last part was issued at 07:41:59.
    for now in [
        "2025-09-02T07:41:59Z",
        "2025-09-20T00:00:00Z",
        "2026-11-30T00:00:00Z",
    ] {
        let verdict = judged(past, now);
        assert!(verdict.is_accepted(), "{now}\n{verdict}");
    }
    for now in [past, "2025-09-02T07:41:58Z"] {
        assert_refused(&judged(past, now), "collateral.verification");
    }
    // Older collateral knows nothing of later facts.
    let later = judged("2025-10-20T00:00:00Z", "2025-10-21T00:00:00Z");
    assert_refused(&later, "collateral.verification");
}

#[test]
fn a_policy_that_contradicts_itself_accepts_nothing() {
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.attacks.push("rowhammer".to_owned());
    assert_refused(&platform.verify(), "policy.usable");
    platform.policy.snp.attacks.pop();
    platform.policy.snp.insecure_ignored_tcb = enarx_attestation::policy::TcbKind::ALL.to_vec();
    assert_refused(&platform.verify(), "policy.usable");
    let verdict = Verifier::new(platform.policy).verify(
        b"",
        &Endorsements::default(),
        &Expected::at(Timestamp(0)),
    );
    assert_refused(&verdict, "policy.usable");
}

/// Nothing in the table of SEV-SNP lets a quote pass.
#[test]
fn a_policy_about_snp_never_accepts_a_quote() {
    let quotes = good_quotes();
    proptest!(ProptestConfig::with_cases(64), |(
        digests in proptest::collection::vec("[0-9a-f]{96}", 0..3),
        releases in proptest::collection::vec("[0-9a-z]{1,8}", 0..3),
        insecure in proptest::collection::vec(any::<bool>(), 6),
        which in any::<prop::sample::Index>(),
    )| {
        let (case, at) = which.get(&quotes);
        let mut policy = Policy::from_toml("version = 1\n[snp]").unwrap();
        let snp = &mut policy.snp;
        snp.measurements = digests.iter().map(|d| d.parse().unwrap()).collect();
        snp.releases = releases;
        for (switch, on) in [
            &mut snp.insecure_allow_unknown,
            &mut snp.insecure_allow_masked_chip_id,
            &mut snp.insecure_allow_uncommitted_tcb,
            &mut snp.insecure_allow_report_version_2,
            &mut snp.guest_policy.insecure_allow_debug,
            &mut snp.guest_policy.insecure_allow_migration_agent,
        ].into_iter().zip(insecure) {
            *switch = on;
        }
        let verdict = verify(case, policy.clone(), *at);
        prop_assert_eq!(verdict.overall, Overall::Invalid);
        // Nor when it is written and read again.
        let again = Policy::from_toml(&policy.to_toml()).unwrap();
        prop_assert_eq!(&again, &policy);
    });
}
