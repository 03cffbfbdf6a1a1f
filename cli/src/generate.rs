// SPDX-License-Identifier: Apache-2.0

//! `enarx completions` and `enarx man`: what shells and man(1) need, made from the command line itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::{Exit, Failure};
use crate::output::shown;

/// Print completions for a shell.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  enarx completions bash > ~/.local/share/bash-completion/completions/enarx\n  enarx completions zsh > ~/.zfunc/_enarx\n  enarx completions fish > ~/.config/fish/completions/enarx.fish"
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write man pages, one for each command.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  enarx man ~/.local/share/man/man1")]
pub struct Man {
    /// The directory, which must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints completions of `command`.
pub fn completions(arguments: &Completions, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "enarx", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes the man pages of `command`.
///
/// # Errors
/// [`Exit::Output`].
pub fn man(arguments: &Man, command: Command) -> Result<ExitCode, Failure> {
    let directory = &arguments.directory;
    clap_mangen::generate_to(command, directory).map_err(|error| {
        Failure::of(
            Exit::Output,
            format!(
                "man pages cannot be written to {}: {error}: make the directory, or correct the path",
                directory.display()
            ),
        )
    })?;
    outln!("{}", shown(directory));
    Ok(ExitCode::SUCCESS)
}
