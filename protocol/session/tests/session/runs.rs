// SPDX-License-Identifier: Apache-2.0

//! Whole sessions between honest ends, over connections that are cut.

use crate::pair::{KeepSide, TenantSide, judged, pump, reattach, running};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, Tenant};
use enarx_session::binding::State;
use enarx_session::deployment::WhenFull;
use enarx_session::document::ExitKind;
use enarx_session::frame::{DATA_CHUNK, Decoder, End, Kind};
use enarx_session::keep::{Connection, Order, Output};
use enarx_session::receipt::{Body, Claims, Receipt};
use enarx_session::tenant::{Outcome, Streams, Wanted};
use enarx_session::{Moment, Refusal, WINDOW, time};
use enarx_session_drivers::fixture::{self, TENANT};
use sha2::{Digest, Sha256};

#[test]
fn an_application_is_delivered_and_run_and_has_a_receipt() {
    let contract = fixture::named();
    let (mut side, mut connection, mut tenant, deployment, _) = running(&contract);
    let (_, values) = fixture::deployment(&contract, b"application");
    assert_eq!(side.delivered, values);
    assert_eq!(tenant.session.stdin(b"question", tenant.now), 8);
    tenant.session.end_stdin();
    assert_eq!(side.keep.write(Output::Stdout, b"answer"), 6);
    assert_eq!(side.keep.write(Output::Stderr, b"note"), 4);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(8));
    assert_eq!(&buffer[..8], b"question");
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(0), "the end");
    side.now = Moment(5000);
    side.exit(ExitKind::Exited, 3);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(
        (tenant.stdout.as_slice(), tenant.stderr.as_slice()),
        (&b"answer"[..], &b"note"[..])
    );
    assert!(tenant.receipt && !side.keep.is_finished());
    tenant.session.bye();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(side.keep.is_finished() && connection.is_closed());
    assert_eq!(side.keep.tick(side.now), Some(Order::End));
    let Ok(Outcome::Complete(receipt)) = tenant.session.finish() else {
        panic!("the session is complete");
    };
    assert_eq!(receipt.body.exit.code, 3);
    assert_eq!(
        (receipt.body.started, receipt.body.ended),
        (fixture::NOW, fixture::NOW + 5)
    );
    assert_eq!(receipt.body.streams.stdin.bytes, 8);
    // Years later, using only the file.
    let receipt = Receipt::decode(&receipt.encode().unwrap()).unwrap();
    let claims = Claims {
        contract: Some(&contract),
        application: Some(&deployment.application.digest.0),
        tenant: Some(&fixture::key(TENANT)),
        ..Claims::default()
    };
    assert_eq!(receipt.verify(&fixture::Marks, &claims), Ok(()));
}

#[test]
fn output_arrives_once_over_connections_that_are_cut_anywhere() {
    // Cut after this many bytes towards the tenant, again and again.
    for cut in [1, 7, 8, 9, 100, 16 << 10, (16 << 10) + 1, 200_000] {
        let (mut side, connection, tenant, _, digest) = running(&fixture::named());
        let identity = *tenant.session.identity();
        side.keep.disconnect(connection, side.now);
        let mut streams = tenant.session.into_streams();
        let written: Vec<u8> = (0..600_000u32)
            .flat_map(u32::to_le_bytes)
            .take(700_000)
            .collect();
        let (mut at, mut received, mut number) = (0, Vec::new(), 1u8);
        while received.len() < written.len() {
            number = number.wrapping_add(1).max(1);
            // The buckets fill up between two attempts.
            side.now = side.now.after(10_000);
            let (mut connection, mut tenant) =
                reattach(&mut side, digest, number, identity, streams).unwrap();
            received.append(&mut tenant.stdout);
            loop {
                at += side.keep.write(Output::Stdout, &written[at..]);
                let down = side.serve(&mut connection, &[]).unwrap();
                let kept = down.len().min(cut.max(received.len() / 8));
                let back = tenant.serve(&down[..kept]).unwrap();
                received.append(&mut tenant.stdout);
                if kept < down.len() || down.is_empty() && back.is_empty() {
                    break;
                }
                side.serve(&mut connection, &back).unwrap();
            }
            side.keep.disconnect(connection, side.now);
            streams = tenant.session.into_streams();
        }
        assert!(received == written, "cut after {cut}");
        assert_eq!(streams.missing(Output::Stdout), 0);
    }
}

