// SPDX-License-Identifier: Apache-2.0

//! Flags that were typed. A variable may stand for all runs, and be of no effect in some; a flag that is typed is meant for
//! this one, so that it is refused where it would be of no effect.

use std::collections::HashSet;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use crate::failure::Failure;

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
    /// True if the flag of this name was typed.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Refuses a flag that was typed, by its name in the command's arguments, unless it `has` an effect; `why` begins with the
    /// flag.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`].
    pub fn refuse_unless(
        &self,
        has: bool,
        id: &str,
        why: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if has || !self.has(id) {
            return Ok(());
        }
        Err(Failure::usage(why()))
    }
}
