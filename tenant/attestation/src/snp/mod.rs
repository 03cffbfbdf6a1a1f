// SPDX-License-Identifier: Apache-2.0

//! Judging an SEV-SNP report: first whether it is genuine (chain, revocation, agreement, signature), then whether it
//! satisfies the policy. Every check is made even if an earlier one failed.

mod ahead;
mod appraisal;
mod chain;
mod identify;
mod measurement;
pub(crate) mod product;
mod revocation;

use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::endorsements::AmdEndorsements;
use crate::policy::{Endorser, Policy};
use crate::verdict::{EvidenceKind, Verdict};
use enarx_snp::bits::SigningKey;
use enarx_snp::product::CpuSignature;
use enarx_snp::report::{ALGO_ECDSA_P384_SHA384, MAX_VERSION, Report, VERSION_WITH_CPUID};
use enarx_snp::tcb::Layout;

use product::signing_key_name;

pub use ahead::look_ahead;
pub use chain::ROOTS;
pub(crate) use chain::extension_name;
pub use identify::{EndorsementId, ListId, candidates, identify, identify_list, wanted};
pub use revocation::MAX_LISTS;

/// The checks without which a report is not genuine.
const MANDATORY: &[&str] = &[
    "policy.usable",
    "evidence.format",
    "evidence.accepted",
    "report.signature-algorithm",
    "report.signing-key",
    "report.product",
    "report.signature",
    "chain.certificates",
    "chain.root",
    "chain.names",
    "chain.ark-signature",
    "chain.ask-signature",
    "chain.vek-signature",
    "validity.ark",
    "validity.ask",
    "validity.vek",
    "agreement.key-kind",
    "agreement.product",
    "agreement.tcb-snp",
    "agreement.tcb-microcode",
];

/// Judges a report.
pub(crate) fn judge(
    report: &Report,
    endorsements: &AmdEndorsements,
    context: &Context<'_>,
    mut checks: Checks,
) -> Verdict {
    let policy = context.policy;
    checks.test(
        "evidence.accepted",
        policy.snp.accept,
        "a kind of hardware that the policy accepts",
        "AMD SEV-SNP",
        "add a table [snp] to the policy, or use other hardware",
    );
    form(report, policy, &mut checks);
    let product = chain::judge(report, endorsements, context, &mut checks);
    let product = product.as_ref();
    appraisal::judge(report, product, context, &mut checks);
    measurement::judge(report, product, context, &mut checks);
    checks.verdict(
        EvidenceKind::SevSnp,
        &policy.name,
        context.expected.at,
        MANDATORY,
    )
}

/// Checks everything about a report that needs no certificate.
fn form(report: &Report, policy: &Policy, checks: &mut Checks) {
    let version = report.version.get();
    checks.claim(Claim::ReportVersion, version);
    let newest = if policy.snp.insecure_allow_unknown {
        u32::MAX
    } else {
        MAX_VERSION
    };
    let oldest = if policy.snp.insecure_allow_report_version_2 {
        2
    } else {
        policy.snp.min_report_version
    };
    checks.test(
        "report.version",
        (oldest..=newest).contains(&version),
        format!("{oldest} to {MAX_VERSION}"),
        version.to_string(),
        if version < VERSION_WITH_CPUID {
            "update the SEV-SNP firmware to API version 1.55 or later"
        } else {
            "update this program, it does not know this version of the report"
        },
    );

    reserved(report, policy, checks);

    let algorithm = report.signature_algo.get();
    checks.test(
        "report.signature-algorithm",
        algorithm == ALGO_ECDSA_P384_SHA384,
        format!("{ALGO_ECDSA_P384_SHA384} (ECDSA P-384 with SHA-384)"),
        algorithm.to_string(),
        "take a new report",
    );

    let key = report.keys().signing_key();
    let endorser = match key {
        SigningKey::Vcek => Some(Endorser::Vcek),
        SigningKey::Vlek => Some(Endorser::Vlek),
        SigningKey::None | SigningKey::Reserved(_) => None,
    };
    let key_name = signing_key_name(key);
    checks.claim(Claim::ReportSigningKey, &key_name);
    let accepted = policy.snp.signing_keys.iter().map(ToString::to_string);
    checks.test(
        "report.signing-key",
        endorser.is_some_and(|e| policy.snp.signing_keys.contains(&e))
            && !report.keys().mask_chip_key(),
        accepted.collect::<Vec<_>>().join(" or "),
        if report.keys().mask_chip_key() {
            "none, the host masked the key".to_owned()
        } else {
            key_name
        },
        "have the host sign reports (MASK_CHIP_KEY off) with a key that snp.signing-keys names",
    );
}

/// Checks that a report has nothing that this program does not know.
fn reserved(report: &Report, policy: &Policy, checks: &mut Checks) {
    let mut unknown = Vec::new();
    if report.guest_policy().unknown() != 0 {
        unknown.push(format!(
            "guest policy bits {:#x}",
            report.guest_policy().unknown()
        ));
    }
    if !report
        .guest_policy()
        .has(enarx_snp::bits::GuestPolicy::RESERVED_ONE)
    {
        unknown.push("guest policy bit 17 clear".to_owned());
    }
    if report.platform().unknown() != 0 {
        unknown.push(format!(
            "platform information bits {:#x}",
            report.platform().unknown()
        ));
    }
    if report.keys().unknown() != 0 {
        unknown.push(format!(
            "key information bits {:#x}",
            report.keys().unknown()
        ));
    }
    let layout = report
        .cpu()
        .and_then(CpuSignature::generation)
        .map_or(Layout::Milan, |g| g.tcb);
    let tcbs = [
        report.current_tcb,
        report.reported_tcb,
        report.committed_tcb,
        report.launch_tcb,
    ];
    if !report.reserved_is_zero() || !tcbs.iter().all(|tcb| tcb.reserved_is_zero(layout)) {
        unknown.push("reserved bytes".to_owned());
    }
    if unknown.is_empty() {
        checks.pass("report.reserved", "none", "none");
    } else if policy.snp.insecure_allow_unknown {
        checks.skip(
            "report.reserved",
            format!("{}; the policy accepts them", unknown.join(", ")),
        );
    } else {
        checks.fail(
            "report.reserved",
            "no bit that this program does not know",
            unknown.join(", "),
            "update this program, it does not know what these bits mean",
        );
    }
}
