// SPDX-License-Identifier: Apache-2.0

//! The verifier of reports that the session calls. The policy and the clock are the tenant's; report and endorsements
//! come from the host and are hostile.
//!
//! The session depends on three comparisons that a policy may leave out. Here they become part of the policy of this one
//! session: REPORT_DATA and HOST_DATA always, the launch digest where the policy names none. The verifier's words about them
//! are passed on as they are.

use crate::trust::Trust;
use enarx_attestation::hex::Hex;
use enarx_attestation::{
    Check, Endorsements, Expected, Outcome, Overall, Policy, Timestamp, Verdict, Verifier,
};
use enarx_contract::Tee;
use enarx_session::verdict;
use std::cell::RefCell;

/// A judge of one Keep's evidence.
pub(crate) struct Judge<'a> {
    pub(crate) trust: &'a Trust,
    pub(crate) endorsements: &'a Endorsements,
    /// The technology that the contract names; `None`: no contract is at hand.
    pub(crate) tee: Option<Tee>,
    /// The launch digest that the tenant computed for the contract.
    pub(crate) measurement: Option<[u8; 48]>,
    pub(crate) at: Timestamp,
    /// The time until which revocation lists may have been made, if that is later.
    pub(crate) known_at: Timestamp,
    /// The last verdict, in full.
    pub(crate) verdict: RefCell<Option<Verdict>>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(trust: &'a Trust, endorsements: &'a Endorsements, at: Timestamp) -> Self {
        Self {
            trust,
            endorsements,
            tee: None,
            measurement: None,
            at,
            known_at: at,
            verdict: RefCell::new(None),
        }
    }

    /// The checks of the last verdict that failed.
    pub(crate) fn failed_checks(&self) -> Vec<Check> {
        self.verdict
            .borrow()
            .iter()
            .flat_map(|verdict| verdict.with_outcome(Outcome::Fail).cloned())
            .collect()
    }

    pub(crate) fn into_verdict(self) -> Option<Verdict> {
        self.verdict.into_inner()
    }

    /// The policy with the expectations of this Keep. A value that the policy itself names stays: the report would have
    /// to have both.
    fn policy(&self, expected: &verdict::Expected) -> Policy {
        let mut policy = self.trust.policy.clone();
        policy.snp.host_data.get_or_insert(Hex(expected.host_data));
        let names_none = policy.snp.measurements.is_empty() && policy.snp.releases.is_empty();
        if let Some(measurement) = self.measurement.filter(|_| names_none) {
            policy.snp.measurements.push(Hex(measurement));
        }
        policy
    }
}

impl verdict::Verifier for Judge<'_> {
    fn verify(&self, report: &[u8], expected: &verdict::Expected) -> verdict::Verdict {
        let mut asked = Expected::at(self.at)
            .known_at(self.known_at)
            .with_report_data(Hex(expected.report_data));
        if let Some(references) = &self.trust.references {
            asked = asked.with_references(references);
        }
        let signatures = self.trust.signatures.clone();
        let verifier = Verifier::remembering(self.policy(expected), signatures);
        let mut verdict = verifier.verify(report, self.endorsements, &asked);
        check_technology(self.tee, &mut verdict);
        let translated = translate(&verdict);
        self.verdict.replace(Some(verdict));
        translated
    }
}

/// Checks that a verdict is for the technology that the contract names, because a policy may accept a simulator's root
/// in addition to AMD's. A simulator does not satisfy a contract that says `snp`. A genuine chip does not satisfy one
/// that says `simulated`: that contract names the image of the simulated platform, which on hardware has none of the
/// protections against its host.
fn check_technology(tee: Option<Tee>, verdict: &mut Verdict) {
    const AMD_ROOT: &str = "a root of AMD";
    const SIMULATORS: &str = "a simulator's root";
    let (expected, says, actual) = match (tee, verdict.overall) {
        (Some(Tee::Snp), Overall::Simulated) => (AMD_ROOT, "snp", SIMULATORS),
        (Some(Tee::Simulated), Overall::Valid | Overall::Degraded) => {
            (SIMULATORS, "simulated", AMD_ROOT)
        }
        _ => return,
    };
    verdict.overall = Overall::Invalid;
    verdict.checks.push(Check {
        name: "chain.root".into(),
        outcome: Outcome::Fail,
        expected: format!("{expected}, since the contract says {says}"),
        actual: actual.to_owned(),
        remedy: "have the host's owner offer the platform that the host really has".to_owned(),
    });
}

