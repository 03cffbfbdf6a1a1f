//! TCP: a socket is made on the host when it is bound or connected; until then its options wait.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use enarx_sallyport::Call;
use enarx_sallyport::types::{ADDRESS_SIZE, ShutdownHow, SocketOption};
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::{Network, Options, Result, Socket, bindable, permitted, positive, remote, to_wire};
use crate::error::Errno;
use crate::port::{MAX_TRANSFER, Operation, Port};
use crate::preview2::Preview2;
use crate::preview2::bindings::wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress,
};
use crate::preview2::bindings::wasi::sockets::tcp::{self, ShutdownType};
use crate::preview2::bindings::wasi::sockets::tcp_create_socket;
use crate::stream::Input;

/// Connections that wait to be accepted, unless the program says otherwise (Linux, SOMAXCONN).
const BACKLOG: u64 = 4096;

enum State {
    Unbound,
    /// `TcpListen` is on its way: the host has one call for binding and listening.
    Binding(Operation),
    Bound(Arc<Socket>),
    /// `start-listen` was called, `finish-listen` was not yet.
    StartsListening(Arc<Socket>),
    Listening {
        socket: Arc<Socket>,
        accept: Option<Operation>,
    },
    Connecting(Operation),
    Connected(Arc<Socket>),
    Closed,
}

/// A TCP socket of a component.
pub struct TcpSocket {
    port: Port,
    family: IpAddressFamily,
    state: State,
    options: Options,
    backlog: u64,
}

impl TcpSocket {
    fn new(port: Port, family: IpAddressFamily, state: State) -> Self {
        Self {
            port,
            family,
            state,
            options: Options::default(),
            backlog: BACKLOG,
        }
    }

    fn socket(&self) -> Option<&Socket> {
        match &self.state {
            State::Bound(socket)
            | State::StartsListening(socket)
            | State::Listening { socket, .. }
            | State::Connected(socket) => Some(socket),
            _ => None,
        }
    }

    fn existing(&self) -> Result<&Socket> {
        self.socket().ok_or(ErrorCode::InvalidState.into())
    }

    fn busy(&self) -> Result<()> {
        match self.state {
            State::Binding(_) | State::Connecting(_) | State::StartsListening(_) => {
                Err(ErrorCode::ConcurrencyConflict.into())
            }
            _ => Ok(()),
        }
    }

    fn set(&mut self, option: SocketOption, value: u64) -> Result<()> {
        let mut options = mem::take(&mut self.options);
        let outcome = options.set(self.socket(), option, value);
        self.options = options;
        outcome
    }

    fn get(&self, option: SocketOption, default: u64) -> Result<u64> {
        self.options.get(self.socket(), option, default)
    }

