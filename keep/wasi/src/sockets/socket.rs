// SPDX-License-Identifier: Apache-2.0

//! A socket of the host, and the calls on it. The host's answers are not trusted.

use std::net::SocketAddr;

use enarx_sallyport::types::{ADDRESS_SIZE, ShutdownHow, SocketOption};
use enarx_sallyport::{Call, Handle, SocketAddress};

use super::options;
use crate::error::{Errno, Result};
use crate::port::{Answer, Operation, Port};

/// Connections that wait to be accepted, unless the program says otherwise (Linux, SOMAXCONN).
pub const BACKLOG: u64 = 4096;

/// Most bytes of one datagram (RFC 768: the length has 16 bits).
pub const DATAGRAM_MAX: usize = 65_535;

/// A socket of the host; closed when dropped.
pub struct Socket {
    pub(crate) port: Port,
    pub(crate) handle: Handle,
}

/// A datagram that came in.
pub struct Datagram {
    /// The sender.
    pub from: SocketAddr,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Socket {
    /// Its handle, which counts as long as this lives.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Opens one.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn open(port: &Port, call: &Call) -> Result<Self> {
        Ok(Self::new(port, &port.call(call, &[], &mut [])?))
    }

    /// The socket that a call has made.
    pub(crate) fn new(port: &Port, answer: &Answer) -> Self {
        Self {
            port: port.clone(),
            handle: port.handle(answer),
        }
    }

    /// Begins to give it a local address.
    pub(crate) fn bind(&self, address: SocketAddr) -> Result<Operation> {
        let call = Call::Bind {
            handle: self.handle,
            address: address.into(),
        };
        self.port.start(&call, &[])
    }

    /// Begins to connect it.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<Operation> {
        let call = Call::TcpConnect {
            handle: self.handle,
            address: to.into(),
        };
        self.port.start(&call, &[])
    }

    /// Begins to listen, or changes how many connections may wait.
    pub(crate) fn listen(&self, backlog: u64) -> Result<Operation> {
        let call = Call::TcpListen {
            handle: self.handle,
            backlog: u32::try_from(backlog).unwrap_or(u32::MAX),
        };
        self.port.start(&call, &[])
    }

    /// Begins to accept a connection.
    pub(crate) fn accept(&self) -> Result<Operation> {
        let call = Call::TcpAccept {
            handle: self.handle,
        };
        self.port.start(&call, &[])
    }

    /// The socket of a connection that was accepted.
    pub(crate) fn accepted(&self, operation: &mut Operation) -> Result<Self> {
        Ok(Self::new(&self.port, &operation.take(&mut [])?))
    }

    /// Begins to end directions of a connection, after all earlier writes.
    pub(crate) fn shutdown(&self, how: ShutdownHow) -> Result<Operation> {
        let call = Call::Shutdown {
            handle: self.handle,
            how,
        };
        self.port.start(&call, &[])
    }

    /// Begins to send a datagram.
    ///
    /// # Errors
    /// [`Errno::MessageSize`] for one that cannot be.
    pub(crate) fn send(&self, to: SocketAddr, data: &[u8]) -> Result<Operation> {
        let length = u16::try_from(data.len()).map_err(|_| Errno::MessageSize)?;
        let call = Call::UdpSend {
            handle: self.handle,
            address: to.into(),
            length: length.into(),
        };
        self.port.start(&call, &[data])
    }

    /// Begins to receive a datagram.
    pub(crate) fn receive(&self) -> Result<Operation> {
        let call = Call::UdpReceive {
            handle: self.handle,
            length: u32::try_from(DATAGRAM_MAX).unwrap_or(u32::MAX),
        };
        self.port.start(&call, &[])
    }

    /// The datagram that was received.
    pub(crate) fn received(&self, operation: &mut Operation) -> Result<Datagram> {
        let (_, bytes) = operation.take_bytes()?;
        let Some((address, data)) = bytes.split_first_chunk() else {
            self.port.bad_reply()
        };
        Ok(Datagram {
            from: self.decoded(address),
            data: data.to_vec(),
        })
    }

    /// Its own address.
    pub(crate) fn local_address(&self) -> Result<SocketAddr> {
        self.address(&Call::LocalAddress {
            handle: self.handle,
        })
    }

    /// The address of its peer.
    pub(crate) fn peer_address(&self) -> Result<SocketAddr> {
        self.address(&Call::PeerAddress {
            handle: self.handle,
        })
    }

    fn address(&self, call: &Call) -> Result<SocketAddr> {
        let mut bytes = [0; ADDRESS_SIZE as usize];
        self.port.call(call, &[], &mut bytes)?;
        Ok(self.decoded(&bytes))
    }

    fn decoded(&self, bytes: &[u8; ADDRESS_SIZE as usize]) -> SocketAddr {
        let Some(address) = SocketAddress::from_bytes(bytes) else {
            self.port.bad_reply()
        };
        address.into()
    }

    /// Sets an option.
    pub(crate) fn set(&self, option: SocketOption, value: u64) -> Result<()> {
        let call = Call::SetOption {
            handle: self.handle,
            option,
            value,
        };
        self.port.call(&call, &[], &mut [])?;
        Ok(())
    }

    /// Asks for an option.
    pub(crate) fn get(&self, option: SocketOption) -> Result<u64> {
        let call = Call::GetOption {
            handle: self.handle,
            option,
        };
        let value = self.port.call(&call, &[], &mut [])?.value;
        Ok(options::told(option, value))
    }

    /// Asks for an option that is a small number.
    pub(crate) fn get_small<T: TryFrom<u64>>(&self, option: SocketOption, most: T) -> Result<T> {
        Ok(T::try_from(self.get(option)?).unwrap_or(most))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let handle = self.handle;
        self.port.post(&Call::Close { handle });
    }
}
