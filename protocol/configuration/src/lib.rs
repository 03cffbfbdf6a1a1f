// SPDX-License-Identifier: Apache-2.0

//! The configuration of an application: what a Keep runs, and with which arguments and resources.
//!
//! It crosses the border as JSON (object `Configuration` of the sallyport). In `enarx run` the
//! host supplies it, so the Keep checks its form and trusts nothing else about it.
#![forbid(unsafe_code)]
// Hosts and peers control the input of this code: it refuses bad input and never panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod der;
mod identity;
pub mod precompiled;
pub mod sockets;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use der::{Certificate, PrivateKey};
/// The application's permissions on the network, as the runtime sees them; the host enforces its own copy.
pub use enarx_network::Uses as Network;
pub use identity::Identity;

/// Largest accepted encoded configuration, in bytes.
pub const MAX_ENCODED: usize = 4 << 20;

/// The configuration of the runtime inside the Keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// The application's arguments; the first is its own name.
    pub args: Vec<String>,
    /// The application's environment, in order; a later entry replaces an earlier one.
    pub env: Vec<(String, String)>,
    /// Host directories opened for the application, in the order of their sallyport handles.
    pub directories: Vec<Directory>,
    /// Exported function to call instead of the program's entry; its arguments are `args[1..]`.
    pub invoke: Option<String>,
    /// Limits inside the Keep.
    pub limits: Limits,
    /// The application's permissions on the network.
    pub network: Network,
    /// Which standard streams are terminals on the host.
    pub terminals: Terminals,
    /// Prints where the time of a start goes, on standard error.
    pub timings: bool,
    /// Gives evidence of the Keep, with this nonce, before the application runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attest: Option<Vec<u8>>,
    /// The application is a server: it answers HTTP requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
    /// Issuers whose certificates are accepted of servers that the application asks by TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Certificate>,
    /// Sockets that are open when a preview 1 program starts, in the order of their descriptors. Directories follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<sockets::Socket>,
    /// The application may be precompiled: the author of the configuration vouches for its native code, or relies on
    /// the virtual machine alone to confine it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub precompiled: bool,
    /// The application is compiled, and its precompiled form written to standard output; it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<Compile>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The kind of code that an application is compiled to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compile {
    /// The CPU, one of [`precompiled::CPUS`]; the Keep's own if `None`.
    pub cpu: Option<String>,
    /// Instructions are counted, as a server with a time limit for requests needs.
    pub turns: bool,
}

/// The bounds of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Longest time for a request, in milliseconds.
    pub timeout: Option<u64>,
    /// Time for requests to finish once the server has to end, in milliseconds.
    pub grace: u64,
    /// Most connections at a time; more wait to be accepted.
    pub connections: u32,
    /// Most requests at a time, answered or waiting; more are refused.
    pub requests: u32,
    /// Present if the server speaks TLS, and nothing in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<sockets::ServerTls>,
    /// The socket that the Keep opens for the server; the host's granted listener if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// A server that is delivered to a Keep speaks in clear, and its host reads and changes everything. Without this, a
    /// delivered server without TLS is refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure_http: bool,
}

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The address; every address of the machine if `None`.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Which standard streams are terminals on the host, so that a program may buffer by lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// A host directory and the name the application sees for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Path the application sees.
    pub guest_path: String,
    /// No change passes through this directory.
    pub read_only: bool,
}

