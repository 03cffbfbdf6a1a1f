// SPDX-License-Identifier: Apache-2.0

//! Doors: what the application may reach outside its Keep. Network doors are rules of `enarx_network`, the same as in
//! the command's flags. The Keep compares them with the configuration before it runs the application; the host grants
//! nothing else, and its executor checks each call.

use crate::error::ContractError;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use enarx_network::{ConnectRule, ListenRule, NameRule, Rules};
use serde::{Deserialize, Serialize};

/// Most doors of each kind.
pub const MAX_DOORS: usize = 256;

/// Longest name of a directory, in bytes.
const MAX_DIRECTORY: usize = 255;

/// All doors. Everything that is not named is shut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doors {
    /// Where to wait for connections and datagrams.
    pub listen: Vec<ListenRule>,
    /// Peers to connect and send to.
    pub connect: Vec<ConnectRule>,
    /// Names that may be looked up, besides those of `connect`.
    pub resolve: Vec<NameRule>,
    /// Directories of the host.
    pub directories: Vec<Directory>,
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

fn is_directory(text: &str) -> bool {
    (1..=MAX_DIRECTORY).contains(&text.len())
        && text.starts_with('/')
        && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// The doors that a configuration requests, as far as they are known before the application runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// TCP sockets.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Looking up names.
    pub name_lookup: bool,
    /// Listening TCP sockets that the Keep itself opens: address, or every address, and port.
    pub listen: &'a [(Option<IpAddr>, u16)],
    /// Directories: the path that the application sees, and whether it is read-only.
    pub directories: &'a [(&'a str, bool)],
}

impl Doors {
    /// Exactly the doors of these rules.
    #[must_use]
    pub fn of(rules: Rules) -> Self {
        Self {
            listen: rules.listen,
            connect: rules.connect,
            resolve: rules.resolve,
            directories: Vec::new(),
        }
    }

