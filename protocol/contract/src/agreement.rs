// SPDX-License-Identifier: Apache-2.0

//! The signatures of both sides over one contract, and the file that keeps all three. Detached: the contract's bytes
//! do not depend on who has signed them.

use crate::canonical::{self, Base64};
use crate::contract::{Contract, Tenant};
use crate::error::ContractError;
use crate::form::{ContractDigest, MAX_ENCODED};
use crate::key::{PublicKey, Signature};
use crate::side::Side;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Domain prefix of the signed bytes, so that no other signature by these keys is valid for a contract.
const DOMAIN: &[u8; 17] = b"enarx contract 1\0";

/// Largest encoded [`Agreement`] in bytes: the contract in base64, two keys and two signatures.
pub const MAX_AGREEMENT: usize = MAX_ENCODED / 3 * 4 + 1024;

/// The bytes that `side` signs, by ECDSA over P-256 with SHA-256: the domain, the side, the contract's digest.
#[must_use]
pub fn signing_input(side: Side, contract: &ContractDigest) -> [u8; 50] {
    let mut input = [0; 50];
    let side = [side as u8];
    let parts = DOMAIN.iter().chain(&side).chain(&contract.0);
    for (to, from) in input.iter_mut().zip(parts) {
        *to = *from;
    }
    input
}

/// The tenant's signature, with the key that an open contract does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Countersignature {
    /// The tenant's key.
    pub key: PublicKey,
    /// Over [`signing_input`] of [`Side::Tenant`].
    pub signature: Signature,
}

/// A contract with the signatures that it has: a file for accounts and disputes, in canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The contract's canonical bytes.
    pub contract: Base64,
    /// The tenant's signature; `None` before the tenant signs.
    pub tenant: Option<Countersignature>,
    /// The host's signature over [`signing_input`] of [`Side::Host`]; `None` before the host signs.
    pub host: Option<Signature>,
}

impl Agreement {
    /// Encodes the agreement.
    ///
    /// # Errors
    /// [`ContractError::Form`] when it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, ContractError> {
        Ok(canonical::encode(self, MAX_AGREEMENT)?)
    }

    /// Reads an agreement. Do not trust any of it before [`Self::verify`].
    ///
    /// # Errors
    /// [`ContractError::Form`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ContractError> {
        Ok(canonical::decode(bytes, MAX_AGREEMENT)?)
    }

    /// The contract, if it is valid and so is every signature that is present. The caller checks which are present.
    ///
    /// # Errors
    /// The errors of [`Contract::decode`]; [`ContractError::Signature`]; [`ContractError::TenantKey`].
    pub fn verify(&self) -> Result<Contract, ContractError> {
        let contract = Contract::decode(&self.contract.0)?;
        if let Some(tenant) = &self.tenant {
            contract.verify_tenant(&tenant.key, &tenant.signature)?;
        }
        if let Some(host) = &self.host {
            contract.verify_host(host)?;
        }
        Ok(contract)
    }
}

impl Contract {
    /// Checks the tenant's signature by `key`.
    ///
    /// # Errors
    /// [`ContractError::TenantKey`] when the contract names another tenant; [`ContractError::Signature`].
    pub fn verify_tenant(
        &self,
        key: &PublicKey,
        signature: &Signature,
    ) -> Result<(), ContractError> {
        if !self.terms().tenant.admits(key) {
            return Err(ContractError::TenantKey);
        }
        self.verify(Side::Tenant, key, signature)
    }

    /// Checks the host's signature, by the key that the contract names.
    ///
    /// # Errors
    /// [`ContractError::Signature`].
    pub fn verify_host(&self, signature: &Signature) -> Result<(), ContractError> {
        self.verify(Side::Host, &self.terms().host.key, signature)
    }

    fn verify(
        &self,
        side: Side,
        key: &PublicKey,
        signature: &Signature,
    ) -> Result<(), ContractError> {
        if key.verifies(&signing_input(side, self.digest()), signature) {
            Ok(())
        } else {
            Err(ContractError::Signature(side))
        }
    }
}

impl Tenant {
    /// True if this key's owner may be the tenant: the named one, or anybody under an open contract.
    #[must_use]
    pub fn admits(&self, key: &PublicKey) -> bool {
        match self {
            Self::Named(named) => named == key,
            Self::Open => true,
        }
    }
}