#[test]
fn input_arrives_once_over_connections_that_are_cut() {
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    let written: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let (mut at, mut read, mut number) = (0, Vec::new(), 1u8);
    let mut buffer = vec![0; 50_000];
    let mut end = None;
    while end.is_none() {
        at += tenant.session.stdin(&written[at..], tenant.now);
        if at == written.len() {
            tenant.session.end_stdin();
        }
        let up = tenant.serve(&[]).unwrap();
        // A part of it is lost with the connection.
        side.serve(&mut connection, &up[..up.len() * 2 / 3])
            .unwrap();
        match side.keep.read_stdin(&mut buffer) {
            Some(0) => end = Some(()),
            Some(count) => read.extend_from_slice(&buffer[..count]),
            None => {}
        }
        side.keep.disconnect(connection, side.now);
        number = number.wrapping_add(1).max(1);
        side.now = side.now.after(10_000);
        let streams = tenant.session.into_streams();
        (connection, tenant) = reattach(&mut side, digest, number, identity, streams).unwrap();
    }
    assert!(read == written);
}

#[test]
fn a_program_waits_for_a_tenant_that_does_not_read() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    tenant.consumes = false;
    let flood = vec![1; 2 << 20];
    let mut taken = 0;
    for _ in 0..10 {
        taken += side.keep.write(Output::Stdout, &flood);
        pump(&mut side, &mut connection, &mut tenant).unwrap();
    }
    // Output on the way was never acknowledged, so it is kept: the buffer limits it.
    assert_eq!(taken, WINDOW as usize);
    assert_eq!(tenant.stdout.len(), WINDOW as usize);
    // Standard error is another stream.
    assert_eq!(side.keep.write(Output::Stderr, b"still here"), 10);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(tenant.stderr, b"still here");
    tenant.session.consumed(Output::Stdout, tenant.stdout.len());
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(side.keep.write(Output::Stdout, &flood), WINDOW as usize);
}

#[test]
fn dropped_output_is_counted_and_reported() {
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).unwrap();
    let (mut deployment, values) = fixture::smallest(&contract, b"a");
    deployment.detached.when_full = WhenFull::Drop;
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    side.keep.write(Output::Stdout, b"first");
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let identity = *tenant.session.identity();
    side.keep.disconnect(connection, side.now);
    let digest = Digest::finalize(<Sha256 as Digest>::new_with_prefix(
        deployment.encode().unwrap(),
    ));
    // "first" was received, and never acknowledged.
    assert_eq!(side.keep.write(Output::Stdout, &[0; 100]), 100);
    assert_eq!(
        side.keep.write(Output::Stdout, &vec![1; WINDOW as usize]),
        WINDOW as usize
    );
    let streams = tenant.session.into_streams();
    let (mut connection, mut tenant) =
        reattach(&mut side, digest.into(), 2, identity, streams).unwrap();
    assert!(tenant.stdout == vec![1; WINDOW as usize]);
    assert_eq!(tenant.session.streams().missing(Output::Stdout), 100);
    side.exit(ExitKind::Exited, 0);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let Ok(Outcome::Complete(receipt)) = tenant.session.finish() else {
        panic!("the session is complete");
    };
    assert_eq!(
        receipt.body.streams.stdout.dropped, 105,
        "as far as the Keep knew"
    );
    assert_eq!(receipt.body.streams.stdout.bytes, 105 + u64::from(WINDOW));
}

