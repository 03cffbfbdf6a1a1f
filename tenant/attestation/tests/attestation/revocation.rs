// SPDX-License-Identifier: Apache-2.0

//! Revocation, with lists of our own hierarchy: which of them count, and how long a verdict is valid by them.

use crate::platform::{DAY, NOW, Platform, VALID, assert_fails_only, rng};
use enarx_attestation::policy::Missing;
use enarx_attestation::snp::identify_list;
use enarx_attestation::{
    Endorsements, Expected, Outcome, Overall, RevocationList, Timestamp, Verdict, Verifier,
};
use enarx_snp::product::{GENOA, MILAN};
use enarx_snp::report::Report;
use enarx_snp_authority::{ASK_SERIAL, Authority, Extension};
use zerocopy::IntoBytes;

fn extension(id: &str, critical: bool, value: &[u8]) -> Extension {
    Extension {
        id: id.parse().unwrap(),
        critical,
        value: value.to_vec(),
    }
}

/// A list of this issuer with a number, valid from days before now to days after.
fn list(
    platform: &Platform,
    issuer: Authority,
    number: Option<&[u8]>,
    (from, to): (u64, u64),
) -> RevocationList {
    let mut spec = platform.crl.clone();
    (spec.issuer, spec.signer) = (issuer, issuer);
    (spec.this_update, spec.next_update) = (NOW - from * DAY, Some(NOW + to * DAY));
    spec.extensions = number
        .map(|digits| {
            let length = u8::try_from(digits.len()).unwrap();
            let value = [&[2, length], digits].concat();
            extension("2.5.29.20", false, &value)
        })
        .into_iter()
        .collect();
    platform.hierarchy.crl(&spec, &mut rng()).unwrap().into()
}

/// A signed report of this platform, and its certificates without lists.
fn signed(platform: &Platform) -> (Report, Endorsements) {
    let endorsement = platform.endorse();
    let mut report = platform.report;
    endorsement.sign(&mut report);
    let mut endorsements = platform.endorsements(&endorsement);
    endorsements.amd.crls.clear();
    (report, endorsements)
}

#[test]
fn lists_are_named_by_their_files() {
    let platform = Platform::new(&MILAN);
    let (report, mut endorsements) = signed(&platform);
    let named = |file: &str, list: RevocationList| RevocationList {
        file: Some(file.to_owned()),
        ..list
    };
    endorsements.amd.crls = vec![
        named(
            "certs/fresh.crl",
            list(&platform, Authority::Ark, None, (1, 1)),
        ),
        named(
            "certs/old.crl",
            list(&platform, Authority::Ark, None, (60, 0)),
        ),
        named("certs/\u{1b}[2J.crl", b"no list".to_vec().into()),
        list(&platform, Authority::Ark, None, (1, 1)),
    ];
    // A list that ended this very second is in force, because of the tolerance of clocks.
    endorsements.amd.crls[1] = named("certs/old.crl", {
        let mut spec = platform.crl.clone();
        (spec.this_update, spec.next_update) = (NOW - 60 * DAY, Some(NOW - 30 * DAY));
        platform.hierarchy.crl(&spec, &mut rng()).unwrap().into()
    });
    endorsements.amd.crls[3].bytes = b"nor this".to_vec();
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_fails_only(&verdict, &["crl.fresh", "crl.signature"]);
    let actual = |name: &str| verdict.check(name).unwrap().actual.clone();
    assert!(
        actual("crl.fresh").starts_with("certs/old.crl: "),
        "{verdict}"
    );
    assert_eq!(actual("crl.present"), "certs/fresh.crl");
    let unsigned = actual("crl.signature");
    assert!(unsigned.contains("[2J.crl: not DER"), "{unsigned}");
    assert!(!unsigned.contains('\u{1b}'), "{unsigned}");
    assert!(unsigned.contains("; list 4: not DER"), "{unsigned}");
}

