// SPDX-License-Identifier: Apache-2.0

//! Detached applications that are found again: by the right tenant, in the right Keep, with every byte once; and sessions
//! that are cut.

use crate::support::{MARKER, Run, Targeted, Tenant, contains, order, within};
use enarx_agent::{
    DeployError, Deployed, Detached, Ending, Failed, Fault, Key, Stop, Streams, Ticket, attach,
    deploy, deploy_detached, end_keep, stop_keep,
};
use enarx_contract::{Backend, Tee};
use enarx_hostile_host::host::{Host, TOKEN};
use enarx_hostile_host::keep::{Misbehaviour, Program, flood};
use enarx_session::Refusal;
use enarx_session::document::ExitKind;
use enarx_session::frame::Kind;
use enarx_session::keep::Output;
use enarx_session::tenant::InsecureUnattested;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

fn token() -> Zeroizing<String> {
    Zeroizing::new(TOKEN.to_owned())
}

/// The ticket as another program reads it.
fn stored(ticket: &Ticket) -> Ticket {
    let bytes = ticket.to_bytes().expect("a ticket");
    Ticket::from_bytes(&bytes).expect("the same ticket")
}

async fn detached(tenant: &Tenant, host: &Host) -> Detached {
    let targets = [host.target()];
    let work = deploy_detached(
        &targets,
        order(),
        &tenant.key,
        &tenant.trust,
        tenant,
        &tenant.stop,
    );
    match within(work).await {
        Ok(Ending::Detached(detached)) => *detached,
        other => panic!("not detached: {other:?}"),
    }
}

async fn attached(tenant: &Tenant, ticket: &Ticket, stdin: &[u8]) -> Run {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams {
        stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let work = attach(ticket, token(), &tenant.trust, streams, &tenant.stop);
    let result = within(work).await;
    Run {
        result,
        stdout,
        stderr,
    }
}

#[track_caller]
fn failed(result: Result<Deployed, DeployError>) -> Failed {
    match result {
        Err(DeployError::Failed(failed)) => *failed,
        other => panic!("not failed: {other:?}"),
    }
}

fn count(host: &Host, wanted: Kind) -> usize {
    host.log.read(|record| {
        let frames = record.frames.iter();
        frames.filter(|kind| **kind == wanted).count()
    })
}

#[tokio::test]
async fn a_detached_application_is_found_with_output_and_receipt() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let left = detached(&tenant, &host).await;
    assert!(left.verdict.is_some() && left.started.is_some());
    assert_eq!(left.host, host.address.to_string());
    assert_eq!(host.log.read(|record| record.ended), 1);
    let ticket = stored(&left.ticket);
    assert_eq!(ticket.host(), left.host);
    assert_eq!(*ticket.identity(), left.identity);
    assert_eq!(host.log.deployment().as_ref(), Some(ticket.deployment()));
    assert_eq!(ticket.received(Output::Stdout), 0);
    // Another program: it has only the ticket.
    let input = [b"input ", MARKER].concat();
    let run = attached(&Tenant::new(), &ticket, &input).await;
    assert_eq!(run.stdout, input);
    assert_eq!(run.stderr, b"done");
    let deployed = run.deployed();
    assert_eq!(
        (deployed.exit.kind, deployed.exit.code),
        (ExitKind::Exited, 7)
    );
    assert_eq!(deployed.receipt.body.deployment.0, *ticket.deployment());
    assert_eq!(deployed.identity, left.identity);
    assert!(deployed.verdict.is_some() && deployed.receipt_verdict.is_some());
    assert_eq!(
        (
            deployed.resumed,
            deployed.missing_stdout,
            deployed.missing_stderr
        ),
        (0, 0, 0)
    );
    assert!(!host.log.asked("DELETE "));
    assert_eq!(count(&host, Kind::Start), 1);
    host.log.read(|record| {
        assert_eq!(record.ended, 2);
        assert!(!contains(&record.bytes, MARKER));
        assert_eq!(record.refusals, [""; 0]);
    });
    // The Keep has ended now, and its manager says so.
    let failed = attached(&tenant, &ticket, b"").await.failed();
    assert_eq!(failed.fault.code(), "keep.ended");
    assert!(failed.ticket.is_some());
}