    /// The operation that accepts the next connection; started when there is none.
    fn accepting(&mut self) -> Result<&mut Operation> {
        let State::Listening { socket, accept } = &mut self.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        match accept {
            Some(operation) => Ok(operation),
            none => {
                let handle = socket.handle;
                Ok(none.insert(self.port.start(&Call::TcpAccept { handle }, &[])?))
            }
        }
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &self.state {
            State::Binding(operation) | State::Connecting(operation) => operation.ready().await,
            State::Listening { .. } => {
                // What went wrong is told by `accept`.
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
    /// Keeps the connection open.
    _socket: Arc<Socket>,
}

#[async_trait]
impl Pollable for Receiver {
    async fn ready(&mut self) {
        self.input.ready().await;
    }
}

#[async_trait]
impl InputStream for Receiver {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        InputStream::read(&mut self.input, size)
    }
}

/// The sending half of a connection: one write on its way at a time.
struct Sender {
    socket: Arc<Socket>,
    pending: Option<(Operation, usize)>,
    closed: bool,
}

impl Sender {
    /// Takes the answer to the pending write when it is there.
    fn settle(&mut self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        let Some((operation, length)) = &mut self.pending else {
            return Ok(());
        };
        if !operation.is_ready() {
            return Ok(());
        }
        let outcome = match operation.take(&mut []) {
            Ok(answer) if answer.value == *length as u64 => Ok(()),
            Ok(_) => Err(Errno::Io),
            Err(error) => Err(error),
        };
        self.pending = None;
        outcome.map_err(|errno| {
            self.closed = true;
            StreamError::LastOperationFailed(errno.into())
        })
    }
}

#[async_trait]
impl Pollable for Sender {
    async fn ready(&mut self) {
        if let Some((operation, _)) = &self.pending {
            operation.ready().await;
        }
    }
}

#[async_trait]
impl OutputStream for Sender {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.settle()?;
        if self.pending.is_some() || bytes.len() > MAX_TRANSFER {
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
        self.pending = Some((operation, bytes.len()));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.settle()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.settle()?;
        Ok(if self.pending.is_some() {
            0
        } else {
            MAX_TRANSFER
        })
    }

    async fn cancel(&mut self) {
        // What was accepted is sent before the connection closes.
        self.ready().await;
    }
}

fn streams(socket: &Arc<Socket>) -> (DynInputStream, DynOutputStream) {
    let receiver = Receiver {
        input: Input::new(socket.port.clone(), socket.handle),
        _socket: Arc::clone(socket),
    };
    let sender = Sender {
        socket: Arc::clone(socket),
        pending: None,
        closed: false,
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
    fn push_streams(
        &mut self,
        parent: &Resource<TcpSocket>,
        socket: &Arc<Socket>,
    ) -> Result<Streams> {
        let (input, output) = streams(socket);
        Ok((
            self.table.push_child(input, parent)?,
            self.table.push_child(output, parent)?,
        ))
    }
}

impl tcp_create_socket::Host for Preview2 {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        permitted(self.context.network.tcp)?;
        let port = self.context.port.clone();
        Ok(self
            .table
            .push(TcpSocket::new(port, family, State::Unbound))?)
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
        let call = Call::TcpListen {
            address: to_wire(&address),
            backlog: u32::try_from(socket.backlog).unwrap_or(u32::MAX),
        };
        socket.state = State::Binding(socket.port.start(&call, &[])?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        let State::Binding(operation) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        if !operation.is_ready() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let answer = operation.take(&mut []);
        socket.state = State::Unbound;
        let bound = Socket::new(&socket.port, answer?.value);
        socket.options.apply(&bound)?;
        socket.state = State::Bound(bound);
        Ok(())
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
        match socket.state {
            State::Unbound => {}
            // The host has no call that connects from an address of one's own choice.
            State::Bound(_) => return Err(ErrorCode::NotSupported.into()),
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        let address = to_wire(&remote(address, socket.family)?);
        let call = Call::TcpConnect { address };
        socket.state = State::Connecting(socket.port.start(&call, &[])?);
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Result<Streams> {
        let socket = self.table.get_mut(&this)?;
        let State::Connecting(operation) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        if !operation.is_ready() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let answer = operation.take(&mut []);
        socket.state = State::Closed;
        let connected = Socket::new(&socket.port, answer?.value);
        socket.options.apply(&connected)?;
        socket.state = State::Connected(Arc::clone(&connected));
        self.push_streams(&this, &connected)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.busy()?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::Bound(bound) => {
                socket.state = State::StartsListening(bound);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::StartsListening(bound) => {
                socket.state = State::Listening {
                    socket: bound,
                    accept: None,
                };
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn accept(&mut self, this: Resource<TcpSocket>) -> Result<Accepted> {
        let listener = self.table.get_mut(&this)?;
        let (port, family) = (listener.port.clone(), listener.family);
        let operation = listener.accepting()?;
        if !operation.is_ready() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let mut peer = [0; ADDRESS_SIZE as usize];
        let answer = operation.take(&mut peer);
        if let State::Listening { accept, .. } = &mut listener.state {
            *accept = None;
        }
        let connected = Socket::new(&port, answer?.value);
        let state = State::Connected(Arc::clone(&connected));
        let accepted = self.table.push(TcpSocket::new(port, family, state))?;
        let (input, output) = self.push_streams(&accepted, &connected)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        self.table.get(&this)?.existing()?.local_address()
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Connected(socket) => socket.peer_address(),
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
        positive(value)?;
        match socket.state {
            State::Unbound | State::Bound(_) => {
                socket.backlog = value;
                Ok(())
            }
            State::Listening { .. } | State::StartsListening(_) => {
                Err(ErrorCode::NotSupported.into())
            }
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table.get(&this)?.get(SocketOption::KeepAlive, 0)? != 0)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::KeepAlive, u64::from(value))
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        let default = 7200 * 1_000_000_000;
        self.table
            .get(&this)?
            .get(SocketOption::KeepAliveIdle, default)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::KeepAliveIdle, positive(value)?)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        let default = 75 * 1_000_000_000;
        self.table
            .get(&this)?
            .get(SocketOption::KeepAliveInterval, default)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::KeepAliveInterval, positive(value)?)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32> {
        let count = self
            .table
            .get(&this)?
            .get(SocketOption::KeepAliveCount, 9)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::KeepAliveCount, positive(value.into())?)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8> {
        let limit = self.table.get(&this)?.get(SocketOption::HopLimit, 64)?;
        Ok(u8::try_from(limit).unwrap_or(u8::MAX))
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::HopLimit, positive(value.into())?)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        let socket = self.table.get(&this)?;
        socket.get(SocketOption::ReceiveBuffer, super::BUFFER_DEFAULT)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::ReceiveBuffer, positive(value)?)
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        let socket = self.table.get(&this)?;
        socket.get(SocketOption::SendBuffer, super::BUFFER_DEFAULT)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        socket.set(SocketOption::SendBuffer, positive(value)?)
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, kind: ShutdownType) -> Result<()> {
        let State::Connected(socket) = &self.table.get(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let call = Call::Shutdown {
            handle: socket.handle,
            how: match kind {
                ShutdownType::Receive => ShutdownHow::Receive,
                ShutdownType::Send => ShutdownHow::Send,
                ShutdownType::Both => ShutdownHow::Both,
            },
        };
        socket.port.call(&call, &[], &mut [])?;
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
