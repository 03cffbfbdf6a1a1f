// SPDX-License-Identifier: Apache-2.0

//! Sessions: bytes in both directions, their ends, and the limits of their number.

use crate::host::{Host, wait, wait_until};
use crate::stand_in;
use enarx_manager_api::{KeepInfo, KeepState, path};
use std::io::{Read, Write};

#[test]
fn bytes_pass_both_ways_and_each_way_ends_separately() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    let mut session = host.connect(&token);
    let answer = session.upgrade(&keep.id);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.headers["upgrade"], "enarx-session");
    assert_eq!(answer.headers["connection"], "upgrade");

    session.stream.write_all(b"first").unwrap();
    session.stream.flush().unwrap();
    let mut echo = [0; 5];
    session.stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"first");
    let info: KeepInfo = client.get(&path::keep(&keep.id)).json();
    assert_eq!(info.state, KeepState::Ready);

    // More than any buffer on the way, in both directions at a time.
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut received = vec![0; sent.len()];
    let mut done = 0;
    for part in sent.chunks(50_000) {
        session.stream.write_all(part).unwrap();
        session.stream.flush().unwrap();
        session
            .stream
            .read_exact(&mut received[done..done + part.len()])
            .unwrap();
        done += part.len();
    }
    assert!(received == sent);
    // By then it seems to have its application.
    let info = wait(&mut client, &keep.id, KeepState::Provisioned);
    assert_eq!(info.state, KeepState::Provisioned);

    // The client's end is forwarded, and the Keep's later output still arrives.
    session.half_close();
    assert_eq!(session.rest(), stand_in::LAST);
    let text = host.client_of_figures().get(path::METRICS).text();
    for direction in ["to-keep", "from-keep"] {
        let line = format!("session_bytes_total{{direction=\"{direction}\"}} 30000");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn a_keep_has_two_sessions_at_a_time() {
    let host = Host::new();
    let token = host.token("anna");
    let keep = host.ready(&mut host.connect(&token));
    let mut first = host.connect(&token);
    let mut second = host.connect(&token);
    assert_eq!(first.upgrade(&keep.id).status, 101);
    assert_eq!(second.upgrade(&keep.id).status, 101);
    let mut third = host.connect(&token);
    let refusal = third.upgrade(&keep.id).refusal();
    assert_eq!(refusal, (429, "session.connections".to_string()));
    // They do not mix.
    for (session, byte) in [(&mut first, b'1'), (&mut second, b'2')] {
        session.stream.write_all(&[byte; 1000]).unwrap();
        session.stream.flush().unwrap();
    }
    for (session, byte) in [(&mut first, b'1'), (&mut second, b'2')] {
        let mut echo = [0; 1000];
        session.stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, [byte; 1000]);
    }
    drop(first);
    wait_until(|| third.upgrade(&keep.id).status == 101);
}

#[test]
fn the_end_of_a_keep_ends_its_sessions() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    let mut session = host.connect(&token);
    assert_eq!(session.upgrade(&keep.id).status, 101);
    session.stream.write_all(stand_in::EXIT).unwrap();
    session.stream.flush().unwrap();
    // Its last bytes arrive.
    assert_eq!(session.rest(), stand_in::EXIT);
    let info = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(
        (info.reason.as_deref(), info.code),
        (Some("exited"), Some(3))
    );
}

#[test]
fn a_revoked_token_is_refused_and_its_sessions_are_cut() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    let mut session = host.connect(&token);
    assert_eq!(session.upgrade(&keep.id).status, 101);
    let other = host.token("berta");
    assert_eq!(client.get(path::OFFER).status, 200);
    host.state.revoke_token("anna").unwrap();
    assert_eq!(client.get(path::OFFER).status, 401);
    let mut byte = [0];
    match session.stream.read(&mut byte) {
        Ok(0) => {}
        Ok(_) => panic!("the session goes on"),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
    // The others stay.
    assert_eq!(host.connect(&other).get(path::OFFER).status, 200);
}
