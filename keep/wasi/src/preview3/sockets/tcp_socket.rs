// SPDX-License-Identifier: Apache-2.0

//! A TCP socket of a component, and its state. A socket of the host is open as long as somebody has it: the component, or a
//! stream or future of its connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use enarx_sallyport::types::SocketOption;

use super::failure::{INVALID_STATE, Result};
use crate::budget::Budget;
use crate::error::Errno;
use crate::port::Operation;
use crate::sockets::{BACKLOG, Connection, Socket, address};

/// A connection, as its two streams have it.
pub(super) type Shared = Arc<Mutex<Connection>>;

/// The connection; its lock is held for no longer than a call.
pub(super) fn lock(connection: &Shared) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of a TCP socket.
pub(super) enum State {
    /// It has no address yet.
    Unbound,
    /// It has its address.
    Bound,
    /// It listens.
    Listening,
    /// As long as somebody waits for it: a connection that nobody waits for is closed.
    Connecting(Weak<()>),
    /// It is connected.
    Connected(Directions),
    /// It is no longer connected, or never was: with the error for sending and receiving.
    Closed(Errno),
}

/// A connection, and its directions that the program has not asked for yet.
pub(super) struct Directions {
    connection: Shared,
    /// That to the peer.
    pub(super) sending: bool,
    /// That from the peer.
    pub(super) receiving: bool,
}

/// A TCP socket of a component.
pub struct TcpSocket {
    /// `None` once it is closed.
    socket: Option<Arc<Socket>>,
    /// Its family; IPv4 if false.
    pub(super) is_ipv6: bool,
    /// Connections that may wait to be accepted.
    pub(super) backlog: u64,
    /// Its state.
    pub(super) state: State,
}

impl TcpSocket {
    /// A socket of the host, in this state.
    pub(super) fn new(socket: Option<Arc<Socket>>, is_ipv6: bool, state: State) -> Self {
        Self {
            socket,
            is_ipv6,
            backlog: BACKLOG,
            state,
        }
    }

    /// The socket of a connection that was accepted, or could not be accepted: its users get the
    /// error.
    pub(super) fn accepted(
        accepted: Result<Socket, Errno>,
        is_ipv6: bool,
        budget: &Budget,
    ) -> Self {
        let connected = accepted.and_then(|socket| {
            let socket = Arc::new(socket);
            let state = State::connected(Arc::clone(&socket), budget)?;
            Ok((socket, state))
        });
        match connected {
            Ok((socket, state)) => Self::new(Some(socket), is_ipv6, state),
            Err(errno) => Self::new(None, is_ipv6, State::Closed(errno)),
        }
    }

    /// The socket, for what may be asked of it in every state but the last.
    ///
    /// # Errors
    /// [`INVALID_STATE`].
    pub(super) fn existing(&self) -> Result<&Arc<Socket>, Errno> {
        let is_given_up =
            matches!(&self.state, State::Connecting(attempt) if attempt.strong_count() == 0);
        match &self.socket {
            Some(socket) if !is_given_up => Ok(socket),
            _ => Err(INVALID_STATE),
        }
    }

    /// The value of an option.
    ///
    /// # Errors
    /// The host's, and [`INVALID_STATE`].
    pub(super) fn get(&self, option: SocketOption) -> Result<u64> {
        Ok(self.existing()?.get(option)?)
    }

    /// Sets an option.
    ///
    /// # Errors
    /// The host's, and [`INVALID_STATE`].
    pub(super) fn set(&self, option: SocketOption, value: u64) -> Result<()> {
        Ok(self.existing()?.set(option, value)?)
    }

    /// Gives it an address of this machine's.
    ///
    /// # Errors
    /// The host's, that of the address, and [`INVALID_STATE`].
    pub(super) fn bind(&mut self, address: SocketAddr) -> Result<()> {
        let State::Unbound = self.state else {
            return Err(INVALID_STATE.into());
        };
        let address = address::single_receiver(address, self.is_ipv6)?;
        self.existing()?.bind(address)?.take(&mut [])?;
        self.state = State::Bound;
        Ok(())
    }

    /// Begins to connect. The attempt lasts as long as the returned value.
    ///
    /// # Errors
    /// The error of the address, and [`INVALID_STATE`].
    pub(super) fn start_connect(&mut self, to: SocketAddr) -> Result<(Arc<()>, Operation)> {
        let (State::Unbound | State::Bound) = self.state else {
            return Err(INVALID_STATE.into());
        };
        let to = address::single_receiver(to, self.is_ipv6)?;
        let operation = self.existing()?.connect(address::possible_peer(to)?)?;
        let attempt = Arc::new(());
        self.state = State::Connecting(Arc::downgrade(&attempt));
        Ok((attempt, operation))
    }

    /// Ends an attempt to connect.
    ///
    /// # Errors
    /// The error of `outcome`; [`Errno::NoMemory`] if the connection does not fit in the budget.
    pub(super) fn finish_connect(
        &mut self,
        outcome: Result<(), Errno>,
        budget: &Budget,
    ) -> Result<()> {
        let connected = outcome.and_then(|()| {
            let socket = Arc::clone(self.existing()?);
            State::connected(socket, budget)
        });
        match connected {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(errno) => {
                self.socket = None;
                self.state = State::Closed(INVALID_STATE);
                Err(match errno {
                    // No port was left for it (WIT).
                    Errno::AddressNotAvailable => Errno::AddressInUse,
                    errno => errno,
                }
                .into())
            }
        }
    }

    /// Begins to listen; the socket that connections come from.
    ///
    /// # Errors
    /// The host's, and [`INVALID_STATE`].
    pub(super) fn listen(&mut self) -> Result<Arc<Socket>> {
        let (State::Unbound | State::Bound) = self.state else {
            return Err(INVALID_STATE.into());
        };
        let socket = Arc::clone(self.existing()?);
        socket.listen(self.backlog)?.take(&mut [])?;
        self.state = State::Listening;
        Ok(socket)
    }

    /// Takes the connection for one direction, which is possible once.
    ///
    /// # Errors
    /// [`INVALID_STATE`], or the reason why it is not connected.
    pub(super) fn direction(
        &mut self,
        which: impl FnOnce(&mut Directions) -> &mut bool,
    ) -> Result<Shared, Errno> {
        match &mut self.state {
            State::Connected(directions) => {
                let is_there = std::mem::take(which(directions));
                let connection = || Arc::clone(&directions.connection);
                is_there.then(connection).ok_or(INVALID_STATE)
            }
            State::Closed(errno) => Err(*errno),
            _ => Err(INVALID_STATE),
        }
    }
}

impl State {
    /// The state of a socket that is connected.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] if the connection does not fit in the budget.
    fn connected(socket: Arc<Socket>, budget: &Budget) -> Result<Self, Errno> {
        let connection = Connection::new(socket, None, budget)?;
        Ok(Self::Connected(Directions {
            connection: Arc::new(Mutex::new(connection)),
            sending: true,
            receiving: true,
        }))
    }
}
