// SPDX-License-Identifier: Apache-2.0

//! The network, when the grant names it: TCP, UDP and look-ups of names.
//!
//! Every socket is non-blocking; what is not ready becomes a pending request.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use enarx_network::Protocol;
use enarx_sallyport::call::RESOLVED_MAX;
use enarx_sallyport::types::{ADDRESS_SIZE, ShutdownHow, SocketOption};
use enarx_sallyport::{BUFFER_SIZE, Call, Handle, Slot, SocketAddress, Status};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType,
    acceptfrom_with, bind, connect, getpeername, getsockname, listen, recvfrom, sendto, shutdown,
    socket_with,
};

use crate::grant::NetworkGrant;
use enarx_confine::seccomp::{Allow, calls, word};

use super::addresses::{Pin, Question};
use super::buffer::Buffer;
use super::handles::{Handles, Object};
use super::resolver::Lookup;
use super::streams::Stream;
use super::{Answer, Executor, Pending, Result, Started, status};

/// Flags of every socket.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// The address of a peer that has none.
const NO_ADDRESS: SocketAddress = SocketAddress::V4 {
    address: [0; 4],
    port: 0,
};
/// Most connections that wait to be accepted.
const MAX_BACKLOG: u32 = 1024;
/// Longest host name (RFC 1035, section 2.3.4), and some room for a dot at the end.
const MAX_NAME: u32 = 256;

/// Calls on sockets of both kinds.
const SOCKET_CALLS: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_shutdown,
];
/// Calls on sockets of TCP.
const TCP_CALLS: &[i64] = &[libc::SYS_accept4, libc::SYS_connect, libc::SYS_listen];
/// Calls on sockets of UDP.
const UDP_CALLS: &[i64] = &[libc::SYS_recvfrom, libc::SYS_sendto];

/// Options that are set and asked for: their level, and their names there (socket(7), tcp(7), ip(7), ipv6(7)).
const OPTIONS: &[(libc::c_int, &[libc::c_int])] = &[
    (
        libc::SOL_SOCKET,
        &[
            libc::SO_KEEPALIVE,
            libc::SO_RCVBUF,
            libc::SO_SNDBUF,
            libc::SO_REUSEADDR,
            libc::SO_BROADCAST,
        ],
    ),
    (
        libc::IPPROTO_TCP,
        &[
            libc::TCP_NODELAY,
            libc::TCP_KEEPIDLE,
            libc::TCP_KEEPINTVL,
            libc::TCP_KEEPCNT,
        ],
    ),
    (libc::IPPROTO_IP, &[libc::IP_TTL]),
    (
        libc::IPPROTO_IPV6,
        &[libc::IPV6_V6ONLY, libc::IPV6_UNICAST_HOPS],
    ),
];
/// Options that are asked for only.
const ASKED: (libc::c_int, &[libc::c_int]) = (libc::SOL_SOCKET, &[libc::SO_DOMAIN, libc::SO_ERROR]);

/// The calls that these permissions need. Look-ups of names need none: another thread makes them.
pub fn allowed(network: NetworkGrant) -> Vec<Allow> {
    let mut allowed = Vec::new();
    let kinds = [
        (network.tcp, SocketType::STREAM, TCP_CALLS),
        (network.udp, SocketType::DGRAM, UDP_CALLS),
    ];
    for (_, kind, own) in kinds.iter().filter(|(granted, ..)| *granted) {
        allowed.extend(calls(own));
        allowed.push(
            Allow::call(libc::SYS_socket)
                .word(0, &[libc::AF_INET, libc::AF_INET6].map(word))
                .word(1, &[kind.as_raw() | FLAGS.bits()])
                .word(2, &[0]),
        );
    }
    if allowed.is_empty() {
        return allowed;
    }
    allowed.extend(calls(SOCKET_CALLS));
    let option = |call, (level, names): (libc::c_int, &[libc::c_int])| {
        let names: Vec<u32> = names.iter().copied().map(word).collect();
        Allow::call(call).word(1, &[word(level)]).word(2, &names)
    };
    for group in OPTIONS {
        allowed.push(option(libc::SYS_setsockopt, *group));
        allowed.push(option(libc::SYS_getsockopt, *group));
    }
    allowed.push(option(libc::SYS_getsockopt, ASKED));
    allowed
}

