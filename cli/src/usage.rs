// SPDX-License-Identifier: Apache-2.0

//! The command line as a whole: rules that clap does not cover, and the messages for errors.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::{BoolishValueParser, Resettable, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::failure::{self, Exit, Failure};
use crate::{output, summary};

/// The end of every help text but those that have the table of exit codes.
const SEE_EXIT_CODES: &str = "Exit codes: see `enarx --help`";

/// The commands whose standard output is a program's: their JSON goes elsewhere.
const DEPLOYMENTS: [&str; 2] = ["deploy", "attach"];

/// The commands whose last words are a program's, and that have no JSON.
const PROGRAMS: [&str; 2] = ["run", "serve"];

/// The command line, from what is derived of it.
pub fn command(derived: Command) -> Command {
    let examples = "Examples:\n  enarx run hello.wasm\n  enarx run --dir data::/data:ro tool.wasm --verbose /data/input\n  \
                    enarx deploy --local hello.wasm\n  enarx doctor\n  enarx verify report.bin --certs certs/";
    let table = format!(
        "Exit codes of all commands:\n{}\n{examples}",
        failure::table()
    );
    with_variables(derived).after_help(table)
}

/// The command line as far as the words on it need it: one command of those that there are, or all where none is named.
pub fn command_of_words(mut root: Command) -> Command {
    let first = first_word();
    if root.find_subcommand(&first).is_none() {
        root.build();
    }
    root
}

/// The arguments of a command, as all commands have them. They are described once the command line names the command.
pub struct Described<T>(Box<T>);

impl<T> Deref for Described<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Args> Args for Described<T> {
    fn augment_args(command: Command) -> Command {
        described(T::augment_args(command))
    }

    fn augment_args_for_update(command: Command) -> Command {
        described(T::augment_args_for_update(command))
    }
}

