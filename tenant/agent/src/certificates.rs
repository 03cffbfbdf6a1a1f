// SPDX-License-Identifier: Apache-2.0

//! Certificates and revocation lists for the evidence of a Keep: the host's if they are good enough, otherwise the
//! tenant's own. Neither is trusted: the verifier checks every signature up to the vendor's root, whatever its source.

use crate::clock::unix_seconds;
use crate::endorser::Endorser;
use crate::fault::Fault;
use crate::manager::Manager;
use crate::trust::Trust;
use enarx_attestation::snp::{MAX_LISTS, identify_list, look_ahead};
use enarx_attestation::{
    AmdEndorsements, Endorsements, Expected, Outcome, RevocationList, Timestamp, Verifier,
};
use enarx_contract::Tee;
use std::time::Duration;
use tokio::time::timeout;

/// Time for the tenant's own sources. AMD's service makes a client wait ten seconds between two requests.
const OWN: Duration = Duration::from_mins(1);

/// The checks of the verifier that certificates and lists decide: names, or their beginnings up to a dot.
const CERTIFICATE_CHECKS: [&str; 5] = [
    "chain.",
    "validity.",
    "crl.",
    "agreement.",
    "report.signature",
];

/// The checks that report a revocation.
const REVOCATION_CHECKS: [&str; 2] = ["crl.ask", "crl.vek"];

/// The check that reports a list that is not in force.
const FRESHNESS_CHECK: &str = "crl.fresh";

/// The answer of a host's manager that was asked about the certificates of this endorser.
pub(crate) type Asked = (Endorser, Result<Endorsements, Fault>);

/// Asks a host for the certificates and lists of an endorser, and checks who signed them: before its report is there, and while
/// it is made.
pub(crate) async fn ask(manager: &mut Manager<'_>, trust: &Trust, endorser: Endorser) -> Asked {
    let answer = manager.endorsements(endorser).await;
    if let Ok(endorsements) = &answer {
        look_ahead(&endorsements.amd, &trust.signatures);
    }
    (endorser, answer)
}

