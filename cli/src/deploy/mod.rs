// SPDX-License-Identifier: Apache-2.0

//! `enarx deploy`: an application on a host that nobody trusts. The deploying is `enarx-agent`'s.

mod kept;
mod limit;
mod order;
mod server;
mod show;
mod sides;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use enarx_agent::{Ending, Key, Stop};
use enarx_session::time::MAX_GRACE;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Exit, Failure};
use crate::host::{self, serve};
use crate::input::in_time;
use crate::options::{self, WasmOption};
use crate::rules::NetworkRules;
use crate::summary::Summary;
use crate::trust::TrustArguments;
use crate::typed::Typed;
use crate::workload::Workload;
use crate::{policy, tickets, values};

pub use self::kept::{Kept, failed, failure};
pub use self::show::{Shown, show};
pub use self::targets::tokens;

use self::limit::Due;
use self::order::{Ordered, named_file, variable_file};
use self::server::ServerArguments;
use self::sides::Deployment;

/// How long an application has to end by itself after the first SIGINT or SIGTERM to a command that was not told.
pub const GRACE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  enarx deploy --local hello.wasm
  enarx deploy --to https://host.example:9443#sha256=… --token-file token --policy policy.toml app.wasm -- --verbose
  enarx deploy --to … --token-file token --policy policy.toml --secret API_KEY=key.txt --file etc/app.conf=app.conf app.wasm
  enarx deploy --local --tls-cert chain.pem --tls-key key.pem server.wasm";

/// Run a WebAssembly program on a host that nobody trusts
///
/// The host starts a Keep and sees none of what runs in it. The Keep proves to this command what it is; only if the policy
/// accepts that, the program, its arguments, variables, files and secrets leave this machine, encrypted to that Keep. Of several
/// hosts (--to more than once) the first is taken whose evidence is accepted.
///
/// A component of the world `wasi:http/proxy` is a server: it answers HTTP requests, over TLS that its Keep speaks, until it is told
/// to end.
///
/// --local plays both sides on this machine with the simulated platform, by the same code. It shows how it goes and protects
/// nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "enarx deploy [OPTIONS] <MODULE> [-- ARGS...]")]
pub struct Arguments {
    #[command(flatten)]
    typed: Typed,
    /// A host, as its `enarx host serve` prints it; may be repeated [env: ENARX_TO, one per line]
    #[arg(long = "to", value_name = "URL")]
    to: Vec<String>,
    /// Hosts in the order in which they are asked, each with a token of its own: a TOML file with [[host]], to and
    /// token-file [env: ENARX_HOSTS]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "token_files"])]
    hosts: Option<PathBuf>,
    /// The token for the host; one for all hosts, or one for each in their order [env: ENARX_TOKEN_FILE, one per line]
    #[arg(long = "token-file", value_name = "FILE")]
    token_files: Vec<PathBuf>,
    /// A policy file, or the name of a built-in policy: `enarx policy new` prints one for this build
    #[arg(long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    policy: Option<String>,
    /// Play host and tenant on this machine, with the simulated platform, which protects nothing
    #[arg(long, conflicts_with_all = ["to", "token_files", "hosts"], env = "ENARX_LOCAL")]
    local: bool,
    #[command(flatten)]
    trust: TrustArguments,
    /// Properties of the simulated platform of --local, as of `enarx run`
    #[arg(
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = host::said
    )]
    simulated: Vec<host::Said>,
    /// Take arguments, variables, standard streams and sockets from an Enarx.toml as of Enarx 0.7 (`enarx config`); what is
    /// given here counts more
    #[arg(long, value_name = "FILE", env = "ENARX_CONFIG")]
    config: Option<PathBuf>,
    /// Set an environment variable of the program; NAME alone passes this command's value
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    variables: Vec<(String, String)>,
    /// Give the program the content of a file as a variable
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = variable_file)]
    secrets: Vec<(String, PathBuf)>,
    /// Give the program a file below /run/secrets
    #[arg(long = "secret-file", value_name = "NAME=FILE", value_parser = named_file)]
    secret_files: Vec<(String, PathBuf)>,
    /// Give the program a file that it can read, in its private file system
    #[arg(long = "file", value_name = "GUEST=FILE", value_parser = named_file)]
    files: Vec<(String, PathBuf)>,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    rules: NetworkRules,
    /// Accept certificates of these issuers, PEM, from servers that the program asks over TLS by `wasi:http`; without it of
    /// none: neither those of this machine nor those of the host count
    #[arg(long, value_name = "FILE", env = "ENARX_TLS_ROOTS")]
    tls_roots: Option<PathBuf>,
    /// Time that the program has to end by itself, once it is asked to: by SIGINT, SIGTERM or --timeout. It is also what the
    /// requests of a server have; at most 10 minutes
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "ENARX_GRACE", value_parser = grace, allow_negative_numbers = true)]
    grace: Duration,
    /// Return when the program runs, and print the name for `enarx attach`; it may run a day without this command
    #[arg(long, conflicts_with = "local")]
    detach: bool,
    /// Take a program that `enarx compile` has made, which is native code: take it only from those whom you trust with all
    /// that you deliver. Its Keep gives no evidence after it has begun, so it ends when the connection breaks
    #[arg(long, env = "ENARX_ALLOW_PRECOMPILED")]
    allow_precompiled: bool,
    /// Memory of the Keep, the compiler's included
    #[arg(long, value_name = "SIZE", default_value = "1G", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    memory: u64,
    /// Virtual CPUs of the Keep
    #[arg(long, value_name = "N", default_value = "1", env = "ENARX_VCPUS", value_parser = clap::value_parser!(u32).range(1..=62), allow_negative_numbers = true)]
    vcpus: u32,
    /// End the program after this time (10, 10s, 2m): the Keep does so itself, in whole seconds of its own clock; and this
    /// command has it stop at that time after its own beginning, before it reads any file, and waits no longer than a grace,
    /// whatever the host does
    #[arg(long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// If no host has room, ask again until one has, for this time at most (10, 10s, 2m); --timeout counts meanwhile
    #[arg(long, value_name = "DURATION", env = "ENARX_WAIT", value_parser = values::duration, allow_negative_numbers = true, conflicts_with = "local")]
    wait: Option<Duration>,
    /// Call this exported function with the arguments, and print its results
    #[arg(long, value_name = "NAME", env = "ENARX_INVOKE")]
    invoke: Option<String>,
    /// Options of the engine, as of `enarx run`
    #[arg(short = 'W', long = "wasm", value_name = "NAME[=VALUE]", env = "ENARX_WASM", value_delimiter = ',', value_parser = options::wasm)]
    wasm: Vec<WasmOption>,
    #[command(flatten)]
    pub shown: Shown,
    /// The program: a module, a component, or either as text (.wat), or with --allow-precompiled the code of one
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// Its arguments
    #[arg(value_name = "ARGS", last = true)]
    rest: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut summary = Summary::default();
    let done = work(arguments, &mut summary);
    arguments.shown.json.end(summary, done).into()
}

