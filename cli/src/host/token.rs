// SPDX-License-Identifier: Apache-2.0

//! `enarx host token`: who may have Keeps of this host.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::flags::{StateArguments, of_state};
use crate::failure::Failure;
use crate::json::Json;
use crate::output::print_json;

/// Admit tenants, and revoke their access.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token for a tenant and print only the token; it is shown once
    Add {
        /// The tenant's name, for this host's owner
        name: String,
        #[command(flatten)]
        state: StateArguments,
        #[command(flatten)]
        json: Json,
    },
    /// List the names of all tokens
    List {
        #[command(flatten)]
        state: StateArguments,
        #[command(flatten)]
        json: Json,
    },
    /// Revoke a tenant's access: its sessions are cut, and its Keeps run on to their end
    Revoke {
        /// The tenant's name
        name: String,
        #[command(flatten)]
        state: StateArguments,
        #[command(flatten)]
        json: Json,
    },
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::Add { json, .. }
            | Command::List { json, .. }
            | Command::Revoke { json, .. } => json.on,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`crate::failure::Exit::Usage`] for a name; [`crate::failure::Exit::Output`] for a folder that cannot be used.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Add { name, state, json } => {
            let token = state
                .open()?
                .add_token(name)
                .map_err(|error| of_state(&error))?;
            if json.on {
                print_json(&json!({ "name": name, "token": *token }));
            } else {
                outln!("{}", *token);
            }
        }
        Command::List { state, json } => {
            let tokens = state.open()?.tokens().map_err(|error| of_state(&error))?;
            if json.on {
                let tokens = tokens
                    .iter()
                    .map(|token| json!({ "name": token.name.as_str(), "created": token.created }));
                print_json(&json!({ "tokens": tokens.collect::<Vec<_>>() }));
            } else {
                for token in &tokens {
                    outln!("{}", token.name.as_str());
                }
            }
        }
        Command::Revoke { name, state, json } => {
            state
                .open()?
                .revoke_token(name)
                .map_err(|error| of_state(&error))?;
            if json.on {
                print_json(&json!({ "revoked": name }));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
