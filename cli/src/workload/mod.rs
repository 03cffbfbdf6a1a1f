// SPDX-License-Identifier: Apache-2.0

//! `--config`: an Enarx.toml as in Enarx 0.7, with further keys; the same for every command that
//! reads one. It is the tenant's own and trusted.

mod file;
mod sockets;

use std::io::{self, IsTerminal};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use enarx_configuration::Terminals;
use enarx_configuration::sockets::{ClientTls, Peer, ServerTls, Socket};
use enarx_network::Rules;

use crate::failure::Failure;
use crate::values;
use file::{Entry, Kind};
use sockets::Refused;

pub use file::File;

/// The other end of a standard stream of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Reads give nothing, and writes are discarded.
    Null,
    /// Standard input of this command.
    Stdin,
    /// Standard output of this command.
    Stdout,
    /// Standard error of this command.
    Stderr,
}

/// The parts of a program's start that a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Arguments; those of the command line replace them.
    pub args: Vec<String>,
    /// Variables; those of the command line come later, and count.
    pub env: Vec<(String, String)>,
    /// Standard input, output and error.
    pub streams: [Stream; 3],
    /// Sockets that the program finds open.
    pub sockets: Vec<Socket>,
    /// The rules of the network under which they can be opened.
    pub rules: Rules,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl Default for Workload {
    /// Nothing, and the streams of this command.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            streams: [Stream::Stdin, Stream::Stdout, Stream::Stderr],
            sockets: Vec::new(),
            rules: Rules::default(),
            warnings: Vec::new(),
        }
    }
}

impl Workload {
    /// Reads a file, if one is named.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for keys, values and descriptors that are not offered.
    pub fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let file = File::read(path)?;
        let shown = path.display();
        let mut warnings = Vec::new();
        if let Some(steward) = &file.steward {
            warnings.push(format!(
                "{shown}: the steward {steward} is not asked: applications get no certificates yet"
            ));
        }
        let wrong = |place: String, why: &str| Failure::data(format!("{shown}: {place}: {why}"));
        for (name, value) in &file.env {
            values::check_variable(name, value)
                .map_err(|why| wrong(format!("env.{}", name.escape_debug()), why))?;
        }
        if let Some(number) = file.args.iter().position(|it| it.contains('\0')) {
            return Err(wrong(
                format!("args[{number}]"),
                "an argument cannot have NUL",
            ));
        }
        let mut env: Vec<_> = file.env.into_iter().collect();
        let entries = file.files.unwrap_or_default();
        if entries.is_empty() {
            warnings.push(format!(
                "{shown} names no [[files]]: the program has no standard streams, as in Enarx 0.7"
            ));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut streams = [Stream::Null; 3];
        let (mut sockets, mut rules) = (Vec::new(), Rules::default());
        for (descriptor, entry) in (0..).zip(&entries) {
            let opened = entry.opened(descriptor, folder);
            let opened = opened.and_then(|opened| {
                if let Opened::Socket(socket) = &opened {
                    sockets::admit(&socket.peer, &mut rules)?;
                }
                Ok(opened)
            });
            match opened {
                Ok(Opened::Stream(stream)) => {
                    let place = usize::try_from(descriptor).ok();
                    if let Some(place) = place.and_then(|place| streams.get_mut(place)) {
                        *place = stream;
                    }
                }
                Ok(Opened::Socket(socket)) => sockets.push(socket),
                Err(Refused::Entry(why)) => {
                    return Err(Failure::data(format!("{shown}: files[{descriptor}]{why}")));
                }
                Err(Refused::File(failure)) => return Err(failure),
            }
        }
        // As in 0.7, where programs find their descriptors by these.
        let names: Vec<_> = entries.iter().map(Entry::name).collect();
        env.push(("FD_COUNT".to_owned(), names.len().to_string()));
        env.push(("FD_NAMES".to_owned(), names.join(":")));
        Ok(Self {
            args: file.args,
            env,
            streams,
            sockets,
            rules,
            warnings,
        })
    }

    /// Descriptors of the program, directories left out.
    pub fn descriptors(&self) -> u32 {
        let last = self.sockets.iter().map(|socket| socket.descriptor).max();
        last.map_or(0, |last| last.saturating_add(1)).max(3)
    }

