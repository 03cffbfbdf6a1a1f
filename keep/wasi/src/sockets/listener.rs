// SPDX-License-Identifier: Apache-2.0

//! A TCP socket that listens. With TLS it gives connections whose handshake is complete: many handshakes run
//! at a time, each for a bounded time, so a peer that does not finish one delays nobody. Peers are not
//! trusted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_tls::web;

use super::connection::Connection;
use super::socket::Socket;
use crate::budget::Budget;
use crate::error::{Errno, Result};
use crate::port::Operation;

/// How long a peer has for the handshake of TLS, while the program waits at the listener.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most connections in their handshake, or after it and not yet accepted, for each listener; more wait with
/// the host.
const WAITING: usize = 256;

/// A connection in its handshake.
struct Handshake {
    connection: Connection,
    until: Instant,
}

/// A TCP socket that listens.
pub struct Listener {
    socket: Socket,
    tls: Option<web::Server>,
    budget: Budget,
    accepting: Option<Operation>,
    handshakes: Vec<Handshake>,
    /// Connections that the program can have.
    ready: VecDeque<Connection>,
    /// The reason why there will be none, reported once.
    failed: Option<Errno>,
    /// When it was last looked after.
    looked: Instant,
    /// The program does not wait at this socket.
    pub nonblocking: bool,
}

impl Listener {
    /// A socket that listens.
    pub(super) fn new(socket: Socket, tls: Option<web::Server>, budget: &Budget) -> Self {
        Self {
            socket,
            tls,
            budget: budget.clone(),
            accepting: None,
            handshakes: Vec::new(),
            ready: VecDeque::new(),
            failed: None,
            looked: Instant::now(),
            nonblocking: false,
        }
    }

    /// Begins to wait: time in which the program did something else is not the peers'.
    pub fn resume(&mut self) {
        let absent = self.looked.elapsed();
        for handshake in &mut self.handshakes {
            let until = handshake.until.checked_add(absent);
            handshake.until = until.unwrap_or(handshake.until);
        }
        self.looked = Instant::now();
    }

    /// Waits until [`Self::take`] has something to give.
    pub fn poll_ready(&mut self, context: &Context<'_>) -> Poll<()> {
        self.looked = Instant::now();
        self.accept(context);
        self.continue_handshakes(context);
        if self.ready.is_empty() && self.failed.is_none() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// [`Errno::Again`] if there is none; the host's error if it gives none.
    pub fn take(&mut self) -> Result<Connection> {
        if let Some(connection) = self.ready.pop_front() {
            return Ok(connection);
        }
        Err(self.failed.take().unwrap_or(Errno::Again))
    }

    /// Takes connections of the host, as many as there is room for.
    fn accept(&mut self, context: &Context<'_>) {
        let most = if self.tls.is_some() { WAITING } else { 1 };
        while self.handshakes.len().saturating_add(self.ready.len()) < most && self.failed.is_none()
        {
            let accepted = match self.poll_accept(context) {
                Poll::Ready(accepted) => accepted,
                Poll::Pending => return,
            };
            match accepted {
                Ok(connection) if self.tls.is_none() => self.ready.push_back(connection),
                Ok(connection) => self.handshakes.push(Handshake {
                    connection,
                    until: self.looked.checked_add(HANDSHAKE).unwrap_or(self.looked),
                }),
                // The peer has gone while it waited (accept(2)), or was turned away.
                Err(Errno::ConnectionAborted) => {}
                Err(errno) => self.failed = Some(errno),
            }
        }
    }

    fn poll_accept(&mut self, context: &Context<'_>) -> Poll<Result<Connection>> {
        let operation = match &mut self.accepting {
            Some(operation) => operation,
            accepting => accepting.insert(self.socket.accept()?),
        };
        if !operation.poll_ready(context) {
            return Poll::Pending;
        }
        let accepted = self.socket.accepted(operation);
        self.accepting = None;
        let socket = Arc::new(accepted?);
        let session = match &self.tls {
            None => None,
            Some(tls) => Some(tls.accept().map_err(|_| Errno::ConnectionAborted)?),
        };
        // A peer for whom there is no memory is turned away.
        let connection = Connection::new(socket, session, &self.budget);
        Poll::Ready(connection.map_err(|_| Errno::ConnectionAborted))
    }

    /// Goes on with the handshakes.
    fn continue_handshakes(&mut self, context: &Context<'_>) {
        let port = &self.socket.port;
        for mut handshake in std::mem::take(&mut self.handshakes) {
            match handshake.connection.poll_handshake(context) {
                Poll::Ready(Ok(())) => self.ready.push_back(handshake.connection),
                // Its alert, if there is one, is in flight: the host gets it before the call to close.
                Poll::Ready(Err(_)) => {}
                Poll::Pending if port.poll_deadline(handshake.until) => {}
                Poll::Pending => self.handshakes.push(handshake),
            }
        }
    }
}
