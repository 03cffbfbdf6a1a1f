// SPDX-License-Identifier: Apache-2.0

//! Every key of a policy, by the schema: each is classified here, each that weakens protection has `insecure` in its
//! name and does what it says, and no other can make anything pass that is refused without it.

use crate::platform::{DAY, NOW, Platform};
use crate::vectors::{self, Case};
use enarx_attestation::policy::keys;
use enarx_attestation::{
    Endorsements, Expected, Overall, Policy, PolicyError, Timestamp, Verifier,
};
use enarx_harness::needs::find_vectors;
use enarx_snp::product::{MILAN, TURIN};
use enarx_snp::report::Report;
use enarx_snp::tcb::{Component, TcbVersion};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use zerocopy::IntoBytes;

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It names something and is compared with nothing.
    Label,
    /// It can only require more than a policy without it.
    Asks,
    /// It weakens protection when it is on.
    GivesAway,
    /// It weakens protection with those of its values that have `insecure` in their name.
    ByValue,
}
use Effect::{Asks, ByValue, GivesAway, Label};

/// Every key with its effect and values it may have; DIGEST-N stands for N bytes.
const KEYS: &[(&str, Effect, &[&str])] = &[
    ("version", Label, &["1"]),
    ("name", Label, &["\"x\""]),
    ("clock-skew-seconds", Asks, &["0", "300"]),
    ("insecure-simulated-roots", GivesAway, &["[\"DIGEST-32\"]"]),
    ("missing.crl", ByValue, &["\"refuse\""]),
    ("missing.attack-floor", ByValue, &["\"refuse\""]),
    ("missing.mitigations", ByValue, &["\"refuse\""]),
    ("snp.accept", Asks, &["true", "false"]),
    (
        "snp.products",
        Asks,
        &["[\"milan\"]", "[\"milan\", \"turin\"]"],
    ),
    ("snp.min-report-version", Asks, &["3", "5"]),
    ("snp.insecure-allow-report-version-2", GivesAway, &["true"]),
    ("snp.insecure-allow-unknown", GivesAway, &["true"]),
    (
        "snp.signing-keys",
        Asks,
        &["[\"vcek\"]", "[\"vlek\", \"vcek\"]"],
    ),
    ("snp.allowed-csps", Asks, &["[\"CN=x.example\"]"]),
    ("snp.crl-max-age-days", Asks, &["1", "3650"]),
    ("snp.insecure-allow-masked-chip-id", GivesAway, &["true"]),
    ("snp.insecure-allow-uncommitted-tcb", GivesAway, &["true"]),
    ("snp.insecure-vmpl", GivesAway, &["[1, 2, 3]"]),
    (
        "snp.attacks",
        Asks,
        &[
            "[\"badram\"]",
            "[\"heracles\"]",
            "[\"entrysign\", \"badfuse\"]",
        ],
    ),
    (
        "snp.insecure-ignored-attacks",
        GivesAway,
        &["[\"badram\", \"entrysign\"]"],
    ),
    ("snp.min-tcb.<product>.fmc", Asks, &["1"]),
    ("snp.min-tcb.<product>.bootloader", Asks, &["0", "255"]),
    ("snp.min-tcb.<product>.tee", Asks, &["0", "255"]),
    ("snp.min-tcb.<product>.snp", Asks, &["0", "255"]),
    ("snp.min-tcb.<product>.microcode", Asks, &["0", "255"]),
    ("snp.insecure-ignored-tcb", GivesAway, &["[\"launch\"]"]),
    ("snp.launch-mitigations", Asks, &["0", "1"]),
    ("snp.current-mitigations", Asks, &["0", "1"]),
    ("snp.min-firmware", Asks, &["\"0.0.0\"", "\"1.99.0\""]),
    (
        "snp.guest-policy.insecure-allow-debug",
        GivesAway,
        &["true"],
    ),
    (
        "snp.guest-policy.insecure-allow-migration-agent",
        GivesAway,
        &["true"],
    ),
    ("snp.guest-policy.smt", Asks, RULES),
    ("snp.guest-policy.single-socket", Asks, RULES),
    ("snp.guest-policy.cxl", Asks, RULES),
    ("snp.guest-policy.aes-256-xts", Asks, RULES),
    ("snp.guest-policy.rapl-disabled", Asks, RULES),
    ("snp.guest-policy.ciphertext-hiding", Asks, RULES),
    ("snp.guest-policy.page-swap-disabled", Asks, RULES),
    ("snp.guest-policy.min-abi", Asks, &["\"0.0\"", "\"1.99\""]),
    ("snp.platform.smt", Asks, RULES),
    ("snp.platform.tsme", Asks, RULES),
    ("snp.platform.ecc", Asks, RULES),
    ("snp.platform.rapl-disabled", Asks, RULES),
    ("snp.platform.ciphertext-hiding", Asks, RULES),
    ("snp.platform.alias-check", Asks, RULES),
    ("snp.platform.iommu-write-safe", Asks, RULES),
    ("snp.platform.tio", Asks, RULES),
    ("snp.measurements", Asks, &["[\"DIGEST-48\"]"]),
    ("snp.releases", Asks, &["[\"any-current\"]", "[\"0.8.0\"]"]),
    ("snp.report-data", Asks, &["\"DIGEST-64\""]),
    ("snp.host-data", Asks, &["\"DIGEST-32\""]),
    ("snp.id-key-digests", Asks, &["[\"DIGEST-48\"]"]),
    ("snp.author-key-digests", Asks, &["[\"DIGEST-48\"]"]),
    ("snp.family-ids", Asks, &["[\"DIGEST-16\"]"]),
    ("snp.image-ids", Asks, &["[\"DIGEST-16\"]"]),
    ("snp.min-guest-svn", Asks, &["0", "100"]),
    ("snp.allowed-chips", Asks, &["[\"DIGEST-64\"]"]),
    ("snp.denied-chips", Asks, &["[\"DIGEST-64\"]"]),
    (
        "intel.degraded-tcb-statuses",
        Asks,
        &["[]", "[\"SWHardeningNeeded\"]"],
    ),
    (
        "intel.insecure-degraded-tcb-statuses",
        GivesAway,
        &["[\"OutOfDate\"]"],
    ),
    (
        "intel.insecure-tcb-statuses",
        GivesAway,
        &["[\"OutOfDate\", \"ConfigurationNeeded\"]"],
    ),
    ("intel.denied-advisories", Asks, &["[\"INTEL-SA-00615\"]"]),
    ("intel.min-tcb-evaluation-data-number", Asks, &["0", "1000"]),
    ("intel.smt", Asks, RULES),
    ("intel.allowed-ppids", Asks, &["[\"DIGEST-16\"]"]),
    ("intel.denied-ppids", Asks, &["[\"DIGEST-16\"]"]),
    ("tdx.accept", Asks, &["true", "false"]),
    ("tdx.insecure-allow-debug", GivesAway, &["true"]),
    ("tdx.insecure-allow-service-td", GivesAway, &["true"]),
    ("tdx.mrtd", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.rtmr0", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.rtmr1", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.rtmr2", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.rtmr3", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.mrseam", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.mrconfigid", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.mrowner", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.mrownerconfig", Asks, &["[\"DIGEST-48\"]"]),
    ("tdx.report-data", Asks, &["\"DIGEST-64\""]),
    ("sgx.accept", Asks, &["true", "false"]),
    ("sgx.insecure-allow-debug", GivesAway, &["true"]),
    ("sgx.mrenclave", Asks, &["[\"DIGEST-32\"]"]),
    ("sgx.mrsigner", Asks, &["[\"DIGEST-32\"]"]),
    ("sgx.isv-prod-id", Asks, &["0", "1"]),
    ("sgx.min-isv-svn", Asks, &["0", "100"]),
    ("sgx.report-data", Asks, &["\"DIGEST-64\""]),
];
const RULES: &[&str] = &["\"any\"", "\"require\"", "\"forbid\""];

