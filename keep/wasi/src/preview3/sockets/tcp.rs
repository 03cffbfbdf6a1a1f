// SPDX-License-Identifier: Apache-2.0

//! TCP: the functions of sockets, the connections that a listener gives, and the two directions of
//! a connection as streams. A dropped stream cancels its requests to the host.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, Resource, Source, StreamConsumer, StreamProducer,
    StreamReader, StreamResult,
};

use super::super::bindings::wasi::sockets::types::{
    ErrorCode, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily, IpSocketAddress,
};
use super::super::state::State as Data;
use super::super::streams::{Outcome, outcome, waits};
use super::failure::{INVALID_STATE, Result};
use super::tcp_socket::{Shared, State, TcpSocket, lock};
use super::{error_code, family, from_std, is_ipv6, permitted, to_std};
use crate::error::Errno;
use crate::port::Operation;
use crate::preview2::Preview2;
use crate::sockets::{Socket, options};

/// How a stream ended.
type End = Result<(), ErrorCode>;

/// The outcome of a stream: a future of it.
type Ended = FutureReader<End>;

/// The connections that a listener is given.
struct Accepted<U: 'static> {
    listener: Arc<Socket>,
    is_ipv6: bool,
    accepting: Option<Operation>,
    wasi: fn(&mut U) -> &mut Preview2,
}

impl<U> StreamProducer<U> for Accepted<U> {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Self::Item>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, U>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self {
            listener,
            is_ipv6,
            accepting,
            wasi,
        } = &mut *self;
        let operation = match &mut *accepting {
            Some(operation) => operation,
            none => none.insert(listener.accept()?),
        };
        if !operation.poll_ready(context) {
            return waits(finish);
        }
        // No room: the component only waits until there is a connection.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let accepted = listener.accepted(operation);
        *accepting = None;
        // It listens no more.
        if let Err(Errno::BadDescriptor | Errno::Invalid) = accepted {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        let wasi = wasi(store.data_mut());
        let socket = TcpSocket::accepted(accepted, *is_ipv6, &wasi.context().budget);
        destination.set_buffer(Some(wasi.table().push(socket)?));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// The bytes of a peer.
struct Receiver {
    connection: Shared,
    outcome: Outcome,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        lock(&self.connection).end_reading();
    }
}

impl<U> StreamProducer<U> for Receiver {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, U>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self {
            connection,
            outcome,
        } = &mut *self;
        let mut connection = lock(connection);
        let result = match connection.poll_readable(context) {
            Poll::Pending => return waits(finish),
            Poll::Ready(Ok(0)) => StreamResult::Dropped,
            // No room: the component only waits until there are bytes.
            Poll::Ready(Ok(_)) if destination.remaining(&mut store) == Some(0) => {
                StreamResult::Completed
            }
            Poll::Ready(Ok(count)) => {
                let mut destination = destination.as_direct(store, count);
                let place = destination.remaining();
                if let Poll::Ready(Ok(read)) = connection.poll_read(context, place, false) {
                    destination.mark_written(read);
                }
                StreamResult::Completed
            }
            Poll::Ready(Err(errno)) => {
                outcome.fail(errno);
                StreamResult::Dropped
            }
        };
        Poll::Ready(Ok(result))
    }
}

/// The bytes for a peer: the program learns how many the host has.
struct Sender {
    connection: Shared,
    /// Bytes in flight to the host.
    writing: usize,
    outcome: Outcome,
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut connection = lock(&self.connection);
        connection.end_writing();
        // The end has begun; whoever asks for the outcome waits for it.
        let _ = connection.poll_sent(&Context::from_waker(Waker::noop()));
    }
}

impl<U> StreamConsumer<U> for Sender {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, U>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self {
            connection,
            writing,
            outcome,
        } = &mut *self;
        let mut connection = lock(connection);
        let mut source = source.as_direct(store);
        if *writing == 0 {
            let bytes = source.remaining();
            match connection.poll_write(context, bytes) {
                Poll::Pending => return waits(finish),
                Poll::Ready(Ok(count)) => *writing = count,
                Poll::Ready(Err(errno)) => {
                    outcome.fail(errno);
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
            }
        }
        let sent = match connection.poll_sent(context) {
            Poll::Pending if finish => connection.take_back(),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(sent) => sent.map(|()| *writing),
        };
        *writing = 0;
        Poll::Ready(Ok(match sent {
            Ok(0) if finish => StreamResult::Cancelled,
            Ok(count) => {
                source.mark_read(count);
                StreamResult::Completed
            }
            Err(errno) => {
                outcome.fail(errno);
                StreamResult::Dropped
            }
        }))
    }
}

/// Waits until everything, including the end, has been sent to a peer; returns the outcome.
async fn sent(
    told: impl Future<Output = wasmtime::Result<End>>,
    connection: Shared,
) -> wasmtime::Result<End> {
    match told.await? {
        Ok(()) => {
            let end = std::future::poll_fn(|context| lock(&connection).poll_ended(context));
            Ok(end.await.map_err(error_code))
        }
        failed => Ok(failed),
    }
}

impl Preview2 {
    fn tcp_socket(&mut self, this: &Resource<TcpSocket>) -> Result<&mut TcpSocket> {
        Ok(self.table().get_mut(this)?)
    }
}

