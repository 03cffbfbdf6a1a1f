// SPDX-License-Identifier: Apache-2.0

//! UDP over sockets of the host.

use std::net::SocketAddr;
use std::sync::Arc;

use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::{Network, Result, bindable, from_std, is_ipv6, permitted, remote, to_std};
use crate::port::Operation;
use crate::preview2::bindings::wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress,
};
use crate::preview2::bindings::wasi::sockets::udp::{self, IncomingDatagram, OutgoingDatagram};
use crate::preview2::bindings::wasi::sockets::udp_create_socket;
use crate::preview2::state::Preview2;
use crate::sockets::{Datagram, Socket, options};

/// Most datagrams that one call receives or sends, as the engine's own WASI has it.
const DATAGRAMS_MAX: usize = 16;

enum State {
    Unbound,
    Binding(Operation),
    Bound,
}

/// A UDP socket of a component.
pub struct UdpSocket {
    socket: Arc<Socket>,
    family: IpAddressFamily,
    state: State,
    /// The only peer, when the program has chosen one.
    peer: Option<SocketAddr>,
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
    socket: Arc<Socket>,
    peer: Option<SocketAddr>,
    pending: Option<Operation>,
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
    fn next(&mut self) -> Result<Option<Datagram>> {
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
    socket: Arc<Socket>,
    family: IpAddressFamily,
    peer: Option<SocketAddr>,
    /// Datagrams that may be sent before `check-send` is called again.
    permit: usize,
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {}
}

impl udp_create_socket::Host for Preview2 {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<UdpSocket>> {
        permitted(self.context.network.udp)?;
        let ipv6 = is_ipv6(family);
        let socket = Arc::new(Socket::open(&self.context.port, &Call::UdpOpen { ipv6 })?);
        Ok(self.table.push(UdpSocket {
            socket,
            family,
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
            State::Binding(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Bound => return Err(ErrorCode::InvalidState.into()),
        }
        let address = bindable(address, socket.family)?;
        socket.state = State::Binding(socket.socket.bind(address)?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        let State::Binding(operation) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        if !operation.is_ready() {
            return Err(ErrorCode::WouldBlock.into());
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
            return Err(ErrorCode::InvalidState.into());
        }
        let bound = Arc::clone(&socket.socket);
        let family = socket.family;
        let peer = peer.map(|peer| remote(peer, family)).transpose()?;
        socket.peer = peer;
        let incoming = Incoming {
            socket: Arc::clone(&bound),
            peer,
            pending: None,
        };
        let outgoing = Outgoing {
            socket: bound,
            family,
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
            State::Bound => Ok(from_std(socket.socket.local_address()?)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        let peer = self.table.get(&this)?.peer;
        peer.map(from_std).ok_or(ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
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
            // A socket with one peer is deaf to others.
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
            return Err(super::Failure::Trap(wasmtime::format_err!(
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
    fn send(&self, datagram: &OutgoingDatagram) -> Result<()> {
        let to = match (self.peer, datagram.remote_address) {
            (Some(peer), None) => peer,
            (Some(peer), Some(to)) if to_std(to) == peer => peer,
            (None, Some(to)) => remote(to, self.family)?,
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        self.socket.send(to, &datagram.data)?.take(&mut [])?;
        Ok(())
    }
}