#[test]
fn the_list_with_the_highest_number_counts() {
    let platform = Platform::new(&MILAN);
    let (report, mut endorsements) = signed(&platform);
    let mut until = |lists: &[RevocationList]| {
        endorsements.amd.crls = lists.to_vec();
        let there_and_back = platform.verify_as_is(&report, &endorsements).until_unix;
        endorsements.amd.crls.reverse();
        let reversed = platform.verify_as_is(&report, &endorsements).until_unix;
        assert_eq!(there_and_back, reversed);
        there_and_back.map(|until| until.saturating_sub(NOW) / DAY)
    };
    let of = |number, days| list(&platform, Authority::Ark, number, days);
    let old = of(Some(&[9]), (1, 300));
    // A later number, although it is in force for a shorter time, and made earlier by its date.
    assert_eq!(until(&[old.clone(), of(Some(&[10]), (2, 10))]), Some(10));
    // Numbers are not texts, and no number is the least.
    assert_eq!(until(&[old.clone(), of(Some(&[1, 0]), (2, 20))]), Some(20));
    assert_eq!(until(&[old.clone(), of(None, (0, 30))]), Some(300));
    // A store uses the same order.
    let id = |list: &RevocationList| identify_list(&list.bytes).unwrap();
    let newer = of(Some(&[10]), (2, 10));
    assert!(id(&newer).is_newer_than(&id(&old)) && !id(&old).is_newer_than(&id(&newer)));
    assert!(!id(&old).is_newer_than(&id(&old)));
    // Without numbers, and with equal ones, the date of issue decides.
    assert_eq!(until(&[of(None, (3, 300)), of(None, (2, 40))]), Some(40));
    assert_eq!(until(&[old, of(Some(&[9]), (0, 50))]), Some(50));
}

#[test]
fn a_maximum_age_requires_a_recent_list() {
    let mut platform = Platform::new(&MILAN);
    let (report, mut endorsements) = signed(&platform);
    let of = |platform: &Platform, issuer, days| list(platform, issuer, None, days);
    endorsements.amd.crls = vec![of(&platform, Authority::Ark, (8, 300))];
    let check = |platform: &Platform, endorsements: &Endorsements| {
        platform.verify_as_is(&report, endorsements)
    };
    let verdict = check(&platform, &endorsements);
    assert_eq!(verdict.check("crl.age").unwrap().outcome, Outcome::Skipped);
    assert!(verdict.is_accepted());
    platform.policy.snp.crl_max_age_days = Some(8);
    let verdict = check(&platform, &endorsements);
    assert_eq!(verdict.check("crl.age").unwrap().outcome, Outcome::Pass);
    // The verdict ends with the age on which it depends.
    assert_eq!(verdict.until_unix, Some(NOW));
    platform.policy.snp.crl_max_age_days = Some(7);
    assert_fails_only(&check(&platform, &endorsements), &["crl.age"]);
    // A newer one instead.
    endorsements
        .amd
        .crls
        .push(of(&platform, Authority::Ark, (3, 10)));
    assert!(check(&platform, &endorsements).is_accepted());
    // The intermediate's list must meet the same limit.
    endorsements
        .amd
        .crls
        .push(of(&platform, Authority::Ask, (30, 30)));
    assert_fails_only(&check(&platform, &endorsements), &["crl.age"]);

    // None, although the policy requires no lists: a requested check that cannot be made is a refusal.
    platform.policy.missing.crl = Missing::InsecureIgnore;
    for lists in [
        Vec::new(),
        vec![b"no list".to_vec().into()],
        vec![of(&platform, Authority::Ask, (1, 1))],
    ] {
        endorsements.amd.crls = lists;
        assert_fails_only(&check(&platform, &endorsements), &["crl.age"]);
    }
    platform.policy.snp.crl_max_age_days = None;
    assert!(check(&platform, &endorsements).is_accepted());
}

