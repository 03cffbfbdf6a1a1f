// SPDX-License-Identifier: Apache-2.0

//! The verifier: the one entry from evidence to verdict.

use crate::checks::Checks;
use crate::context::Context;
use crate::endorsements::Endorsements;
use crate::evidence::Evidence;
use crate::expected::Expected;
use crate::hex;
use crate::policy::{Policy, PolicyError};
use crate::verdict::{EvidenceKind, Verdict};
use crate::x509::CheckedSignatures;
use crate::{intel, snp};

/// Verifies evidence under one policy, which no verification changes. One verifier can be shared by all threads of a
/// service. It remembers which signatures held, so a second verification with the same certificates is
/// quicker; nothing that depends on the clock is kept.
#[derive(Debug, Clone)]
pub struct Verifier {
    policy: Policy,
    /// The error of a policy that cannot be used; no evidence passes under one.
    usable: Result<(), PolicyError>,
    signatures: CheckedSignatures,
}

impl Verifier {
    /// A verifier for this policy.
    pub fn new(policy: Policy) -> Self {
        Self::remembering(policy, CheckedSignatures::default())
    }

    /// A verifier for this policy, which checks no signature again that others have checked with this memory.
    pub fn remembering(policy: Policy, signatures: CheckedSignatures) -> Self {
        Self {
            usable: policy.check(),
            policy,
            signatures,
        }
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges `evidence` (an SEV-SNP report, or a TDX or SGX quote) by the policy and the expectations of this one.
    /// Never fails: evidence that cannot be read also yields a verdict.
    pub fn verify(
        &self,
        evidence: &[u8],
        endorsements: &Endorsements,
        expected: &Expected<'_>,
    ) -> Verdict {
        const FORMAT: &str = "evidence.format";
        const EXPECTED: &str = "an SEV-SNP report, or a TDX or SGX quote";
        let context = Context {
            policy: &self.policy,
            expected,
            signatures: &self.signatures,
        };
        let mut checks = Checks::default();
        let consistent = "a consistent policy";
        match &self.usable {
            Ok(()) => checks.pass("policy.usable", consistent, "consistent"),
            Err(error) => checks.fail(
                "policy.usable",
                consistent,
                error.to_string(),
                "correct the policy, see `enarx policy check`",
            ),
        }
        let verdict = match Evidence::parse(evidence) {
            Ok(Evidence::Snp(report)) => {
                checks.pass(FORMAT, EXPECTED, "an SEV-SNP report");
                snp::judge(report, &endorsements.amd, &context, checks)
            }
            Ok(Evidence::Quote(quote)) => {
                checks.pass(FORMAT, EXPECTED, format!("an {} quote", quote.tee()));
                intel::judge(&quote, endorsements.intel.as_deref(), &context, checks)
            }
            Err(error) => {
                checks.fail(
                    FORMAT,
                    EXPECTED,
                    error.to_string(),
                    "give the evidence as the binary that the hardware produced",
                );
                checks.verdict(EvidenceKind::Unknown, &self.policy.name, expected.at, &[])
            }
        };
        Verdict {
            nonce: expected.nonce.map(hex::encode),
            ..verdict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_can_be_shared_by_threads() {
        const fn shared<T: Send + Sync + 'static>() {}
        const { shared::<Verifier>() };
    }
}
