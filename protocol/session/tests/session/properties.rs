// SPDX-License-Identifier: Apache-2.0

//! Random bytes and random peers: the drivers of the fuzz targets on random scripts.

use enarx_session_drivers::drivers;
use proptest::prelude::*;

fn script(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

/// A script that begins like an honest peer: a correct report, then anything.
fn honest(most: usize) -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), any::<u8>(), 0u8..2, script(most)).prop_map(
        |(wanted, nonce, provisioned, rest)| {
            // EVIDENCE with number 0x10: seq 1, state 1, format snp; 0x12: state 2. Then all of ATTEST is sent.
            let number = 0x10 | provisioned << 1;
            let mut script = vec![wanted, nonce, 0, provisioned, 1, number, 255];
            script.extend(rest);
            script
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_the_same_however_they_are_cut(script in script(600)) {
        drivers::frames(&script);
    }

    #[test]
    fn documents_have_one_form(script in script(400)) {
        drivers::documents(&script);
    }

    #[test]
    fn only_one_frame_is_sent_before_the_verdict(script in script(300)) {
        drivers::hostile_keep(&script);
    }

    #[test]
    fn a_released_session_withstands_any_peer(script in honest(300)) {
        drivers::hostile_keep(&script);
    }

    #[test]
    fn a_keep_withstands_any_two_tenants(script in script(400)) {
        drivers::hostile_tenants(&script);
    }
}

#[test]
fn valid_documents_are_reached() {
    // The seeds of the fuzz target are valid documents: each is read, or the driver would test nothing.
    let vectors = include_str!("../../vectors/session.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).expect("it is JSON");
    for (which, pointer) in [
        (10, "/deployment/bytes"),
        (11, "/receipts/0/bytes"),
        (11, "/receipts/1/bytes"),
        (13, "/contracts/0/bytes"),
        (13, "/contracts/1/bytes"),
    ] {
        let text = vectors
            .pointer(pointer)
            .and_then(|value| value.as_str())
            .expect(pointer);
        let mut script = vec![which];
        script.extend_from_slice(text.as_bytes());
        drivers::documents(&script);
    }
}
