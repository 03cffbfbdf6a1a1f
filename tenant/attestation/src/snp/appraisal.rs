// SPDX-License-Identifier: Apache-2.0

//! Judges whether a report satisfies the policy. Nothing here needs a certificate; the report is genuine only
//! if the chain's checks pass as well.

use super::product::Product;
use crate::attacks::{self, Attack, Defence, Floor};
use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::hex::{self, Hex};
use crate::policy::{Policy, Rule, SnpPolicy, TcbKind};
use crate::version::version;
use enarx_snp::bits::{Bit, GuestPolicy, PlatformInfo, SigningKey};
use enarx_snp::report::{FirmwareVersion, Report, VMPL_HOST_REQUEST};
use enarx_snp::tcb::{Component, Layout, TcbVersion};

/// Judges a report by the policy.
pub(super) fn judge(
    report: &Report,
    product: Option<&Product>,
    context: &Context<'_>,
    checks: &mut Checks,
) {
    let policy = context.policy;
    guest_policy(report.guest_policy(), &policy.snp, checks);
    platform(report.platform(), &policy.snp, checks);
    vmpl(report, &policy.snp, checks);
    tcb(report, product, &policy.snp, checks);
    mitigations(report, policy, checks);
    firmware(report, &policy.snp, checks);
    for attack in policy.snp.required_attacks() {
        judge_attack(attack, report, product, policy, checks);
    }
    exposed(product, &policy.snp, checks);
    guest(report, context, checks);
    chips(report, &policy.snp, checks);
}

