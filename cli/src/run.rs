// SPDX-License-Identifier: Apache-2.0

//! `enarx run`: a WebAssembly program in a Keep on this machine. Its user is the host, and sees the program, its
//! arguments and its environment; the program is not trusted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::failure::{self, Failure};
use crate::local::flags::{KeepArguments, PROGRAM};
use crate::local::launch::launch;
use crate::local::work::Work;
use crate::workload::Workload;
use crate::{options, values};

const EXAMPLES: &str = "\
Examples:
  enarx run hello.wasm
  echo text | enarx run --env LANG=C filter.wasm --upper
  enarx run --dir data::/data:ro --dir out::/out --memory 2G tool.wasm /data/in /out/result
  enarx run --timeout 10s --invoke add numbers.wat 2 3
  enarx run --require-tee payroll.wasm    (refuses on a machine without SEV-SNP)";

/// The end of the help of this command.
fn after_help() -> String {
    format!(
        "{}\nExit codes:\n{}\n{EXAMPLES}",
        options::help(),
        failure::table()
    )
}

/// Run a WebAssembly program in a Keep.
///
/// The program is a core module (WASI preview 1) or a component (WASI 0.2), binary or text (.wat).
/// It sees what it is given here, and nothing else of this machine. This machine sees the program,
/// its arguments and its environment, in every kind of Keep.
#[derive(Args)]
#[command(
    after_help = after_help(),
    override_usage = "enarx run [OPTIONS] <MODULE> [ARGS]..."
)]
pub struct Arguments {
    /// Take arguments, variables, standard streams and sockets from an Enarx.toml, as in Enarx 0.7 (`enarx config`);
    /// options given here take precedence
    #[arg(help_heading = PROGRAM, long, value_name = "FILE", env = "ENARX_CONFIG")]
    config: Option<PathBuf>,

    /// End the Keep after this time (10, 10s, 500ms, 2m)
    #[arg(help_heading = PROGRAM, long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// Call this exported function with the arguments, and print its results
    #[arg(help_heading = PROGRAM, long, value_name = "NAME", env = "ENARX_INVOKE")]
    invoke: Option<String>,

    #[command(flatten)]
    keep: KeepArguments,

    /// The program, `-` for standard input, and its arguments: nothing after the program is read as a flag of this
    /// command
    #[arg(value_name = "MODULE", trailing_var_arg = true, required = true)]
    program: Vec<OsString>,
}

impl Arguments {
    /// The path of the program.
    fn module(&self) -> &Path {
        self.program.first().map_or(Path::new(""), Path::new)
    }

    /// The program's arguments. A `--` before them is a habit of other commands, and not one of them.
    fn rest(&self) -> Result<Vec<String>, Failure> {
        let given = self.program.get(1..).unwrap_or_default();
        let given = match given {
            [first, rest @ ..] if first == "--" => rest,
            all => all,
        };
        let text = |argument: &OsString| {
            argument.clone().into_string().map_err(|argument| {
                Failure::usage(format!(
                    "the argument {} is not text in UTF-8, which WASI requires",
                    argument.display()
                ))
            })
        };
        given.iter().map(text).collect()
    }
}

/// Runs the command.
///
/// # Errors
/// As [`launch`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let work = Work {
        workload: Workload::read(arguments.config.as_deref())?,
        module: arguments.module(),
        rest: arguments.rest()?,
        invoke: arguments.invoke.clone(),
        timeout: arguments.timeout,
        server: None,
    };
    launch(&arguments.keep, work)
}
