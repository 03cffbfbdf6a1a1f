// SPDX-License-Identifier: Apache-2.0

//! `enarx config`: makes an Enarx.toml, checks one, and prints its schema.

use std::fs::File as Created;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::failure::{Exit, Failure};
use crate::workload::{File, Workload};

/// An Enarx.toml to begin with: what a program has without one, and the rest in comments.
const TEMPLATE: &str = include_str!("config.toml");

/// Create and check the file that configures how a program starts (`--config` of `run`, `serve` and `deploy`).
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an Enarx.toml to start from; an existing file is left alone
    Init {
        /// The file
        #[arg(value_name = "FILE", default_value = "Enarx.toml")]
        file: PathBuf,
    },
    /// Check that an Enarx.toml can be used, with the certificates and keys that it names
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = "Enarx.toml")]
        file: PathBuf,
    },
    /// Print the schema of an Enarx.toml as JSON
    Schema,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`]; [`Exit::Output`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Init { file } => {
            create(file).map_err(|error| wrong(file, &error))?;
            outln!("{}", file.display());
        }
        Command::Check { file } => {
            let workload = Workload::read(Some(file))?;
            workload.warn();
            outln!(
                "{}: descriptors {}, sockets {}",
                file.display(),
                workload.descriptors(),
                workload.sockets.len()
            );
        }
        Command::Schema => outln!("{:#}", File::schema()),
    }
    Ok(ExitCode::SUCCESS)
}

fn create(file: &Path) -> io::Result<()> {
    let mut created = Created::options().write(true).create_new(true).open(file)?;
    created.write_all(TEMPLATE.as_bytes())
}

fn wrong(file: &Path, error: &io::Error) -> Failure {
    let shown = file.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Failure::of(
            Exit::Output,
            format!("{shown} exists already: name another file, or remove it"),
        );
    }
    Failure::of(Exit::Output, format!("{shown} cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template, and what it has in comments behind `#`, without a space between.
    #[test]
    fn the_template_is_valid_with_and_without_its_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Enarx.toml");
        create(&path).unwrap();
        let plain = Workload::read(Some(&path)).unwrap();
        assert_eq!(plain.descriptors(), 3);
        assert_eq!(plain.streams, Workload::default().streams);
        assert!(plain.sockets.is_empty() && plain.warnings.is_empty());
        assert_eq!(
            create(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let lines = TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        let whole: Vec<_> = lines.collect();
        std::fs::write(&path, whole.join("\n")).unwrap();
        let failure = Workload::read(Some(&path)).unwrap_err();
        // It gets as far as the missing certificate.
        assert!(failure.sentence.contains("key.pem"), "{failure:?}");
        assert_eq!(failure.exit(), Exit::Input);
    }
}
