// SPDX-License-Identifier: Apache-2.0

//! Calls of the Keep about the network, when the grant names it: TCP, UDP and look-ups of names.
//!
//! Every socket is non-blocking; what is not ready becomes a pending request.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_network::Protocol;
use enarx_sallyport::types::ShutdownHow;
use enarx_sallyport::{BUFFER_SIZE, Call, Handle, Slot, Status};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{Shutdown, SocketType, bind, connect, getpeername, getsockname, listen};

use crate::addresses::Question;
use crate::answer::{Answer, Result, status};
use crate::buffer::Buffer;
use crate::executor::Executor;
use crate::handles::Object;
use crate::network::{
    Operation, from_any, get_option, open, reply_address, reply_addresses, set_option,
};
use crate::pending::{self, Pending, Started};
use crate::streams::Stream;

/// Most connections that wait to be accepted.
const MAX_BACKLOG: u32 = 1024;
/// Longest host name (RFC 1035, section 2.3.4), and some room for a dot at the end.
const MAX_NAME: u32 = 256;

impl Executor {
    /// Performs a call about the network, or has it wait.
    pub fn network_call(&mut self, id: u32, slot: Slot, call: &Call) -> Result<Started> {
        let waiting = |handle, fd: &Arc<OwnedFd>, events, operation| Pending {
            id,
            slot,
            handle,
            fd: Arc::clone(fd),
            events,
            operation: pending::Operation::Network(operation),
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

fn granted(permission: bool) -> Result<()> {
    if permission {
        Ok(())
    } else {
        Err(Status::NotCapable)
    }
}