/// A value with its digests expanded.
fn written(value: &str) -> String {
    let lengths = [16, 32, 48, 64];
    lengths.iter().fold(value.to_owned(), |value, len| {
        value.replace(&format!("DIGEST-{len}"), &"5a".repeat(*len))
    })
}

/// A policy file of these keys and values. Every kind of evidence has its table.
fn file(entries: &[(&str, &str)]) -> String {
    let line = |(key, value): &(&str, &str)| {
        let key = key.rsplit('.').next().unwrap();
        format!("{key} = {}", written(value))
    };
    let top = entries.iter().filter(|(key, _)| !key.contains('.'));
    let mut lines: Vec<String> = top.map(line).collect();
    if !entries.iter().any(|(key, _)| *key == "version") {
        lines.push("version = 1".to_owned());
    }
    let table = |key: &str| {
        let table = key.rsplit_once('.')?.0;
        Some(table.replace("<product>", "turin"))
    };
    let mut tables: BTreeSet<String> = entries.iter().filter_map(|(key, _)| table(key)).collect();
    tables.extend(["snp", "tdx", "sgx"].map(str::to_owned));
    for name in tables {
        lines.push(format!("[{name}]"));
        let own = entries
            .iter()
            .filter(|(key, _)| table(key).as_ref() == Some(&name));
        lines.extend(own.map(line));
    }
    lines.join("\n")
}

