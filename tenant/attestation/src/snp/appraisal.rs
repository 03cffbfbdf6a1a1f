//! Whether a report is what the policy asks for. Nothing here needs a certificate; the report is genuine only when the
//! chain's checks hold as well.

use crate::attacks::{self, Attack, Defence};
use crate::checks::Checks;
use crate::hex::{self, Hex};
use crate::policy::{Policy, Rule, SnpPolicy, TcbKind, version};
use enarx_snp::bits::{Bit, GuestPolicy, PlatformInfo};
use enarx_snp::product::Generation;
use enarx_snp::report::{FirmwareVersion, Report, VMPL_HOST_REQUEST};
use enarx_snp::tcb::{Component, Layout, TcbVersion};

/// Judges a report by the policy.
pub(super) fn judge(
    report: &Report,
    generation: Option<&'static Generation>,
    policy: &Policy,
    checks: &mut Checks,
) {
    guest_policy(report.guest_policy(), &policy.snp, checks);
    platform(report.platform(), &policy.snp, checks);
    vmpl(report, &policy.snp, checks);
    tcb(report, generation, &policy.snp, checks);
    mitigations(report, policy, checks);
    firmware(report, &policy.snp, checks);
    for name in &policy.snp.attacks {
        if let Some(attack) = attacks::by_name(name) {
            judge_attack(attack, report, generation, policy, checks);
        }
    }
    guest(report, &policy.snp, checks);
    chips(report, &policy.snp, checks);
}

fn guest_policy(found: GuestPolicy, policy: &SnpPolicy, checks: &mut Checks) {
    let rules = &policy.guest_policy;
    checks.claim("guest-policy", format!("{:#x}", found.0));
    let forbid = |insecure: bool| if insecure { Rule::Any } else { Rule::Forbid };
    for (bit, rule, remedy) in [
        (
            GuestPolicy::DEBUG,
            forbid(rules.insecure_allow_debug),
            "launch the guest without the debug bit in its policy: the host can read a debug guest's memory",
        ),
        (
            GuestPolicy::MIGRATE_MA,
            forbid(rules.insecure_allow_migration_agent),
            "launch the guest without a migration agent",
        ),
        (
            GuestPolicy::SMT,
            rules.smt,
            "launch the guest with the other SMT bit in its policy",
        ),
        (GuestPolicy::SINGLE_SOCKET, rules.single_socket, LAUNCH),
        (GuestPolicy::CXL_ALLOW, rules.cxl, LAUNCH),
        (GuestPolicy::MEM_AES_256_XTS, rules.aes_256_xts, LAUNCH),
        (GuestPolicy::RAPL_DIS, rules.rapl_disabled, LAUNCH),
        (
            GuestPolicy::CIPHERTEXT_HIDING_DRAM,
            rules.ciphertext_hiding,
            LAUNCH,
        ),
        (
            GuestPolicy::PAGE_SWAP_DISABLE,
            rules.page_swap_disabled,
            LAUNCH,
        ),
    ] {
        checks.rule(
            format!("guest-policy.{}", bit.name),
            rule,
            found.has(bit),
            remedy,
        );
    }
    let abi = format!("{}.{}", found.abi_major(), found.abi_minor());
    match rules.min_abi.as_deref().and_then(version::<2>) {
        None => checks.skip(
            "guest-policy.abi",
            format!("{abi}; the policy asks for none"),
        ),
        Some([major, minor]) => {
            checks.test(
                "guest-policy.abi",
                (found.abi_major(), found.abi_minor()) >= (major, minor),
                format!("at least {major}.{minor}"),
                abi,
                LAUNCH,
            );
        }
    }
}

const LAUNCH: &str = "launch the guest with the guest policy that the policy asks for";

fn platform(found: PlatformInfo, policy: &SnpPolicy, checks: &mut Checks) {
    const REMEDY: &str =
        "have the host's owner change the platform's settings, or use another host";
    let rules = &policy.platform;
    checks.claim("platform-info", format!("{:#x}", found.0));
    for (bit, rule) in [
        (PlatformInfo::SMT_EN, rules.smt),
        (PlatformInfo::TSME_EN, rules.tsme),
        (PlatformInfo::ECC_EN, rules.ecc),
        (PlatformInfo::RAPL_DIS, rules.rapl_disabled),
        (
            PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN,
            rules.ciphertext_hiding,
        ),
        (PlatformInfo::ALIAS_CHECK_COMPLETE, rules.alias_check),
        (PlatformInfo::IOMMU_WRITE_SAFE, rules.iommu_write_safe),
        (PlatformInfo::TIO_EN, rules.tio),
    ] {
        checks.rule(
            format!("platform.{}", bit.name),
            rule,
            found.has(bit),
            REMEDY,
        );
    }
}

