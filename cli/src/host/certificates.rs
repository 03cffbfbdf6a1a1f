// SPDX-License-Identifier: Apache-2.0

//! The certificates of genuine chips that a manager hands out. Tenants verify every signature in them, so only their
//! owner is checked here.

use std::path::Path;

use enarx_attestation::snp::{EndorsementId, candidates, identify};
use enarx_attestation::{AmdEndorsements, hex, pem};
use enarx_collateral::Store;
use enarx_contract::canonical::Base64;
use enarx_manager::Collaterals;
use enarx_manager_api::Collateral;
use enarx_snp::tcb::TcbVersion;

use crate::endorsements::certificates;
use crate::failure::Failure;
use crate::input::now;

/// Keys that are named at the start, at most: a store may be one for many machines.
const SHOWN: usize = 8;
/// Number of digits of a chip id that identify it in messages.
const DIGITS: usize = 16;

/// The certificates of one folder, and those of the store.
pub struct ChipCertificates {
    given: Option<AmdEndorsements>,
    store: Option<Store>,
}

impl ChipCertificates {
    /// The certificates in a folder as for `enarx verify --certs`, if one is named, and in the store.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: Option<&Path>, store: Option<Store>) -> Result<Self, Failure> {
        Ok(Self {
            given: folder.map(certificates).transpose()?,
            store,
        })
    }

    /// Says which chips tenants get certificates for, and what is missing.
    pub fn say(&self) {
        let given = self.given.iter();
        let mut lines: Vec<_> = given
            .filter_map(|given| Some((identify(given.vek.as_ref()?)?, !given.crls.is_empty())))
            .collect();
        if let Some(store) = &self.store {
            let keys = store.keys().into_iter();
            lines.extend(keys.map(|id| {
                let has_lists = store.has_lists(id.line(), now());
                (id, has_lists)
            }));
        }
        if lines.is_empty() {
            say!(
                "enarx: there are no chip certificates to hand out, so tenants need their own: `enarx certs fetch \
                REPORT`, with a report of this machine (`enarx run --attest-to`)"
            );
        }
        for (id, has_lists) in lines.iter().take(SHOWN) {
            let state = if *has_lists {
                "complete"
            } else {
                "without a revocation list in force: `enarx certs fetch REPORT` once a day"
            };
            say!("enarx: certificates of {}: {state}", named(id));
        }
        if let Some(more) = lines.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            say!("enarx: and certificates of {more} more keys");
        }
    }
}

/// The name of a key: of which chip, and at which TCB version.
fn named(id: &EndorsementId) -> String {
    match id {
        EndorsementId::Vcek { line, chip_id, tcb } => {
            let chip: String = hex::encode(chip_id).chars().take(DIGITS).collect();
            format!("the chip {chip}… ({line}, {tcb})")
        }
        EndorsementId::Vlek { line, tcb } => format!("the provider's key ({line}, {tcb})"),
        other => other.to_string(),
    }
}

impl Collaterals for ChipCertificates {
    fn get(&self, chip: &[u8; 64], tcb: &[u8; 8]) -> Option<Collateral> {
        let tcb = TcbVersion(*tcb);
        let given = || {
            let given = self.given.clone()?;
            let id = identify(given.vek.as_ref()?)?;
            candidates(chip, tcb).contains(&id).then_some(given)
        };
        let stored = || self.store.as_ref()?.of_chip(chip, tcb, now());
        let found = given().or_else(stored)?;
        Some(Collateral {
            vek: der(found.vek?),
            ask: der(found.ask?),
            ark: der(found.ark?),
            crls: found.crls.into_iter().map(|list| der(list.bytes)).collect(),
        })
    }
}

/// A certificate or list as DER; folders have PEM too. A file that cannot be read is passed on: the tenant finds that.
fn der(bytes: Vec<u8>) -> Base64 {
    let document = pem::is_pem(&bytes).then(|| pem::documents(&bytes).ok()?.into_iter().next());
    Base64(document.flatten().map_or(bytes, |document| document.bytes))
}
