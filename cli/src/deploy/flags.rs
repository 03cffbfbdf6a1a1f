// SPDX-License-Identifier: Apache-2.0

//! The flags of `enarx deploy`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use enarx_session::paths;

use super::show::Shown;
use crate::host::flags::Machine;
use crate::options::{self, WasmOption};
use crate::rules::NetworkRules;
use crate::trust::TrustArguments;
use crate::typed::{Flag, Typed};
use crate::values;

/// Headings of the flags in help texts.
const HOST: &str = "Host";
const EVIDENCE: &str = "Evidence";
const PROGRAM: &str = "Program";
const SERVER: &str = "Server of HTTP";
const NETWORK: &str = "Network";
const KEEP: &str = "Keep";
const MESSAGES: &str = "Messages";

const EXAMPLES: &str = "\
Examples:
  enarx deploy --local hello.wasm
  enarx deploy --to https://host.example:9443#sha256=… --token-file token --policy policy.toml app.wasm -- --verbose
  enarx deploy --to … --token-file token --policy policy.toml --secret API_KEY=key.txt --file etc/app.conf=app.conf app.wasm
  enarx deploy --local --tls-cert chain.pem --tls-key key.pem server.wasm";

/// Run a WebAssembly program on a host that nobody trusts
///
/// The host starts a Keep and sees nothing of what runs in it. The Keep proves to this command what it is. Only if the
/// policy accepts the proof do the program, its arguments, variables, files and secrets leave this machine, encrypted
/// to that Keep. Of several hosts (--to more than once), the first whose evidence is accepted is used.
///
/// A component of the world `wasi:http/proxy` is a server: it answers HTTP requests over TLS, which ends in its Keep,
/// until it is told to stop.
///
/// --local plays both sides on this machine with the simulated platform and the same code. It shows how a deployment
/// works, and protects nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "enarx deploy [OPTIONS] <MODULE> [-- ARGS...]")]
pub struct Arguments {
    #[command(flatten)]
    pub typed: Typed,
    /// A host, as its `enarx host serve` prints it; may be repeated [env: ENARX_TO, one per line]
    #[arg(help_heading = HOST, long = "to", value_name = "URL")]
    pub to: Vec<String>,
    /// Hosts in the order in which to ask them, each with its own token: a TOML file with `[[host]]`, to and token-file
    /// [env: ENARX_HOSTS]
    #[arg(help_heading = HOST, long, value_name = "FILE", conflicts_with_all = ["to", "token_files"])]
    pub hosts: Option<PathBuf>,
    /// The token for the host; one for all hosts, or one for each in their order [env: ENARX_TOKEN_FILE, one per line]
    #[arg(help_heading = HOST, long = "token-file", value_name = "FILE")]
    pub token_files: Vec<PathBuf>,
    /// A policy file, or the name of a built-in policy: `enarx policy new` prints one for this build
    #[arg(help_heading = EVIDENCE, long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    pub policy: Option<String>,
    /// Play host and tenant on this machine, with the simulated platform, which protects nothing
    #[arg(help_heading = HOST, id = Flag::Local.id(), long = "local", conflicts_with_all = ["to", "token_files", "hosts"], env = "ENARX_LOCAL")]
    pub local: bool,
    #[command(flatten, next_help_heading = EVIDENCE)]
    pub trust: TrustArguments,
    #[command(flatten, next_help_heading = HOST)]
    pub machine: Machine,
    /// Take arguments, variables, standard streams and sockets from an Enarx.toml, as in Enarx 0.7 (`enarx config`);
    /// options given here take precedence
    #[arg(help_heading = PROGRAM, long, value_name = "FILE", env = "ENARX_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set an environment variable of the program; NAME alone passes this command's value
    #[arg(help_heading = PROGRAM, long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    pub variables: Vec<(String, String)>,
    /// Give the program the content of a file as a variable
    #[arg(help_heading = PROGRAM, long = "secret", value_name = "NAME=FILE", value_parser = variable_file)]
    pub secrets: Vec<(String, PathBuf)>,
    /// Give the program a file below /run/secrets
    #[arg(help_heading = PROGRAM, long = "secret-file", value_name = "NAME=FILE", value_parser = secret_file)]
    pub secret_files: Vec<(String, PathBuf)>,
    /// Give the program a file that it can read, in its private file system
    #[arg(help_heading = PROGRAM, long = "file", value_name = "GUEST=FILE", value_parser = guest_file)]
    pub files: Vec<(String, PathBuf)>,
    #[command(flatten, next_help_heading = SERVER)]
    pub server: ServerArguments,
    #[command(flatten, next_help_heading = NETWORK)]
    pub rules: NetworkRules,
    /// Issuers, PEM, whose certificates are accepted from servers that the program connects to over TLS with
    /// `wasi:http`; without this option, none are: the issuers known to this machine or the host do not count
    #[arg(help_heading = NETWORK, id = Flag::TlsRoots.id(), long = "tls-roots", value_name = "FILE", env = "ENARX_TLS_ROOTS")]
    pub tls_roots: Option<PathBuf>,
    /// Time that the program has to end by itself once it is asked to, by SIGINT, SIGTERM or --timeout. The requests of
    /// a server have the same time; 0 is none, at most 10 minutes
    #[arg(help_heading = PROGRAM, long, value_name = "DURATION", default_value = "10s", env = "ENARX_GRACE", value_parser = values::grace, allow_negative_numbers = true)]
    pub grace: Duration,
    /// Return when the program runs, and print the name for `enarx attach`; it may run for a day without this command
    #[arg(help_heading = PROGRAM, long, conflicts_with = Flag::Local.id())]
    pub detach: bool,
    /// Accept a program made by `enarx compile`, which is native code: use it only from a source that you trust with
    /// all that you deliver. Its Keep gives no evidence after the program has started, so the program ends when the
    /// connection breaks
    #[arg(help_heading = PROGRAM, long, env = "ENARX_ALLOW_PRECOMPILED")]
    pub allow_precompiled: bool,
    /// Memory of the Keep, including the compiler's
    #[arg(help_heading = KEEP, long, value_name = "SIZE", default_value = "1G", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    pub memory: u64,
    /// Virtual CPUs of the Keep
    #[arg(help_heading = KEEP, long, value_name = "N", default_value = "1", env = "ENARX_VCPUS", value_parser = values::vcpus, allow_negative_numbers = true)]
    pub vcpus: u32,
    /// End the program after this time (10, 10s, 2m). The Keep does so itself, in whole seconds of its own clock. This
    /// command counts from its own start, before it reads any file, then stops the program, and waits no longer than
    /// the grace, whatever the host does
    #[arg(help_heading = PROGRAM, long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    pub timeout: Option<Duration>,
    /// If no host has room, ask again until one has, for at most this time (10, 10s, 2m), which counts towards
    /// --timeout
    #[arg(help_heading = HOST, long, value_name = "DURATION", env = "ENARX_WAIT", value_parser = values::duration, allow_negative_numbers = true, conflicts_with = Flag::Local.id())]
    pub wait: Option<Duration>,
    /// Call this exported function with the arguments, and print its results
    #[arg(help_heading = PROGRAM, long, value_name = "NAME", env = "ENARX_INVOKE")]
    pub invoke: Option<String>,
    /// Options of the engine, as for `enarx run`
    #[arg(help_heading = PROGRAM, short = 'W', long = "wasm", value_name = "NAME[=VALUE]", env = "ENARX_WASM", value_delimiter = ',', value_parser = options::wasm)]
    pub wasm: Vec<WasmOption>,
    #[command(flatten, next_help_heading = MESSAGES)]
    pub shown: Shown,
    /// The program: a module, a component, or either as text (.wat), or with --allow-precompiled the code of one
    #[arg(value_name = "MODULE")]
    pub module: PathBuf,
    /// Its arguments
    #[arg(value_name = "ARGS", last = true)]
    pub rest: Vec<String>,
}

