// SPDX-License-Identifier: Apache-2.0

//! The sockets of an Enarx.toml, which the Keep opens, with the certificates that its files name, and the
//! network rules under which it may do so.

use std::path::Path;

use enarx_configuration::sockets::{ClientTls, Clients, Peer, ServerTls};
use enarx_configuration::{Certificate, Identity};
use enarx_network::{ConnectRule, ListenRule, Rules};

use super::file::{ClientAuth, Entry, Kind, Protocol};
use crate::failure::Failure;
use crate::tls;

/// Ports of a socket that names none, with TLS and without.
const PORTS: (u16, u16) = (443, 80);

/// Why port 0 is refused.
const NO_PORT: &str = ".port: 0 is not a port: write one from 1 to 65535";

/// Why an entry is refused.
pub enum Refused {
    /// Its words; the text is the rest of a sentence that begins with its place.
    Entry(String),
    /// A file that it names.
    File(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::File(failure)
    }
}

fn refused(text: impl Into<String>) -> Refused {
    Refused::Entry(text.into())
}

/// A value of an entry that the kind of entry may not have.
type Given<'a> = (&'a str, bool);

/// Checks that an entry has none of these keys.
///
/// # Errors
/// The first that it has, and why it may not.
fn none_of(given: &[Given<'_>], why: &str) -> Result<(), Refused> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) => Err(refused(format!(".{key}: {why}"))),
        None => Ok(()),
    }
}

impl Entry {
    /// Keys that only a socket can have.
    fn of_sockets(&self) -> [Given<'_>; 11] {
        [
            ("prot", self.prot.is_some()),
            ("addr", self.addr.is_some()),
            ("port", self.port.is_some()),
            ("host", self.host.is_some()),
            ("certificate", self.certificate.is_some()),
            ("key", self.key.is_some()),
            ("roots", self.roots.is_some()),
            ("client-auth", self.client_auth.is_some()),
            ("peers", self.peers.is_some()),
            ("peer-applications", self.peer_applications.is_some()),
            ("pin", self.pin.is_some()),
        ]
    }

    /// Checks that a standard stream has no key of a socket.
    ///
    /// # Errors
    /// The first that it has.
    pub fn check_stream(&self) -> Result<(), Refused> {
        let why = format!("{} is not a socket: leave it out", self.kind);
        none_of(&self.of_sockets(), &why)
    }

    /// Checks that a host has no port: it is also the name by which the program finds the connection.
    ///
    /// # Errors
    /// How to write it without its port, or without brackets.
    pub fn check_host(&self) -> Result<(), Refused> {
        let host = self.host.as_deref().unwrap_or_default();
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let bare = name.trim_matches(['[', ']']);
        if port.parse::<u16>().is_ok() && (bare != name || !name.contains(':')) {
            return Err(refused(format!(
                ".host: {} has its port in it: write host = \"{}\" and port = {port}",
                host.escape_debug(),
                bare.escape_debug()
            )));
        }
        if host.starts_with('[') {
            return Err(refused(format!(
                ".host: write {} without its brackets",
                host.escape_debug()
            )));
        }
        Ok(())
    }

