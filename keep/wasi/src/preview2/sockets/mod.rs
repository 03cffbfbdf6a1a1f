// SPDX-License-Identifier: Apache-2.0

//! `wasi:sockets` over the sallyport: addresses, errors, name lookup; [`tcp`] and [`udp`].
//!
//! The configuration says what may be used; the host enforces its own copy. Data from the
//! network and from the host is not trusted; applications protect it end to end.

pub mod tcp;
pub mod udp;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use enarx_sallyport::types::{ADDRESS_SIZE, SocketOption};
use enarx_sallyport::{Call, SocketAddress};
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::Preview2;
use super::bindings::wasi::sockets::{
    instance_network, ip_name_lookup,
    network::{
        self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
        Ipv6SocketAddress,
    },
};
use crate::error::Errno;
use crate::port::{Operation, Port};
use crate::sockets::Socket;

/// The permission to use the network.
pub struct Network;

/// Why a function of a socket did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The component sees this code.
    Code(ErrorCode),
    /// The component ends.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Code(error_code(errno))
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Result<T> = std::result::Result<T, Failure>;

fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Access | Errno::NotPermitted => ErrorCode::AccessDenied,
        Errno::NotSupported => ErrorCode::NotSupported,
        Errno::Invalid => ErrorCode::InvalidArgument,
        Errno::NoMemory => ErrorCode::OutOfMemory,
        Errno::TimedOut => ErrorCode::Timeout,
        Errno::Already => ErrorCode::ConcurrencyConflict,
        Errno::Again | Errno::Interrupted => ErrorCode::WouldBlock,
        Errno::NotConnected => ErrorCode::InvalidState,
        Errno::TooManyDescriptors => ErrorCode::NewSocketLimit,
        Errno::AddressNotAvailable => ErrorCode::AddressNotBindable,
        Errno::AddressInUse => ErrorCode::AddressInUse,
        Errno::HostUnreachable | Errno::NetworkUnreachable => ErrorCode::RemoteUnreachable,
        Errno::ConnectionRefused => ErrorCode::ConnectionRefused,
        Errno::ConnectionReset => ErrorCode::ConnectionReset,
        Errno::ConnectionAborted => ErrorCode::ConnectionAborted,
        Errno::MessageSize => ErrorCode::DatagramTooLarge,
        _ => ErrorCode::Unknown,
    }
}

fn permitted(allowed: bool) -> Result<()> {
    if allowed {
        Ok(())
    } else {
        Err(ErrorCode::AccessDenied.into())
    }
}

impl Socket {
    /// Begins to give it a local address.
    fn bind(&self, address: &SocketAddr) -> Result<Operation> {
        let call = Call::Bind {
            handle: self.handle,
            address: (*address).into(),
        };
        Ok(self.port.start(&call, &[])?)
    }

    fn address(&self, call: &Call) -> Result<IpSocketAddress> {
        let mut bytes = [0; ADDRESS_SIZE as usize];
        self.port.call(call, &[], &mut bytes)?;
        Ok(from_wire(&self.port, &bytes))
    }

    fn local_address(&self) -> Result<IpSocketAddress> {
        self.address(&Call::LocalAddress {
            handle: self.handle,
        })
    }

    fn peer_address(&self) -> Result<IpSocketAddress> {
        self.address(&Call::PeerAddress {
            handle: self.handle,
        })
    }

    fn set(&self, option: SocketOption, value: u64) -> Result<()> {
        let call = Call::SetOption {
            handle: self.handle,
            option,
            value,
        };
        self.port.call(&call, &[], &mut [])?;
        Ok(())
    }

    fn get(&self, option: SocketOption) -> Result<u64> {
        let call = Call::GetOption {
            handle: self.handle,
            option,
        };
        Ok(self.port.call(&call, &[], &mut [])?.value)
    }

    fn hop_limit(&self) -> Result<u8> {
        let limit = self.get(SocketOption::HopLimit)?;
        Ok(u8::try_from(limit).unwrap_or(u8::MAX))
    }

    /// Asks for a size of one of its buffers: a hint, which the host rounds and limits.
    fn set_buffer(&self, option: SocketOption, size: u64) -> Result<()> {
        self.set(option, positive(size)?.min(BUFFER_MAX))
    }
}

/// Largest size of a buffer that is asked for: twice as much has 32 bits (Linux keeps the double, socket(7)).
const BUFFER_MAX: u64 = (u32::MAX >> 2) as u64;

/// A value that must not be zero.
fn positive(value: u64) -> Result<u64> {
    if value == 0 {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(value)
}

fn family(address: &SocketAddr) -> IpAddressFamily {
    match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    }
}

