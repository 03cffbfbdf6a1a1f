// SPDX-License-Identifier: Apache-2.0

//! `enarx attach`, `stop` and `keeps`: deployments that run without this command. The work is `enarx-agent`'s.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use enarx_agent::{DeployError, Fault, Stop, Ticket, attach, end_keep, stop_keep};
use enarx_attestation::Timestamp;
use enarx_contract::MAX_CLOCK_SKEW;
use enarx_contract::canonical::Hex;
use enarx_session::keep::Output;
use serde_json::json;
use zeroize::Zeroizing;

use crate::deploy::{self, Kept, Shown};
use crate::failure::{Exit, Failure};
use crate::host::serve;
use crate::input::now;
use crate::json::Json;
use crate::output::print_json;
use crate::summary::Summary;
use crate::tickets::Listed;
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
                "ENARX_TOKEN_FILE names {} tokens, each for a different host: give the one for the deployment's host with --token-file",
                tokens.len()
            ))
        })?;
        Ok(token)
    }
}

/// Attach to a deployment that is still running, and stay with it to its end
///
/// Its Keep has to prove again what it is, and that it is the same Keep. Output continues where it stopped.
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

/// Stop a deployment: its standard input ends, and after the grace the Keep ends it
///
/// An HTTP server accepts no new requests, and answers those that it has. Attach afterwards for the rest of the output
/// and the receipt.
#[derive(Args)]
pub struct StopArguments {
    #[command(flatten)]
    named: Named,
    /// A policy file, or the name of a built-in policy
    #[arg(long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    policy: String,
    /// The time that the program has to end by itself (10, 10s, 2m); 0 is none, at most 10 minutes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::grace, allow_negative_numbers = true)]
    grace: Duration,
    #[command(flatten)]
    trust: TrustArguments,
}

/// Manage deployments that run without this command.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the deployments that this user can attach to: their names, their hosts, and how old they are
    ///
    /// No host is asked. A deployment that is over cannot run any longer, by its contract, and can be removed with
    /// `enarx keeps forget`.
    List {
        /// Print the names alone
        #[arg(long, short, env = "ENARX_QUIET")]
        quiet: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Show what is known about a deployment, without asking its host
    Show {
        /// The deployment, or the beginning of its name
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Make the host end the Keep at once, without a receipt, and forget the deployment
    ///
    /// A deployment that is over is forgotten, whatever its host says.
    End {
        #[command(flatten)]
        named: Named,
    },
    /// Forget a deployment without asking its host, which may be gone
    ///
    /// This ends nothing: a Keep that still runs continues to the end of its contract, and nobody can attach to it or
    /// stop it any more.
    Forget {
        /// The deployment, or the beginning of its name
        name: String,
    },
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::List { json, .. } | Command::Show { json, .. } => json.on,
            Command::End { .. } | Command::Forget { .. } => false,
        }
    }
}

/// A line of the list.
struct Row {
    name: String,
    /// The reason where its ticket cannot be read.
    known: Result<Known, String>,
}

/// The facts about a deployment in its ticket.
struct Known {
    host: String,
    made: Timestamp,
    /// The last moment at which it can run.
    last: Timestamp,
}

impl Row {
    fn new(Listed { name, ticket }: Listed) -> Self {
        let known = ticket
            .map(|ticket| Known {
                host: ticket.host(),
                made: made(&ticket),
                last: last_moment(&ticket),
            })
            .map_err(|failure| failure.sentence);
        Self { name, known }
    }

    fn json(&self) -> serde_json::Value {
        match &self.known {
            Ok(known) => json!({
                "name": self.name,
                "host": known.host,
                "made": known.made,
                "last_moment": known.last,
            }),
            Err(error) => json!({ "name": self.name, "error": error }),
        }
    }
}

/// The list for people, at this time.
fn table(rows: &[Row], now: Timestamp) -> String {
    let lines: Vec<[String; 3]> = rows
        .iter()
        .map(|row| match &row.known {
            Ok(known) => {
                let over = if now > known.last { ", over" } else { "" };
                let age = age(now.0.saturating_sub(known.made.0));
                [row.name.clone(), known.host.clone(), format!("{age}{over}")]
            }
            Err(error) => [row.name.clone(), "?".to_owned(), error.clone()],
        })
        .collect();
    let head = ["NAME", "HOST", "AGE"].map(str::to_owned);
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].len());
        cells.max().unwrap_or(0).max(head[column].len())
    };
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [name, host, age] in [&head].into_iter().chain(&lines) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:first$}  {host:second$}  {age}");
    }
    text
}

