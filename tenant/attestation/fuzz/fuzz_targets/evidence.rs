//! Any evidence yields a verdict, and nothing is valid without endorsements.
#![no_main]

use enarx_attestation::{Endorsements, Policy, Timestamp, Verifier, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut verifier = Verifier::new(Policy::insecure_authenticity_only());
    let verdict = verifier.verify(octets, &Endorsements::default(), Timestamp(1_790_000_000));
    assert!(!verdict.is_accepted());
    let _ = verdict.to_string();
    let _ = inspect::describe(octets);
});