impl<T: FromArgMatches> FromArgMatches for Described<T> {
    fn from_arg_matches(matches: &ArgMatches) -> clap::error::Result<Self> {
        T::from_arg_matches(matches).map(|it| Self(Box::new(it)))
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> clap::error::Result<Self> {
        T::from_arg_matches_mut(matches).map(|it| Self(Box::new(it)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> clap::error::Result<()> {
        self.0.update_from_arg_matches(matches)
    }
}

fn described(command: Command) -> Command {
    let command = with_variables(command);
    match command.get_name() {
        // It has the table of them.
        "run" => command,
        _ => with_exit_codes(command),
    }
}

/// Has every flag take the words that people write into variables, and every empty variable count as none.
fn with_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let arg = if matches!(arg.get_action(), ArgAction::SetTrue) {
                arg.value_parser(BoolishValueParser::new())
            } else {
                arg
            };
            let empty = arg
                .get_env()
                .and_then(env::var_os)
                .is_some_and(|value| value.is_empty());
            if empty {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(with_variables)
}

fn with_exit_codes(command: Command) -> Command {
    let help = match command.get_after_help() {
        Some(examples) => format!("{examples}\n\n{SEE_EXIT_CODES}"),
        None => SEE_EXIT_CODES.to_owned(),
    };
    command.after_help(help).mut_subcommands(with_exit_codes)
}

/// Prints help where it was asked for, and what is wrong with this command line otherwise.
pub fn report(error: &clap::Error, root: Command) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::printed(error.print().and_then(|()| io::stdout().flush()));
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A message on standard error: see `output::say`.
            let _ = error.print();
            Exit::Usage.into()
        }
        _ => wrong(error, root),
    }
}

/// Says what is wrong in clap's words, with the usage of the command in question.
fn wrong(error: &clap::Error, mut root: Command) -> ExitCode {
    root.build();
    let rendered = error.render().to_string();
    let text = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        // Behind `--` it would be the program.
        .filter(|line| !line.trim_start().starts_with("tip: to pass '"))
        .map(str::to_owned)
        .collect();
    let of_other = tip_for_other_command(error);
    if of_other.is_some() {
        // It is not a mistyped word.
        lines.retain(|line| !line.trim_start().starts_with("tip: a similar argument"));
    }
    let near = if rendered.contains("tip: ") {
        None
    } else {
        near_command(error, named_command(&mut root))
    };
    let tips = [
        program_for_command(error),
        near,
        variable(error, &root),
        no_text(error, named_command(&mut root)),
        of_wasmtime(error),
        of_other,
        two_dashes(error, named_command(&mut root)),
    ];
    let place = lines
        .iter()
        .position(|line| line.starts_with("Usage:") || line.starts_with("For more"))
        .unwrap_or(lines.len());
    if !lines.iter().any(|line| line.starts_with("Usage:")) {
        lines.insert(place, usage_of_words(&mut root));
    }
    for tip in tips.into_iter().flatten() {
        lines.insert(place, format!("  tip: {tip}"));
    }
    let sentence: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .collect();
    let sentence = sentence.join(" ");
    let is_of_deployment = DEPLOYMENTS.contains(&first_word().as_str());
    if !is_of_deployment && json_is_asked_for() {
        output::print_error(&Failure::usage(sentence.as_str()));
    }
    say!("enarx: {}", lines.join("\n"));
    if is_of_deployment {
        summary::of_usage(env::args_os(), &sentence);
    }
    Exit::Usage.into()
}

/// The usage of the command that the words of the command line name.
fn usage_of_words(root: &mut Command) -> String {
    named_command(root).render_usage().to_string()
}

/// The command that the words of the command line name.
fn named_command(root: &mut Command) -> &mut Command {
    let mut named = root;
    let words = env::args_os().skip(1);
    for word in words.skip_while(|word| word.to_string_lossy().starts_with('-')) {
        let word = word.to_string_lossy();
        if named.find_subcommand(word.as_ref()).is_none() {
            break;
        }
        named = named
            .find_subcommand_mut(word.as_ref())
            .expect("it was found");
    }
    named
}

/// The value of a part of an error.
fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// A tip for a program in place of a command.
fn program_for_command(error: &clap::Error) -> Option<String> {
    let name = context(error, ContextKind::InvalidSubcommand)?;
    let path = Path::new(name);
    let wasm = path
        .extension()
        .is_some_and(|extension| extension == "wasm" || extension == "wat");
    (wasm || path.is_file()).then(|| format!("to run a program: enarx run {name}"))
}

/// A tip for a command whose name is too short for clap to tell that it was meant: a letter too many, too few, another, or two
/// in the wrong order.
fn near_command(error: &clap::Error, of: &Command) -> Option<String> {
    let name = context(error, ContextKind::InvalidSubcommand)?;
    let mut names = of.get_subcommands().filter(|known| !known.is_hide_set());
    let near = names.find(|known| strsim::osa_distance(name, known.get_name()) == 1)?;
    Some(format!(
        "a similar subcommand exists: '{}'",
        near.get_name()
    ))
}

/// A tip for a flag of `enarx run` that `enarx deploy` does not have, and for arguments of the program in place of flags.
fn tip_for_other_command(error: &clap::Error) -> Option<String> {
    let option = context(error, ContextKind::InvalidArg)
        .filter(|_| error.kind() == ErrorKind::UnknownArgument && first_word() == "deploy")?;
    let tip = match option {
        "--dir" => "a deployed program has no directories of its host: deliver files with --file",
        "--backend" => "the host decides the kind of its Keeps, and --policy which are accepted",
        "-S" | "--wasi" => {
            "a deployed program has the network that --allow-connect, --allow-listen and --allow-resolve name"
        }
        word if !word.starts_with('-') => {
            return Some(format!("arguments of the program follow --: -- {word}"));
        }
        _ => return None,
    };
    Some(tip.to_owned())
}

/// A tip for a long flag that was typed with one dash, which are several short ones.
fn two_dashes(error: &clap::Error, of: &Command) -> Option<String> {
    let _ = context(error, ContextKind::InvalidArg)
        .filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let known = |name: &str| of.get_arguments().any(|arg| arg.get_long() == Some(name));
    let words = env::args_os().skip(1);
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    words.find_map(|word| {
        let name = word.strip_prefix('-')?.split('=').next()?;
        known(name).then(|| format!("write --{name}"))
    })
}

/// Options of `wasmtime run` and `wasmtime serve` that have no equal here.
const WASMTIME_OPTIONS: [&str; 10] = [
    "-O",
    "--optimize",
    "-C",
    "--codegen",
    "-D",
    "--debug",
    "-g",
    "--profile",
    "--preload",
    "--argv0",
];

/// A tip for an option that a user of Wasmtime knows.
fn of_wasmtime(error: &clap::Error) -> Option<String> {
    let option = context(error, ContextKind::InvalidArg)?;
    if option == "--mapdir" {
        return Some(
            "write --dir HOST::GUEST, as current versions of Wasmtime have it, too".to_owned(),
        );
    }
    let known = WASMTIME_OPTIONS.contains(&option) && PROGRAMS.contains(&first_word().as_str());
    known.then(|| format!("Wasmtime has {option}, but Enarx has no such option: leave it out"))
}

/// The variable that a wrong value came from.
fn variable(error: &clap::Error, root: &Command) -> Option<String> {
    let (arg, value) = (
        context(error, ContextKind::InvalidArg)?,
        context(error, ContextKind::InvalidValue)?,
    );
    let given = |arg: &Arg| {
        let flags = [
            arg.get_long().map(|long| format!("--{long}")),
            arg.get_short().map(|short| format!("-{short}")),
        ];
        let is = |word: &OsString| {
            let word = word.to_string_lossy();
            flags.iter().flatten().any(|flag| word.starts_with(flag))
        };
        env::args_os().any(|word| is(&word))
    };
    let of = |found: &Arg| {
        let name = found.get_env()?;
        // Some take several values.
        let set = env::var_os(name)?.into_string().ok()?;
        let from_here = found.to_string() == arg && set.split(',').any(|part| part == value);
        (from_here && !given(found)).then(|| name.to_string_lossy().into_owned())
    };
    let name = find(root, &of)?;
    Some(format!("the value comes from the variable {name}"))
}

/// The words and variables that are no text, where that is wrong.
fn no_text(error: &clap::Error, of: &Command) -> Option<String> {
    if error.kind() != ErrorKind::InvalidUtf8 {
        return None;
    }
    let words = env::args_os()
        .skip(1)
        .filter(|word| word.to_str().is_none());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let names = of.get_arguments().filter_map(Arg::get_env);
    let names = names.filter(|name| env::var_os(name).is_some_and(|it| it.to_str().is_none()));
    let names = names.map(|name| format!("the variable {}", name.to_string_lossy()));
    let found: Vec<_> = words.chain(names).collect();
    (!found.is_empty()).then(|| format!("not text in UTF-8: {}", found.join(", ")))
}

/// The first answer for an argument of a command or of those below it.
fn find(command: &Command, of: &dyn Fn(&Arg) -> Option<String>) -> Option<String> {
    let own = command.get_arguments().find_map(of);
    own.or_else(|| {
        command
            .get_subcommands()
            .find_map(|command| find(command, of))
    })
}

/// The first word of the command line that is no flag.
fn first_word() -> String {
    let mut words = env::args_os().skip(1);
    let word = words.find(|word| !word.to_string_lossy().starts_with('-'));
    word.map_or_else(String::new, |word| word.to_string_lossy().into_owned())
}

/// True if a command line that cannot be understood asks for JSON.
fn json_is_asked_for() -> bool {
    // The words after a program are the program's.
    if PROGRAMS.contains(&first_word().as_str()) {
        return false;
    }
    let flag = env::args_os()
        .skip(1)
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    let variable = || {
        let set = env::var_os("ENARX_JSON").filter(|set| !set.is_empty());
        set.is_some_and(|set| {
            let parser = BoolishValueParser::new();
            matches!(
                parser.parse_ref(&Command::new("enarx"), None, &set),
                Ok(true)
            )
        })
    };
    flag || variable()
}
