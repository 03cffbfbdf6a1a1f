// SPDX-License-Identifier: Apache-2.0

//! How checks are recorded while evidence is judged, and how they become a verdict.

use crate::Timestamp;
use crate::catalogue::CATALOGUE;
use crate::claim::Claim;
use crate::hex::Hex;
use crate::policy::{Missing, Rule};
use crate::printable::printable;
use crate::verdict::{Check, EvidenceKind, Outcome, Overall, Verdict, not_compared};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

/// The checks made so far. Text of evidence and endorsements is made fit to be shown where it is recorded.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) list: Vec<Check>,
    pub(crate) claims: BTreeMap<Claim, String>,
    /// True if the root is a simulator's that the policy names.
    pub(crate) simulated: bool,
    pub(crate) tcb_status: Option<String>,
    pub(crate) advisories: Vec<String>,
    /// The earliest end of what the checks rest on.
    until: Option<Timestamp>,
    /// Facts beyond the checks, to know before relying on the verdict.
    pub(crate) warnings: Vec<String>,
}

impl Checks {
    fn push(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        outcome: Outcome,
        expected: impl Into<String>,
        actual: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let name = name.into();
        debug_assert!(CATALOGUE.iter().any(|(known, _)| *known == name), "{name}");
        self.list.push(Check {
            name,
            outcome,
            expected: printable(&expected.into()),
            actual: printable(&actual.into()),
            remedy: printable(&remedy.into()),
        });
    }

    /// Records a check that passed.
    pub(crate) fn pass(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.push(name, Outcome::Pass, expected, actual, "");
    }

    /// Records a check that failed, with its remedy.
    pub(crate) fn fail(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        expected: impl Into<String>,
        actual: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(name, Outcome::Fail, expected, actual, remedy);
    }

    /// Records a shortcoming that the policy tolerates.
    pub(crate) fn warn(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        expected: impl Into<String>,
        actual: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(name, Outcome::Warn, expected, actual, remedy);
    }

    /// Records that nothing was checked, and why.
    pub(crate) fn skip(&mut self, name: impl Into<Cow<'static, str>>, why: impl Into<String>) {
        self.push(name, Outcome::Skipped, "", why, "");
    }

    /// Records a check: as passed if `passes`, as failed otherwise. Returns `passes`.
    pub(crate) fn test(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        passes: bool,
        expected: impl Into<String>,
        actual: impl Into<String>,
        remedy: impl Into<String>,
    ) -> bool {
        if passes {
            self.pass(name, expected, actual);
        } else {
            self.fail(name, expected, actual, remedy);
        }
        passes
    }

    /// Records a missing fact as the policy says.
    pub(crate) fn missing(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        meaning: Missing,
        expected: impl Into<String>,
        actual: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let outcome = match meaning {
            Missing::Refuse => Outcome::Fail,
            Missing::InsecureDegrade => Outcome::Warn,
            Missing::InsecureIgnore => Outcome::Skipped,
        };
        self.push(name, outcome, expected, actual, remedy);
    }

    /// Judges a bit by a rule.
    pub(crate) fn rule(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        rule: Rule,
        set: bool,
        remedy: &str,
    ) {
        let actual = if set { "set" } else { "not set" };
        match rule {
            Rule::Any => self.skip(name, format!("{actual}; the policy accepts either")),
            Rule::Require => {
                self.test(name, set, "set", actual, remedy);
            }
            Rule::Forbid => {
                self.test(name, !set, "not set", actual, remedy);
            }
        }
    }

