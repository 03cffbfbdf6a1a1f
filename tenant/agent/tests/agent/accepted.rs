// SPDX-License-Identifier: Apache-2.0

//! Deployments that a tenant accepts: everything arrives, in the right order, and nothing is readable on the way.

use crate::support::{MARKER, Targeted, Tenant, contains, order, within};
use enarx_agent::{DeployError, Streams, Target, deploy, receipt};
use enarx_attestation::{Endorsements, Overall, Timestamp};
use enarx_contract::canonical::{Base64, Hex};
use enarx_contract::{Backend, Contract, Tee};
use enarx_hostile_host::chip::Chip;
use enarx_hostile_host::host::{Host, Manager, TOKEN};
use enarx_hostile_host::keep::{Misbehaviour, Program};
use enarx_session::deployment::Part;
use enarx_session::document::ExitKind;
use enarx_session::frame::Kind;
use enarx_session::receipt::Receipt;
use enarx_session::tenant::InsecureUnattested;
use enarx_tls::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use zeroize::Zeroizing;

#[tokio::test]
async fn an_accepted_keep_gets_the_order_and_gives_output_exit_code_and_receipt() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let input = [b"input ", MARKER].concat();
    let run = tenant.deploy(&[&host], &input).await;
    assert_eq!(run.stdout, input);
    assert_eq!(run.stderr, b"done");
    let deployed = run.deployed();
    assert_eq!(
        (deployed.exit.kind, deployed.exit.code),
        (ExitKind::Exited, 7)
    );
    assert_eq!(deployed.host, host.address.to_string());
    assert_eq!(deployed.receipt.body.exit, deployed.exit);
    assert_eq!(deployed.identity.report_id, Some([8; 32]));
    let verdict = deployed.verdict.expect("it was judged");
    assert_eq!(verdict.overall, Overall::Simulated);
    let verdict = deployed.receipt_verdict.expect("its report was judged");
    assert_eq!(verdict.overall, Overall::Simulated);
    deployed.agreement.verify().expect("both signatures hold");
    assert!(deployed.agreement.host.is_some() && deployed.agreement.tenant.is_some());
    assert!(deployed.started.is_some());
    let timings = deployed.timings;
    assert!(timings.first_byte.is_some() && timings.first_byte <= timings.exit);
    assert!(timings.exit <= Some(timings.run) && timings.run <= timings.total);
    assert!(timings.total >= timings.handshake);
    // This host says that its disk took longer than anything else.
    assert_eq!(timings.commit, Some(timings.post));
    host.log.read(|record| {
        let expected = order();
        let parts: Vec<_> = record.parts.iter().map(|(part, _)| *part).collect();
        // Empty parts have no bytes.
        assert_eq!(
            parts,
            [
                Part::Application,
                Part::Configuration,
                Part::File(1),
                Part::Secret(1),
            ]
        );
        assert_eq!(record.parts[0].1, expected.application);
        assert_eq!(record.parts[1].1, *expected.configuration);
        assert_eq!(record.parts[2].1, expected.files[0].1);
        assert_eq!(record.parts[3].1, *expected.secrets[0].value);
        assert_eq!(record.ended, 1);
        // Only the Keep saw the marker.
        assert!(contains(&record.plain, MARKER));
        assert!(!contains(&record.bytes, MARKER));
        assert!(record.bytes.len() > record.plain.len());
        assert_eq!(record.refusals, [""; 0]);
    });
    assert!(!host.log.asked("DELETE "));
}

#[tokio::test]
async fn large_deliveries_inputs_and_outputs_pass() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut large = order();
    large.application = vec![7; 1_500_000];
    large.files.push(("www/z".to_owned(), vec![8; 700_000]));
    let input: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    // By its name, which requires a look-up.
    let url = format!(
        "https://localhost:{}#sha256={}",
        host.address.port(),
        host.pin
    );
    let token = Zeroizing::new(TOKEN.to_owned());
    let targets = [Target::parse(&url, token).expect("a target")];
    let run = Tenant::new().deploy_to(&targets, large, &input).await;
    assert!(run.stdout == input);
    host.log.read(|record| {
        let sizes: Vec<_> = record.parts.iter().map(|(_, bytes)| bytes.len()).collect();
        assert!(sizes.contains(&1_500_000) && sizes.contains(&700_000));
    });
    assert_eq!(run.deployed().receipt.body.streams.stdout.bytes, 3_000_000);
}

