// SPDX-License-Identifier: Apache-2.0

//! The rules, and what they cover.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{split_ports, split_protocol};
use crate::{HostName, NameRule, Network, Ports, Protocol, RuleError};

/// All rules of a Keep. Everything that is not named is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where connections and datagrams may go.
    pub connect: Vec<ConnectRule>,
    /// Where the Keep may listen for connections and datagrams.
    pub listen: Vec<ListenRule>,
    /// Which names may be looked up, besides those of `connect`.
    pub resolve: Vec<NameRule>,
}

/// A peer of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A network, or one address.
    Network(Network),
    /// The addresses that a name has when it is looked up first.
    Host(HostName),
}

/// Peers that may be connected and sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectRule {
    /// The peers.
    pub peer: Peer,
    /// Their ports.
    pub ports: Ports,
    /// The protocol; `None` is both.
    pub protocol: Option<Protocol>,
}

/// Places to wait for connections and datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenRule {
    /// Addresses of this machine; `None` means all, even all at once.
    pub at: Option<Network>,
    /// Ports there.
    pub ports: Ports,
    /// The protocol; `None` is both.
    pub protocol: Option<Protocol>,
}

/// True if a rule for `own` covers `other`.
fn speaks(own: Option<Protocol>, other: Option<Protocol>) -> bool {
    own.is_none_or(|own| other == Some(own))
}

impl ConnectRule {
    /// True if it covers an address; `is_of` says whether a host has that address.
    #[must_use]
    pub fn applies_to(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        is_of: impl FnOnce(&HostName) -> bool,
    ) -> bool {
        speaks(self.protocol, Some(protocol))
            && self.ports.contain(to.port())
            && match &self.peer {
                Peer::Network(network) => network.reaches(to.ip()),
                Peer::Host(name) => is_of(name),
            }
    }

    /// True if it covers all that `other` covers. A name can have any address, so only a rule for that name covers
    /// it.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        speaks(self.protocol, other.protocol)
            && self.ports.include(other.ports)
            && match (&self.peer, &other.peer) {
                (Peer::Network(own), Peer::Network(other)) => own.permits(other),
                (own, other) => own == other,
            }
    }
}

impl ListenRule {
    /// The rule for one TCP socket at this address, or at every address if there is none or it is the unspecified one; `None`
    /// for port 0, which stands for any.
    #[must_use]
    pub fn tcp(address: Option<IpAddr>, port: u16) -> Option<Self> {
        let at = address.filter(|address| !address.is_unspecified());
        Some(Self {
            at: at.map(|address| Network::one(address.to_canonical())),
            ports: Ports::one(port)?,
            protocol: Some(Protocol::Tcp),
        })
    }

    /// True if it covers a local address.
    #[must_use]
    pub fn applies_to(&self, protocol: Protocol, at: SocketAddr) -> bool {
        speaks(self.protocol, Some(protocol))
            && self.ports.contain(at.port())
            && self.at.is_none_or(|own| own.contains(at.ip()))
    }

    /// True if it holds wherever `other` does.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        speaks(self.protocol, other.protocol)
            && self.ports.include(other.ports)
            && self
                .at
                .is_none_or(|own| other.at.is_some_and(|other| own.includes(&other)))
    }
}

impl Rules {
    /// Adds the permissions of other rules.
    pub fn add(&mut self, others: &Self) {
        self.connect.extend_from_slice(&others.connect);
        self.listen.extend_from_slice(&others.listen);
        self.resolve.extend_from_slice(&others.resolve);
    }

