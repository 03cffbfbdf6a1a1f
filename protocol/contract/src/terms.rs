// SPDX-License-Identifier: Apache-2.0

//! A Keep's checks of its contract, and those of them that its tenant makes, too: that the report agrees with the
//! contract.

use crate::canonical::Hex;
use crate::contract::{Contract, Tee, Terms};
use crate::error::ContractError;
use crate::key::PublicKey;
use crate::term::Term;
use alloc::string::{String, ToString};
use core::fmt::Display;
use enarx_snp::product::{self, CpuSignature};
use enarx_snp::report::Report;

/// A Keep's knowledge of itself without a report: from its microkernel, whose build fixes the TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepFacts {
    /// The technology that signs its reports.
    pub tee: Tee,
    /// Its virtual CPUs.
    pub vcpus: u32,
    /// Its memory in bytes.
    pub memory: u64,
}

fn differs(term: Term, expected: impl Display, found: impl Display) -> ContractError {
    ContractError::Terms {
        term,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

fn same<T: PartialEq + Display>(term: Term, expected: T, found: T) -> Result<(), ContractError> {
    if expected == found {
        return Ok(());
    }
    Err(differs(term, expected, found))
}

impl Contract {
    /// Makes a Keep's checks before its first evidence leaves it, on the very report that it is about to send. A Keep
    /// that fails them ends. `report` is `None` without a TEE. Doors and times are checked with the application:
    /// [`crate::Doors::admit`], [`crate::Times::admit`].
    ///
    /// # Errors
    /// [`ContractError::Terms`] and [`ContractError::HostData`].
    pub fn check_keep(
        &self,
        own: &KeepFacts,
        report: Option<&Report>,
    ) -> Result<(), ContractError> {
        let terms = self.terms();
        same(Term::Tee, terms.platform.tee.name(), own.tee.name())?;
        at_least(
            Term::Vcpus,
            u64::from(terms.resources.vcpus),
            u64::from(own.vcpus),
        )?;
        at_least(Term::Memory, terms.resources.memory, own.memory)?;
        match (report, terms.platform.tee) {
            (Some(report), Tee::Snp | Tee::Simulated) => self.check_report(report),
            (None, Tee::None) => Ok(()),
            (Some(_), Tee::None) => Err(differs(Term::Tee, "no report", "one")),
            (None, _) => Err(differs(Term::Tee, "a report", "none")),
        }
    }

    /// Compares a report with the contract. For the Keep, and for its tenant after the verifier has accepted the
    /// report's signature; without that, nothing in a report can be trusted.
    ///
    /// # Errors
    /// [`ContractError::HostData`], then [`ContractError::Terms`]. A term that is missing in the report is refused.
    pub fn check_report(&self, report: &Report) -> Result<(), ContractError> {
        if report.host_data != self.digest().0 {
            return Err(ContractError::HostData {
                expected: *self.digest(),
                found: Hex(report.host_data),
            });
        }
        let terms = self.terms();
        let (Some(image), Some(policy), Some(floor)) = (
            &terms.image,
            terms.platform.guest_policy,
            terms.platform.min_tcb,
        ) else {
            return Err(differs(Term::Tee, "no report", "one"));
        };
        same(
            Term::Measurement,
            image.measurement,
            Hex(report.measurement),
        )?;
        same(
            Term::GuestPolicy,
            policy,
            Hex(report.policy.get().to_be_bytes()),
        )?;
        same(Term::Vmpl, 0, report.vmpl.get())?;
        let generation = report.cpu().and_then(CpuSignature::generation);
        let found = generation.map_or("unknown", |generation| generation.name);
        same(Term::Product, terms.product(), String::from(found))?;
        let layout = product::by_name(found).map(|generation| generation.tcb);
        let floor_holds = layout
            .is_some_and(|layout| report.reported_tcb.at_least(&floor.version(layout), layout));
        if !floor_holds {
            let floor = layout.map_or([0; 8], |layout| floor.version(layout).0);
            return Err(differs(Term::Tcb, Hex(floor), Hex(report.reported_tcb.0)));
        }
        Ok(())
    }
}

impl Terms {
    /// True if `key` may open a session: the tenant's key; under an open contract any key until somebody has released
    /// an application, then only the key of whoever did (`owner`).
    #[must_use]
    pub fn admits(&self, key: &PublicKey, owner: Option<&PublicKey>) -> bool {
        self.tenant.admits(key) && owner.is_none_or(|owner| owner == key)
    }
}

fn at_least(term: Term, expected: u64, found: u64) -> Result<(), ContractError> {
    if found >= expected {
        return Ok(());
    }
    Err(differs(term, expected, found))
}
