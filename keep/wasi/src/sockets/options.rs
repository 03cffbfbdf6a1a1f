// SPDX-License-Identifier: Apache-2.0

//! Values of a socket's options as a program gives them. Zero is never right; the rest are hints, which are brought to
//! what Linux takes.

use enarx_sallyport::types::SocketOption;

use crate::error::{Errno, Result};

/// The longest time between keep-alive probes that Linux takes, in seconds (MAX_TCP_KEEPIDLE and
/// MAX_TCP_KEEPINTVL, include/net/tcp.h).
const KEEP_ALIVE_MAX: u64 = 32_767;
/// Most keep-alive probes that Linux takes (MAX_TCP_KEEPCNT, include/net/tcp.h).
const KEEP_ALIVE_COUNT_MAX: u32 = 127;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Largest size of a buffer that is requested: twice as much has 32 bits (Linux stores the double, socket(7)).
const BUFFER_MAX: u64 = (u32::MAX >> 2) as u64;

/// A value that must not be zero.
///
/// # Errors
/// [`Errno::Invalid`] if it is.
pub fn positive(value: u64) -> Result<u64> {
    if value == 0 {
        return Err(Errno::Invalid);
    }
    Ok(value)
}

/// A time of keep-alive in nanoseconds, rounded up to seconds.
///
/// # Errors
/// As [`positive`].
pub fn keep_alive_time(value: u64) -> Result<u64> {
    Ok(positive(value)?.div_ceil(SECOND).min(KEEP_ALIVE_MAX) * SECOND)
}

/// A number of probes of keep-alive.
///
/// # Errors
/// As [`positive`].
pub fn keep_alive_count(value: u32) -> Result<u64> {
    positive(value.min(KEEP_ALIVE_COUNT_MAX).into())
}

/// A size of a buffer in bytes.
///
/// # Errors
/// As [`positive`].
pub fn buffer_size(value: u64) -> Result<u64> {
    Ok(positive(value)?.min(BUFFER_MAX))
}

/// The value of an option as the program sees it. Linux stores twice the size of a buffer (socket(7)); a program gets
/// the size that it has set.
pub fn told(option: SocketOption, value: u64) -> u64 {
    match option {
        SocketOption::ReceiveBuffer | SocketOption::SendBuffer => value / 2,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_refused_and_other_values_are_clamped() {
        assert_eq!(keep_alive_time(0), Err(Errno::Invalid));
        assert_eq!(keep_alive_count(0), Err(Errno::Invalid));
        assert_eq!(buffer_size(0), Err(Errno::Invalid));
        for (value, seconds) in [(1, 1), (SECOND, 1), (SECOND + 1, 2), (u64::MAX, 32_767)] {
            assert_eq!(keep_alive_time(value), Ok(seconds * SECOND));
        }
        assert_eq!(keep_alive_count(u32::MAX), Ok(127));
        assert_eq!(buffer_size(u64::MAX), Ok(BUFFER_MAX));
        assert_eq!(buffer_size(5), Ok(5));
        assert_eq!(told(SocketOption::SendBuffer, 0x20000), 0x10000);
        assert_eq!(told(SocketOption::HopLimit, 42), 42);
    }
}
