// SPDX-License-Identifier: Apache-2.0

//! Keeps that wait under open contracts: claimed if their terms are the tenant's, skipped otherwise.

use crate::support::Tenant;
use enarx_agent::{Claim, Deployed};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, Tenant as Party};
use enarx_hostile_host::chip::Chip;
use enarx_hostile_host::host::{Behaviour, Host, Manager, Waiting};
use enarx_hostile_host::keep::{Misbehaviour, Program};

/// A host on which these Keeps wait.
async fn host(ready: &[Waiting], misbehaviour: Misbehaviour) -> Host {
    let behaviour = Behaviour {
        ready: ready.to_vec(),
        ..Behaviour::new()
    };
    Host::start(behaviour, Chip::new(), Program::Echo, misbehaviour).await
}

/// The number of requests to the host for a Keep.
fn asked(host: &Host) -> usize {
    host.log.read(|record| {
        let requests = record.requests.iter();
        requests.filter(|line| *line == "POST /v1/keeps").count()
    })
}

fn contract(deployed: &Deployed) -> Contract {
    deployed.agreement.verify().expect("both signatures hold")
}

#[tokio::test]
async fn a_keep_that_waits_is_claimed() {
    let host = host(&[Waiting::Free, Waiting::Free], Misbehaviour::None).await;
    let tenant = Tenant::new();
    let run = tenant.deploy(&[&host], b"input").await;
    assert_eq!(run.stdout, b"input");
    let deployed = run.deployed();
    assert_eq!(deployed.timings.claim, Claim::Warm);
    let contract = contract(&deployed);
    assert_eq!(contract.terms().tenant, Party::Open);
    assert_eq!(contract.terms().id, Hex([1; 16]));
    let signed = deployed.agreement.tenant.expect("the tenant signed");
    assert_eq!(signed.key, tenant.key.public());
    assert!(deployed.verdict.is_some() && deployed.receipt_verdict.is_some());
    assert_eq!(asked(&host), 1);
}

#[tokio::test]
async fn keeps_of_other_terms_are_passed_over() {
    let others = [
        Waiting::Unsigned,
        Waiting::With(|terms| terms.resources.memory -= 1),
        Waiting::With(|terms| terms.times.runtime_seconds_max += 1),
        Waiting::With(|terms| {
            terms
                .doors
                .resolve
                .push("a.example".parse().expect("a name"));
        }),
        Waiting::With(|terms| {
            terms.image.as_mut().expect("an image").measurement = Hex([0; 48]);
        }),
        Waiting::With(|terms| {
            terms.platform.min_tcb.as_mut().expect("a floor").microcode -= 1;
        }),
    ];
    let host = host(&others, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let deployed = tenant.deploy(&[&host], b"").await.deployed();
    assert_eq!(deployed.timings.claim, Claim::Cold);
    let named = Party::Named(tenant.key.public());
    assert_eq!(contract(&deployed).terms().tenant, named);
    assert_eq!(asked(&host), 1);
}

#[tokio::test]
async fn a_faster_tenant_is_no_failure() {
    let taken = Waiting::Refused("keep.taken");
    let gone = Waiting::Refused("keep.gone");
    let last = host(&[taken, gone, Waiting::Free], Misbehaviour::None).await;
    let deployed = Tenant::new().deploy(&[&last], b"").await.deployed();
    assert_eq!(deployed.timings.claim, Claim::Warm);
    assert_eq!(contract(&deployed).terms().id, Hex([3; 16]));
    assert_eq!(asked(&last), 3);

    let none = host(&[taken, gone], Misbehaviour::None).await;
    let deployed = Tenant::new().deploy(&[&none], b"").await.deployed();
    assert_eq!(deployed.timings.claim, Claim::Cold);
    assert_eq!(asked(&none), 3);
    assert!(!none.log.asked("DELETE "));
}

#[tokio::test]
async fn a_refused_claim_leads_to_a_launch() {
    let full = host(&[Waiting::Refused("limit.memory")], Misbehaviour::None).await;
    let deployed = Tenant::new().deploy(&[&full], b"").await.deployed();
    assert_eq!(deployed.timings.claim, Claim::Cold);
    assert_eq!(asked(&full), 2);
}

#[tokio::test]
async fn a_claimed_keep_that_is_refused_is_ended() {
    let change = Misbehaviour::Report(|report| report.measurement = [1; 48]);
    let host = host(&[Waiting::Free], change).await;
    let refused = Tenant::new().deploy(&[&host], b"").await.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(asked(&host), 1);
    assert!(host.log.asked("DELETE /v1/keeps/"));
    host.log.read(|record| assert_eq!(record.deployment, None));
}

#[tokio::test]
async fn a_claimed_keep_is_ended_although_its_manager_cannot_at_first() {
    let behaviour = Behaviour {
        ready: vec![Waiting::Free],
        manager: Manager::EndsLate,
        ..Behaviour::new()
    };
    // Its first session breaks.
    let host = Host::start(behaviour, Chip::new(), Program::Echo, Misbehaviour::Busy).await;
    let run = Tenant::new().deploy(&[&host], b"").await;
    assert_eq!(run.unavailable()[0].code(), "evidence.busy");
    assert_eq!(asked(&host), 1);
    assert_eq!(host.log.count("DELETE /v1/keeps/"), 3);
}

#[tokio::test]
async fn a_keep_of_another_launch_is_refused() {
    // The host presents a Keep that was launched under another open contract.
    let change = Misbehaviour::Report(|report| report.host_data = [1; 32]);
    let host = host(&[Waiting::Free], change).await;
    let refused = Tenant::new().deploy(&[&host], b"").await.refused();
    let failed = &refused[0].checks;
    assert!(
        failed.iter().any(|check| check.name == "guest.host-data"),
        "{failed:?}"
    );
}