/// The work of a pending network request once its socket is ready.
#[derive(Debug)]
pub enum Operation {
    /// The connection stands or has failed.
    Connect {
        /// The socket, which becomes the connection.
        handle: Handle,
    },
    /// A connection has come in.
    Accept,
    /// Everything written before is sent.
    Shutdown {
        /// The directions that end.
        how: Shutdown,
    },
    /// There is room for a datagram.
    Send {
        /// To whom.
        to: SocketAddr,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// A datagram has come in.
    Receive {
        /// Most bytes.
        length: u32,
    },
    /// The name is looked up.
    Resolve {
        /// The look-up.
        lookup: Lookup,
        /// Takes the answer, if the name is one of a rule.
        pin: Option<Pin>,
    },
}

/// True if a call is one of this module's.
pub fn is_network(call: &Call) -> bool {
    matches!(
        call,
        Call::Resolve { .. }
            | Call::TcpConnect { .. }
            | Call::TcpListen { .. }
            | Call::TcpAccept { .. }
            | Call::Shutdown { .. }
            | Call::TcpOpen { .. }
            | Call::UdpOpen { .. }
            | Call::Bind { .. }
            | Call::UdpSend { .. }
            | Call::UdpReceive { .. }
            | Call::LocalAddress { .. }
            | Call::PeerAddress { .. }
            | Call::SetOption { .. }
            | Call::GetOption { .. }
    )
}

impl Executor {
    pub(super) fn network_call(&mut self, id: u32, slot: Slot, call: &Call) -> Result<Started> {
        let waiting = |handle, fd: &Arc<OwnedFd>, events, operation| Pending {
            id,
            slot,
            handle,
            fd: Arc::clone(fd),
            events,
            operation: super::Operation::Network(operation),
        };
        let space = Buffer::new(self.region, slot, 0, BUFFER_SIZE).map_err(status)?;
        let answer = match *call {
            Call::TcpOpen { ipv6 } => {
                granted(self.network.tcp)?;
                self.handles.room()?;
                let socket = open(ipv6, SocketType::STREAM)?;
                Answer::value(self.handles.insert(Object::Tcp(Arc::new(socket)))?.0)
            }
            Call::UdpOpen { ipv6 } => {
                granted(self.network.udp)?;
                self.handles.room()?;
                let socket = open(ipv6, SocketType::DGRAM)?;
                Answer::value(self.handles.insert(Object::Datagrams(Arc::new(socket)))?.0)
            }
            Call::Bind { handle, address } => {
                let address = SocketAddr::from(address);
                let (socket, protocol) = match self.handles.get(handle)? {
                    Object::Tcp(socket) => (socket, Protocol::Tcp),
                    Object::Datagrams(socket) => (socket, Protocol::Udp),
                    _ => return Err(Status::Invalid),
                };
                // A port of the kernel's choice is what a client has: a TCP socket is judged when it listens.
                granted(address.port() == 0 || self.judge.may_listen(protocol, address))?;
                if protocol == Protocol::Tcp {
                    // As every server does: a restart need not wait for old connections to fade.
                    sockopt::set_socket_reuseaddr(socket, true).map_err(status)?;
                }
                bind(socket, &address).map_err(status)?;
                Answer::default()
            }
            Call::TcpConnect { handle, address } => {
                let Object::Tcp(socket) = self.handles.get(handle)? else {
                    return Err(Status::Invalid);
                };
                let socket = Arc::clone(socket);
                let address = SocketAddr::from(address);
                granted(self.judge.may_connect(Protocol::Tcp, address))?;
                match connect(&*socket, &address) {
                    Ok(()) => {
                        let connection = Object::Connection(Stream::socket(socket));
                        self.handles.replace(handle, connection)?;
                        Answer::default()
                    }
                    Err(Errno::INPROGRESS | Errno::INTR) => {
                        let operation = Operation::Connect { handle };
                        return Ok(Started::Waits(waiting(
                            Some(handle),
                            &socket,
                            PollFlags::OUT,
                            operation,
                        )));
                    }
                    Err(errno) => return Err(status(errno)),
                }
            }
            Call::TcpListen { handle, backlog } => {
                let backlog = backlog.clamp(1, MAX_BACKLOG).cast_signed();
                let (Object::Tcp(socket) | Object::Listener(socket)) = self.handles.get(handle)?
                else {
                    return Err(Status::Invalid);
                };
                let socket = Arc::clone(socket);
                // One that is not bound listens at every address.
                let local = getsockname(&*socket).map_err(status)?;
                let local = SocketAddr::try_from(local).map_err(|_| Status::Invalid)?;
                granted(self.judge.may_listen(Protocol::Tcp, local))?;
                listen(&*socket, backlog).map_err(status)?;
                self.handles.replace(handle, Object::Listener(socket))?;
                Answer::default()
            }
            Call::TcpAccept { handle } => {
                self.handles.room()?;
                let Object::Listener(socket) = self.handles.get(handle)? else {
                    return Err(Status::Invalid);
                };
                let request = waiting(Some(handle), socket, PollFlags::IN, Operation::Accept);
                return Ok(self.attempt_in_order(request));
            }
            Call::Shutdown { handle, how } => {
                let how = match how {
                    ShutdownHow::Receive => Shutdown::Read,
                    ShutdownHow::Send => Shutdown::Write,
                    ShutdownHow::Both => Shutdown::Both,
                };
                let socket = self.handles.socket(handle)?;
                let operation = Operation::Shutdown { how };
                let request = waiting(Some(handle), socket, PollFlags::OUT, operation);
                return Ok(self.attempt_in_order(request));
            }
            Call::UdpSend {
                handle,
                address,
                length,
            } => {
                let datagram = self.input(slot, 0, length)?;
                let to = SocketAddr::from(address);
                granted(self.judge.may_connect(Protocol::Udp, to))?;
                let socket = self.datagrams(handle)?;
                let operation = Operation::Send { to, datagram };
                let request = waiting(Some(handle), socket, PollFlags::OUT, operation);
                return Ok(self.attempt_in_order(request));
            }
            Call::UdpReceive { handle, length } => {
                let operation = Operation::Receive { length };
                let socket = self.datagrams(handle)?;
                let request = waiting(Some(handle), socket, PollFlags::IN, operation);
                return Ok(self.attempt_in_order(request));
            }
            Call::LocalAddress { handle } => {
                let address = getsockname(&**self.handles.socket(handle)?).map_err(status)?;
                reply_address(space, from_any(address)?)?
            }
            Call::PeerAddress { handle } => {
                let address = getpeername(&**self.handles.socket(handle)?).map_err(status)?;
                reply_address(space, from_any(address.ok_or(Status::NotConnected)?)?)?
            }
            Call::SetOption {
                handle,
                option,
                value,
            } => {
                set_option(self.handles.socket(handle)?, option, value)?;
                Answer::default()
            }
            Call::GetOption { handle, option } => {
                Answer::value(get_option(self.handles.socket(handle)?, option)?)
            }
            Call::Resolve { name_length } => {
                granted(self.network.name_lookup)?;
                if name_length > MAX_NAME {
                    return Err(Status::NameTooLong);
                }
                let name = self.input(slot, 0, name_length)?;
                let name = String::from_utf8(name).map_err(|_| Status::NameUnresolvable)?;
                match self.judge.question(name)? {
                    Question::Known(found) => reply_addresses(space, found).map_err(status)?,
                    Question::Ask { name, pin } => {
                        let resolver = self.resolver.as_ref().ok_or(Status::ResolverFailure)?;
                        let (lookup, ready) = resolver.ask(name)?;
                        return Ok(Started::Waits(waiting(
                            None,
                            &ready,
                            PollFlags::IN,
                            Operation::Resolve { lookup, pin },
                        )));
                    }
                }
            }
            _ => return Err(Status::NotSupported),
        };
        Ok(Started::Done(Ok(answer)))
    }

