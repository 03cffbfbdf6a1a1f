//! The `enarx` command: arguments in, one call, result out.
#![forbid(unsafe_code)]

mod certs;
mod inspect;
mod policy;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Run WebAssembly on a computer whose owner you do not trust.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Args),
    Certs(certs::Args),
    Inspect(inspect::Args),
    Policy(policy::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Verify(args) => verify::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Policy(args) => policy::run(args),
    }
}
