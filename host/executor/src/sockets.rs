// SPDX-License-Identifier: Apache-2.0

//! Calls of the Keep about the network, when the grant names it: TCP, UDP and look-ups of names.
//!
//! Every socket is non-blocking; calls that are not ready become pending requests.

use std::net::{Ipv4Addr, SocketAddr};
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

/// A request, and the slot that its buffer is in.
type Request = (u32, Slot);

impl Executor {
    /// Performs a call about the network, or has it wait.
    pub fn network_call(&mut self, id: u32, slot: Slot, call: &Call) -> Result<Started> {
        let request = (id, slot);
        let space = Buffer::new(self.region, slot, 0, BUFFER_SIZE).map_err(status)?;
        let answer = match *call {
            Call::TcpOpen { ipv6 } => self.tcp_open(ipv6)?,
            Call::UdpOpen { ipv6 } => self.udp_open(ipv6)?,
            Call::Bind { handle, address } => self.bind(handle, address.into())?,
            Call::TcpConnect { handle, address } => {
                return self.connect(request, handle, address.into());
            }
            Call::TcpListen { handle, backlog } => self.listen(handle, backlog)?,
            Call::TcpAccept { handle } => return self.accept(request, handle),
            Call::Shutdown { handle, how } => return self.shutdown(request, handle, how),
            Call::UdpSend {
                handle,
                address,
                length,
            } => return self.send(request, handle, address.into(), length),
            Call::UdpReceive { handle, length } => {
                let (socket, operation) = (self.datagrams(handle)?, Operation::Receive { length });
                let request = waiting(request, Some(handle), socket, PollFlags::IN, operation);
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
            Call::Resolve { name_length } => return self.resolve(request, space, name_length),
            _ => return Err(Status::NotSupported),
        };
        Ok(Started::Done(Ok(answer)))
    }

    fn tcp_open(&mut self, ipv6: bool) -> Result<Answer> {
        granted(self.network.tcp)?;
        self.handles.room()?;
        let socket = Object::Tcp(Arc::new(open(ipv6, SocketType::STREAM)?));
        Ok(Answer::value(self.handles.insert(socket)?.0))
    }

    fn udp_open(&mut self, ipv6: bool) -> Result<Answer> {
        granted(self.network.udp)?;
        self.handles.room()?;
        let socket = Object::Datagrams(Arc::new(open(ipv6, SocketType::DGRAM)?));
        Ok(Answer::value(self.handles.insert(socket)?.0))
    }

    fn bind(&self, handle: Handle, address: SocketAddr) -> Result<Answer> {
        let (socket, protocol) = match self.handles.get(handle)? {
            Object::Tcp(socket) => (socket, Protocol::Tcp),
            Object::Datagrams(socket) => (socket, Protocol::Udp),
            _ => return Err(Status::Invalid),
        };
        // A client uses a port that the kernel chooses: a TCP socket is checked when it listens.
        if address.port() != 0 {
            self.may_wait(socket, protocol, address)?;
        }
        if protocol == Protocol::Tcp {
            // As every server does: a restart need not wait for old connections to fade.
            sockopt::set_socket_reuseaddr(socket, true).map_err(status)?;
        }
        bind(socket, &address).map_err(status)?;
        Ok(Answer::default())
    }

    /// Checks that a socket may listen at an address of this machine. At the unspecified IPv6 address
    /// it also listens on IPv4, unless it is IPv6-only, which cannot change once it is bound.
    fn may_wait(&self, socket: &OwnedFd, protocol: Protocol, at: SocketAddr) -> Result<()> {
        let every = at.ip().is_unspecified();
        if at.is_ipv6() && every && !sockopt::ipv6_v6only(socket).map_err(status)? {
            let of_ipv4 = (Ipv4Addr::UNSPECIFIED, at.port()).into();
            granted(self.judge.may_listen(protocol, of_ipv4))?;
        }
        granted(self.judge.may_listen(protocol, at))
    }

    fn connect(&mut self, request: Request, handle: Handle, to: SocketAddr) -> Result<Started> {
        let Object::Tcp(socket) = self.handles.get(handle)? else {
            return Err(Status::Invalid);
        };
        let socket = Arc::clone(socket);
        granted(self.judge.may_connect(Protocol::Tcp, to))?;
        match connect(&*socket, &to) {
            Ok(()) => {
                let connection = Object::Connection(Stream::socket(socket));
                self.handles.replace(handle, connection)?;
                Ok(Started::Done(Ok(Answer::default())))
            }
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let operation = Operation::Connect { handle };
                let request = waiting(request, Some(handle), &socket, PollFlags::OUT, operation);
                Ok(Started::Waits(request))
            }
            Err(errno) => Err(status(errno)),
        }
    }

