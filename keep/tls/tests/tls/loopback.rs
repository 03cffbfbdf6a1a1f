// SPDX-License-Identifier: Apache-2.0

//! Both ends are ours, and honest.

use crate::end::End;
use crate::pair::{connected, ends, exporter, key, open_keep, outgoing, pump, read};
use enarx_tls::{Connection, MAX_BUFFERED};

#[test]
fn both_ends_get_the_same_facts() {
    let (tenant_key, keep_key) = (key(), key());
    let mut tenant = Connection::tenant(&tenant_key).unwrap();
    let mut keep = open_keep(&keep_key);
    assert!(tenant.facts().is_none() && keep.facts().is_none());
    assert!(tenant.has_outgoing() && !keep.has_outgoing());
    pump(&mut tenant, &mut keep).unwrap();
    let (at_tenant, at_keep) = (tenant.facts().unwrap(), keep.facts().unwrap());
    assert_eq!(
        (at_tenant.own, at_tenant.peer),
        (tenant_key.public(), keep_key.public())
    );
    assert_eq!(
        (at_keep.own, at_keep.peer),
        (keep_key.public(), tenant_key.public())
    );
    assert_eq!(exporter(&tenant), exporter(&keep));
}

#[test]
fn every_connection_has_a_different_exporter() {
    let (tenant_key, keep_key) = (key(), key());
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut tenant = Connection::tenant(&tenant_key).unwrap();
        let mut keep = open_keep(&keep_key);
        pump(&mut tenant, &mut keep).unwrap();
        let exporter = exporter(&tenant);
        assert!(!seen.contains(&exporter));
        seen.push(exporter);
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_is_complete() {
    let (mut tenant, mut keep) = ends();
    assert_eq!((tenant.write(b"early"), keep.write(b"early")), (0, 0));
    keep.take(&tenant.give()).unwrap();
    assert_eq!((keep.write(b"early"), keep.facts().is_none()), (0, true));
    let plaintext = pump(&mut keep, &mut tenant).unwrap();
    assert_eq!(plaintext, (Vec::new(), Vec::new()));
    assert_eq!((tenant.write(b"now"), keep.write(b"now")), (3, 3));
    let plaintext = pump(&mut keep, &mut tenant).unwrap();
    assert_eq!(plaintext, (b"now".to_vec(), b"now".to_vec()));
}

/// The types of a ClientHello's extensions (RFC 8446, section 4.1.2).
fn extensions(hello: &[u8]) -> Vec<u16> {
    let u16_at = |at: usize| u16::from_be_bytes([hello[at], hello[at + 1]]);
    // Headers of record and message, version, random; session, suites, compressions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    assert_eq!((u16_at(at), u16_at(at + 2)), (2, 0x1302), "one suite");
    at += 4;
    at += 1 + usize::from(hello[at]);
    let end = at + 2 + usize::from(u16_at(at));
    at += 2;
    let mut types = Vec::new();
    while at < end {
        types.push(u16_at(at));
        at += 4 + usize::from(u16_at(at + 2));
    }
    types.sort_unstable();
    types
}

#[test]
fn the_first_flight_offers_only_the_profile() {
    let (mut tenant, mut keep) = ends();
    let hello = outgoing(&mut tenant);
    // status_request, supported_groups, ec_point_formats, signature_algorithms, ALPN, client_ and
    // server_certificate_type, extended_master_secret,
    // supported_versions, psk_key_exchange_modes, key_share. No server_name (0), session_ticket (35), pre_shared_key (41),
    // early_data (42).
    assert_eq!(
        extensions(&hello),
        [5, 10, 11, 13, 16, 19, 20, 23, 43, 45, 51]
    );
    keep.take(&hello).unwrap();
    tenant.take(&outgoing(&mut keep)).unwrap();
    keep.take(&outgoing(&mut tenant)).unwrap();
    assert!(keep.facts().is_some());
    assert!(!keep.has_outgoing(), "no tickets");
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let (mut tenant, mut keep) = ends();
    let mut at_keep = Vec::new();
    let mut said = false;
    loop {
        let (up, down) = (tenant.give(), keep.give());
        if up.is_empty() && down.is_empty() {
            if said {
                break;
            }
            said = true;
            assert_eq!(tenant.write(b"a question"), 10);
        }
        for byte in up {
            at_keep.extend(keep.take(&[byte]).unwrap());
        }
        for byte in down {
            assert_eq!(tenant.take(&[byte]).unwrap(), b"");
        }
    }
    assert_eq!(at_keep, b"a question");
    assert_eq!(exporter(&tenant), exporter(&keep));
}

#[test]
fn much_is_carried_both_ways_and_little_is_buffered() {
    let (mut tenant, mut keep) = connected();
    let up: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    let down: Vec<u8> = up.iter().map(|byte| byte ^ 0x55).collect();
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut at_keep, mut at_tenant) = (Vec::new(), Vec::new());
    while at_keep.len() < up.len() || at_tenant.len() < down.len() {
        sent_up += tenant.write(&up[sent_up..]);
        sent_down += keep.write(&down[sent_down..]);
        // Nobody reads it, so there is no room for more than this.
        assert_eq!(tenant.write(&up[sent_up..]), 0);
        let (up, down) = (tenant.give(), keep.give());
        for bytes in [&up, &down] {
            assert!(bytes.len() <= MAX_BUFFERED + MAX_BUFFERED / 100);
        }
        at_keep.extend(keep.take(&up).unwrap());
        at_tenant.extend(tenant.take(&down).unwrap());
    }
    assert_eq!(at_keep, up);
    assert_eq!(at_tenant, down);
}

#[test]
fn nothing_is_received_while_plaintext_waits() {
    let (mut tenant, mut keep) = connected();
    assert_eq!(tenant.write(&vec![7; 100_000]), 100_000);
    let bytes = outgoing(&mut tenant);
    let mut input = bytes.as_slice();
    keep.receive(&mut input).unwrap();
    let left = input.len();
    assert!(left > 60_000, "{left}: two records at most are taken");
    keep.receive(&mut input).unwrap();
    assert_eq!(input.len(), left);
    let mut received = read(&mut keep).len();
    while !input.is_empty() {
        keep.receive(&mut input).unwrap();
        received += read(&mut keep).len();
    }
    assert_eq!(received, 100_000);
}

#[test]
fn a_closed_connection_is_complete_and_a_cut_one_is_not() {
    let (mut tenant, mut keep) = connected();
    assert_eq!(keep.write(b"the end"), 7);
    let cut = outgoing(&mut keep);
    keep.close();
    keep.close();
    assert_eq!(keep.write(b"more"), 0);
    let close = outgoing(&mut keep);
    assert_eq!(tenant.take(&cut).unwrap(), b"the end");
    assert!(!tenant.is_closed_by_peer());
    for byte in &close {
        assert!(!tenant.is_closed_by_peer());
        tenant.take(&[*byte]).unwrap();
    }
    assert!(tenant.is_closed_by_peer());
    // The other direction stays open.
    assert_eq!(tenant.write(b"thanks"), 6);
    assert_eq!(keep.take(&outgoing(&mut tenant)).unwrap(), b"thanks");
    assert!(!keep.is_closed_by_peer());
    // Bytes after the end belong to nobody.
    let mut after: &[u8] = b"junk";
    assert_eq!(tenant.receive(&mut after), Ok(()));
    assert!(after.is_empty() && tenant.is_closed_by_peer());
    tenant.close();
    keep.take(&outgoing(&mut tenant)).unwrap();
    assert!(keep.is_closed_by_peer());
}
