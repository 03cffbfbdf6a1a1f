// SPDX-License-Identifier: Apache-2.0

//! `enarx inspect`: shows what evidence, certificates and VMSA pages say.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enarx_attestation::inspect;

use crate::failure::Failure;
use crate::input;
use crate::json::Json;
use crate::output::print_json;

/// Show a report, quote, certificate, revocation list or VMSA page field by field, without judging it.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The file, as binary or PEM; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    pub json: Json,
}

/// Runs the command.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for what is no evidence.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = &arguments.file;
    let (bytes, _) = input::read_evidence(file)?;
    let description = inspect::describe(&bytes).map_err(|error| {
        Failure::data(format!(
            "cannot inspect {}: {error}: give the file that the hardware or its tool wrote",
            file.display()
        ))
    })?;
    if arguments.json.on {
        print_json(&serde_json::json!(description));
    } else {
        out!("{description}");
    }
    Ok(ExitCode::SUCCESS)
}