    /// The names that connections may go to.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.connect.iter().filter_map(|rule| match &rule.peer {
            Peer::Host(name) => Some(name),
            Peer::Network(_) => None,
        })
    }

    /// True if these rules hold wherever that one does. Rules that let connections go everywhere let them go to every
    /// name, which never has an address that must be named.
    #[must_use]
    pub fn permit_connect(&self, wanted: &ConnectRule) -> bool {
        let permits = |wanted: &ConnectRule| self.connect.iter().any(|own| own.includes(wanted));
        let everywhere = [Network::v4([0; 4], 0), Network::v6([0; 8], 0)].map(|all| ConnectRule {
            peer: Peer::Network(all),
            ..wanted.clone()
        });
        permits(wanted) || matches!(wanted.peer, Peer::Host(_)) && everywhere.iter().all(permits)
    }

    /// True if these rules hold wherever that one does.
    #[must_use]
    pub fn permit_listen(&self, wanted: &ListenRule) -> bool {
        self.listen.iter().any(|own| own.includes(wanted))
    }

    /// True if these rules have every name that this one has.
    #[must_use]
    pub fn permit_resolve(&self, wanted: &NameRule) -> bool {
        self.resolve.iter().any(|own| own.includes(wanted))
    }

    /// True if a rule holds for this protocol.
    pub(crate) fn speak(&self, protocol: Protocol) -> bool {
        let connect = self.connect.iter().map(|rule| rule.protocol);
        let listen = self.listen.iter().map(|rule| rule.protocol);
        let mut protocols = connect.chain(listen);
        protocols.any(|own| speaks(own, Some(protocol)))
    }

    /// True if a name may be looked up.
    pub(crate) fn ask_for_names(&self) -> bool {
        !self.resolve.is_empty() || self.hosts().next().is_some()
    }
}

impl FromStr for ConnectRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (text, protocol) = split_protocol(text);
        let (peer, ports) = split_ports(text)?.ok_or(RuleError::Connect)?;
        let peer = match peer.parse() {
            Ok(network) => Peer::Network(network),
            // It is at most a name by its form.
            Err(RuleError::Connect) if !peer.contains(['/', ':']) => {
                let name: HostName = peer.parse().map_err(|_| RuleError::Connect)?;
                if name.is_local() {
                    return Err(RuleError::Local(name));
                }
                Peer::Host(name)
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            peer,
            ports: ports.unwrap_or(Ports::ALL),
            protocol,
        })
    }
}

impl FromStr for ListenRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (text, protocol) = split_protocol(text);
        let (at, ports) = match split_ports(text)?.ok_or(RuleError::Listen)? {
            (ports, None) if ports == text => (None, ports.parse().map_err(|_| RuleError::Listen)?),
            (_, None) => return Err(RuleError::Listen),
            (at, Some(ports)) => {
                let at = at.parse().map_err(|error| match error {
                    RuleError::Connect => RuleError::Listen,
                    other => other,
                })?;
                (Some(at), ports)
            }
        };
        Ok(Self {
            at,
            ports,
            protocol,
        })
    }
}

fn write_protocol(f: &mut fmt::Formatter<'_>, protocol: Option<Protocol>) -> fmt::Result {
    protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
}

/// Writes an address or network as it is written before ports.
fn write_before_ports(f: &mut fmt::Formatter<'_>, network: &Network) -> fmt::Result {
    if network.address().is_ipv6() {
        write!(f, "[{network}]")
    } else {
        write!(f, "{network}")
    }
}

impl fmt::Display for ConnectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.ports == Ports::ALL;
        match &self.peer {
            Peer::Network(network) if all => write!(f, "{network}")?,
            Peer::Network(network) => write_before_ports(f, network)?,
            Peer::Host(name) => write!(f, "{name}")?,
        }
        if !all {
            write!(f, ":{}", self.ports)?;
        }
        write_protocol(f, self.protocol)
    }
}

impl fmt::Display for ListenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write_before_ports(f, at)?;
            f.write_str(":")?;
        }
        write!(f, "{}", self.ports)?;
        write_protocol(f, self.protocol)
    }
}

macro_rules! as_text {
    ($($rule:ty),*) => {$(
        impl Serialize for $rule {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $rule {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(ConnectRule, ListenRule, NameRule);