    /// True if certificates are to be judged by the issuers of the web.
    pub fn uses_web_issuers(&self) -> bool {
        let of_web = |socket: &Socket| {
            matches!(
                &socket.peer,
                Peer::Connect {
                    tls: Some(ClientTls { issuers: None, .. }),
                    ..
                }
            )
        };
        self.sockets.iter().any(of_web)
    }

    /// Says the warnings, each in one line, whatever they quote.
    pub fn warn(&self) {
        for warning in &self.warnings {
            crate::output::complain(warning);
        }
    }

    /// The arguments of the command line, or else those of the file.
    pub fn arguments(&self, given: Vec<String>) -> Vec<String> {
        if given.is_empty() {
            self.args.clone()
        } else {
            given
        }
    }

    /// The variables of the file, and then those of the command line.
    pub fn variables(&self, given: Vec<(String, String)>) -> Vec<(String, String)> {
        self.env.iter().cloned().chain(given).collect()
    }

    /// The program's standard streams that are terminals.
    pub fn terminals(&self) -> Terminals {
        let [stdin, stdout, stderr] = self.streams.map(Stream::is_terminal);
        Terminals {
            stdin,
            stdout,
            stderr,
        }
    }
}

/// The listener of a server, which its command opens.
pub struct NamedServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its TLS, unless it speaks in clear.
    pub tls: Option<ServerTls>,
}

impl Workload {
    /// Removes and returns the listener of a server, if there is one.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Data`] for sockets that a server does not have.
    pub fn take_server(&mut self) -> Result<Option<NamedServer>, Failure> {
        let refused = |why: &str| Err(Failure::data(format!("an Enarx.toml for a server: {why}")));
        self.rules = Rules::default();
        let mut sockets = std::mem::take(&mut self.sockets).into_iter();
        let Some(socket) = sockets.next() else {
            return Ok(None);
        };
        if sockets.next().is_some() {
            return refused(
                "it names more than one socket, but a server has only one, which listens",
            );
        }
        let Peer::Listen { address, port, tls } = socket.peer else {
            return refused("it names a connection, but a server makes its own with wasi:http");
        };
        let address = address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        Ok(Some(NamedServer {
            address: SocketAddr::new(address, port),
            tls,
        }))
    }
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Self::Null => false,
            Self::Stdin => io::stdin().is_terminal(),
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }
}

/// A descriptor that the program finds open.
enum Opened {
    Stream(Stream),
    Socket(Socket),
}

impl Entry {
    /// Its name in `FD_NAMES`.
    fn name(&self) -> &str {
        let default = self.host.as_ref().filter(|_| self.kind == "connect");
        let name = self.name.as_ref().or(default);
        name.unwrap_or(&self.kind)
    }

    /// The file of this descriptor of the program.
    fn opened(&self, descriptor: u32, folder: &Path) -> Result<Opened, Refused> {
        let refused = |why: String| Refused::Entry(why);
        self.check_host()?;
        if self.name().contains([':', '\0']) {
            return Err(refused(format!(
                ": the name {} has a colon or NUL, which FD_NAMES cannot have: give it another in `name`",
                self.name().escape_debug()
            )));
        }
        let kind =
            Kind::read(&self.kind).map_err(|why| refused(format!(": there is no kind {why}")))?;
        let stream = match kind {
            Kind::Listen | Kind::Connect => {
                let peer = self.socket(kind, folder)?;
                return Ok(Opened::Socket(Socket { descriptor, peer }));
            }
            Kind::Null => Stream::Null,
            Kind::Stdin => Stream::Stdin,
            Kind::Stdout => Stream::Stdout,
            Kind::Stderr => Stream::Stderr,
        };
        self.check_stream()?;
        let is_offered = match descriptor {
            0 => matches!(stream, Stream::Null | Stream::Stdin),
            1 | 2 => !matches!(stream, Stream::Stdin),
            _ => false,
        };
        if is_offered {
            return Ok(Opened::Stream(stream));
        }
        Err(refused(format!(
            " is {}: descriptor 0 can be stdin or null, 1 and 2 stdout, stderr or null; those from 3 on are sockets, and so can \
             these be",
            self.kind
        )))
    }
}