#[test]
fn every_key_is_classified_and_names_its_risk() {
    let known: BTreeSet<_> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    let of_schema: BTreeSet<_> = keys().into_iter().map(|key| key.path).collect();
    assert_eq!(known, of_schema, "classify new keys here");
    for (key, effect, values) in KEYS {
        let insecure = key.contains("insecure");
        assert_eq!(insecure, *effect == GivesAway, "{key}");
        assert!(!values.is_empty(), "{key}");
        for value in *values {
            let text = file(&[(key, value)]);
            // Some require nothing by themselves; all can be read.
            let policy = Policy::from_toml(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let switches = policy.insecure_switches();
            assert_eq!(switches.len(), usize::from(insecure), "{key}: {switches:?}");
            assert_eq!(
                Policy::from_toml(&policy.to_toml()),
                Ok(policy.clone()),
                "{text}"
            );
            assert_eq!(Policy::from_toml(&policy.explained()), Ok(policy), "{text}");
        }
    }
}

#[test]
fn every_insecure_value_says_so() {
    // The enumerations of the schema: their first value is the default of a policy without the key, or a rule
    // that requires nothing, or a name.
    let schema = Policy::json_schema();
    let values = |name: &str| -> Vec<String> {
        let of = |v: &Value| {
            v.get("const")
                .or(Some(v))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let definition = &schema["$defs"][name];
        let list = definition.get("oneOf").or_else(|| definition.get("enum"));
        let found = list.and_then(Value::as_array).into_iter().flatten();
        found.filter_map(of).collect()
    };
    assert_eq!(
        values("Missing"),
        ["refuse", "insecure-degrade", "insecure-ignore"]
    );
    assert_eq!(values("Rule"), ["any", "require", "forbid"]);
    assert_eq!(values("Endorser"), ["vcek", "vlek"]);
    assert_eq!(
        values("TcbKind"),
        ["reported", "committed", "launch", "current"]
    );
    let with_values = ["Missing", "Rule", "Endorser", "TcbKind"];
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let enumeration = definition.get("oneOf").or_else(|| definition.get("enum"));
        assert_eq!(
            enumeration.is_some(),
            with_values.contains(&name.as_str()),
            "{name}"
        );
    }
    for key in ["crl", "attack-floor", "mitigations"] {
        for value in ["insecure-degrade", "insecure-ignore"] {
            let policy = Policy::from_toml(&file(&[(
                &format!("missing.{key}"),
                &format!("\"{value}\""),
            )]));
            let switches = policy.unwrap().insecure_switches();
            assert_eq!(switches, [format!("missing.{key} = \"{value}\"")]);
        }
    }
}

#[test]
fn an_empty_list_is_refused_unless_it_is_stricter() {
    for (key, effect, values) in KEYS {
        if !values.iter().any(|value| value.starts_with('[')) {
            continue;
        }
        let read = Policy::from_toml(&file(&[(key, "[]")]));
        let good = *effect == GivesAway || values.contains(&"[]");
        assert_eq!(read.is_ok(), good, "{key}: {read:?}");
        if good {
            assert_eq!(read.unwrap().insecure_switches(), [""; 0], "{key}");
        }
    }
    let floors = Policy::from_toml("version = 1\n[snp.min-tcb.milan]");
    assert!(
        matches!(floors, Err(PolicyError::Empty { .. })),
        "{floors:?}"
    );
}

#[test]
fn every_key_is_explained() {
    for policy in [Policy::default(), Policy::insecure_authenticity_only()] {
        let text = policy.explained();
        for key in keys() {
            assert!(!key.meaning.is_empty(), "{} has no meaning", key.path);
            let leaf = key.path.rsplit('.').next().unwrap();
            let there = text.contains(&format!("\n{leaf} = "))
                || text.contains(&format!("\n# {leaf} is not set"));
            assert!(
                there || key.path.contains("<product>"),
                "{}\n{text}",
                key.path
            );
            let words = key.meaning.split_whitespace().next().unwrap();
            assert!(text.contains(words), "{}", key.path);
        }
        assert_eq!(Policy::from_toml(&text), Ok(policy));
    }
}

/// Evidence that the policy of the default values with a simulated root refuses for one reason, and the insecure switch
/// with which it passes, if there is one.
struct Flaw {
    name: &'static str,
    evidence: Vec<u8>,
    endorsements: Endorsements,
    at: Timestamp,
    /// Keys that the policy has besides the defaults.
    asked: &'static [(&'static str, &'static str)],
    /// Each of these makes it pass by itself.
    switches: &'static [(&'static str, &'static str)],
}

/// The roots of the simulated platforms of [`flaws`].
fn roots() -> String {
    let root = |generation| Platform::new(generation).policy.insecure_simulated_roots[0];
    format!("[\"{}\", \"{}\"]", root(&MILAN), root(&TURIN))
}

/// A platform in which the default policy finds no flaw, with one that `change` makes.
fn flawed(
    generation: &'static enarx_snp::product::Generation,
    change: impl FnOnce(&mut Platform),
) -> (Vec<u8>, Endorsements, Timestamp) {
    let mut platform = Platform::new(generation);
    set_tcb(&mut platform, 0xDB, |_| true);
    change(&mut platform);
    let endorsement = platform.endorse();
    let mut report = platform.report;
    endorsement.sign(&mut report);
    let endorsements = platform.endorsements(&endorsement);
    (report.as_bytes().to_vec(), endorsements, Timestamp(NOW))
}

/// Gives every component of the TCB versions that `which` names this number.
fn set_tcb(platform: &mut Platform, svn: u8, which: fn(usize) -> bool) {
    let tcb = Component::ALL.iter().fold(TcbVersion([0; 8]), |tcb, c| {
        tcb.with(platform.generation.tcb, *c, svn)
    });
    let report: &mut Report = &mut platform.report;
    let all = [
        &mut report.reported_tcb,
        &mut report.committed_tcb,
        &mut report.launch_tcb,
        &mut report.current_tcb,
    ];
    for (index, version) in all.into_iter().enumerate() {
        if which(index) {
            *version = tcb;
        }
    }
    platform.spec.tcb = platform.report.reported_tcb;
}

fn flaws() -> &'static [Flaw] {
    static FLAWS: OnceLock<Vec<Flaw>> = OnceLock::new();
    FLAWS.get_or_init(|| {
        let mut flaws = simulated_flaws();
        if let Ok(folder) = find_vectors() {
            flaws.extend(genuine_flaws(&folder));
        }
        flaws
    })
}

