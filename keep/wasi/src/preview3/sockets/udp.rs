// SPDX-License-Identifier: Apache-2.0

//! UDP: the functions of sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use wasmtime::component::{Accessor, Resource};

use super::super::bindings::wasi::sockets::types::{
    HostUdpSocket, HostUdpSocketWithStore, IpAddressFamily, IpSocketAddress,
};
use super::super::state::State;
use super::failure::{INVALID_STATE, Result};
use super::udp_socket::UdpSocket;
use super::{Waiting, family, from_std, is_ipv6, permitted, to_std};
use crate::preview2::Preview2;
use crate::sockets::{DATAGRAM_MAX, Socket, address, options};

impl Preview2 {
    fn start_send(
        &mut self,
        this: &Resource<UdpSocket>,
        data: &[u8],
        to: Option<IpSocketAddress>,
    ) -> Result<Waiting> {
        let budget = self.context().budget.clone();
        let socket = self.table().get(this)?;
        let to = socket.to(to.map(to_std))?;
        let sending = Waiting::start(&budget, data.len(), || socket.socket.send(to, data))?;
        Ok(sending)
    }

    fn start_receive(&mut self, this: &Resource<UdpSocket>) -> Result<(Arc<Socket>, Waiting)> {
        let budget = self.context().budget.clone();
        let socket = self.table().get(this)?;
        if !socket.is_bound {
            return Err(INVALID_STATE.into());
        }
        let socket = Arc::clone(&socket.socket);
        let receiving = Waiting::start(&budget, DATAGRAM_MAX, || socket.receive())?;
        Ok((socket, receiving))
    }

    fn peer(&mut self, this: &Resource<UdpSocket>) -> Result<Option<SocketAddr>> {
        Ok(self.udp_socket(this)?.peer)
    }

    fn udp_socket(&mut self, this: &Resource<UdpSocket>) -> Result<&mut UdpSocket> {
        Ok(self.table().get_mut(this)?)
    }
}

impl<U: 'static> HostUdpSocketWithStore<U> for State {
    async fn send(
        store: &Accessor<U, Self>,
        this: Resource<UdpSocket>,
        data: Vec<u8>,
        to: Option<IpSocketAddress>,
    ) -> Result<()> {
        let mut sending = store.with(|mut store| store.get().start_send(&this, &data, to))?;
        sending.answered().await.take(&mut [])?;
        // The host has bound it, if it was not.
        store.with(|mut store| {
            store.get().udp_socket(&this)?.is_bound = true;
            Ok(())
        })
    }

    async fn receive(
        store: &Accessor<U, Self>,
        this: Resource<UdpSocket>,
    ) -> Result<(Vec<u8>, IpSocketAddress)> {
        loop {
            let (socket, mut receiving) =
                store.with(|mut store| store.get().start_receive(&this))?;
            let datagram = socket.received(receiving.answered().await)?;
            // A connected socket ignores datagrams from others.
            let peer = store.with(|mut store| store.get().peer(&this))?;
            if peer.is_none_or(|peer| peer == datagram.from) {
                return Ok((datagram.data, from_std(datagram.from)));
            }
        }
    }
}

impl HostUdpSocket for Preview2 {
    fn create(&mut self, family: IpAddressFamily) -> Result<Resource<UdpSocket>> {
        let context = self.context();
        permitted(context.network.udp)?;
        let ipv6 = is_ipv6(family);
        let socket = Arc::new(Socket::open(&context.port, &Call::UdpOpen { ipv6 })?);
        Ok(self.table().push(UdpSocket {
            socket,
            is_ipv6: ipv6,
            is_bound: false,
            peer: None,
        })?)
    }

    fn bind(&mut self, this: Resource<UdpSocket>, address: IpSocketAddress) -> Result<()> {
        let socket = self.table().get_mut(&this)?;
        if socket.is_bound {
            return Err(INVALID_STATE.into());
        }
        let address = address::of_family(to_std(address), socket.is_ipv6)?;
        socket.bind(address)
    }

    fn connect(&mut self, this: Resource<UdpSocket>, to: IpSocketAddress) -> Result<()> {
        let socket = self.table().get_mut(&this)?;
        let peer = socket.remote(to_std(to))?;
        if !socket.is_bound {
            socket.bind(address::any(socket.is_ipv6))?;
        }
        socket.peer = Some(peer);
        Ok(())
    }

    fn disconnect(&mut self, this: Resource<UdpSocket>) -> Result<()> {
        let peer = self.table().get_mut(&this)?.peer.take();
        peer.map(|_| ()).ok_or(INVALID_STATE.into())
    }

    fn get_local_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table().get(&this)?;
        if !socket.is_bound {
            return Err(INVALID_STATE.into());
        }
        let own = socket.socket.local_address()?;
        Ok(from_std(address::towards(own, socket.peer)))
    }

    fn get_remote_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        let peer = self.table().get(&this)?.peer;
        peer.map(from_std).ok_or(INVALID_STATE.into())
    }

    fn get_address_family(
        &mut self,
        this: Resource<UdpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        Ok(family(self.table().get(&this)?.is_ipv6))
    }

    fn get_unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> Result<u8> {
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.get_small(SocketOption::HopLimit, u8::MAX)?)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> Result<()> {
        let limit = options::positive(value.into())?;
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.set(SocketOption::HopLimit, limit)?)
    }

    fn get_receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64> {
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.get(SocketOption::ReceiveBuffer)?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.set(SocketOption::ReceiveBuffer, size)?)
    }

    fn get_send_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64> {
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.get(SocketOption::SendBuffer)?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = &self.table().get(&this)?.socket;
        Ok(socket.set(SocketOption::SendBuffer, size)?)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}