    /// Judges a value by a list; an empty list is not checked.
    pub(crate) fn one_of<T: PartialEq + Display>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        accepted: &[T],
        actual: &T,
        remedy: &str,
    ) {
        if accepted.is_empty() {
            self.skip(name, format!("{actual}; the policy names none"));
        } else {
            let expected: Vec<_> = accepted.iter().map(ToString::to_string).collect();
            let passes = accepted.contains(actual);
            self.test(
                name,
                passes,
                expected.join(" or "),
                actual.to_string(),
                remedy,
            );
        }
    }

    /// Judges a number by the least that is asked for; 0 asks for nothing.
    pub(crate) fn at_least<T: Copy + PartialOrd + Default + Display>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        least: T,
        actual: T,
        remedy: &str,
    ) {
        if least == T::default() {
            self.skip(name, format!("{actual}; the policy asks for none"));
        } else {
            let expected = format!("at least {least}");
            self.test(name, actual >= least, expected, actual.to_string(), remedy);
        }
    }

    /// Judges a chip by the lists of those accepted and refused. Evidence that names no chip is on no list of those
    /// accepted, and cannot be known not to be on one of those refused.
    pub(crate) fn chip<const N: usize>(
        &mut self,
        accepted: &[Hex<N>],
        denied: &[Hex<N>],
        chip: Option<Hex<N>>,
    ) {
        const REMEDY: &str = "use a host whose chip the policy accepts";
        const CHIP_REMEDY: &str = "use a host that names its chip: signed by a VCEK, not masked";
        let none = || "none, the evidence names no chip".to_owned();
        match chip {
            Some(chip) => self.one_of("chip.allowed", accepted, &chip, REMEDY),
            None if accepted.is_empty() => self.skip("chip.allowed", "the policy names none"),
            None => self.fail("chip.allowed", "a chip on the list", none(), CHIP_REMEDY),
        }
        let expected = "a chip that is not on the deny list";
        match chip {
            _ if denied.is_empty() => self.skip("chip.denied", "the policy names none"),
            Some(chip) => {
                let passes = !denied.contains(&chip);
                self.test("chip.denied", passes, expected, chip.to_string(), REMEDY);
            }
            None => self.fail("chip.denied", expected, none(), CHIP_REMEDY),
        }
    }

    /// Judges report data by what the policy names and what is expected this time: by both, where both are given.
    pub(crate) fn report_data(
        &mut self,
        named: Option<Hex<64>>,
        expected: Option<Hex<64>>,
        found: Hex<64>,
    ) {
        const NAME: &str = "guest.report-data";
        const REMEDY: &str =
            "it was made for another nonce, application or configuration: take evidence for these";
        match (named, expected) {
            (Some(named), Some(expected)) if named != expected => self.fail(
                NAME,
                format!("{expected}, and {named} by the policy"),
                found.to_string(),
                "take report-data out of the policy, or expect the same",
            ),
            (named, expected) => {
                self.one_of(NAME, expected.or(named).as_slice(), &found, REMEDY);
            }
        }
    }

    /// Records that the verdict rests on something that ends then.
    pub(crate) fn limit_validity(&mut self, end: Timestamp) {
        self.until = Some(self.until.map_or(end, |until| until.min(end)));
    }

    /// True if a check has failed so far.
    pub(crate) fn any_failed(&self) -> bool {
        self.list.iter().any(|check| check.outcome == Outcome::Fail)
    }

    /// Records a fact of the evidence.
    pub(crate) fn claim(&mut self, claim: Claim, value: impl Display) {
        let value = printable(&value.to_string());
        self.claims.insert(claim, value);
    }

    /// The verdict over these checks. `mandatory` are the checks without which no evidence is authentic: each must be there and pass, so a
    /// path that forgets one cannot yield an accepted verdict.
    pub(crate) fn verdict(
        self,
        tee: EvidenceKind,
        policy: &str,
        at: Timestamp,
        mandatory: &[&str],
    ) -> Verdict {
        let Checks {
            list: checks,
            claims,
            simulated,
            tcb_status,
            advisories,
            until,
            warnings,
        } = self;
        let passed = |name: &&str| {
            checks
                .iter()
                .any(|c| c.name == **name && c.outcome == Outcome::Pass)
        };
        let any = |outcome| checks.iter().any(|c| c.outcome == outcome);
        let overall = if mandatory.is_empty() || !mandatory.iter().all(passed) || any(Outcome::Fail)
        {
            Overall::Invalid
        } else if simulated {
            Overall::Simulated
        } else if any(Outcome::Warn) {
            Overall::Degraded
        } else {
            Overall::Valid
        };
        let not_compared = not_compared(tee, &checks);
        let shown = |texts: Vec<String>| texts.iter().map(|text| printable(text)).collect();
        Verdict {
            overall,
            tee,
            policy: printable(policy),
            at_unix: at.0,
            until_unix: until.map(|until| until.0),
            nonce: None,
            tcb_status: tcb_status.as_deref().map(printable),
            advisories: shown(advisories),
            claims,
            not_compared,
            warnings: shown(warnings),
            checks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printable::printable_lines;
    use proptest::prelude::*;

    proptest! {
        /// No text of evidence, endorsements or policy reaches a terminal as more than text of one line.
        #[test]
        fn a_verdict_has_no_control_characters(
            texts in proptest::collection::vec(any::<String>(), 5),
            raw in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let [expected, actual, remedy, claim, name] = <[String; 5]>::try_from(texts).unwrap();
            let mut checks = Checks::default();
            checks.fail("chain.names", &expected, &actual, &remedy);
            checks.warn("crl.fresh", &expected, String::from_utf8_lossy(&raw), "");
            checks.skip("crl.ask", &actual);
            checks.pass("crl.vek", "", &actual);
            checks.claim(Claim::CertificateCsp, &claim);
            checks.tcb_status = Some(actual.clone());
            checks.advisories = vec![remedy];
            checks.warnings = vec![claim];
            let verdict = checks.verdict(EvidenceKind::SevSnp, &name, Timestamp(0), &["crl.vek"]);
            let text = verdict.to_string();
            prop_assert_eq!(&printable_lines(&text), &text);
            // First line, TCB status, five lines of checks and remedies, warning.
            prop_assert!(text.lines().count() <= 9, "{}", text);
            let json = serde_json::json!(verdict).to_string();
            prop_assert_eq!(printable_lines(&json), json);
        }
    }
}
