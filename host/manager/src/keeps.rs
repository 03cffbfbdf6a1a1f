// SPDX-License-Identifier: Apache-2.0

//! All Keeps of a manager: limits per token, one Keep for each contract, and the records that are written before
//! anything happens.

use crate::bucket::Bucket;
use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::process::Starter;
use crate::record::{Claim, ClaimConsequence, Claimed, End, Id, Record, Settled, consequence};
use crate::refusal::Refusal;
use crate::store::{Store, StoreError};
use crate::tokens::Owner;
use crate::{Capacity, Class, Rates, admission};
use enarx_contract::canonical::Base64;
use enarx_contract::{
    Agreement, Contract, Countersignature, Resources, Side, Tenant, signing_input,
};
use enarx_manager_api::{
    KeepAnswer, KeepInfo, KeepList, KeepState, NewKeep, Offer, Ready, code, limit,
};
use enarx_tls::Key;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Time that a claimed Keep waits for its first session. During this it counts towards the tenant's limits, and would
/// otherwise wait as long as its contract says.
const FIRST_SESSION: Duration = Duration::from_mins(10);

/// Time that a replaced Keep may take to end.
const GIVE_WAY: Duration = Duration::from_secs(5);

/// The pause before the end of a Keep is recorded again, when that failed.
const RECORD_AGAIN: Duration = Duration::from_secs(5);

/// The share that a token has used up.
struct Account {
    launches: Bucket,
    requests: Arc<Semaphore>,
}

/// An amount of Keeps, virtual CPUs and memory.
#[derive(Clone, Copy, Default)]
struct Amount {
    keeps: u64,
    vcpus: u64,
    memory: u64,
}

impl Amount {
    fn and(self, keep: Resources) -> Self {
        Self {
            keeps: self.keeps.saturating_add(1),
            vcpus: self.vcpus.saturating_add(keep.vcpus.into()),
            memory: self.memory.saturating_add(keep.memory),
        }
    }

    fn fits(self, capacity: &Capacity) -> bool {
        self.keeps <= capacity.keeps.into()
            && self.vcpus <= capacity.vcpus.into()
            && self.memory <= capacity.memory
    }
}

