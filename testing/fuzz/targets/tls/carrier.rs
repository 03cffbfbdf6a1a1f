// SPDX-License-Identifier: Apache-2.0

//! Two honest ends of a connection, and a host between them that cuts, changes, drops,
//! repeats and adds bytes as a script says. Nothing panics, and each end reads a prefix of
//! what the other one wrote.

#![cfg_attr(fuzzing, no_main)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use enarx_tls::web::{Client, HTTP1, HTTP2, Server, Session};
use enarx_tls::{Connection, Key};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// 1 June 2026, since the epoch.
const NOW: Duration = Duration::from_hours(494_520);
/// The name of the server.
const NAME: &str = "host.example";
/// Most bytes that are repeated at once.
const REPEATED: usize = 4096;
/// Most steps of a script: each may cost a handshake's arithmetic.
const STEPS: usize = 200;

static KEYS: LazyLock<[Key; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Key::generate().expect("random numbers")));

static WEB: LazyLock<(Client, Server)> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("random numbers");
    let mut parameters = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2040, 1, 1);
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let offered = [HTTP2, HTTP1];
    let clock = Arc::new(|| Some(NOW));
    let issuer: &[u8] = certificate.der();
    (
        Client::new([issuer].into_iter(), &offered, clock).expect("an issuer"),
        Server::new(&[issuer], &key.serialize_der(), &offered).expect("a pair"),
    )
});

/// An end of either kind.
enum Tls {
    Attested(Box<Connection>),
    Web(Box<Session>),
}

struct End {
    tls: Tls,
    /// All that the end has taken from its owner, in order.
    written: Vec<u8>,
    /// All that it has given to its owner.
    read: Vec<u8>,
    /// Bytes for it that the host still has.
    waiting: Vec<u8>,
}

impl End {
    fn new(tls: Tls) -> Self {
        Self {
            tls,
            written: Vec::new(),
            read: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let count = match &mut self.tls {
            Tls::Attested(tls) => tls.write(bytes),
            Tls::Web(tls) => tls.write(bytes),
        };
        self.written.extend(&bytes[..count]);
    }

    /// Moves the bytes for its peer to the host.
    fn give(&mut self, peer: &mut Self) {
        match &mut self.tls {
            Tls::Attested(tls) => {
                let mut room = [0; 4096];
                while tls.has_outgoing() {
                    let count = tls.outgoing(&mut room);
                    peer.waiting.extend(&room[..count]);
                }
            }
            Tls::Web(tls) => tls.outgoing(&mut peer.waiting),
        }
    }

    /// Takes so many bytes from the host, and reads all that they bring.
    fn take(&mut self, count: usize) {
        let bytes: Vec<u8> = self.waiting.drain(..count).collect();
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            let before = (input.len(), self.read.len());
            let alive = match &mut self.tls {
                Tls::Attested(tls) => {
                    let alive = tls.receive(&mut input).is_ok();
                    let mut room = [0; 4096];
                    loop {
                        match tls.read(&mut room) {
                            0 => break,
                            count => self.read.extend(&room[..count]),
                        }
                    }
                    alive
                }
                Tls::Web(tls) => {
                    let alive = tls.receive(&mut input).is_ok();
                    loop {
                        let plaintext = tls.plaintext();
                        if plaintext.is_empty() {
                            break;
                        }
                        self.read.extend(plaintext);
                        let count = plaintext.len();
                        tls.consume(count);
                    }
                    alive
                }
            };
            if !alive {
                break;
            }
            assert_ne!((input.len(), self.read.len()), before, "it stands still");
        }
    }

    fn close(&mut self) {
        match &mut self.tls {
            Tls::Attested(tls) => tls.close(),
            Tls::Web(tls) => tls.close(),
        }
    }

    fn is_connected(&self) -> bool {
        match &self.tls {
            Tls::Attested(tls) => tls.facts().is_some(),
            Tls::Web(tls) => !tls.is_handshaking(),
        }
    }

    fn is_closed_by_peer(&self) -> bool {
        match &self.tls {
            Tls::Attested(tls) => tls.is_closed_by_peer(),
            Tls::Web(tls) => tls.is_closed_by_peer(),
        }
    }
}

/// Checks what one end has of the other.
fn check(end: &End, peer: &End) {
    assert!(peer.written.starts_with(&end.read), "other bytes");
    if end.is_connected() && end.is_closed_by_peer() {
        assert_eq!(end.read, peer.written, "a cut that looks like an end");
    }
    if let (Tls::Attested(one), Tls::Attested(other)) = (&end.tls, &peer.tls)
        && let (Some(one), Some(other)) = (one.facts(), other.facts())
    {
        assert!(one.own == other.peer && one.peer == other.own, "other keys");
    }
}

fn ends(is_web: bool) -> [End; 2] {
    let ends = if is_web {
        let (client, server) = &*WEB;
        let client = client.connect(NAME).expect("a name");
        [
            Tls::Web(Box::new(client)),
            Tls::Web(Box::new(server.accept().expect("a server"))),
        ]
    } else {
        let [tenant, keep] = &*KEYS;
        let admitted = tenant.public();
        let keep = Connection::keep(keep, Arc::new(move |key| *key == admitted));
        let tenant = Connection::tenant(tenant);
        [
            Tls::Attested(Box::new(tenant.expect("a CPU that has it all"))),
            Tls::Attested(Box::new(keep.expect("a CPU that has it all"))),
        ]
    };
    ends.map(End::new)
}

enarx_fuzz::target!(|script: (bool, &[u8])| {
    let (is_web, mut script) = script;
    let [mut one, mut other] = ends(is_web);
    for _ in 0..STEPS {
        let Some(([operation, count], rest)) = script.split_first_chunk() else {
            break;
        };
        script = rest;
        let (end, peer) = if operation & 1 == 0 {
            (&mut one, &mut other)
        } else {
            (&mut other, &mut one)
        };
        peer.give(end);
        let length = end.waiting.len();
        let count = usize::from(*count);
        match operation >> 1 {
            // The ways of an honest network are the most likely.
            0..64 => end.take(length),
            64..72 => end.take(count.min(length)),
            72..80 => {
                if let Some(byte) = end.waiting.get_mut(count) {
                    *byte ^= 1 << (operation >> 1 & 7);
                }
            }
            80..88 => {
                end.waiting.drain(..count.min(length));
            }
            88..92 => end.waiting.extend_from_within(..length.min(REPEATED)),
            92..96 => end.close(),
            96..104 => {
                let (added, rest) = script.split_at(count.min(script.len()));
                end.waiting.extend(added);
                script = rest;
            }
            104..112 => {
                // A record of any type (RFC 8446, section 5.1): handshake, alert, data, and unknown types.
                let (added, rest) = script.split_at(count.min(script.len()));
                let kind = 20 + (operation >> 1 & 7);
                let length = u8::try_from(added.len()).unwrap_or(u8::MAX);
                let head = [kind, 3, 3, 0, length];
                end.waiting.splice(..0, [&head, added].concat());
                script = rest;
            }
            _ => end.write(&[count.to_le_bytes()[0]; 300][..count]),
        }
        check(&one, &other);
        check(&other, &one);
    }
});
