// SPDX-License-Identifier: Apache-2.0

//! A listener with TLS, at a host that says what the test wants.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use enarx_configuration::sockets::{Peer, ServerTls, Socket};
use enarx_configuration::{Certificate, Identity, PrivateKey};
use enarx_sallyport::{Call, Handle};
use enarx_sallyport_host::liar::{Answer, Liar};
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::port::Port;
use enarx_wasi::sockets::{Listener, Opened, Opener};

/// How long a peer has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time of a test.
const PATIENCE: Duration = Duration::from_mins(1);
/// The handle of the only peer.
const PEER: Handle = Handle(21);

/// The listener of a host with one peer, which says nothing.
fn listener() -> (Port, Liar, Listener) {
    let mut comes = true;
    let (port, host) = Liar::start(move |call, _| match call {
        Call::TcpAccept { .. } => std::mem::take(&mut comes).then(|| Answer::value(PEER.0.into())),
        Call::StreamRead { .. } => None,
        Call::TcpOpen { .. } => Some(Answer::value(20)),
        _ => Some(Answer::default()),
    });
    let names = vec!["keep.example".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let identity = Identity {
        chain: vec![Certificate(own.cert.der().to_vec())],
        key: PrivateKey(own.signing_key.serialize_der().into()),
    };
    let tls = ServerTls {
        identity,
        clients: None,
    };
    let peer = Peer::Listen {
        address: None,
        port: 443,
        tls: Some(tls),
    };
    let opener = Opener {
        port: &port,
        clocks: &Clocks::new(port.clone()),
        issuers: &[],
        budget: &Budget::new(1 << 20),
    };
    let socket = Socket {
        descriptor: 3,
        peer,
    };
    let opened = opener.open(&socket);
    let Ok(Opened::Listener(listener)) = opened.map_err(|error| panic!("{error}")) else {
        panic!("it is connected")
    };
    (port, host, *listener)
}

#[test]
fn a_handshake_has_a_time_limit_while_the_program_is_busy() {
    /// How long the program does something else.
    const ABSENT: Duration = Duration::from_secs(3);
    let (port, host, mut listener) = listener();
    let begun = Instant::now();
    port.block_on(poll_fn(|context| {
        assert!(listener.poll_ready(context).is_pending());
        Poll::Ready(())
    }));
    thread::sleep(ABSENT);
    listener.resume();
    port.block_on(poll_fn(|context| {
        assert!(listener.poll_ready(context).is_pending());
        if host.calls().contains(&Call::Close { handle: PEER }) {
            return Poll::Ready(());
        }
        assert!(!port.poll_deadline(begun + PATIENCE), "it is not given up");
        Poll::Pending
    }));
    let taken = begun.elapsed();
    assert!(taken >= HANDSHAKE + ABSENT, "{taken:?}");
    assert!(taken < 2 * HANDSHAKE, "{taken:?}");
}
