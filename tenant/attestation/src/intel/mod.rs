// SPDX-License-Identifier: Apache-2.0

//! Judging a TDX or SGX quote. The signatures inside the quote are checked here, one by one, so that a verdict can say
//! which one fails; collateral, TCB levels and QE identity are the registry crate `dcap-qvl`'s, which checks the
//! signatures again. The appraisal of TD and enclave is ours.

mod appraisal;
mod quote;
mod signatures;

use crate::Timestamp;
use crate::checks::Checks;
use crate::claim::Claim;
use crate::context::Context;
use crate::verdict::{EvidenceKind, Verdict};
use crate::x509::Crl;
use dcap_qvl::quote::Report;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3};

pub use quote::{MalformedQuote, Quote};
pub use signatures::ROOT;

/// The checks without which a quote is not genuine.
const MANDATORY: &[&str] = &[
    "policy.usable",
    "evidence.format",
    "evidence.accepted",
    "quote.pck-chain",
    "quote.qe-signature",
    "quote.qe-binding",
    "quote.signature",
    "collateral.present",
    "collateral.format",
    "collateral.verification",
    "quote.tcb-level",
];

/// Errors of `dcap-qvl` for TDs whose attributes it never accepts. The texts are not a stable interface, but a test
/// has genuine quotes that cause them; if they changed, the verdict would be the same with another remedy.
const ATTRIBUTES: [&str; 4] = [
    "SEPT_VE_DISABLE is not enabled",
    "TD migration is enabled",
    "Reserved bits in TD attributes are set",
    "SERVTD_EXT is enabled",
];

/// Accepts any claims: the appraisal is ours.
struct AnyClaims;

