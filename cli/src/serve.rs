// SPDX-License-Identifier: Apache-2.0

//! `enarx serve`: a component that answers HTTP requests, in a Keep on this machine. This side accepts connections and
//! moves bytes; HTTP and TLS are spoken in the Keep.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::net::sockopt::set_tcp_nodelay;

use crate::failure::{Exit, Failure};
use crate::local::flags::KeepArguments;
use crate::local::launch::launch;
use crate::local::work::{Server, Work};
use crate::options;
use crate::workload::{NamedServer, Workload};
use crate::{tls, values};

const EXAMPLES: &str = "\
Examples:
  enarx serve app.wasm
  enarx serve --addr 0.0.0.0:80 --timeout 10s --memory 4G app.wasm
  enarx serve --addr 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem app.wasm";

/// Connections that the kernel keeps until the Keep takes them, unless net.core.somaxconn is less: its default.
const BACKLOG: i32 = 4096;

/// The end of the help of this command.
fn after_help() -> String {
    format!("{}\n{EXAMPLES}", options::help())
}

/// Serve HTTP from a Keep.
///
/// The program is a component of the world `wasi:http/proxy` 0.2 or `wasi:http/service` 0.3; each request gets an
/// instance of its own, with fresh memory. It sees what it is given here, and nothing else of this machine. This
/// machine sees the program, its environment and every request and response, in every kind of Keep. SIGTERM and SIGINT
/// end the server: it accepts no new requests, finishes those that it has, and ends with exit code 0.
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Arguments {
    /// Take variables, standard streams, address and certificate from an Enarx.toml, as in Enarx 0.7 (`enarx config`);
    /// options given here take precedence
    #[arg(long, value_name = "FILE", env = "ENARX_CONFIG")]
    config: Option<PathBuf>,

    /// Address and port to listen on; with port 0 the system chooses one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", env = "ENARX_ADDR", value_parser = values::address)]
    addr: Option<SocketAddr>,

    /// Longest time for a request (10, 10s, 500ms, 2m); then it is answered with status 504, or its connection ends
    #[arg(long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// Time that requests have to finish when the server is asked to end; 0 cuts them off at once
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "ENARX_GRACE", value_parser = values::duration_or_none, allow_negative_numbers = true)]
    grace: Duration,

    /// Maximum number of connections; more wait to be accepted
    #[arg(long, value_name = "N", default_value_t = MAX_CONNECTIONS, env = "ENARX_MAX_CONNECTIONS", value_parser = values::count, allow_negative_numbers = true)]
    max_connections: u32,

    /// Maximum number of requests at a time, in progress or waiting; more get status 503. Each instance's memory is
    /// limited by -W max-memory-size
    #[arg(long, value_name = "N", default_value_t = MAX_REQUESTS, env = "ENARX_MAX_REQUESTS", value_parser = values::count, allow_negative_numbers = true)]
    max_requests: u32,

    /// Use TLS with this certificate, PEM, followed by those that lead to its issuer
    #[arg(
        long,
        value_name = "FILE",
        env = "ENARX_TLS_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "ENARX_TLS_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,

    #[command(flatten)]
    keep: KeepArguments,

    /// The component, `-` for standard input
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
}

/// Most connections of a server at a time, unless an option says otherwise.
pub const MAX_CONNECTIONS: u32 = 4096;
/// Most requests of a server at a time, unless an option says otherwise.
pub const MAX_REQUESTS: u32 = 2048;
/// The address of a server, unless an option says otherwise.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Runs the command.
///
/// # Errors
/// As [`launch`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut workload = Workload::read(arguments.config.as_deref())?;
    let named = workload.take_server()?;
    let work = Work {
        workload,
        module: &arguments.component,
        rest: Vec::new(),
        invoke: None,
        timeout: arguments.timeout,
        server: Some(listen(arguments, named)?),
    };
    launch(&arguments.keep, work)
}

fn listen(arguments: &Arguments, named: Option<NamedServer>) -> Result<Server, Failure> {
    let (named, own) = named.map_or((None, None), |it| (Some(it.address), it.tls));
    let address = arguments.addr.or(named).unwrap_or(ADDRESS);
    let identity = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(chain), Some(key)) => Some(tls::identity(chain, key)?),
        _ => None,
    };
    let tls = tls::with_identity(own, identity);
    let listen = move || {
        let listener = TcpListener::bind(address)?;
        // The standard library's backlog is 128: further simultaneous connections would be retried only after a
        // second.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        // Its connections inherit this: whole answers are written at once.
        set_tcp_nodelay(&listener, true)?;
        let address = listener.local_addr()?;
        Ok(Server {
            listener: listener.into(),
            address,
            grace: arguments.grace,
            connections: arguments.max_connections,
            requests: arguments.max_requests,
            tls,
        })
    };
    listen().map_err(|error: io::Error| {
        Failure::of(
            Exit::Network,
            format!("cannot listen on {address}: {error}: give another address with --addr"),
        )
    })
}
