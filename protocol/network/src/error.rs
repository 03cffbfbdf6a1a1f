// SPDX-License-Identifier: Apache-2.0

//! Text that is not a rule, and how to write one.

use alloc::string::String;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::name::HostName;
use crate::network::Network;

/// Text that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing that can be connected to.
    #[error(
        "write a peer as 10.1.2.3, 10.0.0.0/8, example.org, 10.1.2.3:443, example.org:8000-8010 or [fd00::/8]:443, with /tcp or \
         /udp at the end for one of the two"
    )]
    Connect,
    /// Nothing that can be listened at.
    #[error(
        "write a place to listen at as 8080, 8000-8010, 127.0.0.1:8080 or [::1]:8080, with /tcp or /udp at the end for one of \
         the two"
    )]
    Listen,
    /// No name of a host.
    #[error("write a name as example.org, or *.example.org for all names below it")]
    Name,
    /// No port, or range of ports.
    #[error("write a port as 443 or a range as 8000-8010, from 1 to 65535")]
    Ports,
    /// An address with bits beyond the prefix of its network.
    #[error("{0} has bits set beyond its prefix: write {1}")]
    Beyond(String, Network),
    /// IPv4 written as IPv6.
    #[error(
        "this is IPv4 written as IPv6: write the IPv4 address or network, as in {0}; it covers both forms"
    )]
    Disguised(Ipv4Addr),
    /// An IPv6 address and a port, without the brackets that separate them.
    #[error("write an address of IPv6 in brackets before its port, as in [{0}]:{1}")]
    Brackets(Ipv6Addr, u16),
    /// An address with a zone.
    #[error("write the address without its zone (%…): a rule applies to every interface")]
    Zone,
    /// A name of the machine itself.
    #[error(
        "{0} is this machine itself, which is reached only where its address is named: write 127.0.0.1 or ::1"
    )]
    Local(HostName),
}