#[test]
fn a_verdict_ends_with_its_first_expiring_input() {
    let until = |platform: &Platform| platform.verify().until_unix;
    let mut platform = Platform::new(&MILAN);
    // The list of revoked keys, then the endorsement key.
    assert_eq!(until(&platform), Some(NOW + DAY));
    platform.spec.validity.to = NOW + 60;
    assert_eq!(until(&platform), Some(NOW + 60));
    platform.spec.validity.to = NOW + 365 * DAY;
    // A list that has expired does not count, and without one the certificates end first.
    platform.policy.missing.crl = Missing::InsecureIgnore;
    platform.crl.next_update = Some(NOW - 30 * DAY);
    platform.crl.this_update = NOW - 60 * DAY;
    assert_eq!(until(&platform), Some(VALID.to));

    // Of two lists of one issuer the later one counts; each issuer's must be in force.
    let mut platform = Platform::new(&MILAN);
    let endorsement = platform.endorse();
    let mut endorsements = platform.endorsements(&endorsement);
    let mut report = platform.report;
    endorsement.sign(&mut report);
    let mut add = |issuer, end| {
        (platform.crl.issuer, platform.crl.signer) = (issuer, issuer);
        platform.crl.next_update = Some(end);
        let list = platform.hierarchy.crl(&platform.crl, &mut rng()).unwrap();
        endorsements.amd.crls.push(list.into());
        platform.verify_as_is(&report, &endorsements).until_unix
    };
    assert_eq!(add(Authority::Ark, NOW + 2 * DAY), Some(NOW + 2 * DAY));
    assert_eq!(add(Authority::Ask, NOW + 3600), Some(NOW + 3600));
    assert_eq!(add(Authority::Ask, NOW + 7200), Some(NOW + 7200));
    // Evidence that cannot be read depends on nothing.
    let verdict = Verifier::new(platform.policy.clone()).verify(
        b"no evidence",
        &endorsements,
        &Expected::at(Timestamp(NOW)),
    );
    assert_eq!(verdict.until_unix, None);
}

#[test]
fn revoked_keys_are_refused() {
    let mut platform = Platform::new(&MILAN);
    platform.crl.revoked = vec![ASK_SERIAL];
    assert_fails_only(&platform.verify(), &["crl.ask"]);
    platform.crl.revoked = vec![0];
    assert_fails_only(&platform.verify(), &["crl.vek"]);
    platform.crl.revoked = vec![1, 2, 0xDB];
    assert_eq!(platform.verify().overall, Overall::Simulated);

    // A list of the intermediate about its own keys, beside the root's.
    platform.crl.revoked.clear();
    platform.spec.serial = 0x1234;
    let endorsement = platform.endorse();
    let mut endorsements = platform.endorsements(&endorsement);
    let mut list = platform.crl.clone();
    (list.issuer, list.signer, list.revoked) = (Authority::Ask, Authority::Ask, vec![0x1234]);
    endorsements
        .amd
        .crls
        .push(platform.hierarchy.crl(&list, &mut rng()).unwrap().into());
    let mut report = platform.report;
    endorsement.sign(&mut report);
    assert_fails_only(&platform.verify_as_is(&report, &endorsements), &["crl.vek"]);
    list.revoked = vec![0x1235];
    let list = platform.hierarchy.crl(&list, &mut rng()).unwrap();
    endorsements.amd.crls[1] = list.into();
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_eq!(verdict.check("crl.vek").unwrap().outcome, Outcome::Pass);
    assert_eq!(
        platform.verify().check("crl.vek").unwrap().outcome,
        Outcome::Skipped
    );
}

#[test]
fn what_a_stale_list_revokes_stays_revoked() {
    let mut platform = Platform::new(&MILAN);
    platform.policy.missing.crl = Missing::InsecureIgnore;
    platform.crl.next_update = Some(NOW - 30 * DAY);
    platform.crl.this_update = NOW - 60 * DAY;
    assert_eq!(platform.verify().overall, Overall::Simulated);
    platform.crl.revoked = vec![ASK_SERIAL];
    assert_fails_only(&platform.verify(), &["crl.ask"]);
}

