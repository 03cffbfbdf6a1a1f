// SPDX-License-Identifier: Apache-2.0

//! Any endorsements with a report yield a verdict, and none of them counts as AMD's or Intel's.
#![cfg_attr(fuzzing, no_main)]

use enarx_attestation::{
    AmdEndorsements, Endorsements, Expected, Policy, Timestamp, Verifier, snp,
};

enarx_fuzz::target!(|bytes: &[u8]| {
    let mut report = [0; 1184];
    report[0] = 5;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let endorsements = Endorsements {
        amd: AmdEndorsements {
            vek: Some(first.to_vec()),
            ask: Some(second.to_vec()),
            ark: Some(bytes.to_vec()),
            crls: vec![bytes.to_vec().into()],
        },
        intel: Some(bytes.to_vec()),
    };
    let verifier = Verifier::new(Policy::insecure_authenticity_only());
    assert!(
        !verifier
            .verify(
                &report,
                &endorsements,
                &Expected::at(Timestamp(1_790_000_000))
            )
            .is_accepted()
    );
    let _ = (snp::identify(bytes), snp::identify_list(bytes));
});
