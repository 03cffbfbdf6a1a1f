// SPDX-License-Identifier: Apache-2.0

//! A UDP socket of a component, and its datagrams. Peers and host are not trusted.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

use super::failure::Result;
use crate::budget::Share;
use crate::port::Operation;
use crate::sockets::{Datagram, Socket};

/// The state of a UDP socket.
pub(super) enum State {
    /// It has no address yet.
    Unbound,
    /// It is given its address.
    Binding(Operation),
    /// It has its address.
    Bound,
}

/// A UDP socket of a component.
pub struct UdpSocket {
    /// The socket of the host.
    pub(super) socket: Arc<Socket>,
    /// Its family; IPv4 if false.
    pub(super) is_ipv6: bool,
    /// Its state.
    pub(super) state: State,
    /// The only peer, when the program has chosen one.
    pub(super) peer: Option<SocketAddr>,
}

#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {
        if let State::Binding(operation) = &self.state {
            operation.ready().await;
        }
    }
}

/// Datagrams that come in.
pub struct Incoming {
    /// The socket of the host.
    pub(super) socket: Arc<Socket>,
    /// The only peer; `None` if there is no restriction.
    pub(super) peer: Option<SocketAddr>,
    /// Receives the next datagram.
    pub(super) pending: Option<Operation>,
    /// Memory for that datagram.
    pub(super) _share: Share,
}

impl Incoming {
    /// The operation that receives the next datagram; started when there is none.
    fn receiving(&mut self) -> Result<&mut Operation> {
        match &mut self.pending {
            Some(operation) => Ok(operation),
            none => Ok(none.insert(self.socket.receive()?)),
        }
    }

    /// The next datagram, when there is one.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn next(&mut self) -> Result<Option<Datagram>> {
        let socket = Arc::clone(&self.socket);
        let operation = self.receiving()?;
        if !operation.is_ready() {
            return Ok(None);
        }
        let datagram = socket.received(operation);
        self.pending = None;
        Ok(Some(datagram?))
    }
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        // `receive` reports the error.
        if let Ok(operation) = self.receiving() {
            operation.ready().await;
        }
    }
}

/// Datagrams that go out.
pub struct Outgoing {
    /// The socket of the host.
    pub(super) socket: Arc<Socket>,
    /// Its family; IPv4 if false.
    pub(super) is_ipv6: bool,
    /// The only peer; `None` if each datagram names its own.
    pub(super) peer: Option<SocketAddr>,
    /// Datagrams that may be sent before `check-send` is called again.
    pub(super) permit: usize,
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {}
}