#[test]
fn unusable_revocation_lists_are_refused() {
    let mut platform = Platform::new(&GENOA);
    let good = platform.crl.clone();
    platform.crl.next_update = Some(NOW - DAY / 2);
    assert_fails_only(&platform.verify(), &["crl.present", "crl.fresh"]);
    platform.crl = good.clone();
    platform.crl.next_update = None;
    assert_fails_only(&platform.verify(), &["crl.present", "crl.fresh"]);
    platform.crl = good.clone();
    platform.crl.this_update = NOW + DAY / 2;
    assert_fails_only(&platform.verify(), &["crl.present", "crl.fresh"]);
    platform.crl = good.clone();
    platform.crl.signer = Authority::Asvk;
    assert_fails_only(&platform.verify(), &["crl.present", "crl.signature"]);

    platform.crl = good;
    let endorsement = platform.endorse();
    let mut report = platform.report;
    endorsement.sign(&mut report);
    let mut endorsements = platform.endorsements(&endorsement);
    endorsements.amd.crls.clear();
    assert_fails_only(
        &platform.verify_as_is(&report, &endorsements),
        &["crl.present"],
    );
    // However many there are, the time spent on them is bounded.
    let mut many = endorsements.clone();
    let list = platform.hierarchy.crl(&platform.crl, &mut rng()).unwrap();
    many.amd.crls = vec![list.into(); 65];
    assert_fails_only(&platform.verify_as_is(&report, &many), &["crl.signature"]);
    many.amd.crls.pop();
    assert!(platform.verify_as_is(&report, &many).is_accepted());

    platform.policy.missing.crl = Missing::InsecureDegrade;
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_eq!(verdict.check("crl.present").unwrap().outcome, Outcome::Warn);
    assert!(verdict.is_accepted());
    endorsements.amd.crls = vec![b"no list".to_vec().into()];
    platform.policy.missing.crl = Missing::Refuse;
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_fails_only(&verdict, &["crl.present", "crl.signature"]);
}

