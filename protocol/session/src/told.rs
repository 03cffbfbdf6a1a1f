// SPDX-License-Identifier: Apache-2.0

//! A Keep's claims about itself in EVIDENCE.

use serde::{Deserialize, Serialize};

/// The state of a Keep, as its evidence says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// No application has been started.
    Unprovisioned = 1,
    /// An application has been started; it may have ended.
    Provisioned = 2,
}

/// The format of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An SEV-SNP report, also from the simulated platform, whose root is not trusted by default.
    Snp,
    /// Nothing: the Keep has no TEE.
    None,
}

impl core::fmt::Display for Format {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Snp => "snp",
            Self::None => "none",
        })
    }
}
