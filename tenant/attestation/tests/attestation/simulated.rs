// SPDX-License-Identifier: Apache-2.0

//! Cases without public evidence, under our own hierarchy: validity, disagreement, floors, policy
//! bits, and for every field of the report the check that must catch its change.

use crate::platform::{DAY, NOW, Platform, VALID, assert_fails, assert_fails_only, keys, rng};
use enarx_attestation::policy::STANDING_ATTACKS;
use enarx_attestation::printable::printable_lines;
use enarx_attestation::{Endorsements, Outcome, Overall};
use enarx_snp::product::{GENERATIONS, GENOA, MILAN, TURIN};
use enarx_snp::report::{Report, Signature};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::{Hierarchy, KeyKind, Validity};

#[test]
fn every_generation_is_accepted_only_with_its_simulated_root() {
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

/// A verdict, and the token that carries it, end with the first end of everything that they depend on.
#[test]
fn a_policy_names_the_providers_of_vleks() {
    const PROVIDER: &str = "CN=simulated.example";
    let mut platform = Platform::new(&MILAN);
    platform.policy.snp.allowed_csps = vec!["CN=other.example".to_owned(), PROVIDER.to_owned()];
    // A chip's key belongs to no provider.
    assert_fails_only(&platform.verify(), &["certificate.csp"]);
    platform.spec.kind = KeyKind::Vlek;
    platform.report.key_info.set(1 << 2 | 1);
    platform.report.chip_id = [0; 64];
    platform.policy.snp.allowed_chips.clear();
    assert_eq!(platform.verify().overall, Overall::Simulated);
    platform.policy.snp.allowed_csps.pop();
    assert_fails_only(&platform.verify(), &["certificate.csp"]);
    // Names that only begin the same, or differ in case, are different.
    for other in [
        "CN=simulated.example.org",
        "cn=simulated.example",
        "CN=simulated",
    ] {
        platform.policy.snp.allowed_csps = vec![other.to_owned()];
        assert_fails_only(&platform.verify(), &["certificate.csp"]);
    }
}

#[test]
fn no_remedy_asks_a_vendor_about_a_simulated_chip() {
    let mut platform = Platform::new(&GENOA);
    let remedy = |platform: &Platform| {
        let verdict = platform.verify_as_is(&platform.report, &Endorsements::default());
        let check = verdict.check("chain.certificates").unwrap().clone();
        assert_eq!(check.outcome, Outcome::Fail);
        check.remedy
    };
    // With a policy that names a simulator, and by the chip.
    let both = remedy(&platform);
    assert!(both.contains("enarx certs fetch"), "{both}");
    assert!(both.contains("of a simulated platform"), "{both}");
    platform.policy.insecure_simulated_roots.clear();
    assert!(!remedy(&platform).contains("simulated"));
    for (generation, prefix) in [(&GENOA, &b"SIMULATED"[..]), (&TURIN, b"SIM")] {
        let mut platform = Platform::new(generation);
        platform.report.chip_id[..prefix.len()].copy_from_slice(prefix);
        let remedy = remedy(&platform);
        assert!(!remedy.contains("enarx certs fetch"), "{remedy}");
        assert!(remedy.contains("for a simulated chip"), "{remedy}");
    }
}

#[test]
fn certificates_outside_their_validity_are_refused() {
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
fn names_in_certificates_contain_no_control_characters() {
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

/// Makes the policy require only this attack's mitigation.
fn require_only(platform: &mut Platform, attack: &str) {
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
        require_only(&mut platform, attack);
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

/// Every byte of the signed report, changed and signed anew by the genuine key: the check that must catch it.
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
    // Flipping the lowest bit lowers each number of the platform, because all are even or all ones.
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
    // Attacks require bits, too.
    require_only(&mut platform, "badram");
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
    // Unsigned at the host's request, or by no key.
    platform.report.key_info.set(1 | 1 << 1);
    assert_fails_only(&platform.verify(), &["report.signing-key"]);
    platform.report.key_info.set(1 | 7 << 2);
    assert_fails_only(
        &platform.verify(),
        &["report.signing-key", "agreement.key-kind", "chip.allowed"],
    );
    platform.report.key_info.set(0);
    assert_fails_only(&platform.verify(), &["guest.author-key"]);
}

/// Only the signature pins report ids and the rest. The first four bytes are the version, which selects how a report is read.
#[test]
fn every_byte_is_under_the_signature() {
    let platform = Platform::new(&MILAN);
    let endorsement = platform.endorse();
    let endorsements = platform.endorsements(&endorsement);
    let mut report = platform.report;
    endorsement.sign(&mut report);
    assert!(platform.verify_as_is(&report, &endorsements).is_accepted());
    for offset in 4..zerocopy::IntoBytes::as_bytes(&report).len() {
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