fn simulated_flaws() -> Vec<Flaw> {
    type Change = fn(&mut Platform);
    type Row = (
        &'static str,
        Change,
        &'static [(&'static str, &'static str)],
        &'static [(&'static str, &'static str)],
    );
    let rows: [Row; 13] = [
        (
            "a guest that the host may debug",
            |p| p.report.policy.set(p.report.policy.get() | 1 << 19),
            &[],
            &[("snp.guest-policy.insecure-allow-debug", "true")],
        ),
        (
            "a guest with a migration agent",
            |p| p.report.policy.set(p.report.policy.get() | 1 << 18),
            &[],
            &[("snp.guest-policy.insecure-allow-migration-agent", "true")],
        ),
        (
            "a report of version 2",
            |p| {
                p.report.version.set(2);
                (
                    p.report.cpuid_family,
                    p.report.cpuid_model,
                    p.report.cpuid_stepping,
                ) = (0, 0, 0);
                p.report.launch_mit_vector.set(0);
                p.report.current_mit_vector.set(0);
            },
            &[],
            &[("snp.insecure-allow-report-version-2", "true")],
        ),
        (
            "a report with bits that are not known",
            |p| p.report.reserved2[0] = 1,
            &[],
            &[("snp.insecure-allow-unknown", "true")],
        ),
        (
            "a masked chip",
            |p| p.report.chip_id = [0; 64],
            &[],
            &[("snp.insecure-allow-masked-chip-id", "true")],
        ),
        (
            "firmware that is not committed",
            |p| set_tcb(p, 0xDC, |index| index == 1),
            &[],
            &[("snp.insecure-allow-uncommitted-tcb", "true")],
        ),
        (
            "a report for VMPL 3",
            |p| p.report.vmpl.set(3),
            &[],
            &[
                ("snp.insecure-vmpl", "[3]"),
                ("snp.insecure-vmpl", "[1, 2, 3]"),
            ],
        ),
        (
            "microcode that is open to EntrySign",
            |p| set_tcb(p, 0xDA, |_| true),
            &[],
            &[("snp.insecure-ignored-attacks", "[\"entrysign\"]")],
        ),
        (
            "memory that is open to BadRAM",
            |p| {
                p.report
                    .platform_info
                    .set(p.report.platform_info.get() & !(1 << 5));
            },
            &[],
            &[("snp.insecure-ignored-attacks", "[\"badram\"]")],
        ),
        (
            "a launch under old microcode",
            |p| set_tcb(p, 0xDA, |index| index == 2),
            &[],
            &[
                ("snp.insecure-ignored-tcb", "[\"launch\"]"),
                ("snp.insecure-ignored-attacks", "[\"entrysign\"]"),
            ],
        ),
        (
            "no revocation list in force",
            |p| p.crl.next_update = Some(NOW - DAY / 2),
            &[],
            &[
                ("missing.crl", "\"insecure-degrade\""),
                ("missing.crl", "\"insecure-ignore\""),
            ],
        ),
        (
            "a stepping without a floor",
            |p| p.report.cpuid_stepping = 0,
            &[],
            &[
                ("missing.attack-floor", "\"insecure-degrade\""),
                ("missing.attack-floor", "\"insecure-ignore\""),
                ("snp.insecure-ignored-attacks", "[\"entrysign\"]"),
            ],
        ),
        (
            "a version without mitigation vectors",
            |p| {
                p.report.version.set(4);
                p.report.launch_mit_vector.set(0);
                p.report.current_mit_vector.set(0);
            },
            &[("snp.launch-mitigations", "1")],
            &[
                ("missing.mitigations", "\"insecure-degrade\""),
                ("missing.mitigations", "\"insecure-ignore\""),
            ],
        ),
    ];
    let flaws = rows.into_iter().map(|(name, change, asked, switches)| {
        let (evidence, endorsements, at) = flawed(&MILAN, change);
        Flaw {
            name,
            evidence,
            endorsements,
            at,
            asked,
            switches,
        }
    });
    flaws.collect()
}

