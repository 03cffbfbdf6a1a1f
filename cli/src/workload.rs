// SPDX-License-Identifier: Apache-2.0

//! `--config`: an Enarx.toml as of Enarx 0.7, as far as it needs no network. The tenant's own, and trusted.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;

use enarx_configuration::Terminals;
use serde::Deserialize;

use crate::failure::Failure;
use crate::keys::{self, Keys};
use crate::options::nearest;
use crate::values;

/// The keys of a file.
const KEYS: Keys = Keys {
    known: &["args", "env", "files", "steward"],
    below: &[("files", &["kind", "name", "prot", "addr", "port", "host"])],
};
/// The kinds of entry in `files`.
const KINDS: [&str; 6] = ["null", "stdin", "stdout", "stderr", "listen", "connect"];

/// A file as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    steward: Option<String>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    files: Option<Vec<Entry>>,
}

/// A descriptor of the program. What is for the network alone is not read.
#[derive(Deserialize)]
struct Entry {
    kind: String,
    name: Option<String>,
}

/// The other end of a standard stream of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Nothing comes, and what is written is gone.
    Null,
    /// Standard input of this command.
    Stdin,
    /// Standard output of this command.
    Stdout,
    /// Standard error of this command.
    Stderr,
}

/// The parts of a program's start that a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Arguments; those of the command line replace them.
    pub args: Vec<String>,
    /// Variables; those of the command line come later, and count.
    pub env: Vec<(String, String)>,
    /// Standard input, output and error.
    pub streams: [Stream; 3],
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl Default for Workload {
    /// Nothing, and the streams of this command.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            streams: [Stream::Stdin, Stream::Stdout, Stream::Stderr],
            warnings: Vec::new(),
        }
    }
}

impl Workload {
    /// Reads a file, if one is named.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for keys, values and descriptors that are not offered.
    pub fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let file: File = keys::read(path, KEYS)?;
        let shown = path.display();
        let mut warnings = Vec::new();
        if let Some(steward) = &file.steward {
            warnings.push(format!(
                "{shown}: the steward {steward} is not asked: applications get no certificates yet"
            ));
        }
        let wrong = |place: String, why: &str| Failure::data(format!("{shown}: {place}: {why}"));
        for (name, value) in &file.env {
            values::check_variable(name, value)
                .map_err(|why| wrong(format!("env.{}", name.escape_debug()), why))?;
        }
        if let Some(number) = file.args.iter().position(|it| it.contains('\0')) {
            return Err(wrong(
                format!("args[{number}]"),
                "an argument cannot have NUL",
            ));
        }
        let mut env: Vec<_> = file.env.into_iter().collect();
        let entries = file.files.unwrap_or_default();
        if entries.is_empty() {
            warnings.push(format!(
                "{shown} names no [[files]]: the program has no standard streams, as in Enarx 0.7"
            ));
        }
        let mut streams = [Stream::Null; 3];
        for (fd, entry) in entries.iter().enumerate() {
            let stream = entry
                .stream(fd)
                .map_err(|why| Failure::data(format!("{shown}: {why}")))?;
            if let Some(place) = streams.get_mut(fd) {
                *place = stream;
            }
        }
        // As in 0.7, where programs find their descriptors by these.
        let names: Vec<_> = entries.iter().map(Entry::name).collect();
        env.push(("FD_COUNT".to_owned(), names.len().to_string()));
        env.push(("FD_NAMES".to_owned(), names.join(":")));
        Ok(Self {
            args: file.args,
            env,
            streams,
            warnings,
        })
    }

    /// Says the warnings, each in one line, whatever they quote.
    pub fn warn(&self) {
        for warning in &self.warnings {
            crate::output::complain(warning);
        }
    }

    /// The arguments of the command line, or else those of the file.
    pub fn arguments(&self, given: Vec<String>) -> Vec<String> {
        if given.is_empty() {
            self.args.clone()
        } else {
            given
        }
    }

    /// The variables of the file, and then those of the command line.
    pub fn variables(&self, given: Vec<(String, String)>) -> Vec<(String, String)> {
        self.env.iter().cloned().chain(given).collect()
    }

    /// The program's standard streams that are terminals.
    pub fn terminals(&self) -> Terminals {
        let [stdin, stdout, stderr] = self.streams.map(Stream::is_terminal);
        Terminals {
            stdin,
            stdout,
            stderr,
        }
    }
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Self::Null => false,
            Self::Stdin => io::stdin().is_terminal(),
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }
}

impl Entry {
    /// Its name in `FD_NAMES`.
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }

    /// The stream at this descriptor of the program.
    fn stream(&self, fd: usize) -> Result<Stream, String> {
        if self.name().contains([':', '\0']) {
            return Err(format!(
                "files[{fd}]: the name {} has a colon or NUL, which FD_NAMES cannot have",
                self.name().escape_debug()
            ));
        }
        let stream = match self.kind.as_str() {
            "null" => Stream::Null,
            "stdin" => Stream::Stdin,
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            "listen" | "connect" => {
                return Err(format!(
                    "files[{fd}] is {}: network by Enarx.toml does not exist yet, neither for `deploy` nor for `run` (which has -S tcp)",
                    self.kind
                ));
            }
            other => {
                let known = KINDS.map(str::to_owned);
                let near = nearest(other, &known).map_or_else(
                    || format!("use {}", KINDS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(format!("files[{fd}]: there is no kind {other}: {near}"));
            }
        };
        let is_offered = match fd {
            0 => matches!(stream, Stream::Null | Stream::Stdin),
            1 | 2 => !matches!(stream, Stream::Stdin),
            _ => false,
        };
        if is_offered {
            return Ok(stream);
        }
        Err(format!(
            "files[{fd}] is {}: descriptor 0 can be stdin or null, 1 and 2 stdout, stderr or null, and there are no others",
            self.kind
        ))
    }
}