    fn listen(&mut self, handle: Handle, backlog: u32) -> Result<Answer> {
        let backlog = backlog.clamp(1, MAX_BACKLOG).cast_signed();
        let (Object::Tcp(socket) | Object::Listener(socket)) = self.handles.get(handle)? else {
            return Err(Status::Invalid);
        };
        let socket = Arc::clone(socket);
        // One that is not bound listens at every address.
        let local = getsockname(&*socket).map_err(status)?;
        let local = SocketAddr::try_from(local).map_err(|_| Status::Invalid)?;
        self.may_wait(&socket, Protocol::Tcp, local)?;
        listen(&*socket, backlog).map_err(status)?;
        self.handles.replace(handle, Object::Listener(socket))?;
        Ok(Answer::default())
    }

    fn accept(&mut self, request: Request, handle: Handle) -> Result<Started> {
        self.handles.room()?;
        if handle == Handle::LISTENER
            && let Some(serves) = self.serves.take()
        {
            // There may be nobody to notify.
            let _ = rustix::io::write(&serves, &[1]);
        }
        let Object::Listener(socket) = self.handles.get(handle)? else {
            return Err(Status::Invalid);
        };
        let operation = Operation::Accept;
        let request = waiting(request, Some(handle), socket, PollFlags::IN, operation);
        Ok(self.attempt_in_order(request))
    }

    fn shutdown(&mut self, request: Request, handle: Handle, how: ShutdownHow) -> Result<Started> {
        let how = match how {
            ShutdownHow::Receive => Shutdown::Read,
            ShutdownHow::Send => Shutdown::Write,
            ShutdownHow::Both => Shutdown::Both,
        };
        let socket = self.handles.socket(handle)?;
        let operation = Operation::Shutdown { how };
        let request = waiting(request, Some(handle), socket, PollFlags::OUT, operation);
        Ok(self.attempt_in_order(request))
    }

    fn send(
        &mut self,
        request: Request,
        handle: Handle,
        to: SocketAddr,
        length: u32,
    ) -> Result<Started> {
        let datagram = self.input(request.1, 0, length)?;
        granted(self.judge.may_connect(Protocol::Udp, to))?;
        let socket = self.datagrams(handle)?;
        let operation = Operation::Send { to, datagram };
        let request = waiting(request, Some(handle), socket, PollFlags::OUT, operation);
        Ok(self.attempt_in_order(request))
    }

    fn resolve(&mut self, request: Request, space: Buffer, length: u32) -> Result<Started> {
        granted(self.network.name_lookup)?;
        if length > MAX_NAME {
            return Err(Status::NameTooLong);
        }
        let name = self.input(request.1, 0, length)?;
        let name = String::from_utf8(name).map_err(|_| Status::NameUnresolvable)?;
        match self.judge.question(name)? {
            Question::Known(found) => {
                let answer = reply_addresses(space, found).map_err(status)?;
                Ok(Started::Done(Ok(answer)))
            }
            Question::Ask { name, pin } => {
                let resolver = self.resolver.as_ref().ok_or(Status::ResolverFailure)?;
                let (lookup, ready) = resolver.ask(name)?;
                let operation = Operation::Resolve { lookup, pin };
                let request = waiting(request, None, &ready, PollFlags::IN, operation);
                Ok(Started::Waits(request))
            }
        }
    }

    fn datagrams(&self, handle: Handle) -> Result<&Arc<OwnedFd>> {
        match self.handles.get(handle)? {
            Object::Datagrams(socket) => Ok(socket),
            _ => Err(Status::NotSocket),
        }
    }
}

/// A request that waits for events of a descriptor, and for its turn at a handle.
fn waiting(
    (id, slot): Request,
    handle: Option<Handle>,
    fd: &Arc<OwnedFd>,
    events: PollFlags,
    operation: Operation,
) -> Pending {
    Pending {
        id,
        slot,
        handle,
        fd: Arc::clone(fd),
        events,
        operation: pending::Operation::Network(operation),
    }
}

fn granted(permission: bool) -> Result<()> {
    if permission {
        Ok(())
    } else {
        Err(Status::NotCapable)
    }
}
