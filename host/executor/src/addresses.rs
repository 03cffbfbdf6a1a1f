// SPDX-License-Identifier: Apache-2.0

//! Where in the network a Keep may go: rules that narrow the permissions of its grant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// The rules of a grant. Without any, everything is allowed that the network permissions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Everywhere.
    #[default]
    All,
    /// At the addresses of these lists and nowhere else.
    Only {
        /// Where connections and datagrams may go.
        connect: Vec<AddressRule>,
        /// Where connections and datagrams may be waited for.
        listen: Vec<AddressRule>,
    },
}

impl Addresses {
    /// Tells if connections and datagrams may go to an address.
    #[must_use]
    pub fn may_connect(&self, to: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::Only { connect, .. } => {
                let to = SocketAddr::new(destination(to.ip()), to.port());
                connect.iter().any(|rule| rule.holds(to))
            }
        }
    }

    /// Tells if connections and datagrams may be waited for at an address.
    #[must_use]
    pub fn may_listen(&self, at: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::Only { listen, .. } => {
                let at = SocketAddr::new(at.ip().to_canonical(), at.port());
                listen.iter().any(|rule| rule.holds(at))
            }
        }
    }
}

/// The machine at which Linux delivers what is sent to an address: an IPv4 address that is written as one of IPv6 is
/// that address, and the unspecified address is this machine (ip(7), ipv6(7)).
fn destination(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// A network, and the port there or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRule {
    network: IpNet,
    port: Option<u16>,
}

impl AddressRule {
    fn holds(&self, address: SocketAddr) -> bool {
        self.network.contains(&address.ip()) && self.port.is_none_or(|port| port == address.port())
    }
}

/// Text that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an address as 10.1.2.3, 10.0.0.0/8, 10.1.2.3:443, 0.0.0.0/0:443, fd00::/8 or [fd00::/8]:443"
)]
pub struct NoRule;

impl FromStr for AddressRule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let (network, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (network, port) = rest.split_once(']').ok_or(NoRule)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(NoRule)?),
                };
                (network, port)
            }
            // More colons are an address of IPv6.
            None => match text.split_once(':') {
                Some((network, port)) if !port.contains(':') => (network, Some(port)),
                _ => (text, None),
            },
        };
        let network = match network.parse() {
            Ok(network) => network,
            Err(_) => IpNet::from(network.parse::<IpAddr>().map_err(|_| NoRule)?),
        };
        let port = port.map(str::parse).transpose().map_err(|_| NoRule)?;
        Ok(Self { network, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(connect: &[&str], listen: &[&str]) -> Addresses {
        let rules = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Addresses::Only {
            connect: rules(connect),
            listen: rules(listen),
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_read_as_people_write_them() {
        for (text, inside, outside) in [
            ("10.1.2.3", "10.1.2.3:1", "10.1.2.4:1"),
            ("10.0.0.0/8", "10.255.0.1:9", "11.0.0.1:9"),
            ("10.1.2.3:443", "10.1.2.3:443", "10.1.2.3:80"),
            ("0.0.0.0/0:443", "192.0.2.1:443", "[2001:db8::1]:443"),
            ("::1", "[::1]:80", "[::2]:80"),
            ("fd00::/8", "[fd12::1]:80", "[fe80::1]:80"),
            ("[fd00::/8]:443", "[fd12::1]:443", "[fd12::1]:80"),
            ("[::1]", "[::1]:7", "127.0.0.1:7"),
        ] {
            let rules = only(&[text], &[]);
            assert!(rules.may_connect(at(inside)), "{text} {inside}");
            assert!(!rules.may_connect(at(outside)), "{text} {outside}");
        }
        for wrong in [
            "",
            "example.org",
            "10.0.0.0/33",
            "10.0.0.1:",
            "10.0.0.1:65536",
            "[::1]80",
            "[::1",
            "10.0.0.1/8:x",
            "*",
        ] {
            assert_eq!(wrong.parse::<AddressRule>(), Err(NoRule), "{wrong}");
        }
    }

    #[test]
    fn no_spelling_of_an_address_escapes_the_rules() {
        let rules = only(&["10.0.0.0/8"], &[]);
        assert!(rules.may_connect(at("[::ffff:10.0.0.1]:80")));
        for inside in [
            "127.0.0.1:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:0.0.0.0]:80",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "255.255.255.255:80",
        ] {
            assert!(!rules.may_connect(at(inside)), "{inside}");
        }
        let local = only(&["127.0.0.1", "::1"], &[]);
        for here in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
            assert!(local.may_connect(at(here)), "{here}");
        }
    }

    #[test]
    fn connecting_and_listening_are_apart_and_all_addresses_are_not_one() {
        let rules = only(&["127.0.0.1"], &["127.0.0.1:8080"]);
        assert!(rules.may_listen(at("127.0.0.1:8080")));
        for other in ["127.0.0.1:8081", "0.0.0.0:8080", "[::]:8080"] {
            assert!(!rules.may_listen(at(other)), "{other}");
        }
        assert!(!only(&["0.0.0.0/0"], &[]).may_listen(at("127.0.0.1:80")));
        let everywhere = Addresses::All;
        assert!(everywhere.may_listen(at("0.0.0.0:1")) && everywhere.may_connect(at("[::]:1")));
    }
}
