// SPDX-License-Identifier: Apache-2.0

//! Policy files: TOML in, TOML out. Unknown keys, keys and values of earlier versions, and empty lists are errors.
//! The file is the tenant's own and trusted.

use super::error::PolicyError;
use super::keys::{INSECURE, joined, resolve};
use super::rules::Policy;
use super::suggestion::nearest;
use crate::printable::printable;
use serde_json::Value;
use std::ops::Range;

/// Keys of earlier versions, and what to write instead.
const REMOVED_KEYS: &[(&str, &str)] = &[
    (
        "snp.vmpl",
        "level 0 is always accepted; name further levels in snp.insecure-vmpl",
    ),
    (
        "snp.tcb",
        "floors apply to all four TCB versions; name those to leave out in snp.insecure-ignored-tcb",
    ),
    (
        "intel.tcb-statuses",
        "UpToDate is always accepted; name further statuses in intel.insecure-tcb-statuses or \
         intel.insecure-degraded-tcb-statuses",
    ),
    ("tdx.sept-ve-disable", "SEPT_VE_DISABLE is always required"),
    (
        "tdx.insecure-allow-unknown",
        "TDs with migration or reserved attributes are never accepted",
    ),
];

/// Values of earlier versions, as TOML writes them, and what to write instead.
const REMOVED_VALUES: &[(&str, &str, &str)] = &[
    (
        "missing.crl",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "missing.attack-floor",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "missing.mitigations",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "snp.attacks",
        "[]",
        "badram and entrysign are always required; to accept evidence without them, name them in snp.insecure-ignored-attacks",
    ),
    (
        "snp.min-report-version",
        "2",
        "set snp.insecure-allow-report-version-2",
    ),
];

/// Lists in which fewer entries are stricter, so that an empty list is sound.
const EMPTY_IS_STRICT: &[&str] = &["intel.degraded-tcb-statuses"];

impl Policy {
    /// Reads a policy from TOML.
    ///
    /// # Errors
    /// When it is not TOML, has an unknown key (the nearest known key is named), a key or value of an earlier version
    /// (the new one is named), a list without entries, a value of the wrong type, or what [`Self::check`] refuses.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let format = |error: toml::de::Error| {
            PolicyError::Format(located(text, error.span(), error.message()))
        };
        let table: toml::Table = text.parse().map_err(format)?;
        check_keys(&toml::Value::Table(table))?;
        let policy: Self = toml::from_str(text).map_err(format)?;
        policy.check()?;
        Ok(policy)
    }

    /// This policy as TOML, every key that is set.
    pub fn to_toml(&self) -> String {
        // A policy has string keys only and puts no value after a table, so this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// This policy as a table of TOML.
    pub(super) fn table(&self) -> toml::Table {
        // A policy has string keys and no numbers beyond TOML's, so this cannot fail.
        toml::Table::try_from(self).unwrap_or_default()
    }

    /// The published schema of a policy as JSON.
    pub fn json_schema() -> Value {
        schemars::schema_for!(Policy).to_value()
    }
}

/// Checks the keys of a policy file, and that no list is empty, before types are checked.
///
/// # Errors
/// [`PolicyError::UnknownKey`], [`PolicyError::Refused`] or [`PolicyError::Empty`].
pub(crate) fn check_keys(file: &toml::Value) -> Result<(), PolicyError> {
    let root = Policy::json_schema();
    check_table(file, &root, &root, "")
}

fn check_table(
    value: &toml::Value,
    schema: &Value,
    root: &Value,
    path: &str,
) -> Result<(), PolicyError> {
    let schema = resolve(schema, root);
    let Some(table) = value.as_table() else {
        return check_value(value, path);
    };
    for (key, inner) in table {
        let path = joined(path, key);
        if let Some((_, instead)) = REMOVED_KEYS.iter().find(|(gone, _)| *gone == path) {
            return Err(PolicyError::Refused { key: path, instead });
        }
        let property = schema.get("properties").and_then(|p| p.get(key));
        let next =
            property.or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()));
        let Some(next) = next else {
            let nearest = nearest(&path, key);
            return Err(PolicyError::UnknownKey { key: path, nearest });
        };
        check_table(inner, next, root, &path)?;
    }
    Ok(())
}

fn check_value(value: &toml::Value, path: &str) -> Result<(), PolicyError> {
    let text = value.to_string();
    let gone = |(key, old, _): &&(&str, &str, &str)| *key == path && *old == text;
    if let Some((_, _, instead)) = REMOVED_VALUES.iter().find(gone) {
        let key = format!("{path} = {text}");
        return Err(PolicyError::Refused { key, instead });
    }
    let names_nothing = value.as_array().is_some_and(Vec::is_empty);
    if names_nothing && !path.contains(INSECURE) && !EMPTY_IS_STRICT.contains(&path) {
        let key = path.to_owned();
        return Err(PolicyError::Empty { key });
    }
    Ok(())
}

/// Names of types in Rust, and their counterparts in TOML.
const TYPES: [(&str, &str); 6] = [
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
    ("expected u8", "expected a number from 0 to 255"),
    ("expected u16", "expected a number from 0 to 65535"),
    ("expected u32", "expected a number from 0 to 4294967295"),
    ("expected u64", "expected a number, at least 0"),
];

