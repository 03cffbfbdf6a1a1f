// SPDX-License-Identifier: Apache-2.0

//! The `enarx` command: arguments in, one call, result out.
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod attest;
mod cache;
mod certs;
mod colour;
mod compile;
mod config;
mod contract;
mod deploy;
mod doctor;
mod ear;
mod endorsements;
mod ends;
mod failure;
mod first_day;
mod generate;
mod host;
mod hosts;
mod images;
mod input;
mod inspect;
mod json;
mod keeps;
mod keys;
mod local;
mod log;
mod measure;
mod options;
mod outcome;
mod policy;
mod receipt;
mod release;
mod resources;
mod rules;
mod run;
mod serials;
mod serve;
mod simulated;
mod state;
mod summary;
mod tickets;
mod tls;
mod trust;
mod typed;
mod usage;
mod values;
mod verify;
mod version;
mod workload;

use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;
use usage::Described;

/// Run WebAssembly on a computer whose owner you do not trust.
#[derive(Parser)]
#[command(name = "enarx", version = version::SHORT, long_version = version::long())]
struct Arguments {
    /// Print more to standard error; -vv prints most. ENARX_LOG selects by part, such as enarx_collateral=debug
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

// Described one by one, because each costs every start a tenth of a millisecond.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Run(Described<run::Arguments>),
    Serve(Described<serve::Arguments>),
    Compile(Described<compile::Arguments>),
    Config(Described<config::Arguments>),
    Deploy(Described<deploy::Arguments>),
    Attach(Described<keeps::Attach>),
    Stop(Described<keeps::StopArguments>),
    Keeps(Described<keeps::Arguments>),
    Host(Described<host::Arguments>),
    Doctor(Described<doctor::Arguments>),
    Platform(Described<PlatformArguments>),
    Verify(Described<verify::Arguments>),
    Ear(Described<ear::Arguments>),
    Inspect(Described<inspect::Arguments>),
    Policy(Described<policy::Arguments>),
    Receipt(Described<receipt::Arguments>),
    Contract(Described<contract::Arguments>),
    Certs(Described<certs::Arguments>),
    Measure(Described<measure::Arguments>),
    Release(Described<release::Arguments>),
    Completions(Described<generate::Completions>),
    Man(Described<generate::Man>),
}

/// Show facts about this machine.
#[derive(Args)]
struct PlatformArguments {
    #[command(subcommand)]
    command: Platform,
}

#[derive(Subcommand)]
enum Platform {
    /// The same as `enarx doctor`
    Info(doctor::Arguments),
}

impl Command {
    /// True if JSON is asked for: then errors are JSON, too.
    fn json(&self) -> bool {
        match self {
            Self::Doctor(arguments) => arguments.json.on,
            Self::Platform(arguments) => {
                let Platform::Info(arguments) = &arguments.command;
                arguments.json.on
            }
            Self::Verify(arguments) => arguments.json.on,
            Self::Ear(arguments) => arguments.json(),
            Self::Inspect(arguments) => arguments.json.on,
            Self::Policy(arguments) => arguments.json(),
            Self::Receipt(arguments) => arguments.json(),
            Self::Contract(arguments) => arguments.json(),
            Self::Certs(arguments) => arguments.json(),
            Self::Measure(arguments) => arguments.json.on,
            Self::Release(arguments) => arguments.json(),
            Self::Host(arguments) => arguments.json(),
            Self::Keeps(arguments) => arguments.json(),
            Self::Run(_)
            | Self::Serve(_)
            | Self::Compile(_)
            | Self::Config(_)
            | Self::Deploy(_)
            | Self::Attach(_)
            | Self::Stop(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }

    /// Says why the command failed, in the form that was asked for.
    fn report(&self, failure: Failure) -> ExitCode {
        match self {
            Self::Deploy(arguments) => arguments.shown.json.failed(failure),
            Self::Attach(arguments) => arguments.shown.json.failed(failure),
            _ => failure.report(self.json()),
        }
    }

    fn run(&self) -> Result<ExitCode, Failure> {
        match self {
            Self::Run(arguments) => run::run(arguments),
            Self::Serve(arguments) => serve::run(arguments),
            Self::Compile(arguments) => compile::run(arguments),
            Self::Config(arguments) => config::run(arguments),
            Self::Deploy(arguments) => Ok(deploy::run(arguments)),
            Self::Attach(arguments) => Ok(keeps::attach_to(arguments)),
            Self::Stop(arguments) => keeps::stop(arguments),
            Self::Keeps(arguments) => keeps::run(arguments),
            Self::Host(arguments) => host::run(arguments),
            Self::Doctor(arguments) => doctor::run(arguments),
            Self::Platform(arguments) => {
                let Platform::Info(arguments) = &arguments.command;
                doctor::run(arguments)
            }
            Self::Verify(arguments) => verify::run(arguments),
            Self::Ear(arguments) => ear::run(arguments),
            Self::Inspect(arguments) => inspect::run(arguments),
            Self::Policy(arguments) => policy::run(arguments),
            Self::Receipt(arguments) => receipt::verify(arguments),
            Self::Contract(arguments) => contract::run(arguments),
            Self::Certs(arguments) => certs::run(arguments),
            Self::Measure(arguments) => measure::run(arguments),
            Self::Release(arguments) => release::run(arguments),
            Self::Completions(arguments) => Ok(generate::completions(arguments, command_line())),
            Self::Man(arguments) => generate::man(arguments, command_line()),
        }
    }
}

/// The command line.
fn command_line() -> clap::Command {
    usage::command(Arguments::command())
}

fn main() -> ExitCode {
    let matches = usage::command_of_words(command_line()).try_get_matches();
    let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    let Arguments { verbose, command } = match arguments {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error, command_line()),
    };
    let done = log::start(verbose).and_then(|()| command.run());
    done.unwrap_or_else(|failure| command.report(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typed::Flag;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    /// Compares the arguments of a command and of those below it with a flag, and counts those that are it.
    fn named(command: &clap::Command, flag: Flag) -> usize {
        let own = command.get_arguments();
        let own = own.filter(|it| it.get_long() == Some(&flag.id().replace('_', "-")));
        let own = own.inspect(|it| assert_eq!(it.get_id(), flag.id(), "{}", command.get_name()));
        let below = command.get_subcommands();
        own.count() + below.map(|command| named(command, flag)).sum::<usize>()
    }

    #[test]
    fn every_suggested_flag_exists_in_a_command() {
        let mut root = command_line();
        root.build();
        for flag in Flag::ALL {
            assert!(named(&root, flag) > 0, "{flag:?}");
        }
    }
}