    fn datagrams(&self, handle: Handle) -> Result<&Arc<OwnedFd>> {
        match self.handles.get(handle)? {
            Object::Datagrams(socket) => Ok(socket),
            _ => Err(Status::NotSocket),
        }
    }
}

impl Operation {
    /// Tries the operation; nothing when its socket is not ready.
    pub fn attempt(
        &mut self,
        socket: &Arc<OwnedFd>,
        space: Buffer,
        handles: &mut Handles,
    ) -> Option<Result<Answer>> {
        let result = match self {
            Self::Connect { handle } => match sockopt::socket_error(&**socket) {
                Ok(Ok(())) => {
                    let connection = Object::Connection(Stream::socket(Arc::clone(socket)));
                    Ok(handles
                        .replace(*handle, connection)
                        .map(|()| Answer::default()))
                }
                Ok(Err(errno)) | Err(errno) => Err(errno),
            },
            Self::Accept => acceptfrom_with(&**socket, FLAGS).map(|(accepted, peer)| {
                let peer = match peer {
                    // Whoever comes through the door has no address.
                    Some(peer) if peer.address_family() == AddressFamily::UNIX => NO_ADDRESS,
                    peer => from_any(peer.ok_or(Status::AddressFamily)?)?,
                };
                let connection = Object::Connection(Stream::socket(Arc::new(accepted)));
                with_address(space, handles.insert(connection)?, peer)
            }),
            Self::Shutdown { how } => shutdown(&**socket, *how).map(|()| Ok(Answer::default())),
            Self::Send { to, datagram } => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                sendto(&**socket, datagram, flags, to).map(|sent| {
                    u32::try_from(sent)
                        .map(Answer::value)
                        .map_err(|_| Status::Overflow)
                })
            }
            Self::Receive { length } => {
                // Room for the address stays before it.
                let length = (*length).min(BUFFER_SIZE - ADDRESS_SIZE);
                let mut bytes = vec![0; length as usize];
                recvfrom(&**socket, &mut bytes[..], RecvFlags::DONTWAIT).map(|(count, _, from)| {
                    let from = from_any(from.ok_or(Status::AddressFamily)?)?;
                    let datagram = bytes.get(..count).unwrap_or(&bytes);
                    let head = space.fill(&from.to_bytes()).map_err(status)?;
                    let body = space
                        .rest(head, BUFFER_SIZE)
                        .fill(datagram)
                        .map_err(status)?;
                    Ok(Answer::bytes(head + body))
                })
            }
            Self::Resolve { lookup, pin } => {
                let answer = lookup.answer()?;
                let found = answer.and_then(|found| match pin {
                    Some(pin) => pin.settle(found),
                    None => Ok(found),
                });
                match found {
                    Err(status) => Ok(Err(status)),
                    Ok(found) => reply_addresses(space, found).map(Ok),
                }
            }
        };
        match result {
            Ok(answer) => Some(answer),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(errno) => Some(Err(status(errno))),
        }
    }
}