    /// The socket that it names; the files that it names lie in `folder` unless their paths are absolute.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn socket(&self, kind: Kind, folder: &Path) -> Result<Peer, Refused> {
        let provisioned = [
            ("peers", self.peers.is_some()),
            ("peer-applications", self.peer_applications.is_some()),
        ];
        none_of(
            &provisioned,
            "nothing issues certificates that have it yet: name the issuers of peers by roots = \"file:NAME\"",
        )?;
        none_of(
            &[("pin", self.pin.is_some())],
            "it is not offered yet: name the issuer of the peer by roots = \"file:NAME\"",
        )?;
        let protocol = match &self.prot {
            None => Protocol::Tls,
            Some(word) => Protocol::read(word)
                .map_err(|why| refused(format!(".prot: there is no protocol {why}")))?,
        };
        let in_clear = [
            ("certificate", self.certificate.is_some()),
            ("key", self.key.is_some()),
            ("roots", self.roots.is_some()),
            ("client-auth", self.client_auth.is_some()),
        ];
        if protocol == Protocol::Tcp {
            none_of(
                &in_clear,
                "prot is tcp, which is unencrypted: leave it out, or write prot = \"tls\"",
            )?;
        }
        let (secure, clear) = PORTS;
        let port = match (self.port, protocol) {
            (Some(0), _) => return Err(refused(NO_PORT)),
            (Some(port), _) => port,
            (None, Protocol::Tls) => secure,
            (None, Protocol::Tcp) => clear,
        };
        if kind == Kind::Listen {
            self.listener(port, protocol, folder)
        } else {
            self.connection(port, protocol, folder)
        }
    }

    fn listener(&self, port: u16, protocol: Protocol, folder: &Path) -> Result<Peer, Refused> {
        none_of(
            &[("host", self.host.is_some())],
            "a listener has no host: write addr for the address at which it listens",
        )?;
        if self.name.is_none() {
            return Err(refused(
                " is listen and has no name, by which the program finds it in FD_NAMES: give it one",
            ));
        }
        let tls = match protocol {
            Protocol::Tcp => None,
            Protocol::Tls => Some(self.server(folder)?),
        };
        Ok(Peer::Listen {
            address: self.addr,
            port,
            tls,
        })
    }

    fn server(&self, folder: &Path) -> Result<ServerTls, Refused> {
        let identity = self.identity(folder)?.ok_or_else(|| {
            refused(
                " uses TLS and has no certificate, and nothing provisions one yet: name PEM files with certificate and key, or \
                 write prot = \"tcp\"",
            )
        })?;
        let asks = match &self.client_auth {
            None => ClientAuth::None,
            Some(word) => ClientAuth::read(word).map_err(|why| {
                refused(format!(".client-auth: clients cannot be asked by {why}"))
            })?,
        };
        let clients = if asks == ClientAuth::None {
            none_of(
                &[("roots", self.roots.is_some())],
                "a listener accepts certificates only if it asks for them: write client-auth = \"require\"",
            )?;
            None
        } else {
            let issuers = self.issuers(folder)?.ok_or_else(|| {
                refused(
                    ".client-auth: everybody can have a certificate of the web: name the issuers of clients by \
                     roots = \"file:NAME\"",
                )
            })?;
            Some(Clients {
                issuers,
                required: asks == ClientAuth::Require,
            })
        };
        Ok(ServerTls { identity, clients })
    }

    fn connection(&self, port: u16, protocol: Protocol, folder: &Path) -> Result<Peer, Refused> {
        none_of(
            &[
                ("addr", self.addr.is_some()),
                ("client-auth", self.client_auth.is_some()),
            ],
            "it is for listeners: leave it out",
        )?;
        let host = self.host.clone().ok_or_else(|| {
            refused(" is connect and has no host: name the server, as in host = \"example.org\"")
        })?;
        let tls = match protocol {
            Protocol::Tcp => None,
            Protocol::Tls => Some(ClientTls {
                issuers: self.issuers(folder)?,
                identity: self.identity(folder)?,
            }),
        };
        Ok(Peer::Connect { host, port, tls })
    }

    fn identity(&self, folder: &Path) -> Result<Option<Identity>, Refused> {
        match (&self.certificate, &self.key) {
            (Some(chain), Some(key)) => {
                let identity = tls::identity(&folder.join(chain), &folder.join(key))?;
                Ok(Some(identity))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(refused(
                ".certificate: it needs its private key: name it by key",
            )),
            (None, Some(_)) => Err(refused(
                ".key: it needs its certificate: name it by certificate",
            )),
        }
    }

    /// The issuers that it names by a file; `None` for those of the web.
    fn issuers(&self, folder: &Path) -> Result<Option<Vec<Certificate>>, Refused> {
        match self.roots.as_deref() {
            None | Some("web") => Ok(None),
            Some("mesh") => Err(refused(
                ".roots: there are no issuers of a mesh yet: write roots = \"file:NAME\", or \"web\"",
            )),
            Some(other) => match other.strip_prefix("file:") {
                Some(file) if !file.is_empty() => Ok(Some(tls::issuers(&folder.join(file))?)),
                _ => Err(refused(format!(
                    ".roots: {} does not name issuers: write \"web\", or \"file:NAME\" with the name of a file",
                    other.escape_debug()
                ))),
            },
        }
    }
}

/// Adds the rules under which a socket can be opened.
///
/// # Errors
/// The end of a sentence, for a host that no rule can name.
pub fn admit(peer: &Peer, rules: &mut Rules) -> Result<(), Refused> {
    let wrong = |error: enarx_network::RuleError| refused(format!(".host: {error}"));
    match peer {
        Peer::Listen { address, port, .. } => {
            let rule = ListenRule::tcp(*address, *port);
            rules.listen.push(rule.ok_or_else(|| refused(NO_PORT))?);
        }
        Peer::Connect { host, port, .. } => {
            // This machine is reached where its addresses are named; the Keep knows them by itself.
            let hosts: &[&str] = if host.eq_ignore_ascii_case("localhost") {
                &["127.0.0.1", "::1"]
            } else {
                &[host]
            };
            for host in hosts {
                let rule = if host.contains(':') {
                    format!("[{host}]:{port}/tcp")
                } else {
                    format!("{host}:{port}/tcp")
                };
                rules
                    .connect
                    .push(rule.parse::<ConnectRule>().map_err(wrong)?);
            }
        }
    }
    Ok(())
}
