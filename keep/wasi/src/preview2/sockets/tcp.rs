// SPDX-License-Identifier: Apache-2.0

//! TCP over sockets of the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use enarx_sallyport::Call;
use enarx_sallyport::types::{ShutdownHow, SocketOption};
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::{Network, Result, bindable, from_std, is_ipv6, permitted, remote};
use crate::budget::Budget;
use crate::error::Errno;
use crate::port::queue::{CALLS_MAX, Queue, Queued};
use crate::port::{MAX_TRANSFER, Operation};
use crate::preview2::bindings::wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress,
};
use crate::preview2::bindings::wasi::sockets::tcp::{self, ShutdownType};
use crate::preview2::bindings::wasi::sockets::tcp_create_socket;
use crate::preview2::state::Preview2;
use crate::sockets::{BACKLOG, Socket, options};
use crate::stream::Input;

enum State {
    Unbound,
    Binding(Operation),
    Bound,
    StartsListening(Operation),
    Listening { accept: Option<Operation> },
    Connecting(Operation),
    Connected,
    Closed,
}

/// The directions of a connection that the program has ended.
#[derive(Default)]
struct Ended {
    receiving: AtomicBool,
    sending: AtomicBool,
}

/// A TCP socket of a component.
pub struct TcpSocket {
    socket: Arc<Socket>,
    family: IpAddressFamily,
    state: State,
    backlog: u64,
    ended: Arc<Ended>,
    /// The end of sending, which waits for what was written before.
    ending: Option<Operation>,
}

impl TcpSocket {
    fn new(socket: Arc<Socket>, family: IpAddressFamily, state: State) -> Self {
        Self {
            socket,
            family,
            state,
            backlog: BACKLOG,
            ended: Arc::default(),
            ending: None,
        }
    }

    /// The socket, for what may be asked of it in every state but the last.
    fn existing(&self) -> Result<&Socket> {
        match self.state {
            State::Closed => Err(ErrorCode::InvalidState.into()),
            _ => Ok(&self.socket),
        }
    }

    fn busy(&self) -> Result<()> {
        match self.state {
            State::Binding(_) | State::Connecting(_) | State::StartsListening(_) => {
                Err(ErrorCode::ConcurrencyConflict.into())
            }
            _ => Ok(()),
        }
    }

    fn get(&self, option: SocketOption) -> Result<u64> {
        Ok(self.existing()?.get(option)?)
    }

    fn set(&self, option: SocketOption, value: u64) -> Result<()> {
        Ok(self.existing()?.set(option, value)?)
    }

    /// The operation that accepts the next connection; started when there is none.
    fn accepting(&mut self) -> Result<&mut Operation> {
        let State::Listening { accept } = &mut self.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        match accept {
            Some(operation) => Ok(operation),
            none => Ok(none.insert(self.socket.accept()?)),
        }
    }
}

/// The end of an operation that a `finish-…` function asks for: the new state is `next` when it has
/// succeeded, `failed` when not.
fn finish(state: &mut State, next: State, failed: State) -> Result<()> {
    let (State::Binding(operation)
    | State::StartsListening(operation)
    | State::Connecting(operation)) = state
    else {
        return Err(ErrorCode::NotInProgress.into());
    };
    if !operation.is_ready() {
        return Err(ErrorCode::WouldBlock.into());
    }
    let answer = operation.take(&mut []);
    *state = if answer.is_ok() { next } else { failed };
    answer?;
    Ok(())
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &self.state {
            State::Binding(operation)
            | State::StartsListening(operation)
            | State::Connecting(operation) => operation.ready().await,
            State::Listening { .. } => {
                // `accept` reports the error.
                if let Ok(operation) = self.accepting() {
                    operation.ready().await;
                }
            }
            _ => {}
        }
    }
}

/// The receiving half of a connection.
struct Receiver {
    input: Input,
    ended: Arc<Ended>,
    /// Keeps the connection open.
    _socket: Arc<Socket>,
}

