// SPDX-License-Identifier: Apache-2.0

//! The schemas in `schema/` are what the code accepts and prints.

use enarx_attestation::{Policy, Verdict};
use serde_json::Value;

fn published(text: &str) -> Value {
    serde_json::from_str(text).expect("the published schema is JSON")
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    // To regenerate them: `enarx policy schema policy` and `enarx policy schema verdict`.
    assert_eq!(
        published(include_str!("../../schema/policy.json")),
        Policy::json_schema()
    );
    assert_eq!(
        published(include_str!("../../schema/verdict.json")),
        Verdict::json_schema()
    );
}