fn work(arguments: &Arguments, summary: &mut Summary) -> Result<u8, Failure> {
    let due = arguments
        .limit()
        .map(|limit| Due::begin(limit, arguments.grace));
    let end = due.map(|due| due.at);
    arguments.shown.check()?;
    arguments.typed.refuse_unless(arguments.local, "simulated", || {
        "--sim: these are properties of the platform that --local plays; a host has its own: leave it out".to_owned()
    })?;
    let mut workload = match &arguments.config {
        Some(path) => in_time(path, end, |path| Workload::read(Some(path)))?,
        None => Workload::default(),
    };
    if !arguments.shown.quiet {
        workload.warn();
    }
    let Ordered { order, is_server } = arguments.order(&mut workload, end)?;
    let key = Key::generate().map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    let runtime = serve::runtime()?;
    let deployment = Deployment {
        arguments,
        order,
        due,
        key: &key,
        streams: workload.streams,
    };
    let ending = if arguments.local {
        runtime.block_on(deployment.local(summary))
    } else {
        let targets = arguments.targets(end)?;
        let policy = arguments.policy.as_deref().ok_or_else(|| {
            Failure::usage(
                "name what you accept with --policy: `enarx policy new` prints one for this build",
            )
        })?;
        let policy = policy::load(policy)?;
        runtime.block_on(deployment.deploy_to(&targets, policy, summary))
    };
    // Standard input may wait for ever in a thread.
    runtime.shutdown_background();
    match ending? {
        (Ending::Complete(deployed), over) => {
            summary.complete(&deployed);
            let ended = show(&arguments.shown, &deployed, over)?;
            match over {
                // It has ended because it was asked to, however it did so.
                Some(limit) if is_server => Err(limit::reached(limit)),
                _ => Ok(ended),
            }
        }
        (Ending::Detached(detached), _) => {
            let name = tickets::name(&detached.ticket);
            summary.detached(&detached, &name);
            if !arguments.shown.quiet {
                say!(
                    "enarx: it runs on {} without this command: `enarx attach {name}`",
                    detached.host
                );
            }
            outln!("{name}");
            Ok(0)
        }
    }
}

/// The grace of a program.
fn grace(text: &str) -> Result<Duration, String> {
    let grace = values::duration(text)?;
    if grace > Duration::from_millis(MAX_GRACE.into()) {
        return Err("at most 10 minutes".to_owned());
    }
    Ok(grace)
}

/// Has SIGINT and SIGTERM stop what `stop` is for.
///
/// # Errors
/// The system's.
pub fn interrupts(stop: &Stop) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let failed = |error| Failure::new(format!("signals cannot be taken: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let handle = stop.clone();
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            handle.request();
        }
    }))
}