impl dcap_qvl::Policy for AnyClaims {
    fn validate(&self, _: &QuoteClaims) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Judges a quote. Reference values of a release manifest cannot be compared with one, so where they were given the
/// quote is refused.
pub(crate) fn judge(
    quote: &Quote<'_>,
    collateral: Option<&[u8]>,
    context: &Context<'_>,
    mut checks: Checks,
) -> Verdict {
    let Context {
        policy,
        expected,
        signatures: cache,
    } = context;
    let at = expected.at;
    let (accepted, table) = match quote.tee() {
        EvidenceKind::Sgx => (policy.sgx.accept, "[sgx]"),
        _ => (policy.tdx.accept, "[tdx]"),
    };
    checks.test(
        "evidence.accepted",
        accepted,
        "a kind of hardware that the policy accepts",
        quote.tee().to_string(),
        format!("add a table {table} to the policy, or use other hardware"),
    );
    if expected.references.is_some() {
        checks.fail(
            "guest.measurement",
            "a launch that a release manifest can vouch for",
            format!("an {} quote: releases are of SEV-SNP launches", quote.tee()),
            "verify quotes without a release manifest, by the values in the policy",
        );
    }
    checks.claim(Claim::QuoteVersion, quote.parts.header.version);
    let collateral = read_collateral(collateral, &mut checks);
    let chain = collateral
        .as_ref()
        .and_then(|c| c.pck_certificate_chain.as_deref());
    let skew = policy.clock_skew_seconds;
    signatures::judge(quote, chain, at, skew, cache, &mut checks);
    // A quote that is refused already needs no second look.
    let times = if checks.any_failed() {
        Times {
            at,
            skew: 0,
            known_at: at,
        }
    } else {
        let known_at = expected.known_at;
        Times { at, skew, known_at }
    };
    let claims = collateral.and_then(|collateral| verify(quote, &collateral, times, &mut checks));
    appraisal::platform(claims.as_ref(), policy, &mut checks);
    match &quote.parts.report {
        Report::SgxEnclave(report) => appraisal::sgx(report, context, &mut checks),
        Report::TD10(report) => appraisal::tdx(report, None, context, &mut checks),
        Report::TD15(report) => {
            appraisal::tdx(&report.base, Some(report), context, &mut checks);
        }
        Report::TD15Ex(report) => {
            appraisal::tdx(&report.base.base, Some(&report.base), context, &mut checks);
        }
    }
    checks.verdict(quote.tee(), &policy.name, at, MANDATORY)
}

fn read_collateral(bytes: Option<&[u8]>, checks: &mut Checks) -> Option<QuoteCollateralV3> {
    const REMEDY: &str = "give --collateral with the collateral of this platform, as `dcap-qvl` and PCCS clients write it";
    let expected = "TCB info, QE identity and revocation lists of this platform";
    let Some(bytes) = bytes else {
        checks.fail("collateral.present", expected, "none", REMEDY);
        checks.skip("collateral.format", "there is none");
        return None;
    };
    checks.pass("collateral.present", expected, "there");
    match serde_json::from_slice(bytes) {
        Ok(collateral) => {
            checks.pass("collateral.format", "well-formed JSON", "well-formed");
            Some(collateral)
        }
        Err(error) => {
            checks.fail(
                "collateral.format",
                "well-formed JSON",
                error.to_string(),
                REMEDY,
            );
            None
        }
    }
}

/// The times at which collateral may be in force.
#[derive(Clone, Copy)]
struct Times {
    /// The time that is judged.
    at: Timestamp,
    /// Seconds by which what Intel has issued may be younger.
    skew: u32,
    /// The time until which it may have been issued, where `at` is of the past.
    known_at: Timestamp,
}

/// The first second of collateral: when the last of its parts was issued.
fn first_second(collateral: &QuoteCollateralV3) -> Option<Timestamp> {
    let issued = |text: &str| -> Option<Timestamp> {
        let info: serde_json::Value = serde_json::from_str(text).ok()?;
        info.get("issueDate")?.as_str()?.parse().ok()
    };
    let made = |list: &[u8]| Some(Crl::parse(list).ok()?.validity().0);
    let parts = [
        issued(&collateral.tcb_info)?,
        issued(&collateral.qe_identity)?,
        made(&collateral.root_ca_crl)?,
        made(&collateral.pck_crl)?,
    ];
    parts.into_iter().max()
}

/// Verifies quote and collateral at the time of the caller's clock, without tolerance for expiry. Collateral that Intel
/// issued slightly later than this clock is accepted if it is valid at the end of the tolerance, where everything else
/// must be valid, too. For a past time, collateral that Intel has issued since counts from its first second on, because
/// it knows more.
fn verify(
    quote: &Quote<'_>,
    collateral: &QuoteCollateralV3,
    Times { at, skew, known_at }: Times,
    checks: &mut Checks,
) -> Option<QuoteClaims> {
    const FRESH: &str = "fetch current collateral for this platform";
    let level = "a TCB level of the collateral that the platform reaches";
    let expected = "signed by Intel, in force, and fitting the quote";
    // Debug and service TDs are the appraisal's to judge.
    let verifier = QuoteVerifier::new_prod()
        .allow_debug(true)
        .allow_service_td(true);
    let at_time =
        |at: Timestamp| verifier.verify_with_policy(quote.bytes, collateral, at.0, &AnyClaims);
    let later = |error| match skew {
        0 => Err(error),
        skew => at_time(at.later(skew)).map_err(|_| error),
    };
    let since = |error| match first_second(collateral) {
        Some(first) if at < first && first <= known_at => at_time(first).map_err(|_| error),
        _ => Err(error),
    };
    match at_time(at).or_else(later).or_else(since) {
        Ok(claims) => {
            checks.pass("collateral.verification", expected, "good");
            checks.limit_validity(Timestamp(claims.earliest_expiration_date));
            checks.pass(
                "quote.tcb-level",
                level,
                claims.platform.tcb_level.tcb_date.clone(),
            );
            checks.tcb_status = Some(claims.tcb.status.to_string());
            checks.advisories.clone_from(&claims.tcb.advisory_ids);
            Some(claims)
        }
        Err(error) => {
            let cause = error.root_cause().to_string();
            match cause.as_str() {
                "No matching TCB level found" => {
                    checks.tcb_status = Some("TCB_NOT_SUPPORTED".to_owned());
                    checks.pass("collateral.verification", expected, "good");
                    checks.fail(
                        "quote.tcb-level",
                        level,
                        "none, it is below all of them",
                        "have the host's owner update firmware and microcode",
                    );
                }
                "TCB status is invalid: Revoked" => {
                    checks.tcb_status = Some("Revoked".to_owned());
                    checks.pass("collateral.verification", expected, "good");
                    checks.fail(
                        "quote.tcb-level",
                        level,
                        "it is revoked",
                        "do not use this host",
                    );
                }
                // The crate checks the attributes last, when everything else is valid.
                problem if ATTRIBUTES.contains(&problem) => {
                    checks.pass("collateral.verification", expected, "good");
                    checks.skip("quote.tcb-level", "the TD's attributes are refused first");
                }
                _ => checks.fail(
                    "collateral.verification",
                    expected,
                    format!("{error:#}"),
                    FRESH,
                ),
            }
            None
        }
    }
}
