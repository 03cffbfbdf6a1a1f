// SPDX-License-Identifier: Apache-2.0

//! The way in which the keep's side wakes the host and sleeps until the host has done something.
//!
//! This is outside the region: in a Keep it is two system calls of the microkernel, in a process
//! Keep messages on a socket pair. The host may wake the keep late, early or never; it must not be
//! relied on.

use core::time::Duration;

/// The event that ends a sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Any completion.
    #[default]
    Completion,
    /// A completion that is more than a write's success: a [`StreamWrite`](crate::Call::StreamWrite) that wrote all of its
    /// bytes when the host took it ends no sleep.
    News,
}

impl Until {
    /// Its number outside the region. 0 is [`Self::Completion`].
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Completion => 0,
            Self::News => 1,
        }
    }

    /// The one with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Completion),
            1 => Some(Self::News),
            _ => None,
        }
    }
}

/// The keep's bell.
pub trait Doorbell {
    /// Tells the host: submissions are posted and you do not poll. Called when
    /// [`KeepEnd::doorbell_needed`](crate::KeepEnd::doorbell_needed) says so, after submitting.
    fn ring(&self);

    /// Sleeps until there is a completion of the kind `until` after `seen` (the value of
    /// [`KeepEnd::completions_seen`](crate::KeepEnd::completions_seen)), or until `timeout` is over;
    /// `None` is without limit. It may return early without a reason.
    ///
    /// The host checks the completions after the call has reached it, so one that was posted in
    /// between is not missed.
    fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>);
}
