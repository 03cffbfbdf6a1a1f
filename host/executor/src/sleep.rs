// SPDX-License-Identifier: Apache-2.0

//! Sleeping until descriptors are ready or a deadline passes, which stopping the process (SIGSTOP) does
//! not delay.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Longest sleep that a stop (SIGSTOP) may make longer by as much as is left of it.
const UNTIMED: Duration = Duration::from_millis(100);

/// A timer that is readable from the deadline on; `None` if it is near, or if there is no deadline.
///
/// The kernel restarts a poll(2) after a stop with the remaining time, so the program would also sleep for
/// the time of the stop. A timer continues during the stop.
pub fn long_timer(deadline: Option<Instant>) -> rustix::io::Result<Option<OwnedFd>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let Some(left) = left.filter(|left| *left > UNTIMED) else {
        return Ok(None);
    };
    // A duration that cannot be expressed is longer than any Keep lives.
    if Timespec::try_from(left).is_err() {
        return Ok(None);
    }
    timer(left).map(Some)
}

/// A timer that is readable from `left` on, which is more than nothing.
pub fn timer(left: Duration) -> rustix::io::Result<OwnedFd> {
    let value = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: value,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(timer)
}

/// poll(2) until the deadline.
pub fn sleep(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> rustix::io::Result<usize> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // A duration that poll(2) cannot express is longer than any Keep lives.
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    poll(fds, timeout.as_ref())
}
