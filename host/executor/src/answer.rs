// SPDX-License-Identifier: Apache-2.0

//! Replies to requests of the Keep, which gets a status if a request failed.

use enarx_sallyport::Status;
use rustix::io::Errno;

/// The reply to a request that succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// Bytes of the reply in the buffer.
    pub length: u32,
    /// The number that is the reply.
    pub value: u64,
    /// A second one, of the few calls that have two.
    pub value2: u64,
}

impl Answer {
    /// A reply of this many bytes in the buffer.
    pub fn bytes(length: u32) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    /// A reply that is a number.
    pub fn value(value: impl Into<u64>) -> Self {
        Self {
            value: value.into(),
            ..Self::default()
        }
    }
}

/// The result of a request.
pub type Result<T, E = Status> = std::result::Result<T, E>;

/// The status of a failed system call.
pub fn status(errno: Errno) -> Status {
    Status::from_errno(errno.raw_os_error())
}
