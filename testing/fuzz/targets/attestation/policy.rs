// SPDX-License-Identifier: Apache-2.0

//! Reading a policy is total, and writing it is lossless.
#![cfg_attr(fuzzing, no_main)]

use enarx_attestation::Policy;

enarx_fuzz::target!(|text: &str| {
    if let Ok(policy) = Policy::from_toml(text) {
        assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy));
    }
});
