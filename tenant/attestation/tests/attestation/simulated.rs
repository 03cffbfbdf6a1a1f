// SPDX-License-Identifier: Apache-2.0

//! Cases without public evidence, under a hierarchy of our own: revocation, validity, disagreement, floors, policy
//! bits, and for every field of the report the check that must catch its change.

use crate::platform::{DAY, NOW, Platform, VALID, keys, rng};
use enarx_attestation::policy::STANDING_ATTACKS;
use enarx_attestation::printable::printable_lines;
use enarx_attestation::{Expected, Outcome, Overall, Timestamp, Verdict, Verifier};
use enarx_snp::product::{GENERATIONS, GENOA, MILAN, TURIN};
use enarx_snp::report::{Report, Signature};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::{ASK_SERIAL, Authority, Extension, Hierarchy, KeyKind, Validity};

#[track_caller]
fn assert_fails(verdict: &Verdict, names: &[&str]) {
    assert_eq!(verdict.overall, Overall::Invalid, "{names:?}\n{verdict}");
    for name in names {
        let outcome = verdict.check(name).map(|c| c.outcome);
        assert_eq!(outcome, Some(Outcome::Fail), "{name}\n{verdict}");
    }
}

/// Asserts that these checks fail and no others.
#[track_caller]
fn assert_fails_only(verdict: &Verdict, names: &[&str]) {
    assert_fails(verdict, names);
    let failed: Vec<_> = verdict
        .with_outcome(Outcome::Fail)
        .map(|c| &*c.name)
        .collect();
    assert!(
        failed.iter().all(|f| names.contains(f)),
        "{failed:?} instead of {names:?}"
    );
}

#[test]
fn every_generation_is_accepted_as_simulated_and_only_with_its_root() {
    for generation in GENERATIONS {
        let mut platform = Platform::new(generation);
        let verdict = platform.verify();
        assert_eq!(
            verdict.overall,
            Overall::Simulated,
            "{}\n{verdict}",
            generation.name
        );
        assert!(verdict.to_string().contains("simulated"));
        platform.spec.wrapped_hwid = true;
        assert_eq!(
            platform.verify().overall,
            Overall::Simulated,
            "{}",
            generation.name
        );
        platform.policy.insecure_simulated_roots.clear();
        assert_fails(
            &platform.verify(),
            &["chain.root", "chain.names", "agreement.key-kind"],
        );
    }
}

#[test]
fn a_vlek_names_no_chip() {
    let mut platform = Platform::new(&MILAN);
    platform.spec.kind = KeyKind::Vlek;
    platform.report.key_info.set(1 << 2 | 1);
    platform.report.chip_id = [0; 64];
    assert_fails_only(&platform.verify(), &["chip.allowed"]);
    platform.policy.snp.allowed_chips.clear();
    assert_eq!(platform.verify().overall, Overall::Simulated);
    platform.policy.snp.signing_keys.pop();
    assert_fails_only(&platform.verify(), &["report.signing-key"]);
}

/// A verdict, and the token that carries it, end with whatever ends first of all that they rest on.
#[test]
fn a_verdict_rests_on_nothing_that_has_ended() {
    let until = |platform: &Platform| platform.verify().until_unix;
    let mut platform = Platform::new(&MILAN);
    // The list of revoked keys, then the endorsement key.
    assert_eq!(until(&platform), Some(NOW + DAY));
    platform.spec.validity.to = NOW + 60;
    assert_eq!(until(&platform), Some(NOW + 60));
    platform.spec.validity.to = NOW + 365 * DAY;
    // A list that is out of date counts for nothing, and without one the certificates end first.
    platform.policy.missing.crl = enarx_attestation::policy::Missing::InsecureIgnore;
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
        endorsements.amd.crls.push(list);
        platform.verify_as_is(&report, &endorsements).until_unix
    };
    assert_eq!(add(Authority::Ark, NOW + 2 * DAY), Some(NOW + 2 * DAY));
    assert_eq!(add(Authority::Ask, NOW + 3600), Some(NOW + 3600));
    assert_eq!(add(Authority::Ask, NOW + 7200), Some(NOW + 7200));
    // Evidence that cannot be read rests on nothing.
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
        .push(platform.hierarchy.crl(&list, &mut rng()).unwrap());
    let mut report = platform.report;
    endorsement.sign(&mut report);
    assert_fails_only(&platform.verify_as_is(&report, &endorsements), &["crl.vek"]);
    list.revoked = vec![0x1235];
    let list = platform.hierarchy.crl(&list, &mut rng()).unwrap();
    endorsements.amd.crls[1] = list;
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
    platform.policy.missing.crl = enarx_attestation::policy::Missing::InsecureIgnore;
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
    // However many there are: the time that is spent on them is bounded.
    let mut many = endorsements.clone();
    let list = platform.hierarchy.crl(&platform.crl, &mut rng()).unwrap();
    many.amd.crls = vec![list; 65];
    assert_fails_only(&platform.verify_as_is(&report, &many), &["crl.signature"]);
    many.amd.crls.pop();
    assert!(platform.verify_as_is(&report, &many).is_accepted());

    platform.policy.missing.crl = enarx_attestation::policy::Missing::InsecureDegrade;
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_eq!(verdict.check("crl.present").unwrap().outcome, Outcome::Warn);
    assert!(verdict.is_accepted());
    endorsements.amd.crls = vec![b"no list".to_vec()];
    platform.policy.missing.crl = enarx_attestation::policy::Missing::Refuse;
    let verdict = platform.verify_as_is(&report, &endorsements);
    assert_fails_only(&verdict, &["crl.present", "crl.signature"]);
}

