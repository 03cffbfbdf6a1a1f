// SPDX-License-Identifier: Apache-2.0

//! Checks what types cannot say: names, ranges, and that everything that is asked for can be compared with something.

use super::error::PolicyError;
use super::rules::{
    IntelPolicy, MAX_DAYS, MAX_SKEW, Policy, STANDING_ATTACKS, SW_HARDENING_NEEDED, SnpPolicy,
    TcbFloor, TcbKind, VERSION, all_products, strings, tolerable_statuses,
};
use crate::attacks;
use crate::hex::Hex;
use crate::printable::printable;
use crate::reference::{ANY_CURRENT, is_release_version};
use crate::version::version;
use enarx_snp::tcb::Component;

impl Policy {
    /// Checks what types cannot express: names, ranges, and that every required value can be compared.
    /// [`crate::Verifier`] refuses all evidence under a policy that does not pass.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version {
                found: self.version,
            });
        }
        if !(self.snp.accept || self.tdx.accept || self.sgx.accept) {
            return Err(PolicyError::AcceptsNothing);
        }
        in_range(
            printable(&self.name) == self.name,
            "name",
            "one line of text that can be shown",
        )?;
        in_range(
            self.clock_skew_seconds <= MAX_SKEW,
            "clock-skew-seconds",
            "0 to 300",
        )?;
        self.snp.check()?;
        self.intel.check()
    }
}

impl SnpPolicy {
    /// As [`Policy::check`].
    fn check(&self) -> Result<(), PolicyError> {
        in_range(
            (3..=5).contains(&self.min_report_version),
            "snp.min-report-version",
            "3 to 5; for version 2 set snp.insecure-allow-report-version-2",
        )?;
        in_range(
            self.min_report_version == 3 || !self.insecure_allow_report_version_2,
            "snp.min-report-version",
            "3 where snp.insecure-allow-report-version-2 is set",
        )?;
        in_range(
            self.insecure_vmpl.iter().all(|v| (1..=3).contains(v)),
            "snp.insecure-vmpl",
            "a list of 1 to 3; level 0 is always accepted",
        )?;
        let firmware = self.min_firmware.as_deref();
        in_range(
            firmware.is_none_or(|v| version::<3>(v).is_some()),
            "snp.min-firmware",
            "major.minor.build",
        )?;
        let abi = self.guest_policy.min_abi.as_deref();
        in_range(
            abi.is_none_or(|v| version::<2>(v).is_some()),
            "snp.guest-policy.min-abi",
            "major.minor",
        )?;
        let is_release = |name: &String| name == ANY_CURRENT || is_release_version(name);
        in_range(
            self.releases.iter().all(is_release),
            "snp.releases",
            "a list of versions such as 0.8.0, or any-current",
        )?;
        in_range(
            TcbKind::ALL.iter().any(|kind| self.judges(*kind)),
            "snp.insecure-ignored-tcb",
            "a list that leaves one of reported, committed, launch and current to compare",
        )?;
        for (key, is_empty) in [
            ("snp.products", self.products.is_empty()),
            ("snp.signing-keys", self.signing_keys.is_empty()),
            ("snp.attacks", self.attacks.is_empty()),
        ] {
            if is_empty {
                let key = key.to_owned();
                return Err(PolicyError::Empty { key });
            }
        }
        let attacks: Vec<_> = attacks::ATTACKS.iter().map(|a| a.name.to_owned()).collect();
        named("snp.products", &self.products, &all_products())?;
        named("snp.min-tcb", self.min_tcb.keys(), &all_products())?;
        named("snp.attacks", &self.attacks, &attacks)?;
        named(
            "snp.insecure-ignored-attacks",
            &self.insecure_ignored_attacks,
            &strings(&STANDING_ATTACKS),
        )?;
        for (product, floor) in &self.min_tcb {
            floor.check(product)?;
        }
        in_range(
            self.crl_max_age_days
                .is_none_or(|days| (1..=MAX_DAYS).contains(&days)),
            "snp.crl-max-age-days",
            "1 to 3650",
        )?;
        // The certificate has an IA5String (57230 table 11).
        let is_name = |name: &&String| {
            !name.is_empty() && name.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        };
        if let Some(name) = self.allowed_csps.iter().find(|name| !is_name(name)) {
            return Err(PolicyError::NeverMatches {
                key: "snp.allowed-csps".to_owned(),
                value: format!("{name:?}"),
                why: "certificates name providers in printable ASCII",
            });
        }
        check_chips("snp.allowed-chips", &self.allowed_chips)?;
        check_chips("snp.denied-chips", &self.denied_chips)?;
        self.check_key_digests()
    }

