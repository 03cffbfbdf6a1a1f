// SPDX-License-Identifier: Apache-2.0

//! The resources of `wasi:sockets/network` and `wasi:sockets/ip-name-lookup`. The answer to a look-up comes
//! from the host and is not trusted.

use std::net::IpAddr;

use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

use crate::budget::Share;
use crate::error::Errno;
use crate::port::Operation;

/// The permission to use the network.
pub struct Network;

/// The addresses of a name, and the memory for them.
pub struct Addresses {
    /// The addresses.
    pub(super) found: Found,
    /// Their memory; `None` if the name is an address.
    pub(super) _share: Option<Share>,
}

/// Addresses that were looked up.
pub enum Found {
    /// The host looks them up.
    Pending(Operation),
    /// They are there.
    All(std::vec::IntoIter<IpAddr>),
    /// There are none, for this reason.
    Failed(Errno),
}

impl Found {
    /// Takes the host's answer, if it is there.
    pub fn settle(&mut self) {
        let Self::Pending(operation) = self else {
            return;
        };
        if !operation.is_ready() {
            return;
        }
        *self = match operation.take_addresses() {
            Ok(addresses) => Self::All(addresses.into_iter()),
            Err(errno) => Self::Failed(errno),
        };
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Found::Pending(operation) = &self.found {
            operation.ready().await;
        }
    }
}
