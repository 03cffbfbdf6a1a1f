// SPDX-License-Identifier: Apache-2.0

//! The refusals of deployments, each with a stable name.

use enarx_contract::ContractDigest;
use enarx_contract::canonical::CanonicalError;

/// Version of the deployment.
pub const VERSION: u32 = 1;

/// Why a deployment was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeploymentError {
    /// Not the canonical form of any.
    #[error("the deployment is not readable: {0}")]
    Form(#[from] CanonicalError),
    /// Of a version that this program does not know.
    #[error("the deployment has version {0}, this program knows version {VERSION}")]
    Version(u32),
    /// A field whose value has no meaning.
    #[error("`{field}` of the deployment must be {range}")]
    Value {
        /// The field, by dots.
        field: &'static str,
        /// The allowed values.
        range: &'static str,
    },
    /// Of another contract.
    #[error("the deployment is for contract {0}")]
    Contract(ContractDigest),
}

impl DeploymentError {
    /// The name of the refusal, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "release.form",
            Self::Version(_) => "release.version",
            Self::Value { .. } => "release.value",
            Self::Contract(_) => "release.contract",
        }
    }
}