    /// Checks that digests of keys are digests of keys: reports of guests that were launched without a key
    /// contain zeros.
    fn check_key_digests(&self) -> Result<(), PolicyError> {
        let is_zero = |digest: &&Hex<48>| digest.0 == [0; 48];
        if let Some(zeros) = self.id_key_digests.iter().find(is_zero) {
            return Err(PolicyError::Refused {
                key: format!("snp.id-key-digests = [\"{zeros}\"]"),
                instead: "every guest that was launched without an ID key reports this digest, so leave the key \
                          out, or name a key's digest",
            });
        }
        match self.author_key_digests.iter().find(is_zero) {
            None => Ok(()),
            Some(zeros) => Err(PolicyError::NeverMatches {
                key: "snp.author-key-digests".to_owned(),
                value: zeros.to_string(),
                why: "no key has this digest: reports of guests that were launched without a key have it",
            }),
        }
    }
}

impl TcbFloor {
    /// Checks that it names at least one component, and only those that the product has.
    fn check(&self, product: &str) -> Result<(), PolicyError> {
        let key = format!("snp.min-tcb.{product}");
        let asked = |component: &&Component| self.get(**component).is_some();
        if !Component::ALL.iter().any(|component| asked(&component)) {
            return Err(PolicyError::Empty { key });
        }
        let layout = enarx_snp::product::by_name(product).map(|generation| generation.tcb);
        let has = |component| layout.is_some_and(|layout| layout.byte(component).is_some());
        match Component::ALL.iter().filter(asked).find(|c| !has(**c)) {
            None => Ok(()),
            Some(component) => Err(PolicyError::NeverMatches {
                key,
                value: component.name().to_owned(),
                why: "the product has no such component",
            }),
        }
    }
}

impl IntelPolicy {
    /// As [`Policy::check`].
    fn check(&self) -> Result<(), PolicyError> {
        let tolerable = tolerable_statuses();
        named(
            "intel.insecure-tcb-statuses",
            &self.insecure_tcb_statuses,
            &tolerable,
        )?;
        named(
            "intel.insecure-degraded-tcb-statuses",
            &self.insecure_degraded_tcb_statuses,
            &tolerable,
        )?;
        let only = strings(&[SW_HARDENING_NEEDED]);
        let other = |status: &&String| tolerable.contains(status) && !only.contains(status);
        if let Some(status) = self.degraded_tcb_statuses.iter().find(other) {
            return Err(PolicyError::Refused {
                key: format!("intel.degraded-tcb-statuses = [\"{status}\"]"),
                instead: "such platforms are known to be vulnerable, so it belongs in \
                          intel.insecure-degraded-tcb-statuses",
            });
        }
        named(
            "intel.degraded-tcb-statuses",
            &self.degraded_tcb_statuses,
            &only,
        )?;
        if let Some(id) = self.denied_advisories.iter().find(|id| !is_advisory(id)) {
            return Err(PolicyError::NeverMatches {
                key: "intel.denied-advisories".to_owned(),
                value: format!("{id:?}"),
                why: "Intel's identifiers are INTEL-SA- or INTEL-DOC- and five digits",
            });
        }
        check_chips("intel.allowed-ppids", &self.allowed_ppids)?;
        check_chips("intel.denied-ppids", &self.denied_ppids)
    }
}

