// SPDX-License-Identifier: Apache-2.0

//! A session's questions to a verifier, and the check that all of them were answered. A check that was not made is a
//! refusal: verifiers skip comparisons for which a policy names no value, and sessions depend on three of them.

use crate::Refusal;
use alloc::string::String;
use alloc::vec::Vec;
use enarx_snp::report::Report;

/// The values that a report must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// REPORT_DATA.
    pub report_data: [u8; 64],
    /// HOST_DATA.
    pub host_data: [u8; 32],
}

/// How a single check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value is the expected one.
    Pass,
    /// It is not.
    Fail,
    /// It was compared with nothing.
    Skipped,
}

/// A verifier's answer. `enarx-attestation` gives one after translation; the three checks are those of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Names of the checks that failed. Empty: the policy accepts the evidence.
    pub failed: Vec<String>,
    /// `guest.report-data`.
    pub report_data: Outcome,
    /// `guest.host-data`.
    pub host_data: Outcome,
    /// `guest.measurement`.
    pub measurement: Outcome,
}

/// A judge of reports: signatures, revocation, firmware, policy.
pub trait Verifier {
    /// Judges this report, which must have these values.
    fn verify(&self, report: &[u8], expected: &Expected) -> Verdict;
}

/// Has the report judged, and repeats the comparison by hand: this catches a verifier that says `Pass` for a value
/// that it never compared.
pub(crate) fn judge<'a>(
    verifier: &impl Verifier,
    report: &'a [u8],
    expected: &Expected,
) -> Result<&'a Report, Refusal> {
    let verdict = verifier.verify(report, expected);
    if !verdict.failed.is_empty() {
        return Err(Refusal::Evidence(verdict.failed));
    }
    for (name, outcome) in [
        ("guest.report-data", verdict.report_data),
        ("guest.host-data", verdict.host_data),
        ("guest.measurement", verdict.measurement),
    ] {
        match outcome {
            Outcome::Pass => {}
            Outcome::Fail => return Err(Refusal::Evidence(alloc::vec![name.into()])),
            Outcome::Skipped => return Err(Refusal::Unchecked(name)),
        }
    }
    let report = Report::parse(report)
        .map_err(|_| Refusal::Evidence(alloc::vec!["evidence.readable".into()]))?;
    for (name, same) in [
        (
            "guest.report-data",
            report.report_data == expected.report_data,
        ),
        ("guest.host-data", report.host_data == expected.host_data),
    ] {
        if !same {
            return Err(Refusal::Evidence(alloc::vec![name.into()]));
        }
    }
    Ok(report)
}
