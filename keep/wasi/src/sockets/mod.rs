// SPDX-License-Identifier: Apache-2.0

//! Sockets: those that are open when a program starts, TCP listeners and connections, with or
//! without TLS; and the parts that the sockets of components, which open their own, share in
//! every version of WASI.
//!
//! The host carries the bytes, and its grant says where to. Peers and host are not trusted:
//! with TLS the host cannot see or change anything, and a peer is identified by its
//! certificate.

pub(crate) mod address;
mod connection;
mod listener;
pub(crate) mod names;
mod open;
pub(crate) mod options;
mod socket;

pub use connection::Connection;
pub use listener::Listener;
pub use open::{Cause, Opened, Opener, SocketError, listen, server};
pub use socket::Socket;
pub(crate) use socket::{BACKLOG, DATAGRAM_MAX, Datagram};