fn guest_policy(found: GuestPolicy, policy: &SnpPolicy, checks: &mut Checks) {
    let rules = &policy.guest_policy;
    checks.claim(Claim::GuestPolicy, format!("{:#x}", found.0));
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
    let least = rules.min_abi.as_deref().and_then(version::<2>);
    match least.filter(|least| *least != [0; 2]) {
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
    checks.claim(Claim::PlatformInfo, format!("{:#x}", found.0));
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
    checks.claim(Claim::ReportVmpl, vmpl);
    let accepted: Vec<_> = policy.levels().map(|level| level.to_string()).collect();
    checks.test(
        "report.vmpl",
        policy.levels().any(|level| level == vmpl),
        accepted.join(" or "),
        if vmpl == VMPL_HOST_REQUEST {
            "none, the host asked for this report".to_owned()
        } else {
            vmpl.to_string()
        },
        "take the report inside the guest, at VMPL 0 or a level that snp.insecure-vmpl names",
    );
}

fn kinds(report: &Report) -> [(TcbKind, Claim, TcbVersion); 4] {
    [
        (TcbKind::Reported, Claim::TcbReported, report.reported_tcb),
        (
            TcbKind::Committed,
            Claim::TcbCommitted,
            report.committed_tcb,
        ),
        (TcbKind::Launch, Claim::TcbLaunch, report.launch_tcb),
        (TcbKind::Current, Claim::TcbCurrent, report.current_tcb),
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

fn tcb(report: &Report, product: Option<&Product>, policy: &SnpPolicy, checks: &mut Checks) {
    let Some(product) = product else {
        for (_, claim, _) in kinds(report) {
            checks.fail(
                claim.name(),
                "a known product",
                "the product is not known",
                UPDATE,
            );
        }
        checks.fail(
            "tcb.order",
            "a known product",
            "the product is not known",
            UPDATE,
        );
        return;
    };
    let layout = product.layout();
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
    for (kind, claim, version) in kinds(report) {
        checks.claim(claim, describe(version, layout));
        floor(product, policy, (kind, claim.name(), version), checks);
    }
}

/// Judges one TCB version by `snp.min-tcb`, for every generation to which the CPU may belong.
fn floor(
    product: &Product,
    policy: &SnpPolicy,
    (kind, name, version): (TcbKind, &'static str, TcbVersion),
    checks: &mut Checks,
) {
    let layout = product.layout();
    let found = describe(version, layout);
    if policy.min_tcb.is_empty() {
        checks.skip(name, format!("{found}; the policy asks for none"));
        return;
    }
    if !policy.judges(kind) {
        checks.skip(name, format!("{found}; the policy ignores this one"));
        return;
    }
    let (mut expected, mut passes) = (Vec::new(), true);
    for generation in product.generations() {
        let Some(floor) = policy.min_tcb.get(generation.name) else {
            let products: Vec<_> = policy.min_tcb.keys().map(String::as_str).collect();
            checks.fail(
                name,
                format!("a floor for {}", generation.name),
                format!("floors for {} only; {found}", products.join(", ")),
                "give this product a floor in snp.min-tcb, or take it out of snp.products",
            );
            return;
        };
        for component in Component::ALL {
            if let Some(least) = floor.get(component).filter(|least| *least > 0) {
                expected.push(format!("{} {least:#x}", component.name()));
                passes &= version
                    .get(layout, component)
                    .is_some_and(|svn| svn >= least);
            }
        }
    }
    if expected.is_empty() {
        checks.skip(name, format!("{found}; the policy's floors are 0"));
        return;
    }
    let expected = format!("at least {}", expected.join(", "));
    checks.test(name, passes, expected, found, UPDATE);
}

fn mitigations(report: &Report, policy: &Policy, checks: &mut Checks) {
    let found = report.mitigations();
    for (claim, required, found) in [
        (
            Claim::MitigationsLaunch,
            policy.snp.launch_mitigations,
            found.map(|m| m.0),
        ),
        (
            Claim::MitigationsCurrent,
            policy.snp.current_mitigations,
            found.map(|m| m.1),
        ),
    ] {
        if let Some(found) = found {
            checks.claim(claim, format!("{found:#x}"));
        }
        let name = claim.name();
        let expected = format!("bits {required:#x}");
        match found {
            _ if required == 0 => checks.skip(name, "the policy asks for none"),
            Some(found) => {
                let passes = found & required == required;
                checks.test(name, passes, expected, format!("{found:#x}"), UPDATE);
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
    checks.claim(Claim::FirmwareCurrent, text(current));
    checks.claim(Claim::FirmwareCommitted, text(committed));
    let actual = format!("current {}, committed {}", text(current), text(committed));
    let least = policy.min_firmware.as_deref().and_then(version::<3>);
    match least.filter(|least| *least != [0; 3]) {
        None => checks.skip(
            "firmware.version",
            format!("{actual}; the policy asks for none"),
        ),
        Some(least) => {
            let passes = current >= least && committed >= least;
            let expected = format!("at least {}", text(least));
            checks.test("firmware.version", passes, expected, actual, UPDATE);
        }
    }
}

/// The evidence in a report that an attack is mitigated.
#[derive(Default)]
struct Shown {
    expected: Vec<String>,
    problems: Vec<String>,
    /// Parts for which no floor is published.
    unpublished: Vec<String>,
}

impl Shown {
    fn bit(&mut self, what: &str, bit: Bit, set: bool) {
        self.expected.push(format!("{what} {}", bit.name));
        if !set {
            self.problems
                .push(format!("{what} {} is not set", bit.name));
        }
    }

    /// Compares every TCB version that the policy judges with every floor that is for this CPU.
    fn floors(&mut self, floors: &[Floor], report: &Report, product: &Product, policy: &SnpPolicy) {
        let layout = product.layout();
        for generation in product.generations() {
            for component in Component::ALL {
                let about = |floor: &&Floor| floor.component == component;
                if !floors.iter().any(|floor| about(&floor)) {
                    continue;
                }
                let for_cpu = |floor: &&Floor| floor.applies(generation, product.cpu);
                let mut compared = false;
                for floor in floors.iter().filter(about).filter(for_cpu) {
                    let name = component.name();
                    self.expected
                        .push(format!("{name} at least {:#x}", floor.svn));
                    for (kind, which, version) in kinds(report) {
                        if !policy.judges(kind) {
                            continue;
                        }
                        compared = true;
                        let svn = version.get(layout, component);
                        if svn.is_none_or(|svn| svn < floor.svn) {
                            let svn = svn.unwrap_or(0);
                            self.problems.push(format!("{which} {name} {svn:#x}"));
                        }
                    }
                }
                if !compared {
                    let part = product.cpu.map_or_else(String::new, |cpu| {
                        format!(" (model {:#x}, stepping {:#x})", cpu.model, cpu.stepping)
                    });
                    let of = format!("{} of {}{part}", component.name(), generation.name);
                    self.unpublished.push(of);
                }
            }
        }
    }
}

fn judge_attack(
    attack: &Attack,
    report: &Report,
    product: Option<&Product>,
    policy: &Policy,
    checks: &mut Checks,
) {
    let name = format!("attack.{}", attack.name);
    let Some(product) = product else {
        checks.fail(name, "a known product", "the product is not known", UPDATE);
        return;
    };
    let mut shown = Shown::default();
    for defence in attack.defences {
        match defence {
            Defence::Platform(of) => {
                shown.bit("platform bit", *of, report.platform().has(*of));
            }
            Defence::GuestPolicy(of) => {
                shown.bit("guest policy bit", *of, report.guest_policy().has(*of));
            }
            Defence::RefuseProducts(products) => {
                shown
                    .expected
                    .push(format!("not {}", products.join(" or ")));
                let exposed = |name: &&str| products.contains(name);
                for generation in product.generations().map(|g| g.name).filter(exposed) {
                    shown
                        .problems
                        .push(format!("{generation} has no mitigation"));
                }
            }
            Defence::Floors(floors) => shown.floors(floors, report, product, &policy.snp),
        }
    }
    let Shown {
        expected,
        problems,
        unpublished,
    } = shown;
    if !problems.is_empty() {
        checks.fail(name, expected.join(", "), problems.join(", "), UPDATE);
    } else if !unpublished.is_empty() || expected.is_empty() {
        checks.missing(
            name,
            policy.missing.attack_floor,
            "a published TCB floor for every component",
            format!("none is known for {}", unpublished.join(", ")),
            "use another product, or give a floor of your own in snp.min-tcb and set missing.attack-floor to \
             insecure-degrade",
        );
    } else {
        checks.pass(name, expected.join(", "), "shown");
    }
}

/// Warns of attacks that work against every version of this product, where the policy does not ask about them.
fn exposed(product: Option<&Product>, policy: &SnpPolicy, checks: &mut Checks) {
    if checks.simulated {
        return; // No hardware is there to be attacked, and the verdict says so.
    }
    for generation in product.into_iter().flat_map(Product::generations) {
        let asked = |attack: &Attack| policy.required_attacks().any(|a| a == attack);
        for attack in attacks::unmitigated(generation.name).filter(|a| !asked(a)) {
            checks.warnings.push(attack.exposure(generation.name));
        }
    }
}

fn guest(report: &Report, context: &Context<'_>, checks: &mut Checks) {
    const IMAGE: &str = "another image was launched than the policy names: run that one";
    const SESSION: &str = "it was made for another occasion: take evidence for this one";
    let policy = &context.policy.snp;
    checks.claim(Claim::GuestMeasurement, hex::encode(&report.measurement));
    checks.claim(Claim::GuestReportData, hex::encode(&report.report_data));
    checks.claim(Claim::GuestHostData, hex::encode(&report.host_data));
    checks.claim(Claim::GuestSvn, report.guest_svn.get());
    checks.report_data(
        policy.report_data,
        context.expected.report_data,
        Hex(report.report_data),
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
    checks.at_least(
        "guest.svn",
        policy.min_guest_svn,
        report.guest_svn.get(),
        IMAGE,
    );
}

fn chips(report: &Report, policy: &SnpPolicy, checks: &mut Checks) {
    // The certificate of a VCEK names its chip, which the host may mask. That of a VLEK, which many chips
    // share, names none: an attacker who got it from any of them can write any chip id.
    let is_certified = report.keys().signing_key() == SigningKey::Vcek;
    let chip = Some(Hex(report.chip_id)).filter(|chip| is_certified && chip.0 != [0; 64]);
    checks.chip(&policy.allowed_chips, &policy.denied_chips, chip);
}
