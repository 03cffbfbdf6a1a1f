// SPDX-License-Identifier: Apache-2.0

//! Certificates and revocation lists for the evidence of a Keep: the host's where they do, the tenant's own where they do
//! not. Neither is trusted: the verifier checks every signature up to the vendor's root, whoever brought it.

use crate::clock::unix_seconds;
use crate::endorser::Endorser;
use crate::fault::Fault;
use crate::manager::Manager;
use crate::trust::Trust;
use enarx_attestation::{AmdEndorsements, Endorsements, Expected, Outcome, Timestamp, Verifier};
use enarx_contract::Tee;
use std::time::Duration;
use tokio::time::timeout;

/// Time for the tenant's own sources. AMD's service lets a client wait ten seconds between two questions.
const OWN: Duration = Duration::from_mins(1);

/// The checks of the verifier that certificates and lists decide: names, or their beginnings up to a dot.
const OF_CERTIFICATES: [&str; 5] = [
    "chain.",
    "validity.",
    "crl.",
    "agreement.",
    "report.signature",
];

/// Finds certificates and lists for a report: the host's, unless the verifier finds fault with them and the tenant has
/// others.
///
/// # Errors
/// The fault of the host's manager, when the tenant has none either.
pub(crate) async fn find(
    manager: &mut Manager<'_>,
    trust: &Trust,
    tee: Tee,
    report: &[u8],
    endorser: Endorser,
) -> Result<Endorsements, Fault> {
    let offered = manager.endorsements(endorser).await;
    let Some(own) = trust.certificates.as_deref() else {
        return offered;
    };
    let at = Timestamp(unix_seconds()?);
    if let Ok(offered) = &offered
        && do_for(offered, trust, report, at)
    {
        return Ok(offered.clone());
    }
    let given = offered.as_ref().map_or_else(
        |_| AmdEndorsements::default(),
        |offered| offered.amd.clone(),
    );
    let mut best = None;
    for is_fetched in [false, true] {
        if is_fetched && tee != Tee::Snp {
            break;
        }
        let found = if is_fetched {
            own.fetched(report, at)
        } else {
            own.stored(report, at)
        };
        let Ok(Some(found)) = timeout(OWN, found).await else {
            continue;
        };
        let mixed = completed(found, &given);
        if do_for(&mixed, trust, report, at) {
            tracing::info!(is_fetched, "judging by certificates of the tenant's own");
            return Ok(mixed);
        }
        if mixed.amd.vek.is_some() {
            best = Some(mixed);
        }
    }
    // The verdict says if something is wrong with those that there are.
    match (offered, best) {
        (Err(_), Some(best)) => Ok(best),
        (offered, _) => offered,
    }
}

/// The tenant's own, with the host's where it has none. A list that is not good has a verdict fail, so the host's count
/// only where the tenant has none.
fn completed(own: AmdEndorsements, given: &AmdEndorsements) -> Endorsements {
    let AmdEndorsements {
        vek,
        ask,
        ark,
        crls,
    } = own;
    let amd = AmdEndorsements {
        vek: vek.or_else(|| given.vek.clone()),
        ask: ask.or_else(|| given.ask.clone()),
        ark: ark.or_else(|| given.ark.clone()),
        crls: if crls.is_empty() {
            given.crls.clone()
        } else {
            crls
        },
    };
    Endorsements { amd, intel: None }
}

/// True if the verifier finds no fault with these certificates and lists for this report. What it says of the rest of the
/// report is for the verdict over the session.
fn do_for(endorsements: &Endorsements, trust: &Trust, report: &[u8], at: Timestamp) -> bool {
    let verifier = Verifier::new(trust.policy.clone());
    let verdict = verifier.verify(report, endorsements, &Expected::at(at));
    let mut failed = verdict.with_outcome(Outcome::Fail);
    !failed.any(|check| {
        OF_CERTIFICATES.iter().any(|name| {
            check.name == *name || (name.ends_with('.') && check.name.starts_with(name))
        })
    })
}
