// SPDX-License-Identifier: Apache-2.0

//! Sockets that are open when a program starts: listeners and connections of TCP, with TLS around them or in clear.
//!
//! The host carries the bytes, and its grant says where. Peers and host are not trusted: with TLS the host sees and changes
//! nothing, and a peer is whoever its certificate says.

mod connection;
mod listener;
mod open;

use enarx_sallyport::types::SocketOption;
use enarx_sallyport::{Call, Handle};

use crate::budget::Budget;
use crate::error::Result;
use crate::port::{Answer, Port};

pub use connection::Connection;
pub use listener::Listener;
pub use open::{Cause, Opened, Opener, SocketError, listen};

/// A socket of the host; closed when dropped.
pub struct Socket {
    pub(crate) port: Port,
    pub(crate) handle: Handle,
}

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn open(port: &Port, call: &Call) -> Result<Self> {
        Ok(Self::new(port, &port.call(call, &[], &mut [])?))
    }

    /// Its handle, which counts as long as this lives.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    fn switch(&self, option: SocketOption, on: bool) -> Result<()> {
        let call = Call::SetOption {
            handle: self.handle,
            option,
            value: on.into(),
        };
        self.port.call(&call, &[], &mut [])?;
        Ok(())
    }

    /// The socket that a call has made.
    pub(crate) fn new(port: &Port, answer: &Answer) -> Self {
        Self {
            port: port.clone(),
            handle: port.handle(answer),
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
