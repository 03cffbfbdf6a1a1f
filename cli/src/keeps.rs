// SPDX-License-Identifier: Apache-2.0

//! `enarx attach`, `stop` and `keeps`: deployments that run without this command. The work is `enarx-agent`'s.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use enarx_agent::{DeployError, Fault, Stop, attach, end_keep, stop_keep};
use enarx_contract::canonical::Hex;
use enarx_session::keep::Output;
use serde_json::json;
use zeroize::Zeroizing;

use crate::deploy::{self, Kept, Shown};
use crate::failure::{Exit, Failure};
use crate::host::serve;
use crate::json::Json;
use crate::output::print_json;
use crate::summary::Summary;
use crate::trust::TrustArguments;
use crate::workload::Workload;
use crate::{ends, policy, tickets, values};

/// Names of a deployment and of what is needed to reach it.
#[derive(Args)]
struct Named {
    /// The deployment, as `enarx deploy --detach` and `enarx keeps list` name it, or the beginning of its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The token for its host [env: ENARX_TOKEN_FILE]
    #[arg(long = "token-file", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Named {
    fn token(&self) -> Result<Zeroizing<String>, Failure> {
        let tokens = deploy::tokens(self.token_file.as_slice(), None)?;
        // A host that is shown another host's token could use it there.
        let [token] = <[_; 1]>::try_from(tokens).map_err(|tokens| {
            Failure::usage(format!(
                "ENARX_TOKEN_FILE names {} tokens, and each is for a host of its own: give that of the deployment's host with --token-file",
                tokens.len()
            ))
        })?;
        Ok(token)
    }
}

/// Attach to a deployment that runs on, and stay with it to its end
///
/// Its Keep has to prove again what it is, and that it is the same. Output goes on where it was left.
#[derive(Args)]
pub struct Attach {
    #[command(flatten)]
    named: Named,
    /// A policy file, or the name of a built-in policy
    #[arg(long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    policy: String,
    #[command(flatten)]
    trust: TrustArguments,
    #[command(flatten)]
    pub shown: Shown,
}

/// Stop a deployment: its standard input ends, and after a time the Keep ends it
///
/// A server of HTTP accepts no more, and answers the requests that it has. It takes its output and its receipt to attach afterwards.
#[derive(Args)]
pub struct StopArguments {
    #[command(flatten)]
    named: Named,
    /// A policy file, or the name of a built-in policy
    #[arg(long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    policy: String,
    /// The time that the program has to end by itself (10, 10s, 2m); at most 10 minutes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    grace: Duration,
    #[command(flatten)]
    trust: TrustArguments,
}

/// Deployments that run on without this command.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the deployments that this user can attach to
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Show what is known of a deployment, without asking its host
    Show {
        /// The deployment, or the beginning of its name
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Have the host end the Keep at once, without a receipt, and forget the deployment
    End {
        #[command(flatten)]
        named: Named,
    },
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::List { json } | Command::Show { json, .. } => json.on,
            Command::End { .. } => false,
        }
    }
}

/// Runs `enarx attach`.
pub fn attach_to(arguments: &Attach) -> ExitCode {
    let mut summary = Summary::default();
    let done = stay(arguments, &mut summary);
    arguments.shown.json.end(summary, done).into()
}

fn stay(arguments: &Attach, summary: &mut Summary) -> Result<u8, Failure> {
    arguments.shown.check()?;
    let ticket = tickets::load(&arguments.named.name)?;
    let token = arguments.named.token()?;
    let trust = arguments.trust.trust(policy::load(&arguments.policy)?)?;
    let runtime = serve::runtime()?;
    let deployed = runtime.block_on(async {
        let stop = Stop::new(deploy::GRACE);
        let interrupts = deploy::interrupts(&stop)?;
        let streams = ends::streams(Workload::default().streams);
        let deployed = attach(&ticket, token, &trust, streams, &stop).await;
        interrupts.abort();
        Ok::<_, Failure>(deployed)
    })?;
    // Standard input may wait for ever in a thread.
    runtime.shutdown_background();
    let deployed = deployed.map_err(|error| {
        let failure = deploy::failed(&error, summary, Kept::of);
        of_reaching(&error, failure)
    })?;
    summary.complete(&deployed);
    tickets::forget(&tickets::name(&ticket))?;
    deploy::show(&arguments.shown, &deployed, None)
}

/// The failure of a command that does not stay with the deployment.
fn failure(error: &DeployError) -> Failure {
    of_reaching(error, deploy::failure(error, &Kept::of(error)))
}

/// The failure of a command that reaches for a deployment which runs already. It starts nothing, so it can be tried again
/// when the way to the host's manager fails; and where the manager lets nobody in, the Keep is not to blame.
fn of_reaching(error: &DeployError, failure: Failure) -> Failure {
    let DeployError::Failed(failed) = error else {
        return failure;
    };
    match failed.fault {
        Fault::Unreachable(_) | Fault::Unanswered(_) | Fault::Timeout(_) => {
            failure.of_kind(Exit::Network)
        }
        Fault::Manager { status, .. } if status < 500 => failure.of_kind(Exit::Other),
        Fault::Pin { .. } => failure.of_kind(Exit::Other),
        _ => failure,
    }
}

/// Runs `enarx stop`.
pub fn stop(arguments: &StopArguments) -> Result<ExitCode, Failure> {
    let ticket = tickets::load(&arguments.named.name)?;
    let token = arguments.named.token()?;
    let trust = arguments.trust.trust(policy::load(&arguments.policy)?)?;
    let stopped = serve::runtime()?.block_on(stop_keep(&ticket, token, &trust, arguments.grace));
    stopped.map_err(|error| failure(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `enarx keeps`.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::List { json } => {
            let names = tickets::names()?;
            if json.on {
                print_json(&json!({ "keeps": names }));
            } else {
                for name in names {
                    outln!("{name}");
                }
            }
        }
        Command::Show { name, json } => {
            let ticket = tickets::load(name)?;
            let fields = [
                ("name", tickets::name(&ticket)),
                ("host", ticket.host()),
                ("contract", ticket.contract().digest().to_string()),
                ("deployment", Hex(*ticket.deployment()).to_string()),
                ("stdout", ticket.received(Output::Stdout).to_string()),
                ("stderr", ticket.received(Output::Stderr).to_string()),
            ];
            if json.on {
                let fields = fields.map(|(name, value)| (name.to_owned(), value.into()));
                print_json(&serde_json::Value::Object(fields.into_iter().collect()));
            } else {
                for (name, value) in fields {
                    outln!("{name}: {value}");
                }
            }
        }
        Command::End { named } => {
            let ticket = tickets::load(&named.name)?;
            let ended = serve::runtime()?.block_on(end_keep(&ticket, named.token()?));
            ended.map_err(|error| failure(&error))?;
            tickets::forget(&tickets::name(&ticket))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
