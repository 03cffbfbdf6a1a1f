// SPDX-License-Identifier: Apache-2.0

//! Receipts, verified on their own: without the session, without the host, also years later. Pure. Trusts the policy and
//! the clock; receipt and endorsements are hostile until checked.

use crate::judge::Judge;
use crate::trust::Trust;
use enarx_attestation::{Check, Endorsements, Timestamp, Verdict};
use enarx_contract::{Contract, PublicKey};
use enarx_session::Refusal;
use enarx_session::receipt::{Claims, Receipt};
use sha2::{Digest, Sha256};

/// A valid receipt.
#[derive(Debug)]
pub struct Verified {
    /// The receipt.
    pub receipt: Receipt,
    /// The verdict over its report: whether it comes from hardware or a simulator, and what the policy tolerated.
    pub verdict: Verdict,
}

/// The reason why a receipt is not valid.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct ReceiptError {
    /// The reason.
    pub refusal: Refusal,
    /// The verifier's checks that failed.
    pub checks: Vec<Check>,
}

impl ReceiptError {
    /// The name of the reason, stable.
    #[must_use]
    pub fn code(&self) -> &str {
        self.refusal.code()
    }
}

/// The expected subject of a receipt. Values that are `None` are not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiptSubject<'a> {
    /// The application's bytes, as they were delivered.
    pub application: Option<&'a [u8]>,
    /// SHA-256 of the deployment.
    pub deployment: Option<&'a [u8; 32]>,
    /// SHA-256 of the contract.
    pub contract_digest: Option<&'a [u8; 32]>,
    /// The contract, whose terms the report has to meet, too.
    pub contract: Option<&'a Contract>,
    /// The key of the tenant, who signed the contract.
    pub tenant: Option<&'a PublicKey>,
    /// A receipt of native code is enough.
    pub precompiled: bool,
}

/// Verifies a receipt: its format, its signature, the report over it by the policy at the time `at`, and the expected
/// values. The policy must name the launch digests that it accepts. `now` is the caller's clock: if `at` is earlier,
/// revocation lists issued since then count, too.
///
/// # Errors
/// [`ReceiptError`], also for a receipt without a report: anybody can make up a key and sign.
pub fn verify(
    bytes: &[u8],
    trust: &Trust,
    endorsements: &Endorsements,
    of: ReceiptSubject<'_>,
    at: Timestamp,
    now: Timestamp,
) -> Result<Verified, ReceiptError> {
    let refused = |refusal| ReceiptError {
        refusal,
        checks: Vec::new(),
    };
    let receipt = Receipt::decode(bytes).map_err(refused)?;
    if of
        .contract_digest
        .is_some_and(|digest| *digest != receipt.body.contract.0)
    {
        return Err(refused(Refusal::Receipt("receipt.contract")));
    }
    let application = of.application.map(|bytes| Sha256::digest(bytes).into());
    let claims = Claims {
        application: application.as_ref(),
        deployment: of.deployment,
        contract: of.contract,
        tenant: of.tenant,
        precompiled: of.precompiled,
    };
    let mut judge = Judge::new(trust, endorsements, at);
    judge.known_at = now;
    judge.tee = of.contract.map(|contract| contract.terms().platform.tee);
    if let Err(refusal) = receipt.verify(&judge, &claims) {
        return Err(ReceiptError {
            refusal,
            checks: judge.failed_checks(),
        });
    }
    let verdict = judge
        .into_verdict()
        .ok_or_else(|| refused(Refusal::Unchecked("evidence")))?;
    Ok(Verified { receipt, verdict })
}
