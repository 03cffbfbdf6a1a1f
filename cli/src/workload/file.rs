// SPDX-License-Identifier: Apache-2.0

//! The form of an Enarx.toml, and its published schema. The texts of its keys are those of the schema.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::keys::{self, Keys};
use crate::options::nearest;

/// The keys of a file.
const KEYS: Keys = Keys {
    known: &["args", "env", "files", "steward"],
    below: &[("files", FILE_KEYS)],
};

/// The keys of an entry of `files`.
const FILE_KEYS: &[&str] = &[
    "addr",
    "certificate",
    "client-auth",
    "host",
    "key",
    "kind",
    "name",
    "peer-applications",
    "peers",
    "pin",
    "port",
    "prot",
    "roots",
];

/// The start of a program: its arguments, variables and descriptors. The file is that of Enarx 0.7, with further keys.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Enarx.toml")]
pub struct File {
    /// The steward of Enarx 0.7. It is not contacted; a warning is printed.
    pub steward: Option<String>,
    /// Arguments of the program; those of the command line replace them.
    pub args: Vec<String>,
    /// Variables of the program; those of the command line take precedence.
    pub env: BTreeMap<String, String>,
    /// Descriptors of the program, from 0 on. Without any, the program has no standard streams, as in Enarx 0.7.
    pub files: Option<Vec<Entry>>,
}

/// A descriptor of the program. Its number is its place in the list; programs find it by the variables FD_COUNT and FD_NAMES.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// The kind of descriptor. `null`: nothing. `stdin`, `stdout`, `stderr`: the streams of whoever starts the program.
    /// `listen`: a TCP socket that listens. `connect`: a TCP connection to a server.
    #[schemars(with = "Kind")]
    pub kind: String,
    /// The name in FD_NAMES, without a colon. By default the kind, or the host of a connection; a listener needs one.
    pub name: Option<String>,
    /// The protocol of a socket: `tls` (the default), which the Keep handles for the program, or `tcp`, without TLS.
    #[schemars(with = "Option<Protocol>")]
    pub prot: Option<String>,
    /// The address at which to listen. By default every address of the machine.
    pub addr: Option<IpAddr>,
    /// The port. By default 443 for `tls`, 80 for `tcp`.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The name or the address of the server; with `tls` its certificate must have it.
    pub host: Option<String>,
    /// A file with the certificate, PEM, followed by those that lead to its issuer; relative to the folder of this
    /// file. For a connection: shown to a server that asks for it.
    pub certificate: Option<PathBuf>,
    /// A file with the private key of the certificate, PEM, without a passphrase.
    pub key: Option<PathBuf>,
    /// The issuers whose certificates are accepted. `web` (the default of a connection): those of the machine, or of
    /// `--tls-roots`. `file:NAME`: those of a file, PEM. `mesh`: those of a deployment, which do not exist yet.
    pub roots: Option<String>,
    /// If a listener asks its clients for certificates of `roots`: `none` (the default), `request` or `require`.
    #[schemars(with = "Option<ClientAuth>")]
    pub client_auth: Option<String>,
    /// SPIFFE ids of peers. Not offered yet: nothing issues such certificates.
    pub peers: Option<Vec<String>>,
    /// Digests of peers' applications. Not offered yet: nothing issues such certificates.
    pub peer_applications: Option<Vec<String>>,
    /// The public key that a peer must have. Not offered yet.
    pub pin: Option<String>,
}

/// Defines words of a file, by which a value is read and published.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
        pub enum $name {
            $(#[schemars(rename = $word)] $variant,)*
        }

        impl $name {
            /// Reads a word.
            ///
            /// # Errors
            /// The end of a sentence that names the nearest word.
            pub fn read(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => Err(unknown(other, &[$($word),*])),
                }
            }
        }
    };
}

words! {
    /// The kinds of entry in `files`.
    Kind {
        Null = "null",
        Stdin = "stdin",
        Stdout = "stdout",
        Stderr = "stderr",
        Listen = "listen",
        Connect = "connect",
    }
}

words! {
    /// The protocols of a socket.
    Protocol {
        Tls = "tls",
        Tcp = "tcp",
    }
}

words! {
    /// If clients are asked for certificates.
    ClientAuth {
        None = "none",
        Request = "request",
        Require = "require",
    }
}

fn unknown(word: &str, known: &[&str]) -> String {
    let words: Vec<String> = known.iter().map(|&known| known.to_owned()).collect();
    let near = nearest(word, &words).map_or_else(
        || format!("use {}", known.join(", ")),
        |near| format!("did you mean {near}?"),
    );
    format!("{}: {near}", word.escape_debug())
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for an unknown key or a wrong type.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        keys::read(path, KEYS)
    }

    /// The published schema, as JSON.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_that_of_the_code() {
        // To renew it: `enarx config schema`.
        let published = include_str!("../../schema/enarx-toml.json");
        let published: Value = serde_json::from_str(published).unwrap();
        assert_eq!(published, File::schema());
    }

    #[test]
    fn the_known_keys_are_those_of_the_schema() {
        let schema = File::schema();
        let keys = |table: &Value| -> Vec<String> {
            let properties = table["properties"].as_object().unwrap();
            let mut keys: Vec<_> = properties.keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&schema), KEYS.known);
        assert_eq!(keys(&schema["$defs"]["Entry"]), FILE_KEYS);
    }
}