/// Quotes of the vectors that the default policy refuses, by what it refuses about them.
fn genuine_flaws(folder: &std::path::Path) -> Vec<Flaw> {
    type Row = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
    );
    /// The status of the platform must not be the reason for the refusal.
    const ANY_STATUS: &[(&str, &str)] = &[(
        "intel.insecure-tcb-statuses",
        "[\"OutOfDate\", \"OutOfDateConfigurationNeeded\", \"ConfigurationNeeded\", \
         \"ConfigurationAndSWHardeningNeeded\", \"SWHardeningNeeded\"]",
    )];
    let rows: [Row; 5] = [
        (
            "sgx-v3-00606a000000-b69ac41b",
            "an enclave's platform that is out of date",
            &[
                ("intel.insecure-tcb-statuses", "[\"OutOfDate\"]"),
                ("intel.insecure-degraded-tcb-statuses", "[\"OutOfDate\"]"),
            ],
        ),
        (
            "tdx-v4-00a06d080000-b789d779",
            "a TD's platform that is out of date",
            &[
                ("intel.insecure-tcb-statuses", "[\"OutOfDate\"]"),
                ("intel.insecure-degraded-tcb-statuses", "[\"OutOfDate\"]"),
            ],
        ),
        (
            "tdx-v5-90c06f000000-d0010db6",
            "a TD with a service TD",
            &[("tdx.insecure-allow-service-td", "true")],
        ),
        (
            "sgx-v3-00606a000000-77bcbdfa",
            "an enclave that the host may debug",
            &[("sgx.insecure-allow-debug", "true")],
        ),
        (
            "neg-sgx-v3-00606a000000-b69ac41b-bodyflip",
            "a quote that was changed",
            &[],
        ),
    ];
    let flaws = rows.into_iter().map(|(case, name, switches)| {
        let case = Case::load(folder, case);
        let at = case.expected["verify_at_unix"].as_u64().unwrap();
        Flaw {
            name,
            evidence: case.evidence,
            endorsements: case.endorsements,
            at: Timestamp(at),
            asked: if name.contains("debug") {
                ANY_STATUS
            } else {
                &[]
            },
            switches,
        }
    });
    flaws.collect()
}