/// Finds certificates and lists for a report: the host's, unless the verifier rejects them and the tenant has others.
/// The tenant's own lists count in addition to the host's certificates: a host chooses which lists it gives, and could
/// give some from before a key was revoked, as long as they are valid. `asked` is the host's earlier answer for an
/// endorser, which may be a different one.
///
/// # Errors
/// The fault of the host's manager, if the tenant has none either; [`Fault::Lists`].
pub(crate) async fn find(
    manager: &mut Manager<'_>,
    trust: &Trust,
    tee: Tee,
    report: &[u8],
    endorser: Endorser,
    asked: Option<Asked>,
) -> Result<Endorsements, Fault> {
    let mut offered = match asked {
        Some((of, answer)) if of == endorser => answer,
        _ => manager.endorsements(endorser).await,
    };
    let at = Timestamp(unix_seconds()?);
    if trust.renews_lists {
        renew(trust, tee, report, at).await?;
    }
    let Some(own) = trust.certificates.as_deref() else {
        return offered;
    };
    // It shares its cache with that of the verdict: what is checked here is not checked there again.
    let verifier = Verifier::remembering(trust.policy.clone(), trust.signatures.clone());
    let mut stored = timeout(OWN, own.stored(report, at)).await.ok().flatten();
    if let Ok(offered) = &mut offered
        && suffice_for(offered, &verifier, report, at)
    {
        let lists = stored.as_ref().map_or(&[][..], |stored| &stored.crls);
        let Some(all) = with_lists(offered, lists, &verifier, report, at) else {
            return Ok(offered.clone());
        };
        *offered = all;
        if suffice_for(offered, &verifier, report, at) {
            return Ok(offered.clone());
        }
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
            timeout(OWN, own.fetched(report, at)).await.ok().flatten()
        } else {
            stored.take()
        };
        let Some(found) = found else {
            continue;
        };
        let mixed = completed(found, &given, at);
        if suffice_for(&mixed, &verifier, report, at) {
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

/// Updates the tenant's own revocation lists to those of today.
///
/// # Errors
/// [`Fault::Lists`]: nobody could be asked, or nobody has answered.
async fn renew(trust: &Trust, tee: Tee, report: &[u8], at: Timestamp) -> Result<(), Fault> {
    let cannot = |why: &str| Fault::Lists(why.to_owned());
    if tee != Tee::Snp {
        return Err(cannot(
            "no vendor publishes any for a platform that is not SEV-SNP",
        ));
    }
    let own = trust.certificates.as_deref();
    let own = own.ok_or_else(|| cannot("there is no folder to keep them in"))?;
    let renewed = timeout(OWN, own.renewed(report, at)).await;
    renewed
        .map_err(|_| cannot("the vendor gave no answer in time"))?
        .map_err(Fault::Lists)
}

/// The host's certificates, which are valid, with those of the tenant's own lists that concern them: lists under which
/// they are still valid; lists that revoke one, however old; and lists that are not in force yet, which show that the
/// tenant's clock is slow. A list of another vendor or an expired one says nothing. `None` if no list concerns them.
fn with_lists(
    offered: &Endorsements,
    own: &[RevocationList],
    verifier: &Verifier,
    report: &[u8],
    at: Timestamp,
) -> Option<Endorsements> {
    let mut all: Option<Endorsements> = None;
    for list in own {
        let known = &all.as_ref().unwrap_or(offered).amd.crls;
        if known.iter().any(|there| there.bytes == list.bytes) {
            continue;
        }
        // The verifier accepts a limited number of lists: a host that gives too many loses some of its own.
        let with = |mut endorsements: Endorsements| {
            let lists = &mut endorsements.amd.crls;
            lists.truncate(MAX_LISTS - 1);
            lists.insert(0, list.clone());
            endorsements
        };
        let faults = faults(&with(offered.clone()), verifier, report, at);
        let revokes = faults
            .iter()
            .any(|name| REVOCATION_CHECKS.contains(&name.as_str()));
        let is_to_come = || {
            let ends = identify_list(&list.bytes).and_then(|list| list.next_update);
            faults == [FRESHNESS_CHECK] && ends.is_some_and(|end| end > at)
        };
        if faults.is_empty() || revokes || is_to_come() {
            all = Some(with(all.unwrap_or_else(|| offered.clone())));
        }
    }
    all
}

/// The tenant's own, with the host's where it has none. A bad list makes a verdict fail, so the host's are used only if
/// the tenant has none, or if the tenant's has expired and the host has a newer one.
fn completed(own: AmdEndorsements, given: &AmdEndorsements, at: Timestamp) -> Endorsements {
    let AmdEndorsements {
        vek,
        ask,
        ark,
        crls,
    } = own;
    let identify = |list: &RevocationList| identify_list(&list.bytes);
    let of_host: Vec<_> = given.crls.iter().filter_map(identify).collect();
    let is_superseded =
        |list: &RevocationList| identify(list).is_some_and(|id| id.is_superseded_by(&of_host, at));
    let kept: Vec<_> = crls
        .into_iter()
        .filter(|list| !is_superseded(list))
        .collect();
    let amd = AmdEndorsements {
        vek: vek.or_else(|| given.vek.clone()),
        ask: ask.or_else(|| given.ask.clone()),
        ark: ark.or_else(|| given.ark.clone()),
        crls: if kept.is_empty() {
            given.crls.clone()
        } else {
            kept
        },
    };
    Endorsements { amd, intel: None }
}

/// The checks of certificates and lists that fail with these for this report. The rest of the report is for the verdict over
/// the session.
fn faults(
    endorsements: &Endorsements,
    verifier: &Verifier,
    report: &[u8],
    at: Timestamp,
) -> Vec<String> {
    let verdict = verifier.verify(report, endorsements, &Expected::at(at));
    let failed = verdict.with_outcome(Outcome::Fail);
    failed
        .map(|check| check.name.to_string())
        .filter(|check| {
            CERTIFICATE_CHECKS
                .iter()
                .any(|name| check == name || (name.ends_with('.') && check.starts_with(name)))
        })
        .collect()
}

/// True if the verifier finds no fault with these certificates and lists for this report.
fn suffice_for(
    endorsements: &Endorsements,
    verifier: &Verifier,
    report: &[u8],
    at: Timestamp,
) -> bool {
    faults(endorsements, verifier, report, at).is_empty()
}
