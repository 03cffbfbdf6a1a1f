// SPDX-License-Identifier: Apache-2.0

//! The core's reasons for the failure of a socket function. The codes that a component sees belong
//! to the bindings, which name this type, so they are assigned where the functions are.

use wasmtime::component::ResourceTableError;

use crate::error::Errno;

/// The result of a function of a socket.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a function of a socket did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The component sees the code of this error.
    Errno(Errno),
    /// The component sees the code of this error of a look-up.
    Lookup(Errno),
    /// The component sees the code of this state.
    State(Unsuited),
    /// The component ends.
    Trap(wasmtime::Error),
}

/// The state of a socket that does not suit a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsuited {
    /// It does not permit the call.
    Invalid,
    /// Another operation is under way.
    Busy,
    /// No operation is under way that the call could finish.
    Idle,
    /// The operation is not at its end yet.
    Unready,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Unsuited> for Failure {
    fn from(state: Unsuited) -> Self {
        Self::State(state)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
