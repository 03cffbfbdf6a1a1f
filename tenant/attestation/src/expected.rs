// SPDX-License-Identifier: Apache-2.0

//! The expectations of one verification, besides the policy, which stays the same for all. The caller is trusted.

use crate::Timestamp;
use crate::hex::Hex;
use crate::policy::Policy;
use crate::reference::ReferenceValue;

/// The values that evidence is compared with besides the policy, and the time. Whatever is given is compared, or the evidence is refused.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Expected<'a> {
    /// The time of the verification, by the caller's clock.
    pub at: Timestamp,
    /// The time until which revocation lists may have been issued: `at`, or later if a past time is judged by
    /// what is known today.
    pub known_at: Timestamp,
    /// The report data; `None`: only what the policy says, if anything.
    pub report_data: Option<Hex<64>>,
    /// The nonce from which the report data was computed, if it was.
    pub nonce: Option<&'a [u8]>,
    /// The reference values by which `snp.releases` is judged, all of a manifest whose signature the caller has checked;
    /// `None`: no manifest was given.
    pub references: Option<&'a [ReferenceValue]>,
}

impl<'a> Expected<'a> {
    /// Only what the policy says, at the time `at`.
    pub const fn at(at: Timestamp) -> Self {
        Self {
            at,
            known_at: at,
            report_data: None,
            nonce: None,
            references: None,
        }
    }

    /// A past time, judged by what is known at `now`, the caller's clock: revocation lists issued since then count,
    /// both for what they revoke and for what they do not. Without this, or if `now` is not later than the judged time,
    /// a list from the future is a sign of a wrong clock, and is refused.
    #[must_use]
    pub fn known_at(mut self, now: Timestamp) -> Self {
        self.known_at = self.at.max(now);
        self
    }

    /// Evidence of a Keep that was given this nonce, runs this application and has this configuration.
    #[must_use]
    pub fn of_keep(self, nonce: &'a [u8], application: &[u8], configuration: &[u8]) -> Self {
        let data = enarx_evidence::report_data(nonce, application, configuration);
        Self {
            nonce: Some(nonce),
            ..self.with_report_data(Hex(data))
        }
    }

    /// Evidence with this report data, whatever it was computed from.
    #[must_use]
    pub const fn with_report_data(mut self, report_data: Hex<64>) -> Self {
        self.report_data = Some(report_data);
        self.nonce = None;
        self
    }

    /// Evidence of a launch that this release manifest vouches for.
    #[must_use]
    pub const fn with_references(mut self, references: &'a [ReferenceValue]) -> Self {
        self.references = Some(references);
        self
    }

    /// True if no evidence can be what both this and the policy ask for: they name different report data.
    pub fn contradicts(&self, policy: &Policy) -> bool {
        let named = [
            policy.snp.report_data,
            policy.tdx.report_data,
            policy.sgx.report_data,
        ];
        let differs = |named: Hex<64>| self.report_data.is_some_and(|expected| expected != named);
        named.into_iter().flatten().any(differs)
    }
}