#[test]
fn a_list_that_is_not_complete_does_not_show_that_nothing_is_revoked() {
    // INTEGER 1, and [1] TRUE, [2] TRUE, [4] TRUE or [5] TRUE in a SEQUENCE.
    let number = &[2, 1, 1][..];
    let point = |tag: u8| vec![0x30, 3, 0x80 | tag, 1, 0xFF];
    let limited = [
        extension("2.5.29.27", true, number),
        extension("2.5.29.27", false, number),
        extension("2.5.29.28", true, &point(1)),
        extension("2.5.29.28", true, &point(2)),
        extension("2.5.29.28", true, &point(4)),
        extension("2.5.29.28", true, &point(5)),
        extension("1.3.6.1.4.1.3704.99", true, number),
    ];
    let mut platform = Platform::new(&MILAN);
    for extension in limited {
        platform.crl.extensions = vec![extension];
        assert_fails_only(&platform.verify(), &["crl.present", "crl.complete"]);
        // Its entries are still revoked.
        platform.crl.revoked = vec![ASK_SERIAL];
        assert_fails_only(
            &platform.verify(),
            &["crl.present", "crl.complete", "crl.ask"],
        );
        platform.crl.revoked.clear();
    }
    // Numbers, key identifiers and what need not be understood.
    platform.crl.extensions = vec![
        extension("2.5.29.20", false, number),
        extension("2.5.29.35", false, &[0x30, 0]),
        extension("1.3.6.1.4.1.3704.99", false, number),
    ];
    assert_eq!(platform.verify().overall, Overall::Simulated);
    // An entry with a part of unknown meaning.
    platform.crl.revoked = vec![0x7777];
    platform.crl.entry_extensions = vec![extension("2.5.29.29", true, &[0x30, 0])];
    assert_fails_only(&platform.verify(), &["crl.present", "crl.complete"]);
    platform.crl.entry_extensions = vec![extension("2.5.29.21", false, &[0x0A, 1, 1])];
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

/// The verdict at one time, by the knowledge of another.
fn at(
    platform: &Platform,
    report: &Report,
    endorsements: &Endorsements,
    (at, known): (u64, u64),
) -> Verdict {
    let expected = Expected::at(Timestamp(at)).known_at(Timestamp(known));
    let verifier = Verifier::new(platform.policy.clone());
    verifier.verify(report.as_bytes(), endorsements, &expected)
}

#[test]
fn a_past_time_is_judged_by_later_knowledge() {
    const PAST: u64 = NOW - 20 * DAY;
    let platform = Platform::new(&MILAN);
    let (report, endorsements) = signed(&platform);
    let of = |issuer, number: u8, days| list(&platform, issuer, Some(&[number]), days);
    let then = of(Authority::Ark, 1, (30, 0));
    let since = of(Authority::Ark, 2, (1, 30));
    let judged = |lists: &[&RevocationList], times| {
        let mut endorsements = endorsements.clone();
        endorsements.amd.crls = lists.iter().map(|list| (*list).clone()).collect();
        at(&platform, &report, &endorsements, times)
    };
    // The list that was in force then: alone, beside the later one, and only the later one, which contains more.
    for lists in [&[&then][..], &[&then, &since], &[&since, &then], &[&since]] {
        let verdict = judged(lists, (PAST, NOW));
        assert_eq!(verdict.overall, Overall::Simulated, "{verdict}");
        let fresh = &verdict.check("crl.fresh").unwrap().expected;
        assert!(fresh.ends_with("or made since"), "{fresh}");
        // By the clock of then, the later one cannot exist yet: the clock is wrong.
        let verdict = judged(lists, (PAST, PAST));
        if lists.len() == 1 && lists[0] == &then {
            assert_eq!(verdict.overall, Overall::Simulated, "{verdict}");
        } else if lists.len() == 2 {
            assert_fails_only(&verdict, &["crl.fresh"]);
        } else {
            assert_fails_only(&verdict, &["crl.present", "crl.fresh"]);
        }
    }
    // A list that is made after today is in the future by every clock.
    let to_come = {
        let mut spec = platform.crl.clone();
        (spec.this_update, spec.next_update) = (NOW + DAY, Some(NOW + 2 * DAY));
        RevocationList::from(platform.hierarchy.crl(&spec, &mut rng()).unwrap())
    };
    let verdict = judged(&[&then, &to_come], (PAST, NOW));
    assert_fails_only(&verdict, &["crl.fresh"]);
    // An earlier list that had expired at that time is as old as ever.
    let over = {
        let mut spec = platform.crl.clone();
        (spec.this_update, spec.next_update) = (NOW - 60 * DAY, Some(NOW - 30 * DAY));
        RevocationList::from(platform.hierarchy.crl(&spec, &mut rng()).unwrap())
    };
    assert_fails_only(&judged(&[&over, &since], (PAST, NOW)), &["crl.fresh"]);

    // A key that was revoked since is refused for every time: its owner can backdate evidence.
    let mut spec = platform.crl.clone();
    (spec.this_update, spec.next_update) = (NOW - DAY, Some(NOW + DAY));
    spec.revoked = vec![ASK_SERIAL];
    let revoking = RevocationList::from(platform.hierarchy.crl(&spec, &mut rng()).unwrap());
    for times in [(PAST, NOW), (PAST, PAST)] {
        let verdict = judged(&[&then, &revoking], times);
        assert_eq!(verdict.check("crl.ask").unwrap().outcome, Outcome::Fail);
    }
}

/// Issuers omit expired certificates from their lists: a later list says nothing about them.
#[test]
fn a_list_made_after_expiry_does_not_clear_a_certificate() {
    const PAST: u64 = NOW - 20 * DAY;
    let mut platform = Platform::new(&MILAN);
    platform.spec.serial = 0x1234;
    platform.spec.validity.to = NOW - 10 * DAY;
    let (report, mut endorsements) = signed(&platform);
    let root = list(&platform, Authority::Ark, None, (1, 1));
    let before = list(&platform, Authority::Ask, None, (11, 1));
    let after = list(&platform, Authority::Ask, None, (9, 1));
    let mut outcome = |lists: &[&RevocationList]| {
        endorsements.amd.crls = lists.iter().map(|list| (*list).clone()).collect();
        let verdict = at(&platform, &report, &endorsements, (PAST, NOW));
        assert_eq!(verdict.overall, Overall::Simulated, "{verdict}");
        verdict.check("crl.vek").unwrap().outcome
    };
    assert_eq!(outcome(&[&root, &before]), Outcome::Pass);
    assert_eq!(outcome(&[&root, &after]), Outcome::Skipped);
    // It is still revoked, if such a list says so.
    let mut spec = platform.crl.clone();
    (spec.issuer, spec.signer) = (Authority::Ask, Authority::Ask);
    (spec.this_update, spec.revoked) = (NOW - 9 * DAY, vec![0x1234]);
    let revoking = platform.hierarchy.crl(&spec, &mut rng()).unwrap();
    endorsements.amd.crls = vec![root, revoking.into()];
    let verdict = at(&platform, &report, &endorsements, (PAST, NOW));
    assert_fails_only(&verdict, &["crl.vek"]);
}