impl<U: 'static> HostTcpSocketWithStore<U> for Data {
    async fn connect(
        store: &Accessor<U, Self>,
        this: Resource<TcpSocket>,
        to: IpSocketAddress,
    ) -> Result<()> {
        let (_attempt, mut operation) =
            store.with(|mut store| store.get().tcp_socket(&this)?.start_connect(to_std(to)))?;
        operation.ready().await;
        let outcome = operation.take(&mut []).map(|_| ());
        store.with(|mut store| {
            let wasi = store.get();
            let budget = wasi.context().budget.clone();
            wasi.tcp_socket(&this)?.finish_connect(outcome, &budget)
        })
    }

    fn listen(
        mut store: Access<'_, U, Self>,
        this: Resource<TcpSocket>,
    ) -> Result<StreamReader<Resource<TcpSocket>>> {
        let wasi = store.getter();
        let socket = store.get().table().get_mut(&this)?;
        let accepted = Accepted {
            listener: socket.listen()?,
            is_ipv6: socket.is_ipv6,
            accepting: None,
            wasi,
        };
        Ok(StreamReader::new(&mut store, accepted)?)
    }

    fn send(
        mut store: Access<'_, U, Self>,
        this: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        let (mut outcome, told) = outcome(error_code);
        let socket = store.get().table().get_mut(&this)?;
        let connection = match socket.direction(|it| &mut it.sending) {
            Ok(connection) => connection,
            Err(errno) => {
                data.close(&mut store)?;
                outcome.fail(errno);
                return FutureReader::new(&mut store, told);
            }
        };
        let sender = Sender {
            connection: Arc::clone(&connection),
            writing: 0,
            outcome,
        };
        data.pipe(&mut store, sender)?;
        FutureReader::new(&mut store, sent(told, connection))
    }

    fn receive(
        mut store: Access<'_, U, Self>,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let (mut outcome, told) = outcome(error_code);
        let socket = store.get().table().get_mut(&this)?;
        let stream = match socket.direction(|it| &mut it.receiving) {
            Ok(connection) => {
                let receiver = Receiver {
                    connection,
                    outcome,
                };
                StreamReader::new(&mut store, receiver)?
            }
            Err(errno) => {
                outcome.fail(errno);
                StreamReader::new(&mut store, Vec::new())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, told)?))
    }
}

impl HostTcpSocket for Preview2 {
    fn create(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        let context = self.context();
        permitted(context.network.tcp)?;
        let ipv6 = is_ipv6(family);
        let socket = Arc::new(Socket::open(&context.port, &Call::TcpOpen { ipv6 })?);
        let socket = TcpSocket::new(Some(socket), ipv6, State::Unbound);
        Ok(self.table().push(socket)?)
    }

    fn bind(&mut self, this: Resource<TcpSocket>, address: IpSocketAddress) -> Result<()> {
        self.table().get_mut(&this)?.bind(to_std(address))
    }

    fn get_local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table().get(&this)?;
        match socket.state {
            State::Unbound => Err(INVALID_STATE.into()),
            _ => Ok(from_std(socket.existing()?.local_address()?)),
        }
    }

    fn get_remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table().get(&this)?;
        match socket.state {
            State::Connected(_) => Ok(from_std(socket.existing()?.peer_address()?)),
            _ => Err(INVALID_STATE.into()),
        }
    }

    fn get_is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        let socket = self.table().get(&this)?;
        Ok(matches!(socket.state, State::Listening))
    }

    fn get_address_family(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        Ok(family(self.table().get(&this)?.is_ipv6))
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let backlog = options::positive(value)?;
        let socket = self.table().get_mut(&this)?;
        match socket.state {
            State::Unbound | State::Bound => {}
            State::Listening => {
                socket.existing()?.listen(backlog)?.take(&mut [])?;
            }
            _ => return Err(INVALID_STATE.into()),
        }
        socket.backlog = backlog;
        Ok(())
    }

    fn get_keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table().get(&this)?.get(SocketOption::KeepAlive)? != 0)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Result<()> {
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::KeepAlive, value.into())
    }

    fn get_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table().get(&this)?.get(SocketOption::KeepAliveIdle)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let time = options::keep_alive_time(value)?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::KeepAliveIdle, time)
    }

    fn get_keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        let socket = self.table().get(&this)?;
        socket.get(SocketOption::KeepAliveInterval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let time = options::keep_alive_time(value)?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::KeepAliveInterval, time)
    }

    fn get_keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32> {
        let socket = self.table().get(&this)?.existing()?;
        Ok(socket.get_small(SocketOption::KeepAliveCount, u32::MAX)?)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Result<()> {
        let count = options::keep_alive_count(value)?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::KeepAliveCount, count)
    }

    fn get_hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8> {
        let socket = self.table().get(&this)?.existing()?;
        Ok(socket.get_small(SocketOption::HopLimit, u8::MAX)?)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<()> {
        let limit = options::positive(value.into())?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::HopLimit, limit)
    }

    fn get_receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table().get(&this)?.get(SocketOption::ReceiveBuffer)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::ReceiveBuffer, size)
    }

    fn get_send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        self.table().get(&this)?.get(SocketOption::SendBuffer)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let size = options::buffer_size(value)?;
        let socket = self.table().get(&this)?;
        socket.set(SocketOption::SendBuffer, size)
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}
