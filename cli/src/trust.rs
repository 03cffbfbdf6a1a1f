// SPDX-License-Identifier: Apache-2.0

//! The tenant's basis for judging Keeps, in addition to its policy: releases, and its own certificates for hosts that
//! have none.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use enarx_agent::{Certificates, Found, Renewed, Trust};
use enarx_attestation::{AmdEndorsements, Policy, Timestamp};
use enarx_collateral::{Fetcher, Store, Web};

use crate::certs::StoreArguments;
use crate::endorsements::certificates;
use crate::failure::Failure;
use crate::input::now;
use crate::release::ReferenceArguments;
use crate::typed::Flag;

/// The grounds on which Keeps are judged, beside the policy.
#[derive(Args)]
pub struct TrustArguments {
    /// A folder with certificates and revocation lists, as for `enarx verify`, for hosts that have none or wrong ones;
    /// what it lacks comes from the store
    #[arg(long, value_name = "DIR", env = "ENARX_CERTS")]
    certs: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    /// Fetch nothing from AMD: use only the certificates of hosts and of this machine
    #[arg(long, env = "ENARX_OFFLINE")]
    offline: bool,
    /// Fetch AMD's revocation lists first, unless that was done within the last day, even if a host's own lists are
    /// still valid. Without an answer, no host is accepted; simulated platforms have no such lists, so they are never
    /// accepted
    #[arg(id = Flag::FetchLists.id(), long = "fetch-lists", env = "ENARX_FETCH_LISTS", conflicts_with = "offline")]
    fetch_lists: bool,
    #[command(flatten)]
    references: ReferenceArguments,
}

impl TrustArguments {
    /// Everything by which a Keep is judged under this policy.
    ///
    /// # Errors
    /// When certificates or the release manifest cannot be read, or the manifest is refused.
    pub fn trust(&self, policy: Policy) -> Result<Trust, Failure> {
        let own = OwnCertificates {
            given: self.certs.as_deref().map(certificates).transpose()?,
            store: self.store.open(),
            offline: self.offline,
        };
        let mut trust = Trust::new(policy);
        if let Some(store) = &own.store {
            trust.signatures = store.signatures().clone();
        }
        trust.renews_lists = self.fetch_lists;
        trust.references = self.references.values(now())?;
        trust.certificates = Some(Arc::new(own));
        Ok(trust)
    }
}

/// The certificates of this machine, and those that AMD gives.
#[derive(Clone, Debug)]
struct OwnCertificates {
    given: Option<AmdEndorsements>,
    store: Option<Store>,
    offline: bool,
}

impl OwnCertificates {
    fn all(&self, report: &[u8], at: Timestamp) -> Option<AmdEndorsements> {
        match (&self.store, &self.given) {
            (Some(store), Some(given)) => Some(store.complete(given.clone(), report, at)),
            (Some(store), None) => Some(store.endorsements(report, at).amd),
            (None, given) => given.clone(),
        }
    }
}

impl Certificates for OwnCertificates {
    fn stored<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Found<'a> {
        Box::pin(std::future::ready(self.all(report, at)))
    }

    fn fetched<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Found<'a> {
        let (own, report) = (self.clone(), report.to_vec());
        Box::pin(async move {
            let store = own.store.clone().filter(|_| !own.offline)?;
            // The client of the services blocks its thread.
            let fetched = tokio::task::spawn_blocking(move || {
                let fetched =
                    Fetcher::new(&store, Web::new(enarx_agent::web_provider())).fetch(&report, at);
                if let Err(error) = fetched {
                    tracing::warn!(%error, "no certificates from AMD");
                    return None;
                }
                own.all(&report, at)
            });
            fetched.await.ok().flatten()
        })
    }

    fn renewed<'a>(&'a self, report: &'a [u8], at: Timestamp) -> Renewed<'a> {
        let (own, report) = (self.clone(), report.to_vec());
        Box::pin(async move {
            let Some(store) = own.store else {
                return Err("there is no data folder: set HOME, or give --store".to_owned());
            };
            let asked = tokio::task::spawn_blocking(move || {
                Fetcher::new(&store, Web::new(enarx_agent::web_provider()))
                    .fetch_lists(&report, at)
                    .map(drop)
            });
            let asked = asked.await.map_err(|error| error.to_string())?;
            asked.map_err(|error| error.to_string())
        })
    }
}
