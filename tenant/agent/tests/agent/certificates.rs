// SPDX-License-Identifier: Apache-2.0

//! A tenant's own certificates in place of a host's: the verdict is the same.

use crate::support::{Run, Tenant};
use enarx_agent::{Certificates, Fault, Found, Renewed};
use enarx_attestation::policy::Missing;
use enarx_attestation::snp::MAX_LISTS;
use enarx_attestation::{AmdEndorsements, Overall, Timestamp};
use enarx_contract::{Backend, Tee};
use enarx_hostile_host::chip::Chip;
use enarx_hostile_host::host::{Behaviour, Host, Manager};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The certificates of a chip, or some of them, those that the vendor provides, and the number of requests for them.
#[derive(Debug, Default)]
struct Own {
    has: AmdEndorsements,
    vendor: Option<AmdEndorsements>,
    /// The answer of a vendor that is asked only for lists; `None`: it must not be asked.
    lists: Option<Result<(), String>>,
    stored: AtomicU32,
    fetched: AtomicU32,
    renewed: AtomicU32,
}

impl Own {
    fn of(chip: &Chip) -> Self {
        Self {
            has: chip.endorsements(),
            ..Self::default()
        }
    }
}

impl Certificates for Own {
    fn stored<'a>(&'a self, report: &'a [u8], _: Timestamp) -> Found<'a> {
        assert_eq!(report.len(), enarx_snp::report::REPORT_LEN);
        self.stored.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Some(self.has.clone())))
    }

    fn fetched<'a>(&'a self, _: &'a [u8], _: Timestamp) -> Found<'a> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(self.vendor.clone()))
    }

    fn renewed<'a>(&'a self, _: &'a [u8], _: Timestamp) -> Renewed<'a> {
        self.renewed.fetch_add(1, Ordering::Relaxed);
        let answer = self.lists.clone().expect("lists that may be asked for");
        Box::pin(std::future::ready(answer))
    }
}

/// A host that provides no certificates.
async fn without() -> Host {
    Host::with_manager(Manager::NoCollateral).await
}

/// A host that claims to be a genuine one, with certificates and lists of this chip.
async fn genuine(chip: Chip, manager: Manager) -> Host {
    let mut offer = chip.offer();
    (offer.tee, offer.backend) = (Tee::Snp, Backend::Snp);
    let behaviour = Behaviour {
        platforms: vec![offer],
        collateral: chip,
        manager,
        ..Behaviour::new()
    };
    Host::behaving(behaviour).await
}

fn tenant(own: &Arc<Own>) -> Tenant {
    let mut tenant = Tenant::new();
    tenant.accepts.push(Tee::Snp);
    tenant.trust.certificates = Some(own.clone());
    tenant
}

async fn deploy(host: &Host, own: &Arc<Own>) -> Run {
    tenant(own).deploy(&[host], b"").await
}

/// The failed checks of the one host that was refused.
fn failed(run: Run) -> Vec<String> {
    let refused = run.refused();
    let checks = refused[0].checks.iter();
    checks.map(|check| check.name.to_string()).collect()
}

