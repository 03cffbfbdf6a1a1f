// SPDX-License-Identifier: Apache-2.0

//! `wasi:clocks`.

use std::time::Instant;

use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::clocks::monotonic_clock;
use super::bindings::wasi::clocks::wall_clock::{self, Datetime};
use super::state::Preview2;
use crate::clock::RESOLUTION;
use crate::fs::Time;
use crate::port::Port;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A point in time of UNIX time in ns.
pub fn datetime(nanoseconds: u64) -> Datetime {
    Datetime {
        seconds: nanoseconds / SECOND,
        // Below a second, hence below 2^32.
        nanoseconds: u32::try_from(nanoseconds % SECOND).unwrap_or(0),
    }
}

/// The point in time of a `datetime`; `None` when it does not fit. Nanoseconds of a second and more count.
pub fn point(time: &Datetime) -> Option<Time> {
    let seconds = i64::try_from(time.seconds).ok()?;
    let carried = seconds.checked_add(i64::from(time.nanoseconds / Time::SECOND))?;
    Time::new(carried, time.nanoseconds % Time::SECOND)
}

impl wall_clock::Host for Preview2 {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        Ok(datetime(self.context.clocks.wall()?))
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(datetime(RESOLUTION))
    }
}

/// A deadline; `None` never comes.
struct Deadline {
    port: Port,
    at: Option<Instant>,
}

#[async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        match self.at {
            Some(at) => self.port.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

impl Preview2 {
    fn subscribe_until(&mut self, at: Option<Instant>) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.table.push(Deadline {
            port: self.context.port.clone(),
            at,
        })?;
        subscribe(&mut self.table, deadline)
    }
}

impl monotonic_clock::Host for Preview2 {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.context.clocks.monotonic())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(RESOLUTION)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_until(self.context.clocks.instant(when))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let clocks = &self.context.clocks;
        let when = clocks.monotonic().saturating_add(duration);
        self.subscribe_until(clocks.instant(when))
    }
}
