// SPDX-License-Identifier: Apache-2.0

//! Doors: what the application may reach outside of its Keep. The Keep compares them with the configuration before it
//! runs the application, and again at each call; the host grants nothing else.

use crate::ContractError;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most doors of each kind.
pub const MAX_DOORS: usize = 256;

/// Longest name of a directory, in bytes.
const MAX_DIRECTORY: usize = 255;

/// Longest host name, in bytes (RFC 1035 section 2.3.4, without the last dot).
const MAX_HOST: usize = 253;

/// All doors. Everything that is not named is shut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doors {
    /// Ports to listen on.
    pub listen: Vec<Listen>,
    /// Peers to connect to.
    pub connect: Vec<Connect>,
    /// Names may be looked up.
    pub resolve: bool,
    /// Directories of the host.
    pub directories: Vec<Directory>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The protocol.
    pub protocol: Protocol,
    /// The port; 0: one that the host chooses.
    pub port: u16,
}

/// Peers to connect to: a host by its name, or addresses. Exactly one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The protocol.
    pub protocol: Protocol,
    /// A host name, in lower case.
    pub host: Option<String>,
    /// A block of addresses.
    pub cidr: Option<Cidr>,
    /// The port; 0: every port.
    pub port: u16,
}

/// A directory of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The path that the application sees: absolute, printable ASCII.
    pub name: String,
    /// No change passes through this door.
    pub read_only: bool,
}

/// A block of addresses, `ADDRESS/PREFIX`, with nothing set beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block with this text; `None` when it is none, or not in its one form (RFC 5952 for IPv6).
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let cidr = Self {
            address: address.parse().ok()?,
            prefix: prefix.parse().ok()?,
        };
        let (bits, width) = bits(cidr.address);
        let legal = u32::from(cidr.prefix) <= width
            && bits & host_mask(width, cidr.prefix) == 0
            // An IPv4 address in IPv6's clothes would be compared with neither.
            && cidr.address.to_canonical() == cidr.address
            && cidr.to_string() == text;
        legal.then_some(cidr)
    }

    /// True if `address` lies in the block. An IPv4 address mapped into IPv6 counts as the former.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, width) = bits(self.address);
        let (other, other_width) = bits(address.to_canonical());
        width == other_width && (own ^ other) & !host_mask(width, self.prefix) == 0
    }
}

/// The bits of an address, right-aligned, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The bits of an address of `width` bits beyond the prefix, and all above the width zero.
fn host_mask(width: u32, prefix: u8) -> u128 {
    let beyond = width.saturating_sub(u32::from(prefix));
    // Shifting by 128 has no meaning.
    1u128.checked_shl(beyond).map_or(u128::MAX, |bit| bit - 1)
}

impl core::fmt::Display for Cidr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a block of addresses"))
    }
}

/// A host name of letters, digits and hyphens, in lower case (RFC 1123 section 2.1).
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= MAX_HOST && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}

fn is_directory(text: &str) -> bool {
    (1..=MAX_DIRECTORY).contains(&text.len())
        && text.starts_with('/')
        && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// The doors that a configuration wants, as far as it says so before the application runs. The calls of the
/// application are compared one by one: [`Doors::listens`], [`Doors::connects_to_host`], [`Doors::connects_to`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// TCP sockets.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Looking up names.
    pub name_lookup: bool,
    /// Directories: the path that the application sees, and whether it is read-only.
    pub directories: &'a [(&'a str, bool)],
}

impl Doors {
    /// True if nothing can be reached.
    #[must_use]
    pub fn are_shut(&self) -> bool {
        self.listen.is_empty()
            && self.connect.is_empty()
            && !self.resolve
            && self.directories.is_empty()
    }

    pub(crate) fn check(&self) -> Result<(), ContractError> {
        let value = |field, range| Err(ContractError::Value { field, range });
        for (field, count) in [
            ("doors.listen", self.listen.len()),
            ("doors.connect", self.connect.len()),
            ("doors.directories", self.directories.len()),
        ] {
            if count > MAX_DOORS {
                return value(field, "at most 256 entries");
            }
        }
        for door in &self.connect {
            match (&door.host, &door.cidr) {
                (Some(host), None) if is_host(host) => {}
                (None, Some(_)) => {}
                _ => return value("doors.connect", "a host name in lower case, or a cidr"),
            }
        }
        for (index, door) in self.directories.iter().enumerate() {
            if !is_directory(&door.name) {
                return value("doors.directories", "absolute paths in printable ASCII");
            }
            let earlier = &self.directories[..index];
            if earlier.iter().any(|other| other.name == door.name) {
                return value("doors.directories", "named once each");
            }
        }
        Ok(())
    }

    /// Compares what a configuration wants with the doors.
    ///
    /// # Errors
    /// [`ContractError::Doors`], with the first thing for which there is none.
    pub fn admit(&self, wanted: &Wanted<'_>) -> Result<(), ContractError> {
        let refuse = |wanted: String| Err(ContractError::Doors { wanted });
        for (asked, protocol, name) in [
            (wanted.tcp, Protocol::Tcp, "TCP"),
            (wanted.udp, Protocol::Udp, "UDP"),
        ] {
            let door = self.listen.iter().any(|door| door.protocol == protocol)
                || self.connect.iter().any(|door| door.protocol == protocol);
            if asked && !door {
                return refuse(name.to_string());
            }
        }
        if wanted.name_lookup && !self.resolve {
            return refuse("looking up names".to_string());
        }
        for (name, read_only) in wanted.directories {
            let door = self.directories.iter().find(|door| door.name == *name);
            if door.is_none_or(|door| door.read_only && !read_only) {
                let name = crate::canonical::printable(name, MAX_DIRECTORY);
                let how = if *read_only { "reading" } else { "writing" };
                return refuse(format!("{how} the directory {name}"));
            }
        }
        Ok(())
    }

