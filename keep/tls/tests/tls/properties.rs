// SPDX-License-Identifier: Apache-2.0

//! Any sizes of pieces, at any step.

use crate::pair::{ends, exporter};
use enarx_tls::Connection;
use proptest::prelude::*;

/// Carries at most `size` bytes; reads at most `room` of what arrives.
fn step(from: &mut Connection, to: &mut Wire, size: usize, room: usize) -> bool {
    let mut buffer = vec![0; size];
    let count = from.outgoing(&mut buffer);
    to.waiting.extend_from_slice(&buffer[..count]);
    let mut input = to.waiting.as_slice();
    to.end.receive(&mut input).expect("an honest peer");
    let left = input.len();
    to.waiting.drain(..to.waiting.len() - left);
    let mut buffer = vec![0; room];
    let read = to.end.read(&mut buffer);
    to.received.extend_from_slice(&buffer[..read]);
    count + read > 0
}

struct Wire {
    end: Connection,
    /// Bytes that the end has not accepted yet.
    waiting: Vec<u8>,
    received: Vec<u8>,
}

impl Wire {
    fn new(end: Connection) -> Self {
        Self {
            end,
            waiting: Vec::new(),
            received: Vec::new(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_arrive_in_pieces_of_any_size(
        up in proptest::collection::vec(any::<u8>(), 0..60_000),
        down in proptest::collection::vec(any::<u8>(), 0..60_000),
        sizes in proptest::collection::vec((1usize..5000, 1usize..5000, 0usize..40_000), 1..16),
    ) {
        let (tenant, keep) = ends();
        let (mut tenant, mut keep) = (Wire::new(tenant), Wire::new(keep));
        let (mut sent_up, mut sent_down) = (0, 0);
        let mut closed = false;
        for (carried, read, written) in sizes.into_iter().cycle() {
            let end = (sent_up + written).min(up.len());
            sent_up += tenant.end.write(&up[sent_up..end]);
            let end = (sent_down + written / 2).min(down.len());
            sent_down += keep.end.write(&down[sent_down..end]);
            let moved_up = step(&mut tenant.end, &mut keep, carried, read);
            let moved_down = step(&mut keep.end, &mut tenant, read, carried);
            let all = sent_up == up.len() && sent_down == down.len();
            let connected = tenant.end.facts().is_some() && keep.end.facts().is_some();
            if moved_up || moved_down || !connected {
                continue;
            }
            if closed {
                break;
            }
            // Sizes of zero write nothing forever.
            sent_up += tenant.end.write(&up[sent_up..]);
            sent_down += keep.end.write(&down[sent_down..]);
            if all {
                tenant.end.close();
                keep.end.close();
                closed = true;
            }
        }
        prop_assert_eq!(exporter(&tenant.end), exporter(&keep.end));
        prop_assert!(keep.received == up && tenant.received == down);
        prop_assert!(keep.end.is_closed_by_peer() && tenant.end.is_closed_by_peer());
    }

    #[test]
    fn any_bytes_end_the_handshake_or_wait_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for mut end in <[Connection; 2]>::from(ends()) {
            let mut input = bytes.as_slice();
            let refused = end.receive(&mut input).is_err();
            prop_assert!(refused || input.is_empty());
            prop_assert!(end.facts().is_none() && !end.is_closed_by_peer());
        }
    }
}
