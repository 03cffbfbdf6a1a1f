// SPDX-License-Identifier: Apache-2.0

//! The verdict: every check with its outcome and reason, for people and for programs.

use crate::Timestamp;
use crate::claim::Claim;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It fails, but the policy tolerates that: the verdict is degraded.
    Warn,
    /// It fails: the verdict is invalid.
    Fail,
    /// It was not checked; `actual` says why.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Stable name; [`crate::CATALOGUE`] has them all.
    pub name: Cow<'static, str>,
    /// The outcome.
    pub outcome: Outcome,
    /// The value or state that the check requires.
    pub expected: String,
    /// The value or state that it found.
    pub actual: String,
    /// How to fix it; empty when there is nothing to fix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// The kind of hardware that produced the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
    /// Intel SGX.
    Sgx,
    /// The evidence could not be read.
    Unknown,
}

/// The judgement over all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Every check that the policy requires passes.
    Valid,
    /// As valid, with shortcomings that the policy tolerates.
    Degraded,
    /// Refused.
    Invalid,
    /// As valid, but the root is of a simulator that the policy names: no hardware protects anything.
    Simulated,
}

/// A verifier's findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The judgement.
    pub overall: Overall,
    /// The hardware.
    pub tee: EvidenceKind,
    /// Name of the policy.
    pub policy: String,
    /// The clock of the verification, seconds since 1970.
    pub at_unix: u64,
    /// The earliest end of the certificates, revocation lists, collateral and release that the verdict rests on,
    /// seconds since 1970; absent if it rests on none. From then on the verdict proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_unix: Option<u64>,
    /// The nonce that the evidence should be bound to, in hexadecimal; absent if none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// TCB status in Intel's words, for quotes; `TCB_NOT_SUPPORTED` when no level matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcb_status: Option<String>,
    /// Security advisories that go with the TCB status, for quotes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<String>,
    /// Facts of the evidence by stable names. Only those of an accepted verdict can be relied upon.
    #[schemars(with = "BTreeMap<String, String>")]
    pub claims: BTreeMap<Claim, String>,
    /// Checks of guest and occasion that had no value to compare with: evidence with any other value passes as well.
    pub not_compared: Vec<Cow<'static, str>>,
    /// Facts beyond the checks, to know before relying on the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// All checks, in the order they were made.
    pub checks: Vec<Check>,
}

/// The check of what a guest says to whoever asks for evidence.
const REPORT_DATA: &str = "guest.report-data";

/// The checks by which a guest is known, for each kind of hardware; one of them suffices.
fn identity(tee: EvidenceKind) -> &'static [&'static str] {
    match tee {
        EvidenceKind::SevSnp => &["guest.measurement", "guest.id-key", "guest.author-key"],
        EvidenceKind::Tdx => &["tdx.mrtd"],
        EvidenceKind::Sgx => &["sgx.mrenclave", "sgx.mrsigner"],
        EvidenceKind::Unknown => &[],
    }
}

/// The checks of what runs in a TD. Each register measures another part of it, in the words of the part before: what begins is
/// measured by MRTD, and without that any TD passes.
const TD_CHECKS: [&str; 5] = [
    "tdx.mrtd",
    "tdx.rtmr0",
    "tdx.rtmr1",
    "tdx.rtmr2",
    "tdx.rtmr3",
];

impl Verdict {
    /// True if nothing of the guest was compared, so that any guest of anybody passes.
    pub fn accepts_any_guest(&self) -> bool {
        let compared = |name: &&str| is_compared(name, &self.checks);
        !identity(self.tee).iter().any(compared)
    }

    /// True if the policy accepts the evidence. A simulated platform counts when the policy names its root.
    pub fn is_accepted(&self) -> bool {
        self.overall != Overall::Invalid
    }

    /// The check with this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|c| c.name == name)
    }

    /// The checks with this outcome.
    pub fn with_outcome(&self, outcome: Outcome) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |c| c.outcome == outcome)
    }

    /// The published schema of a verdict as JSON.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Verdict).to_value()
    }
}

