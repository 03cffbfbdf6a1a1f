// SPDX-License-Identifier: Apache-2.0

//! The result of a function of a socket, and the error of a state that does not permit it.

use crate::error::{Errno, Fault};

/// The result of a function of a socket.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// The error number of a call that a socket's state does not permit.
pub const INVALID_STATE: Errno = Errno::NotConnected;
