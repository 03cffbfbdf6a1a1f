// SPDX-License-Identifier: Apache-2.0

//! Flags that were typed. A variable may stand for all runs, and be of no effect in some; a flag that is typed is meant for
//! this one, so that it is refused where it would be of no effect.

use std::collections::HashSet;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use crate::failure::Failure;

/// A flag that a command wants to know of whether it was typed: the names of these are given to clap and asked for by this
/// type alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--fetch-lists`.
    FetchLists,
    /// `--insecure-fault-addresses`.
    InsecureFaultAddresses,
    /// `--local`.
    Local,
    /// `--sim`.
    Sim,
    /// `--store`.
    Store,
    /// `--tls-roots`.
    TlsRoots,
}

impl Flag {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 6] = [
        Self::FetchLists,
        Self::InsecureFaultAddresses,
        Self::Local,
        Self::Sim,
        Self::Store,
        Self::TlsRoots,
    ];

    /// The name of the argument among those of its command.
    pub const fn id(self) -> &'static str {
        match self {
            Self::FetchLists => "fetch_lists",
            Self::InsecureFaultAddresses => "insecure_fault_addresses",
            Self::Local => "local",
            Self::Sim => "sim",
            Self::Store => "store",
            Self::TlsRoots => "tls_roots",
        }
    }
}

/// The flags of a command that were typed. It is the first field of the command's arguments: those that come before it take
/// theirs out of the matches.
#[derive(Debug, Default)]
pub struct Typed {
    ids: HashSet<String>,
}

impl FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let typed =
            |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let ids = matches.ids().filter(typed).map(ToString::to_string);
        Ok(Self { ids: ids.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Typed {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl Typed {
    /// True if this flag was typed.
    pub fn has(&self, flag: Flag) -> bool {
        self.ids.contains(flag.id())
    }

    /// Refuses a flag that was typed, unless it `has` an effect; `why` begins with the flag.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`].
    pub fn refuse_unless(
        &self,
        has: bool,
        flag: Flag,
        why: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if has || !self.has(flag) {
            return Ok(());
        }
        Err(Failure::usage(why()))
    }
}
