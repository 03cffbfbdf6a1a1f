// SPDX-License-Identifier: Apache-2.0

//! The host between the ends: it cuts, changes and invents bytes, and floods.

use crate::end::End;
use crate::pair::{connected, ends, exporter, outgoing, pump, tenant_against};
use crate::peers::{Independent, Profile};
use enarx_tls::{Connection, Fault, MAX_HANDSHAKE, MAX_SILENT, TlsError};
use rustls::AlertDescription;

/// The place at which a host stops carrying bytes, or the bit that it flips.
#[derive(Clone, Copy)]
enum Host {
    Cuts { after: usize },
    Flips { at: usize, bit: usize },
}

/// The result of an exchange through a host.
struct Exchange {
    tenant: Connection,
    keep: Connection,
    /// All bytes that were sent, in order, with the direction.
    sent: Vec<(bool, u8)>,
    question: Vec<u8>,
    answer: Vec<u8>,
    failure: Option<TlsError>,
}

/// Handshake, a question, an answer, and close_notify of both; the host counts the bytes of both directions.
fn exchange(host: Host) -> Exchange {
    let (tenant, keep) = ends();
    let mut it = Exchange {
        tenant,
        keep,
        sent: Vec::new(),
        question: Vec::new(),
        answer: Vec::new(),
        failure: None,
    };
    let mut steps = 0;
    loop {
        let up = it.carry(true, host);
        let down = it.carry(false, host);
        if it.failure.is_some() {
            return it;
        }
        if up + down > 0 {
            continue;
        }
        match steps {
            0 => drop(it.tenant.write(b"question")),
            1 => drop(it.keep.write(b"answer")),
            2 => it.tenant.close(),
            3 => it.keep.close(),
            _ => return it,
        }
        steps += 1;
    }
}

