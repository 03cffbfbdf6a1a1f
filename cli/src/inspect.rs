//! `enarx inspect`: shows what evidence, certificates and VMSA pages say.

use crate::output::{fail, print_json};
use crate::verify::{REFUSED, read_evidence};
use enarx_attestation::inspect;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a report, quote, certificate, revocation list or VMSA page field by field, without judging it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, as binary or PEM; `-` for standard input
    file: PathBuf,
    /// Print as JSON; an error is an object with the member error
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let Args { file, json } = args;
    let described = read_evidence(&file)
        .map_err(|e| e.to_string())
        .and_then(|octets| inspect::describe(&octets).map_err(|e| e.to_string()));
    match described {
        Ok(description) if json => print_json(&serde_json::json!(description)),
        Ok(description) => out!("{description}"),
        Err(message) => {
            let message = format_args!("cannot inspect {}: {message}", file.display());
            fail(json, message);
            return ExitCode::from(REFUSED);
        }
    }
    ExitCode::SUCCESS
}