fn granted(permission: bool) -> Result<()> {
    if permission {
        Ok(())
    } else {
        Err(Status::NotCapable)
    }
}

fn open(ipv6: bool, kind: SocketType) -> Result<OwnedFd> {
    let family = if ipv6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = socket_with(family, kind, FLAGS, None).map_err(status)?;
    if family == AddressFamily::INET6 {
        // WASI keeps the families apart (wasi:sockets 0.2, `create-tcp-socket`).
        sockopt::set_ipv6_v6only(&socket, true).map_err(status)?;
    }
    Ok(socket)
}

fn from_any(address: SocketAddrAny) -> Result<SocketAddress> {
    let address = SocketAddr::try_from(address).map_err(|_| Status::AddressFamily)?;
    Ok(address.into())
}

fn reply_address(space: Buffer, address: SocketAddress) -> Result<Answer> {
    let count = space.fill(&address.to_bytes()).map_err(status)?;
    Ok(Answer::bytes(count))
}

/// Answers with the addresses of a name.
fn reply_addresses(space: Buffer, found: Vec<IpAddr>) -> rustix::io::Result<Answer> {
    let bytes: Vec<u8> = found
        .into_iter()
        .take(RESOLVED_MAX as usize)
        .flat_map(|address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
        .collect();
    space.fill(&bytes).map(Answer::bytes)
}

fn with_address(space: Buffer, handle: Handle, address: SocketAddress) -> Result<Answer> {
    Ok(Answer {
        value: handle.0.into(),
        ..reply_address(space, address)?
    })
}

/// A number of the Keep's, in the range of an option.
fn within<T: TryFrom<u64>>(value: u64) -> Result<T> {
    T::try_from(value).map_err(|_| Status::Invalid)
}

fn boolean(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Status::Invalid),
    }
}