impl Exchange {
    fn carry(&mut self, up: bool, host: Host) -> usize {
        let from = if up { &mut self.tenant } else { &mut self.keep };
        let mut bytes = outgoing(from);
        let (before, count) = (self.sent.len(), bytes.len());
        self.sent.extend(bytes.iter().map(|byte| (up, *byte)));
        match host {
            Host::Cuts { after } => bytes.truncate(after.saturating_sub(before)),
            Host::Flips { at, bit } => {
                let index = at.checked_sub(before);
                if let Some(byte) = index.and_then(|index| bytes.get_mut(index)) {
                    *byte ^= 1 << bit;
                }
            }
        }
        let (to, received) = if up {
            (&mut self.keep, &mut self.question)
        } else {
            (&mut self.tenant, &mut self.answer)
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && self.failure.is_none() {
            self.failure = to.receive(&mut rest).err();
            received.extend(crate::pair::read(to));
        }
        count
    }

    /// True if everything arrived, and both ends were closed.
    fn is_complete(&self) -> bool {
        self.failure.is_none()
            && self.tenant.is_closed_by_peer()
            && self.keep.is_closed_by_peer()
            && self.question == b"question"
            && self.answer == b"answer"
            && exporter(&self.tenant) == exporter(&self.keep)
    }
}

const HONEST: Host = Host::Cuts { after: usize::MAX };

#[test]
fn a_cut_anywhere_is_not_an_orderly_end() {
    let whole = exchange(HONEST);
    assert!(whole.is_complete());
    for after in 0..whole.sent.len() {
        let cut = exchange(Host::Cuts { after });
        assert_eq!(cut.failure, None, "nobody has done anything wrong");
        // Signatures have between 70 and 72 bytes, so the lengths differ a little.
        let is_cut = after < cut.sent.len();
        assert_eq!(cut.is_complete(), !is_cut, "after {after} bytes");
        if cut.keep.facts().is_some() {
            assert!(cut.tenant.facts().is_some(), "the client is first");
        } else {
            assert!(cut.question.is_empty() && !cut.keep.is_closed_by_peer());
        }
        if cut.tenant.facts().is_none() {
            assert!(cut.answer.is_empty() && !cut.tenant.is_closed_by_peer());
        }
    }
}

/// The offset of a byte in its record, and whether that record is encrypted.
fn place(sent: &[(bool, u8)], at: usize) -> (usize, bool) {
    let up = sent[at].0;
    let direction: Vec<usize> = (0..sent.len()).filter(|i| sent[*i].0 == up).collect();
    let mut start = 0;
    loop {
        let byte = |offset: usize| sent[direction[start + offset]].1;
        let length = 5 + usize::from(byte(3)) * 256 + usize::from(byte(4));
        let record = &direction[start..start + length];
        if let Some(offset) = record.iter().position(|i| *i == at) {
            // Application data is the type of every encrypted record.
            return (offset, byte(0) == 23);
        }
        start += length;
    }
}

#[test]
fn a_flipped_bit_anywhere_ends_the_connection() {
    let total = exchange(HONEST).sent.len();
    let mut harmless = 0;
    for at in 0..total {
        let flipped = exchange(Host::Flips { at, bit: at % 8 });
        if at >= flipped.sent.len() {
            continue;
        }
        if flipped.is_complete() {
            // The version is ignored, as required (RFC 8446, section 5.1). For an encrypted record rustls ignores the type too: both have
            // one legal value, which it authenticates in their place.
            let (offset, is_encrypted) = place(&flipped.sent, at);
            assert!(
                matches!(offset, 1 | 2) || (is_encrypted && offset == 0),
                "byte {at}, {offset} of its record"
            );
            harmless += 1;
        } else if let Some(failure) = &flipped.failure {
            let code = failure.code();
            assert!(
                ["session.handshake", "session.protocol", "session.alpn"].contains(&code),
                "byte {at}: {failure}"
            );
        }
        // Only bytes that were sent.
        assert!(b"question".starts_with(&flipped.question));
        assert!(b"answer".starts_with(&flipped.answer));
    }
    // Four plaintext records with two such bytes each, and no more than ten encrypted ones with three.
    assert!(harmless <= 4 * 2 + 10 * 3, "{harmless}");
}

#[test]
fn records_that_are_repeated_swapped_or_left_out_end_the_connection() {
    for order in [&[0, 0][..], &[1, 0], &[1], &[2, 0, 1], &[0, 2]] {
        let (mut tenant, mut keep) = connected();
        let records: Vec<Vec<u8>> = [b"one", b"two", b"six"]
            .into_iter()
            .map(|word| {
                assert_eq!(tenant.write(word), 3);
                outgoing(&mut tenant)
            })
            .collect();
        let results: Vec<_> = order.iter().map(|i| keep.take(&records[*i])).collect();
        let last = results.last().unwrap();
        assert_eq!(*last, Err("session.protocol".to_owned()), "{order:?}");
    }
}

#[test]
fn a_close_forged_by_the_host_is_refused() {
    // Plaintext: a warning, close_notify (RFC 8446, section 6).
    let alert = [21, 3, 3, 0, 2, 1, 0];
    let (mut tenant, mut keep) = ends();
    for _ in 0..2 {
        assert_eq!(
            (tenant.take(&alert), keep.take(&alert)),
            (Ok(vec![]), Ok(vec![]))
        );
        assert!(!tenant.is_closed_by_peer() && !keep.is_closed_by_peer());
    }
    pump(&mut tenant, &mut keep).unwrap();
    assert!(!tenant.is_closed_by_peer() && !keep.is_closed_by_peer());
    let (mut tenant, mut keep) = connected();
    // The tenant cannot know yet that the Keep has accepted its key.
    assert_eq!(tenant.take(&alert), Err("session.handshake".to_owned()));
    assert_eq!(keep.take(&alert), Err("session.protocol".to_owned()));
    assert!(!tenant.is_closed_by_peer() && !keep.is_closed_by_peer());
}

#[test]
fn a_fault_after_closing_is_an_error_not_a_panic() {
    let (mut tenant, mut keep) = connected();
    keep.close();
    assert_eq!(tenant.write(b"question"), 8);
    let mut bytes = outgoing(&mut tenant);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(keep.take(&bytes), Err("session.protocol".to_owned()));
}

#[test]
fn an_alert_tells_the_peer_the_reason() {
    let (mut tenant, mut keep) = connected();
    assert_eq!(tenant.write(b"question"), 8);
    let mut bytes = outgoing(&mut tenant);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(keep.take(&bytes), Err("session.protocol".to_owned()));
    assert_eq!((keep.write(b"answer"), keep.read(&mut [0; 8])), (0, 0));
    let alert = outgoing(&mut keep);
    let error = tenant.receive(&mut alert.as_slice()).unwrap_err();
    let alert = Fault::Alert(AlertDescription::BadRecordMac.into());
    assert_eq!(error, TlsError::Handshake(alert));
    assert!(!tenant.is_closed_by_peer());
}

/// Feeds what `next` makes until it is refused, and returns how many bytes were taken.
fn flood(end: &mut Connection, mut next: impl FnMut() -> Vec<u8>) -> (usize, &'static str) {
    let mut taken = 0;
    while taken <= 4 * MAX_SILENT {
        let bytes = next();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let before = rest.len();
            let result = end.receive(&mut rest);
            taken += before - rest.len();
            if let Err(error) = result {
                return (taken, error.code());
            }
            assert_eq!(end.read(&mut [0; 64]), 0);
        }
    }
    panic!("taken without end");
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    // A ClientHello that claims a length, and arrives one byte per record.
    for length in [[0, 0xff, 0xf0], [0xff, 0xff, 0xff]] {
        let (_, mut keep) = ends();
        let header = [22, 3, 1, 0, 4, 1, length[0], length[1], length[2]];
        let _ = keep.receive(&mut header.as_slice());
        let (taken, code) = flood(&mut keep, || vec![22, 3, 1, 0, 1, 0]);
        assert!(taken <= MAX_HANDSHAKE + 4096, "{taken}");
        assert_eq!(code, "session.handshake");
        assert!(keep.facts().is_none());
    }
}

#[test]
fn tickets_without_end_are_refused() {
    let profile = Profile {
        tickets: 1500,
        ..Profile::default()
    };
    let mut server = Independent::server(&profile);
    let (mut tenant, result) = tenant_against(&mut server);
    assert!(result.is_err());
    let error = tenant.receive(&mut [].as_slice()).unwrap_err();
    assert_eq!(error, TlsError::Handshake(Fault::Endless));
    assert_eq!(error.code(), "session.handshake");
}

#[test]
fn key_updates_without_end_are_refused() {
    let mut server = Independent::server(&Profile::default());
    let (mut tenant, result) = tenant_against(&mut server);
    assert_eq!(result, Ok(()));
    server.write(b"hello");
    assert_eq!(tenant.take(&server.give()).unwrap(), b"hello");
    let (taken, code) = flood(&mut tenant, || {
        server.tls.refresh_traffic_keys().unwrap();
        server.give()
    });
    assert!(taken <= MAX_SILENT + 4096, "{taken}");
    assert_eq!(code, "session.protocol");
}

#[test]
fn plain_bytes_are_refused_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let (mut tenant, mut keep) = ends();
        assert_eq!(keep.take(bytes), Err("session.handshake".to_owned()));
        assert_eq!(tenant.take(bytes), Err("session.handshake".to_owned()));
        // The refusal is repeated, and nothing more is accepted.
        let mut more: &[u8] = b"more";
        assert!(keep.receive(&mut more).is_err() && more.len() == 4);
    }
}
