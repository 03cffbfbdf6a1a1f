// SPDX-License-Identifier: Apache-2.0

//! TCP sockets that are open when a program of WASI preview 1 starts, and the TLS that the Keep speaks over them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Certificate, Identity};

/// A TCP socket that is open when a program starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Its number among the program's descriptors.
    pub descriptor: u32,
    /// Its other end.
    pub peer: Peer,
}

/// The other end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Peer {
    /// The first peer that connects.
    Listen {
        /// The address to listen at; every address of the machine if `None`.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
        /// Present if the socket speaks TLS, and nothing in clear.
        tls: Option<ServerTls>,
    },
    /// A server, to which the socket is connected at the start.
    Connect {
        /// Its name, or its address.
        host: String,
        /// Its port.
        port: u16,
        /// Present if the socket speaks TLS, and nothing in clear.
        tls: Option<ClientTls>,
    },
}

/// The TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// Its identity, as its clients see it.
    pub identity: Identity,
    /// Present if clients are asked for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
}

/// The certificates that a listener asks its clients for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Issuers whose certificates are accepted.
    pub issuers: Vec<Certificate>,
    /// A client without a certificate is refused.
    pub required: bool,
}

/// The TLS of a connection to a server, whose name or address its certificate must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Issuers whose certificates are accepted; those of the configuration if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<Certificate>>,
    /// The program's own identity, shown to a server that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen {
                address: Some(address),
                port,
                ..
            } => write!(f, "listen at {}", SocketAddr::new(*address, *port)),
            Self::Listen { port, .. } => write!(f, "listen at port {port}"),
            Self::Connect { host, port, .. } if host.contains(':') => {
                write!(f, "connect to [{host}]:{port}")
            }
            Self::Connect { host, port, .. } => write!(f, "connect to {host}:{port}"),
        }
    }
}