/// True for an identifier of an advisory as Intel writes it in collateral, such as INTEL-SA-00615.
fn is_advisory(id: &str) -> bool {
    let digits = id
        .strip_prefix("INTEL-SA-")
        .or_else(|| id.strip_prefix("INTEL-DOC-"));
    digits.is_some_and(|digits| digits.len() == 5 && digits.bytes().all(|d| d.is_ascii_digit()))
}

fn in_range(is_in_range: bool, key: &'static str, range: &'static str) -> Result<(), PolicyError> {
    if is_in_range {
        Ok(())
    } else {
        Err(PolicyError::Range { key, range })
    }
}

/// Evidence that names no chip contains zeros: a list with zeros would cover all such evidence.
fn check_chips<const N: usize>(key: &str, chips: &[Hex<N>]) -> Result<(), PolicyError> {
    match chips.iter().find(|chip| chip.0 == [0; N]) {
        None => Ok(()),
        Some(zeros) => Err(PolicyError::NeverMatches {
            key: key.to_owned(),
            value: zeros.to_string(),
            why: "no chip has this identifier: reports that name no chip have it",
        }),
    }
}

fn named<'a>(
    key: &'static str,
    values: impl IntoIterator<Item = &'a String>,
    known: &[String],
) -> Result<(), PolicyError> {
    match values.into_iter().find(|v| !known.contains(v)) {
        None => Ok(()),
        Some(value) => Err(PolicyError::UnknownName {
            key,
            value: value.clone(),
            known: known.join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a policy that begins with its version.
    fn error(text: &str) -> PolicyError {
        Policy::from_toml(&format!("version = 1\n{text}")).unwrap_err()
    }

    #[test]
    fn values_out_of_range_are_errors() {
        let found = Policy::from_toml("version = 2").unwrap_err();
        assert_eq!(found, PolicyError::Version { found: 2 });
        for (text, expected) in [
            ("clock-skew-seconds = 301\n[snp]", "clock-skew-seconds"),
            ("[snp]\ninsecure-vmpl = [4]", "snp.insecure-vmpl"),
            ("[snp]\ninsecure-vmpl = [0]", "snp.insecure-vmpl"),
            ("[snp]\nmin-report-version = 6", "snp.min-report-version"),
            ("[snp]\ncrl-max-age-days = 0", "snp.crl-max-age-days"),
            ("[snp]\ncrl-max-age-days = 3651", "snp.crl-max-age-days"),
            (
                "[snp]\nmin-report-version = 4\ninsecure-allow-report-version-2 = true",
                "snp.min-report-version",
            ),
            (
                "[snp]\ninsecure-ignored-tcb = [\"reported\", \"committed\", \"launch\", \"current\"]",
                "snp.insecure-ignored-tcb",
            ),
            ("[snp]\nmin-firmware = \"1.55\"", "snp.min-firmware"),
            ("[snp]\nreleases = [\"\"]", "snp.releases"),
            ("name = \"a\\nb\"\n[snp]", "name"),
            ("name = \"\\u001b[2J\"\n[snp]", "name"),
        ] {
            match error(text) {
                PolicyError::Range { key, .. } => assert_eq!(key, expected, "{text}"),
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn values_of_a_wrong_type_are_reported_by_line() {
        for (text, words) in [
            ("[snp]\nmeasurements = [\"00\"]", "96 hexadecimal digits"),
            ("[snp.min-tcb.milan]\nsnp = 256", "256"),
            ("name", "line 2: key with no value"),
        ] {
            let error = error(text);
            let told = matches!(&error, PolicyError::Format(told) if told.contains(words));
            assert!(told, "{text}: {error}");
        }
    }

    #[test]
    fn unknown_names_are_errors() {
        for (text, key, value) in [
            ("[snp]\nproducts = [\"naples\"]", "snp.products", "naples"),
            ("[snp.min-tcb.naples]\nsnp = 1", "snp.min-tcb", "naples"),
            (
                "[snp]\nattacks = [\"rowhammer\"]",
                "snp.attacks",
                "rowhammer",
            ),
            (
                "[snp]\ninsecure-ignored-attacks = [\"heracles\"]",
                "snp.insecure-ignored-attacks",
                "heracles",
            ),
            (
                "[tdx]\n[intel]\ninsecure-tcb-statuses = [\"Fine\"]",
                "intel.insecure-tcb-statuses",
                "Fine",
            ),
            (
                "[tdx]\n[intel]\ninsecure-tcb-statuses = [\"Revoked\"]",
                "intel.insecure-tcb-statuses",
                "Revoked",
            ),
        ] {
            match error(text) {
                PolicyError::UnknownName {
                    key: told,
                    value: found,
                    known,
                } => {
                    assert_eq!((told, found.as_str()), (key, value));
                    assert!(!known.split(", ").any(|name| name == value), "{known}");
                }
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn a_value_that_can_never_match_is_an_error() {
        let zeros = "0".repeat(128);
        let ppid = "0".repeat(32);
        let no_key = "0".repeat(96);
        for (text, key, value) in [
            (
                "[snp.min-tcb.milan]\nfmc = 1".to_owned(),
                "snp.min-tcb.milan",
                "fmc",
            ),
            (
                format!("[snp]\nallowed-chips = [\"{zeros}\"]"),
                "snp.allowed-chips",
                zeros.as_str(),
            ),
            (
                format!("[snp]\ndenied-chips = [\"{zeros}\"]"),
                "snp.denied-chips",
                zeros.as_str(),
            ),
            (
                format!("[snp]\nauthor-key-digests = [\"{no_key}\"]"),
                "snp.author-key-digests",
                no_key.as_str(),
            ),
            (
                "[snp]\nallowed-csps = [\"CN=a\", \"\"]".to_owned(),
                "snp.allowed-csps",
                "\"\"",
            ),
            (
                "[snp]\nallowed-csps = [\"CN=\u{e9}\"]".to_owned(),
                "snp.allowed-csps",
                "\"CN=\u{e9}\"",
            ),
            (
                format!("[tdx]\n[intel]\nallowed-ppids = [\"{ppid}\"]"),
                "intel.allowed-ppids",
                ppid.as_str(),
            ),
        ] {
            assert_never_matches(&error(&text), key, value);
        }
        // This one matches too much: every guest without such a key.
        let found = error(&format!("[snp]\nid-key-digests = [\"{no_key}\"]"));
        let expected = format!("snp.id-key-digests = [\"{no_key}\"]");
        let is_refused = matches!(&found, PolicyError::Refused { key, .. } if *key == expected);
        assert!(is_refused, "{found}");
        let denied = |id: &str| format!("[tdx]\n[intel]\ndenied-advisories = [\"{id}\"]");
        for id in ["INTEL-SA-00615", "INTEL-DOC-10001"] {
            let policy = Policy::from_toml(&format!("version = 1\n{}", denied(id)));
            assert!(policy.is_ok(), "{id}");
        }
        for id in [
            "intel-sa-00615",
            "SA-00615",
            "INTEL-SA-0615",
            "INTEL-SA-006150",
            "INTEL-SA-0061S",
            "INTEL-SA-00615 ",
            " INTEL-SA-00615",
            "INTEL-SA-00615,INTEL-SA-00614",
            "",
        ] {
            let value = format!("{id:?}");
            assert_never_matches(&error(&denied(id)), "intel.denied-advisories", &value);
        }
    }

    fn assert_never_matches(error: &PolicyError, expected: &str, found: &str) {
        match error {
            PolicyError::NeverMatches { key, value, .. } => {
                assert_eq!((key.as_str(), value.as_str()), (expected, found));
            }
            other => panic!("{expected}: {other}"),
        }
    }
}
