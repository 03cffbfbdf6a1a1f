// SPDX-License-Identifier: Apache-2.0

//! One verifier for many: the expectations of one piece of evidence do not affect another, on however many threads.

use crate::platform::{NOW, Platform};
use crate::vectors::{self, Case};
use enarx_attestation::hex::{self, Hex};
use enarx_attestation::{Endorsements, Expected, Outcome, Policy, Timestamp, Verdict, Verifier};
use enarx_snp::product::TURIN;
use enarx_snp::report::Report;
use std::thread;
use zerocopy::IntoBytes;

/// Threads that verify at the same time.
const THREADS: u8 = 8;
/// Pieces of evidence that each verifies.
const ROUNDS: u8 = 4;

/// The report data of a Keep that got this nonce.
fn data_of(nonce: &[u8]) -> [u8; 64] {
    enarx_evidence::report_data(nonce, b"application", b"configuration")
}

/// A platform whose policy does not mention report data.
fn platform() -> Platform {
    let mut platform = Platform::new(&TURIN);
    platform.policy.snp.report_data = None;
    platform
}

/// Signed evidence of a Keep that got this nonce.
fn evidence(platform: &Platform, nonce: &[u8]) -> (Report, Endorsements) {
    let endorsement = platform.endorse();
    let mut report = platform.report;
    report.report_data = data_of(nonce);
    endorsement.sign(&mut report);
    (report, platform.endorsements(&endorsement))
}

#[track_caller]
fn assert_data(verdict: &Verdict, outcome: Outcome) {
    let check = verdict.check("guest.report-data").unwrap();
    assert_eq!(check.outcome, outcome, "{verdict}");
    assert_eq!(verdict.is_accepted(), outcome != Outcome::Fail, "{verdict}");
}

/// The expectations for a Keep that got this nonce.
fn of_keep(nonce: &[u8]) -> Expected<'_> {
    Expected::at(Timestamp(NOW)).of_keep(nonce, b"application", b"configuration")
}

#[test]
fn one_verifier_judges_each_thread_by_its_own_nonce() {
    let platform = platform();
    let verifier = Verifier::new(platform.policy.clone());
    let given: Vec<_> = (0..THREADS)
        .map(|thread| evidence(&platform, &[thread]))
        .collect();
    let at = Expected::at(Timestamp(NOW));
    let judge = |nonce: u8, round: u8| {
        let (report, endorsements) = &given[usize::from(nonce)];
        let verify =
            |expected: &Expected<'_>| verifier.verify(report.as_bytes(), endorsements, expected);
        let verdict = verify(&of_keep(&[nonce]));
        assert_data(&verdict, Outcome::Pass);
        assert_eq!(verdict.nonce, Some(hex::encode(&[nonce])));
        // The nonce of another thread, and none.
        let other = (nonce + round + 1) % THREADS;
        if other != nonce {
            assert_data(&verify(&of_keep(&[other])), Outcome::Fail);
        }
        let verdict = verify(&at);
        assert_data(&verdict, Outcome::Skipped);
        assert_eq!(verdict.nonce, None);
    };
    thread::scope(|scope| {
        for nonce in 0..THREADS {
            scope.spawn(move || (0..ROUNDS).for_each(|round| judge(nonce, round)));
        }
    });
    assert_eq!(*verifier.policy(), platform.policy);
}

#[test]
fn expected_values_and_policy_must_agree() {
    let mut platform = platform();
    let (report, endorsements) = evidence(&platform, b"nonce");
    let at = Expected::at(Timestamp(NOW));
    let expected = at.of_keep(b"nonce", b"application", b"configuration");
    for (named, outcome) in [
        (None, Outcome::Pass),
        (Some(Hex(data_of(b"nonce"))), Outcome::Pass),
        (Some(Hex([9; 64])), Outcome::Fail),
    ] {
        platform.policy.snp.report_data = named;
        let contradicts = outcome == Outcome::Fail;
        assert_eq!(expected.contradicts(&platform.policy), contradicts);
        let verifier = Verifier::new(platform.policy.clone());
        assert_data(
            &verifier.verify(report.as_bytes(), &endorsements, &expected),
            outcome,
        );
        // Without an expectation the policy's counts.
        let alone = match named {
            None => Outcome::Skipped,
            Some(_) => outcome,
        };
        assert_data(
            &verifier.verify(report.as_bytes(), &endorsements, &at),
            alone,
        );
    }
}

#[test]
fn expected_report_data_is_compared_in_every_kind_of_evidence() {
    let folder = vectors::folder();
    let expected = Hex([0xEE; 64]);
    let mut kinds = 0;
    for case in Case::all(&folder).iter().filter(|case| !case.is_snp()) {
        let at = Expected::at(Timestamp(NOW)).with_report_data(expected);
        let verifier = Verifier::new(Policy::default());
        let verdict = verifier.verify(&case.evidence, &case.endorsements, &at);
        if let Some(check) = verdict.check("guest.report-data") {
            assert_eq!(check.outcome, Outcome::Fail, "{}", case.name);
            kinds += 1;
        }
    }
    assert!(kinds > 0, "no quote among the vectors");
}
