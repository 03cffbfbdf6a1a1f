// SPDX-License-Identifier: Apache-2.0

//! Why a command ends without success: one sentence for the user, a name for programs, and the exit code of its kind. The
//! table of exit codes in help texts is made here; the README has the same, and a test compares them.

use std::fmt::Write;
use std::process::ExitCode;

use enarx_attestation::Check;
use enarx_exits::exit_code;

/// The kinds of ends without success, by the exit code of each. Those of files and services are of sysexits(3), as is the
/// code of a Keep that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that has no code of its own.
    Other,
    /// Wrong command line.
    Usage,
    /// A verification says no.
    Refused,
    /// A file has wrong contents (`EX_DATAERR`).
    Data,
    /// A file cannot be read (`EX_NOINPUT`).
    Input,
    /// This machine lacks the requested Keep (`EX_UNAVAILABLE`).
    Unavailable,
    /// The Keep failed (`EX_SOFTWARE`).
    Fault,
    /// Something cannot be written (`EX_IOERR`).
    Output,
    /// The network or a service in it (`EX_TEMPFAIL`).
    Network,
    /// The time limit was reached.
    TimedOut,
}

impl Exit {
    /// All of them, in the order of their codes.
    const ALL: [Self; 10] = [
        Self::Other,
        Self::Usage,
        Self::Refused,
        Self::Data,
        Self::Input,
        Self::Unavailable,
        Self::Fault,
        Self::Output,
        Self::Network,
        Self::TimedOut,
    ];

    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Other => exit_code::FAILURE,
            Self::Usage => exit_code::USAGE,
            Self::Refused => 3,
            Self::Data => 65,
            Self::Input => 66,
            Self::Unavailable => 69,
            Self::Fault => exit_code::FAULT,
            Self::Output => exit_code::UNWRITTEN,
            Self::Network => 75,
            Self::TimedOut => exit_code::TIMED_OUT,
        }
    }

    /// The name of a failure that has none of its own.
    const fn name(self) -> &'static str {
        match self {
            Self::Other => "command.failed",
            Self::Usage => "command.usage",
            Self::Refused => "evidence.refused",
            Self::Data => "file.data",
            Self::Input => "file.unreadable",
            Self::Unavailable => "machine.unavailable",
            Self::Fault => "keep.failed",
            Self::Output => "output.unwritten",
            Self::Network => "network.failed",
            Self::TimedOut => "time.over",
        }
    }

    /// The meaning, for the table.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Other => "any other error; of `run` also: the program could not be started",
            Self::Usage => "wrong command line, or a wrong variable",
            Self::Refused => {
                "evidence, a token about it, or a signed manifest was verified and is refused"
            }
            Self::Data => "a file has wrong contents",
            Self::Input => "a file cannot be read",
            Self::Unavailable => {
                "this machine does not offer the Keep that was asked for, or could not start it"
            }
            Self::Fault => "the Keep failed, through no fault of the program",
            Self::Output => "a file or the result cannot be written",
            Self::Network => "the network, or a service in it, failed: try again",
            Self::TimedOut => "the time limit (`--timeout`) was reached",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of the exit codes of all commands, a line each.
pub fn table() -> String {
    let success = (
        "0".to_owned(),
        "success; of `verify`: the evidence is accepted",
    );
    let of_program = (
        "0 to 125".to_owned(),
        "of `run` and `deploy`: the program's own; larger ones become 1, as with Wasmtime",
    );
    let trap = (
        exit_code::TRAP.to_string(),
        "the program trapped; message and backtrace are on standard error",
    );
    let failures = Exit::ALL.map(|exit| (exit.code().to_string(), exit.meaning()));
    let rows = [success, of_program]
        .into_iter()
        .chain(failures)
        .chain([trap]);
    let mut text = String::new();
    for (codes, meaning) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {codes:<8}  {meaning}");
    }
    text
}

/// Why a command ends without success.
#[derive(Debug)]
pub struct Failure {
    /// The kind.
    exit: Exit,
    /// The name, if it has one of its own.
    name: Option<String>,
    /// The checks of a verifier that failed.
    checks: Vec<Check>,
    /// The cause and its remedy, one sentence. It may quote hostile text, which is made fit to be shown where it is printed.
    pub sentence: String,
}

impl Failure {
    /// A failure of one of the kinds.
    pub fn of(exit: Exit, sentence: impl Into<String>) -> Self {
        Self {
            exit,
            name: None,
            checks: Vec::new(),
            sentence: without_numbers(sentence.into()),
        }
    }

    /// The same, with a name of its own, which stays as it is.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same, as one of another kind.
    pub fn of_kind(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, with more at the end of its sentence.
    pub fn with(mut self, more: &str) -> Self {
        self.sentence.push_str(more);
        self
    }

    /// The same, because these checks failed.
    pub fn with_checks(mut self, checks: Vec<Check>) -> Self {
        self.checks = checks;
        self
    }

    /// One that has no kind of its own.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self::of(Exit::Other, sentence)
    }

    /// A wrong command line.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::of(Exit::Usage, sentence)
    }

    /// A file with wrong contents.
    pub fn data(sentence: impl Into<String>) -> Self {
        Self::of(Exit::Data, sentence)
    }

    /// The name of a failure, stable.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.exit.name())
    }

    /// Its kind.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The exit code.
    pub const fn code(&self) -> u8 {
        self.exit.code()
    }

    /// The checks that failed, when that is why.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}

/// The text of system errors without their numbers, which are no use to readers.
fn without_numbers(mut text: String) -> String {
    const OS_ERROR_PREFIX: &str = " (os error ";
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(OS_ERROR_PREFIX)) {
        let start = from + found;
        let number = start + OS_ERROR_PREFIX.len();
        let digits = text.bytes().skip(number);
        let end = number + digits.take_while(u8::is_ascii_digit).count();
        if end > number && text.get(end..).is_some_and(|rest| rest.starts_with(')')) {
            text.replace_range(start..=end, "");
            from = start;
        } else {
            from = number;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_numbers_of_errors_are_left_out() {
        for (text, without) in [
            ("a: No such file (os error 2)", "a: No such file"),
            ("(os error 2): b (os error 13)", "(os error 2): b"),
            ("a (os error 2); b (os error 13): c", "a; b: c"),
            ("ü (os error ) (os error 1", "ü (os error ) (os error 1"),
            ("ü (os error 1x)", "ü (os error 1x)"),
            ("", ""),
        ] {
            assert_eq!(without_numbers(text.to_owned()), without);
        }
    }

    #[test]
    fn exit_codes_are_unique_and_in_order() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [1, 2, 3, 65, 66, 69, 70, 74, 75, 124]);
        assert_eq!(table().lines().count(), codes.len() + 3);
        let names: HashSet<_> = Exit::ALL.map(Exit::name).into();
        assert_eq!(names.len(), codes.len());
    }
}
