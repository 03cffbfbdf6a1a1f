// SPDX-License-Identifier: Apache-2.0

//! The network, when the grant names it: the system calls for it, and the work of a request once its socket is ready.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use enarx_sallyport::call::RESOLVED_MAX;
use enarx_sallyport::types::{ADDRESS_SIZE, SocketOption};
use enarx_sallyport::{BUFFER_SIZE, Call, Handle, SocketAddress, Status};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType,
    accept_with, recvfrom, sendto, shutdown, socket_with,
};

use crate::grant::NetworkGrant;
use enarx_confine::seccomp::{Allow, calls, word};

use super::addresses::Pin;
use super::answer::{Answer, Result, status};
use super::buffer::Buffer;
use super::handles::{Handles, Object};
use super::resolver::Lookup;
use super::streams::Stream;

/// Flags of every socket.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

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
const READ_ONLY_OPTIONS: (libc::c_int, &[libc::c_int]) =
    (libc::SOL_SOCKET, &[libc::SO_DOMAIN, libc::SO_ERROR]);

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
    allowed.push(option(libc::SYS_getsockopt, READ_ONLY_OPTIONS));
    allowed
}

/// The work of a pending network request once its socket is ready.
#[derive(Debug)]
pub enum Operation {
    /// The connection is established or has failed.
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

/// True if a call is about the network.
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
            Self::Accept => accept_with(&**socket, FLAGS).map(|accepted| {
                let connection = Object::Connection(Stream::socket(Arc::new(accepted)));
                Ok(Answer::value(handles.insert(connection)?.0))
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

/// Opens a socket, which does not block.
pub fn open(ipv6: bool, kind: SocketType) -> Result<OwnedFd> {
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

/// The address of a socket.
pub fn from_any(address: SocketAddrAny) -> Result<SocketAddress> {
    let address = SocketAddr::try_from(address).map_err(|_| Status::AddressFamily)?;
    Ok(address.into())
}

/// Answers with an address.
pub fn reply_address(space: Buffer, address: SocketAddress) -> Result<Answer> {
    let count = space.fill(&address.to_bytes()).map_err(status)?;
    Ok(Answer::bytes(count))
}

/// Answers with the addresses of a name.
pub fn reply_addresses(space: Buffer, found: Vec<IpAddr>) -> rustix::io::Result<Answer> {
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

/// A number from the Keep, in the range of an option.
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

/// Sets an option of a socket.
pub fn set_option(socket: &OwnedFd, option: SocketOption, value: u64) -> Result<()> {
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

/// The value of an option of a socket.
pub fn get_option(socket: &OwnedFd, option: SocketOption) -> Result<u64> {
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