impl Flaw {
    fn judged(&self, entries: &[(&str, &str)]) -> Result<Overall, PolicyError> {
        let roots = roots();
        let own = self
            .asked
            .iter()
            .filter(|(key, _)| entries.iter().all(|(k, _)| k != key));
        let all: Vec<_> = [("insecure-simulated-roots", roots.as_str())]
            .into_iter()
            .chain(own.copied())
            .chain(entries.iter().copied())
            .collect();
        let policy = Policy::from_toml(&file(&all))?;
        let verdict = Verifier::new(policy).verify(
            &self.evidence,
            &self.endorsements,
            &Expected::at(self.at),
        );
        Ok(verdict.overall)
    }
}

#[test]
fn only_the_insecure_switches_give_protection_away() {
    // The one without a genuine sample: no TD may be debugged here.
    let mut untried: BTreeSet<_> = KEYS
        .iter()
        .filter(|(key, effect, _)| {
            matches!(effect, GivesAway | ByValue) && *key != "tdx.insecure-allow-debug"
        })
        .map(|(key, ..)| *key)
        .collect();
    untried.remove("insecure-simulated-roots");
    for flaw in flaws() {
        assert_eq!(flaw.judged(&[]), Ok(Overall::Invalid), "{}", flaw.name);
        for (key, value) in flaw.switches {
            let accepted = flaw.judged(&[(key, value)]).unwrap();
            assert_ne!(accepted, Overall::Invalid, "{}: {key} = {value}", flaw.name);
            untried.remove(key);
        }
        let others = KEYS.iter().filter(|(_, effect, _)| *effect == GivesAway);
        for (key, _, values) in others {
            let own = flaw.switches.iter().any(|(switch, _)| switch == key);
            for value in values
                .iter()
                .filter(|_| !own && *key != "insecure-simulated-roots")
            {
                let judged = flaw.judged(&[(key, value)]);
                assert_eq!(
                    judged,
                    Ok(Overall::Invalid),
                    "{}: {key} = {value}",
                    flaw.name
                );
            }
        }
    }
    // The simulated root itself.
    let (evidence, endorsements, at) = flawed(&MILAN, |_| {});
    let judged = |entries: &[(&str, &str)]| {
        let policy = Policy::from_toml(&file(entries)).unwrap();
        Verifier::new(policy)
            .verify(&evidence, &endorsements, &Expected::at(at))
            .overall
    };
    assert_eq!(judged(&[]), Overall::Invalid);
    assert_eq!(
        judged(&[("insecure-simulated-roots", &roots())]),
        Overall::Simulated
    );
    // Every switch is tried only with genuine evidence.
    vectors::folder();
    assert_eq!(untried, BTreeSet::new());
}