#[tokio::test]
async fn the_tenants_certificates_replace_missing_or_wrong_ones() {
    let chip = Chip::new();
    let mut lists_alone = Own::of(&chip);
    lists_alone.has = AmdEndorsements {
        crls: lists_alone.has.crls,
        ..AmdEndorsements::default()
    };
    for (host, own) in [
        (without().await, Own::of(&chip)),
        (Host::giving(chip.clone().another()).await, Own::of(&chip)),
        (Host::giving(chip.clone().stale()).await, lists_alone),
    ] {
        let own = Arc::new(own);
        let deployed = deploy(&host, &own).await.deployed();
        let verdicts = [deployed.verdict, deployed.receipt_verdict];
        for verdict in verdicts {
            assert_eq!(verdict.map(|it| it.overall), Some(Overall::Simulated));
        }
        // The certificates enclosed with the receipt are those with which it was verified.
        assert_eq!(deployed.endorsements.amd.crls, own.has.crls);
        assert!(own.stored.load(Ordering::Relaxed) > 0);
        assert_eq!(own.fetched.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_list_of_the_tenant_counts_with_the_hosts_certificates() {
    for (own, code) in [
        // The host's lists are in force, and older than the revocation of the key.
        (Chip::new().revoked(), "crl.vek"),
        // A revocation is valid, however old the list that contains it.
        (Chip::new().revoked().stale(), "crl.vek"),
        // The tenant's clock was set back.
        (Chip::new().early(), "crl.fresh"),
    ] {
        for given in [Chip::new(), Chip::new().with_many_lists()] {
            let host = Host::giving(given).await;
            let lists = Own {
                has: AmdEndorsements {
                    crls: own.endorsements().crls,
                    ..AmdEndorsements::default()
                },
                ..Own::default()
            };
            let refused = deploy(&host, &Arc::new(lists)).await.refused();
            let failed: Vec<_> = refused[0].checks.iter().map(|check| &*check.name).collect();
            assert!(failed.contains(&code), "{code}: {failed:?}");
        }
    }
}

#[tokio::test]
async fn thousands_of_lists_are_refused_and_not_stored() {
    let host = Host::giving(Chip::new().with_thousands_of_lists()).await;
    let mut tenant = Tenant::new();
    let checks = failed(tenant.deploy(&[&host], b"").await);
    assert!(checks.contains(&"crl.signature".to_owned()), "{checks:?}");
    // Under a policy that requires no lists, they would be written beside the receipt.
    tenant.trust.policy.missing.crl = Missing::InsecureIgnore;
    let deployed = tenant.deploy(&[&host], b"").await.deployed();
    assert_eq!(deployed.endorsements.amd.crls.len(), MAX_LISTS + 1);
}

#[tokio::test]
async fn the_tenants_certificates_are_not_read_if_the_hosts_suffice() {
    let stale = Chip::new().stale().endorsements().crls;
    let of_nobody = vec![b"no list".to_vec().into()];
    for crls in [Vec::new(), stale, of_nobody] {
        let has = AmdEndorsements {
            crls,
            ..AmdEndorsements::default()
        };
        let own = Arc::new(Own {
            has,
            ..Own::default()
        });
        let host = Host::giving(Chip::new()).await;
        deploy(&host, &own).await.deployed();
        assert_eq!(own.fetched.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn the_tenants_certificates_are_judged_as_the_hosts_are() {
    let chip = Chip::new();
    for (own, code) in [
        (Own::of(&chip.clone().another()), "report.signature"),
        (Own::of(&chip.clone().revoked()), "crl.vek"),
        (Own::of(&chip.clone().stale()), "crl.fresh"),
    ] {
        let refused = deploy(&without().await, &Arc::new(own)).await.refused();
        let failed: Vec<_> = refused[0].checks.iter().map(|check| &*check.name).collect();
        assert!(failed.contains(&code), "{code}: {failed:?}");
    }
    // Nothing at all is still the host's fault, by name. No vendor is asked about a simulated platform.
    let own = Arc::new(Own::default());
    let unavailable = deploy(&without().await, &own).await.unavailable();
    assert!(matches!(
        unavailable[0].fault,
        Fault::Manager { status: 404, .. }
    ));
    assert_eq!(own.fetched.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_vendor_is_asked_last_and_for_genuine_platforms() {
    let host = |manager| genuine(Chip::new(), manager);
    let vendor = Some(Chip::new().endorsements());
    let own = Arc::new(Own {
        vendor: vendor.clone(),
        ..Own::default()
    });
    let refused = deploy(&host(Manager::NoCollateral).await, &own)
        .await
        .refused();
    // The vendor's were used: the only fault is that a simulator's root is not AMD's.
    assert_eq!(refused[0].code(), "chain.root");
    assert_eq!(refused[0].checks.len(), 1, "{:?}", refused[0].checks);
    let asked = |own: &Own| [&own.stored, &own.fetched].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(asked(&own), [1, 1]);
    // Not while the present ones suffice.
    let own = Arc::new(Own {
        has: Chip::new().endorsements(),
        vendor,
        ..Own::default()
    });
    deploy(&host(Manager::NoCollateral).await, &own)
        .await
        .refused();
    assert_eq!(asked(&own), [1, 0]);
    // If the host's suffice, the tenant's lists still count.
    deploy(&host(Manager::Honest).await, &own).await.refused();
    assert_eq!(asked(&own), [2, 0]);
}

#[tokio::test]
async fn lists_older_than_the_policy_allows_are_fetched() {
    let old = Chip::new().old();
    let vendor = Some(Chip::new().endorsements());
    for (days, has, vendor, checks, asked) in [
        // Newer ones were not requested: the host's are in force.
        (None, None, None, &["chain.root"][..], [1, 0]),
        (Some(10), None, None, &["crl.age"], [1, 1]),
        (Some(10), None, vendor.clone(), &["chain.root"], [1, 1]),
        (Some(10), vendor, None, &["chain.root"], [1, 0]),
    ] {
        let own = Arc::new(Own {
            has: has.unwrap_or_default(),
            vendor,
            ..Own::default()
        });
        let mut tenant = tenant(&own);
        tenant.trust.policy.snp.crl_max_age_days = days;
        let host = genuine(old.clone(), Manager::Honest).await;
        // Nothing else is wrong; a simulator's root is not AMD's.
        assert_eq!(failed(tenant.deploy(&[&host], b"").await), checks);
        let counts = [&own.stored, &own.fetched].map(|it| it.load(Ordering::Relaxed));
        assert_eq!(counts, asked, "{days:?}");
        assert_eq!(own.renewed.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn required_current_lists_are_fetched_before_anything_is_sent() {
    let deploy = async |host: &Host, own: &Arc<Own>| {
        let mut tenant = tenant(own);
        tenant.trust.renews_lists = true;
        tenant.deploy(&[host], b"").await
    };
    // They are requested although the host's suffice, and the tenant's own count in addition.
    let own = |crls, lists| {
        Arc::new(Own {
            has: AmdEndorsements {
                crls,
                ..AmdEndorsements::default()
            },
            lists,
            ..Own::default()
        })
    };
    let host = genuine(Chip::new(), Manager::Honest).await;
    let answered = own(Vec::new(), Some(Ok(())));
    assert_eq!(failed(deploy(&host, &answered).await), ["chain.root"]);
    let revoking = own(Chip::new().revoked().endorsements().crls, Some(Ok(())));
    let found = failed(deploy(&host, &revoking).await);
    assert!(found.contains(&"crl.vek".to_owned()), "{found:?}");
    for own in [&answered, &revoking] {
        assert_eq!(own.renewed.load(Ordering::Relaxed), 1);
    }
    // The vendor does not answer, or there is none to ask.
    let silent = own(Vec::new(), Some(Err("no answer".to_owned())));
    let simulated = Host::giving(Chip::new()).await;
    for (host, own, asked, words) in [
        (&host, &silent, 1, "no answer"),
        (&simulated, &answered, 1, "no vendor publishes any"),
    ] {
        let unavailable = deploy(host, own).await.unavailable();
        assert_eq!(unavailable[0].code(), "lists.unfetched");
        let said = unavailable[0].fault.to_string();
        assert!(said.contains(words), "{said}");
        assert_eq!(own.renewed.load(Ordering::Relaxed), asked);
    }
}
