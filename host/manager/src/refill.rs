// SPDX-License-Identifier: Apache-2.0

//! Keeps the pool of Keeps that wait for tenants full.

use crate::clock::now;
use crate::keep::Keep;
use crate::keeps::Keeps;
use crate::pool::contract;
use crate::refusal::Refusal;
use enarx_manager_api::{KeepState, code};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Launches at a time.
const LAUNCHES: usize = 2;

/// Interval for checking the pool if nothing happens.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

impl Keeps {
    /// Keeps the pool full until the manager ends.
    pub(crate) async fn fill(self: Arc<Self>) {
        while self.is_open() {
            let fresh = self.pool.fresh;
            let old = |keep: &Keep| keep.age() >= fresh;
            self.take_back(old, code::end::REPLACED).await;
            let pause = self.refill().await;
            let unclaimed = self.unclaimed().into_iter();
            let oldest = unclaimed
                .filter(|keep| !keep.is_ending())
                .map(|keep| keep.age())
                .max();
            let pause = oldest.map_or(pause, |age| pause.min(fresh.saturating_sub(age)));
            // It is checked, whether it changed or not.
            let _ = timeout(pause, self.pool.changed.notified()).await;
        }
    }

    /// Launches missing Keeps, as far as this is allowed now. Returns the time of the next check.
    async fn refill(self: &Arc<Self>) -> Duration {
        let mut pause = CHECK_INTERVAL;
        for slot in &self.pool.slots {
            loop {
                let quiet = self.pool.quiet();
                if !quiet.is_zero() {
                    return pause.min(quiet);
                }
                let waiting: Vec<_> = self
                    .unclaimed()
                    .into_iter()
                    .filter(|keep| !keep.is_ending())
                    .collect();
                let of_class = waiting
                    .iter()
                    .filter(|keep| keep.contract.terms().class == slot.class.name);
                let launching = waiting
                    .iter()
                    .filter(|keep| keep.state() == KeepState::Launching);
                if of_class.count() >= usize::try_from(slot.class.warm).unwrap_or(usize::MAX)
                    || launching.count() >= LAUNCHES
                {
                    break;
                }
                let later = slot.backoff(|backoff| backoff.pause(Instant::now()));
                if !later.is_zero() {
                    pause = pause.min(later);
                    break;
                }
                let launched = match contract(self.terms(), &slot.class, self.pool.fresh, now()) {
                    Ok(contract) => self.launch_open(contract).await,
                    Err(refusal) => Err(refusal),
                };
                match launched {
                    Ok(()) => {}
                    // Both pass without a try: something ends, or everything.
                    Err(Refusal::Capacity | Refusal::Draining) => break,
                    Err(refusal) => {
                        tracing::warn!(class = slot.class.name.as_str(), %refusal, "no Keep can be kept ready");
                        slot.backoff(|backoff| backoff.failed(Duration::ZERO, Instant::now()));
                    }
                }
            }
        }
        pause
    }
}