/// All Keeps.
pub(crate) struct Keeps {
    offer: Offer,
    capacity: Capacity,
    pub(crate) pool: Pool,
    rates: Rates,
    key: Key,
    doors: PathBuf,
    store: Arc<Store>,
    starter: Starter,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    /// The last check of the clock for old records.
    looked: Mutex<Option<Instant>>,
    living: Mutex<HashMap<Id, Arc<Keep>>>,
    accounts: Mutex<HashMap<Owner, Account>>,
    /// Held while a Keep is searched, created, claimed or withdrawn, so that the same contract finds the same Keep,
    /// and an ending Keep is given to nobody.
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
    pub classes: Vec<Class>,
    pub fresh: Duration,
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
            pool: Pool::new(parts.classes, parts.fresh),
            rates: parts.rates,
            key: parts.key,
            doors: parts.doors,
            store: Arc::new(parts.store),
            starter: parts.starter,
            metrics: parts.metrics,
            draining: AtomicBool::new(false),
            looked: Mutex::default(),
            living: Mutex::default(),
            accounts: Mutex::default(),
            launching: tokio::sync::Mutex::default(),
        }
    }

    /// The host's offer, with the Keeps that are ready now.
    pub(crate) fn offer(&self) -> Offer {
        Offer {
            ready: self.ready(),
            ..self.offer.clone()
        }
    }

    /// The Keeps that may be claimed.
    fn ready(&self) -> Vec<Ready> {
        if !self.is_open() {
            return Vec::new();
        }
        let ready = self
            .unclaimed()
            .into_iter()
            .filter(|keep| keep.state() == KeepState::Ready && !keep.is_ending())
            .map(|keep| Ready {
                contract: Base64(keep.contract.bytes().to_vec()),
                host_signature: keep.host_signature,
                class: keep.contract.terms().class.clone(),
            });
        self.pool.choose(ready.collect())
    }

    /// The fixed part of the offer.
    pub(crate) fn terms(&self) -> &Offer {
        &self.offer
    }

    /// The Keeps that nobody has claimed.
    pub(crate) fn unclaimed(&self) -> Vec<Arc<Keep>> {
        let living = self.living();
        let unclaimed = living.values().filter(|keep| keep.is_unclaimed());
        unclaimed.cloned().collect()
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

    /// Takes no new contracts from now on. When this returns, no launch is under way, and the Keeps that nobody has claimed
    /// are ending.
    pub(crate) async fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.pool.wake();
        self.take_back(|_| true, code::end::SHUTDOWN).await;
    }

    /// Ends Keeps that nobody has claimed. None of them is claimed any more when this returns.
    pub(crate) async fn take_back(&self, which: impl Fn(&Keep) -> bool, reason: &'static str) {
        let _one_at_a_time = self.launching.lock().await;
        for keep in self.unclaimed() {
            if which(&keep) {
                keep.end_after(Duration::ZERO, reason);
            }
        }
    }

    /// Launches the Keep of a contract, claims it, or finds it. True if it is new.
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
        admission::check_host(&contract, &self.offer)?;
        let tenant = match (contract.terms().tenant, new.tenant_key) {
            (Tenant::Named(_), Some(_)) => {
                return Err(Refusal::TenantKey("named by the contract already"));
            }
            (Tenant::Open, None) => return Err(Refusal::TenantKey("missing")),
            (Tenant::Named(key), None) | (Tenant::Open, Some(key)) => Countersignature {
                key,
                signature: new.tenant_signature,
            },
        };
        contract.verify_tenant(&tenant.key, &tenant.signature)?;

        let _one_at_a_time = self.launching.lock().await;
        if contract.terms().tenant == Tenant::Open {
            let claim = Claim {
                owner,
                tenant,
                at: crate::clock::now(),
            };
            return Ok((self.claim(&contract, claim).await?, false));
        }
        if let Some(answer) = self.find_by_contract(&owner, &contract).await? {
            return Ok((answer, false));
        }
        if !self.is_open() {
            return Err(Refusal::Draining);
        }
        let resources = contract.terms().resources;
        admission::check_terms(&contract, &self.offer, crate::clock::now())?;
        self.check_share(&owner, resources)?;
        // First, so that a token that may not launch now does not end a waiting Keep.
        self.take_launch(owner)?;
        self.make_room(resources).await?;
        let answer = self.begin(contract, Some((owner, tenant))).await?;
        self.metrics.claimed("cold");
        Ok((answer, true))
    }

    /// Counts a launch of this token.
    fn take_launch(&self, owner: Owner) -> Result<(), Refusal> {
        self.with_account(owner, |account| account.launches.take(Instant::now()))
            .map_err(Refusal::Launches)
    }

    /// Launches a Keep that waits to be claimed. The contract is the host's own.
    pub(crate) async fn launch_open(self: &Arc<Self>, contract: Contract) -> Result<(), Refusal> {
        let _one_at_a_time = self.launching.lock().await;
        if !self.is_open() {
            return Err(Refusal::Draining);
        }
        // A waiting Keep ends no other.
        let used = self.used(|_| true).and(contract.terms().resources);
        if !used.fits(&self.capacity) {
            return Err(Refusal::Capacity);
        }
        self.begin(contract, None).await.map(drop)
    }

    /// Signs a contract, records it, and launches its Keep. The caller holds the lock of launches.
    async fn begin(
        self: &Arc<Self>,
        contract: Contract,
        tenant: Option<(Owner, Countersignature)>,
    ) -> Result<KeepAnswer, Refusal> {
        let host_signature = self
            .key
            .sign(&signing_input(Side::Host, contract.digest()))
            .map_err(Refusal::manager)?;
        let agreement = Agreement {
            contract: Base64(contract.bytes().to_vec()),
            tenant: tenant.map(|(_, signed)| signed),
            host: Some(host_signature),
        };
        let owner = tenant.map(|(owner, _)| owner);
        let (id, now) = (contract.keep_id(), crate::clock::now());
        let record = Record::new(
            agreement,
            *contract.digest(),
            owner,
            now,
            contract.terms().times.not_after,
        );
        let door = self.doors.join(format!("{id}.sock"));
        let keep = Arc::new(Keep::new(contract, owner, host_signature, now, door));
        // Requests for it in the meantime find it launching.
        self.living().insert(id, keep.clone());
        let begun = Instant::now();
        let stored = self
            .with_store(move |store| store.insert(&id, record))
            .await;
        let commit_us = microseconds(begun.elapsed());
        if let Err(refusal) = stored {
            self.living().remove(&id);
            keep.ended(End {
                reason: code::end::START.to_string(),
                code: None,
                at: crate::clock::now(),
            });
            return Err(refusal);
        }
        self.metrics.launched();
        if owner.is_some() {
            tracing::info!(keep = %id, "a Keep was asked for");
        } else {
            tracing::info!(keep = %id, "a Keep was launched ahead");
        }
        let answer = KeepAnswer {
            keep: keep.info(),
            host_signature,
            commit_us: Some(commit_us),
        };
        let keeps = self.clone();
        if owner.is_none() {
            let (keeps, keep) = (keeps.clone(), keep.clone());
            tokio::spawn(async move {
                keep.wait(KeepState::Ready).await;
                keeps.pool.wake();
            });
        }
        tokio::spawn(async move { keeps.live(keep).await });
        Ok(answer)
    }

    /// Gives the Keep of an open contract to the tenant who claims it. The caller holds the lock of launches, and the
    /// claim's signature is valid.
    async fn claim(
        self: &Arc<Self>,
        contract: &Contract,
        claim: Claim,
    ) -> Result<KeepAnswer, Refusal> {
        let (id, owner) = (contract.keep_id(), claim.owner);
        let living = self.living().get(&id).cloned();
        if let Some(keep) = living.as_ref().filter(|keep| keep.is_unclaimed()) {
            if !self.is_open() {
                return Err(Refusal::Draining);
            }
            if keep.is_ending() {
                return Err(Refusal::Gone);
            }
            self.check_share(&owner, contract.terms().resources)?;
            self.take_launch(owner)?;
        }
        let to_record = claim.clone();
        let begun = Instant::now();
        let recorded = self
            .with_store(move |store| store.claim(&id, &to_record))
            .await;
        let commit_us = microseconds(begun.elapsed());
        match (consequence(recorded.as_ref().ok().copied()), &living) {
            (ClaimConsequence::Give, Some(keep)) => keep.hold(&claim),
            (ClaimConsequence::Withdraw, Some(keep)) if keep.is_unclaimed() => {
                keep.end_after(Duration::ZERO, code::end::CLAIM_LOST);
            }
            (
                ClaimConsequence::Give | ClaimConsequence::Refuse(_) | ClaimConsequence::Withdraw,
                _,
            ) => {}
        }
        let claimed = match recorded? {
            Settled::Granted(claimed) => claimed,
            Settled::Refused(reason) => return Err(reason.into()),
        };
        if claimed == Claimed::Now {
            self.metrics.claimed("warm");
            tracing::info!(keep = %id, "a Keep was claimed");
            self.pool.claimed(&contract.terms().class);
            if let Some(keep) = living {
                tokio::spawn(end_unused(keep));
            }
        }
        let found = self.find_by_contract(&owner, contract).await?;
        Ok(KeepAnswer {
            commit_us: (claimed == Claimed::Now).then_some(commit_us),
            ..found.ok_or(Refusal::Open)?
        })
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
            if !keep.is_of(owner) || keep.contract.digest() != contract.digest() {
                return Err(Refusal::Taken);
            }
            return Ok(Some(KeepAnswer {
                keep: keep.info(),
                host_signature: keep.host_signature,
                commit_us: None,
            }));
        }
        let Some(record) = self.with_store(move |store| store.get(&id)).await? else {
            return Ok(None);
        };
        let Some(host_signature) = record.agreement.host else {
            return Err(Refusal::Taken);
        };
        if record.owner != Some(*owner) || record.digest != *contract.digest() {
            return Err(Refusal::Taken);
        }
        Ok(Some(KeepAnswer {
            keep: record.info(id),
            host_signature,
            commit_us: None,
        }))
    }

    /// The amount that these Keeps have.
    fn used(&self, of: impl Fn(&Keep) -> bool) -> Amount {
        let living = self.living();
        let resources = living
            .values()
            .filter(|keep| of(keep))
            .map(|keep| keep.contract.terms().resources);
        resources.fold(Amount::default(), Amount::and)
    }

    /// Checks that one more Keep fits into what the token may have.
    fn check_share(&self, owner: &Owner, wanted: Resources) -> Result<(), Refusal> {
        let used = self.used(|keep| keep.is_of(owner)).and(wanted);
        let limits = &self.offer.limits;
        for (code, limit, wanted) in [
            (code::LIMIT_KEEPS, limits.keeps.into(), used.keeps),
            (code::LIMIT_VCPUS, limits.vcpus.into(), used.vcpus),
            (code::LIMIT_MEMORY, limits.memory, used.memory),
        ] {
            if wanted > limit {
                return Err(Refusal::Limit {
                    code,
                    limit,
                    wanted,
                });
            }
        }
        Ok(())
    }

    /// Makes room for one more Keep on the host: unclaimed Keeps end if necessary. The caller holds the lock of
    /// launches, so that none of them is claimed in the meantime.
    async fn make_room(&self, wanted: Resources) -> Result<(), Refusal> {
        let mut used = self.used(|keep| !keep.is_unclaimed()).and(wanted);
        if !used.fits(&self.capacity) {
            return Err(Refusal::Capacity);
        }
        let mut waiting = self.unclaimed();
        // The most useful ones stay: those that are ready, and of these the youngest.
        waiting.sort_by_key(|keep| {
            let ready = keep.state() == KeepState::Ready && !keep.is_ending();
            (!ready, keep.age())
        });
        let mut leaving = Vec::new();
        for keep in waiting {
            let with = used.and(keep.contract.terms().resources);
            if with.fits(&self.capacity) {
                used = with;
            } else {
                keep.end_after(Duration::ZERO, code::end::GAVE_WAY);
                leaving.push(keep);
            }
        }
        let all = async {
            for keep in &leaving {
                keep.wait(KeepState::Ended).await;
            }
        };
        timeout(GIVE_WAY, all).await.map_err(|_| Refusal::Capacity)
    }

    /// Serves a Keep to its end, and records that.
    async fn live(&self, keep: Arc<Keep>) {
        let end = keep.live(&self.starter).await;
        self.metrics.ended(&end.reason);
        if keep.is_unclaimed() && !keep.is_ending() {
            tracing::warn!(keep = %keep.id, reason = end.reason, "a Keep that waited for a tenant has failed");
            self.pool.failed(&keep.contract.terms().class, keep.age());
        }
        let (id, log) = (keep.id, keep.log());
        let record = async || {
            let (end, log) = (end.clone(), log.clone());
            let recorded = self.with_store(move |store| store.end(&id, end, &log));
            recorded.await
        };
        let mut recorded = record().await;
        keep.ended(end.clone());
        // Until it is recorded, the end is reported from memory, and the Keep keeps its place.
        while let Err(error) = recorded {
            tracing::error!(keep = %id, %error, "the end of a Keep could not be recorded yet");
            sleep(RECORD_AGAIN).await;
            recorded = record().await;
        }
        self.living().remove(&id);
        self.pool.wake();
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
            if keep.is_of(owner) {
                return Ok(Found::Living(keep));
            }
            return Err(Refusal::Keep);
        }
        match self.with_store(move |store| store.get(&id)).await? {
            Some(record) if record.owner == Some(*owner) => Ok(Found::Ended(record.info(id))),
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

    /// The Keeps of this token: first those that live, and of each kind the newest first.
    pub(crate) async fn list(&self, owner: Owner) -> Result<KeepList, Refusal> {
        let mut keeps: Vec<_> = self
            .living()
            .values()
            .filter(|keep| keep.is_of(&owner))
            .map(|keep| keep.info())
            .collect();
        let most = limit::LIST + keeps.len();
        let (records, mut more) = self
            .with_store(move |store| store.owned(&owner, most))
            .await?;
        let place = |keep: &KeepInfo| records.iter().position(|(id, _)| *id == keep.id);
        keeps.sort_by_key(|keep| place(keep).unwrap_or(usize::MAX));
        // Records of living Keeps are skipped.
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

    /// Checks the clock, and removes records that are no longer needed.
    pub(crate) async fn forget(&self) {
        let now = Instant::now();
        let before = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            looked.replace(now)
        };
        let after = before.map_or(Duration::ZERO, |before| now.duration_since(before));
        let forgotten = self
            .with_store(move |store| store.forget(crate::clock::now(), after))
            .await;
        match forgotten {
            Ok(0) => {}
            Ok(number) => tracing::info!(number, "old records of Keeps were removed"),
            Err(error) => tracing::error!(%error, "old records of Keeps could not be removed"),
        }
    }

    /// All figures as text. Keeps that have ended are those whose end is not recorded yet: they hold their places.
    pub(crate) fn metrics(&self) -> String {
        let states: Vec<_> = self.living().values().map(|keep| keep.state()).collect();
        for state in KeepState::ALL {
            let number = states.iter().filter(|found| **found == state).count();
            self.metrics.set_keeps(state.name(), number);
        }
        self.metrics.text()
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Ends a claimed Keep whose tenant never comes.
async fn end_unused(keep: Arc<Keep>) {
    let ended = timeout(FIRST_SESSION, keep.wait(KeepState::Ended)).await;
    if ended.is_err() && !keep.is_used() {
        keep.end_after(Duration::ZERO, code::end::UNUSED);
    }
}

/// Ends the Keeps that a killed manager left, in the record: their processes ended with it.
pub(crate) fn end_lost(store: &Store) -> Result<usize, StoreError> {
    store.end_unfinished(&End {
        reason: code::end::MANAGER_LOST.to_string(),
        code: None,
        at: crate::clock::now(),
    })
}
