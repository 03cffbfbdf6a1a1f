// SPDX-License-Identifier: Apache-2.0

//! Floors, attacks and lists of chips that cannot be compared with a report: they refuse it.

use crate::platform::Platform;
use crate::vectors::{self, Case};
use enarx_attestation::attacks::{ATTACKS, Defence};
use enarx_attestation::policy::{Missing, STANDING_ATTACKS, TcbFloor, TcbKind};
use enarx_attestation::{Expected, Outcome, Overall, Policy, Timestamp, Verdict, Verifier};
use enarx_snp::product::{BERGAMO_SIENA, GENERATIONS, GENOA, Generation, MILAN, TURIN};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::KeyKind;
use proptest::prelude::*;

/// A platform whose components all have this number, under a policy that requires only this attack's mitigation.
fn platform(generation: &'static Generation, attack: &str, svn: u8) -> Platform {
    let mut platform = Platform::new(generation);
    let snp = &mut platform.policy.snp;
    snp.min_tcb.clear();
    snp.attacks = vec![attack.to_owned()];
    let ignored = STANDING_ATTACKS.into_iter().filter(|name| *name != attack);
    snp.insecure_ignored_attacks = ignored.map(str::to_owned).collect();
    let tcb = Component::ALL.iter().fold(TcbVersion([0; 8]), |tcb, c| {
        tcb.with(generation.tcb, *c, svn)
    });
    platform.spec.tcb = tcb;
    let report = &mut platform.report;
    (report.reported_tcb, report.committed_tcb) = (tcb, tcb);
    (report.launch_tcb, report.current_tcb) = (tcb, tcb);
    platform
}

#[track_caller]
fn assert_check(verdict: &Verdict, name: &str, outcome: Outcome, words: &str) {
    let check = verdict
        .check(name)
        .unwrap_or_else(|| panic!("{name}\n{verdict}"));
    assert_eq!(check.outcome, outcome, "{name}\n{verdict}");
    assert!(check.actual.contains(words), "{words}: {check:?}");
    assert_eq!(verdict.is_accepted(), outcome != Outcome::Fail, "{verdict}");
}

