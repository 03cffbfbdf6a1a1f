// SPDX-License-Identifier: Apache-2.0

//! `wasi:clocks`.

use wasmtime::component::Accessor;

use super::bindings::wasi::clocks::system_clock::{self, Instant};
use super::bindings::wasi::clocks::{monotonic_clock, types};
use super::state::State;
use crate::clock::RESOLUTION;
use crate::fs::Time;
use crate::preview2::Preview2;

/// A point in time, in the form that components use.
pub fn instant(time: Time) -> Instant {
    Instant {
        seconds: time.seconds(),
        nanoseconds: time.nanoseconds(),
    }
}

/// The point in time of an `instant`; `None` if it does not fit. Nanoseconds of a second and more count.
pub fn point(instant: &Instant) -> Option<Time> {
    let carried = i64::from(instant.nanoseconds / Time::SECOND);
    let seconds = instant.seconds.checked_add(carried)?;
    Time::new(seconds, instant.nanoseconds % Time::SECOND)
}

impl types::Host for Preview2 {}

impl system_clock::Host for Preview2 {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        Ok(instant(self.context().clocks.wall_time()?))
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(RESOLUTION)
    }
}

impl monotonic_clock::Host for Preview2 {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context().clocks.monotonic())
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(RESOLUTION)
    }
}

/// Waits until a monotonic time, which is computed when the clock is known.
async fn wait<U: 'static>(
    store: &Accessor<U, State>,
    when: impl FnOnce(u64) -> u64,
) -> wasmtime::Result<()> {
    let (port, at) = store.with(|mut store| {
        let context = store.get().context();
        let when = when(context.clocks.monotonic());
        (context.port.clone(), context.clocks.instant(when))
    });
    match at {
        Some(at) => port.sleep_until(at).await,
        None => std::future::pending().await,
    }
    Ok(())
}

impl<U: 'static> monotonic_clock::HostWithStore<U> for State {
    async fn wait_until(store: &Accessor<U, Self>, when: u64) -> wasmtime::Result<()> {
        wait(store, |_| when).await
    }

    async fn wait_for(store: &Accessor<U, Self>, duration: u64) -> wasmtime::Result<()> {
        wait(store, |now| now.saturating_add(duration)).await
    }
}
