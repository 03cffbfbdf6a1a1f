// SPDX-License-Identifier: Apache-2.0

//! The started Keeps that wait to be claimed: as many of each class as the host's owner wants, each under an open
//! contract that the host writes and signs. They are refilled after claims, replaced when they are old, and launched
//! with increasing pauses while they fail.

use crate::backoff::Backoff;
use crate::refusal::Refusal;
use crate::{Class, ManagerError, Settings};
use enarx_contract::canonical::{Hex, Name};
use enarx_contract::{Contract, Doors, Host, MAX_CLOCK_SKEW, Tenant, Terms, Times};
use enarx_manager_api::{ClassOffer, Offer, Ready, limit};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Minimum seconds for which an open contract is valid after its Keep is replaced: the time that a tenant needs who
/// claims it at the last moment.
const VALID_AFTER: u64 = 25 * 3600;

/// Seconds that a Keep waits for its application beyond the time for which it waits for a claim.
const UNPROVISIONED: u64 = 600;

/// How long nothing is launched after a claim: the Keep that was claimed has the processors for its start.
const QUIET: Duration = Duration::from_secs(1);

/// A class, with the record of its launches.
pub(crate) struct Slot {
    pub(crate) class: Class,
    backoff: Mutex<Backoff>,
}

impl Slot {
    /// Applies `with` to the record of its launches.
    pub(crate) fn backoff<T>(&self, with: impl FnOnce(&mut Backoff) -> T) -> T {
        with(&mut self.backoff.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The classes of a host.
pub(crate) struct Pool {
    pub(crate) slots: Vec<Slot>,
    /// Time that a Keep waits for a claim.
    pub(crate) fresh: Duration,
    /// Notified when something changes that the pool depends on.
    pub(crate) changed: Notify,
    /// Before this, nothing is launched.
    quiet: Mutex<Option<Instant>>,
    /// Counts offers: each begins with another Keep, so that tenants who come together claim different ones.
    turn: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(classes: Vec<Class>, fresh: Duration) -> Self {
        let slot = |class| Slot {
            class,
            backoff: Mutex::default(),
        };
        Self {
            slots: classes.into_iter().map(slot).collect(),
            fresh,
            changed: Notify::new(),
            quiet: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Makes the pool check its Keeps.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Chooses those that one offer shows, of all that are ready.
    pub(crate) fn choose(&self, mut ready: Vec<Ready>) -> Vec<Ready> {
        if ready.is_empty() {
            return ready;
        }
        ready.sort_by(|a, b| (&a.class, &a.contract.0).cmp(&(&b.class, &b.contract.0)));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % ready.len();
        ready.rotate_left(turn);
        let mut shown: Vec<Ready> = Vec::new();
        for keep in ready {
            if shown
                .iter()
                .filter(|other| other.class == keep.class)
                .count()
                < limit::READY
            {
                shown.push(keep);
            }
        }
        shown
    }

    fn with_backoff(&self, class: &Name, with: impl FnOnce(&mut Backoff)) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.class.name == *class) {
            slot.backoff(with);
        }
    }

    /// Records that a Keep of this class was claimed.
    pub(crate) fn claimed(&self, class: &Name) {
        self.with_backoff(class, Backoff::succeeded);
        // Of several claims the first one counts, so that a busy pool is filled too.
        if self.quiet().is_zero() {
            let until = Instant::now().checked_add(QUIET);
            *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
        self.wake();
    }

    /// Time during which nothing is launched.
    pub(crate) fn quiet(&self) -> Duration {
        let until = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Records that a Keep of this class failed after this time.
    pub(crate) fn failed(&self, class: &Name, lived: Duration) {
        self.with_backoff(class, |backoff| backoff.failed(lived, Instant::now()));
    }
}

/// A class, as the offer shows it.
pub(crate) fn offered(class: &Class) -> ClassOffer {
    ClassOffer {
        name: class.name.clone(),
        vcpus: class.resources.vcpus,
        memory: class.resources.memory,
        warm: class.warm,
    }
}

/// Checks that the classes make sense under the other settings.
///
/// # Errors
/// [`ManagerError::Setting`].
pub(crate) fn check(settings: &Settings) -> Result<(), ManagerError> {
    let refuse = |range| {
        Err(ManagerError::Setting {
            setting: "classes",
            range,
        })
    };
    if settings.classes.len() > limit::CLASSES {
        return refuse("at most 16");
    }
    let mut names = HashSet::new();
    let limits = &settings.limits;
    for class in &settings.classes {
        if !names.insert(class.name.as_str()) {
            return refuse("of different names");
        }
        if class.name.as_str() == enarx_contract::PROBE {
            return refuse("of other names than `probe`");
        }
        if class.resources.vcpus > limits.vcpus
            || class.resources.memory > limits.memory
            || class.runtime_seconds_max > limits.runtime_seconds_max
            || class.detached_seconds_max > limits.detached_seconds_max
        {
            return refuse("within the limits of one token");
        }
    }
    Ok(())
}

/// A new open contract of this class, whose Keep waits for `fresh` from `now` on, in seconds since 1970.
pub(crate) fn contract(
    offer: &Offer,
    class: &Class,
    fresh: Duration,
    now: u64,
) -> Result<Contract, Refusal> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Refusal::manager)?;
    let terms = Terms {
        version: enarx_contract::VERSION,
        id: Hex(id),
        host: Host {
            key: offer.key,
            name: offer.name.clone(),
        },
        tenant: Tenant::Open,
        platform: class.platform.clone(),
        image: class.image.clone(),
        resources: class.resources,
        doors: Doors::default(),
        times: Times {
            not_before: now.saturating_sub(MAX_CLOCK_SKEW),
            not_after: now
                .saturating_add(fresh.as_secs())
                .saturating_add(VALID_AFTER),
            unprovisioned_seconds: u32::try_from(fresh.as_secs().saturating_add(UNPROVISIONED))
                .unwrap_or(u32::MAX),
            detached_seconds_max: class.detached_seconds_max,
            runtime_seconds_max: class.runtime_seconds_max,
        },
        class: class.name.clone(),
    };
    Ok(Contract::new(terms)?)
}