#[test]
fn a_part_without_a_row_is_judged_by_missing_attack_floor() {
    // Model and stepping, and the component of which nothing is published for them.
    let cases: [(&'static Generation, u8, u8, &str, &str); 6] = [
        // Turin Dense.
        (
            &TURIN,
            0x11,
            0,
            "rmpocalypse",
            "microcode of turin (model 0x11, stepping 0x0)",
        ),
        (
            &TURIN,
            0x11,
            1,
            "rmpocalypse",
            "microcode of turin (model 0x11, stepping 0x1)",
        ),
        (
            &TURIN,
            0x02,
            0,
            "rmpocalypse",
            "microcode of turin (model 0x2, stepping 0x0)",
        ),
        (
            &MILAN,
            0x01,
            0,
            "entrysign",
            "microcode of milan (model 0x1, stepping 0x0)",
        ),
        (
            &BERGAMO_SIENA,
            0xA0,
            2,
            "entrysign",
            "snp of bergamo-siena (model 0xa0, stepping 0x2)",
        ),
        (
            &TURIN,
            0x02,
            1,
            "entrysign",
            "snp of turin (model 0x2, stepping 0x1), microcode of turin",
        ),
    ];
    for (generation, model, stepping, attack, words) in cases {
        let name = format!("attack.{attack}");
        let mut platform = platform(generation, attack, 0xFF);
        (platform.report.cpuid_model, platform.report.cpuid_stepping) = (model, stepping);
        assert_check(&platform.verify(), &name, Outcome::Fail, words);
        platform.policy.missing.attack_floor = Missing::InsecureDegrade;
        assert_check(&platform.verify(), &name, Outcome::Warn, words);
        platform.policy.missing.attack_floor = Missing::InsecureIgnore;
        assert_check(&platform.verify(), &name, Outcome::Skipped, words);
    }
    // A floor for one component is compared although there is none for the other.
    let mut low = platform(&TURIN, "rmpocalypse", 0x03);
    (low.report.cpuid_model, low.report.cpuid_stepping) = (0x11, 0);
    low.policy.missing.attack_floor = Missing::InsecureIgnore;
    assert_check(
        &low.verify(),
        "attack.rmpocalypse",
        Outcome::Fail,
        "snp 0x3",
    );
}

#[test]
fn a_floor_for_one_product_does_not_apply_to_others() {
    let floor = TcbFloor {
        snp: Some(1),
        ..TcbFloor::default()
    };
    for generation in GENERATIONS {
        for with_floor in GENERATIONS {
            let mut platform = Platform::new(generation);
            platform.policy.snp.min_tcb = [(with_floor.name.to_owned(), floor)].into();
            let verdict = platform.verify();
            for name in ["tcb.reported", "tcb.committed", "tcb.launch", "tcb.current"] {
                if generation == with_floor {
                    assert_check(&verdict, name, Outcome::Pass, "snp 0x60");
                } else {
                    let words = format!("floors for {} only", with_floor.name);
                    assert_check(&verdict, name, Outcome::Fail, &words);
                }
            }
        }
    }
}

#[test]
fn a_report_without_a_cpu_must_meet_every_product_of_its_line() {
    let unnamed = || {
        let mut platform = Platform::new(&GENOA);
        let report = &mut platform.report;
        report.version.set(2);
        (
            report.cpuid_family,
            report.cpuid_model,
            report.cpuid_stepping,
        ) = (0, 0, 0);
        report.launch_mit_vector.set(0);
        report.current_mit_vector.set(0);
        let snp = &mut platform.policy.snp;
        (snp.launch_mitigations, snp.current_mitigations) = (0, 0);
        snp.insecure_allow_report_version_2 = true;
        snp.products.push("bergamo-siena".to_owned());
        let floor = snp.min_tcb["genoa"];
        snp.min_tcb.insert("bergamo-siena".to_owned(), floor);
        platform
    };
    let good = unnamed().verify();
    assert!(good.is_accepted(), "{good}");
    assert_eq!(good.claims["report.product"], "genoa or bergamo-siena");
    let mut platform = unnamed();
    platform.policy.snp.products.pop();
    assert_check(
        &platform.verify(),
        "report.product",
        Outcome::Fail,
        "genoa or bergamo-siena",
    );
    let mut platform = unnamed();
    platform.policy.snp.min_tcb.remove("bergamo-siena");
    assert_check(
        &platform.verify(),
        "tcb.launch",
        Outcome::Fail,
        "floors for genoa only",
    );
    let mut platform = unnamed();
    let floor = platform
        .policy
        .snp
        .min_tcb
        .get_mut("bergamo-siena")
        .unwrap();
    floor.snp = Some(0x61);
    assert_check(&platform.verify(), "tcb.launch", Outcome::Fail, "snp 0x60");
    // Genoa-X and Bergamo are in the line too: the highest floor of all decides, and Bergamo has none for the firmware.
    let mut platform = unnamed();
    platform.policy.snp.insecure_ignored_attacks.clear();
    let words = "none is known for snp of bergamo-siena";
    assert_check(&platform.verify(), "attack.entrysign", Outcome::Fail, words);
}

#[test]
fn only_ignored_tcb_versions_are_not_compared() {
    let mut platform = platform(&GENOA, "stackwarp", 0x56);
    let low = platform
        .report
        .launch_tcb
        .with(GENOA.tcb, Component::Microcode, 0x55);
    platform.report.launch_tcb = low;
    assert_check(
        &platform.verify(),
        "attack.stackwarp",
        Outcome::Fail,
        "tcb.launch",
    );
    platform.policy.snp.insecure_ignored_tcb = vec![TcbKind::Launch];
    assert_check(
        &platform.verify(),
        "attack.stackwarp",
        Outcome::Pass,
        "shown",
    );
    // If nothing is left to compare, nothing is shown.
    platform.policy.snp.insecure_ignored_tcb = TcbKind::ALL.to_vec();
    let verdict = platform.verify();
    assert_check(&verdict, "attack.stackwarp", Outcome::Fail, "none is known");
    assert_check(
        &verdict,
        "policy.usable",
        Outcome::Fail,
        "insecure-ignored-tcb",
    );
}

#[test]
fn a_report_without_a_chip_does_not_escape_chip_lists() {
    let vlek = || {
        let mut platform = Platform::new(&MILAN);
        platform.spec.kind = KeyKind::Vlek;
        platform.report.key_info.set(1 << 2 | 1);
        platform.report.chip_id = [0; 64];
        platform.policy.snp.allowed_chips.clear();
        platform
    };
    let masked = || {
        let mut platform = Platform::new(&MILAN);
        platform.report.chip_id = [0; 64];
        platform.policy.snp.insecure_allow_masked_chip_id = true;
        platform.policy.snp.allowed_chips.clear();
        platform
    };
    let other = Platform::new(&GENOA).policy.snp.allowed_chips;
    for mut platform in [vlek(), masked()] {
        let verdict = platform.verify();
        assert_check(&verdict, "chip.denied", Outcome::Skipped, "names none");
        assert_check(&verdict, "chip.allowed", Outcome::Skipped, "names none");
        platform.policy.snp.denied_chips.clone_from(&other);
        let words = "the evidence names no chip";
        assert_check(&platform.verify(), "chip.denied", Outcome::Fail, words);
        platform.policy.snp.denied_chips.clear();
        platform.policy.snp.allowed_chips.clone_from(&other);
        assert_check(&platform.verify(), "chip.allowed", Outcome::Fail, words);
    }
    // Many chips have the same VLEK: whoever extracts it can write another chip's name, or nobody's, into a report.
    for named in [other[0], Platform::new(&MILAN).policy.snp.allowed_chips[0]] {
        let mut platform = vlek();
        platform.report.chip_id = named.0;
        assert!(platform.verify().is_accepted());
        let claims = platform.verify().claims;
        assert!(!claims.contains_key("report.chip-id"), "{claims:?}");
        let words = "the evidence names no chip";
        platform.policy.snp.allowed_chips = vec![named];
        assert_check(&platform.verify(), "chip.allowed", Outcome::Fail, words);
        platform.policy.snp.allowed_chips.clear();
        platform.policy.snp.denied_chips = vec![enarx_attestation::hex::Hex([0xEE; 64])];
        assert_check(&platform.verify(), "chip.denied", Outcome::Fail, words);
    }
    // A chip that is named and not on the list.
    let mut platform = Platform::new(&TURIN);
    platform.policy.snp.denied_chips = vec![enarx_attestation::hex::Hex([0xEE; 64])];
    assert_check(&platform.verify(), "chip.denied", Outcome::Pass, "c1c1");
}

#[test]
fn a_genuine_milan_is_accepted_with_a_warning_only() {
    let folder = vectors::folder();
    let mut milans = 0;
    for case in Case::all(&folder).iter().filter(|case| case.is_snp()) {
        let at = case
            .expected
            .get("verify_at_unix")
            .and_then(serde_json::Value::as_u64);
        let at = Timestamp(at.unwrap_or(1_790_000_000));
        let mut policy = Policy::insecure_authenticity_only();
        let verdict = Verifier::new(policy.clone()).verify(
            &case.evidence,
            &case.endorsements,
            &Expected::at(at),
        );
        if !verdict.is_accepted() {
            continue;
        }
        let milan = verdict.claims["report.product"] == "milan";
        let text = verdict.to_string();
        assert_eq!(text.contains("any report can be forged"), milan, "{text}");
        assert_eq!(verdict.warnings.len(), usize::from(milan), "{text}");
        milans += usize::from(milan);
        // A policy that requires the mitigation refuses instead of warning.
        policy.snp.attacks.push("badfuse".to_owned());
        let asked =
            Verifier::new(policy).verify(&case.evidence, &case.endorsements, &Expected::at(at));
        assert_eq!(asked.is_accepted(), !milan, "{asked}");
        assert!(asked.warnings.is_empty(), "{asked}");
    }
    assert!(milans >= 10, "{milans}");
}

/// True if there is a floor for each component of the attack, and the numbers reach every floor of the product.
fn suffices(attack: &str, generation: &Generation, platform: &Platform) -> bool {
    let attack = ATTACKS.iter().find(|a| a.name == attack).unwrap();
    let cpu = platform.report.cpu();
    attack.defences.iter().all(|defence| {
        let Defence::Floors(floors) = defence else {
            return true;
        };
        Component::ALL.iter().all(|component| {
            let about: Vec<_> = floors
                .iter()
                .filter(|f| f.component == *component)
                .collect();
            let own: Vec<_> = about
                .iter()
                .filter(|f| f.applies(generation, cpu))
                .collect();
            let tcbs = [
                platform.report.reported_tcb,
                platform.report.committed_tcb,
                platform.report.launch_tcb,
                platform.report.current_tcb,
            ];
            let reached = |svn: u8| {
                tcbs.iter()
                    .all(|t| t.get(generation.tcb, *component) >= Some(svn))
            };
            about.is_empty() || !own.is_empty() && own.iter().all(|f| reached(f.svn))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// An attack's mitigation is shown only where each component was compared with a number, and reached it.
    #[test]
    fn only_compared_values_are_shown(
        which in 0usize..4,
        attack in prop::sample::select(&["entrysign", "rmpocalypse", "stackwarp"][..]),
        model in 0u8..16,
        stepping in 0u8..4,
        svn in any::<u8>(),
    ) {
        let generation = GENERATIONS[which];
        let mut platform = platform(generation, attack, svn);
        platform.report.cpuid_model = generation.models.0 + model;
        platform.report.cpuid_stepping = stepping;
        let verdict = platform.verify();
        let check = verdict.check(&format!("attack.{attack}")).unwrap();
        let shown = check.outcome == Outcome::Pass;
        prop_assert_eq!(shown, suffices(attack, generation, &platform), "{}", verdict);
        prop_assert_eq!(shown, check.actual == "shown");
        prop_assert_eq!(verdict.overall == Overall::Simulated, shown, "{}", verdict);
    }
}
