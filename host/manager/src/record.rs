// SPDX-License-Identifier: Apache-2.0

//! The record of one Keep, and how it changes: it is claimed at most once, and it ends. Without input and output; the
//! [`crate::store`] keeps it.

use crate::tokens::Owner;
use enarx_contract::canonical::Hex;
use enarx_contract::{Agreement, Countersignature};
use serde::{Deserialize, Serialize};

/// Version of records.
const VERSION: u32 = 1;

/// A Keep's name.
pub(crate) type Id = Hex<16>;

/// The record of a Keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The contract with the signatures that it has.
    pub agreement: Agreement,
    /// SHA-256 of the contract.
    pub digest: Hex<32>,
    /// The token that requested or claimed the Keep; `None` before.
    pub owner: Option<Owner>,
    /// Its place among those of its owner, in the order in which they were recorded; 0 before it has one. A clock
    /// cannot give that order: several Keeps are created in one second, and a clock may be set back.
    #[serde(default)]
    pub number: u64,
    /// When it was asked for or claimed, and before that when it was launched, in seconds since 1970.
    pub created: u64,
    /// Last second of the contract.
    pub not_after: u64,
    /// How it ended.
    pub end: Option<End>,
}

/// How a Keep ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Printable ASCII.
    pub reason: String,
    /// The exit code of its process; `None` if it had none.
    pub code: Option<i32>,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A tenant's claim to an open contract, and so to its Keep.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub owner: Owner,
    /// The tenant's key with its valid signature.
    pub tenant: Countersignature,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A valid claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// From now on.
    Now,
    /// The same tenant claimed it before.
    Before,
}

/// The reason why a claim is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimable {
    /// It is another tenant's.
    Taken,
    /// It ended unclaimed.
    Gone,
    /// There is no record of it.
    Unknown,
}

/// The answer of the records to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The claim is valid.
    Granted(Claimed),
    /// It does not.
    Refused(Unclaimable),
}

impl From<Result<Claimed, Unclaimable>> for Settled {
    fn from(claimed: Result<Claimed, Unclaimable>) -> Self {
        match claimed {
            Ok(claimed) => Self::Granted(claimed),
            Err(reason) => Self::Refused(reason),
        }
    }
}

/// The consequence of a claim for a Keep that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimConsequence {
    /// The tenant gets it.
    Give,
    /// The tenant does not.
    Refuse(Unclaimable),
    /// It is unknown whether the claim is recorded: the Keep ends, so that nobody else can get it.
    Withdraw,
}

/// The consequence for a living Keep of the answer of the record, `None` if that could not be written.
pub(crate) fn consequence(recorded: Option<Settled>) -> ClaimConsequence {
    match recorded {
        Some(Settled::Granted(Claimed::Now | Claimed::Before)) => ClaimConsequence::Give,
        Some(Settled::Refused(reason)) => ClaimConsequence::Refuse(reason),
        None => ClaimConsequence::Withdraw,
    }
}

impl Record {
    /// The record of a Keep that has not ended; times in seconds since 1970.
    pub(crate) fn new(
        agreement: Agreement,
        digest: Hex<32>,
        owner: Option<Owner>,
        created: u64,
        not_after: u64,
    ) -> Self {
        Self {
            version: VERSION,
            agreement,
            digest,
            owner,
            number: 0,
            created,
            not_after,
            end: None,
        }
    }

    /// Gives the Keep to the tenant who claims it, unless it has one or has ended. A tenant is a token with a key: the
    /// session admits the key, the manager the token.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Result<Claimed, Unclaimable> {
        match (&self.owner, &self.agreement.tenant) {
            (Some(owner), Some(tenant))
                if *owner == claim.owner && tenant.key == claim.tenant.key =>
            {
                Ok(Claimed::Before)
            }
            (Some(_), _) => Err(Unclaimable::Taken),
            (None, _) if self.end.is_some() => Err(Unclaimable::Gone),
            (None, _) => {
                self.owner = Some(claim.owner);
                self.agreement.tenant = Some(claim.tenant);
                self.created = claim.at;
                Ok(Claimed::Now)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use enarx_contract::PublicKey;
    use enarx_contract::canonical::Base64;

    /// The record of a Keep under an open contract.
    pub(crate) fn open() -> Record {
        let agreement = Agreement {
            contract: Base64(vec![1]),
            tenant: None,
            host: Some(Hex([2; 64])),
        };
        Record::new(agreement, Hex([9; 32]), None, 10, 1000)
    }

    /// The claim of this token with this key.
    pub(crate) fn claim(owner: u8, key: u8) -> Claim {
        Claim {
            owner: Hex([owner; 32]),
            tenant: Countersignature {
                key: PublicKey::from_coordinates(&[key; 32], &[key; 32]),
                signature: Hex([key; 64]),
            },
            at: 20,
        }
    }

    fn end() -> End {
        End {
            reason: "deleted".to_string(),
            code: None,
            at: 30,
        }
    }

    #[test]
    fn a_keep_is_claimed_once() {
        let mut record = open();
        assert_eq!(record.claim(&claim(1, 1)), Ok(Claimed::Now));
        assert_eq!((record.owner, record.created), (Some(Hex([1; 32])), 20));
        for (owner, key) in [(2, 2), (2, 1), (1, 2)] {
            let refused = record.claim(&claim(owner, key));
            assert_eq!(refused, Err(Unclaimable::Taken), "{owner} {key}");
        }
        assert_eq!(record.claim(&claim(1, 1)), Ok(Claimed::Before));
        record.end = Some(end());
        assert_eq!(record.claim(&claim(1, 1)), Ok(Claimed::Before));
        assert_eq!(record.claim(&claim(2, 2)), Err(Unclaimable::Taken));
    }

    #[test]
    fn a_keep_that_ended_unclaimed_has_no_tenant() {
        let mut record = open();
        record.end = Some(end());
        assert_eq!(record.claim(&claim(1, 1)), Err(Unclaimable::Gone));
        assert_eq!(record.owner, None);
    }

    #[test]
    fn a_keep_under_a_named_contract_belongs_to_its_tenant() {
        let mut record = open();
        record.owner = Some(Hex([1; 32]));
        assert_eq!(record.claim(&claim(1, 1)), Err(Unclaimable::Taken));
    }
}
