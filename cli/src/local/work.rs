// SPDX-License-Identifier: Apache-2.0

//! The work of a Keep on this machine: its program, and the server that it may be.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use enarx_configuration::sockets::ServerTls;

use crate::workload::Workload;

/// The work of a Keep.
pub struct Work<'a> {
    /// The words of an Enarx.toml about it.
    pub workload: Workload,
    /// The path of the program.
    pub module: &'a Path,
    /// Its arguments.
    pub rest: Vec<String>,
    /// The function to call instead of its entry.
    pub invoke: Option<String>,
    /// Longest time for all of it; of a server, for each request.
    pub timeout: Option<Duration>,
    /// Present if it is a server.
    pub server: Option<Server>,
}

/// A server: its socket, and the messages about it.
pub struct Server {
    /// Listens, non-blocking.
    pub listener: OwnedFd,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The time that requests have to finish at the end.
    pub grace: Duration,
    /// Most connections at a time.
    pub connections: u32,
    /// Most requests at a time.
    pub requests: u32,
    /// Its TLS, unless it speaks in clear.
    pub tls: Option<ServerTls>,
}

impl Server {
    /// The line that says where it answers.
    pub fn announcement(&self) -> String {
        let (name, scheme) = match self.tls {
            Some(_) => ("HTTPS", "https"),
            None => ("HTTP", "http"),
        };
        format!("serving {name} on {scheme}://{}/", self.address)
    }
}
