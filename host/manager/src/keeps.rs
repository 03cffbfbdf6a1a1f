// SPDX-License-Identifier: Apache-2.0

//! All Keeps of a manager: who may have how many, one Keep for a contract, and what is recorded before anything happens.

use crate::bucket::Bucket;
use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::process::Starter;
use crate::refusal::Refusal;
use crate::store::{End, Id, Record, Store, StoreError};
use crate::tokens::Owner;
use crate::{Capacity, Rates, admission};
use enarx_contract::canonical::Base64;
use enarx_contract::{
    Agreement, Contract, Countersignature, Resources, Side, Tenant, signing_input,
};
use enarx_manager_api::{KeepAnswer, KeepInfo, KeepList, KeepState, NewKeep, Offer, code, limit};
use enarx_tls::Key;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// The share that a token has used up.
struct Account {
    launches: Bucket,
    requests: Arc<Semaphore>,
}

/// All Keeps.
pub(crate) struct Keeps {
    offer: Offer,
    capacity: Capacity,
    rates: Rates,
    key: Key,
    doors: PathBuf,
    store: Arc<Store>,
    starter: Starter,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    living: Mutex<HashMap<Id, Arc<Keep>>>,
    accounts: Mutex<HashMap<Owner, Account>>,
    /// Held while a Keep is looked for and made, so that the same contract finds the same Keep.
    launching: tokio::sync::Mutex<()>,
}

/// A Keep, living or not.
pub(crate) enum Found {
    Living(Arc<Keep>),
    Ended(KeepInfo),
}

impl Found {
    pub(crate) fn info(&self) -> KeepInfo {
        match self {
            Self::Living(keep) => keep.info(),
            Self::Ended(info) => info.clone(),
        }
    }
}

/// The parts of which [`Keeps`] are made.
pub(crate) struct Parts {
    pub offer: Offer,
    pub capacity: Capacity,
    pub rates: Rates,
    pub key: Key,
    /// The folder of the Keeps' doors.
    pub doors: PathBuf,
    pub store: Store,
    pub starter: Starter,
    pub metrics: Arc<Metrics>,
}

