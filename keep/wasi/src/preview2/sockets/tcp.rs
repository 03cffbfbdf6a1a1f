// SPDX-License-Identifier: Apache-2.0

//! `wasi:sockets/tcp` and `wasi:sockets/tcp-create-socket` over [`TcpSocket`]s.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use enarx_sallyport::Call;
use enarx_sallyport::types::{ShutdownHow, SocketOption};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::failure::{Result, Unsuited};
use super::resources::Network;
use super::tcp_socket::{State, TcpSocket, finish};
use super::{bindable, family, from_std, is_ipv6, permitted, remote};
use crate::preview2::bindings::wasi::sockets::network::{IpAddressFamily, IpSocketAddress};
use crate::preview2::bindings::wasi::sockets::tcp::{self, ShutdownType};
use crate::preview2::bindings::wasi::sockets::tcp_create_socket;
use crate::preview2::state::Preview2;
use crate::sockets::{Socket, options};

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
type Accepted = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

impl Preview2 {
    /// The streams of a connection.
    fn push_streams(&mut self, this: &Resource<TcpSocket>) -> Result<Streams> {
        let (input, output) = self.table.get(this)?.streams(&self.context.budget)?;
        Ok((
            self.table.push_child(input, this)?,
            self.table.push_child(output, this)?,
        ))
    }
}

impl tcp_create_socket::Host for Preview2 {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        permitted(self.context.network.tcp)?;
        let ipv6 = is_ipv6(family);
        let socket = Arc::new(Socket::open(&self.context.port, &Call::TcpOpen { ipv6 })?);
        let socket = TcpSocket::new(socket, ipv6, State::Unbound);
        Ok(self.table.push(socket)?)
    }
}

impl tcp::Host for Preview2 {}

impl tcp::HostTcpSocket for Preview2 {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> Result<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        socket.idle()?;
        if !matches!(socket.state, State::Unbound) {
            return Err(Unsuited::Invalid.into());
        }
        let address = bindable(address, socket.is_ipv6)?;
        socket.state = State::Binding(socket.socket.bind(address)?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Binding(_)) {
            return Err(Unsuited::Idle.into());
        }
        finish(&mut socket.state, State::Bound, State::Unbound)
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> Result<()> {
        self.table.get(&network)?;
        let socket = self.table.get_mut(&this)?;
        socket.idle()?;
        if !matches!(socket.state, State::Unbound | State::Bound) {
            return Err(Unsuited::Invalid.into());
        }
        let address = remote(address, socket.is_ipv6)?;
        socket.state = State::Connecting(socket.socket.connect(address)?);
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Result<Streams> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Connecting(_)) {
            return Err(Unsuited::Idle.into());
        }
        finish(&mut socket.state, State::Connected, State::Closed)?;
        self.push_streams(&this)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.idle()?;
        if !matches!(socket.state, State::Bound) {
            return Err(Unsuited::Invalid.into());
        }
        socket.state = State::StartsListening(socket.socket.listen(socket.backlog)?);
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::StartsListening(_)) {
            return Err(Unsuited::Idle.into());
        }
        let listening = State::Listening { accept: None };
        finish(&mut socket.state, listening, State::Closed)
    }

    fn accept(&mut self, this: Resource<TcpSocket>) -> Result<Accepted> {
        let listener = self.table.get_mut(&this)?;
        let (socket, is_ipv6) = (Arc::clone(&listener.socket), listener.is_ipv6);
        let operation = listener.accepting()?;
        if !operation.is_ready() {
            return Err(Unsuited::Unready.into());
        }
        let connected = socket.accepted(operation);
        if let State::Listening { accept } = &mut listener.state {
            *accept = None;
        }
        let accepted = TcpSocket::new(Arc::new(connected?), is_ipv6, State::Connected);
        let accepted = self.table.push(accepted)?;
        let (input, output) = self.push_streams(&accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match socket.state {
            State::Unbound | State::Binding(_) => Err(Unsuited::Invalid.into()),
            _ => Ok(from_std(socket.existing()?.local_address()?)),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match socket.state {
            State::Connected => Ok(from_std(socket.socket.peer_address()?)),
            _ => Err(Unsuited::Invalid.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(
            self.table.get(&this)?.state,
            State::Listening { .. }
        ))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(family(self.table.get(&this)?.is_ipv6))
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        options::positive(value)?;
        match socket.state {
            State::Connecting(_) | State::Connected | State::Closed => {
                Err(Unsuited::Invalid.into())
            }
            State::StartsListening(_) | State::Listening { .. } => {
                socket.backlog = value;
                socket.socket.listen(value)?.take(&mut [])?;
                Ok(())
            }
            _ => {
                socket.backlog = value;
                Ok(())
            }
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table.get(&this)?.get(SocketOption::KeepAlive)? != 0)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Result<()> {
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::KeepAlive, value.into())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table.get(&this)?.get(SocketOption::KeepAliveIdle)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let time = options::keep_alive_time(value)?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::KeepAliveIdle, time)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table.get(&this)?.get(SocketOption::KeepAliveInterval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let time = options::keep_alive_time(value)?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::KeepAliveInterval, time)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32> {
        let socket = self.table.get(&this)?.existing()?;
        Ok(socket.get_small(SocketOption::KeepAliveCount, u32::MAX)?)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Result<()> {
        let count = options::keep_alive_count(value)?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::KeepAliveCount, count)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8> {
        let socket = self.table.get(&this)?.existing()?;
        Ok(socket.get_small(SocketOption::HopLimit, u8::MAX)?)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<()> {
        let limit = options::positive(value.into())?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::HopLimit, limit)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table.get(&this)?.get(SocketOption::ReceiveBuffer)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::ReceiveBuffer, size)
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table.get(&this)?.get(SocketOption::SendBuffer)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = self.table.get(&this)?;
        socket.set(SocketOption::SendBuffer, size)
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, kind: ShutdownType) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Connected) {
            return Err(Unsuited::Invalid.into());
        }
        let receiving = kind != ShutdownType::Send;
        let sending = kind != ShutdownType::Receive;
        // A direction that has ended is not ended again.
        let receiving = receiving && !socket.ended.receiving.swap(true, Ordering::Relaxed);
        let sending = sending && !socket.ended.sending.swap(true, Ordering::Relaxed);
        let how = match (receiving, sending) {
            (false, false) => return Ok(()),
            (true, false) => ShutdownHow::Receive,
            (false, true) => ShutdownHow::Send,
            (true, true) => ShutdownHow::Both,
        };
        // The host performs it once it has sent all earlier writes. Its outcome does not matter: if
        // the peer has ended the connection in the meantime, it has ended.
        socket.ending = Some(socket.socket.shutdown(how)?);
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
