// SPDX-License-Identifier: Apache-2.0

//! Any evidence yields a verdict, and nothing is valid without endorsements.
#![cfg_attr(fuzzing, no_main)]

use enarx_attestation::{Endorsements, Expected, Policy, Timestamp, Verifier, inspect};

enarx_fuzz::target!(|bytes: &[u8]| {
    let verifier = Verifier::new(Policy::insecure_authenticity_only());
    let verdict = verifier.verify(
        bytes,
        &Endorsements::default(),
        &Expected::at(Timestamp(1_790_000_000)),
    );
    assert!(!verdict.is_accepted());
    let _ = verdict.to_string();
    let _ = inspect::describe(bytes);
});
