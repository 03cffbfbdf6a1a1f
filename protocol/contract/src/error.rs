// SPDX-License-Identifier: Apache-2.0

//! The refusals of contracts, each with a stable name.

use crate::canonical::CanonicalError;
use crate::form::{ContractDigest, VERSION};
use crate::side::Side;
use crate::term::Term;
use alloc::string::String;

/// Why a contract, a signature on it or a Keep under it was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// Not the canonical form of any contract.
    #[error("the contract is not readable: {0}")]
    Form(#[from] CanonicalError),
    /// Of a version that this program does not know.
    #[error("the contract has version {found}, this program knows version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A field whose value has no meaning, or contradicts the others.
    #[error("`{field}` of the contract must be {range}")]
    Value {
        /// The field, by dots.
        field: &'static str,
        /// The allowed values.
        range: &'static str,
    },
    /// A signature that is not of this side's key over this contract.
    #[error("the {0}'s signature of this contract is not valid")]
    Signature(Side),
    /// Signed for another tenant than the contract names.
    #[error("the contract names another tenant")]
    TenantKey,
    /// The Keep was launched for another contract: HOST_DATA is not the SHA-256 of this one.
    #[error("the Keep was launched for contract {found}, this is {expected}")]
    HostData {
        /// SHA-256 of the contract.
        expected: ContractDigest,
        /// HOST_DATA of the report.
        found: ContractDigest,
    },
    /// The Keep is not what the contract says.
    #[error("the contract says {expected} for {term}, the Keep has {found}")]
    Terms {
        /// The term.
        term: Term,
        /// The value in the contract.
        expected: String,
        /// The value that the report or the Keep gives.
        found: String,
    },
    /// The configuration requests something for which the contract has no door.
    #[error("the contract has no door for {wanted}")]
    Doors {
        /// The access that is wanted.
        wanted: String,
    },
    /// Outside the contract's times.
    #[error(
        "the contract is valid from {not_before} to {not_after} (seconds since 1970), and now it is {now}"
    )]
    Times {
        /// First second of validity, since 1970.
        not_before: u64,
        /// Last second of validity.
        not_after: u64,
        /// The tenant's time.
        now: u64,
    },
    /// Longer detached than the contract allows.
    #[error("the contract allows {limit} seconds without a session, the deployment wants {wanted}")]
    Detached {
        /// The contract's limit, in seconds.
        limit: u32,
        /// The time that the deployment wants, in seconds.
        wanted: u32,
    },
}

impl ContractError {
    /// The name of the refusal, stable: frames, logs and tests use it. SPEC.md lists all.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "contract.form",
            Self::Version { .. } => "contract.version",
            Self::Value { .. } => "contract.value",
            Self::Signature(Side::Tenant) => "contract.tenant-signature",
            Self::Signature(Side::Host) => "contract.host-signature",
            Self::TenantKey => "contract.tenant-key",
            Self::HostData { .. } => "contract.host-data",
            Self::Terms { .. } => "contract.terms",
            Self::Doors { .. } => "contract.doors",
            Self::Times { .. } | Self::Detached { .. } => "contract.times",
        }
    }
}
