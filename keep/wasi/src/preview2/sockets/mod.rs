// SPDX-License-Identifier: Apache-2.0

//! `wasi:sockets` over the sallyport: addresses, errors, name lookup; TCP and UDP have files of their own.
//!
//! The configuration says what may be used; the host enforces its own copy. Data from the
//! network and from the host is not trusted; applications protect it end to end.

pub(crate) mod failure;
pub(crate) mod resources;
mod tcp;
pub(crate) mod tcp_socket;
mod udp;
pub(crate) mod udp_socket;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use super::bindings::wasi::sockets::{
    instance_network, ip_name_lookup,
    network::{
        self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
        Ipv6SocketAddress,
    },
};
use super::state::Preview2;
use crate::budget::Share;
use crate::error::Errno;
use crate::sockets::{address, names};
use failure::Result;
use resources::{Addresses, Found, Network};

pub use failure::{Failure, Unsuited};

/// The error code of an error number.
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

/// The error code of a look-up.
fn lookup_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::NoEntry => ErrorCode::NameUnresolvable,
        Errno::Again => ErrorCode::TemporaryResolverFailure,
        // As Wasmtime says it of a name that may not be looked up.
        Errno::Io | Errno::NotPermitted => ErrorCode::PermanentResolverFailure,
        errno => error_code(errno),
    }
}

/// The error code of a state that does not suit a call.
fn state_code(state: Unsuited) -> ErrorCode {
    match state {
        Unsuited::Invalid => ErrorCode::InvalidState,
        Unsuited::Busy => ErrorCode::ConcurrencyConflict,
        Unsuited::Idle => ErrorCode::NotInProgress,
        Unsuited::Unready => ErrorCode::WouldBlock,
    }
}

/// Refuses uses that the configuration does not allow.
fn permitted(allowed: bool) -> Result<()> {
    if allowed {
        Ok(())
    } else {
        Err(Errno::Access.into())
    }
}

/// Defines the conversion between addresses of an interface and those of the standard library, and the family of
/// each: the types have the same names in both versions.
macro_rules! addresses {
    () => {
        fn is_ipv6(family: IpAddressFamily) -> bool {
            matches!(family, IpAddressFamily::Ipv6)
        }

        fn family(is_ipv6: bool) -> IpAddressFamily {
            if is_ipv6 {
                IpAddressFamily::Ipv6
            } else {
                IpAddressFamily::Ipv4
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

        fn ip_from_std(address: IpAddr) -> IpAddress {
            match address {
                IpAddr::V4(address) => IpAddress::Ipv4(address.octets().into()),
                IpAddr::V6(address) => IpAddress::Ipv6(address.segments().into()),
            }
        }
    };
}

pub(crate) use addresses;

addresses!();

/// An address that can be reached: of the socket's family, neither unspecified nor port 0, and not an
/// IPv4-mapped IPv6 address.
fn remote(address: IpSocketAddress, is_ipv6: bool) -> Result<SocketAddr> {
    Ok(address::possible_peer(bindable(address, is_ipv6)?)?)
}

/// An address of the socket's family that is neither IPv4-mapped nor multicast.
fn bindable(address: IpSocketAddress, is_ipv6: bool) -> Result<SocketAddr> {
    Ok(address::single_receiver(to_std(address), is_ipv6)?)
}

impl network::Host for Preview2 {
    fn convert_error_code(&mut self, failure: Failure) -> wasmtime::Result<ErrorCode> {
        match failure {
            Failure::Errno(errno) => Ok(error_code(errno)),
            Failure::Lookup(errno) => Ok(lookup_code(errno)),
            Failure::State(state) => Ok(state_code(state)),
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

impl ip_name_lookup::Host for Preview2 {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>> {
        self.table.get(&network)?;
        if let Some(address) = names::literal(&name) {
            return Ok(self.table.push(Addresses {
                found: Found::All(vec![address].into_iter()),
                _share: None,
            })?);
        }
        if !self.context.network.name_lookup {
            return Err(Failure::Lookup(Errno::NotPermitted));
        }
        let share = Share::take(&self.context.budget, names::LOOK_UP_MEMORY as u64);
        let share = Some(share.ok_or(Errno::NoMemory)?);
        let found = Found::Pending(names::look_up(&self.context.port, &name)?);
        Ok(self.table.push(Addresses {
            found,
            _share: share,
        })?)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Preview2 {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> Result<Option<IpAddress>> {
        let found = &mut self.table.get_mut(&stream)?.found;
        found.settle();
        match found {
            Found::Pending(_) => Err(Unsuited::Unready.into()),
            Found::Failed(errno) => Err(Failure::Lookup(*errno)),
            Found::All(addresses) => Ok(addresses.next().map(ip_from_std)),
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
