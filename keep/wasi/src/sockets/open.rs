// SPDX-License-Identifier: Apache-2.0

//! Opens the sockets that a configuration names, before the program starts. One that cannot be opened is
//! an error with its place: a program never starts without one of its sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use enarx_configuration::sockets::{self, ClientTls, Peer, ServerTls};
use enarx_configuration::{Certificate, Identity};
use enarx_sallyport::Call;
use enarx_sallyport::types::SocketOption;
use enarx_tls::web::{self, WebError};

use super::connection::{Connection, HandshakeError};
use super::listener::{HANDSHAKE, Listener};
use super::socket::{BACKLOG, Socket};
use crate::budget::Budget;
use crate::clock::Clocks;
use crate::error::Errno;
use crate::port::Port;

/// How long a server has to take a connection, its handshake included.
const CONNECT: Duration = HANDSHAKE;

/// A socket that is open.
pub enum Opened {
    /// It listens.
    Listener(Box<Listener>),
    /// It is connected.
    Connection(Box<Connection>),
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("descriptor {descriptor} ({place}): {cause}")]
pub struct SocketError {
    /// The descriptor that it should have.
    pub descriptor: u32,
    /// Its place, in words.
    pub place: String,
    /// Why.
    pub cause: Cause,
}

/// Why a socket could not be opened, without its place.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The host refuses, or somebody beyond it.
    #[error("{0}{remedy}", remedy = remedy(*.0))]
    System(Errno),
    /// The name of a server has no address.
    #[error("its name has no address: {0}")]
    Name(Errno),
    /// A server took its time.
    #[error("no answer within {} seconds", CONNECT.as_secs())]
    Late,
    /// TLS says no.
    #[error(transparent)]
    Tls(#[from] WebError),
}

impl Cause {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::System(_) => "socket.failed",
            Self::Name(_) => "socket.name",
            Self::Late => "socket.late",
            Self::Tls(error) => error.code(),
        }
    }
}

/// The remedy of an error, for the end of a sentence.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::AddressInUse => ": name another port, or end the program that has it",
        Errno::AddressNotAvailable => ": name an address of this machine",
        Errno::Access | Errno::NotPermitted => ": the host does not permit it",
        Errno::ConnectionRefused => ": nobody listens there",
        _ => "",
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<HandshakeError> for Cause {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Connection(errno) => Self::System(errno),
            HandshakeError::Tls(error) => Self::Tls(error),
        }
    }
}

/// Opens sockets.
pub struct Opener<'a> {
    /// The way out of the Keep.
    pub port: &'a Port,
    /// The clocks by which certificates are judged.
    pub clocks: &'a Clocks,
    /// The issuers of servers for whom no others are named.
    pub issuers: &'a [Certificate],
    /// Memory for connections.
    pub budget: &'a Budget,
}