#[test]
fn a_session_that_is_cut_is_never_complete() {
    let (mut side, mut connection, tenant, _, digest) = running(&fixture::named());
    side.keep.write(Output::Stdout, b"answer");
    side.exit(ExitKind::Exited, 0);
    let down = side.serve(&mut connection, &[]).unwrap();
    let identity = *tenant.session.identity();
    let streams = tenant.session.into_streams();
    for cut in 0..down.len() {
        // Another connection each time: without a goodbye the Keep still has everything.
        side.now = side.now.after(10_000);
        let (mut connection, session) = judged(
            &mut side,
            TENANT,
            2,
            Wanted::Running(digest),
            Some(identity),
        )
        .unwrap();
        let mut tenant = TenantSide::new(session.session);
        let streams = Streams::after(streams.seen(Output::Stdout), streams.seen(Output::Stderr));
        tenant.session.attach(streams, tenant.now).unwrap();
        let up = tenant.serve(&[]).unwrap();
        let down = side.serve(&mut connection, &up).unwrap();
        assert!(cut < down.len());
        tenant.serve(&down[..cut]).unwrap();
        side.keep.disconnect(connection, side.now);
        assert_eq!(
            tenant.session.finish(),
            Err(Refusal::Truncated),
            "cut after {cut}"
        );
    }
    assert!(!side.keep.is_finished());
    let (mut connection, mut again) = reattach(&mut side, digest, 3, identity, streams).unwrap();
    assert_eq!(again.stdout, b"answer");
    again.session.bye();
    pump(&mut side, &mut connection, &mut again).unwrap();
    assert!(matches!(again.session.finish(), Ok(Outcome::Complete(_))));
    assert!(side.keep.is_finished());
}

#[test]
fn an_application_runs_on_after_its_tenant_leaves() {
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    tenant.session.bye();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(connection.is_closed() && !side.keep.is_finished());
    assert_eq!(tenant.session.finish(), Ok(Outcome::Detached));
    side.keep.disconnect(connection, side.now);
    side.keep.write(Output::Stdout, b"alone");
    // It stops by itself if no tenant returns.
    assert_eq!(side.keep.tick(Moment(59_999)), None);
    side.now = Moment(50_000);
    let streams = Streams::after(0, 0);
    let (connection, tenant) = reattach(&mut side, digest, 2, identity, streams).unwrap();
    assert_eq!(tenant.stdout, b"alone");
    assert_eq!(side.keep.tick(Moment(200_000)), None, "somebody is there");
    side.keep.disconnect(connection, Moment(200_000));
    assert_eq!(side.keep.tick(Moment(259_999)), None);
    assert_eq!(side.keep.tick(Moment(260_000)), Some(Order::Stop));
    assert_eq!(
        side.keep.read_stdin(&mut [0]),
        Some(0),
        "its input has ended"
    );
    assert_eq!(side.keep.tick(Moment(269_999)), None);
    assert_eq!(
        side.keep.tick(Moment(270_000)),
        Some(Order::Kill(ExitKind::Stopped))
    );
    side.now = Moment(270_000);
    side.exit(ExitKind::Stopped, 0);
    assert_eq!(
        side.keep.tick(Moment(270_001)),
        Some(Order::End),
        "nobody fetches it"
    );
}

#[test]
fn stop_gives_the_application_only_its_grace_period() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    side.now = Moment(1000);
    tenant.session.stop(500).unwrap();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(side.stopped);
    assert_eq!(
        side.keep.read_stdin(&mut [0]),
        Some(0),
        "its input has ended"
    );
    // Input that is still in flight is not an error.
    tenant.session.stdin(b"late", tenant.now);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(side.keep.tick(Moment(1499)), None);
    // A later, longer grace period does not prolong it.
    tenant.session.stop(60_000).unwrap();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(
        side.keep.tick(Moment(1500)),
        Some(Order::Kill(ExitKind::Stopped))
    );
    assert_eq!(side.keep.tick(Moment(1501)), None, "once");
}

#[test]
fn an_application_may_be_stopped_without_taking_its_streams() {
    let (mut side, mut first, mut owner, _, digest) = running(&fixture::named());
    let identity = *owner.session.identity();
    let wanted = Wanted::Running(digest);
    let (mut second, mut other) = judged(&mut side, TENANT, 2, wanted, Some(identity)).unwrap();
    other.session.stop(1000).unwrap();
    pump(&mut side, &mut second, &mut other).unwrap();
    assert!(side.stopped);
    side.keep.write(Output::Stdout, b"last words");
    pump(&mut side, &mut first, &mut owner).unwrap();
    assert_eq!(owner.stdout, b"last words");
}