fn set_option(socket: &OwnedFd, option: SocketOption, value: u64) -> Result<()> {
    let time = Duration::from_nanos(value);
    match option {
        SocketOption::NoDelay => sockopt::set_tcp_nodelay(socket, boolean(value)?),
        SocketOption::KeepAlive => sockopt::set_socket_keepalive(socket, boolean(value)?),
        SocketOption::KeepAliveIdle => sockopt::set_tcp_keepidle(socket, time),
        SocketOption::KeepAliveInterval => sockopt::set_tcp_keepintvl(socket, time),
        SocketOption::KeepAliveCount => sockopt::set_tcp_keepcnt(socket, within(value)?),
        SocketOption::HopLimit => match sockopt::socket_domain(socket).map_err(status)? {
            AddressFamily::INET => sockopt::set_ip_ttl(socket, within::<u8>(value)?.into()),
            _ => sockopt::set_ipv6_unicast_hops(socket, Some(within(value)?)),
        },
        SocketOption::ReceiveBuffer => sockopt::set_socket_recv_buffer_size(socket, within(value)?),
        SocketOption::SendBuffer => sockopt::set_socket_send_buffer_size(socket, within(value)?),
        SocketOption::Ipv6Only => sockopt::set_ipv6_v6only(socket, boolean(value)?),
        SocketOption::ReuseAddress => sockopt::set_socket_reuseaddr(socket, boolean(value)?),
        SocketOption::Broadcast => sockopt::set_socket_broadcast(socket, boolean(value)?),
        SocketOption::PendingError => return Err(Status::ProtocolOption),
    }
    .map_err(status)
}

fn get_option(socket: &OwnedFd, option: SocketOption) -> Result<u64> {
    let time = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    match option {
        SocketOption::NoDelay => sockopt::tcp_nodelay(socket).map(u64::from),
        SocketOption::KeepAlive => sockopt::socket_keepalive(socket).map(u64::from),
        SocketOption::KeepAliveIdle => sockopt::tcp_keepidle(socket).map(time),
        SocketOption::KeepAliveInterval => sockopt::tcp_keepintvl(socket).map(time),
        SocketOption::KeepAliveCount => sockopt::tcp_keepcnt(socket).map(u64::from),
        SocketOption::HopLimit => match sockopt::socket_domain(socket).map_err(status)? {
            AddressFamily::INET => sockopt::ip_ttl(socket).map(u64::from),
            _ => sockopt::ipv6_unicast_hops(socket).map(u64::from),
        },
        SocketOption::ReceiveBuffer => sockopt::socket_recv_buffer_size(socket).map(|n| n as u64),
        SocketOption::SendBuffer => sockopt::socket_send_buffer_size(socket).map(|n| n as u64),
        SocketOption::Ipv6Only => sockopt::ipv6_v6only(socket).map(u64::from),
        SocketOption::ReuseAddress => sockopt::socket_reuseaddr(socket).map(u64::from),
        SocketOption::Broadcast => sockopt::socket_broadcast(socket).map(u64::from),
        SocketOption::PendingError => sockopt::socket_error(socket)
            .map(|error| error.map_or_else(|errno| u64::from(status(errno).to_wire()), |()| 0)),
    }
    .map_err(status)
}
