// SPDX-License-Identifier: Apache-2.0

//! `wasi:sockets/udp` and `wasi:sockets/udp-create-socket` over [`UdpSocket`]s.

use std::sync::Arc;

use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use super::failure::{Failure, Result, Unsuited};
use super::resources::Network;
use super::udp_socket::{Incoming, Outgoing, State, UdpSocket};
use super::{bindable, family, from_std, is_ipv6, permitted, remote, to_std};
use crate::budget::Share;
use crate::error::Errno;
use crate::preview2::bindings::wasi::sockets::network::{IpAddressFamily, IpSocketAddress};
use crate::preview2::bindings::wasi::sockets::udp::{self, IncomingDatagram, OutgoingDatagram};
use crate::preview2::bindings::wasi::sockets::udp_create_socket;
use crate::preview2::state::Preview2;
use crate::sockets::{DATAGRAM_MAX, Socket, address, options};

/// Most datagrams that one call receives or sends, as in the engine's own WASI.
const DATAGRAMS_MAX: usize = 16;

impl udp_create_socket::Host for Preview2 {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<UdpSocket>> {
        permitted(self.context.network.udp)?;
        let ipv6 = is_ipv6(family);
        let socket = Arc::new(Socket::open(&self.context.port, &Call::UdpOpen { ipv6 })?);
        Ok(self.table.push(UdpSocket {
            socket,
            is_ipv6: ipv6,
            state: State::Unbound,
            peer: None,
        })?)
    }
}

impl udp::Host for Preview2 {}

impl udp::HostUdpSocket for Preview2 {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> Result<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::Unbound => {}
            State::Binding(_) => return Err(Unsuited::Busy.into()),
            State::Bound => return Err(Unsuited::Invalid.into()),
        }
        let address = bindable(address, socket.is_ipv6)?;
        socket.state = State::Binding(socket.socket.bind(address)?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        let State::Binding(operation) = &mut socket.state else {
            return Err(Unsuited::Idle.into());
        };
        if !operation.is_ready() {
            return Err(Unsuited::Unready.into());
        }
        let answer = operation.take(&mut []);
        socket.state = match answer {
            Ok(_) => State::Bound,
            Err(_) => State::Unbound,
        };
        answer?;
        Ok(())
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        peer: Option<IpSocketAddress>,
    ) -> Result<(Resource<Incoming>, Resource<Outgoing>)> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Bound) {
            return Err(Unsuited::Invalid.into());
        }
        let bound = Arc::clone(&socket.socket);
        let is_ipv6 = socket.is_ipv6;
        let peer = peer.map(|peer| remote(peer, is_ipv6)).transpose()?;
        socket.peer = peer;
        let incoming = Incoming {
            socket: Arc::clone(&bound),
            peer,
            pending: None,
            _share: Share::take(&self.context.budget, DATAGRAM_MAX as u64)
                .ok_or(Errno::NoMemory)?,
        };
        let outgoing = Outgoing {
            socket: bound,
            is_ipv6,
            peer,
            permit: 0,
        };
        Ok((
            self.table.push_child(incoming, &this)?,
            self.table.push_child(outgoing, &this)?,
        ))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match socket.state {
            State::Bound => {
                let own = socket.socket.local_address()?;
                Ok(from_std(address::towards(own, socket.peer)))
            }
            _ => Err(Unsuited::Invalid.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        let peer = self.table.get(&this)?.peer;
        peer.map(from_std).ok_or(Unsuited::Invalid.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(family(self.table.get(&this)?.is_ipv6))
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> Result<u8> {
        let socket = &self.table.get(&this)?.socket;
        Ok(socket.get_small(SocketOption::HopLimit, u8::MAX)?)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> Result<()> {
        let socket = &self.table.get(&this)?.socket;
        let limit = options::positive(value.into())?;
        Ok(socket.set(SocketOption::HopLimit, limit)?)
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64> {
        let socket = &self.table.get(&this)?.socket;
        Ok(socket.get(SocketOption::ReceiveBuffer)?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<()> {
        let socket = &self.table.get(&this)?.socket;
        let size = options::buffer_size(value)?;
        Ok(socket.set(SocketOption::ReceiveBuffer, size)?)
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64> {
        let socket = &self.table.get(&this)?.socket;
        Ok(socket.get(SocketOption::SendBuffer)?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<()> {
        let socket = &self.table.get(&this)?.socket;
        let size = options::buffer_size(value)?;
        Ok(socket.set(SocketOption::SendBuffer, size)?)
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostIncomingDatagramStream for Preview2 {
    fn receive(&mut self, this: Resource<Incoming>, most: u64) -> Result<Vec<IncomingDatagram>> {
        let incoming = self.table.get_mut(&this)?;
        let most = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(DATAGRAMS_MAX);
        let mut datagrams = Vec::new();
        // Those of others count too: a flood of them does not keep the program in this call.
        for _ in 0..most {
            let Some(datagram) = incoming.next()? else {
                break;
            };
            // A connected socket ignores datagrams from others.
            if incoming.peer.is_none_or(|peer| peer == datagram.from) {
                datagrams.push(IncomingDatagram {
                    data: datagram.data,
                    remote_address: from_std(datagram.from),
                });
            }
        }
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostOutgoingDatagramStream for Preview2 {
    fn check_send(&mut self, this: Resource<Outgoing>) -> Result<u64> {
        let outgoing = self.table.get_mut(&this)?;
        outgoing.permit = DATAGRAMS_MAX;
        Ok(DATAGRAMS_MAX as u64)
    }

    fn send(&mut self, this: Resource<Outgoing>, datagrams: Vec<OutgoingDatagram>) -> Result<u64> {
        let outgoing = self.table.get_mut(&this)?;
        if datagrams.len() > outgoing.permit {
            return Err(Failure::Trap(wasmtime::format_err!(
                "more datagrams are sent than check-send permits"
            )));
        }
        outgoing.permit -= datagrams.len();
        let mut sent = 0;
        for datagram in datagrams {
            match outgoing.send(&datagram) {
                Ok(()) => sent += 1,
                // Datagrams already sent are reported first; the error comes with the next call.
                Err(_) if sent > 0 => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Outgoing {
    /// Sends a datagram to its peer, or to the only one.
    fn send(&self, datagram: &OutgoingDatagram) -> Result<()> {
        let to = match (self.peer, datagram.remote_address) {
            (Some(peer), None) => peer,
            (Some(peer), Some(to)) if to_std(to) == peer => peer,
            (None, Some(to)) => remote(to, self.is_ipv6)?,
            _ => return Err(Errno::Invalid.into()),
        };
        self.socket.send(to, &datagram.data)?.take(&mut [])?;
        Ok(())
    }
}
