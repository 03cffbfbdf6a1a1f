// SPDX-License-Identifier: Apache-2.0

//! Hosts that present something else than a Keep of this contract: each is refused by name, has seen one ATTEST and nothing
//! more, and its Keep is ended.

use crate::support::{MARKER, Targeted, Tenant, contains, within};
use enarx_agent::{DeployError, Refused};
use enarx_attestation::hex::Hex;
use enarx_contract::{Backend, Tee};
use enarx_hostile_host::chip::{Chip, DEBUG};
use enarx_hostile_host::host::{Behaviour, Host, Relay};
use enarx_hostile_host::keep::{Misbehaviour, Program};
use enarx_session::frame::{Decoder, End, Kind};
use enarx_tls::Key;

/// Asserts that a host learned nothing: no marker in anything, and one ATTEST in the session.
#[track_caller]
fn assert_nothing_was_sent(host: &Host) {
    host.log.read(|record| {
        let all = [&record.bytes[..], &record.plain, &record.relayed];
        assert!(all.iter().all(|bytes| !contains(bytes, MARKER)));
        for plain in [&record.plain, &record.relayed] {
            let mut decoder = Decoder::new(End::Tenant);
            let mut input = &plain[..];
            let mut kinds = Vec::new();
            while let Some(frame) = decoder.take(&mut input).expect("frames") {
                kinds.push(frame.kind);
            }
            assert!(decoder.is_between_frames());
            assert!(kinds == [Kind::Attest] || kinds.is_empty(), "{kinds:?}");
        }
    });
    assert!(host.log.asked("DELETE /v1/keeps/"), "the Keep is ended");
}

async fn refused_by(host: &Host, tenant: &Tenant) -> Refused {
    let mut hosts = tenant.deploy(&[host], MARKER).await.refused();
    assert_eq!(hosts.len(), 1);
    assert_nothing_was_sent(host);
    hosts.remove(0)
}

#[track_caller]
fn assert_check(refused: &Refused, name: &str) {
    let check = refused.checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("{name}: {refused}"));
    assert!(!check.expected.is_empty() && !check.actual.is_empty());
}

async fn with_misbehaviour(misbehaviour: Misbehaviour) -> Refused {
    let host = Host::with(Program::Echo, misbehaviour).await;
    refused_by(&host, &Tenant::new()).await
}

#[tokio::test]
async fn another_image() {
    let refused =
        with_misbehaviour(Misbehaviour::Report(|report| report.measurement[0] ^= 1)).await;
    assert_eq!(refused.code(), "guest.measurement");
    assert_check(&refused, "guest.measurement");
}

#[tokio::test]
async fn a_guest_that_the_host_can_debug() {
    let refused = with_misbehaviour(Misbehaviour::Report(|report| {
        report.policy.set(report.policy.get() | DEBUG);
    }))
    .await;
    assert_eq!(refused.code(), "guest-policy.debug");
    assert_check(&refused, "guest-policy.debug");
}

#[tokio::test]
async fn another_guest_policy_than_the_contracts() {
    // Single socket: the policy of the tenant does not care.
    let refused = with_misbehaviour(Misbehaviour::Report(|report| {
        report.policy.set(report.policy.get() | 1 << 20);
    }))
    .await;
    assert_eq!(refused.code(), "contract.terms");
}

#[tokio::test]
async fn a_keep_of_another_contract() {
    let refused =
        with_misbehaviour(Misbehaviour::Report(|report| report.host_data = [1; 32])).await;
    assert_eq!(refused.code(), "guest.host-data");
    assert_check(&refused, "guest.host-data");
}

#[tokio::test]
async fn a_keep_of_an_earlier_contract_of_this_tenant() {
    let host = Host::with_relay(Relay::Earlier).await;
    let tenant = Tenant::new();
    // The first contract is its own.
    assert!(tenant.deploy(&[&host], b"").await.result.is_ok());
    host.log.read(|record| {
        record.bytes.clear();
        record.plain.clear();
    });
    let hosts = tenant.deploy(&[&host], MARKER).await.refused();
    assert_eq!(hosts[0].code(), "guest.report-data");
    assert_check(&hosts[0], "guest.host-data");
    assert_nothing_was_sent(&host);
}

