// SPDX-License-Identifier: Apache-2.0

//! A deployed program that answers HTTP requests: its server, configured by flags and
//! program. Certificate and key are the tenant's own; they go to the Keep with the
//! configuration, after its evidence is accepted.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use enarx_configuration::{Listen, Serve};
use enarx_network::ListenRule;
use wasmparser::{ComponentExternalKind, Parser, Payload};

use super::flags::Arguments;
use super::program::Program;
use crate::failure::Failure;
use crate::input::in_time;
use crate::workload::Workload;
use crate::{serve, tls};

/// The interfaces by which a component answers requests, of WASI 0.2 and of 0.3, with the version after them.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// A server to deploy.
pub struct Server {
    /// The part of its configuration.
    pub serve: Serve,
    /// The door that it needs.
    pub door: ListenRule,
    /// Where it listens.
    address: SocketAddr,
}

impl Server {
    /// Says where it answers, and who reads along.
    pub fn announce(&self, host: &str) {
        let url = self.url(host);
        match self.serve.tls {
            Some(_) => say!("enarx: serving HTTPS on {url}"),
            None => say!(
                "enarx: serving HTTP on {url}: unencrypted, the host can read and change everything (--insecure-http)"
            ),
        }
    }

    /// The URL at which the server of a host, named `HOST:PORT`, answers.
    fn url(&self, host: &str) -> String {
        let scheme = match self.serve.tls {
            Some(_) => "https",
            None => "http",
        };
        if !self.address.ip().is_unspecified() {
            return format!("{scheme}://{}/", self.address);
        }
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        format!("{scheme}://{host}:{}/", self.address.port())
    }
}

/// True if this is a component that answers HTTP requests. Native code does not say.
pub fn is_server(application: &[u8]) -> bool {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(application) {
        // The Keep refuses everything that is not WebAssembly.
        let Ok(payload) = payload else { return false };
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(exports) if depth == 0 => {
                let mut exports = exports.into_iter().flatten();
                if exports.any(|export| {
                    export.kind == ComponentExternalKind::Instance
                        && HANDLERS.iter().any(|it| export.name.name.starts_with(it))
                }) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

impl Arguments {
    /// The server that the program is; `None` for another program.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`] for flags that do not fit the program, and for a server without a place or without a
    /// certificate; those of reading.
    pub fn server(
        &self,
        program: &Program,
        workload: &mut Workload,
        end: Option<Instant>,
    ) -> Result<Option<Server>, Failure> {
        let flags = &self.server;
        let shown = self.module.display();
        let given = flags.given();
        // Native code does not say it: its user knows.
        let is_native = program.source.is_some();
        let is_server =
            self.invoke.is_none() && (is_native && given.is_some() || is_server(&program.bytes));
        if !is_server {
            return match given {
                None => Ok(None),
                Some(flag) => Err(Failure::usage(format!(
                    "{flag}: {shown} does not run as a server: it exports neither wasi:http/incoming-handler@0.2 nor \
                    wasi:http/handler@0.3, or --invoke calls another function; leave the flag out"
                ))),
            };
        }
        let named = workload.take_server()?;
        let (named, own) = named.map_or((None, None), |it| (Some(it.address), it.tls));
        if flags.insecure_http && own.is_some() {
            return Err(Failure::usage(
                "--insecure-http: the Enarx.toml gives the server a certificate: leave one of them out",
            ));
        }
        let identity = match (&flags.tls_cert, &flags.tls_key) {
            (Some(chain), Some(key)) => {
                let key = key.clone();
                let read = move |chain: &Path| tls::identity(chain, &key);
                Some(in_time(chain, end, read)?)
            }
            _ => None,
        };
        let tls = tls::with_identity(own, identity);
        if tls.is_none() && !flags.insecure_http {
            return Err(Failure::usage(format!(
                "{shown} answers HTTP requests: give its certificate and private key with --tls-cert and --tls-key; \
                with --insecure-http it answers without encryption, and the host can read and change everything"
            )));
        }
        let address = flags.addr.or(named);
        let address = address.or(self.local.then_some(serve::ADDRESS));
        let address = address.ok_or_else(|| {
            Failure::usage(format!(
                "{shown} answers HTTP requests: name the address and port of the host on which to listen, as in --addr 0.0.0.0:8443"
            ))
        })?;
        let door = ListenRule::tcp(Some(address.ip()), address.port());
        let door = door.ok_or_else(|| {
            Failure::usage(
                "--addr: port 0 is any port, but the contract has to name one: choose it",
            )
        })?;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let serve = Serve {
            timeout: flags.request_timeout.map(milliseconds),
            grace: milliseconds(self.grace),
            connections: flags.max_connections.unwrap_or(serve::MAX_CONNECTIONS),
            requests: flags.max_requests.unwrap_or(serve::MAX_REQUESTS),
            tls,
            listen: Some(Listen {
                // The unspecified address of IPv6 is every address, of IPv4 too.
                address: Some(address.ip()).filter(|ip| *ip != Ipv6Addr::UNSPECIFIED),
                port: address.port(),
            }),
            insecure_http: flags.insecure_http,
        };
        Ok(Some(Server {
            serve,
            door,
            address,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_configuration::Identity;

    fn component(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_server_is_a_component_that_exports_the_handler() {
        let export = |name: &str| format!("(instance $i) (export \"{name}\" (instance $i))");
        let handler = export("wasi:http/incoming-handler@0.2.3");
        for handler in [&handler, &export("wasi:http/handler@0.3.0")] {
            assert!(is_server(&component(&format!("(component {handler})"))));
        }
        for other in [
            "(module)",
            "(component)",
            "(component (instance $i) (export \"wasi:http/types@0.3.0\" (instance $i)))",
            "(component (import \"wasi:http/incoming-handler@0.2.3\" (instance)))",
            &format!("(component (component {handler}))"),
        ] {
            assert!(!is_server(&component(other)), "{other}");
        }
        assert!(!is_server(b"\0asm and more") && !is_server(b""));
    }

    #[test]
    fn a_servers_url_names_its_own_address_or_that_of_its_host() {
        let server = |address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            Server {
                serve: Serve::default(),
                door: ListenRule::tcp(Some(address.ip()), address.port()).unwrap(),
                address,
            }
        };
        for (address, host, url) in [
            ("0.0.0.0:80", "host.example:9443", "http://host.example:80/"),
            ("[::]:81", "[fd00::1]:9443", "http://[fd00::1]:81/"),
            ("127.0.0.1:82", "host.example:9443", "http://127.0.0.1:82/"),
        ] {
            assert_eq!(server(address).url(host), url);
        }
        let mut secure = server("[::1]:83");
        secure.serve.tls = tls::with_identity(None, Some(Identity::default()));
        assert_eq!(secure.url("host:1"), "https://[::1]:83/");
    }
}
