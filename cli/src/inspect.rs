//! `enarx inspect`: shows what evidence, certificates and VMSA pages say.

use crate::verify::{REFUSED, read};
use enarx_attestation::inspect;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a report, quote, certificate, revocation list or VMSA page field by field, without judging it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, as binary or PEM
    file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let Args { file, json } = args;
    let described = read(&file)
        .map_err(|e| e.to_string())
        .and_then(|octets| inspect::describe(&octets).map_err(|e| e.to_string()));
    match described {
        Ok(description) if json => outln!("{:#}", serde_json::json!(description)),
        Ok(description) => out!("{description}"),
        Err(message) => {
            say!("error: cannot inspect {}: {message}", file.display());
            return ExitCode::from(REFUSED);
        }
    }
    ExitCode::SUCCESS
}