/// Limits that the runtime enforces on the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest size of one linear memory, in bytes; `None` = the Keep's memory.
    pub max_memory: Option<u64>,
    /// Largest number of elements of one table.
    pub max_table_elements: Option<u64>,
    /// Largest stack of the application, in bytes.
    pub max_wasm_stack: Option<u64>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// More than [`MAX_ENCODED`] bytes.
    #[error("the configuration has {0} bytes, more than {MAX_ENCODED}")]
    TooLarge(usize),
    /// Not the JSON that this version expects.
    #[error("the configuration is not readable: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Configuration {
    /// Encodes the configuration for the border.
    ///
    /// # Errors
    /// [`ConfigurationError::TooLarge`] when the encoding passes [`MAX_ENCODED`].
    pub fn encode(&self) -> Result<Vec<u8>, ConfigurationError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_ENCODED {
            return Err(ConfigurationError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Decodes what came over the border.
    ///
    /// # Errors
    /// [`ConfigurationError`] when it is too large, not JSON or has unknown fields.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        if bytes.len() > MAX_ENCODED {
            return Err(ConfigurationError::TooLarge(bytes.len()));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let configuration = Configuration {
            args: vec!["app".into(), "--flag".into()],
            env: vec![("A".into(), "b".into())],
            directories: vec![Directory {
                guest_path: "/data".into(),
                read_only: true,
            }],
            invoke: Some("run".into()),
            limits: Limits {
                max_memory: Some(1 << 20),
                ..Limits::default()
            },
            network: Network {
                tcp: true,
                ..Network::default()
            },
            terminals: Terminals {
                stdout: true,
                ..Terminals::default()
            },
            timings: true,
            attest: Some(vec![1, 2, 3]),
            serve: Some(Serve {
                timeout: Some(1000),
                grace: 10_000,
                connections: 100,
                requests: 50,
                tls: Some(sockets::ServerTls {
                    identity: Identity {
                        chain: vec![Certificate(vec![0x30; 100]), Certificate(vec![1])],
                        key: PrivateKey(vec![0xfb, 0xff, 7].into()),
                    },
                    clients: Some(sockets::Clients {
                        issuers: vec![Certificate(vec![4; 3])],
                        required: false,
                    }),
                }),
                listen: Some(Listen {
                    address: Some([0; 4].into()),
                    port: 8443,
                }),
                insecure_http: true,
            }),
            issuers: vec![Certificate(vec![2; 5])],
            sockets: vec![
                sockets::Socket {
                    descriptor: 3,
                    peer: sockets::Peer::Listen {
                        address: Some([127, 0, 0, 1].into()),
                        port: 443,
                        tls: Some(sockets::ServerTls {
                            identity: Identity::default(),
                            clients: Some(sockets::Clients {
                                issuers: vec![Certificate(vec![3])],
                                required: true,
                            }),
                        }),
                    },
                },
                sockets::Socket {
                    descriptor: 4,
                    peer: sockets::Peer::Connect {
                        host: "example.org".into(),
                        port: 443,
                        tls: Some(sockets::ClientTls::default()),
                    },
                },
            ],
            precompiled: true,
            compile: Some(Compile {
                cpu: Some("baseline".into()),
                turns: true,
            }),
        };
        let shown = format!("{configuration:?}");
        assert!(!shown.contains("251"), "{shown}");
        let bytes = configuration.encode().unwrap();
        // Nothing is escaped, so nothing is copied when it is read.
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(
            text.contains(r#""key":"+/8H""#) && !text.contains('\\'),
            "{text}"
        );
        assert_eq!(Configuration::decode(&bytes).unwrap(), configuration);
    }

    #[test]
    fn unknown_fields_and_garbage_are_refused() {
        assert!(matches!(
            Configuration::decode(br#"{"argz":[]}"#),
            Err(ConfigurationError::Malformed(_))
        ));
        assert!(Configuration::decode(b"\xff\xfe").is_err());
        assert!(Configuration::decode(br#"{"issuers":["+/8H"]}"#).is_ok());
        for bad in ["+/8", "+/8H=", "%", "+/8H\n"] {
            let text = format!(r#"{{"issuers":["{bad}"]}}"#);
            assert!(Configuration::decode(text.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(
            Configuration::decode(&vec![b' '; MAX_ENCODED + 1]),
            Err(ConfigurationError::TooLarge(_))
        ));
    }
}
