// SPDX-License-Identifier: Apache-2.0

//! Judges whether platform, TD and enclave satisfy the policy.

use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::hex::{self, Hex};
use crate::policy::{IntelPolicy, Policy, Rule, UP_TO_DATE};
use dcap_qvl::quote::{EnclaveReport, TDReport10, TDReport15};
use dcap_qvl::{PckCertFlag, QuoteClaims};

/// TD attributes that let the host into the TD: DEBUG and profiling (Intel TDX module ABI specification, table 3.23,
/// bits 0 and 4 to 6).
const TD_DEBUG: u64 = 0x71;
/// TD attributes that are reserved (there, bits 1 to 3, 7 to 15, 23 to 26, 32 to 61).
const TD_RESERVED: u64 = 0x3FFF_FFFF_0780_FF8E;
/// SERVTD_EXT (there, bit 17): a service TD's identity is part of the report.
const TD_SERVTD_EXT: u64 = 1 << 17;
/// SEPT_VE_DISABLE (there, bit 28).
const TD_SEPT_VE_DISABLE: u64 = 1 << 28;
/// MIGRATABLE (there, bit 29).
const TD_MIGRATABLE: u64 = 1 << 29;
/// DEBUG of an enclave's attributes (Intel SDM volume 3D, table 36-3, bit 1).
const SGX_DEBUG: u8 = 2;

const UPDATE: &str = "have the host's owner update firmware and microcode";

/// Judges the collateral's statements about the platform.
pub(super) fn platform(claims: Option<&QuoteClaims>, policy: &Policy, checks: &mut Checks) {
    let Some(claims) = claims else {
        for name in [
            "quote.tcb-status",
            "quote.advisories",
            "collateral.evaluation-number",
            "platform.smt",
            "chip.allowed",
            "chip.denied",
        ] {
            checks.skip(name, "the collateral did not verify");
        }
        return;
    };
    let intel = &policy.intel;
    let status = claims.tcb.status.to_string();
    let advisories = claims.tcb.advisory_ids.join(" ");
    let good = |list: &[String]| list.contains(&status);
    let accepted = status == UP_TO_DATE || good(&intel.insecure_tcb_statuses);
    let degraded =
        good(&intel.degraded_tcb_statuses) || good(&intel.insecure_degraded_tcb_statuses);
    let expected = [UP_TO_DATE]
        .into_iter()
        .chain(intel.insecure_tcb_statuses.iter().map(String::as_str));
    let expected = expected.collect::<Vec<_>>().join(" or ");
    let actual = format!("{status} {advisories}");
    if degraded && !accepted {
        checks.warn("quote.tcb-status", expected, actual, UPDATE);
    } else {
        checks.test("quote.tcb-status", accepted, expected, actual, UPDATE);
    }
    denied_advisories(intel, claims, checks);
    let number = claims
        .tcb
        .eval_data_number
        .min(claims.qe.tcb_eval_data_number);
    checks.at_least(
        "collateral.evaluation-number",
        intel.min_tcb_evaluation_data_number,
        number,
        "fetch newer collateral",
    );
    match (claims.platform.pck.smt_enabled, intel.smt) {
        (PckCertFlag::Undefined, Rule::Any) => {
            checks.skip("platform.smt", "the PCK certificate does not say");
        }
        (PckCertFlag::Undefined, _) => checks.fail(
            "platform.smt",
            "a PCK certificate that says",
            "it does not say",
            "use a platform with a certificate of the PCK Platform CA",
        ),
        (flag, rule) => {
            checks.rule(
                "platform.smt",
                rule,
                flag == PckCertFlag::True,
                "use another host",
            );
        }
    }
    let pck = &claims.platform.pck;
    checks.claim(Claim::PlatformFmspc, hex::encode(&pck.fmspc));
    checks.claim(Claim::PlatformPpid, hex::encode(&pck.ppid));
    checks.claim(Claim::PlatformTcbDate, &claims.platform.tcb_level.tcb_date);
    checks.claim(Claim::PlatformEvaluationNumber, number);
    checks.claim(
        Claim::PlatformCollateralUntil,
        crate::Timestamp(claims.earliest_expiration_date),
    );
    let ppid = <[u8; 16]>::try_from(pck.ppid.as_slice()).ok();
    let chip = ppid.filter(|ppid| *ppid != [0; 16]).map(Hex);
    checks.chip(&intel.allowed_ppids, &intel.denied_ppids, chip);
}

/// Judges the advisories. They are compared whatever the case and the blanks around them: what differs in nothing else
/// is the same advisory.
fn denied_advisories(intel: &IntelPolicy, claims: &QuoteClaims, checks: &mut Checks) {
    const NAME: &str = "quote.advisories";
    let found = &claims.tcb.advisory_ids;
    let actual = if found.is_empty() {
        "none".to_owned()
    } else {
        found.join(" ")
    };
    if intel.denied_advisories.is_empty() {
        checks.skip(NAME, format!("{actual}; the policy refuses none"));
        return;
    }
    let is_denied = |id: &String| {
        let mut denied = intel.denied_advisories.iter();
        denied.any(|denied| denied.trim().eq_ignore_ascii_case(id.trim()))
    };
    checks.test(
        NAME,
        !found.iter().any(is_denied),
        format!("none of {}", intel.denied_advisories.join(", ")),
        actual,
        UPDATE,
    );
}

