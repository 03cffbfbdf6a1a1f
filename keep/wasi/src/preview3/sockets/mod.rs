// SPDX-License-Identifier: Apache-2.0

//! `wasi:sockets`: addresses, errors, name lookup; TCP and UDP have files of their own.
//!
//! The configuration says what may be used; the host enforces its own copy. Peers and host are not trusted; applications
//! protect their data end to end. A call that waits takes its memory from the budget, and ends when nobody waits for it any
//! more.

mod failure;
mod tcp;
pub(crate) mod tcp_socket;
mod udp;
pub(crate) mod udp_socket;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wasmtime::component::Accessor;

use super::bindings::wasi::sockets::ip_name_lookup::{self, ErrorCode as NameError};
use super::bindings::wasi::sockets::types::{
    self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
    Ipv6SocketAddress,
};
use super::state::State;
use crate::budget::{Budget, Share};
use crate::error::{Errno, Fault};
use crate::port::Operation;
use crate::preview2::Preview2;
use crate::preview2::sockets::addresses;
use crate::sockets::names;
use failure::{INVALID_STATE, Result};

addresses!();

/// The error code of an error number.
fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Access | Errno::NotPermitted => ErrorCode::AccessDenied,
        Errno::NotSupported => ErrorCode::NotSupported,
        Errno::Invalid => ErrorCode::InvalidArgument,
        Errno::NoMemory => ErrorCode::OutOfMemory,
        Errno::TimedOut => ErrorCode::Timeout,
        INVALID_STATE => ErrorCode::InvalidState,
        Errno::AddressNotAvailable => ErrorCode::AddressNotBindable,
        Errno::AddressInUse => ErrorCode::AddressInUse,
        Errno::HostUnreachable | Errno::NetworkUnreachable => ErrorCode::RemoteUnreachable,
        Errno::ConnectionRefused => ErrorCode::ConnectionRefused,
        Errno::Pipe => ErrorCode::ConnectionBroken,
        Errno::ConnectionReset => ErrorCode::ConnectionReset,
        Errno::ConnectionAborted => ErrorCode::ConnectionAborted,
        Errno::MessageSize => ErrorCode::DatagramTooLarge,
        other => ErrorCode::Other(Some(other.to_string())),
    }
}

/// The error code of a look-up.
fn name_error(errno: Errno) -> NameError {
    match errno {
        Errno::Access => NameError::AccessDenied,
        Errno::Invalid | Errno::NameTooLong => NameError::InvalidArgument,
        Errno::NoEntry => NameError::NameUnresolvable,
        Errno::Again => NameError::TemporaryResolverFailure,
        // As Wasmtime says it of a name that may not be looked up.
        Errno::Io | Errno::NotPermitted => NameError::PermanentResolverFailure,
        other => NameError::Other(Some(other.to_string())),
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

/// A call that waits, and the memory for it.
struct Waiting {
    operation: Operation,
    _share: Share,
}

impl Waiting {
    /// Starts a call if there is memory for this many bytes.
    fn start(
        budget: &Budget,
        bytes: usize,
        start: impl FnOnce() -> Result<Operation, Errno>,
    ) -> Result<Self, Errno> {
        let share = Share::take(budget, bytes as u64).ok_or(Errno::NoMemory)?;
        Ok(Self {
            operation: start()?,
            _share: share,
        })
    }

    /// Waits for the answer.
    async fn answered(&mut self) -> &mut Operation {
        self.operation.ready().await;
        &mut self.operation
    }
}

impl types::Host for Preview2 {
    fn convert_error_code(&mut self, fault: Fault) -> wasmtime::Result<ErrorCode> {
        match fault {
            Fault::Errno(errno) => Ok(error_code(errno)),
            Fault::Trap(error) => Err(error),
        }
    }
}

impl ip_name_lookup::Host for Preview2 {}

impl<U: 'static> ip_name_lookup::HostWithStore<U> for State {
    async fn resolve_addresses(
        store: &Accessor<U, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, NameError>> {
        Ok(resolve(store, &name).await.map_err(name_error))
    }
}

async fn resolve<U: 'static>(
    store: &Accessor<U, State>,
    name: &str,
) -> Result<Vec<IpAddress>, Errno> {
    if let Some(address) = names::literal(name) {
        return Ok(vec![ip_from_std(address.to_canonical())]);
    }
    let mut waiting = store.with(|mut store| {
        let context = store.get().context();
        if !context.network.name_lookup {
            return Err(Errno::NotPermitted);
        }
        Waiting::start(&context.budget, names::LOOK_UP_MEMORY, || {
            names::look_up(&context.port, name)
        })
    })?;
    let found = waiting.answered().await.take_addresses()?;
    if found.is_empty() {
        return Err(Errno::NoEntry);
    }
    Ok(found.into_iter().map(ip_from_std).collect())
}