#[test]
fn the_last_attached_session_has_the_streams() {
    let (mut side, mut first, mut old, _, digest) = running(&fixture::named());
    let identity = *old.session.identity();
    side.keep.write(Output::Stdout, b"one");
    pump(&mut side, &mut first, &mut old).unwrap();
    let streams = Streams::after(3, 0);
    let (mut second, mut new) = reattach(&mut side, digest, 2, identity, streams).unwrap();
    side.keep.write(Output::Stdout, b"two");
    pump(&mut side, &mut second, &mut new).unwrap();
    assert_eq!(new.stdout, b"two");
    assert_eq!(side.serve(&mut first, &[]), Err(Refusal::Replaced));
    let Err(refusal) = drain_refusal(&mut side, &mut first, &mut old) else {
        panic!("the old one goes on");
    };
    assert_eq!(refusal.code(), "session.replaced");
    assert!(first.is_closed());
    assert_eq!(old.stdout, b"one", "and nothing of the rest");
    side.keep.disconnect(first, side.now);
    assert_eq!(side.keep.write(Output::Stdout, b"three"), 5);
    pump(&mut side, &mut second, &mut new).unwrap();
    assert_eq!(new.stdout, b"twothree");
}

fn drain_refusal(
    side: &mut KeepSide,
    connection: &mut Connection,
    tenant: &mut TenantSide,
) -> Result<(), Refusal> {
    let bytes = connection.outgoing(&mut side.keep, side.now).to_vec();
    connection.sent(bytes.len());
    tenant.serve(&bytes).map(|_| ())
}

#[test]
fn a_cut_release_begins_again() {
    let contract = fixture::open();
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).unwrap();
    let (deployment, values) = fixture::deployment(&contract, &vec![1; WINDOW as usize + 300_000]);
    tenant.release(&deployment, values.clone());
    let up = tenant.serve(&[]).unwrap();
    side.serve(&mut connection, &up).unwrap();
    assert!(!side.started);
    side.keep.disconnect(connection, side.now);
    let digest = [0; 32];
    // Nothing ran, so another deployment is allowed.
    let (mut connection, mut tenant) =
        judged(&mut side, TENANT, 2, Wanted::Either(digest), None).unwrap();
    assert_eq!(tenant.session.state(), State::Unprovisioned);
    let (deployment, values) = fixture::deployment(&contract, b"another");
    tenant.release(&deployment, values.clone());
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(side.started);
    assert!(side.delivered == values);
    // The Keep belongs to the first that released to it.
    assert!(!side.keep.admits(&fixture::key(fixture::OTHER_TENANT)));
    let other = side.connect(fixture::OTHER_TENANT, 3);
    assert_eq!(other.err(), Some(Refusal::Tenant));
}

#[test]
fn a_lost_start_is_sent_again_with_the_input_behind_it() {
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (connection, mut tenant) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).unwrap();
    let identity = *tenant.session.identity();
    let (deployment, values) = fixture::deployment(&contract, b"application");
    tenant.release(&deployment, values.clone());
    let lost = tenant.serve(&[]).unwrap();
    assert!(!lost.is_empty());
    assert_eq!(tenant.session.state(), State::Provisioned);
    assert_eq!(tenant.session.stdin(b"question", tenant.now), 8);
    tenant.session.end_stdin();
    assert!(!tenant.serve(&[]).unwrap().is_empty());
    side.keep.disconnect(connection, side.now);
    let streams = tenant.session.into_streams();
    let digest = Sha256::digest(deployment.encode().unwrap()).into();
    let (mut connection, mut tenant) =
        judged(&mut side, TENANT, 2, Wanted::Either(digest), Some(identity)).unwrap();
    assert_eq!(tenant.session.state(), State::Unprovisioned);
    let now = tenant.now;
    let of_another = tenant
        .session
        .release_again(&deployment, Streams::after(1, 0), now);
    assert_eq!(of_another, Err(Refusal::Continuity("application")));
    tenant.release_again(&deployment, values, streams);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(side.started);
    let mut buffer = [0; 16];
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(8));
    assert_eq!(&buffer[..8], b"question");
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(0), "the end");
}