#[tokio::test]
async fn output_of_a_detached_application_is_kept() {
    let host = Host::with(Program::Flood(1_000_000), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let run = attached(&tenant, &ticket, b"").await;
    assert!(run.stdout == flood(0..1_000_000));
    let deployed = run.deployed();
    assert_eq!(deployed.exit.code, 0);
    assert_eq!(deployed.missing_stdout, 0);
}

#[tokio::test]
async fn a_session_cut_during_output_resumes() {
    const TOTAL: usize = 2_000_000;
    let host = Host::with(Program::Flood(TOTAL), Misbehaviour::None).await;
    // Together with the first, as many sessions as a Keep has reports in its burst.
    let cuts = [5, 7, 6];
    host.cut(cuts);
    let run = Tenant::new().deploy(&[&host], b"").await;
    assert!(run.stdout == flood(0..TOTAL));
    let deployed = run.deployed();
    assert_eq!(deployed.resumed as usize, cuts.len());
    assert_eq!(deployed.missing_stdout, 0);
    assert_eq!(deployed.receipt.body.streams.stdout.bytes, TOTAL as u64);
    assert_eq!(count(&host, Kind::Start), 1);
    assert_eq!(count(&host, Kind::Attach), cuts.len());
    // Each session had its own evidence.
    assert_eq!(count(&host, Kind::Attest), cuts.len() + 1);
}

#[tokio::test]
async fn repeated_cuts_are_survived_with_progress() {
    const TOTAL: usize = 2_000_000;
    let host = Host::with(Program::Flood(TOTAL), Misbehaviour::None).await;
    // More than the number of attempts, and more than a Keep has reports in its burst.
    host.cut([4, 6, 5, 4, 6, 5, 4, 6]);
    let run = Tenant::new().deploy(&[&host], b"").await;
    assert!(run.stdout == flood(0..TOTAL));
    let deployed = run.deployed();
    assert!(deployed.resumed >= 4, "{}", deployed.resumed);
    assert_eq!(count(&host, Kind::Attach), deployed.resumed as usize);
    assert_eq!(count(&host, Kind::Start), 1);
}

#[tokio::test]
async fn input_resumes_where_the_keep_received_it() {
    let input: Vec<u8> = flood(0..1_500_000);
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    host.cut([9, 8, 12]);
    let run = Tenant::new().deploy(&[&host], &input).await;
    assert!(run.stdout == input);
    assert_eq!(run.stderr, b"done");
    let deployed = run.deployed();
    assert_eq!(deployed.resumed, 3);
    assert_eq!(deployed.receipt.body.streams.stdin.bytes, 1_500_000);
}

#[tokio::test]
async fn an_attached_session_that_is_cut_resumes() {
    let host = Host::with(Program::Flood(1_000_000), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    host.cut([4, 6]);
    let run = attached(&tenant, &ticket, b"").await;
    assert!(run.stdout == flood(0..1_000_000));
    assert_eq!(run.deployed().resumed, 2);
}

/// EVIDENCE, ATTACHED, STARTED, output, END, END, EXIT, RECEIPT, BYE, of a session with a detached
/// application: cut after each and within the next.
#[tokio::test]
async fn an_attached_session_cut_after_each_frame_loses_nothing() {
    let mut resumed = 0;
    for frames in 0..12 {
        let host = Host::with(Program::Echo, Misbehaviour::None).await;
        let tenant = Tenant::new();
        let ticket = detached(&tenant, &host).await.ticket;
        host.cut([frames]);
        let mut run = attached(&tenant, &ticket, b"in").await;
        if frames == 0 {
            let failed = run.failed();
            assert_eq!(failed.fault.code(), "session.truncated");
            let ticket = failed.ticket.expect("it runs");
            run = attached(&tenant, &stored(&ticket), b"in").await;
        }
        assert_eq!(run.stdout, b"in", "{frames}");
        assert_eq!(run.stderr, b"done", "{frames}");
        let deployed = run.deployed();
        assert_eq!(deployed.exit.code, 7, "{frames}");
        assert_eq!((deployed.missing_stdout, deployed.missing_stderr), (0, 0));
        assert_eq!(deployed.receipt.body.streams.stdin.bytes, 2, "{frames}");
        assert!(deployed.resumed <= 1, "{frames}");
        resumed += deployed.resumed;
        assert_eq!(count(&host, Kind::Start), 1, "{frames}");
    }
    assert!((5..11).contains(&resumed), "{resumed}");
}

#[tokio::test]
async fn a_cut_delivery_is_made_again() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    // EVIDENCE, and credit for a part of the application.
    host.cut([4]);
    let tenant = Tenant::new();
    let mut large = order();
    large.application = vec![7; 8_000_000];
    let run = tenant.deploy_to(&[host.target()], large, b"in").await;
    assert_eq!(run.stdout, b"in");
    let deployed = run.deployed();
    assert_eq!((deployed.resumed, deployed.exit.code), (1, 7));
    assert_eq!(count(&host, Kind::Start), 1);
    assert_eq!(count(&host, Kind::Attach), 0);
}

#[tokio::test]
async fn a_lost_start_is_sent_again() {
    let host = Host::with(Program::Echo, Misbehaviour::Deaf).await;
    let run = Tenant::new().deploy(&[&host], b"in").await;
    assert_eq!(run.stdout, b"in");
    let deployed = run.deployed();
    assert_eq!((deployed.resumed, deployed.exit.code), (1, 7));
    assert_eq!(deployed.receipt.body.streams.stdin.bytes, 2);
    assert_eq!(count(&host, Kind::Start), 1);
    assert_eq!(count(&host, Kind::Attach), 0);
    assert!(!host.log.asked("DELETE "));
}

#[tokio::test]
async fn a_cut_leave_is_tried_again() {
    for frames in 1..3 {
        let host = Host::with(Program::Flood(100_000), Misbehaviour::Cut(frames)).await;
        let tenant = Tenant::new();
        let left = detached(&tenant, &host).await;
        let run = attached(&tenant, &stored(&left.ticket), b"").await;
        assert!(run.stdout == flood(0..100_000), "{frames}");
        assert_eq!(run.deployed().missing_stdout, 0);
    }
}

#[tokio::test]
async fn a_vanished_host_is_a_failure_with_a_ticket() {
    let host = Host::with(Program::Flood(1_000_000), Misbehaviour::None).await;
    host.cut([6]);
    let tenant = Tenant::new();
    let (mut reader, stdout) = tokio::io::duplex(1 << 20);
    let streams = Streams {
        stdin: tokio::io::empty(),
        stdout,
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
    let closing = async {
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let count = reader.read(&mut chunk).await.expect("it is read");
            if all.is_empty() {
                host.close();
            }
            all.extend_from_slice(&chunk[..count]);
            if count == 0 {
                return all;
            }
        }
    };
    let (result, all) = within(async { tokio::join!(work, closing) }).await;
    let failed = failed(result);
    assert_eq!(failed.fault.code(), "manager.unreachable");
    assert!(failed.started && failed.exit.is_none());
    // The ticket records what has arrived.
    let ticket = failed.ticket.expect("it may run");
    assert_eq!(ticket.received(Output::Stdout), all.len() as u64);
    assert!(all == flood(0..all.len()) && !all.is_empty());
}

#[tokio::test]
async fn leaving_a_session_gives_a_ticket() {
    const TOTAL: usize = 3_000_000;
    let host = Host::with(Program::Flood(TOTAL), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let (mut reader, stdout) = tokio::io::duplex(1000);
    let streams = Streams {
        stdin: tokio::io::empty(),
        stdout,
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
    let leaving = async {
        let mut all = vec![0; 400_000];
        reader.read_exact(&mut all).await.expect("it is read");
        tenant.stop.request();
        tenant.stop.request();
        reader.read_to_end(&mut all).await.expect("it is read");
        all
    };
    let (result, mut all) = within(async { tokio::join!(work, leaving) }).await;
    let Err(DeployError::Left { ticket, .. }) = result else {
        panic!("not left: {result:?}");
    };
    assert!(all.len() < TOTAL);
    assert_eq!(ticket.received(Output::Stdout), all.len() as u64);
    let run = attached(&Tenant::new(), &stored(&ticket), b"").await;
    all.extend_from_slice(&run.stdout);
    assert!(all == flood(0..TOTAL));
    let deployed = run.deployed();
    assert_eq!(deployed.missing_stdout, 0);
}

#[tokio::test]
async fn lost_bytes_are_reported() {
    let host = Host::with(Program::Flood(4_000_000), Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    // A first program takes some of it, and detaches.
    let (mut reader, stdout) = tokio::io::duplex(1000);
    let streams = Streams {
        stdin: tokio::io::empty(),
        stdout,
        stderr: tokio::io::sink(),
    };
    let stop = Stop::new(Duration::from_secs(5));
    let first = attach(&ticket, token(), &tenant.trust, streams, &stop);
    let leaving = async {
        let mut all = vec![0; 1_600_000];
        reader.read_exact(&mut all).await.expect("it is read");
        stop.request();
        stop.request();
        reader.read_to_end(&mut all).await.expect("it is read");
        all.len()
    };
    let (result, first) = within(async { tokio::join!(first, leaving) }).await;
    assert!(matches!(result, Err(DeployError::Left { .. })));
    // A second one begins with the old ticket: the Keep no longer has what the first acknowledged.
    let run = attached(&tenant, &ticket, b"").await;
    let received = run.stdout.len();
    assert!(run.stdout == flood(4_000_000 - received..4_000_000));
    let deployed = run.deployed();
    assert_eq!(deployed.missing_stdout, (4_000_000 - received) as u64);
    assert!(deployed.missing_stdout > 0 && deployed.missing_stdout <= first as u64);
}

#[tokio::test]
async fn another_keep_or_another_deployment_is_refused() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let (own, key) = (*ticket.deployment(), host.key());
    let honest: fn(&mut enarx_snp::report::Report) = |_| {};
    let relaunched: fn(&mut enarx_snp::report::Report) = |report| report.report_id[0] ^= 1;
    let other = Key::generate().expect("a key");
    let running = |claimed, bound, change| Misbehaviour::Running {
        claimed,
        bound,
        change,
    };
    for (key, misbehaviour, code, another) in [
        (
            &other,
            running(own, own, honest),
            "session.continuity",
            Some("key"),
        ),
        (
            &key,
            running(own, own, relaunched),
            "session.continuity",
            Some("launch"),
        ),
        (
            &key,
            running([1; 32], [1; 32], honest),
            "session.continuity",
            Some("application"),
        ),
        (
            &key,
            running(own, [1; 32], honest),
            "guest.report-data",
            None,
        ),
        (&key, Misbehaviour::Earlier, "evidence.state", None),
        (&key, Misbehaviour::FormatNone, "evidence.format", None),
    ] {
        host.replace(key.clone(), misbehaviour);
        let failed = attached(&tenant, &ticket, MARKER).await.failed();
        assert_eq!(failed.fault.code(), code);
        let found = match &failed.fault {
            Fault::Session(Refusal::Continuity(part)) => Some(*part),
            _ => None,
        };
        assert_eq!(found, another, "{}", failed.fault);
        assert!(failed.fault.is_evidence_refusal() && failed.started);
        let stopped = stop_keep(&ticket, token(), &tenant.trust, Duration::ZERO).await;
        assert_eq!(stopped.expect_err("another Keep").code(), code);
    }
    host.log.read(|record| {
        assert!(!contains(&record.bytes, MARKER));
        // The honest Keep got one; the others got only ATTEST.
        let others = record.frames.iter().filter(|kind| **kind != Kind::Start);
        assert!(others.clone().all(|kind| *kind == Kind::Attest));
        assert_eq!(others.count(), 13);
    });
    // The honest one is found as before.
    host.replace(key, Misbehaviour::None);
    assert_eq!(
        attached(&tenant, &ticket, b"").await.deployed().exit.code,
        7
    );
}

#[tokio::test]
async fn another_keep_after_a_cut_is_refused() {
    let host = Host::with(Program::Flood(1_000_000), Misbehaviour::Cut(6)).await;
    let key = Key::generate().expect("a key");
    let tenant = Tenant::new();
    let log = host.log.clone();
    let replacing = async {
        let own = loop {
            if let Some(own) = log.deployment() {
                break own;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        host.replace(
            key,
            Misbehaviour::Running {
                claimed: own,
                bound: own,
                change: |_| {},
            },
        );
    };
    let hosts = [&host];
    let work = tenant.deploy(&hosts, b"");
    let (run, ()) = within(async { tokio::join!(work, replacing) }).await;
    assert!(run.stdout == flood(0..run.stdout.len()));
    let failed = run.failed();
    assert_eq!(failed.fault.code(), "session.continuity");
    assert!(failed.started);
}

#[tokio::test]
async fn a_second_program_stops_the_application() {
    let host = Host::with(Program::Wait, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let first = Box::pin(attached(&tenant, &ticket, b""));
    let stopping = async {
        while count(&host, Kind::Attach) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let grace = Duration::from_secs(5);
        stop_keep(&stored(&ticket), token(), &tenant.trust, grace).await
    };
    let (run, stopped) = within(async { tokio::join!(first, stopping) }).await;
    stopped.expect("it has the wish");
    assert_eq!(run.deployed().exit.kind, ExitKind::Stopped);
    assert_eq!(count(&host, Kind::Stop), 1);
    // It did not take over the streams.
    assert_eq!(count(&host, Kind::Attach), 1);
    let again = stop_keep(&ticket, token(), &tenant.trust, Duration::ZERO).await;
    assert_eq!(again.expect_err("it has ended").code(), "keep.ended");
}

#[tokio::test]
async fn a_stop_while_nobody_is_attached() {
    let host = Host::with(Program::Wait, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    stop_keep(&ticket, token(), &tenant.trust, Duration::from_mins(10))
        .await
        .expect("it has the wish");
    // Nobody was attached when it ended.
    let run = attached(&tenant, &ticket, b"").await;
    assert_eq!(run.deployed().exit.kind, ExitKind::Stopped);
}

#[tokio::test]
async fn a_stop_is_sent_again_after_a_cut() {
    let host = Host::with(Program::Wait, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    // EVIDENCE and ATTACHED are forwarded, STARTED is not.
    host.cut([2]);
    let work = attached(&tenant, &ticket, b"");
    let stopping = async {
        while count(&host, Kind::Attach) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tenant.stop.request();
    };
    let (run, ()) = within(async { tokio::join!(work, stopping) }).await;
    let deployed = run.deployed();
    assert_eq!(deployed.exit.kind, ExitKind::Stopped);
    assert_eq!(deployed.resumed, 1);
}

#[tokio::test]
async fn a_second_interrupt_during_a_cut_leaves() {
    let host = Host::with(Program::Wait, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    host.cut([2]);
    let work = attached(&tenant, &ticket, b"");
    let leaving = async {
        while count(&host, Kind::Attach) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // No further connection: the tries go on for many seconds.
        host.close();
        // By then the session is cut; a request to detach before that detaches, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
        tenant.stop.request();
        tenant.stop.request();
        std::time::Instant::now()
    };
    let (run, asked) = within(async { tokio::join!(work, leaving) }).await;
    assert!(matches!(run.result, Err(DeployError::Left { .. })));
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn the_last_attached_session_has_the_streams() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let (stdin, mut typing) = tokio::io::duplex(100);
    let (mut reader, stdout) = tokio::io::duplex(1000);
    let streams = Streams {
        stdin,
        stdout,
        stderr: tokio::io::sink(),
    };
    let first = attach(&ticket, token(), &tenant.trust, streams, &tenant.stop);
    let second = async {
        typing.write_all(b"first ").await.expect("it is read");
        let mut echo = [0; 6];
        reader.read_exact(&mut echo).await.expect("it is echoed");
        attached(&tenant, &ticket, b"second").await
    };
    let both = Box::pin(async { tokio::join!(first, second) });
    let (first, second) = within(both).await;
    let failed = failed(first);
    assert_eq!(failed.fault.code(), "session.replaced");
    let ticket = failed.ticket.expect("it runs on");
    assert_eq!(ticket.received(Output::Stdout), 6);
    // Less than half a window is not acknowledged, so the older ticket's offset holds.
    assert_eq!(second.stdout, b"first second");
    let deployed = second.deployed();
    assert_eq!(deployed.exit.code, 7);
    assert_eq!(deployed.receipt.body.streams.stdin.bytes, 12);
}

#[tokio::test]
async fn a_stop_before_the_application_is_reached_leaves_it_alone() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let other = Tenant::new();
    other.stop.request();
    let run = attached(&other, &ticket, b"").await;
    assert!(matches!(run.result, Err(DeployError::Cancelled)));
    assert_eq!(count(&host, Kind::Stop), 0);
    assert_eq!(
        attached(&tenant, &ticket, b"").await.deployed().exit.code,
        7
    );
}

#[tokio::test]
async fn an_end_by_the_host_is_requested() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let tenant = Tenant::new();
    let ticket = detached(&tenant, &host).await.ticket;
    let wrong = Zeroizing::new("another".to_owned());
    let error = end_keep(&ticket, wrong).await.expect_err("another token");
    assert_eq!(error.code(), "token");
    let illegal = Zeroizing::new("a b".to_owned());
    let error = end_keep(&ticket, illegal).await.expect_err("no token");
    assert_eq!(error.code(), "target.token");
    end_keep(&ticket, token()).await.expect("it is taken");
    let path = format!("DELETE /v1/keeps/{}", ticket.contract().keep_id());
    assert!(host.log.asked(&path));
}

#[tokio::test]
async fn a_keep_without_a_tee_is_found_by_its_key() {
    let host = Host::offering(Tee::None, Backend::Kvm).await;
    let mut tenant = Tenant::new();
    tenant.accepts = vec![Tee::None];
    let mut order = order();
    order.unattested = Some(InsecureUnattested);
    let targets = [host.target()];
    let work = deploy_detached(
        &targets,
        order,
        &tenant.key,
        &tenant.trust,
        &tenant,
        &tenant.stop,
    );
    let Ok(Ending::Detached(left)) = within(work).await else {
        panic!("not detached");
    };
    assert!(left.verdict.is_none());
    let run = attached(&tenant, &stored(&left.ticket), b"in").await;
    assert_eq!(run.stdout, b"in");
    assert!(run.deployed().verdict.is_none());
}

#[tokio::test]
async fn a_ticket_round_trips_or_is_refused() {
    let host = Host::with(Program::Echo, Misbehaviour::None).await;
    let ticket = detached(&Tenant::new(), &host).await.ticket;
    let bytes = ticket.to_bytes().expect("a ticket");
    let code = |bytes: &[u8]| {
        Ticket::from_bytes(bytes)
            .map_err(|error| error.code())
            .err()
    };
    assert_eq!(code(&bytes), None);
    // Every byte counts. A sample is enough here: hashing is slow without optimization.
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        assert!(code(&damaged).is_some(), "{at}");
    }
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(code(&bytes[..length]), Some("ticket.form"));
    }
    let text = String::from_utf8(bytes.to_vec()).expect("JSON");
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let version = changed(r#"{"version":1,"#, r#"{"version":2,"#);
    assert_eq!(code(&version), Some("ticket.version"));
    let newer = br#"{"version":7,"something":"else"}"#;
    assert_eq!(code(newer), Some("ticket.version"));
    let damaged = changed(r#""stdout":0"#, r#""stdout":1"#);
    assert_eq!(code(&damaged), Some("ticket.damaged"));
    let unknown = changed(r#"{"version":1,"#, r#"{"version":1,"x":1,"#);
    assert_eq!(code(&unknown), Some("ticket.form"));
    let spaced = changed(r#"{"version":1,"#, r#"{"version": 1,"#);
    assert_eq!(code(&spaced), Some("ticket.form"));
    assert_eq!(
        code(&[bytes.to_vec(), b"\n".to_vec()].concat()),
        Some("ticket.form")
    );
    let long = vec![b' '; enarx_agent::MAX_TICKET + 1];
    assert_eq!(code(&long), Some("ticket.form"));
    // Nothing in its debug output is secret.
    let key = ticket.key().to_pkcs8().expect("a key");
    let key: [u8; 138] = key.as_slice().try_into().expect("its length");
    let digits = enarx_contract::canonical::Hex(key).to_string();
    assert!(text.contains(&digits));
    assert!(!format!("{ticket:?}").contains(&digits[60..80]));
}