#[tokio::test]
async fn output_waits_for_its_reader() {
    let host = Host::with(Program::Flood(2_000_000), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let (mut reader, stdout) = tokio::io::duplex(1000);
    let (stdin, _never_closed) = tokio::io::duplex(1);
    let streams = Streams {
        stdin,
        stdout,
        stderr: tokio::io::sink(),
    };
    let targets = [host.target()];
    let read = async {
        // Long enough for output that waits for no acknowledgement.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.expect("it is read");
        all.len()
    };
    let work = deploy(
        &targets,
        order(),
        &tenant.key,
        &tenant.trust,
        &tenant,
        streams,
        &tenant.stop,
    );
    let (result, read) = within(async { tokio::join!(work, read) }).await;
    assert_eq!(result.expect("it ends").exit.code, 0);
    assert_eq!(read, 2_000_000);
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_a_failure() {
    let host = Host::with(Program::Flood(2_000_000), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let (reader, stdout) = tokio::io::duplex(1000);
    drop(reader);
    let streams = Streams {
        stdin: tokio::io::empty(),
        stdout,
        stderr: tokio::io::sink(),
    };
    let targets = [host.target()];
    let result = within(deploy(
        &targets,
        order(),
        &tenant.key,
        &tenant.trust,
        &tenant,
        streams,
        &tenant.stop,
    ))
    .await;
    let error = result.expect_err("nobody reads");
    assert_eq!(error.code(), "agent.output");
    assert!(matches!(error, DeployError::Failed(failed) if failed.started));
}

#[tokio::test]
async fn a_stop_ends_the_application_and_a_second_one_leaves() {
    for (requests, program) in [(1, Program::Wait), (2, Program::Echo)] {
        let host = Host::with(program, Misbehaviour::None).await;
        let tenant = Tenant::new();
        let (stdin, mut typing) = tokio::io::duplex(100);
        let (mut reader, stdout) = tokio::io::duplex(1000);
        let streams = Streams {
            stdin,
            stdout,
            stderr: tokio::io::sink(),
        };
        let targets = [host.target()];
        let started = Arc::new(Notify::new());
        let starts = Arc::clone(&started);
        let mut order = order();
        order.started = Some(Box::new(move |_| starts.notify_one()));
        let work = deploy(
            &targets,
            order,
            &tenant.key,
            &tenant.trust,
            &tenant,
            streams,
            &tenant.stop,
        );
        let asking = async {
            typing.write_all(b"hello").await.expect("it is read");
            if requests == 2 {
                let mut echo = [0; 5];
                reader.read_exact(&mut echo).await.expect("it is echoed");
            } else {
                started.notified().await;
            }
            for _ in 0..requests {
                tenant.stop.request();
                // The second request comes after the first.
                while !host.log.read(|record| record.frames.contains(&Kind::Stop)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let (result, ()) = within(async { tokio::join!(work, asking) }).await;
        if requests == 1 {
            let deployed = result.expect("it ends in order");
            assert_eq!(deployed.exit.kind, ExitKind::Stopped);
        } else {
            // Echo's standard input ends by STOP, so it may be quicker than the second request.
            match result {
                Err(DeployError::Left { .. }) => {}
                Ok(deployed) => assert_eq!(deployed.exit.code, 7),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_stop_before_the_verdict_ends_the_keep() {
    let host = Host::with(Program::Echo, Misbehaviour::Silent).await;
    let tenant = Tenant::new();
    let log = host.log.clone();
    let stop = tenant.stop.clone();
    let asking = async {
        while log.read(|record| record.frames.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.request();
    };
    let hosts = [&host];
    let (run, ()) = within(async { tokio::join!(tenant.deploy(&hosts, b""), asking) }).await;
    assert!(matches!(run.result, Err(DeployError::Cancelled)));
    assert!(host.log.asked("DELETE /v1/keeps/"));
}

#[tokio::test]
async fn a_manager_may_close_connections() {
    let host = Host::with_manager(Manager::Closes).await;
    let run = Tenant::new().deploy(&[&host], b"a").await;
    assert_eq!(run.deployed().exit.code, 7);
}

#[tokio::test]
async fn evidence_is_requested_again_before_the_verdict_expires() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut tenant = Tenant::new();
    tenant.trust.max_age = Duration::from_secs(8);
    let (stdin, mut typing) = tokio::io::duplex(100);
    let streams = Streams {
        stdin,
        stdout: tokio::io::sink(),
        stderr: tokio::io::sink(),
    };
    let targets = [host.target()];
    let work = deploy(
        &targets,
        order(),
        &tenant.key,
        &tenant.trust,
        &tenant,
        streams,
        &tenant.stop,
    );
    let typing = async move {
        // Longer than one verdict is valid.
        for _ in 0..45 {
            typing.write_all(b"x").await.expect("it is read");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (result, ()) = within(async { tokio::join!(work, typing) }).await;
    let deployed = result.expect("it ends in order");
    assert_eq!(deployed.receipt.body.streams.stdin.bytes, 45);
    let mut asked = host.log.read(|record| record.frames.clone());
    asked.retain(|kind| *kind != Kind::Start);
    assert!(asked.len() >= 2 && asked.iter().all(|kind| *kind == Kind::Attest));
    assert_eq!(deployed.receipt.body.evidence_count, asked.len() as u64);
}

#[tokio::test]
async fn a_keep_without_a_tee_needs_the_tenants_word() {
    let host = Host::offering(Tee::None, Backend::Kvm).await;
    let mut tenant = Tenant::new();
    tenant.accepts = vec![Tee::None];
    let hosts = tenant.deploy(&[&host], b"").await.unavailable();
    assert_eq!(hosts[0].code(), "host.platform");
    let mut order = order();
    order.unattested = Some(InsecureUnattested);
    let run = tenant.deploy_to(&[host.target()], order, b"in").await;
    assert_eq!(run.stdout, b"in");
    let deployed = run.deployed();
    assert!(deployed.verdict.is_none() && deployed.receipt_verdict.is_none());
}

#[tokio::test]
async fn a_simulators_receipt_is_invalid_under_a_contract_for_snp() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut tenant = Tenant::new();
    let deployed = tenant.deploy(&[&host], b"").await.deployed();
    // This policy accepts the simulator, and AMD's chips like every policy.
    tenant.trust.policy.snp.measurements = vec![enarx_attestation::hex::Hex(
        enarx_hostile_host::chip::MEASUREMENT,
    )];
    let chip = Chip::new();
    let endorsements = Endorsements {
        amd: chip.endorsements(),
        intel: None,
    };
    let keep = Key::generate().expect("a key");
    for (tee, backend, expected) in [
        (Tee::Simulated, Backend::Sim, Ok(Overall::Simulated)),
        (Tee::Snp, Backend::Snp, Err("chain.root".to_owned())),
    ] {
        let agreed = deployed.agreement.verify().expect("a contract");
        let mut terms = agreed.terms().clone();
        (terms.platform.tee, terms.platform.backend) = (tee, backend);
        let contract = Contract::new(terms).expect("a contract");
        let mut body = deployed.receipt.body.clone();
        body.contract = *contract.digest();
        body.keep_key = keep.public();
        let data = body.report_data().expect("it is short");
        let signed = body.signing_input().expect("it is short");
        let mut id = [0; 32];
        let report = chip.report(data, contract.digest().0, |report| id = report.report_id);
        assert_eq!(body.report_id, Some(Hex(id)), "the chip has one launch");
        let receipt = Receipt {
            signature: keep.sign(&signed).expect("a signature"),
            report: Some(Base64(report)),
            body,
        };
        let bytes = receipt.encode().expect("it is short");
        let of = receipt::ReceiptSubject {
            contract: Some(&contract),
            ..receipt::ReceiptSubject::default()
        };
        let at = Timestamp(crate::support::unix_seconds());
        let found = receipt::verify(&bytes, &tenant.trust, &endorsements, of, at, at);
        let found = found.map(|verified| verified.verdict.overall);
        assert_eq!(found.map_err(|error| error.code().to_owned()), expected);
    }
}

#[tokio::test]
async fn a_receipt_is_verified_without_the_session() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut tenant = Tenant::new();
    let deployed = tenant.deploy(&[&host], b"").await.deployed();
    let bytes = deployed.receipt.encode().expect("a receipt");
    let endorsements = Endorsements {
        amd: Chip::new().endorsements(),
        intel: None,
    };
    let at = Timestamp(crate::support::unix_seconds());
    let application = order().application;
    let code = |tenant: &Tenant, bytes: &[u8], application| {
        let of = receipt::ReceiptSubject {
            application,
            ..receipt::ReceiptSubject::default()
        };
        receipt::verify(bytes, &tenant.trust, &endorsements, of, at, at)
            .map(|verified| verified.verdict.overall)
            .map_err(|error| error.code().to_owned())
    };
    let refused = |code: &str| Err(code.to_owned());
    // A policy that names no accepted image compares with nothing.
    assert_eq!(code(&tenant, &bytes, None), refused("evidence.unchecked"));
    tenant.trust.policy.snp.measurements = vec![enarx_attestation::hex::Hex(
        enarx_hostile_host::chip::MEASUREMENT,
    )];
    assert_eq!(code(&tenant, &bytes, None), Ok(Overall::Simulated));
    assert_eq!(
        code(&tenant, &bytes, Some(&application)),
        Ok(Overall::Simulated)
    );
    assert_eq!(
        code(&tenant, &bytes, Some(b"another")),
        refused("receipt.application")
    );
    assert_eq!(code(&tenant, &bytes[1..], None), refused("receipt.form"));
    let mut changed = deployed.receipt.clone();
    changed.body.exit.code = 0;
    let changed = changed.encode().expect("a receipt");
    assert_eq!(code(&tenant, &changed, None), refused("receipt.signature"));
    let mut bare = deployed.receipt.clone();
    bare.report = None;
    let bare = bare.encode().expect("a receipt");
    assert_eq!(
        code(&tenant, &bare, None),
        refused("receipt.report-missing")
    );
    // A host that invents a key can sign, but has no report on it.
    let own = Key::generate().expect("a key");
    let mut forged = deployed.receipt.clone();
    forged.body.keep_key = own.public();
    let input = forged.body.signing_input().expect("a body");
    forged.signature = own.sign(&input).expect("a signature");
    let forged = forged.encode().expect("a receipt");
    assert_eq!(code(&tenant, &forged, None), refused("guest.report-data"));
    tenant.trust.policy.insecure_simulated_roots.clear();
    assert_eq!(code(&tenant, &bytes, None), refused("chain.root"));
}

/// A receipt from ten days ago; the tenant has the list of that day and that of today.
#[tokio::test]
async fn an_old_receipt_is_judged_by_what_is_known_today() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let mut tenant = Tenant::new();
    let deployed = tenant.deploy(&[&host], b"").await.deployed();
    let bytes = deployed.receipt.encode().expect("a receipt");
    tenant.trust.policy.snp.measurements = vec![enarx_attestation::hex::Hex(
        enarx_hostile_host::chip::MEASUREMENT,
    )];
    let now = crate::support::unix_seconds();
    let past = Timestamp(now - 10 * 86_400);
    let mut endorsements = Endorsements {
        amd: Chip::new().stale().endorsements(),
        intel: None,
    };
    let code = |endorsements: &Endorsements, known| {
        let of = receipt::ReceiptSubject::default();
        receipt::verify(&bytes, &tenant.trust, endorsements, of, past, known)
            .map(|verified| verified.verdict.overall)
            .map_err(|error| error.code().to_owned())
    };
    let refused = |code: &str| Err(code.to_owned());
    // The list of that day alone, and together with that of today.
    assert_eq!(code(&endorsements, Timestamp(now)), Ok(Overall::Simulated));
    endorsements
        .amd
        .crls
        .extend(Chip::new().endorsements().crls);
    assert_eq!(code(&endorsements, Timestamp(now)), Ok(Overall::Simulated));
    // If the clock is ten days behind, a list of today shows that the clock is wrong.
    assert_eq!(code(&endorsements, past), refused("crl.fresh"));
    // A list that is still in the future by every clock.
    let mut early = endorsements.clone();
    early.amd.crls = Chip::new().early().endorsements().crls;
    assert_eq!(code(&early, Timestamp(now)), refused("crl.present"));
    // The key has been revoked since: its owner can write any date into a receipt.
    endorsements
        .amd
        .crls
        .extend(Chip::new().revoked().endorsements().crls);
    assert_eq!(code(&endorsements, Timestamp(now)), refused("crl.vek"));
}
