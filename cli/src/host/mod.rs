// SPDX-License-Identifier: Apache-2.0

//! `enarx host`: this machine offers Keeps to tenants.

mod certificates;
mod classes;
mod keep;
pub mod serve;
mod token;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_launch::variant::Variant;
use enarx_manager::{ManagerError, State, StateError};
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::json::Json;
use crate::options::{self, SevOption, SimulatedOption};
use crate::output::print_json;
use crate::state;

/// Offer Keeps on this machine to tenants.
///
/// A tenant asks the manager (`enarx host serve`) for a Keep, verifies it, and delivers its application to it over an
/// encrypted session: this machine sees neither. Tenants are known by tokens.
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

/// The folder of a manager.
#[derive(Args)]
pub struct StateArguments {
    /// The manager's folder: its keys, tokens, and what it remembers [default: host, in this user's state folder]
    #[arg(long = "state", value_name = "DIR", env = "ENARX_HOST_STATE")]
    folder: Option<PathBuf>,
}

/// The simulated machine of a manager.
#[derive(Args, Debug)]
pub struct Machine {
    /// Properties of the simulated platform, as of `enarx run`
    #[arg(
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = said
    )]
    machine: Vec<Said>,
}

/// The guest policy of a manager's Keeps.
#[derive(Args, Debug, Default)]
pub struct Launches {
    /// Bits of the guest policy of every Keep, as of `enarx run`, without SEV features, which change the measurement
    #[arg(
        long = "sev",
        value_name = "NAME[=y|n]",
        env = "ENARX_SEV",
        value_delimiter = ',',
        value_parser = policy_bit
    )]
    sev: Vec<SevOption>,
}

/// Reads an option that changes the guest policy alone.
fn policy_bit(text: &str) -> Result<SevOption, String> {
    let option = options::sev(text)?;
    if options::variant(&[option]).features() == Variant::PLAIN.features() {
        Ok(option)
    } else {
        Err("tenants name the measurement of a launch without it in their contracts; `enarx run` launches with it".to_owned())
    }
}

impl Launches {
    /// The launch of every Keep.
    pub fn variant(&self) -> Variant {
        options::variant(&self.sev)
    }

    /// The arguments of a command that is to launch in the same way.
    fn arguments(&self) -> impl Iterator<Item = OsString> {
        let pair = |option: &SevOption| [OsString::from("--sev"), option.to_string().into()];
        self.sev.iter().flat_map(pair)
    }
}

/// An option, and the text that said it.
#[derive(Clone, Debug)]
pub struct Said {
    text: String,
    option: SimulatedOption,
}

/// Reads an option.
pub fn said(text: &str) -> Result<Said, String> {
    let option = options::simulated(text)?;
    let text = text.to_owned();
    Ok(Said { text, option })
}

impl Machine {
    /// The machine with these options.
    pub fn with(simulated: Vec<Said>) -> Self {
        Self { machine: simulated }
    }

    /// The options.
    fn options(&self) -> Vec<SimulatedOption> {
        self.machine
            .iter()
            .map(|said| said.option.clone())
            .collect()
    }

    /// The arguments of a command that is to have the same options.
    fn arguments(&self) -> impl Iterator<Item = OsString> {
        let pair = |said: &Said| [OsString::from("--sim"), said.text.clone().into()];
        self.machine.iter().flat_map(pair)
    }
}

/// Show what tenants need to know of this host
///
/// The line for `enarx deploy --to`, the host's key, and the root of its simulated platform if it has one.
#[derive(Args)]
struct Show {
    #[command(flatten)]
    state: StateArguments,
    /// The address that the manager listens on
    #[arg(long, value_name = "ADDR", env = "ENARX_HOST_LISTEN", default_value = serve::LISTEN)]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

impl StateArguments {
    /// The folder.
    ///
    /// # Errors
    /// [`Exit::Usage`] when none is named and the user has none.
    fn folder(&self) -> Result<PathBuf, Failure> {
        let own = || state::folder("host");
        self.folder.clone().or_else(own).ok_or_else(|| {
            Failure::usage("there is no folder for the manager: set HOME, or give --state DIR")
        })
    }

    /// The manager's keys and tokens.
    ///
    /// # Errors
    /// As [`Self::folder`]; [`Exit::Output`] when the folder cannot be used.
    fn open(&self) -> Result<State, Failure> {
        State::open(&self.folder()?).map_err(|error| of_state(&error))
    }
}

/// A failure of the manager's folder.
fn of_state(error: &StateError) -> Failure {
    Failure::of(Exit::Output, error.to_string())
}

/// A failure of the manager.
fn of_manager(error: &ManagerError) -> Failure {
    match error {
        ManagerError::State(error) => of_state(error),
        ManagerError::Listen { .. } => Failure::of(Exit::Network, error.to_string()),
        _ => Failure::new(error.to_string()),
    }
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
    let to = format!("https://{}#sha256={fingerprint}", arguments.listen);
    let key = enarx_contract::canonical::Hex(*state.key().public().spki());
    let root = serve::simulated_root(&arguments.machine)?;
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
    outln!("simulated root: {root}");
    Ok(ExitCode::SUCCESS)
}
