// SPDX-License-Identifier: Apache-2.0

//! Managers and relays that misbehave: each is named, none is a success, and none learns anything.

use crate::support::{MARKER, Targeted, Tenant, contains, order, within};
use enarx_agent::{DeployError, Target};
use enarx_contract::canonical::{Hex, Name};
use enarx_contract::{Backend, Tee};
use enarx_hostile_host::chip::Chip;
use enarx_hostile_host::host::{Behaviour, Heard, Host, Manager, Relay, Server};
use enarx_hostile_host::keep::{Misbehaviour, Program};
use enarx_manager_api::PlatformOffer;
use enarx_session::document::ExitKind;
use enarx_session::frame::Kind;
use zeroize::Zeroizing;

/// Deploys to this host only, which is refused for this reason.
async fn code_of(host: &Host) -> String {
    code_of_target(host, host.target()).await
}

async fn code_of_target(host: &Host, target: Target) -> String {
    let run = Tenant::new().deploy_to(&[target], order(), MARKER).await;
    let hosts = run.unavailable();
    let text = hosts[0].to_string();
    assert!(
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{text}"
    );
    host.log
        .read(|record| assert!(!contains(&record.bytes, MARKER)));
    hosts[0].code().to_owned()
}

#[tokio::test]
async fn another_answer_than_101() {
    for (relay, code) in [
        (Relay::JunkWith101, "relay.protocol"),
        (Relay::OtherProtocol, "relay.protocol"),
        (
            Relay::Status("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            "relay.protocol",
        ),
        (
            Relay::Status(
                "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            ),
            "relay.protocol",
        ),
        (
            Relay::Status("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            "relay.protocol",
        ),
        (
            Relay::Status("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            "relay.protocol",
        ),
        (Relay::JunkAfter101, "session.handshake"),
        (Relay::Server(Server::OtherAlpn), "session.alpn"),
    ] {
        let host = Host::with_relay(relay).await;
        assert_eq!(code_of(&host).await, code);
        assert!(host.log.asked("DELETE /v1/keeps/"));
    }
}

#[tokio::test]
async fn a_flipped_bit() {
    // In the handshake, and in the record with the evidence.
    for at in [10, 400, 1400, 2200] {
        let host = Host::with_relay(Relay::Flip(at)).await;
        let code = code_of(&host).await;
        assert!(
            ["session.handshake", "session.protocol"].contains(&&*code),
            "{at}: {code}"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_drips() {
    let host = Host::with_relay(Relay::Drip { paused: true }).await;
    assert_eq!(code_of(&host).await, "session.timeout");
}

#[tokio::test(start_paused = true)]
async fn answers_that_drip() {
    let host = Host::with_manager(Manager::Slow).await;
    assert_eq!(code_of(&host).await, "manager.timeout");
}

#[tokio::test]
async fn answers_that_never_end() {
    let host = Host::with_manager(Manager::Endless).await;
    assert_eq!(code_of(&host).await, "manager.protocol");
}

#[tokio::test]
async fn a_keep_that_does_not_answer() {
    let host = Host::with(Program::Echo, Misbehaviour::Silent).await;
    let tenant = Tenant::new();
    let log = host.log.clone();
    let pause = async {
        while log.read(|record| record.frames.is_empty()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        tokio::time::pause();
    };
    let hosts = [&host];
    let (run, ()) = within(async { tokio::join!(tenant.deploy(&hosts, MARKER), pause) }).await;
    assert_eq!(run.unavailable()[0].code(), "session.timeout");
}

#[tokio::test]
async fn a_keep_that_gets_no_report_and_a_host_without_certificates() {
    let host = Host::with(Program::Echo, Misbehaviour::Busy).await;
    assert_eq!(code_of(&host).await, "evidence.busy");
    let host = Host::with_manager(Manager::NoCollateral).await;
    assert_eq!(code_of(&host).await, "collateral");
    assert!(host.log.asked("DELETE "));
}

#[tokio::test]
async fn the_keep_of_another_tenant() {
    let host = Host::with_relay(Relay::Foreign).await;
    assert_eq!(code_of(&host).await, "session.tenant");
    host.log.read(|record| assert!(record.plain.is_empty()));
}

#[tokio::test]
async fn something_else_before_evidence() {
    let host = Host::with(Program::Echo, Misbehaviour::Babble).await;
    assert_eq!(code_of(&host).await, "session.protocol");
}

#[tokio::test]
async fn a_wrong_signature_of_the_host() {
    let host = Host::with_manager(Manager::WrongSignature).await;
    assert_eq!(code_of(&host).await, "contract.host-signature");
    assert!(!host.log.asked("GET /v1/keeps/"), "no session was begun");
}

#[tokio::test]
async fn answers_about_something_else() {
    let host = Host::with_manager(Manager::OtherKeep).await;
    assert_eq!(code_of(&host).await, "manager.protocol");
    let host = Host::with_manager(Manager::Ended).await;
    assert_eq!(code_of(&host).await, "keep.ended");
    let behaviour = Behaviour {
        platforms: Vec::new(),
        ..Behaviour::new()
    };
    assert_eq!(
        code_of(&Host::behaving(behaviour).await).await,
        "host.platform"
    );
    for offer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}",
        "HTTP/1.1 301 Moved\r\nLocation: /v2/offer\r\nContent-Length: 0\r\n\r\n",
        "no HTTP at all\r\n\r\n",
    ] {
        let host = Host::with_manager(Manager::Offer(offer)).await;
        let code = code_of(&host).await;
        assert_eq!(code, "manager.protocol", "{offer}");
        assert!(!host.log.asked("POST "));
    }
}

#[tokio::test]
async fn an_offer_of_thousands_of_platforms_is_read_to_its_limit() {
    let none = PlatformOffer {
        tee: Tee::None,
        backend: Backend::Kvm,
        product: Name::new(&"x".repeat(64)),
        ..Chip::new().offer()
    };
    let mut platforms = vec![none; 10_000];
    platforms.push(Chip::new().offer());
    let behaviour = Behaviour {
        platforms,
        ..Behaviour::new()
    };
    let host = Host::behaving(behaviour).await;
    let run = Tenant::new().deploy(&[&host], MARKER).await;
    let hosts = run.unavailable();
    assert_eq!(hosts[0].code(), "host.platform");
    let text = hosts[0].to_string();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert!(!host.log.asked("POST "), "the last platform was looked at");
}

#[tokio::test]
async fn a_wrong_pin_sends_no_token() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let target = host.target_with(Hex([1; 32]), "secret-token");
    assert_eq!(code_of_target(&host, target).await, "manager.pin");
    host.log.read(|record| assert!(record.bytes.is_empty()));
}

#[tokio::test]
async fn a_refused_token() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let target = host.target_with(host.pin, "another");
    assert_eq!(code_of_target(&host, target).await, "token");
    assert!(!host.log.asked("POST "));
}

#[tokio::test]
async fn nobody_there() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    // A socket that does not listen is bound to it, so that nobody else gets it in the meantime.
    let holder = tokio::net::TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    holder.bind(any).expect("a port");
    let closed = holder.local_addr().expect("an address");
    let url = format!("https://{closed}#sha256={}", host.pin);
    let target = Target::parse(&url, Zeroizing::new("t".to_owned())).expect("a target");
    assert_eq!(
        code_of_target(&host, target.clone()).await,
        "manager.unreachable"
    );
    // The next host is accepted.
    let targets = [target, host.target()];
    let run = Tenant::new().deploy_to(&targets, order(), b"").await;
    assert_eq!(run.deployed().host, host.address.to_string());
    let run = Tenant::new().deploy_to(&[], order(), b"").await;
    assert!(matches!(run.result, Err(DeployError::NoTarget)));
}

/// An overloaded manager closes the connection that has waited longest. However much it has read of a
/// request, even all of it, there is one Keep, and the application runs once.
#[tokio::test]
async fn a_manager_that_drops_connections_is_asked_for_the_same_keep() {
    for heard in [Heard::Nothing, Heard::Handshake, Heard::Request] {
        for first in [1, 3] {
            let host = Host::with_manager(Manager::SendsAway(heard, first)).await;
            let run = Tenant::new().deploy(&[&host], b"in").await;
            assert_eq!(run.stdout, b"in", "{heard:?}");
            let deployed = run.deployed();
            assert_eq!(deployed.resumed, 0, "{heard:?}");
            assert_eq!(host.contracts(), 1, "{heard:?}");
            // Each request as often as necessary: the contract, too, if it was received and not answered.
            let tries = if heard == Heard::Request {
                1 + first
            } else {
                1
            };
            for request in ["GET /v1/offer", "POST /v1/keeps", "GET /v1/collateral/"] {
                assert_eq!(host.log.count(request), tries, "{heard:?}: {request}");
            }
            host.log.read(|record| {
                assert!(record.connections > first, "{heard:?}");
                let sessions = record.requests.iter();
                let sessions = sessions.filter(|line| line.ends_with("/session"));
                assert_eq!(sessions.count(), tries, "{heard:?}");
                let starts = record.frames.iter().filter(|kind| **kind == Kind::Start);
                assert_eq!(starts.count(), 1, "{heard:?}");
            });
            assert!(!host.log.asked("DELETE "), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn a_manager_that_drops_all_connections_is_left_for_the_next() {
    /// The first attempt, and those after it.
    const TRIES: usize = 5;
    for heard in [Heard::Nothing, Heard::Handshake, Heard::Request] {
        let host = Host::with_manager(Manager::SendsAway(heard, usize::MAX)).await;
        assert_eq!(code_of(&host).await, "manager.unanswered", "{heard:?}");
        host.log.read(|record| {
            assert_eq!(record.connections, TRIES, "{heard:?}");
            let offers = if heard == Heard::Request { TRIES } else { 0 };
            assert_eq!(record.requests.len(), offers, "{heard:?}");
        });
        let next = Host::with(Program::Echo, Misbehaviour::None).await;
        let run = Tenant::new().deploy(&[&host, &next], b"").await;
        assert_eq!(run.deployed().host, next.address.to_string());
    }
}

#[tokio::test]
async fn an_invalid_order_reaches_no_host() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let mut wrong = order();
    wrong.files.push(("../climbs".to_owned(), Vec::new()));
    let run = tenant.deploy_to(&[host.target()], wrong, b"").await;
    assert_eq!(run.result.expect_err("no order").code(), "release.value");
    let mut tenant = Tenant::new();
    tenant.trust.policy.version = 9;
    let run = tenant.deploy(&[&host], b"").await;
    assert_eq!(run.result.expect_err("no policy").code(), "policy.usable");
    assert!(!host.log.asked(""));
}

/// EVIDENCE, STARTED, output, END, END, EXIT, RECEIPT, BYE: cut after each and within the next. Before
/// the verdict the host is refused; from then on everything still arrives, exactly once.
#[tokio::test]
async fn a_session_that_is_cut_after_each_frame() {
    let mut resumed = 0;
    for frames in 0..12 {
        let host = Host::with(Program::Echo, Misbehaviour::Cut(frames)).await;
        let run = Tenant::new().deploy(&[&host], b"in").await;
        if frames == 0 {
            let hosts = run.unavailable();
            assert_eq!(hosts[0].code(), "session.truncated");
            assert!(host.log.asked("DELETE "));
            continue;
        }
        assert_eq!(run.stdout, b"in", "{frames}");
        assert_eq!(run.stderr, b"done", "{frames}");
        let deployed = run.deployed();
        assert_eq!(deployed.exit.kind, ExitKind::Exited);
        assert_eq!((deployed.missing_stdout, deployed.missing_stderr), (0, 0));
        assert_eq!(deployed.receipt.body.streams.stdin.bytes, 2);
        assert!(deployed.resumed <= 1);
        resumed += deployed.resumed;
        host.log.read(|record| {
            // It ran once.
            let starts = record.frames.iter().filter(|kind| **kind == Kind::Start);
            assert_eq!(starts.count(), 1, "{frames}");
        });
        assert!(!host.log.asked("DELETE "));
    }
    assert!((5..9).contains(&resumed), "{resumed}");
}

#[tokio::test]
async fn after_the_release_no_other_host_is_asked() {
    for misbehaviour in [Misbehaviour::ReceiptSignature, Misbehaviour::ReceiptStreams] {
        let late = Host::with(Program::Echo, misbehaviour).await;
        let good = Host::with(Program::Echo, Misbehaviour::None).await;
        let failed = Tenant::new().deploy(&[&late, &good], b"").await.failed();
        assert!(failed.started && failed.ticket.is_some());
        good.log.read(|record| assert!(record.requests.is_empty()));
    }
}

#[tokio::test]
async fn an_invalid_or_missing_receipt() {
    for (misbehaviour, code) in [
        (Misbehaviour::ReceiptSignature, "receipt.signature"),
        (Misbehaviour::ReceiptReport, "guest.report-data"),
        (Misbehaviour::ReceiptStreams, "receipt.streams"),
        (Misbehaviour::ReceiptDropped, "session.truncated"),
    ] {
        let host = Host::with(Program::Echo, misbehaviour).await;
        let failed = Tenant::new().deploy(&[&host], b"").await.failed();
        assert_eq!(failed.fault.code(), code);
        assert!(failed.started);
        assert_eq!(failed.exit.map(|exit| exit.code), Some(7));
    }
    // Valid for this session only.
    let host = Host::with(Program::Echo, Misbehaviour::ReceiptWithoutReport).await;
    let deployed = Tenant::new().deploy(&[&host], b"").await.deployed();
    assert!(deployed.receipt_verdict.is_none());
}