/// The flags of a deployed server, which mean what those of `enarx serve` mean.
#[derive(Args)]
pub struct ServerArguments {
    /// For a component that answers HTTP requests: the address and port of the host on which its Keep listens;
    /// `0.0.0.0` and `[::]` are every address. The host has to offer it (--allow-listen) [default with --local:
    /// 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::address)]
    pub addr: Option<SocketAddr>,
    /// For such a component: its TLS certificate, PEM, followed by those that lead to its issuer
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, PEM; only the Keep gets it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Answer without encryption or a certificate: the host can read and change every request
    #[arg(long, conflicts_with = "tls_cert")]
    pub insecure_http: bool,
    /// Longest time for a request (10, 10s, 500ms, 2m); then it is answered with status 504, or its connection ends
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_negative_numbers = true)]
    pub request_timeout: Option<Duration>,
    /// Maximum number of connections; more wait to be accepted [default: 4096]
    #[arg(long, value_name = "N", value_parser = values::count, allow_negative_numbers = true)]
    pub max_connections: Option<u32>,
    /// Maximum number of requests at a time, in progress or waiting; more get status 503 [default: 2048]
    #[arg(long, value_name = "N", value_parser = values::count, allow_negative_numbers = true)]
    pub max_requests: Option<u32>,
}

impl ServerArguments {
    /// The first flag that is for servers alone, if one is given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--addr", self.addr.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--insecure-http", self.insecure_http),
            ("--request-timeout", self.request_timeout.is_some()),
            ("--max-connections", self.max_connections.is_some()),
            ("--max-requests", self.max_requests.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(flag, _)| flag)
    }
}

/// `GUEST=FILE` with a path in the program's private file system.
fn guest_file(text: &str) -> Result<(String, PathBuf), String> {
    let (guest, file) = named_file(text, "write GUEST=FILE")?;
    // The root of the private file system is where all paths start.
    let guest = guest.strip_prefix('/').unwrap_or(guest);
    if !paths::is_path(guest) {
        return Err(format!(
            "{guest:?}: name it relative to the root that the program sees, as in etc/app.conf, without ., .., \\ and \
            control characters; a part has at most {} bytes",
            paths::MAX_PART
        ));
    }
    Ok((guest.to_owned(), file))
}

/// `NAME=FILE` with the name of a file.
fn secret_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = named_file(text, "write NAME=FILE")?;
    if !paths::is_file_name(name) {
        return Err(format!(
            "{name:?} is not a name for a file below /run/secrets: it has no /, \\ and control characters, and at most {} bytes",
            paths::MAX_PART
        ));
    }
    Ok((name.to_owned(), file))
}

/// `NAME=FILE` with the name of a variable.
fn variable_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = named_file(text, "write NAME=FILE")?;
    if !paths::is_variable(name) {
        return Err(format!(
            "`{name}` is not a name for a variable: use letters, digits and _, or deliver a file with --secret-file"
        ));
    }
    Ok((name.to_owned(), file))
}

/// A name, which is not judged yet, and a file; `form` says how to write them.
fn named_file<'a>(text: &'a str, form: &str) -> Result<(&'a str, PathBuf), String> {
    match values::pair(text) {
        (name, Some(file)) if !file.is_empty() => Ok((name, file.into())),
        _ => Err(form.to_owned()),
    }
}