/// An error in a TOML text as one line, with the number of the line that it is about.
pub fn located(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start));
    let mut message = printable(message);
    let of_rust = TYPES.iter().find(|(rust, _)| message.ends_with(rust));
    if let Some((rust, toml)) = of_rust {
        message.truncate(message.len() - rust.len());
        message.push_str(toml);
    }
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_reported_in_the_terms_of_toml() {
        for (message, told) in [
            (
                "invalid type: string \"80\", expected u16",
                "line 2: invalid type: string \"80\", expected a number from 0 to 65535",
            ),
            (
                "invalid type: string \"12\", expected a sequence",
                "line 2: invalid type: string \"12\", expected a list",
            ),
            ("expected u16 here", "line 2: expected u16 here"),
        ] {
            assert_eq!(located("a\nb", Some(2..3), message), told);
        }
    }

    #[test]
    fn a_kind_of_evidence_is_accepted_if_its_table_exists() {
        let accepted = |text: &str| {
            let policy = Policy::from_toml(text).unwrap();
            [policy.snp.accept, policy.tdx.accept, policy.sgx.accept]
        };
        let all = "version = 1\nname = \"default\"\n[snp]\n[tdx]\n[sgx]";
        assert_eq!(Policy::from_toml(all), Ok(Policy::default()));
        assert_eq!(accepted(all), [true; 3]);
        assert_eq!(accepted("version = 1\n[snp]"), [true, false, false]);
        assert_eq!(accepted("version = 1\n[tdx]"), [false, true, false]);
        assert_eq!(
            accepted("version = 1\n[sgx]\n[intel]"),
            [false, false, true]
        );
        let inner = "version = 1\n[snp.min-tcb.milan]\nsnp = 1";
        assert_eq!(accepted(inner), [true, false, false]);
        assert_eq!(
            accepted("version = 1\n[snp]\naccept = false\n[sgx]"),
            [false, false, true]
        );
        for text in [
            "version = 1",
            "version = 1\n[intel]",
            "version = 1\n[missing]",
            "version = 1\n[snp]\naccept = false",
        ] {
            let refused = Policy::from_toml(text);
            assert_eq!(refused, Err(PolicyError::AcceptsNothing), "{text}");
        }
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        for (text, key, nearest) in [
            ("verion = 1", "verion", "version"),
            (
                "version = 1\n[snp]\nmesurements = []",
                "snp.mesurements",
                "measurements",
            ),
            (
                "version = 1\n[snp.guest-policy]\nsmtt = \"any\"",
                "snp.guest-policy.smtt",
                "smt",
            ),
            (
                "version = 1\n[snp.min-tcb.milan]\nsnpp = 1",
                "snp.min-tcb.milan.snpp",
                "snp",
            ),
            // A key of another table is named with it.
            (
                "version = 1\nmeasurements = []",
                "measurements",
                "snp.measurements",
            ),
            ("version = 1\n[snp]\nmrtd = []", "snp.mrtd", "tdx.mrtd"),
        ] {
            assert_eq!(
                Policy::from_toml(text),
                Err(PolicyError::UnknownKey {
                    key: key.into(),
                    nearest: Some(nearest.into())
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_and_values_of_earlier_versions_are_refused_with_the_new_ones() {
        for (text, words) in [
            ("[missing]\ncrl = \"degrade\"", "insecure-degrade"),
            ("[missing]\nattack-floor = \"degrade\"", "insecure-degrade"),
            ("[missing]\nmitigations = \"degrade\"", "insecure-degrade"),
            ("[snp]\nattacks = []", "snp.insecure-ignored-attacks"),
            ("[snp]\nvmpl = [0, 1, 2, 3]", "snp.insecure-vmpl"),
            ("[snp]\nvmpl = []", "snp.insecure-vmpl"),
            ("[snp]\ntcb = []", "snp.insecure-ignored-tcb"),
            (
                "[snp]\nmin-report-version = 2",
                "snp.insecure-allow-report-version-2",
            ),
            ("[tdx]\nsept-ve-disable = \"any\"", "always required"),
            ("[tdx]\ninsecure-allow-unknown = true", "never accepted"),
            (
                "[intel]\ntcb-statuses = [\"UpToDate\", \"OutOfDate\"]",
                "intel.insecure-tcb-statuses",
            ),
            (
                "[tdx]\n[intel]\ndegraded-tcb-statuses = [\"OutOfDate\"]",
                "intel.insecure-degraded-tcb-statuses",
            ),
        ] {
            let error = Policy::from_toml(&format!("version = 1\n{text}")).unwrap_err();
            assert!(
                matches!(error, PolicyError::Refused { .. }),
                "{text}: {error}"
            );
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn removed_keys_and_values_are_not_in_the_schema() {
        let keys = super::super::keys();
        for (gone, _) in REMOVED_KEYS {
            assert!(keys.iter().all(|key| key.path != *gone), "{gone}");
        }
        let there = |path: &str| keys.iter().any(|key| key.path == path);
        assert!(REMOVED_VALUES.iter().all(|(path, _, _)| there(path)));
        assert!(EMPTY_IS_STRICT.iter().all(|path| there(path)));
    }
}
