// SPDX-License-Identifier: Apache-2.0

//! The tenant's settings for judging evidence. They are trusted and come only from the tenant.

use enarx_attestation::{AmdEndorsements, CheckedSignatures, Policy, ReferenceValue, Timestamp};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The certificates that a source has; `None`: nothing for this report.
pub type Found<'a> = Pin<Box<dyn Future<Output = Option<AmdEndorsements>> + Send + 'a>>;

/// The end of asking the vendor for lists; the error is for people, without a period at its end.
pub type Renewed<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The tenant's own certificates and revocation lists, for hosts that have none or wrong ones.
pub trait Certificates: fmt::Debug + Send + Sync {
    /// The certificates on this machine for the key that signed this report, whole or in part.
    fn stored<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Found<'a>;

    /// The same after asking the vendor for missing ones. Never called for a simulated platform, which no vendor
    /// knows.
    fn fetched<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Found<'a>;

    /// Asks the vendor for its lists of revoked keys about this report, unless that was done within the last day:
    /// [`Self::stored`] has them then. Never called for a simulated platform.
    fn renewed<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Renewed<'a>;
}

/// The basis for judging evidence, and the validity of the verdict.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The policy.
    pub policy: Policy,
    /// The reference values of a release manifest whose signature the caller has checked; `None`: there is none.
    pub references: Option<Vec<ReferenceValue>>,
    /// Time for which a verdict over a session is valid. The agent requests evidence again before that.
    pub max_age: Duration,
    /// The tenant's own certificates, for hosts that have none or wrong ones; `None`: only those of hosts are
    /// used.
    pub certificates: Option<Arc<dyn Certificates>>,
    /// The vendor is asked for its revocation lists before anything is released, even if a host's own would
    /// suffice; without them no host is accepted.
    pub renews_lists: bool,
    /// A cache of checked signatures for all sessions: those of a chip's certificates and lists are checked once,
    /// whatever their source.
    pub signatures: CheckedSignatures,
}

impl Trust {
    /// One hour: the age at which a verdict expires unless the tenant says otherwise.
    pub const MAX_AGE: Duration = Duration::from_hours(1);

    /// Evidence is judged by this policy, without a release manifest and by the certificates of hosts.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            references: None,
            max_age: Self::MAX_AGE,
            certificates: None,
            renews_lists: false,
            signatures: CheckedSignatures::default(),
        }
    }
}