#[tokio::test]
async fn a_man_in_the_middle_with_a_key_of_his_own() {
    let tenant = Tenant::new();
    let own = Key::generate().expect("a key");
    let host = Host::with_relay(Relay::Between(own, Some(tenant.key.clone()))).await;
    let refused = refused_by(&host, &tenant).await;
    assert_eq!(refused.code(), "guest.report-data");
    host.log
        .read(|record| assert!(!record.relayed.is_empty(), "he passed it on"));
}

#[tokio::test]
async fn a_man_in_the_middle_with_the_keeps_key() {
    let tenant = Tenant::new();
    let mut behaviour = Behaviour::new();
    let stolen = Key::generate().expect("a key");
    behaviour.relay = Relay::Between(stolen.clone(), Some(tenant.key.clone()));
    let host = Host::start_with_key(
        behaviour,
        Chip::new(),
        Program::Echo,
        Misbehaviour::None,
        stolen,
    )
    .await;
    let refused = refused_by(&host, &tenant).await;
    assert_eq!(refused.code(), "guest.report-data");
    host.log
        .read(|record| assert!(!record.relayed.is_empty(), "he passed it on"));
}

#[tokio::test]
async fn evidence_of_an_earlier_session() {
    let refused = with_misbehaviour(Misbehaviour::Earlier).await;
    assert_eq!(refused.code(), "guest.report-data");
}

#[tokio::test]
async fn evidence_of_another_number() {
    assert_eq!(
        with_misbehaviour(Misbehaviour::Sequence).await.code(),
        "evidence.sequence"
    );
}

#[tokio::test]
async fn a_report_that_does_not_bind_this_session() {
    // As `enarx run --attest-to` makes it: 64 bytes of another kind.
    let refused =
        with_misbehaviour(Misbehaviour::Report(|report| report.report_data = [7; 64])).await;
    assert_eq!(refused.code(), "guest.report-data");
}

#[tokio::test]
async fn a_report_that_was_changed_after_it_was_signed() {
    let refused =
        with_misbehaviour(Misbehaviour::Forged(|report| report.report_id = [1; 32])).await;
    assert_eq!(refused.code(), "report.signature");
}

#[tokio::test]
async fn a_report_of_a_lower_privilege_level() {
    let refused = with_misbehaviour(Misbehaviour::Report(|report| report.vmpl.set(2))).await;
    assert_eq!(refused.code(), "report.vmpl");
}

#[tokio::test]
async fn a_simulator_whose_root_the_policy_does_not_name() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut tenant = Tenant::new();
    tenant.trust.policy.insecure_simulated_roots.clear();
    let refused = refused_by(&host, &tenant).await;
    assert_eq!(refused.code(), "chain.root");
}

#[tokio::test]
async fn a_simulator_under_a_contract_that_says_snp() {
    let host = Host::offering(Tee::Snp, Backend::Snp).await;
    let mut tenant = Tenant::new();
    tenant.accepts = vec![Tee::Snp];
    let refused = refused_by(&host, &tenant).await;
    assert_eq!(refused.code(), "chain.root");
    assert_check(&refused, "chain.root");
}

#[tokio::test]
async fn no_report_at_all() {
    assert_eq!(
        with_misbehaviour(Misbehaviour::FormatNone).await.code(),
        "evidence.format"
    );
}

#[tokio::test]
async fn a_keep_in_use() {
    assert_eq!(
        with_misbehaviour(Misbehaviour::Provisioned).await.code(),
        "evidence.state"
    );
}

#[tokio::test]
async fn old_firmware() {
    let chip = Chip::new().with_old_firmware();
    let behaviour = Behaviour {
        platforms: vec![chip.offer()],
        collateral: chip.clone(),
        ..Behaviour::new()
    };
    // The Keep's own check of the contract's floor is skipped.
    let host = Host::start(behaviour, chip, Program::Echo, Misbehaviour::Report(|_| {})).await;
    let refused = refused_by(&host, &Tenant::new()).await;
    assert_eq!(refused.code(), "tcb.reported");
}