fn vmpl(report: &Report, policy: &SnpPolicy, checks: &mut Checks) {
    let vmpl = report.vmpl.get();
    checks.claim("report.vmpl", vmpl);
    let accepted: Vec<_> = policy.vmpl.iter().map(ToString::to_string).collect();
    checks.test(
        "report.vmpl",
        policy.vmpl.contains(&vmpl),
        accepted.join(" or "),
        if vmpl == VMPL_HOST_REQUEST {
            "none, the host asked for this report".to_owned()
        } else {
            vmpl.to_string()
        },
        "take the report inside the guest, at a privilege level that snp.vmpl names",
    );
}

fn kinds(report: &Report) -> [(TcbKind, &'static str, TcbVersion); 4] {
    [
        (TcbKind::Reported, "tcb.reported", report.reported_tcb),
        (TcbKind::Committed, "tcb.committed", report.committed_tcb),
        (TcbKind::Launch, "tcb.launch", report.launch_tcb),
        (TcbKind::Current, "tcb.current", report.current_tcb),
    ]
}

fn describe(version: TcbVersion, layout: Layout) -> String {
    let parts = Component::ALL.iter().filter_map(|c| {
        version
            .get(layout, *c)
            .map(|svn| format!("{} {svn:#x}", c.name()))
    });
    parts.collect::<Vec<_>>().join(", ")
}

const UPDATE: &str =
    "have the host's owner update and commit firmware and microcode, or use another host";

fn tcb(
    report: &Report,
    generation: Option<&'static Generation>,
    policy: &SnpPolicy,
    checks: &mut Checks,
) {
    let Some(generation) = generation else {
        for (_, name, _) in kinds(report) {
            checks.fail(name, "a known product", "the product is not known", UPDATE);
        }
        checks.fail(
            "tcb.order",
            "a known product",
            "the product is not known",
            UPDATE,
        );
        return;
    };
    let layout = generation.tcb;
    let ordered = report.committed_tcb.at_least(&report.reported_tcb, layout)
        && report.current_tcb.at_least(&report.committed_tcb, layout);
    let versions = format!(
        "reported {}; committed {}; current {}",
        describe(report.reported_tcb, layout),
        describe(report.committed_tcb, layout),
        describe(report.current_tcb, layout)
    );
    if !ordered && policy.insecure_allow_uncommitted_tcb {
        checks.skip("tcb.order", format!("{versions}; the policy accepts that"));
    } else {
        let remedy = "have the host's owner commit the firmware that runs";
        checks.test(
            "tcb.order",
            ordered,
            "reported ≤ committed ≤ current",
            versions,
            remedy,
        );
    }
    let floor = policy.min_tcb.get(generation.name);
    for (kind, name, version) in kinds(report) {
        checks.claim(name, describe(version, layout));
        let Some(floor) = floor.filter(|_| policy.tcb.contains(&kind)) else {
            let why = "the policy asks for none";
            checks.skip(name, format!("{}; {why}", describe(version, layout)));
            continue;
        };
        let mut expected = Vec::new();
        let mut holds = true;
        for component in Component::ALL {
            if let Some(least) = floor.get(component) {
                expected.push(format!("{} {least:#x}", component.name()));
                holds &= version
                    .get(layout, component)
                    .is_some_and(|svn| svn >= least);
            }
        }
        let expected = format!("at least {}", expected.join(", "));
        checks.test(name, holds, expected, describe(version, layout), UPDATE);
    }
}

fn mitigations(report: &Report, policy: &Policy, checks: &mut Checks) {
    let found = report.mitigations();
    for (name, required, found) in [
        (
            "mitigations.launch",
            policy.snp.launch_mitigations,
            found.map(|m| m.0),
        ),
        (
            "mitigations.current",
            policy.snp.current_mitigations,
            found.map(|m| m.1),
        ),
    ] {
        if let Some(found) = found {
            checks.claim(name, format!("{found:#x}"));
        }
        let expected = format!("bits {required:#x}");
        match found {
            _ if required == 0 => checks.skip(name, "the policy asks for none"),
            Some(found) => {
                let holds = found & required == required;
                checks.test(name, holds, expected, format!("{found:#x}"), UPDATE);
            }
            None => checks.missing(
                name,
                policy.missing.mitigations,
                expected,
                "this report version has none",
                UPDATE,
            ),
        }
    }
}

fn firmware(report: &Report, policy: &SnpPolicy, checks: &mut Checks) {
    let triple = |v: &FirmwareVersion| [v.major, v.minor, v.build];
    let text = |[major, minor, build]: [u8; 3]| format!("{major}.{minor}.{build}");
    let (current, committed) = (
        triple(&report.current_version),
        triple(&report.committed_version),
    );
    checks.claim("firmware.current", text(current));
    checks.claim("firmware.committed", text(committed));
    let actual = format!("current {}, committed {}", text(current), text(committed));
    match policy.min_firmware.as_deref().and_then(version::<3>) {
        None => checks.skip(
            "firmware.version",
            format!("{actual}; the policy asks for none"),
        ),
        Some(least) => {
            let holds = current >= least && committed >= least;
            let expected = format!("at least {}", text(least));
            checks.test("firmware.version", holds, expected, actual, UPDATE);
        }
    }
}

fn judge_attack(
    attack: &Attack,
    report: &Report,
    generation: Option<&'static Generation>,
    policy: &Policy,
    checks: &mut Checks,
) {
    let name = format!("attack.{}", attack.name);
    let Some(generation) = generation else {
        checks.fail(name, "a known product", "the product is not known", UPDATE);
        return;
    };
    let (mut expected, mut problems, mut unpublished) = (Vec::new(), Vec::new(), false);
    let bit = |what: &str, bit: Bit, set: bool, expected: &mut Vec<_>, problems: &mut Vec<_>| {
        expected.push(format!("{what} {}", bit.name));
        if !set {
            problems.push(format!("{what} {} is not set", bit.name));
        }
    };
    for defence in attack.defences {
        match defence {
            Defence::Platform(of) => {
                bit(
                    "platform bit",
                    *of,
                    report.platform().has(*of),
                    &mut expected,
                    &mut problems,
                );
            }
            Defence::GuestPolicy(of) => {
                let set = report.guest_policy().has(*of);
                bit("guest policy bit", *of, set, &mut expected, &mut problems);
            }
            Defence::RefuseProducts(products) => {
                expected.push(format!("not {}", products.join(" or ")));
                if products.contains(&generation.name) {
                    problems.push(format!("{} has no mitigation", generation.name));
                }
            }
            Defence::Floors(floors) => {
                let stepping = report.cpu().map(|cpu| cpu.stepping);
                let mut floors = floors
                    .iter()
                    .filter(|f| f.applies(generation, stepping))
                    .peekable();
                unpublished |= floors.peek().is_none();
                for floor in floors {
                    expected.push(format!(
                        "{} at least {:#x}",
                        floor.component.name(),
                        floor.svn
                    ));
                    for (kind, which, version) in kinds(report) {
                        let svn = version.get(generation.tcb, floor.component);
                        if policy.snp.tcb.contains(&kind) && svn.is_none_or(|svn| svn < floor.svn) {
                            let svn = svn.unwrap_or(0);
                            problems.push(format!("{which} {} {svn:#x}", floor.component.name()));
                        }
                    }
                }
            }
        }
    }
    if !problems.is_empty() {
        checks.fail(name, expected.join(", "), problems.join(", "), UPDATE);
    } else if unpublished {
        checks.missing(
            name,
            policy.missing.attack_floor,
            "a published TCB floor",
            format!("none is known for {}", generation.name),
            "give a floor of your own in snp.min-tcb and set missing.attack-floor",
        );
    } else {
        checks.pass(name, expected.join(", "), "shown");
    }
}

fn guest(report: &Report, policy: &SnpPolicy, checks: &mut Checks) {
    const IMAGE: &str =
        "run the image that the policy names, or add this one's reference value to the policy";
    const SESSION: &str = "take fresh evidence for this session";
    checks.claim("guest.measurement", hex::encode(&report.measurement));
    checks.claim("guest.report-data", hex::encode(&report.report_data));
    checks.claim("guest.host-data", hex::encode(&report.host_data));
    checks.claim("guest.svn", report.guest_svn.get());
    checks.one_of(
        "guest.report-data",
        policy.report_data.as_slice(),
        &Hex(report.report_data),
        SESSION,
    );
    checks.one_of(
        "guest.host-data",
        policy.host_data.as_slice(),
        &Hex(report.host_data),
        SESSION,
    );
    checks.one_of(
        "guest.id-key",
        &policy.id_key_digests,
        &Hex(report.id_key_digest),
        IMAGE,
    );
    if report.keys().author_key_enabled() || policy.author_key_digests.is_empty() {
        let digest = Hex(report.author_key_digest);
        checks.one_of(
            "guest.author-key",
            &policy.author_key_digests,
            &digest,
            IMAGE,
        );
    } else {
        checks.fail(
            "guest.author-key",
            "an author key",
            "the guest was launched without one",
            IMAGE,
        );
    }
    checks.one_of(
        "guest.family-id",
        &policy.family_ids,
        &Hex(report.family_id),
        IMAGE,
    );
    checks.one_of(
        "guest.image-id",
        &policy.image_ids,
        &Hex(report.image_id),
        IMAGE,
    );
    checks.test(
        "guest.svn",
        report.guest_svn.get() >= policy.min_guest_svn,
        format!("at least {}", policy.min_guest_svn),
        report.guest_svn.get().to_string(),
        IMAGE,
    );
}

fn chips(report: &Report, policy: &SnpPolicy, checks: &mut Checks) {
    const REMEDY: &str = "use a host whose chip the policy accepts";
    let chip = Hex(report.chip_id);
    checks.one_of("chip.allowed", &policy.allowed_chips, &chip, REMEDY);
    let denied = policy.denied_chips.contains(&chip);
    checks.test(
        "chip.denied",
        !denied,
        "not on the deny list",
        chip.to_string(),
        REMEDY,
    );
}
