//! The `enarx` command: arguments in, one call, result out.
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod attest;
mod certs;
mod doctor;
mod inspect;
mod measure;
mod outcome;
mod policy;
mod release;
mod run;
mod simulated;
mod values;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit code for a wrong command line.
const EXIT_USAGE: u8 = enarx_exits::exit_code::USAGE;
/// Exit code for every failure that has no code of its own.
const EXIT_FAILURE: u8 = enarx_exits::exit_code::FAILURE;

#[derive(Parser)]
#[command(
    name = "enarx",
    version,
    about = "Run WebAssembly on a computer whose owner you do not trust",
    after_help = "Examples:\n  enarx run hello.wasm\n  enarx run --dir data::/data:ro tool.wasm --verbose /data/input\n  enarx doctor\n  enarx verify report.bin --certs certs/"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a WebAssembly program in a Keep
    Run(Box<run::Arguments>),
    /// Show what this machine offers for each kind of Keep, and what is missing
    Doctor(doctor::Arguments),
    /// Show facts about this machine
    #[command(subcommand)]
    Platform(Platform),
    Verify(Box<verify::Args>),
    Inspect(inspect::Args),
    Policy(policy::Args),
    Certs(certs::Args),
    Measure(measure::Arguments),
    Release(release::Args),
}

#[derive(Subcommand)]
enum Platform {
    /// The same as `enarx doctor`
    Info(doctor::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::command()
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let result = match arguments {
        Ok(arguments) => match arguments.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Doctor(arguments) | Command::Platform(Platform::Info(arguments)) => {
                doctor::run(&arguments)
            }
            Command::Measure(arguments) => measure::run(&arguments),
            Command::Verify(arguments) => return verify::run(*arguments),
            Command::Inspect(arguments) => return inspect::run(arguments),
            Command::Policy(arguments) => return policy::run(arguments),
            Command::Certs(arguments) => return certs::run(arguments),
            Command::Release(arguments) => return release::run(arguments),
        },
        Err(error) => return usage(&error),
    };
    result.unwrap_or_else(|failure| {
        say!("enarx: {}", failure.sentence);
        ExitCode::from(failure.code)
    })
}

/// Why a command ends without success.
#[derive(Debug)]
struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// The cause and its remedy.
    fn new(sentence: impl Into<String>) -> Self {
        Self {
            code: EXIT_FAILURE,
            sentence: sentence.into(),
        }
    }
}

/// Prints help where it was asked for, and one sentence otherwise.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::printed(error.print().and_then(|()| io::stdout().flush()));
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A message on standard error: see `output::say`.
            let _ = error.print();
            ExitCode::from(EXIT_USAGE)
        }
        _ => {
            let text = error.render().to_string();
            let sentence: Vec<&str> = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .filter(|line| !line.is_empty())
                .collect();
            let sentence = sentence.join(" ");
            let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
            let sentence = format_args!("{sentence} (see `enarx --help`, `enarx run --help`)");
            output::complain("enarx", sentence);
            ExitCode::from(EXIT_USAGE)
        }
    }
}