impl Keeps {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            offer: parts.offer,
            capacity: parts.capacity,
            rates: parts.rates,
            key: parts.key,
            doors: parts.doors,
            store: Arc::new(parts.store),
            starter: parts.starter,
            metrics: parts.metrics,
            draining: AtomicBool::new(false),
            living: Mutex::default(),
            accounts: Mutex::default(),
            launching: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    fn living(&self) -> MutexGuard<'_, HashMap<Id, Arc<Keep>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_account<T>(&self, owner: Owner, with: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        with(accounts.entry(owner).or_insert_with(|| Account {
            launches: Bucket::new(self.rates.launches_per_minute),
            requests: Arc::new(Semaphore::new(
                usize::try_from(self.rates.requests).unwrap_or(usize::MAX),
            )),
        }))
    }

    /// Counts a request of this token until the result is dropped.
    pub(crate) fn request(&self, owner: Owner) -> Result<OwnedSemaphorePermit, Refusal> {
        let requests = self.with_account(owner, |account| account.requests.clone());
        requests.try_acquire_owned().map_err(|_| Refusal::Requests {
            limit: self.rates.requests,
        })
    }

    /// True while new contracts are taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Takes no new contracts from now on. When this returns, no launch is under way.
    pub(crate) async fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
        drop(self.launching.lock().await);
    }

    /// Launches the Keep of a contract, or finds it. True if it is new.
    ///
    /// It runs to its end although the client may be gone: what it has begun is recorded.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        owner: Owner,
        new: NewKeep,
    ) -> Result<(KeepAnswer, bool), Refusal> {
        let keeps = self.clone();
        let launch = tokio::spawn(async move { keeps.find_or_launch(owner, new).await });
        launch.await.map_err(Refusal::manager)?
    }

    async fn find_or_launch(
        self: &Arc<Self>,
        owner: Owner,
        new: NewKeep,
    ) -> Result<(KeepAnswer, bool), Refusal> {
        let contract = Contract::decode(&new.contract.0)?;
        admission::check_parties(&contract, &self.offer)?;
        let Tenant::Named(tenant) = contract.terms().tenant else {
            return Err(Refusal::Open);
        };
        contract.verify_tenant(&tenant, &new.tenant_signature)?;

        let _one_at_a_time = self.launching.lock().await;
        if let Some(answer) = self.find_by_contract(&owner, &contract).await? {
            return Ok((answer, false));
        }
        if !self.is_open() {
            return Err(Refusal::Draining);
        }
        admission::check_terms(&contract, &self.offer, crate::now())?;
        self.check_room(&owner, contract.terms().resources)?;
        self.with_account(owner, |account| account.launches.take(Instant::now()))
            .map_err(Refusal::Launches)?;

        let host_signature = self
            .key
            .sign(&signing_input(Side::Host, contract.digest()))
            .map_err(Refusal::manager)?;
        let agreement = Agreement {
            contract: Base64(contract.bytes().to_vec()),
            tenant: Some(Countersignature {
                key: tenant,
                signature: new.tenant_signature,
            }),
            host: Some(host_signature),
        };
        let id = contract.keep_id();
        let keep = Arc::new(Keep::new(
            contract,
            owner,
            host_signature,
            crate::now(),
            self.doors.join(format!("{id}.sock")),
        ));
        let record = Record::new(
            agreement,
            *keep.contract.digest(),
            owner,
            keep.created,
            keep.contract.terms().times.not_after,
        );
        // Whoever asks for it meanwhile finds it launching.
        self.living().insert(id, keep.clone());
        let stored = self
            .with_store(move |store| store.insert(&id, &record))
            .await;
        if let Err(refusal) = stored {
            self.living().remove(&id);
            keep.ended(End {
                reason: code::end::START.to_string(),
                code: None,
                at: crate::now(),
            });
            return Err(refusal);
        }
        self.metrics.launched();
        tracing::info!(keep = %id, "a Keep was asked for");
        let answer = KeepAnswer {
            keep: keep.info(),
            host_signature,
        };
        let keeps = self.clone();
        tokio::spawn(async move { keeps.live(keep).await });
        Ok((answer, true))
    }

    /// The Keep of this contract, if there is one.
    async fn find_by_contract(
        &self,
        owner: &Owner,
        contract: &Contract,
    ) -> Result<Option<KeepAnswer>, Refusal> {
        let id = contract.keep_id();
        let living = self.living().get(&id).cloned();
        if let Some(keep) = living {
            if keep.owner != *owner || keep.contract.digest() != contract.digest() {
                return Err(Refusal::Taken);
            }
            return Ok(Some(KeepAnswer {
                keep: keep.info(),
                host_signature: keep.host_signature,
            }));
        }
        let Some(record) = self.with_store(move |store| store.get(&id)).await? else {
            return Ok(None);
        };
        let Some(host_signature) = record.agreement.host else {
            return Err(Refusal::Taken);
        };
        if record.owner != *owner || record.digest != *contract.digest() {
            return Err(Refusal::Taken);
        }
        Ok(Some(KeepAnswer {
            keep: record.info(id),
            host_signature,
        }))
    }

    /// Checks that one more Keep fits: into what the token may have, and into the host.
    fn check_room(&self, owner: &Owner, wanted: Resources) -> Result<(), Refusal> {
        let living = self.living();
        let used = |of: Option<&Owner>| {
            living
                .values()
                .filter(|keep| of.is_none_or(|owner| keep.owner == *owner))
                .map(|keep| keep.contract.terms().resources)
                .chain([wanted])
                .fold(
                    (0_u64, 0_u64, 0_u64),
                    |(keeps, vcpus, memory), resources| {
                        (
                            keeps + 1,
                            vcpus + u64::from(resources.vcpus),
                            memory.saturating_add(resources.memory),
                        )
                    },
                )
        };
        let (keeps, vcpus, memory) = used(Some(owner));
        let limits = &self.offer.limits;
        for (code, limit, wanted) in [
            (code::LIMIT_KEEPS, limits.keeps.into(), keeps),
            (code::LIMIT_VCPUS, limits.vcpus.into(), vcpus),
            (code::LIMIT_MEMORY, limits.memory, memory),
        ] {
            if wanted > limit {
                return Err(Refusal::Limit {
                    code,
                    limit,
                    wanted,
                });
            }
        }
        let (keeps, vcpus, memory) = used(None);
        let capacity = &self.capacity;
        let fits = keeps <= capacity.keeps.into()
            && vcpus <= capacity.vcpus.into()
            && memory <= capacity.memory;
        if fits { Ok(()) } else { Err(Refusal::Capacity) }
    }

    /// Serves a Keep to its end, and records that.
    async fn live(&self, keep: Arc<Keep>) {
        let end = keep.live(&self.starter).await;
        self.metrics.ended(&end.reason);
        let (id, recorded, log) = (keep.id, end.clone(), keep.log());
        let stored = self
            .with_store(move |store| store.end(&id, recorded, &log))
            .await;
        keep.ended(end);
        match stored {
            Ok(()) => {
                self.living().remove(&id);
            }
            // It is told from memory as long as the manager runs, and holds its place.
            Err(error) => {
                tracing::error!(keep = %id, %error, "the end of a Keep could not be recorded");
            }
        }
    }

    /// Uses the store in a thread that may block.
    async fn with_store<T: Send + 'static>(
        &self,
        with: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.store.clone();
        match spawn_blocking(move || with(&store)).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Refusal::manager(error)),
        }
    }

    /// The Keep of this name, if it is this token's.
    pub(crate) async fn find(&self, owner: &Owner, id: Id) -> Result<Found, Refusal> {
        let living = self.living().get(&id).cloned();
        if let Some(keep) = living {
            if keep.owner == *owner {
                return Ok(Found::Living(keep));
            }
            return Err(Refusal::Keep);
        }
        match self.with_store(move |store| store.get(&id)).await? {
            Some(record) if record.owner == *owner => Ok(Found::Ended(record.info(id))),
            _ => Err(Refusal::Keep),
        }
    }

    /// The last words of the process of a Keep.
    pub(crate) async fn log(&self, found: &Found) -> Result<String, Refusal> {
        match found {
            Found::Living(keep) => Ok(keep.log()),
            Found::Ended(info) => {
                let id = info.id;
                self.with_store(move |store| store.log(&id)).await
            }
        }
    }

    /// The Keeps of this token.
    pub(crate) async fn list(&self, owner: Owner) -> Result<KeepList, Refusal> {
        let mut keeps: Vec<_> = self
            .living()
            .values()
            .filter(|keep| keep.owner == owner)
            .map(|keep| keep.info())
            .collect();
        keeps.sort_by_key(|keep| std::cmp::Reverse(keep.created));
        // Of the records, those of the living are passed over.
        let most = limit::LIST + keeps.len();
        let (records, mut more) = self
            .with_store(move |store| store.owned(&owner, most))
            .await?;
        for (id, record) in records {
            if record.end.is_some() && keeps.iter().all(|keep| keep.id != id) {
                keeps.push(record.info(id));
            }
        }
        more |= keeps.len() > limit::LIST;
        keeps.truncate(limit::LIST);
        Ok(KeepList { keeps, more })
    }

    /// Ends all Keeps after `grace`.
    pub(crate) fn end_all(&self, grace: Duration, reason: &'static str) {
        for keep in self.living().values() {
            keep.end_after(grace, reason);
        }
    }

    /// Waits until no Keep lives.
    pub(crate) async fn all_ended(&self) {
        loop {
            let keep = self
                .living()
                .values()
                .find(|keep| keep.state() != KeepState::Ended)
                .cloned();
            match keep {
                Some(keep) => keep.wait(KeepState::Ended).await,
                None => return,
            }
        }
    }

    /// How many Keeps live.
    pub(crate) fn count(&self) -> usize {
        let living = self.living();
        living
            .values()
            .filter(|keep| keep.state() != KeepState::Ended)
            .count()
    }

    /// Removes records that are of no use any more.
    pub(crate) async fn forget(&self) {
        let forgotten = self.with_store(|store| store.forget(crate::now())).await;
        match forgotten {
            Ok(0) => {}
            Ok(number) => tracing::info!(number, "old records of Keeps were removed"),
            Err(error) => tracing::error!(%error, "old records of Keeps could not be removed"),
        }
    }

    /// All figures as text.
    pub(crate) fn metrics(&self) -> String {
        let states: Vec<_> = self.living().values().map(|keep| keep.state()).collect();
        for state in KeepState::ALL {
            if state != KeepState::Ended {
                let number = states.iter().filter(|found| **found == state).count();
                self.metrics.set_keeps(state.name(), number);
            }
        }
        self.metrics.text()
    }
}

/// Ends the Keeps that a killed manager left, in the record: their processes ended with it.
pub(crate) fn end_lost(store: &Store) -> Result<usize, StoreError> {
    store.end_living(&End {
        reason: code::end::MANAGER_LOST.to_string(),
        code: None,
        at: crate::now(),
    })
}