fn is_compared(name: &str, checks: &[Check]) -> bool {
    let made = |check: &Check| check.name == name && check.outcome != Outcome::Skipped;
    checks.iter().any(made)
}

/// The checks of guest and occasion that were compared with nothing.
pub(crate) fn not_compared(tee: EvidenceKind, checks: &[Check]) -> Vec<Cow<'static, str>> {
    let compared = |name: &str| is_compared(name, checks);
    let identity = identity(tee);
    let mut names: Vec<&'static str> = match tee {
        EvidenceKind::Tdx => TD_CHECKS
            .into_iter()
            .filter(|name| !compared(name))
            .collect(),
        // A signer vouches for whatever it signs, so its product belongs to its name.
        EvidenceKind::Sgx if compared("sgx.mrsigner") && !compared("sgx.mrenclave") => {
            let product = ["sgx.isv-prod-id"];
            product.into_iter().filter(|name| !compared(name)).collect()
        }
        _ if identity.iter().any(|name| compared(name)) => Vec::new(),
        _ => identity.iter().copied().take(1).collect(),
    };
    if tee != EvidenceKind::Unknown && !compared(REPORT_DATA) {
        names.push(REPORT_DATA);
    }
    names.into_iter().map(Cow::Borrowed).collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "not checked",
        })
    }
}

impl fmt::Display for Overall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Degraded => "degraded",
            Self::Invalid => "invalid",
            Self::Simulated => "simulated",
        })
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SevSnp => "AMD SEV-SNP",
            Self::Tdx => "Intel TDX",
            Self::Sgx => "Intel SGX",
            Self::Unknown => "unknown evidence",
        })
    }
}

impl fmt::Display for Verdict {
    /// The verdict for people: what failed first, then all that held, then what was not checked. An accepted verdict
    /// ends with what it says nothing about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = if self.is_accepted() && self.accepts_any_guest() {
            ", ANY guest,"
        } else {
            ""
        };
        writeln!(
            f,
            "{}: {}{any} under policy {} at {}",
            self.overall,
            self.tee,
            self.policy,
            Timestamp(self.at_unix)
        )?;
        if self.overall == Overall::Simulated {
            writeln!(f, "simulated: no hardware protects this guest")?;
        }
        if let Some(status) = &self.tcb_status {
            writeln!(f, "TCB status: {status} {}", self.advisories.join(" "))?;
        }
        for outcome in [
            Outcome::Fail,
            Outcome::Warn,
            Outcome::Pass,
            Outcome::Skipped,
        ] {
            for check in self.with_outcome(outcome) {
                match outcome {
                    Outcome::Pass | Outcome::Skipped => {
                        writeln!(f, "{outcome:>11}  {}: {}", check.name, check.actual)?;
                    }
                    Outcome::Fail | Outcome::Warn => {
                        writeln!(
                            f,
                            "{outcome:>11}  {}: expected {}, found {}",
                            check.name, check.expected, check.actual
                        )?;
                        if !check.remedy.is_empty() {
                            writeln!(f, "{:>11}  {}", "", check.remedy)?;
                        }
                    }
                }
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if self.is_accepted() && !self.not_compared.is_empty() {
            let passes = match self.tee {
                _ if !self.accepts_any_guest() && self.not_compared == [REPORT_DATA] => {
                    "evidence of any time and for anybody passes"
                }
                _ if !self.accepts_any_guest() => "any value there passes",
                EvidenceKind::SevSnp => "any guest on such a chip passes",
                EvidenceKind::Tdx => "any TD on such a platform passes",
                EvidenceKind::Sgx | EvidenceKind::Unknown => {
                    "any enclave on such a platform passes"
                }
            };
            writeln!(
                f,
                "accepted, but NOT compared: {} ({passes})",
                self.not_compared.join(", ")
            )?;
        }
        Ok(())
    }
}
