// SPDX-License-Identifier: Apache-2.0

//! The border between the runtime of a process Keep and its host: descriptors that the runtime is
//! started with, and the messages of its doorbell, a socket that keeps message boundaries.
//!
//! | message | direction | meaning |
//! |---|---|---|
//! | [`RING`] | to the host | requests are posted |
//! | [`WAIT`], 4 bytes, 1 byte, 8 bytes | to the host | sleep until the completion ring's tail differs from the first number, at most the third in nanoseconds ([`FOREVER`]: no limit); the second tells the completions that count (`enarx_sallyport::Until`); little-endian |
//! | [`WAKE`] | to the runtime | look at the completions |

/// Descriptor of the sallyport's memory.
pub const REGION_FD: i32 = 3;
/// Descriptor of the doorbell.
pub const DOORBELL_FD: i32 = 4;

/// First byte of a message: requests are posted.
pub const RING: u8 = b'R';
/// First byte of a message: the runtime sleeps.
pub const WAIT: u8 = b'W';
/// The host's answer: something is completed, or the time is over.
pub const WAKE: u8 = 1;

/// A time to wait without limit, in nanoseconds; also of [`crate::ExitFunction::Wait`].
pub const FOREVER: u64 = u64::MAX;
