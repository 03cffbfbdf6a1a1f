// SPDX-License-Identifier: Apache-2.0

//! A component's requests to a server that answers anything: the bytes of its connections, in pieces. The second request goes over
//! the connection of the first, if that was kept.

#![cfg_attr(fuzzing, no_main)]

use std::sync::{LazyLock, Mutex};

use enarx_configuration::Network;
use enarx_http::{Kept, Room, ServerAccess, Trust, ask_twice};
use enarx_sallyport::Call;
use enarx_sallyport_host::liar::{Answer, Liar};
use enarx_wasi::budget::{Allowance, Budget};
use enarx_wasi::clock::Clocks;
use enarx_wasi::port::{Port, Tasks};

/// Bytes that make one out of these: a response with a body, one in pieces, and one that is left to the fuzzer.
const STARTS: [&[u8]; 3] = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 ",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 ",
];

/// The bytes that the server still sends, and how many come at a time.
static SENT: Mutex<(Vec<u8>, usize)> = Mutex::new((Vec::new(), 1));

static PORT: LazyLock<Port> = LazyLock::new(|| {
    let (port, _) = Liar::start(|call, _| {
        Some(match call {
            Call::StreamRead { length, .. } => {
                let (bytes, piece) = &mut *SENT.lock().expect("nobody panics with it");
                let most = usize::try_from(*length).expect("64 bits");
                let rest = bytes.split_off(bytes.len().min(*piece).min(most));
                Answer::bytes(&std::mem::replace(bytes, rest))
            }
            Call::StreamWrite { length, .. } => Answer::value((*length).into()),
            Call::TcpOpen { .. } => Answer::value(20),
            _ => Answer::default(),
        })
    });
    port
});

enarx_fuzz::target!(|script: (u8, u16, &[u8])| {
    let (start, piece, rest) = script;
    let start = STARTS.get(usize::from(start)).copied().unwrap_or_default();
    *SENT.lock().expect("nobody panics with it") =
        ([start, rest].concat(), usize::from(piece).max(1));
    let (tasks, port) = (Tasks::default(), PORT.clone());
    let budget = Budget::new(16 << 20);
    let way = ServerAccess {
        port: port.clone(),
        network: Network {
            tcp: true,
            ..Network::default()
        },
        spawner: tasks.spawner(),
        trust: Trust::new(Vec::new(), Clocks::new(port.clone())),
        kept: Kept::new(&Room::new(budget.clone())),
    };
    let held = Allowance::new(&budget, u64::MAX);
    let most = start.len() + rest.len();
    tasks.run(&port, async move {
        assert!(ask_twice(&way, &held).await <= most);
    });
});
