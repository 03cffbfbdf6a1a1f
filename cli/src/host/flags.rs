// SPDX-License-Identifier: Apache-2.0

//! The flags that several of the host's commands share, and their failures.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use enarx_launch::variant::Variant;
use enarx_manager::{ManagerError, State, StateError};

use crate::failure::{Exit, Failure};
use crate::options::{self, SevOption, SimulatedOption};
use crate::state::{self, STATE_FOLDER_REMEDY};
use crate::typed::Flag;

/// The folder of a manager.
#[derive(Args)]
pub struct StateArguments {
    /// The manager's folder, with its keys, tokens and records [default: host, in this user's state folder]
    #[arg(long = "state", value_name = "DIR", env = "ENARX_HOST_STATE")]
    folder: Option<PathBuf>,
}

/// The simulated machine of a manager, or of a deployment that plays its host.
#[derive(Args, Debug)]
pub struct Machine {
    /// Properties of the simulated platform, as for `enarx run`
    #[arg(
        id = Flag::Sim.id(),
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = said
    )]
    properties: Vec<ParsedOption>,
}

/// The guest policy of a manager's Keeps.
#[derive(Args, Debug, Default)]
pub struct Launches {
    /// Bits of the guest policy of every Keep, as for `enarx run`, without SEV features, which change the measurement
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
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        let pair = |option: &SevOption| [OsString::from("--sev"), option.to_string().into()];
        self.sev.iter().flat_map(pair)
    }
}

/// An option, and the text that said it.
#[derive(Clone, Debug)]
struct ParsedOption {
    text: String,
    option: SimulatedOption,
}

/// Reads an option.
fn said(text: &str) -> Result<ParsedOption, String> {
    let option = options::simulated(text)?;
    let text = text.to_owned();
    Ok(ParsedOption { text, option })
}

impl Machine {
    /// The options.
    pub fn options(&self) -> Vec<SimulatedOption> {
        self.properties
            .iter()
            .map(|said| said.option.clone())
            .collect()
    }

    /// The arguments of a command that is to have the same options.
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        let pair = |said: &ParsedOption| [OsString::from("--sim"), said.text.clone().into()];
        self.properties.iter().flat_map(pair)
    }
}

impl StateArguments {
    /// The folder.
    ///
    /// # Errors
    /// [`Exit::Usage`] when none is named and the user has none.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        let own = || state::folder("host");
        self.folder.clone().or_else(own).ok_or_else(|| {
            Failure::usage("there is no folder for the manager: set HOME, or give --state DIR")
        })
    }

    /// The manager's keys and tokens.
    ///
    /// # Errors
    /// As [`Self::folder`]; [`Exit::Output`] when the folder cannot be used.
    pub fn open(&self) -> Result<State, Failure> {
        State::open(&self.folder()?).map_err(|error| of_state(&error))
    }
}

/// The failure for an error of the manager's folder, or of a name for something in it.
pub fn of_state(error: &StateError) -> Failure {
    let exit = match error {
        StateError::Name(_) | StateError::TokenExists(_) | StateError::NoToken(_) => Exit::Usage,
        _ => Exit::Output,
    };
    let remedy = match error {
        StateError::File { .. } => format!(": {STATE_FOLDER_REMEDY}, or give another with --state"),
        _ => String::new(),
    };
    Failure::of(exit, format!("{error}{remedy}"))
}

/// The failure for an error of the manager.
pub fn of_manager(error: &ManagerError) -> Failure {
    match error {
        ManagerError::State(error) => of_state(error),
        ManagerError::Listen { .. } => Failure::of(
            Exit::Network,
            format!(
                "{error}: give another address with --listen, or end the program that has this one"
            ),
        ),
        ManagerError::Certificate { path, .. } => {
            let exit = if path.is_file() {
                Exit::Data
            } else {
                Exit::Input
            };
            Failure::of(
                exit,
                format!(
                    "{error}: give it with those that lead to its issuer, and its private key, both in PEM"
                ),
            )
        }
        ManagerError::Store { .. } => Failure::of(Exit::Output, error.to_string()),
        ManagerError::Setting { .. } => Failure::usage(error.to_string()),
        _ => Failure::new(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_an_invalid_certificate_are_distinguished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.pem");
        let failure = || {
            of_manager(&ManagerError::Certificate {
                path: path.clone(),
                reason: "a reason".to_owned(),
            })
        };
        assert_eq!(failure().exit(), Exit::Input);
        std::fs::write(&path, "no PEM").unwrap();
        let failure = failure();
        assert_eq!(failure.exit(), Exit::Data);
        assert!(
            failure.sentence.contains("both in PEM"),
            "{}",
            failure.sentence
        );
    }
}
