// SPDX-License-Identifier: Apache-2.0

//! The functions on sockets. A program opens none: it finds those of its configuration, and accepts connections.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_configuration::Configuration;

use super::memory::{Memory, Result};
use super::state::Preview1;
use super::table::{Entry, Table};
use super::types::{self, fdflags};
use crate::error::Errno;
use crate::sockets::{Opener, SocketError};

/// `riflags`: received bytes stay and can be received again.
const PEEK: u32 = 1;
/// `riflags`: as much is waited for as there is room for.
const WAIT_ALL: u32 = 2;
/// `sdflags`: nothing more is read.
const READING: u32 = 1;
/// `sdflags`: nothing more is written.
const WRITING: u32 = 2;

/// Longest wait of a program that closes a connection; the rest is sent while it waits for something else.
const CLOSE: Duration = Duration::from_millis(100);

/// How bytes are received.
#[derive(Clone, Copy, Default)]
pub struct Receive {
    /// They can be received again.
    peeks: bool,
    /// As many are waited for as there is room for.
    fills: bool,
}

/// The `fdstat` of a socket.
pub fn fdstat(rights: u64, nonblocking: bool) -> [u8; 24] {
    let flags = if nonblocking { NONBLOCK } else { 0 };
    types::fdstat(types::SOCKET, flags, rights, rights)
}

/// [`fdflags::NONBLOCK`], as wide as in `fdstat`.
const NONBLOCK: u16 = 1 << 2;
const _: () = assert!(NONBLOCK as u32 == fdflags::NONBLOCK);

impl Preview1 {
    /// Opens the sockets of a configuration.
    ///
    /// # Errors
    /// [`SocketError`] for the first that cannot be opened.
    pub fn open_sockets(&mut self, configuration: &Configuration) -> Result<(), SocketError> {
        let opener = Opener {
            port: &self.context.port,
            clocks: &self.context.clocks,
            issuers: &configuration.issuers,
            budget: &self.context.budget,
        };
        let sockets = configuration.sockets.iter();
        let opened = sockets.map(|socket| Ok((socket.descriptor, opener.open(socket)?)));
        self.table.place(opened.collect::<Result<_, _>>()?);
        Ok(())
    }

    /// At the program's end, waits until peers have taken its output, each for a bounded time.
    pub fn close_sockets(&mut self) {
        let connections: Vec<_> = self.table.connections().collect();
        for connection in connections {
            self.closing.begin(connection);
        }
        let Self {
            context, closing, ..
        } = self;
        let port = &context.port;
        port.block_on(std::future::poll_fn(|context| closing.look(port, context)));
    }

    /// Releases the object of a descriptor.
    pub(super) fn let_go(&mut self, entry: Entry) {
        let Entry::Connection(connection) = entry else {
            return;
        };
        self.closing.begin(connection);
        let port = self.context.port.clone();
        let now = Instant::now();
        let until = now.checked_add(CLOSE).unwrap_or(now);
        port.block_on(std::future::poll_fn(|context| {
            match self.closing.look(&port, context) {
                Poll::Pending if !port.poll_deadline(until) => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
    }

    /// Waits for something at a descriptor; if the program does not, [`Errno::Again`] stands for it.
    fn wait<T>(
        &mut self,
        nonblocking: bool,
        mut poll: impl FnMut(&mut Table, &mut Context<'_>) -> Poll<Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let Self {
            context,
            table,
            closing,
        } = self;
        let port = &context.port;
        port.block_on(std::future::poll_fn(|context| {
            // The rest of closed ones continues in the meantime.
            let _ = closing.look(port, context);
            match poll(table, context) {
                Poll::Pending if nonblocking => Poll::Ready(Err(Errno::Again)),
                outcome => outcome,
            }
        }))
    }

    /// Reads from a connection, to as much of `buffer` as there is.
    pub(super) fn receive(&mut self, fd: u32, buffer: &mut [u8], how: Receive) -> Result<usize> {
        let nonblocking = self.table.connection(fd)?.nonblocking;
        let mut received = 0;
        loop {
            let rest = buffer.get_mut(received..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(received);
            }
            let count = self.wait(nonblocking, |table, context| {
                table.connection(fd)?.poll_read(context, rest, how.peeks)
            });
            match count {
                Ok(count) if how.fills && count > 0 && !how.peeks => received += count,
                // The bytes that have come count more than the end after them.
                Err(_) if received > 0 => return Ok(received),
                Ok(count) => return Ok(received + count),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes as many of `bytes` to a connection as it takes at once. Unless the socket is non-blocking, the
    /// host has them when this returns.
    pub(super) fn send(&mut self, fd: u32, bytes: &[u8]) -> Result<usize> {
        let nonblocking = self.table.connection(fd)?.nonblocking;
        let count = self.wait(nonblocking, |table, context| {
            table.connection(fd)?.poll_write(context, bytes)
        })?;
        if !nonblocking {
            self.wait(false, |table, context| {
                table.connection(fd)?.poll_sent(context)
            })?;
        }
        Ok(count)
    }

    pub(super) fn sock_accept(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        flags: u32,
        result: u32,
    ) -> Result<()> {
        let flags = types::flags(flags, fdflags::ALL)?;
        if flags & !fdflags::NONBLOCK != 0 {
            self.table.listener(fd)?;
            return Err(Errno::Invalid.into());
        }
        // A pointer that is not valid costs no connection.
        memory.write_u32(result, 0)?;
        let listener = self.table.listener(fd)?;
        listener.resume();
        let nonblocking = listener.nonblocking;
        let mut connection = self.wait(nonblocking, |table, context| {
            let listener = table.listener(fd)?;
            listener.poll_ready(context).map(|()| listener.take())
        })?;
        connection.nonblocking = flags & fdflags::NONBLOCK != 0;
        let number = self.table.push(Entry::Connection(Box::new(connection)))?;
        memory.write_u32(result, number)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn sock_recv(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        flags: u32,
        size: u32,
        result: u32,
    ) -> Result<()> {
        let flags = types::flags(flags, PEEK | WAIT_ALL)?;
        self.table.connection(fd)?;
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let how = Receive {
            peeks: flags & PEEK != 0,
            fills: flags & WAIT_ALL != 0,
        };
        let received = self.receive(fd, memory.slice_mut(pointer, length)?, how)?;
        memory.write_u32(size, u32::try_from(received).map_err(|_| Errno::Overflow)?)?;
        // `roflags`: nothing was cut off.
        memory.write_u16(result, 0)
    }

    pub(super) fn sock_send(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        flags: u32,
        result: u32,
    ) -> Result<()> {
        types::flags(flags, 0)?;
        self.table.connection(fd)?;
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let sent = self.send(fd, memory.slice(pointer, length)?)?;
        memory.write_u32(result, u32::try_from(sent).map_err(|_| Errno::Overflow)?)
    }

    pub(super) fn sock_shutdown(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        how: u32,
    ) -> Result<()> {
        let how = types::flags(how, READING | WRITING)?;
        let connection = self.table.connection(fd)?;
        if how & READING != 0 {
            connection.end_reading();
        }
        if how & WRITING != 0 {
            connection.end_writing();
            self.wait(true, |table, context| {
                table.connection(fd)?.poll_sent(context)
            })
            .or_else(|errno| match errno {
                // The rest is sent while the program goes on.
                Errno::Again => Ok(()),
                errno => Err(errno),
            })?;
        }
        Ok(())
    }
}
