// SPDX-License-Identifier: Apache-2.0

//! A TCP socket of a component, its state, and the streams of a connection. Peers and host are not trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::failure::{Result, Unsuited};
use crate::budget::{Budget, Share};
use crate::error::Errno;
use crate::port::queue::{CALLS_MAX, Queue, Queued};
use crate::port::{MAX_TRANSFER, Operation};
use crate::sockets::{BACKLOG, Socket};
use crate::stream::{Input, READ_AHEAD};

/// The state of a TCP socket.
pub(super) enum State {
    /// It has no address yet.
    Unbound,
    /// It is given its address.
    Binding(Operation),
    /// It has its address.
    Bound,
    /// It begins to listen.
    StartsListening(Operation),
    /// It listens.
    Listening {
        /// Accepts the next connection, once somebody has asked for that.
        accept: Option<Operation>,
    },
    /// It connects.
    Connecting(Operation),
    /// It is connected.
    Connected,
    /// It could not be connected, or could not listen.
    Closed,
}

/// The directions of a connection that the program has ended.
#[derive(Default)]
pub(super) struct Ended {
    /// It receives no more.
    pub(super) receiving: AtomicBool,
    /// It sends no more.
    pub(super) sending: AtomicBool,
}

/// A TCP socket of a component.
pub struct TcpSocket {
    /// The socket of the host.
    pub(super) socket: Arc<Socket>,
    /// Its family; IPv4 if false.
    pub(super) is_ipv6: bool,
    /// Its state.
    pub(super) state: State,
    /// Connections that may wait to be accepted.
    pub(super) backlog: u64,
    /// The directions that have ended, as its streams see them.
    pub(super) ended: Arc<Ended>,
    /// The end of sending, which waits for earlier writes.
    pub(super) ending: Option<Operation>,
}

impl TcpSocket {
    /// A socket of the host, in this state.
    pub(super) fn new(socket: Arc<Socket>, is_ipv6: bool, state: State) -> Self {
        Self {
            socket,
            is_ipv6,
            state,
            backlog: BACKLOG,
            ended: Arc::default(),
            ending: None,
        }
    }

    /// The socket, for operations that every state but the last permits.
    ///
    /// # Errors
    /// [`Unsuited::Invalid`].
    pub(super) fn existing(&self) -> Result<&Socket> {
        match self.state {
            State::Closed => Err(Unsuited::Invalid.into()),
            _ => Ok(&self.socket),
        }
    }

    /// Refuses another operation while one is under way.
    ///
    /// # Errors
    /// [`Unsuited::Busy`].
    pub(super) fn idle(&self) -> Result<()> {
        match self.state {
            State::Binding(_) | State::Connecting(_) | State::StartsListening(_) => {
                Err(Unsuited::Busy.into())
            }
            _ => Ok(()),
        }
    }

    /// The value of an option.
    ///
    /// # Errors
    /// The host's, and [`Unsuited::Invalid`].
    pub(super) fn get(&self, option: SocketOption) -> Result<u64> {
        Ok(self.existing()?.get(option)?)
    }

    /// Sets an option.
    ///
    /// # Errors
    /// The host's, and [`Unsuited::Invalid`].
    pub(super) fn set(&self, option: SocketOption, value: u64) -> Result<()> {
        Ok(self.existing()?.set(option, value)?)
    }

    /// The operation that accepts the next connection; started when there is none.
    ///
    /// # Errors
    /// Errors of the host, and [`Unsuited::Invalid`] if it does not listen.
    pub(super) fn accepting(&mut self) -> Result<&mut Operation> {
        let State::Listening { accept } = &mut self.state else {
            return Err(Unsuited::Invalid.into());
        };
        match accept {
            Some(operation) => Ok(operation),
            none => Ok(none.insert(self.socket.accept()?)),
        }
    }

    /// The streams of its connection.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] if there is no memory for received bytes that are not read yet.
    pub(super) fn streams(&self, budget: &Budget) -> Result<(DynInputStream, DynOutputStream)> {
        let share = Share::take(budget, READ_AHEAD as u64).ok_or(Errno::NoMemory)?;
        let socket = &self.socket;
        let receiver = Receiver {
            input: Input::own(socket.port.clone(), socket.handle, budget),
            ended: Arc::clone(&self.ended),
            _socket: Arc::clone(socket),
            _share: share,
        };
        let sender = Sender {
            socket: Arc::clone(socket),
            pending: Queue::default(),
            flushes: false,
            closed: false,
            ended: Arc::clone(&self.ended),
        };
        Ok((Box::new(receiver), Box::new(sender)))
    }
}

/// Ends an operation, as a `finish-…` function asks for: the new state is `next` when it has
/// succeeded, `failed` when not.
///
/// # Errors
/// The operation's; [`Unsuited::Idle`] and [`Unsuited::Unready`].
pub(super) fn finish(state: &mut State, next: State, failed: State) -> Result<()> {
    let (State::Binding(operation)
    | State::StartsListening(operation)
    | State::Connecting(operation)) = state
    else {
        return Err(Unsuited::Idle.into());
    };
    if !operation.is_ready() {
        return Err(Unsuited::Unready.into());
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
    /// Memory for received bytes that are not read yet.
    _share: Share,
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
    /// Writes whose answers have not been taken.
    pending: Queue,
    /// The program waits until all of them are.
    flushes: bool,
    closed: bool,
    ended: Arc<Ended>,
}

impl Sender {
    /// Takes the available answers to pending writes.
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
                    // The peer reads no more, which is not a failure of this end.
                    Errno::Pipe => StreamError::Closed,
                    errno => StreamError::LastOperationFailed(errno.into()),
                }
            })?;
        }
        self.flushes &= !self.pending.is_empty();
        Ok(())
    }

    /// True if another write may be started after those in flight.
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
        // An answer, or the last one: the next call returns it.
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
        // The room that check-write saw may be gone.
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
