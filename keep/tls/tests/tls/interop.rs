// SPDX-License-Identifier: Apache-2.0

//! An independent peer that follows the profile, on either side.

use crate::end::End;
use crate::pair::{exporter, keep_for, key, pump, tenant_against};
use crate::peers::{Independent, Profile};
use enarx_session::ALPN;
use enarx_tls::Connection;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

/// Checks what the independent peer has negotiated, and that data arrives in both directions.
fn check(ours: &mut Connection, other: &mut Independent) {
    assert_eq!(other.tls.alpn_protocol(), Some(ALPN));
    assert_eq!(other.tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(
        other.tls.negotiated_cipher_suite().unwrap().suite(),
        CipherSuite::TLS13_AES_256_GCM_SHA384
    );
    assert_eq!(
        other.tls.negotiated_key_exchange_group().unwrap().name(),
        NamedGroup::X25519MLKEM768
    );
    assert_eq!(exporter(ours), other.exporter());
    let facts = ours.facts().unwrap();
    assert_eq!((facts.own, facts.peer), (other.peer(), other.public()));
    let large: Vec<u8> = (0..=250).cycle().take(200_000).collect();
    assert_eq!(ours.write(&large), large.len());
    assert!(other.take(&ours.give()).unwrap() == large);
    for part in large.chunks(50_000) {
        other.write(part);
        assert!(ours.take(&other.give()).unwrap() == part);
    }
    other.tls.send_close_notify();
    ours.take(&other.give()).unwrap();
    assert!(ours.is_closed_by_peer());
}

#[test]
fn an_independent_keep() {
    let mut server = Independent::server(&Profile::default());
    let (mut tenant, result) = tenant_against(&mut server);
    assert_eq!(result, Ok(()));
    check(&mut tenant, &mut server);
}

#[test]
fn an_independent_tenant() {
    let mut client = Independent::client(&Profile::default());
    let mut keep = keep_for(&key(), client.public());
    assert_eq!(pump(&mut client, &mut keep).map(drop), Ok(()));
    check(&mut keep, &mut client);
}

#[test]
fn peers_with_more_features_agree_on_the_profile() {
    let more = Profile {
        versions: rustls::ALL_VERSIONS.to_vec(),
        suites: vec![
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ],
        groups: vec![NamedGroup::X25519MLKEM768, NamedGroup::X25519],
        alpn: vec![b"h2".to_vec(), ALPN.to_vec()],
        ..Profile::default()
    };
    let mut server = Independent::server(&more);
    let (mut tenant, result) = tenant_against(&mut server);
    assert_eq!(result, Ok(()));
    check(&mut tenant, &mut server);
    let mut client = Independent::client(&more);
    let mut keep = keep_for(&key(), client.public());
    assert_eq!(pump(&mut client, &mut keep).map(drop), Ok(()));
    check(&mut keep, &mut client);
}

#[test]
fn tickets_are_ignored() {
    let profile = Profile {
        tickets: 2,
        ..Profile::default()
    };
    let mut server = Independent::server(&profile);
    let (mut tenant, result) = tenant_against(&mut server);
    assert_eq!(result, Ok(()));
    check(&mut tenant, &mut server);
}

#[test]
fn keys_may_be_renewed_while_data_flows() {
    let mut server = Independent::server(&Profile::default());
    let (mut tenant, result) = tenant_against(&mut server);
    assert_eq!(result, Ok(()));
    for _ in 0..100 {
        server.tls.refresh_traffic_keys().unwrap();
        server.write(b"data");
        assert_eq!(tenant.take(&server.give()).unwrap(), b"data");
        assert_eq!(tenant.write(b"more"), 4);
        assert_eq!(server.take(&tenant.give()).unwrap(), b"more");
    }
    check(&mut tenant, &mut server);
}
