// SPDX-License-Identifier: Apache-2.0

//! A UDP socket of a component. The peer of a connected socket is stored here: the host sends to
//! any given address, and delivers datagrams from anybody.

use std::net::SocketAddr;
use std::sync::Arc;

use super::failure::Result;
use crate::error::Errno;
use crate::sockets::{Socket, address};

/// A UDP socket of a component.
pub struct UdpSocket {
    /// The socket of the host.
    pub(super) socket: Arc<Socket>,
    /// Its family; IPv4 if false.
    pub(super) is_ipv6: bool,
    /// It has an address.
    pub(super) is_bound: bool,
    /// The only peer, when the program has chosen one.
    pub(super) peer: Option<SocketAddr>,
}

impl UdpSocket {
    /// Gives it an address of this machine's.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn bind(&mut self, address: SocketAddr) -> Result<()> {
        self.socket.bind(address)?.take(&mut [])?;
        self.is_bound = true;
        Ok(())
    }

    /// An address that can be reached.
    ///
    /// # Errors
    /// [`Errno::Invalid`] for others.
    pub(super) fn remote(&self, address: SocketAddr) -> Result<SocketAddr, Errno> {
        let address = address::of_family(address, self.is_ipv6)?;
        address::possible_peer(address)
    }

    /// The address to which a datagram is sent.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if there is none, or one other than that of its only peer.
    pub(super) fn to(&self, to: Option<SocketAddr>) -> Result<SocketAddr, Errno> {
        let to = to.map(|to| self.remote(to)).transpose()?;
        match (self.peer, to) {
            (Some(peer), None) => Ok(peer),
            (Some(peer), Some(to)) if to == peer => Ok(peer),
            (None, Some(to)) => Ok(to),
            _ => Err(Errno::Invalid),
        }
    }
}
