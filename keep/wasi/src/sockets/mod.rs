// SPDX-License-Identifier: Apache-2.0

//! Sockets that are open when a program starts: listeners and connections of TCP, with TLS around them or in clear.
//!
//! The host carries the bytes, and its grant says where. Peers and host are not trusted: with TLS the host sees and changes
//! nothing, and a peer is whoever its certificate says.

mod connection;
mod listener;
mod open;

use enarx_sallyport::{Call, Handle};

use crate::budget::Budget;
use crate::port::Port;

pub use connection::Connection;
pub use listener::Listener;
pub use open::{Cause, Opened, Opener, SocketError};

/// A socket of the host; closed when dropped.
struct Socket {
    port: Port,
    handle: Handle,
}

impl Socket {
    /// The socket that a call has made.
    fn new(port: &Port, value: u64) -> Self {
        // A handle has 32 bits; the port has checked the value.
        let handle = Handle(u32::try_from(value).unwrap_or_else(|_| port.bad_reply()));
        Self {
            port: port.clone(),
            handle,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let handle = self.handle;
        self.port.post(&Call::Close { handle });
    }
}

/// Memory that connections have taken; given back when dropped.
struct Share {
    budget: Budget,
    bytes: u64,
}

impl Share {
    /// Takes memory. `None` if there is not enough.
    fn take(budget: &Budget, bytes: u64) -> Option<Self> {
        budget.take_heap(bytes).then(|| Self {
            budget: budget.clone(),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_heap(self.bytes);
    }
}