/// An age in seconds, in the unit that people would name it by.
fn age(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.unwrap_or((1, "second"));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// The time at which the contract of a deployment was made: it begins earlier, for hosts whose clocks are behind.
fn made(ticket: &Ticket) -> Timestamp {
    let times = &ticket.contract().terms().times;
    Timestamp(times.not_before.saturating_add(MAX_CLOCK_SKEW))
}

/// The last moment at which a deployment can run: its Keep was launched when the contract ended, waited for the program as
/// long as it may, and ends that by its own clock.
fn last_moment(ticket: &Ticket) -> Timestamp {
    let times = &ticket.contract().terms().times;
    Timestamp(times.not_after)
        .later(times.unprovisioned_seconds)
        .later(times.runtime_seconds_max)
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
    let deployed = serve::block_on(async {
        let stop = Stop::new(deploy::GRACE);
        let interrupts = deploy::interrupts(&stop)?;
        let streams = ends::streams(Workload::default().streams);
        let deployed = attach(&ticket, token, &trust, streams, &stop).await;
        interrupts.abort();
        Ok::<_, Failure>(deployed)
    })??;
    let deployed = deployed.map_err(|error| {
        let failure = deploy::failed(&error, summary, Kept::of);
        reach_failure(&error, failure, &ticket)
    })?;
    summary.complete(&deployed);
    tickets::forget(&tickets::name(&ticket))?;
    deploy::show(&arguments.shown, &deployed, None)
}

/// The failure of a command that does not stay with the deployment of this ticket.
fn failure(error: &DeployError, ticket: &Ticket) -> Failure {
    reach_failure(error, deploy::failure(error, &Kept::of(error)), ticket)
}

/// The failure of a command that reaches for a deployment which runs already. It starts nothing, so it can be tried again
/// when the way to the host's manager fails; and where the manager lets nobody in, the Keep is not to blame. A host that is gone
/// for good leaves a deployment that can only be forgotten.
fn reach_failure(error: &DeployError, failure: Failure, ticket: &Ticket) -> Failure {
    let DeployError::Failed(failed) = error else {
        return failure;
    };
    let name = tickets::name(ticket);
    match failed.fault {
        Fault::Unreachable(_) | Fault::Name | Fault::Unanswered(_) | Fault::Timeout(_) => failure
            .of_kind(Exit::Network)
            .with(&format!("; if this host will never answer: `enarx keeps forget {name}`")),
        Fault::Manager { status, .. } if status < 500 => failure.of_kind(Exit::Other),
        Fault::Pin { .. } => failure.of_kind(Exit::Other).with(&format!(
            "; a manager gets another certificate only when it restarts, and no Keep outlives its manager: `enarx keeps forget {name}`"
        )),
        _ => failure,
    }
}

/// Runs `enarx stop`.
///
/// # Errors
/// As [`tickets::load`]; the failure of reaching the Keep, with its exit code.
pub fn stop(arguments: &StopArguments) -> Result<ExitCode, Failure> {
    let ticket = tickets::load(&arguments.named.name)?;
    let token = arguments.named.token()?;
    let trust = arguments.trust.trust(policy::load(&arguments.policy)?)?;
    let stopped = serve::block_on(stop_keep(&ticket, token, &trust, arguments.grace))?;
    stopped.map_err(|error| failure(&error, &ticket))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `enarx keeps`.
///
/// # Errors
/// As [`tickets::load`]; [`Exit::Output`]; of `end` the failure of reaching the host, with its exit code.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::List { quiet, json } => {
            let rows: Vec<Row> = tickets::all()?.into_iter().map(Row::new).collect();
            if json.on {
                let rows: Vec<_> = rows.iter().map(Row::json).collect();
                print_json(&json!({ "keeps": rows }));
            } else if *quiet {
                for row in rows {
                    outln!("{}", row.name);
                }
            } else {
                out!("{}", table(&rows, now()));
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
            let ended = serve::block_on(end_keep(&ticket, named.token()?))?;
            if let Err(error) = ended {
                let failure = failure(&error, &ticket);
                if now() <= last_moment(&ticket) {
                    return Err(failure);
                }
                say!(
                    "enarx: {}: the deployment is over, so it is forgotten",
                    failure.sentence
                );
            }
            tickets::forget(&tickets::name(&ticket))?;
        }
        Command::Forget { name } => forget(name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a deployment off the list, also one whose ticket cannot be read, and says what may go on.
fn forget(beginning: &str) -> Result<(), Failure> {
    let Listed { name, ticket } = tickets::find(beginning)?;
    tickets::forget(&name)?;
    let until = match &ticket {
        Ok(ticket) if now() > last_moment(ticket) => return Ok(()),
        Ok(ticket) => format!(
            "its Keep on {} was not asked to end and may run until {}",
            ticket.host(),
            last_moment(ticket)
        ),
        Err(_) => "its Keep was not asked to end and may still run".to_owned(),
    };
    say!("enarx: {name} is forgotten: {until}, and nobody can attach to it or stop it any more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_hosts_and_ages_and_what_is_wrong_with_a_ticket() {
        let row = |name: &str, known| Row {
            name: name.to_owned(),
            known,
        };
        let known = |host: &str, made, last| Known {
            host: host.to_owned(),
            made: Timestamp(made),
            last: Timestamp(last),
        };
        let rows = [
            row("0f", Ok(known("tee.example:9443", 1_000_000, 2_000_000))),
            row("a1", Ok(known("10.0.0.1:9443", 800_000, 900_000))),
            row("b2", Err("it is damaged".to_owned())),
        ];
        assert_eq!(
            table(&rows, Timestamp(1_000_090)),
            "NAME  HOST              AGE\n\
             0f    tee.example:9443  1 minute\n\
             a1    10.0.0.1:9443     2 days, over\n\
             b2    ?                 it is damaged\n"
        );
        assert_eq!(age(0), "0 seconds");
        assert_eq!(
            (age(59), age(3_599)),
            ("59 seconds".into(), "59 minutes".into())
        );
        assert_eq!(
            (age(3_600), age(172_800)),
            ("1 hour".into(), "2 days".into())
        );
    }
}
