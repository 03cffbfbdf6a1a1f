//! Attestation evidence in, verdict with reasons out: AMD SEV-SNP reports, Intel TDX and SGX quotes. This runs on the
//! tenant's side and trusts the vendors' roots, the policy and the clock that the caller gives; everything else
//! (evidence, certificates, revocation lists, collateral) is hostile until checked.
//!
//! Pure: no files, no network, no clock, no threads. [`Verifier::verify`] is the one entry: [`Endorsements`] are the
//! vendor's statements about the hardware, [`Policy`] is what the tenant asks for, [`Verdict`] names every check with
//! its outcome, what was expected, what was found, and how to mend it.
#![forbid(unsafe_code)]

pub mod attacks;
mod checks;
mod ear;
mod evidence;
pub mod hex;
pub mod inspect;
pub mod intel;
pub mod pem;
pub mod policy;
pub mod printable;
pub mod reference;
pub mod snp;
pub mod switches;
mod time;
mod verdict;
pub mod vouch;
mod x509;

pub use checks::CATALOGUE;
pub use ear::EarError;
pub use evidence::{Evidence, EvidenceError};
pub use policy::{Policy, PolicyError};
pub use reference::ReferenceValue;
pub use time::{Timestamp, TimestampError};
pub use verdict::{Check, Outcome, Overall, Tee, Verdict};

use checks::Checks;

/// What the vendors say about the hardware. All of it is hostile until checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endorsements {
    /// For SEV-SNP reports.
    pub amd: AmdEndorsements,
    /// For TDX and SGX quotes: the collateral as JSON, in the format of `dcap-qvl` (`QuoteCollateralV3`).
    pub intel: Option<Vec<u8>>,
}

/// Certificates and revocation lists of AMD, each as DER or PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmdEndorsements {
    /// Certificate of the key that signed the report: VCEK or VLEK.
    pub vek: Option<Vec<u8>>,
    /// Its issuer: ASK for a VCEK, ASVK for a VLEK.
    pub ask: Option<Vec<u8>>,
    /// The root: ARK.
    pub ark: Option<Vec<u8>>,
    /// Revocation lists, in any order.
    pub crls: Vec<Vec<u8>>,
}

/// Verifies evidence under one policy. Keeps the outcome of certificate signatures it has checked, so a second
/// verification with the same certificates is quicker; nothing that depends on the clock is kept.
#[derive(Debug, Clone)]
pub struct Verifier {
    policy: Policy,
    /// `None`: no release manifest was given.
    references: Option<Vec<ReferenceValue>>,
    signatures: x509::SignatureCache,
}

impl Verifier {
    /// A verifier for this policy.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            references: None,
            signatures: x509::SignatureCache::default(),
        }
    }

    /// This verifier with the reference values by which `snp.releases` is judged, all of a manifest whose signature
    /// the caller has checked. They replace those given before. Evidence with which they cannot be compared is refused.
    #[must_use]
    pub fn with_reference_values(mut self, references: Vec<ReferenceValue>) -> Self {
        self.references = Some(references);
        self
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges `evidence` (an SEV-SNP report, or a TDX or SGX quote) at the time `at`. Never fails: evidence that
    /// cannot be read yields a verdict too.
    pub fn verify(
        &mut self,
        evidence: &[u8],
        endorsements: &Endorsements,
        at: Timestamp,
    ) -> Verdict {
        const FORMAT: &str = "evidence.format";
        const EXPECTED: &str = "an SEV-SNP report, or a TDX or SGX quote";
        let mut checks = Checks::default();
        let Self {
            policy,
            references,
            signatures,
        } = self;
        let consistent = "a consistent policy";
        match policy.check() {
            Ok(()) => checks.pass("policy.usable", consistent, "consistent"),
            Err(error) => checks.fail(
                "policy.usable",
                consistent,
                error.to_string(),
                "correct the policy, see `enarx policy check`",
            ),
        }
        match Evidence::parse(evidence) {
            Ok(Evidence::Snp(report)) => {
                checks.pass(FORMAT, EXPECTED, "an SEV-SNP report");
                let endorsements = &endorsements.amd;
                snp::judge(
                    report,
                    endorsements,
                    policy,
                    references.as_deref(),
                    at,
                    signatures,
                    checks,
                )
            }
            Ok(Evidence::Quote(quote)) => {
                checks.pass(FORMAT, EXPECTED, format!("an {} quote", quote.tee()));
                let collateral = endorsements.intel.as_deref();
                let manifest = references.is_some();
                intel::judge(&quote, collateral, policy, manifest, at, signatures, checks)
            }
            Err(error) => {
                checks.fail(
                    FORMAT,
                    EXPECTED,
                    error.to_string(),
                    "give the evidence as the binary that the hardware produced",
                );
                Verdict::new(Tee::Unknown, &policy.name, at, checks, &[])
            }
        }
    }
}