    /// True if the application may listen on this port.
    #[must_use]
    pub fn listens(&self, protocol: Protocol, port: u16) -> bool {
        self.listen
            .iter()
            .any(|door| door.protocol == protocol && door.port == port)
    }

    /// True if the application may connect to this address.
    #[must_use]
    pub fn connects_to(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.connect.iter().any(|door| {
            door.leads_to(protocol, port) && door.cidr.is_some_and(|cidr| cidr.contains(address))
        })
    }

    /// True if the application may connect to the host of this name, at the addresses that its name has.
    #[must_use]
    pub fn connects_to_host(&self, protocol: Protocol, host: &str, port: u16) -> bool {
        self.connect.iter().any(|door| {
            let own = door.host.as_deref();
            door.leads_to(protocol, port) && own.is_some_and(|own| own.eq_ignore_ascii_case(host))
        })
    }
}

impl Connect {
    fn leads_to(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.port == 0 || self.port == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_block_has_one_form_and_contains_its_own() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.0.2.1/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8::1/128",
        ] {
            assert_eq!(Cidr::parse(text).expect(text).to_string(), text);
        }
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0",
            "10.0.0.0/",
            "::/129",
            "2001:DB8::/32",
            "::ffff:10.0.0.0/104",
            "2001:db8:0::/32",
            " ::/0",
            "10.0.0.0/+8",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
        let ten = Cidr::parse("10.0.0.0/8").unwrap();
        for (address, inside) in [
            ("10.1.2.3", true),
            ("11.0.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("::a01:203", false),
        ] {
            assert_eq!(ten.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(
            Cidr::parse("::/0")
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        assert!(
            !Cidr::parse("::/0")
                .unwrap()
                .contains("10.0.0.1".parse().unwrap())
        );
        assert!(
            Cidr::parse("0.0.0.0/0")
                .unwrap()
                .contains("255.255.255.255".parse().unwrap())
        );
    }

    fn doors() -> Doors {
        Doors {
            listen: vec![Listen {
                protocol: Protocol::Tcp,
                port: 443,
            }],
            connect: vec![
                Connect {
                    protocol: Protocol::Tcp,
                    host: Some("db.example".to_string()),
                    cidr: None,
                    port: 5432,
                },
                Connect {
                    protocol: Protocol::Tcp,
                    host: None,
                    cidr: Cidr::parse("10.0.0.0/8"),
                    port: 0,
                },
            ],
            resolve: false,
            directories: vec![Directory {
                name: "/data".to_string(),
                read_only: true,
            }],
        }
    }

    #[test]
    fn what_is_not_named_is_shut() {
        let doors = doors();
        assert_eq!(doors.check(), Ok(()));
        let code = |wanted: &Wanted<'_>| doors.admit(wanted).map_err(|error| error.to_string());
        let no = |what: &str| Err(format!("the contract has no door for {what}"));
        let all = Wanted {
            tcp: true,
            directories: &[("/data", true)],
            ..Wanted::default()
        };
        assert_eq!(code(&all), Ok(()));
        assert_eq!(code(&Wanted { udp: true, ..all }), no("UDP"));
        assert_eq!(
            code(&Wanted {
                name_lookup: true,
                ..all
            }),
            no("looking up names")
        );
        assert_eq!(
            code(&Wanted {
                directories: &[("/data", false)],
                ..all
            }),
            no("writing the directory /data")
        );
        assert_eq!(
            code(&Wanted {
                directories: &[("/dat\u{1b}", true)],
                ..all
            }),
            no("reading the directory /dat?")
        );
        assert!(doors.listens(Protocol::Tcp, 443));
        assert!(!doors.listens(Protocol::Udp, 443));
        assert!(!doors.listens(Protocol::Tcp, 80));
        assert!(doors.connects_to(Protocol::Tcp, "10.0.0.1".parse().unwrap(), 1));
        assert!(!doors.connects_to(Protocol::Tcp, "192.0.2.1".parse().unwrap(), 5432));
        assert!(doors.connects_to_host(Protocol::Tcp, "DB.example", 5432));
        assert!(!doors.connects_to_host(Protocol::Tcp, "db.example", 5433));
        assert!(!doors.connects_to_host(Protocol::Udp, "db.example", 5432));
    }

    #[test]
    fn doors_without_a_meaning_are_refused() {
        let with = |change: fn(&mut Doors)| {
            let mut doors = doors();
            change(&mut doors);
            doors.check().map_err(|error| error.code())
        };
        for change in [
            (|d: &mut Doors| d.connect[0].host = None) as fn(&mut Doors),
            |d| d.connect[0].cidr = Cidr::parse("::/0"),
            |d| d.connect[0].host = Some("10.0.0.1".to_string()),
            |d| d.connect[0].host = Some("Db".to_string()),
            |d| d.connect[0].host = Some("a..b".to_string()),
            |d| d.connect[0].host = Some("-a".to_string()),
            |d| d.directories[0].name = "data".to_string(),
            |d| d.directories[0].name = "/\u{7f}".to_string(),
            |d| d.directories.push(d.directories[0].clone()),
            |d| d.listen = vec![d.listen[0]; MAX_DOORS + 1],
        ] {
            assert_eq!(with(change), Err("contract.value"));
        }
    }
}
