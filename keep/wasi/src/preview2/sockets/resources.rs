// SPDX-License-Identifier: Apache-2.0

//! The resources of `wasi:sockets/network` and `wasi:sockets/ip-name-lookup`. The answer to a look-up is the host's word.

use std::net::IpAddr;

use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

use crate::error::Errno;
use crate::port::Operation;

/// The permission to use the network.
pub struct Network;

/// The addresses of a name.
pub enum Addresses {
    /// The host looks them up.
    Pending(Operation),
    /// They are there.
    Found(std::vec::IntoIter<IpAddr>),
    /// There are none, for this reason.
    Failed(Errno),
}

impl Addresses {
    /// Takes the host's answer, if it is there.
    pub fn settle(&mut self) {
        let Self::Pending(operation) = self else {
            return;
        };
        if !operation.is_ready() {
            return;
        }
        *self = match operation.take_addresses() {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(errno) => Self::Failed(errno),
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
