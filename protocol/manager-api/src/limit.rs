// SPDX-License-Identifier: Apache-2.0

//! Sizes and times of the interface.

/// Largest body of a request, in bytes: a contract of 64 KiB in base64, and room.
pub const BODY: usize = 128 << 10;
/// Largest head of a request, in bytes.
pub const HEAD: usize = 16 << 10;
/// Seconds within which a request has to be complete.
pub const REQUEST_SECONDS: u64 = 10;
/// Most seconds that `?wait=STATE` waits. The answer has the state at that time, reached or not.
pub const WAIT_SECONDS: u64 = 30;
/// Seconds without a byte in either direction after which a session's connection is cut.
pub const IDLE_SECONDS: u64 = 90;
/// Connections to one Keep at a time.
pub const CONNECTIONS: usize = 2;
/// Most seconds of `?grace=SECONDS`; the session's STOP has the same limit.
pub const GRACE_SECONDS: u32 = 600;
/// Seconds of grace if the request names none.
pub const DEFAULT_GRACE_SECONDS: u32 = 10;
/// Largest log of a Keep, in bytes: the last ones are kept.
pub const LOG: usize = 64 << 10;
/// Most kinds of Keep in an [`crate::Offer`]. A client ignores further ones.
pub const PLATFORMS: usize = 8;
/// Most classes of a host.
pub const CLASSES: usize = 16;
/// Most ready Keeps of a class in an [`crate::Offer`].
pub const READY: usize = 4;
/// Most revocation lists in a [`crate::Collateral`]: as many as the verifier accepts.
pub const REVOCATION_LISTS: usize = 64;
/// Most Keeps in a [`crate::KeepList`].
pub const LIST: usize = 1000;
/// Largest answer of a manager, in bytes, except for sessions. A client reads no more.
pub const ANSWER: usize = 8 << 20;
/// Longest text in a [`crate::Problem`] or a [`crate::KeepInfo`], in characters of printable ASCII.
pub const TEXT: usize = 400;
