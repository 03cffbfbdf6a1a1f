// SPDX-License-Identifier: Apache-2.0

//! Two ends and the bytes between them.

use crate::end::End;
use crate::peers::Independent;
use enarx_contract::PublicKey;
use enarx_contract::canonical::Hex;
use enarx_session::binding::Binding;
use enarx_tls::{Connection, Key};
use std::sync::Arc;

impl End for Connection {
    fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut plaintext = Vec::new();
        loop {
            self.receive(&mut bytes)
                .map_err(|error| error.code().to_owned())?;
            plaintext.extend(read(self));
            if bytes.is_empty() {
                return Ok(plaintext);
            }
        }
    }

    fn give(&mut self) -> Vec<u8> {
        outgoing(self)
    }
}

/// All plaintext received so far.
pub fn read(end: &mut Connection) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match end.read(&mut buffer) {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// All bytes for the peer.
pub fn outgoing(end: &mut Connection) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 1000];
    while end.has_outgoing() {
        let count = end.outgoing(&mut buffer);
        assert_ne!(count, 0, "there were bytes");
        all.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(end.outgoing(&mut buffer), 0);
    all
}

/// A Keep's end that admits this key.
pub fn keep_for(key: &Key, tenant: PublicKey) -> Connection {
    Connection::keep(key, Arc::new(move |key| *key == tenant)).expect("a CPU that has it all")
}

/// A Keep's end that admits any key.
pub fn open_keep(key: &Key) -> Connection {
    Connection::keep(key, Arc::new(|_| true)).expect("a CPU that has it all")
}

/// A tenant's end and the end of a Keep that admits it, before the first byte.
pub fn ends() -> (Connection, Connection) {
    let (tenant, keep) = (key(), key());
    let at_keep = keep_for(&keep, tenant.public());
    (
        Connection::tenant(&tenant).expect("a CPU that has it all"),
        at_keep,
    )
}

/// The same after the handshake.
pub fn connected() -> (Connection, Connection) {
    let (mut tenant, mut keep) = ends();
    pump(&mut tenant, &mut keep).expect("both keep to the profile");
    (tenant, keep)
}

pub fn key() -> Key {
    Key::generate().expect("random numbers")
}

/// The end that refused, and its code or text.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    First(String),
    Second(String),
}

/// Carries bytes until both are silent, and returns the plaintext that each received. When one refuses, its last bytes are
/// still carried.
pub fn pump(first: &mut dyn End, second: &mut dyn End) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let mut plaintext = (Vec::new(), Vec::new());
    let mut refused = None;
    loop {
        let up = first.give();
        match second.take(&up) {
            Ok(bytes) => plaintext.1.extend(bytes),
            Err(text) => refused = refused.or(Some(Refused::Second(text))),
        }
        let down = second.give();
        match first.take(&down) {
            Ok(bytes) => plaintext.0.extend(bytes),
            Err(text) => refused = refused.or(Some(Refused::First(text))),
        }
        if up.is_empty() && down.is_empty() {
            return refused.map_or(Ok(plaintext), Err);
        }
    }
}

/// A tenant of ours against an independent server.
pub fn tenant_against(server: &mut Independent) -> (Connection, Result<(), Refused>) {
    let mut tenant = Connection::tenant(&key()).expect("a CPU that has it all");
    let result = pump(&mut tenant, server).map(drop);
    (tenant, result)
}

/// An independent client against a Keep of ours that admits any key.
pub fn keep_against(client: &mut Independent) -> (Connection, Result<(), Refused>) {
    let mut keep = open_keep(&key());
    let result = pump(client, &mut keep).map(drop);
    (keep, result)
}

/// The bytes of the exporter, which only a binding exposes.
pub fn exporter(end: &Connection) -> [u8; 32] {
    let facts = end.facts().expect("a completed handshake");
    let binding = Binding {
        sequence: 1,
        nonce: &[0; 32],
        exporter: &facts.exporter,
        keep: &facts.own,
        tenant: &facts.peer,
        contract: &Hex([0; 32]),
        deployment: None,
    };
    // Its position: SPEC.md of the session, section 4.
    binding.to_bytes()[80..112].try_into().expect("32 bytes")
}