#[test]
fn a_list_that_is_not_complete_does_not_show_that_nothing_is_revoked() {
    let extension = |id: &str, critical, value: &[u8]| Extension {
        id: id.parse().unwrap(),
        critical,
        value: value.to_vec(),
    };
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
        // Its entries are revoked all the same.
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
    // An entry of whose meaning a part is not understood.
    platform.crl.revoked = vec![0x7777];
    platform.crl.entry_extensions = vec![extension("2.5.29.29", true, &[0x30, 0])];
    assert_fails_only(&platform.verify(), &["crl.present", "crl.complete"]);
    platform.crl.entry_extensions = vec![extension("2.5.29.21", false, &[0x0A, 1, 1])];
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

#[test]
fn certificates_out_of_their_validity_are_refused() {
    let mut platform = Platform::new(&TURIN);
    for validity in [
        Validity {
            from: NOW - 9 * DAY,
            to: NOW - DAY,
        },
        Validity {
            from: NOW + DAY,
            to: NOW + 9 * DAY,
        },
    ] {
        platform.spec.validity = validity;
        assert_fails_only(&platform.verify(), &["validity.vek"]);
    }
    platform.spec.validity = VALID;
    let expired = Validity {
        from: NOW - 9 * DAY,
        to: NOW - DAY,
    };
    platform.hierarchy = Hierarchy::new(&TURIN, keys(), expired, &mut rng()).unwrap();
    assert_fails_only(&platform.verify(), &["validity.ark", "validity.ask"]);
    // The clocks may differ a little.
    let skewed = Validity {
        from: NOW - DAY,
        to: NOW - 299,
    };
    platform.hierarchy = Hierarchy::new(&TURIN, keys(), skewed, &mut rng()).unwrap();
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

#[test]
fn another_chip_under_the_same_key_is_refused() {
    for generation in [&MILAN, &TURIN] {
        let mut platform = Platform::new(generation);
        platform.policy.snp.allowed_chips.clear();
        platform.report.chip_id[0] ^= 1;
        assert_fails_only(&platform.verify(), &["agreement.chip-id"]);
    }
    let mut turin = Platform::new(&TURIN);
    turin.policy.snp.allowed_chips.clear();
    turin.report.chip_id[8] = 1;
    assert_fails_only(&turin.verify(), &["agreement.chip-id"]);
}

#[test]
fn a_masked_chip_is_the_policys_choice() {
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.allowed_chips.clear();
    platform.report.chip_id = [0; 64];
    assert_fails_only(&platform.verify(), &["agreement.chip-id"]);
    platform.policy.snp.insecure_allow_masked_chip_id = true;
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

#[test]
fn another_product_under_a_genuine_signature_is_refused() {
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.products.push("genoa".to_owned());
    platform.policy.snp.min_tcb.clear();
    platform.report.cpuid_model = 0x11;
    assert_fails_only(&platform.verify(), &["agreement.product"]);
    platform.report.cpuid_model = 0x01;
    "Genoa".clone_into(&mut platform.spec.product_name);
    assert_fails_only(&platform.verify(), &["agreement.product"]);
}

#[test]
fn names_in_certificates_do_not_act_on_a_terminal() {
    let mut platform = Platform::new(&MILAN);
    for name in [
        "\u{1b}[2J\u{1b}[Hvalid: AMD SEV-SNP under policy production\u{1b}[8m",
        "Milan\n       pass  report.signature: good",
        "\0\u{7}\u{7f}\r",
    ] {
        name.clone_into(&mut platform.spec.product_name);
        let verdict = platform.verify();
        assert_fails_only(&verdict, &["agreement.product"]);
        let text = verdict.to_string();
        assert_eq!(printable_lines(&text), text);
        assert!(!text.contains("\n       pass  report.signature: good\n             "));
        let shown = printable_lines(name).replace('\n', "\\u{a}");
        assert!(text.contains(&shown), "{shown}: {text}");
    }
}

#[test]
fn a_missing_component_in_the_certificate_is_refused() {
    for generation in [&MILAN, &TURIN] {
        let mut platform = Platform::new(generation);
        for component in Component::ALL {
            if generation.tcb.byte(component).is_some() {
                platform.spec.without = Some(component);
                let name = format!("agreement.tcb-{}", component.name());
                assert_fails_only(&platform.verify(), &[&name]);
            }
        }
    }
}

#[test]
fn each_component_of_each_tcb_below_its_floor_is_refused() {
    type Field = fn(&mut Report) -> &mut TcbVersion;
    let fields: [(&str, Field); 4] = [
        ("tcb.reported", |r| &mut r.reported_tcb),
        ("tcb.committed", |r| &mut r.committed_tcb),
        ("tcb.launch", |r| &mut r.launch_tcb),
        ("tcb.current", |r| &mut r.current_tcb),
    ];
    for generation in [&GENOA, &TURIN] {
        let mut platform = Platform::new(generation);
        for (name, field) in fields {
            for component in Component::ALL {
                let Some(svn) = platform.report.reported_tcb.get(generation.tcb, component) else {
                    continue;
                };
                let good = (platform.report, platform.spec.clone());
                let tcb = field(&mut platform.report);
                *tcb = tcb.with(generation.tcb, component, svn - 1);
                let low = *tcb;
                let disagrees = format!("agreement.tcb-{}", component.name());
                match name {
                    "tcb.reported" => {
                        assert_fails_only(&platform.verify(), &[name, &disagrees]);
                        platform.spec.tcb = low;
                        assert_fails_only(&platform.verify(), &[name]);
                    }
                    "tcb.launch" => assert_fails_only(&platform.verify(), &[name]),
                    _ => assert_fails_only(&platform.verify(), &[name, "tcb.order"]),
                }
                (platform.report, platform.spec) = good;
            }
        }
    }
}

/// Has the policy ask for the mitigation of this attack and of no other.
fn ask_only(platform: &mut Platform, attack: &str) {
    let snp = &mut platform.policy.snp;
    snp.attacks = vec![attack.to_owned()];
    snp.insecure_ignored_attacks = STANDING_ATTACKS
        .iter()
        .filter(|standing| **standing != attack)
        .map(|standing| (*standing).to_owned())
        .collect();
}

#[test]
fn known_attacks_are_judged_by_their_floors() {
    let with = |generation: &'static _, attack: &str, svn: u8| {
        let mut platform = Platform::new(generation);
        ask_only(&mut platform, attack);
        platform.policy.snp.min_tcb.clear();
        let tcb = Component::ALL.iter().fold(TcbVersion([0; 8]), |tcb, c| {
            tcb.with(platform.generation.tcb, *c, svn)
        });
        platform.spec.tcb = tcb;
        let report = &mut platform.report;
        (report.reported_tcb, report.committed_tcb) = (tcb, tcb);
        (report.launch_tcb, report.current_tcb) = (tcb, tcb);
        platform.verify()
    };
    assert_fails_only(&with(&MILAN, "entrysign", 0xDA), &["attack.entrysign"]);
    assert_eq!(with(&MILAN, "entrysign", 0xDB).overall, Overall::Simulated);
    assert_fails_only(&with(&GENOA, "stackwarp", 0x55), &["attack.stackwarp"]);
    assert_eq!(with(&GENOA, "stackwarp", 0x56).overall, Overall::Simulated);
    assert_fails_only(&with(&TURIN, "rmpocalypse", 0x4F), &["attack.rmpocalypse"]);
    // No floor is published for Milan: the policy says what that means.
    assert_fails_only(&with(&MILAN, "stackwarp", 0xFF), &["attack.stackwarp"]);
    assert_fails_only(&with(&MILAN, "badfuse", 0xFF), &["attack.badfuse"]);
    assert_eq!(with(&GENOA, "badfuse", 0xFF).overall, Overall::Simulated);
}

#[test]
fn denied_chips_are_refused() {
    let mut platform = Platform::new(&GENOA);
    platform.policy.snp.denied_chips = platform.policy.snp.allowed_chips.clone();
    assert_fails_only(&platform.verify(), &["chip.denied"]);
}

#[test]
fn old_reports_are_the_policys_choice() {
    let mut platform = Platform::new(&MILAN);
    let report = &mut platform.report;
    report.version.set(2);
    (
        report.cpuid_family,
        report.cpuid_model,
        report.cpuid_stepping,
    ) = (0, 0, 0);
    report.launch_mit_vector.set(0);
    report.current_mit_vector.set(0);
    assert_fails_only(
        &platform.verify(),
        &[
            "report.version",
            "mitigations.launch",
            "mitigations.current",
        ],
    );
    platform.policy.snp.insecure_allow_report_version_2 = true;
    (
        platform.policy.snp.launch_mitigations,
        platform.policy.snp.current_mitigations,
    ) = (0, 0);
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

#[test]
fn unknown_versions_and_bits_are_the_policys_choice() {
    let mut platform = Platform::new(&MILAN);
    platform.report.version.set(6);
    platform.report.reserved2[0] = 1;
    assert_fails_only(&platform.verify(), &["report.version", "report.reserved"]);
    platform.policy.snp.insecure_allow_unknown = true;
    assert_eq!(platform.verify().overall, Overall::Simulated);
}

/// Every byte of the signed report, changed and signed anew by the genuine key: what must catch it.
#[test]
fn every_changed_field_is_caught_by_its_check() {
    let fields: &[(&str, std::ops::Range<usize>, &[&str])] = &[
        (
            "version",
            0x000..0x004,
            &["report.version", "report.reserved", "evidence.format"],
        ),
        ("guest_svn", 0x004..0x005, &["guest.svn"]),
        ("policy abi minor", 0x008..0x009, &["guest-policy.abi"]),
        ("policy abi major", 0x009..0x00A, &["guest-policy.abi"]),
        ("policy high", 0x00C..0x010, &["report.reserved"]),
        ("family_id", 0x010..0x020, &["guest.family-id"]),
        ("image_id", 0x020..0x030, &["guest.image-id"]),
        ("vmpl", 0x030..0x034, &["report.vmpl"]),
        (
            "signature_algo",
            0x034..0x038,
            &["report.signature-algorithm"],
        ),
        ("platform_info high", 0x041..0x048, &["report.reserved"]),
        ("key_info high", 0x049..0x04C, &["report.reserved"]),
        ("reserved0", 0x04C..0x050, &["report.reserved"]),
        ("report_data", 0x050..0x090, &["guest.report-data"]),
        ("measurement", 0x090..0x0C0, &["guest.measurement"]),
        ("host_data", 0x0C0..0x0E0, &["guest.host-data"]),
        ("id_key_digest", 0x0E0..0x110, &["guest.id-key"]),
        ("author_key_digest", 0x110..0x140, &["guest.author-key"]),
        (
            "reported_tcb",
            0x180..0x188,
            &[
                "agreement.tcb-bootloader",
                "agreement.tcb-tee",
                "agreement.tcb-snp",
                "agreement.tcb-microcode",
                "report.reserved",
            ],
        ),
        (
            "cpuid",
            0x188..0x18A,
            &["report.product", "agreement.product"],
        ),
        ("reserved1", 0x18B..0x1A0, &["report.reserved"]),
        (
            "chip_id",
            0x1A0..0x1E0,
            &["agreement.chip-id", "chip.allowed"],
        ),
        ("reserved version", 0x1EB..0x1EC, &["report.reserved"]),
        ("reserved version", 0x1EF..0x1F0, &["report.reserved"]),
        ("launch_mit_vector", 0x1F8..0x1F9, &["mitigations.launch"]),
        ("current_mit_vector", 0x200..0x201, &["mitigations.current"]),
        ("reserved2", 0x208..0x2A0, &["report.reserved"]),
    ];
    // A flip of the lowest bit lowers each number of the platform, which are even or all ones.
    let platform = Platform::new(&MILAN);
    let endorsement = platform.endorse();
    let endorsements = platform.endorsements(&endorsement);
    for (name, range, checks) in fields {
        for offset in range.clone() {
            let mut bytes = zerocopy::IntoBytes::as_bytes(&platform.report).to_vec();
            bytes[offset] ^= if *name == "cpuid" { 0x20 } else { 1 };
            if *name == "policy abi minor" {
                bytes[offset] = 0x39;
            }
            if *name == "guest_svn" {
                bytes[offset] = 8;
            }
            let mut report: Report = zerocopy::FromBytes::read_from_bytes(&bytes).unwrap();
            endorsement.sign(&mut report);
            let verdict = platform.verify_as_is(&report, &endorsements);
            assert_eq!(
                verdict.overall,
                Overall::Invalid,
                "{name} at {offset:#x}\n{verdict}"
            );
            assert!(
                checks
                    .iter()
                    .any(|c| verdict.check(c).is_some_and(|c| c.outcome == Outcome::Fail)),
                "{name} at {offset:#x}: none of {checks:?} failed\n{verdict}"
            );
        }
    }
}

#[test]
fn every_bit_with_a_rule_is_judged() {
    use enarx_snp::bits::{GuestPolicy, PlatformInfo};
    let mut platform = Platform::new(&MILAN);
    // Attacks ask for bits, too.
    ask_only(&mut platform, "badram");
    platform.policy.snp.insecure_ignored_attacks = STANDING_ATTACKS.map(str::to_owned).to_vec();
    let good = platform.report;
    for bit in GuestPolicy::BITS {
        platform.report.policy.set(good.policy.get() ^ bit.mask());
        let name = match bit {
            GuestPolicy::RESERVED_ONE => "report.reserved".to_owned(),
            bit => format!("guest-policy.{}", bit.name),
        };
        assert_fails_only(&platform.verify(), &[&name]);
    }
    platform.report = good;
    for bit in PlatformInfo::BITS {
        platform
            .report
            .platform_info
            .set(good.platform_info.get() ^ bit.mask());
        assert_fails_only(&platform.verify(), &[&format!("platform.{}", bit.name)]);
    }
    platform.report = good;
    for (build, minor) in [(9, 58), (255, 57)] {
        platform.report.committed_version.build = build;
        platform.report.committed_version.minor = minor;
        assert_fails_only(&platform.verify(), &["firmware.version"]);
    }
    platform.report = good;
    // Unsigned on request of the host, or by no key.
    platform.report.key_info.set(1 | 1 << 1);
    assert_fails_only(&platform.verify(), &["report.signing-key"]);
    platform.report.key_info.set(1 | 7 << 2);
    assert_fails_only(
        &platform.verify(),
        &["report.signing-key", "agreement.key-kind"],
    );
    platform.report.key_info.set(0);
    assert_fails_only(&platform.verify(), &["guest.author-key"]);
}

/// Report ids and the rest are pinned by nothing but the signature.
#[test]
fn every_octet_is_under_the_signature() {
    let platform = Platform::new(&MILAN);
    let endorsement = platform.endorse();
    let endorsements = platform.endorsements(&endorsement);
    let mut report = platform.report;
    endorsement.sign(&mut report);
    assert!(platform.verify_as_is(&report, &endorsements).is_accepted());
    for offset in (4..zerocopy::IntoBytes::as_bytes(&report).len()).step_by(3) {
        let mut bytes = zerocopy::IntoBytes::as_bytes(&report).to_vec();
        bytes[offset] ^= 0x10;
        let changed: Report = zerocopy::FromBytes::read_from_bytes(&bytes).unwrap();
        let verdict = platform.verify_as_is(&changed, &endorsements);
        assert_fails(&verdict, &["report.signature"]);
    }
    let mut unsigned = report;
    unsigned.signature = Signature::from_scalars(&[0; 48], &[0; 48]);
    assert_fails_only(
        &platform.verify_as_is(&unsigned, &endorsements),
        &["report.signature"],
    );
}