fn to_std(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }) => {
            SocketAddrV4::new(<[u8; 4]>::from(address).into(), port).into()
        }
        IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info,
            address,
            scope_id,
        }) => {
            let address = <[u16; 8]>::from(address).into();
            SocketAddrV6::new(address, port, flow_info, scope_id).into()
        }
    }
}

fn from_std(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: address.port(),
            address: address.ip().octets().into(),
        }),
        SocketAddr::V6(address) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: address.port(),
            flow_info: address.flowinfo(),
            address: address.ip().segments().into(),
            scope_id: address.scope_id(),
        }),
    }
}

/// An address that the host has sent.
fn from_wire(port: &Port, bytes: &[u8; ADDRESS_SIZE as usize]) -> IpSocketAddress {
    let Some(address) = SocketAddress::from_bytes(bytes) else {
        port.bad_reply()
    };
    from_std(address.into())
}

/// An address that can be reached: of the socket's family, neither unspecified nor port 0, and not
/// IPv4 in IPv6's clothes.
fn remote(address: IpSocketAddress, wanted: IpAddressFamily) -> Result<SocketAddr> {
    let address = bindable(address, wanted)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(address)
}

/// An address of the socket's family that is no IPv4 address in IPv6's clothes and no group.
fn bindable(address: IpSocketAddress, wanted: IpAddressFamily) -> Result<SocketAddr> {
    let address = to_std(address);
    let disguised = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.to_ipv4_mapped().is_some(),
    };
    if family(&address) != wanted || disguised {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(address)
}

impl network::Host for Preview2 {
    fn convert_error_code(&mut self, failure: Failure) -> wasmtime::Result<ErrorCode> {
        match failure {
            Failure::Code(code) => Ok(code),
            Failure::Trap(error) => Err(error),
        }
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<Errno>().copied().map(error_code))
    }
}

impl network::HostNetwork for Preview2 {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for Preview2 {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

/// Longest name that can be looked up, in bytes (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;

/// Tells if no domain name has this character (URL Standard, "forbidden domain code point").
fn is_forbidden(character: char) -> bool {
    character.is_ascii_control() || " #%/:<>?@[\\]^|".contains(character)
}

/// The addresses of a name.
pub enum Addresses {
    /// The host looks them up.
    Pending(Operation),
    /// They are there.
    Found(std::vec::IntoIter<IpAddr>),
    /// There are none, for this reason.
    Failed(ErrorCode),
}

impl Addresses {
    fn settle(&mut self) {
        let Self::Pending(operation) = self else {
            return;
        };
        if !operation.is_ready() {
            return;
        }
        *self = match operation.take_addresses() {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(Errno::NoEntry) => Self::Failed(ErrorCode::NameUnresolvable),
            Err(Errno::Again) => Self::Failed(ErrorCode::TemporaryResolverFailure),
            // Of a name that may not be looked up Wasmtime says the same.
            Err(Errno::Io | Errno::NotPermitted) => {
                Self::Failed(ErrorCode::PermanentResolverFailure)
            }
            Err(errno) => Self::Failed(error_code(errno)),
        };
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Self::Pending(operation) = self {
            operation.ready().await;
        }
    }
}

impl ip_name_lookup::Host for Preview2 {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>> {
        self.table.get(&network)?;
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>() {
            let found = Addresses::Found(vec![address].into_iter());
            return Ok(self.table.push(found)?);
        }
        if !self.context.network.name_lookup {
            // As Wasmtime.
            return Err(ErrorCode::PermanentResolverFailure.into());
        }
        if name.is_empty() || name.len() > NAME_MAX || name.contains(is_forbidden) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let call = Call::Resolve {
            name_length: u32::try_from(name.len()).map_err(|_| ErrorCode::InvalidArgument)?,
        };
        let operation = self.context.port.start(&call, &[name.as_bytes()])?;
        Ok(self.table.push(Addresses::Pending(operation))?)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Preview2 {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> Result<Option<IpAddress>> {
        let addresses = self.table.get_mut(&stream)?;
        addresses.settle();
        match addresses {
            Addresses::Pending(_) => Err(ErrorCode::WouldBlock.into()),
            Addresses::Failed(code) => Err((*code).into()),
            Addresses::Found(addresses) => Ok(addresses.next().map(|address| {
                // The port does not matter: only the address is taken.
                match from_std(SocketAddr::new(address, 0)) {
                    IpSocketAddress::Ipv4(address) => IpAddress::Ipv4(address.address),
                    IpSocketAddress::Ipv6(address) => IpAddress::Ipv6(address.address),
                }
            })),
        }
    }

    fn subscribe(
        &mut self,
        stream: Resource<Addresses>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
