// SPDX-License-Identifier: Apache-2.0

//! The signals by which a user asks a deployed program to end.

use std::time::Duration;

use enarx_agent::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Default time that an application has to end by itself after the first SIGINT or SIGTERM to the command.
pub const GRACE: Duration = Duration::from_secs(10);

/// Has SIGINT and SIGTERM stop what `stop` is for.
///
/// # Errors
/// The system's.
pub fn interrupts(stop: &Stop) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let failed = |error| Failure::new(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let handle = stop.clone();
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            handle.request();
        }
    }))
}