impl Opener<'_> {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open(&self, socket: &sockets::Socket) -> Result<Opened, SocketError> {
        let opened = match &socket.peer {
            Peer::Listen { address, port, tls } => self
                .listen(*address, *port, tls.as_ref())
                .map(|it| Opened::Listener(Box::new(it))),
            Peer::Connect { host, port, tls } => self
                .connect(host, *port, tls.as_ref())
                .map(|it| Opened::Connection(Box::new(it))),
        };
        opened.map_err(|cause| SocketError {
            descriptor: socket.descriptor,
            place: socket.peer.to_string(),
            cause,
        })
    }

    fn listen(
        &self,
        address: Option<IpAddr>,
        port: u16,
        tls: Option<&ServerTls>,
    ) -> Result<Listener, Cause> {
        let tls = tls.map(|tls| server(tls, &[], self.clocks)).transpose()?;
        let socket = listen(self.port, address, port)?;
        Ok(Listener::new(socket, tls, self.budget))
    }

    fn client(&self, tls: &ClientTls) -> Result<web::Client, WebError> {
        let issuers = tls.issuers.as_deref().unwrap_or(self.issuers);
        let issuers = issuers.iter().map(|it| it.0.as_slice());
        let client = web::Client::new(issuers, &[], self.clocks.for_tls())?;
        match &tls.identity {
            None => Ok(client),
            Some(identity) => {
                let (chain, key) = parts(identity);
                client.showing(&chain, key)
            }
        }
    }

    fn connect(&self, host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Connection, Cause> {
        let client = tls.map(|tls| self.client(tls)).transpose()?;
        let now = Instant::now();
        let until = now.checked_add(CONNECT).unwrap_or(now);
        let mut failed = Cause::Name(Errno::NoEntry);
        for address in self.addresses(host, until)? {
            match self.connect_to(address, port, until) {
                Ok(socket) => {
                    let session = match &client {
                        None => None,
                        Some(client) => Some(client.connect(host)?),
                    };
                    let mut connection = Connection::new(Arc::new(socket), session, self.budget)?;
                    self.within(until, |context| connection.poll_handshake(context))??;
                    return Ok(connection);
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }

    fn connect_to(&self, address: IpAddr, port: u16, until: Instant) -> Result<Socket, Cause> {
        let socket = tcp(self.port, address)?;
        socket.set(SocketOption::NoDelay, true.into())?;
        let mut operation = socket.connect(SocketAddr::new(address, port))?;
        self.within(until, |context| ready_if(operation.poll_ready(context)))?;
        operation.take(&mut [])?;
        Ok(socket)
    }

    /// The addresses of a host. This machine's own name is looked up nowhere (RFC 6761, section 6.3).
    fn addresses(&self, host: &str, until: Instant) -> Result<Vec<IpAddr>, Cause> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut operation = self.port.resolve(host)?;
        self.within(until, |context| ready_if(operation.poll_ready(context)))?;
        operation.take_addresses().map_err(Cause::Name)
    }

    /// Waits for something, but no longer than until then.
    fn within<T>(
        &self,
        until: Instant,
        mut poll: impl FnMut(&Context<'_>) -> Poll<T>,
    ) -> Result<T, Cause> {
        self.port
            .block_on(std::future::poll_fn(|context| match poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending if self.port.poll_deadline(until) => Poll::Ready(Err(Cause::Late)),
                Poll::Pending => Poll::Pending,
            }))
    }
}

/// The TLS of a server that offers these protocols; its clients' certificates are judged by these clocks.
///
/// # Errors
/// When identity or issuers cannot be used.
pub fn server(
    tls: &ServerTls,
    protocols: &[&[u8]],
    clocks: &Clocks,
) -> Result<web::Server, WebError> {
    let (chain, key) = parts(&tls.identity);
    let Some(clients) = &tls.clients else {
        return web::Server::new(&chain, key, protocols);
    };
    let issuers: Vec<_> = clients.issuers.iter().map(|it| it.0.as_slice()).collect();
    let clients = web::Clients {
        issuers: &issuers,
        required: clients.required,
        clock: clocks.for_tls(),
    };
    web::Server::asking(&chain, key, protocols, &clients)
}

/// Opens a TCP socket that listens at this address, or at every address of the machine.
///
/// # Errors
/// The host's.
pub fn listen(port: &Port, address: Option<IpAddr>, number: u16) -> Result<Socket, Cause> {
    Ok(match address {
        Some(address) => listen_at(port, address, number, false)?,
        None => match listen_at(port, Ipv6Addr::UNSPECIFIED.into(), number, true) {
            // A machine without IPv6.
            Err(Errno::NotSupported | Errno::AddressNotAvailable) => {
                listen_at(port, Ipv4Addr::UNSPECIFIED.into(), number, false)?
            }
            listening => listening?,
        },
    })
}

fn listen_at(port: &Port, address: IpAddr, number: u16, both: bool) -> Result<Socket, Errno> {
    let socket = tcp(port, address)?;
    if both {
        socket.set(SocketOption::Ipv6Only, false.into())?;
    }
    // Its connections inherit this.
    socket.set(SocketOption::NoDelay, true.into())?;
    socket
        .bind(SocketAddr::new(address, number))?
        .take(&mut [])?;
    socket.listen(BACKLOG)?.take(&mut [])?;
    Ok(socket)
}

/// Opens a TCP socket of the family of this address.
fn tcp(port: &Port, address: IpAddr) -> Result<Socket, Errno> {
    let call = Call::TcpOpen {
        ipv6: address.is_ipv6(),
    };
    Socket::open(port, &call)
}

fn ready_if(is_ready: bool) -> Poll<()> {
    if is_ready {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// The chain of an identity, and its key.
fn parts(identity: &Identity) -> (Vec<&[u8]>, &[u8]) {
    let chain = identity.chain.iter().map(|it| it.0.as_slice());
    (chain.collect(), &identity.key.0)
}
