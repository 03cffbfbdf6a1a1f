//! `wasi:sockets`: offered in form; no socket can be made yet.
//!
//! Creating one answers access-denied, or not-supported where the configuration allows it.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::Preview2;
use super::bindings::wasi::sockets::{
    instance_network, ip_name_lookup,
    network::{self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress},
    tcp::{self, ShutdownType},
    tcp_create_socket,
    udp::{self, IncomingDatagram, OutgoingDatagram},
    udp_create_socket,
};
use crate::error::{Errno, Fault};

/// The permission to use the network.
pub struct Network;

/// A resource that is never made.
pub enum Never {}

type Result<T> = std::result::Result<T, Fault>;

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

/// The answer to a wish for something that the configuration allows or not.
fn refused<T>(allowed: bool) -> Result<T> {
    Err(if allowed {
        Errno::NotSupported.into()
    } else {
        Errno::Access.into()
    })
}

impl network::Host for Preview2 {
    fn convert_error_code(&mut self, fault: Fault) -> wasmtime::Result<ErrorCode> {
        match fault {
            Fault::Errno(errno) => Ok(error_code(errno)),
            Fault::Trap(error) => Err(error),
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

impl tcp_create_socket::Host for Preview2 {
    fn create_tcp_socket(&mut self, _family: IpAddressFamily) -> Result<Resource<Never>> {
        refused(self.context.network.tcp)
    }
}

impl udp_create_socket::Host for Preview2 {
    fn create_udp_socket(&mut self, _family: IpAddressFamily) -> Result<Resource<Never>> {
        refused(self.context.network.udp)
    }
}

impl ip_name_lookup::Host for Preview2 {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        _name: String,
    ) -> Result<Resource<Never>> {
        self.table.get(&network)?;
        refused(self.context.network.name_lookup)
    }
}

/// Methods of a resource that is never made: the table has no such resource.
macro_rules! never {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, this: Resource<Never>, $($argument: $type),*) -> $result {
            $(let _ = $argument;)*
            match *self.table.get(&this)? {}
        })*
    };
}

impl ip_name_lookup::HostResolveAddressStream for Preview2 {
    never! {
        resolve_next_address() -> Result<Option<IpAddress>>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        drop() -> wasmtime::Result<()>;
    }
}

type TcpStreams = (Resource<DynInputStream>, Resource<DynOutputStream>);
type Accepted = (
    Resource<Never>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

impl tcp::Host for Preview2 {}

impl tcp::HostTcpSocket for Preview2 {
    never! {
        start_bind(network: Resource<Network>, address: IpSocketAddress) -> Result<()>;
        finish_bind() -> Result<()>;
        start_connect(network: Resource<Network>, address: IpSocketAddress) -> Result<()>;
        finish_connect() -> Result<TcpStreams>;
        start_listen() -> Result<()>;
        finish_listen() -> Result<()>;
        accept() -> Result<Accepted>;
        local_address() -> Result<IpSocketAddress>;
        remote_address() -> Result<IpSocketAddress>;
        is_listening() -> wasmtime::Result<bool>;
        address_family() -> wasmtime::Result<IpAddressFamily>;
        set_listen_backlog_size(value: u64) -> Result<()>;
        keep_alive_enabled() -> Result<bool>;
        set_keep_alive_enabled(value: bool) -> Result<()>;
        keep_alive_idle_time() -> Result<u64>;
        set_keep_alive_idle_time(value: u64) -> Result<()>;
        keep_alive_interval() -> Result<u64>;
        set_keep_alive_interval(value: u64) -> Result<()>;
        keep_alive_count() -> Result<u32>;
        set_keep_alive_count(value: u32) -> Result<()>;
        hop_limit() -> Result<u8>;
        set_hop_limit(value: u8) -> Result<()>;
        receive_buffer_size() -> Result<u64>;
        set_receive_buffer_size(value: u64) -> Result<()>;
        send_buffer_size() -> Result<u64>;
        set_send_buffer_size(value: u64) -> Result<()>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        shutdown(kind: ShutdownType) -> Result<()>;
        drop() -> wasmtime::Result<()>;
    }
}

impl udp::Host for Preview2 {}

impl udp::HostUdpSocket for Preview2 {
    never! {
        start_bind(network: Resource<Network>, address: IpSocketAddress) -> Result<()>;
        finish_bind() -> Result<()>;
        stream(
            remote: Option<IpSocketAddress>
        ) -> Result<(Resource<Never>, Resource<Never>)>;
        local_address() -> Result<IpSocketAddress>;
        remote_address() -> Result<IpSocketAddress>;
        address_family() -> wasmtime::Result<IpAddressFamily>;
        unicast_hop_limit() -> Result<u8>;
        set_unicast_hop_limit(value: u8) -> Result<()>;
        receive_buffer_size() -> Result<u64>;
        set_receive_buffer_size(value: u64) -> Result<()>;
        send_buffer_size() -> Result<u64>;
        set_send_buffer_size(value: u64) -> Result<()>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        drop() -> wasmtime::Result<()>;
    }
}

impl udp::HostIncomingDatagramStream for Preview2 {
    never! {
        receive(most: u64) -> Result<Vec<IncomingDatagram>>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        drop() -> wasmtime::Result<()>;
    }
}

impl udp::HostOutgoingDatagramStream for Preview2 {
    never! {
        check_send() -> Result<u64>;
        send(datagrams: Vec<OutgoingDatagram>) -> Result<u64>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        drop() -> wasmtime::Result<()>;
    }
}