#[tokio::test]
async fn a_revoked_key() {
    let host = Host::giving(Chip::new().revoked()).await;
    let refused = refused_by(&host, &Tenant::new()).await;
    assert_eq!(refused.code(), "crl.vek");
}

#[tokio::test]
async fn lists_of_revoked_keys_that_are_out_of_date() {
    let host = Host::giving(Chip::new().stale()).await;
    let refused = refused_by(&host, &Tenant::new()).await;
    assert_check(&refused, "crl.fresh");
}

#[tokio::test]
async fn the_certificate_of_another_chip() {
    let host = Host::giving(Chip::new().another()).await;
    let refused = refused_by(&host, &Tenant::new()).await;
    assert_check(&refused, "agreement.chip-id");
    assert_check(&refused, "report.signature");
}

#[tokio::test]
async fn a_policy_with_another_expectation_of_its_own() {
    type Change = fn(&mut enarx_attestation::policy::SnpPolicy);
    let changes: [(Change, &str); 3] = [
        (|snp| snp.host_data = Some(Hex([1; 32])), "guest.host-data"),
        (
            |snp| snp.report_data = Some(Hex([1; 64])),
            "guest.report-data",
        ),
        // An image that the tenant computed and its policy does not name.
        (
            |snp| snp.measurements = vec![Hex([1; 48])],
            "guest.measurement",
        ),
    ];
    for (change, code) in changes {
        let host = Host::with(Program::Echo, Misbehaviour::None).await;
        let mut tenant = Tenant::new();
        change(&mut tenant.trust.policy.snp);
        assert_eq!(refused_by(&host, &tenant).await.code(), code);
    }
}

#[tokio::test]
async fn the_next_host_is_tried_and_gets_everything() {
    let bad = Host::with(
        Program::Echo,
        Misbehaviour::Report(|report| report.measurement[0] ^= 1),
    )
    .await;
    let good = Host::with(Program::Echo, Misbehaviour::None).await;
    let run = Tenant::new().deploy(&[&bad, &good], MARKER).await;
    assert_eq!(run.stdout, MARKER);
    assert_eq!(run.deployed().host, good.address.to_string());
    assert_nothing_was_sent(&bad);
    assert!(!good.log.asked("DELETE "));
}

#[tokio::test]
async fn nothing_is_sent_if_no_host_is_accepted() {
    let first = Host::with(Program::Echo, Misbehaviour::FormatNone).await;
    let second = Host::with(Program::Echo, Misbehaviour::Earlier).await;
    let run = Tenant::new().deploy(&[&first, &second], MARKER).await;
    assert!(run.stdout.is_empty() && run.stderr.is_empty());
    let error = run.result.expect_err("none is good");
    assert_eq!(error.code(), "guest.report-data");
    let text = error.to_string();
    assert!(text.contains(&first.address.to_string()), "{text}");
    assert!(text.contains("guest.report-data: expected"), "{text}");
    let DeployError::Refused(hosts) = error else {
        panic!("not refused");
    };
    let codes: Vec<_> = hosts.iter().map(Refused::code).collect();
    assert_eq!(codes, ["evidence.format", "guest.report-data"]);
    assert_nothing_was_sent(&first);
    assert_nothing_was_sent(&second);
}

#[tokio::test]
async fn the_first_evidence_again_at_the_second_request() {
    let host = Host::with(Program::Echo, Misbehaviour::RepeatSecond).await;
    let mut tenant = Tenant::new();
    // Time enough for a busy machine until the program has started.
    tenant.trust.max_age = std::time::Duration::from_secs(8);
    let (stdin, _never_closed) = tokio::io::duplex(1);
    let streams = enarx_agent::Streams {
        stdin,
        stdout: tokio::io::sink(),
        stderr: tokio::io::sink(),
    };
    let targets = [host.target()];
    let result = within(enarx_agent::deploy(
        &targets,
        crate::support::order(),
        &tenant.key,
        &tenant.trust,
        &tenant,
        streams,
        &tenant.stop,
    ))
    .await;
    let Err(DeployError::Failed(failed)) = result else {
        panic!("it goes on");
    };
    assert_eq!(failed.fault.code(), "guest.report-data");
    assert!(failed.started && !failed.checks.is_empty());
}
