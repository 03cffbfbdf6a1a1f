// SPDX-License-Identifier: Apache-2.0

//! The clocks of the application.
//!
//! Monotonic time is the Keep's own; wall-clock time comes from the host and is not trusted. Certificates are
//! judged by the time that the Keep's tenant has given, if there is a tenant.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use enarx_sallyport::Call;
use enarx_sallyport::types::Time;
use enarx_tls::web;

use crate::error::Result;
use crate::port::Port;

/// How long an answer of the host is carried on by the monotonic clock before it is asked again.
const REFRESH: Duration = Duration::from_mins(1);

/// The time this many nanoseconds after the UNIX epoch.
pub fn time(nanoseconds: u64) -> Time {
    let second = u64::from(Time::SECOND);
    // Both fit: a quotient by 10^9 is below 2^63, a remainder below 10^9.
    let seconds = i64::try_from(nanoseconds / second).unwrap_or(i64::MAX);
    let rest = u32::try_from(nanoseconds % second).unwrap_or(0);
    Time::new(seconds, rest).unwrap_or_default()
}

/// Resolution that both clocks state, in ns.
pub const RESOLUTION: u64 = 1;

#[derive(Clone, Copy)]
struct Wall {
    asked: Instant,
    nanoseconds: u64,
}

/// A time from a trusted party, continued by the Keep's own clock.
#[derive(Clone, Copy, Debug)]
pub struct TrustedTime {
    since_epoch: Duration,
    at: Instant,
}

impl TrustedTime {
    /// This UNIX time, given now.
    pub fn now(since_epoch: Duration) -> Self {
        Self {
            since_epoch,
            at: Instant::now(),
        }
    }

    fn current(&self) -> Duration {
        self.since_epoch.saturating_add(self.at.elapsed())
    }
}

/// The clocks; clones share the host's last answer.
#[derive(Clone)]
pub struct Clocks {
    port: Port,
    start: Instant,
    told: Option<TrustedTime>,
    wall: Arc<Mutex<Option<Wall>>>,
}

impl Clocks {
    /// Clocks that start now.
    pub fn new(port: Port) -> Self {
        Self {
            port,
            start: Instant::now(),
            told: None,
            wall: Arc::default(),
        }
    }

    /// The same clocks, which judge certificates by the given time.
    #[must_use]
    pub fn by(self, told: Option<TrustedTime>) -> Self {
        Self { told, ..self }
    }

    /// UNIX time by which certificates are judged: the given time, or otherwise the host's; `None` if there is
    /// neither.
    pub fn for_certificates(&self) -> Option<Duration> {
        match &self.told {
            Some(told) => Some(told.current()),
            None => self.wall().ok().map(Duration::from_nanos),
        }
    }

    /// The same, as TLS asks for it.
    pub fn for_tls(&self) -> web::Clock {
        let clocks = self.clone();
        Arc::new(move || clocks.for_certificates())
    }

    /// Monotonic time since the start of the Keep, in ns.
    pub fn monotonic(&self) -> u64 {
        self.port.count_exchange();
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant of a monotonic time in ns; `None` when it is too far away to ever come.
    pub fn instant(&self, monotonic: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(monotonic))
    }

    /// UNIX time, as the host says.
    ///
    /// # Errors
    /// The host's answer, if it is an error.
    pub fn wall_time(&self) -> Result<Time> {
        Ok(time(self.wall()?))
    }

    /// UNIX time in ns, as the host says.
    ///
    /// # Errors
    /// The host's answer, if it is an error.
    pub fn wall(&self) -> Result<u64> {
        self.port.count_exchange();
        let mut wall = self.wall.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wall) = *wall {
            let elapsed = wall.asked.elapsed();
            if elapsed < REFRESH {
                let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                return Ok(wall.nanoseconds.saturating_add(elapsed));
            }
        }
        let answer = self.port.call(&Call::ClockWall, &[], &mut [])?;
        *wall = Some(Wall {
            asked: Instant::now(),
            nanoseconds: answer.value,
        });
        Ok(answer.value)
    }
}