impl Receiver {
    fn open(&self) -> StreamResult<()> {
        if self.ended.receiving.load(Ordering::Relaxed) {
            return Err(StreamError::Closed);
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for Receiver {
    async fn ready(&mut self) {
        if self.open().is_ok() {
            self.input.ready().await;
        }
    }
}

#[async_trait]
impl InputStream for Receiver {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.open()?;
        InputStream::read(&mut self.input, size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.open()?;
        self.input.blocking_read(size).await
    }
}

/// The sending half of a connection.
struct Sender {
    socket: Arc<Socket>,
    /// Writes that are not known to be answered.
    pending: Queue,
    /// The program waits until all of them are.
    flushes: bool,
    closed: bool,
    ended: Arc<Ended>,
}

impl Sender {
    /// Takes the answers to pending writes that are there.
    fn settle(&mut self) -> StreamResult<()> {
        if self.closed || self.ended.sending.load(Ordering::Relaxed) {
            return Err(StreamError::Closed);
        }
        while let Some(Queued {
            mut operation,
            length,
        }) = self.pending.pop_answered()
        {
            let outcome = match operation.take(&mut []) {
                Ok(answer) if answer.value == length as u64 => Ok(()),
                Ok(_) => Err(Errno::Io),
                Err(error) => Err(error),
            };
            outcome.map_err(|errno| {
                self.closed = true;
                match errno {
                    // Nobody is there any more who could take it: that is no failure of this end.
                    Errno::Pipe => StreamError::Closed,
                    errno => StreamError::LastOperationFailed(errno.into()),
                }
            })?;
        }
        self.flushes &= !self.pending.is_empty();
        Ok(())
    }

    /// True if another write may be started behind those that are on their way.
    fn has_room(&self) -> bool {
        !self.flushes && self.pending.has_room()
    }
}

#[async_trait]
impl Pollable for Sender {
    async fn ready(&mut self) {
        if self.has_room() {
            return;
        }
        // An answer, or the last one: the call that comes next tells what it is.
        let awaited = if self.flushes { self.pending.len() } else { 1 };
        for operation in self.pending.operations().take(awaited) {
            operation.ready().await;
        }
    }
}

#[async_trait]
impl OutputStream for Sender {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.settle()?;
        // A place that was seen to be there may be gone.
        if self.flushes || self.pending.len() >= CALLS_MAX || bytes.len() > MAX_TRANSFER {
            return Err(StreamError::trap(
                "more is written than check-write permits",
            ));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let failed = |errno: Errno| StreamError::LastOperationFailed(errno.into());
        let call = Call::StreamWrite {
            stream: self.socket.handle,
            length: u32::try_from(bytes.len()).map_err(|_| failed(Errno::Invalid))?,
        };
        let operation = self.socket.port.start(&call, &[&bytes]).map_err(failed)?;
        self.pending.push(operation, bytes.len());
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.settle()?;
        self.flushes = !self.pending.is_empty();
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.settle()?;
        Ok(if self.has_room() { MAX_TRANSFER } else { 0 })
    }

    async fn cancel(&mut self) {
        // Accepted data is sent before the connection closes.
        for operation in self.pending.operations() {
            operation.ready().await;
        }
    }
}

fn streams(
    socket: &Arc<Socket>,
    ended: &Arc<Ended>,
    budget: &Budget,
) -> (DynInputStream, DynOutputStream) {
    let receiver = Receiver {
        input: Input::own(socket.port.clone(), socket.handle, budget),
        ended: Arc::clone(ended),
        _socket: Arc::clone(socket),
    };
    let sender = Sender {
        socket: Arc::clone(socket),
        pending: Queue::default(),
        flushes: false,
        closed: false,
        ended: Arc::clone(ended),
    };
    (Box::new(receiver), Box::new(sender))
}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
type Accepted = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

impl Preview2 {
    /// The streams of a connection.
    fn push_streams(&mut self, this: &Resource<TcpSocket>) -> Result<Streams> {
        let connection = self.table.get(this)?;
        let (input, output) = streams(&connection.socket, &connection.ended, &self.context.budget);
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
        Ok(self
            .table
            .push(TcpSocket::new(socket, family, State::Unbound))?)
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
        socket.busy()?;
        if !matches!(socket.state, State::Unbound) {
            return Err(ErrorCode::InvalidState.into());
        }
        let address = bindable(address, socket.family)?;
        socket.state = State::Binding(socket.socket.bind(address)?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Binding(_)) {
            return Err(ErrorCode::NotInProgress.into());
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
        socket.busy()?;
        if !matches!(socket.state, State::Unbound | State::Bound) {
            return Err(ErrorCode::InvalidState.into());
        }
        let address = remote(address, socket.family)?;
        socket.state = State::Connecting(socket.socket.connect(address)?);
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Result<Streams> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Connecting(_)) {
            return Err(ErrorCode::NotInProgress.into());
        }
        finish(&mut socket.state, State::Connected, State::Closed)?;
        self.push_streams(&this)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.busy()?;
        if !matches!(socket.state, State::Bound) {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.state = State::StartsListening(socket.socket.listen(socket.backlog)?);
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::StartsListening(_)) {
            return Err(ErrorCode::NotInProgress.into());
        }
        let listening = State::Listening { accept: None };
        finish(&mut socket.state, listening, State::Closed)
    }

    fn accept(&mut self, this: Resource<TcpSocket>) -> Result<Accepted> {
        let listener = self.table.get_mut(&this)?;
        let (socket, family) = (Arc::clone(&listener.socket), listener.family);
        let operation = listener.accepting()?;
        if !operation.is_ready() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let connected = socket.accepted(operation);
        if let State::Listening { accept } = &mut listener.state {
            *accept = None;
        }
        let accepted = TcpSocket::new(Arc::new(connected?), family, State::Connected);
        let accepted = self.table.push(accepted)?;
        let (input, output) = self.push_streams(&accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match socket.state {
            State::Unbound | State::Binding(_) => Err(ErrorCode::InvalidState.into()),
            _ => Ok(from_std(socket.existing()?.local_address()?)),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match socket.state {
            State::Connected => Ok(from_std(socket.socket.peer_address()?)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(
            self.table.get(&this)?.state,
            State::Listening { .. }
        ))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        options::positive(value)?;
        match socket.state {
            State::Connecting(_) | State::Connected | State::Closed => {
                Err(ErrorCode::InvalidState.into())
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
            return Err(ErrorCode::InvalidState.into());
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
        // The host performs it once it has sent what was written before. Nothing of its outcome is of
        // use: a connection that the peer has ended meanwhile has ended.
        socket.ending = Some(socket.socket.shutdown(how)?);
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