const IMAGE: &str = "another program was launched than the policy names: run that one";

/// Judges a TD.
pub(super) fn tdx(
    report: &TDReport10,
    extended: Option<&TDReport15>,
    context: &Context<'_>,
    checks: &mut Checks,
) {
    let policy = &context.policy.tdx;
    let attributes = u64::from_le_bytes(report.td_attributes);
    checks.claim(Claim::TdxAttributes, format!("{attributes:#x}"));
    checks.claim(Claim::TdxXfam, hex::encode(&report.xfam));
    checks.claim(Claim::TdxTeeTcbSvn, hex::encode(&report.tee_tcb_svn));
    checks.claim(Claim::TdxMrsignerseam, hex::encode(&report.mr_signer_seam));
    checks.claim(Claim::GuestReportData, hex::encode(&report.report_data));
    let forbid = |insecure: bool| if insecure { Rule::Any } else { Rule::Forbid };
    checks.rule(
        "tdx.debug",
        forbid(policy.insecure_allow_debug),
        attributes & TD_DEBUG != 0,
        "launch the TD without debugging and profiling: the host can read a debug TD's memory",
    );
    checks.rule(
        "tdx.attributes",
        Rule::Forbid,
        attributes & (TD_RESERVED | TD_MIGRATABLE) != 0,
        "launch the TD without migration and reserved attributes",
    );
    checks.rule(
        "tdx.sept-ve-disable",
        Rule::Require,
        attributes & TD_SEPT_VE_DISABLE != 0,
        "launch the TD with SEPT_VE_DISABLE",
    );
    let service_td = attributes & TD_SERVTD_EXT != 0
        || extended.is_some_and(|report| report.mr_service_td.iter().any(|b| *b != 0));
    checks.rule(
        "tdx.service-td",
        forbid(policy.insecure_allow_service_td),
        service_td,
        "launch the TD without a service TD: one for migration can copy it elsewhere",
    );
    for (name, claim, accepted, value) in [
        ("tdx.mrtd", Claim::TdxMrtd, &policy.mrtd, report.mr_td),
        ("tdx.rtmr0", Claim::TdxRtmr0, &policy.rtmr0, report.rt_mr0),
        ("tdx.rtmr1", Claim::TdxRtmr1, &policy.rtmr1, report.rt_mr1),
        ("tdx.rtmr2", Claim::TdxRtmr2, &policy.rtmr2, report.rt_mr2),
        ("tdx.rtmr3", Claim::TdxRtmr3, &policy.rtmr3, report.rt_mr3),
        (
            "tdx.mrseam",
            Claim::TdxMrseam,
            &policy.mrseam,
            report.mr_seam,
        ),
        (
            "tdx.mrconfigid",
            Claim::TdxMrconfigid,
            &policy.mrconfigid,
            report.mr_config_id,
        ),
        (
            "tdx.mrowner",
            Claim::TdxMrowner,
            &policy.mrowner,
            report.mr_owner,
        ),
        (
            "tdx.mrownerconfig",
            Claim::TdxMrownerconfig,
            &policy.mrownerconfig,
            report.mr_owner_config,
        ),
    ] {
        checks.claim(claim, hex::encode(&value));
        checks.one_of(name, accepted, &Hex(value), IMAGE);
    }
    checks.report_data(
        policy.report_data,
        context.expected.report_data,
        Hex(report.report_data),
    );
}

/// Judges an enclave.
pub(super) fn sgx(report: &EnclaveReport, context: &Context<'_>, checks: &mut Checks) {
    let policy = &context.policy.sgx;
    checks.claim(Claim::SgxAttributes, hex::encode(&report.attributes));
    checks.claim(Claim::SgxMrenclave, hex::encode(&report.mr_enclave));
    checks.claim(Claim::SgxMrsigner, hex::encode(&report.mr_signer));
    checks.claim(Claim::SgxIsvProdId, report.isv_prod_id);
    checks.claim(Claim::SgxIsvSvn, report.isv_svn);
    checks.claim(Claim::GuestReportData, hex::encode(&report.report_data));
    checks.rule(
        "sgx.debug",
        if policy.insecure_allow_debug {
            Rule::Any
        } else {
            Rule::Forbid
        },
        report.attributes[0] & SGX_DEBUG != 0,
        "start the enclave without debugging: the host can read a debug enclave's memory",
    );
    checks.one_of(
        "sgx.mrenclave",
        &policy.mrenclave,
        &Hex(report.mr_enclave),
        IMAGE,
    );
    checks.one_of(
        "sgx.mrsigner",
        &policy.mrsigner,
        &Hex(report.mr_signer),
        IMAGE,
    );
    checks.one_of(
        "sgx.isv-prod-id",
        policy.isv_prod_id.as_slice(),
        &report.isv_prod_id,
        IMAGE,
    );
    checks.at_least("sgx.isv-svn", policy.min_isv_svn, report.isv_svn, IMAGE);
    checks.report_data(
        policy.report_data,
        context.expected.report_data,
        Hex(report.report_data),
    );
}
