// SPDX-License-Identifier: Apache-2.0

//! `enarx host`: this machine offers Keeps to tenants.

mod certificates;
mod classes;
pub mod flags;
mod keep;
pub mod serve;
mod token;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use self::flags::{Machine, StateArguments};
use crate::failure::Failure;
use crate::json::Json;
use crate::output::print_json;
use crate::typed::{Flag, Typed};
use crate::values;

/// Offer Keeps on this machine to tenants.
///
/// A tenant asks the manager (`enarx host serve`) for a Keep, verifies it, and delivers its application to it over an
/// encrypted session: this machine sees neither. Tenants identify themselves with tokens.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Arguments>),
    Token(token::Arguments),
    Show(Show),
    /// Serve one Keep, for the manager that started this process
    #[command(hide = true)]
    Keep(keep::Arguments),
}

/// Show what tenants need to know about this host
///
/// The line for `enarx deploy --to`, the host's key, and the root of the simulated platform that its manager offers, or
/// offered when it last ran.
#[derive(Args)]
struct Show {
    #[command(flatten)]
    typed: Typed,
    #[command(flatten)]
    state: StateArguments,
    /// The address that the manager listens on [default: the last one used, or the manager's default]
    #[arg(long, value_name = "ADDR", env = "ENARX_HOST_LISTEN", value_parser = values::address)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::Serve(arguments) => arguments.json.on,
            Command::Token(arguments) => arguments.json(),
            Command::Show(arguments) => arguments.json.on,
            Command::Keep(_) => false,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Those of its subcommands.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Show(arguments) => show(arguments),
        Command::Keep(arguments) => keep::run(arguments),
    }
}

fn show(arguments: &Show) -> Result<ExitCode, Failure> {
    let state = arguments.state.open()?;
    let fingerprint = state.fingerprint();
    let folder = arguments.state.folder()?;
    let noted = || serve::noted_address(&folder);
    let listen = arguments.listen.or_else(noted).unwrap_or(serve::ADDRESS);
    serve::remark(listen);
    let to = format!("https://{listen}#sha256={fingerprint}");
    let key = enarx_contract::canonical::Hex(*state.key().public().spki());
    let root = if arguments.typed.has(Flag::Sim) {
        Some(serve::simulated_root(&arguments.machine)?)
    } else {
        serve::noted_root(&folder)
    };
    if arguments.json.on {
        print_json(&json!({
            "to": to,
            "key": key.to_string(),
            "certificate_sha256": fingerprint.to_string(),
            "simulated_root": root,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    outln!("to: {to}");
    outln!("key: {key}");
    outln!("certificate: sha256={fingerprint}");
    if let Some(root) = root {
        outln!("simulated root: {root}");
    }
    Ok(ExitCode::SUCCESS)
}