#[test]
fn a_verdict_expires_and_a_new_one_takes_its_place() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    let later = tenant.session.expires();
    tenant.now = later;
    side.now = later;
    // Between the two there were signs of life.
    assert_eq!(tenant.session.stdin(b"too late", tenant.now), 0);
    tenant.session.reattest([3; 32], later).unwrap();
    assert_eq!(tenant.session.reattest([3; 32], later), Err(Refusal::Busy));
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(tenant.session.stdin(b"in time", tenant.now), 7);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(7));
}

#[test]
fn nothing_is_sent_under_an_expired_verdict() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    let later = tenant.session.expires();
    (tenant.now, side.now) = (later, later);
    tenant.session.end_stdin();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(side.keep.read_stdin(&mut buffer), None);
    tenant.session.reattest([3; 32], later).unwrap();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(0), "the end");
}

#[test]
fn keep_alives_are_sent_and_a_dead_peer_is_detected() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    for round in 1..10 {
        let now = Moment(round * time::KEEP_ALIVE);
        (side.now, tenant.now) = (now, now);
        assert!(connection.deadline() <= now && tenant.session.deadline() <= now);
        connection.tick(&mut side.keep, now).unwrap();
        tenant.session.tick(now).unwrap();
        pump(&mut side, &mut connection, &mut tenant).unwrap();
    }
    let dead = side.now.after(time::DEAD);
    let refusal = connection.tick(&mut side.keep, dead);
    assert_eq!(
        refusal.map_err(|refusal| refusal.code().to_owned()),
        Err("session.timeout".to_owned())
    );
    let refusal = tenant.session.tick(dead);
    assert_eq!(
        refusal.map_err(|refusal| refusal.code().to_owned()),
        Err("session.timeout".to_owned())
    );
    assert_eq!(tenant.session.finish(), Err(Refusal::Truncated));
}