    /// The rules for the network.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            connect: self.connect.clone(),
            listen: self.listen.clone(),
            resolve: self.resolve.clone(),
        }
    }

    /// True if nothing can be reached.
    #[must_use]
    pub fn are_shut(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the contract's requirements on its doors, beyond the form of each rule.
    ///
    /// # Errors
    /// [`ContractError::Value`]: more than [`MAX_DOORS`] of a kind; an invalid or repeated directory.
    pub fn check(&self) -> Result<(), ContractError> {
        let value = |field, range| Err(ContractError::Value { field, range });
        for (field, count) in [
            ("doors.listen", self.listen.len()),
            ("doors.connect", self.connect.len()),
            ("doors.resolve", self.resolve.len()),
            ("doors.directories", self.directories.len()),
        ] {
            if count > MAX_DOORS {
                return value(field, "at most 256 entries");
            }
        }
        for (index, door) in self.directories.iter().enumerate() {
            if !is_directory(&door.name) {
                return value("doors.directories", "absolute paths in printable ASCII");
            }
            let mut earlier = self.directories.iter().take(index);
            if earlier.any(|other| other.name == door.name) {
                return value("doors.directories", "named once each");
            }
        }
        Ok(())
    }

    /// Compares the requests of a configuration with the doors.
    ///
    /// # Errors
    /// [`ContractError::Doors`], with the first thing that no door lets through.
    pub fn admit(&self, wanted: &Wanted<'_>) -> Result<(), ContractError> {
        let refuse = |wanted: String| Err(ContractError::Doors { wanted });
        let rules = self.rules();
        let uses = rules.uses();
        for (asked, allowed, name) in [
            (wanted.tcp, uses.tcp, "TCP"),
            (wanted.udp, uses.udp, "UDP"),
            (wanted.name_lookup, uses.name_lookup, "looking up names"),
        ] {
            if asked && !allowed {
                return refuse(name.to_string());
            }
        }
        for &(address, port) in wanted.listen {
            let rule = ListenRule::tcp(address, port);
            if !rule.is_some_and(|rule| rules.permit_listen(&rule)) {
                let place = address.map_or_else(
                    || format!("port {port}"),
                    |address| SocketAddr::new(address, port).to_string(),
                );
                return refuse(format!("listening at {place} (TCP)"));
            }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn doors() -> Doors {
        Doors {
            listen: vec!["443/tcp".parse().unwrap()],
            connect: vec!["db.example:5432/tcp".parse().unwrap()],
            resolve: Vec::new(),
            directories: vec![Directory {
                name: "/data".to_string(),
                read_only: true,
            }],
        }
    }

    #[test]
    fn unnamed_doors_are_shut() {
        let doors = doors();
        assert_eq!(doors.check(), Ok(()));
        let code = |doors: &Doors, wanted: &Wanted<'_>| {
            doors.admit(wanted).map_err(|error| error.to_string())
        };
        let no = |what: &str| Err(format!("the contract has no door for {what}"));
        let all = Wanted {
            tcp: true,
            name_lookup: true,
            directories: &[("/data", true)],
            ..Wanted::default()
        };
        assert_eq!(code(&doors, &all), Ok(()));
        assert_eq!(code(&doors, &Wanted { udp: true, ..all }), no("UDP"));
        let without_names = Doors {
            connect: vec!["10.0.0.0/8".parse().unwrap()],
            ..doors.clone()
        };
        assert_eq!(code(&without_names, &all), no("looking up names"));
        assert_eq!(
            code(
                &doors,
                &Wanted {
                    directories: &[("/data", false)],
                    ..all
                }
            ),
            no("writing the directory /data")
        );
        assert_eq!(
            code(
                &doors,
                &Wanted {
                    directories: &[("/dat\u{1b}", true)],
                    ..all
                }
            ),
            no("reading the directory /dat?")
        );
        let only_names = Doors {
            resolve: vec!["*.example".parse().unwrap()],
            ..Doors::default()
        };
        let names = Wanted {
            name_lookup: true,
            ..Wanted::default()
        };
        assert_eq!(code(&only_names, &names), Ok(()));
        assert!(!only_names.are_shut() && Doors::default().are_shut());
        let tcp = Wanted { tcp: true, ..names };
        assert_eq!(code(&only_names, &tcp), no("TCP"));
    }

    #[test]
    fn a_socket_opened_by_the_keep_needs_a_door() {
        let listening = |doors: &[&str], at: (Option<IpAddr>, u16)| {
            let doors = Doors {
                listen: doors.iter().map(|rule| rule.parse().unwrap()).collect(),
                ..Doors::default()
            };
            let wanted = Wanted {
                listen: &[at],
                ..Wanted::default()
            };
            let judged = doors.admit(&wanted);
            judged.map_err(|error| (error.code(), error.to_string()))
        };
        let no = |what: &str| {
            let sentence = format!("the contract has no door for listening at {what} (TCP)");
            Err(("contract.doors", sentence))
        };
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        let mapped = Some("::ffff:127.0.0.1".parse().unwrap());
        let all = Some(IpAddr::from([0; 16]));
        for (doors, at) in [
            ("443/tcp", (None, 443)),
            ("443", (all, 443)),
            ("443/tcp", (here, 443)),
            ("127.0.0.1:400-500", (here, 443)),
            ("127.0.0.1:443", (mapped, 443)),
        ] {
            assert_eq!(listening(&["1/udp", doors], at), Ok(()), "{doors}");
        }
        for (doors, at, place) in [
            ("443/tcp", (None, 444), "port 444"),
            ("443/udp", (here, 443), "127.0.0.1:443"),
            ("127.0.0.1:443", (None, 443), "port 443"),
            ("127.0.0.1:443", (all, 443), "[::]:443"),
            ("127.0.0.2:443", (here, 443), "127.0.0.1:443"),
            ("1-65535", (None, 0), "port 0"),
        ] {
            assert_eq!(listening(&[doors], at), no(place), "{doors}");
        }
    }

    #[test]
    fn doors_without_a_meaning_are_refused() {
        let with = |change: fn(&mut Doors)| {
            let mut doors = doors();
            change(&mut doors);
            doors.check().map_err(|error| error.code())
        };
        for change in [
            (|d: &mut Doors| d.directories[0].name = "data".to_string()) as fn(&mut Doors),
            |d| d.directories[0].name = "/\u{7f}".to_string(),
            |d| d.directories.push(d.directories[0].clone()),
            |d| d.listen = vec![d.listen[0]; MAX_DOORS + 1],
            |d| d.connect = vec![d.connect[0].clone(); MAX_DOORS + 1],
            |d| d.resolve = vec!["a.example".parse().unwrap(); MAX_DOORS + 1],
        ] {
            assert_eq!(with(change), Err("contract.value"));
        }
    }

    #[test]
    fn rules_have_one_form() {
        for (form, reads) in [
            (
                r#"{"listen":["443/tcp"],"connect":["[fd00::/8]:1-9"],"resolve":["*.a"],"directories":[]}"#,
                true,
            ),
            (
                r#"{"listen":["443-443"],"connect":[],"resolve":[],"directories":[]}"#,
                false,
            ),
            (
                r#"{"listen":[],"connect":["DB.example"],"resolve":[],"directories":[]}"#,
                false,
            ),
            (
                r#"{"listen":[],"connect":["10.0.0.1/32"],"resolve":[],"directories":[]}"#,
                false,
            ),
            (
                r#"{"listen":[],"connect":["127.1"],"resolve":[],"directories":[]}"#,
                false,
            ),
            (
                r#"{"listen":[],"connect":[],"resolve":["a.example."],"directories":[]}"#,
                false,
            ),
            (
                r#"{"listen":[],"connect":[],"resolve":["b\u00fccher.example"],"directories":[]}"#,
                false,
            ),
        ] {
            let read = crate::canonical::decode::<Doors>(form.as_bytes(), 1000);
            assert_eq!(read.is_ok(), reads, "{form}");
        }
    }
}