/// The verdict in the session's words.
fn translate(verdict: &Verdict) -> verdict::Verdict {
    let outcome = |name| match verdict.check(name).map(|check| check.outcome) {
        // A shortcoming that the policy tolerates, such as a deprecated release, was compared and accepted.
        Some(Outcome::Pass | Outcome::Warn) => verdict::Outcome::Pass,
        Some(Outcome::Fail) => verdict::Outcome::Fail,
        Some(Outcome::Skipped) | None => verdict::Outcome::Skipped,
    };
    let failing = verdict.with_outcome(Outcome::Fail);
    let mut failed: Vec<String> = failing.map(|check| check.name.to_string()).collect();
    if failed.is_empty() && !verdict.is_accepted() {
        failed.push("evidence.refused".to_owned());
    }
    verdict::Verdict {
        failed,
        report_data: outcome("guest.report-data"),
        host_data: outcome("guest.host-data"),
        measurement: outcome("guest.measurement"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_attestation::EvidenceKind;
    use std::collections::BTreeMap;

    fn verdict(checks: &[(&'static str, Outcome)], overall: Overall) -> Verdict {
        let check = |(name, outcome): &(&'static str, Outcome)| Check {
            name: (*name).into(),
            outcome: *outcome,
            expected: String::new(),
            actual: String::new(),
            remedy: String::new(),
        };
        Verdict {
            overall,
            tee: EvidenceKind::SevSnp,
            policy: String::new(),
            at_unix: 0,
            until_unix: None,
            nonce: None,
            tcb_status: None,
            advisories: Vec::new(),
            claims: BTreeMap::new(),
            not_compared: Vec::new(),
            warnings: Vec::new(),
            checks: checks.iter().map(check).collect(),
        }
    }

    #[test]
    fn a_check_that_was_not_made_has_not_passed() {
        let given = verdict(
            &[
                ("guest.report-data", Outcome::Skipped),
                ("guest.host-data", Outcome::Pass),
            ],
            Overall::Valid,
        );
        let translated = translate(&given);
        assert!(translated.failed.is_empty());
        assert_eq!(translated.report_data, verdict::Outcome::Skipped);
        assert_eq!(translated.host_data, verdict::Outcome::Pass);
        assert_eq!(translated.measurement, verdict::Outcome::Skipped);
    }

    #[test]
    fn a_refusal_has_a_reason() {
        let translated = translate(&verdict(&[], Overall::Invalid));
        assert_eq!(translated.failed, ["evidence.refused"]);
        let simulated = verdict(&[("guest.measurement", Outcome::Warn)], Overall::Simulated);
        assert!(translate(&simulated).failed.is_empty());
        assert_eq!(translate(&simulated).measurement, verdict::Outcome::Pass);
    }

    #[test]
    fn a_verdict_must_match_the_technology_of_the_contract() {
        use Overall::{Degraded, Invalid, Simulated, Valid};
        for (tee, found, held) in [
            (Some(Tee::Snp), Valid, Valid),
            (Some(Tee::Snp), Degraded, Degraded),
            (Some(Tee::Snp), Simulated, Invalid),
            (Some(Tee::Simulated), Simulated, Simulated),
            (Some(Tee::Simulated), Valid, Invalid),
            (Some(Tee::Simulated), Degraded, Invalid),
            (Some(Tee::Simulated), Invalid, Invalid),
            (None, Valid, Valid),
            (None, Simulated, Simulated),
        ] {
            let mut verdict = verdict(&[], found);
            check_technology(tee, &mut verdict);
            assert_eq!(verdict.overall, held, "{tee:?} {found:?}");
            let failed = translate(&verdict).failed;
            let root = found != Invalid && held == Invalid;
            assert_eq!(failed == ["chain.root"], root, "{tee:?} {found:?}");
        }
    }

    #[test]
    fn the_policy_of_a_session_names_its_dependencies() {
        let endorsements = Endorsements::default();
        let expected = verdict::Expected {
            report_data: [1; 64],
            host_data: [2; 32],
        };
        let mut trust = Trust::new(Policy::default());
        let judged = |trust: &Trust| {
            let mut judge = Judge::new(trust, &endorsements, Timestamp(0));
            judge.measurement = Some([3; 48]);
            judge.policy(&expected)
        };
        let policy = judged(&trust);
        assert_eq!(policy.snp.host_data, Some(Hex([2; 32])));
        assert_eq!(policy.snp.measurements, [Hex([3; 48])]);
        // The tenant's own values are kept: the evidence would have to have both.
        trust.policy.snp.host_data = Some(Hex([9; 32]));
        trust.policy.snp.releases = vec!["0.8.0".to_owned()];
        let policy = judged(&trust);
        assert_eq!(policy.snp.host_data, Some(Hex([9; 32])));
        assert!(policy.snp.measurements.is_empty());
    }
}
