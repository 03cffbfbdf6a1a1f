// SPDX-License-Identifier: Apache-2.0

//! The hosts that are asked, and the tokens that they are shown.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use enarx_agent::{Target, check_token};
use zeroize::Zeroizing;

use super::flags::Arguments;
use crate::failure::Failure;
use crate::hosts;
use crate::input::{in_time, read_up_to};
use crate::typed::Flag;
use crate::values::given_or_from_environment;

/// Longest token in bytes that is read from a file.
const MAX_TOKEN: u64 = 4096;

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Arguments {
    /// Checks that the environment does not name two hosts, this machine and another. A flag counts more than a variable.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`].
    pub fn check_host(&self) -> Result<(), Failure> {
        let others = ["ENARX_TO", "ENARX_HOSTS"];
        let other = others.iter().find(|name| variable(name).is_some());
        match other.filter(|_| self.local && !self.typed.has(Flag::Local)) {
            Some(other) => Err(Failure::usage(format!(
                "ENARX_LOCAL and {other} both name the host: unset one, or give --local"
            ))),
            None => Ok(()),
        }
    }

    /// The list of hosts, if one is named. A flag counts more than a variable.
    fn list(&self) -> Result<Option<PathBuf>, Failure> {
        if self.hosts.is_some() || !self.to.is_empty() {
            return Ok(self.hosts.clone());
        }
        let Some(list) = variable("ENARX_HOSTS") else {
            return Ok(None);
        };
        if variable("ENARX_TO").is_some() {
            return Err(Failure::usage(
                "ENARX_HOSTS and ENARX_TO both name hosts: unset one, or give --hosts or --to",
            ));
        }
        if !self.token_files.is_empty() {
            return Err(Failure::usage(
                "--token-file is for hosts of --to, but the list in ENARX_HOSTS has a token for each host: give --to, \
                or leave --token-file out",
            ));
        }
        Ok(Some(list.into()))
    }

    /// The hosts, in the order in which they are asked.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`] for flags that name none or do not go together; those of reading.
    pub fn targets(&self, end: Option<Instant>) -> Result<Vec<Target>, Failure> {
        if let Some(list) = self.list()? {
            let listed = in_time(&list, end, hosts::read)?;
            return listed
                .iter()
                .map(|host| {
                    let token = in_time(&host.token_file, end, read_token)?;
                    Target::parse(&host.to, token)
                        .map_err(|error| Failure::data(format!("{}: {error}", list.display())))
                })
                .collect();
        }
        let to = given_or_from_environment(&self.to, "ENARX_TO", |line| Ok(line.to_owned()))?;
        if to.is_empty() {
            return Err(Failure::usage(
                "name a host with --to, as its `enarx host serve` prints it, or a list of hosts with --hosts, or use --local",
            ));
        }
        let tokens = tokens(&self.token_files, end)?;
        if tokens.len() != 1 && tokens.len() != to.len() {
            return Err(Failure::usage(format!(
                "--token-file: give one for all hosts, or one for each of the {} in their order",
                to.len()
            )));
        }
        if tokens.len() < to.len() {
            say!(
                "enarx: one token is shown to all {} hosts, and each could use it at the others: give one for each \
                (--token-file for each, or --hosts)",
                to.len()
            );
        }
        let tokens = tokens.iter().cycle();
        let targets = to.iter().zip(tokens);
        targets
            .map(|(to, token)| target(to, token.clone()))
            .collect()
    }
}

/// A host.
///
/// # Errors
/// [`crate::failure::Exit::Usage`].
pub fn target(to: &str, token: Zeroizing<String>) -> Result<Target, Failure> {
    Target::parse(to, token).map_err(|error| Failure::usage(error.to_string()))
}

/// The tokens in these files, or in those that the environment names, read by `end`.
///
/// # Errors
/// [`crate::failure::Exit::Usage`] when none is named, and those of reading.
pub fn tokens(given: &[PathBuf], end: Option<Instant>) -> Result<Vec<Zeroizing<String>>, Failure> {
    let file = |line: &str| Ok(PathBuf::from(line));
    let files = given_or_from_environment(given, "ENARX_TOKEN_FILE", file)?;
    if files.is_empty() {
        return Err(Failure::usage(
            "name the file with the token for the host with --token-file",
        ));
    }
    files
        .iter()
        .map(|path| in_time(path, end, read_token))
        .collect()
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = Zeroizing::new(read_up_to(path, MAX_TOKEN)?);
    // Another file's content is not repeated: it may be a secret of another kind.
    let token = std::str::from_utf8(&bytes).map_or("", str::trim);
    check_token(token).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    Ok(Zeroizing::new(token.to_owned()))
}