/// A key that requires something, and one of its values.
fn asking() -> impl Strategy<Value = (&'static str, &'static str)> {
    let all: Vec<_> = KEYS
        .iter()
        .filter(|(_, effect, _)| matches!(effect, Asks | ByValue))
        .flat_map(|(key, _, values)| values.iter().map(|value| (*key, *value)))
        .collect();
    prop::sample::select(all)
}

/// Keys without `insecure` in their name make nothing pass that is refused without them, whatever their values
/// and however many there are.
#[test]
fn a_key_without_insecure_never_weakens_a_policy() {
    proptest!(ProptestConfig::with_cases(96), |(
        entries in proptest::collection::vec(asking(), 1..8),
        which in any::<prop::sample::Index>(),
    )| {
        let mut seen = BTreeSet::new();
        let entries: Vec<_> = entries.into_iter().filter(|(key, _)| seen.insert(*key)).collect();
        let flaw = which.get(flaws());
        // A key that requires the missing fact may be replaced by one that does not.
        prop_assume!(flaw.asked.iter().all(|(key, _)| !seen.contains(key)));
        match flaw.judged(&entries) {
            Ok(overall) => prop_assert_eq!(overall, Overall::Invalid, "{}: {:?}", flaw.name, entries),
            // Entries without the table of a kind of evidence leave no accepted kind.
            Err(error) => prop_assert_eq!(error, PolicyError::AcceptsNothing, "{:?}", entries),
        }
    });
    // Without genuine evidence these were only the simulated flaws.
    vectors::folder();
}

#[test]
fn policies_that_ask_little_are_warned_about() {
    let warnings = |text: &str| {
        Policy::from_toml(&format!("version = 1\n{text}"))
            .unwrap()
            .warnings()
            .join("\n")
    };
    let digest = "5a".repeat(48);
    let pinned = format!("[snp]\nproducts = [\"genoa\"]\nmeasurements = [\"{digest}\"]");
    assert_eq!(warnings(&pinned), "");
    assert!(warnings("[snp]").contains("any guest on a genuine chip passes"));
    assert!(warnings("[snp]").contains("any report can be forged"));
    assert!(!warnings("[snp]\nattacks = [\"badfuse\"]").contains("forged"));
    assert!(warnings("[tdx]").contains("any TD on a genuine platform passes"));
    assert!(warnings("[sgx]").contains("any enclave on a genuine platform passes"));
    assert!(warnings("[sgx]\nisv-prod-id = 1").contains("without mrsigner"));
    assert!(!warnings(&format!("[tdx]\nmrtd = [\"{digest}\"]")).contains("any TD"));
    let registers = warnings(&format!("[tdx]\nrtmr1 = [\"{digest}\"]"));
    assert!(registers.contains("any TD") && registers.contains("prove nothing without mrtd"));
    assert!(
        warnings(&format!("{pinned}\n[intel]\nsmt = \"forbid\"")).contains("neither tdx nor sgx")
    );
    let floors = warnings("[snp.min-tcb.genoa]\nsnp = 23");
    assert!(
        floors.contains("turin is among snp.products, but snp.min-tcb has no floor"),
        "{floors}"
    );
    let other = format!("{pinned}\n[snp.min-tcb.genoa]\nsnp = 1\n[snp.min-tcb.turin]\nsnp = 1");
    assert!(warnings(&other).contains("turin, which is not among snp.products"));
    let provider = format!("{pinned}\nallowed-csps = [\"CN=x\"]");
    assert!(warnings(&provider).contains("every report under a VCEK is refused"));
    let of_chips = format!("{provider}\nsigning-keys = [\"vcek\"]");
    assert!(warnings(&of_chips).contains("every report is refused"));
    let of_providers = format!("{provider}\nsigning-keys = [\"vlek\"]");
    assert_eq!(warnings(&of_providers), "");
    let all = Policy::default().warnings();
    assert_eq!(all.len(), 4, "{all:#?}");
}
