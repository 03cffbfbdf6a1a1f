// SPDX-License-Identifier: Apache-2.0

//! How the keep's side wakes the host and sleeps until the host has done something.
//!
//! Outside of the region: in a Keep two system calls of the microkernel, in a process Keep messages
//! on a socket pair. The host may wake the keep late, early or never; it must not be relied on.

use core::time::Duration;

/// The keep's bell.
pub trait Doorbell {
    /// Tells the host: submissions are posted and you do not poll. Called when
    /// [`KeepEnd::doorbell_needed`](crate::KeepEnd::doorbell_needed) says so, after submitting.
    fn ring(&self);

    /// Sleeps until the completion ring's tail differs from `seen` (the value of
    /// [`KeepEnd::completions_seen`](crate::KeepEnd::completions_seen)) or until `timeout` is over;
    /// `None` is without limit. It may return early for no reason.
    ///
    /// The host compares the tail with `seen` after the call has reached it, so a completion that was
    /// posted in between is not slept over.
    fn wait(&self, seen: u32, timeout: Option<Duration>);
}
