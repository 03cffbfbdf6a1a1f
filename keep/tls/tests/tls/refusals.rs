// SPDX-License-Identifier: Apache-2.0

//! Peers that violate the profile, on either side.

use crate::pair::{Refused, exporter, keep_against, keep_for, key, pump, tenant_against};
use crate::peers::{Independent, KeyForm, Profile};
use enarx_contract::PublicKey;
use enarx_session::Refusal;
use enarx_tls::{Connection, Fault, TlsError};
use rustls::{CipherSuite, NamedGroup, SignatureScheme};

/// The code with which this end has ended; `None` if it has not.
fn code(end: &mut Connection) -> Option<&'static str> {
    let error = end.receive(&mut [].as_slice()).err()?;
    assert!(end.facts().is_none(), "a refused handshake binds nothing");
    assert_eq!((end.write(b"secret"), end.read(&mut [0; 8])), (0, 0));
    Some(error.code())
}

/// The profile with one change, in the words of the table of refusals.
fn changed() -> Vec<(&'static str, Profile, &'static str)> {
    let change = |name, expected, change: fn(&mut Profile)| {
        let mut profile = Profile::default();
        change(&mut profile);
        (name, profile, expected)
    };
    vec![
        change("no ALPN", "session.alpn", |it| it.alpn.clear()),
        change("another ALPN", "session.alpn", |it| {
            it.alpn = vec![b"h2".to_vec()];
        }),
        change("the next version", "session.alpn", |it| {
            it.alpn = vec![b"enarx-session/2".to_vec()];
        }),
        change("X.509", "session.handshake", |it| it.shows = KeyForm::X509),
        change("no key", "session.handshake", |it| {
            it.shows = KeyForm::Nothing;
        }),
        change("TLS 1.2", "session.handshake", |it| {
            it.versions = vec![&rustls::version::TLS12];
            it.suites = vec![CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384];
            it.groups = vec![NamedGroup::secp256r1];
        }),
        change("AES-128", "session.handshake", |it| {
            it.suites = vec![CipherSuite::TLS13_AES_128_GCM_SHA256];
        }),
        change("ChaCha20", "session.handshake", |it| {
            it.suites = vec![CipherSuite::TLS13_CHACHA20_POLY1305_SHA256];
        }),
        change("X25519", "session.handshake", |it| {
            it.groups = vec![NamedGroup::X25519];
        }),
        change("P-256 for keys", "session.handshake", |it| {
            it.groups = vec![NamedGroup::secp256r1];
        }),
        change("ML-KEM alone", "session.handshake", |it| {
            it.groups = vec![NamedGroup::MLKEM768];
        }),
        change("P-384", "session.handshake", |it| {
            it.algorithm = &rcgen::PKCS_ECDSA_P384_SHA384;
        }),
        change("Ed25519", "session.handshake", |it| {
            it.algorithm = &rcgen::PKCS_ED25519;
        }),
        change("two keys", "session.handshake", |it| it.times = 2),
        change("another signature", "session.handshake", |it| {
            it.asks_for = Some(SignatureScheme::ECDSA_NISTP384_SHA384);
        }),
        change("a key without its private key", "session.handshake", |it| {
            it.stolen = Some(key().public());
        }),
        change("a point off the curve", "session.handshake", |it| {
            it.stolen = Some(PublicKey::from_coordinates(&[1; 32], &[1; 32]));
        }),
    ]
}

#[test]
fn a_keep_refuses_every_other_client() {
    for (name, profile, expected) in changed() {
        let mut client = Independent::client(&profile);
        // It is sent with the end of the handshake, and nobody receives it.
        client.write(b"trust me");
        let (mut keep, _) = keep_against(&mut client);
        assert_eq!(code(&mut keep), Some(expected), "{name}");
    }
    let (mut keep, result) = keep_against(&mut Independent::client(&Profile::default()));
    assert_eq!(
        (code(&mut keep), result),
        (None, Ok(())),
        "the profile itself"
    );
}

#[test]
fn a_tenant_refuses_every_other_server() {
    for (name, profile, expected) in changed() {
        let mut server = Independent::server(&profile);
        server.write(b"trust me");
        let (mut tenant, _) = tenant_against(&mut server);
        assert_eq!(code(&mut tenant), Some(expected), "{name}");
    }
    let (mut tenant, result) = tenant_against(&mut Independent::server(&Profile::default()));
    assert_eq!(
        (code(&mut tenant), result),
        (None, Ok(())),
        "the profile itself"
    );
}

#[test]
fn a_keep_refuses_the_key_of_another_tenant() {
    let mut keep = keep_for(&key(), key().public());
    let mut tenant = Connection::tenant(&key()).unwrap();
    let refused = pump(&mut tenant, &mut keep);
    assert_eq!(refused, Err(Refused::Second("session.tenant".to_owned())));
    assert_eq!(code(&mut keep), Some("session.tenant"));
    // The tenant had finished the handshake and could not know; the alert tells it.
    let error = tenant.receive(&mut [].as_slice()).unwrap_err();
    assert_eq!(error, TlsError::Tenant);
    assert_eq!(error.refusal(), Some(Refusal::Tenant));
    assert_eq!(tenant.write(b"secret"), 0);
}

#[test]
fn a_man_in_the_middle_has_another_exporter_at_each_end() {
    // Both of its ends are genuine connections, and it may even know the tenant's key and the Keep's.
    let (tenant_key, keep_key) = (key(), key());
    let mut tenant = Connection::tenant(&tenant_key).unwrap();
    let mut false_keep = keep_for(&keep_key, tenant_key.public());
    let mut false_tenant = Connection::tenant(&tenant_key).unwrap();
    let mut keep = keep_for(&keep_key, tenant_key.public());
    pump(&mut tenant, &mut false_keep).unwrap();
    pump(&mut false_tenant, &mut keep).unwrap();
    assert_eq!(tenant.facts().unwrap().peer, keep.facts().unwrap().own);
    assert_ne!(exporter(&tenant), exporter(&keep));
}

#[test]
fn refusals_of_session_and_tls_have_the_same_names() {
    let record = TlsError::Record(Fault::Endless);
    for error in [TlsError::Exporter, TlsError::Tenant, record] {
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.code(), error.code());
    }
}