/// A host that stops the Keep's counter: none of the Keep's time limits ever expire, but all of the tenant's do.
#[test]
fn a_stopped_counter_does_not_prolong_a_verdict() {
    let name = |refusal: Refusal| refusal.code().to_owned();
    // A Keep without output shows no sign of life, because its time never comes.
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    let standing = side.now;
    connection.tick(&mut side.keep, standing).unwrap();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let dead = tenant.session.tick(tenant.now.after(time::DEAD));
    assert_eq!(dead.map_err(name), Err("session.timeout".to_owned()));

    // A Keep that answers gives its burst of evidence, and then none, because no time passes.
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    tenant.session.stop(1000).unwrap();
    let mut verdicts = 1;
    let refusal = loop {
        tenant.now = tenant.session.expires();
        tenant.session.reattest([3; 32], tenant.now).unwrap();
        match pump(&mut side, &mut connection, &mut tenant) {
            Ok(()) => verdicts += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((name(refusal), verdicts), ("evidence.busy".to_owned(), 4));
    assert_eq!(tenant.session.stdin(b"too late", tenant.now), 0);
    let wanted = Wanted::Running(digest);
    let again = judged(&mut side, TENANT, 9, wanted, Some(identity));
    let again = again.map(|_| ()).map_err(name);
    assert_eq!(again, Err("evidence.busy".to_owned()));
    // Nothing that only the Keep times arrives: hours ago it was told to end the application after a second.
    assert!(side.stopped && side.keep.grace_left(standing) == Some(1000));
    assert_eq!(side.keep.tick(standing), None);
}

#[test]
fn an_unwanted_keep_ends() {
    let mut side = KeepSide::new(fixture::open());
    assert_eq!(side.keep.tick(Moment(59_999)), None);
    assert_eq!(side.keep.tick(Moment(60_000)), Some(Order::End));
    assert!(side.keep.is_finished());
    assert_eq!(side.connect(TENANT, 1).err(), Some(Refusal::Full));
}

/// A Keep that may wait a day for its application, and the tenant that got its evidence at 7 s.
fn claimed() -> (KeepSide, Connection, TenantSide) {
    let mut terms = fixture::terms(Tenant::Open);
    terms.times.unprovisioned_seconds = 86_400;
    let mut side = KeepSide::new(Contract::new(terms).unwrap());
    side.now = Moment(7_000);
    let (connection, tenant) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).unwrap();
    (side, connection, tenant)
}

#[test]
fn a_keep_without_contact_ends_before_its_contract() {
    let (mut side, connection, _) = claimed();
    side.keep.disconnect(connection, side.now);
    let end = side.now.after(time::RELEASE);
    assert_eq!(side.keep.deadline(), Some(end));
    // Further evidence is not a reason to wait longer.
    side.now = Moment(300_000);
    let (connection, _) = judged(&mut side, TENANT, 2, Wanted::Fresh, None).unwrap();
    assert_eq!(side.keep.tick(Moment(end.0 - 1)), None);
    assert!(!side.keep.is_release_overdue(Moment(end.0 - 1)));
    assert_eq!(side.keep.tick(end), Some(Order::End));
    assert!(side.keep.is_release_overdue(end));
    drop(connection);
}

#[test]
fn a_cut_delivery_is_awaited_again() {
    let (mut side, mut connection, mut tenant) = claimed();
    let contract = side.keep.contract().clone();
    let (deployment, values) = fixture::deployment(&contract, b"application");
    tenant.release(&deployment, values);
    let first = tenant.serve(&[]).unwrap();
    // Up to the deployment itself, which is announced but not complete.
    side.serve(&mut connection, &first[..200]).unwrap();
    assert_eq!(side.keep.deadline(), None);
    side.now = side.now.after(2 * time::RELEASE);
    assert_eq!(side.keep.tick(side.now), None);
    side.keep.disconnect(connection, side.now);
    let end = side.now.after(time::RELEASE);
    assert_eq!(side.keep.deadline(), Some(end));
    assert_eq!(side.keep.tick(end), Some(Order::End));
}

#[test]
fn the_contract_bounds_the_time_of_an_application() {
    let (mut side, connection, ..) = running(&fixture::named());
    assert_eq!(side.keep.tick(Moment(86_399_999)), None);
    assert_eq!(
        side.keep.tick(Moment(86_400_000)),
        Some(Order::Kill(ExitKind::Expired))
    );
    drop(connection);
}

/// Native code has its report first: its Keep gives no more evidence, its verdict is valid until the end of its only
/// session, and the reader of its receipt has to accept the code's own claims explicitly.
#[test]
fn native_code_has_its_report_before_it_runs_and_one_session() {
    let contract = fixture::named();
    let (mut deployment, values) = fixture::deployment(&contract, b"application");
    deployment.source = Some(Hex([0x77; 32]));
    // Nobody could return to it.
    let refused = deployment.encode().unwrap_err();
    assert_eq!(refused.code(), "release.value");
    deployment.detached.seconds = 0;

    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) =
        judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    assert_eq!(side.keep.last_report(), None);
    tenant.release(&deployment, values);
    assert!(!tenant.session.is_native());
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    assert!(side.started && tenant.session.is_native());
    let last = side.keep.last_report().expect("it is native code");
    side.start();

    // No evidence, neither for this connection nor for a new one.
    assert_eq!(
        tenant.session.reattest([3; 32], tenant.now),
        Err(Refusal::Native)
    );
    assert_eq!(tenant.session.expires(), Moment(u64::MAX));
    let mut other = side.connect(TENANT, 2).expect("room");
    let attest = format!(r#"{{"version":1,"seq":1,"nonce":"{}"}}"#, Hex([1; 32]));
    let attest = enarx_session::frame::encode(
        Kind::Attest,
        enarx_session::frame::CONTROL,
        attest.as_bytes(),
    )
    .unwrap();
    let refused = side.serve(&mut other, &attest).unwrap_err();
    assert_eq!(refused.code(), "evidence.native");
    side.keep.disconnect(other, side.now);

    side.keep.write(Output::Stdout, b"answer");
    assert!(!side.keep.has_exited());
    side.exit(ExitKind::Exited, 3);
    assert!(side.keep.has_exited());
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    tenant.session.bye();
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let Ok(Outcome::Complete(receipt)) = tenant.session.finish() else {
        panic!("the session is complete");
    };
    assert_eq!(receipt.body.source, deployment.source);
    // The report is the one made before.
    assert_eq!(receipt.body.report_data(), Ok(last));
    let claims = Claims {
        contract: Some(&contract),
        application: Some(&deployment.application.digest.0),
        tenant: Some(&fixture::key(TENANT)),
        ..Claims::default()
    };
    assert_eq!(
        receipt.verify(&fixture::Marks, &claims),
        Err(Refusal::Receipt("receipt.precompiled"))
    );
    let enough = Claims {
        precompiled: true,
        ..claims
    };
    assert_eq!(receipt.verify(&fixture::Marks, &enough), Ok(()));
    // The code can use the key, but not the report: facts from before it ran cannot change.
    for change in [
        (|body: &mut Body| body.source = None) as fn(&mut Body),
        |body| body.source = Some(Hex([0x78; 32])),
        |body| body.application = Hex([1; 32]),
        |body| body.deployment = Hex([1; 32]),
    ] {
        let mut forged = (*receipt).clone();
        change(&mut forged.body);
        let input = forged.body.signing_input().unwrap();
        forged.signature = fixture::sign(fixture::KEEP, &input);
        let all = Claims {
            precompiled: true,
            ..Claims::default()
        };
        let refused = forged.verify(&fixture::Marks, &all).unwrap_err();
        assert_eq!(refused.code(), "guest.report-data");
    }
}

#[test]
fn native_code_whose_session_is_cut_is_stopped_at_once() {
    let contract = fixture::named();
    let (mut deployment, values) = fixture::deployment(&contract, b"application");
    deployment.source = Some(Hex([0x77; 32]));
    deployment.detached.seconds = 0;
    let mut side = KeepSide::new(contract);
    let (mut connection, mut tenant) =
        judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    side.keep.disconnect(connection, side.now);
    assert_eq!(side.keep.tick(side.now), Some(Order::Stop));
    side.now = side.now.after(time::OWN_GRACE.into());
    assert_eq!(
        side.keep.tick(side.now),
        Some(Order::Kill(ExitKind::Stopped))
    );
}

/// Makes an application write 32 MiB to an output of which this many bytes are kept; returns how often it waited, and the
/// frames that carried its output.
fn waits_and_frames(buffer_bytes: u32) -> (usize, usize) {
    const ALL: usize = 32 << 20;
    let piece = vec![7; 64 << 10];
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).unwrap();
    let (mut deployment, values) = fixture::deployment(&contract, b"application");
    deployment.detached.buffer_bytes = buffer_bytes;
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).unwrap();
    let (mut waits, mut frames) = (0, 0);
    let (mut decoder, mut up) = (Decoder::new(End::Keep), Vec::new());
    let mut carry = |side: &mut KeepSide, tenant: &mut TenantSide| {
        let down = side.serve(&mut connection, &up).unwrap();
        let mut rest = down.as_slice();
        while let Some(frame) = decoder.take(&mut rest).unwrap() {
            frames += usize::from(frame.kind == Kind::Data);
        }
        up = tenant.serve(&down).unwrap();
    };
    let mut written = 0;
    while written < ALL {
        let taken = side.keep.write(Output::Stdout, &piece);
        written += taken;
        if taken == 0 {
            waits += 1;
            while !side.keep.has_room(Output::Stdout) {
                carry(&mut side, &mut tenant);
            }
        }
    }
    while tenant.stdout.len() < written {
        carry(&mut side, &mut tenant);
    }
    (waits, frames)
}

#[test]
fn a_larger_output_buffer_makes_a_program_wait_less_often() {
    let (little, frames) = waits_and_frames(WINDOW);
    let (much, also_frames) = waits_and_frames(4 * WINDOW);
    // It continues when half of the buffer is free: after 1 MiB here, where a window is taken at once, and after 2.
    assert_eq!((little, much), (31, 14));
    // Each frame fills a TLS record, except the last before a credit.
    let full = (32 << 20) / DATA_CHUNK;
    for frames in [frames, also_frames] {
        assert!((full..=full + 32).contains(&frames), "{frames}");
    }
}
