// SPDX-License-Identifier: Apache-2.0

//! The cost of a Keep against native Wasmtime of the same version: one command, one table.
//!
//! Every figure is measured in this run, on both sides in turns, and is the median of the turns.
//! `README.md` says what each row means.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for developers, which may end when nobody reads it"
)]

mod build;
mod calls;
mod deploy;
mod error;
mod http;
mod machine;
mod measure;
mod measured;
mod network;
mod plan;
mod programs;
mod sections;
mod statistics;
mod table;
mod timings;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::error::Error;
use crate::measure::{Programs, Side};
use crate::plan::Plan;

/// Turns of an ordinary run; at least 5, so that one disturbance moves no median.
const RUNS: u32 = 7;
/// Turns of `--quick`.
const QUICK_RUNS: u32 = 3;

/// Measures Keeps against native Wasmtime of the same version.
#[derive(Parser)]
#[command(name = "enarx-bench")]
struct Arguments {
    /// Fewer turns and shorter kernels: half a minute, for a first look
    #[arg(long)]
    quick: bool,
    /// Turns of every measurement
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Measure this `enarx` command instead of the one of this source
    #[arg(long, value_name = "PATH")]
    enarx: Option<PathBuf>,
    /// Measure against this `native-wasmtime` instead of the one of this source
    #[arg(long, value_name = "PATH")]
    native: Option<PathBuf>,
    /// The `wasmtime` command whose `serve` servers are measured against (section `http`)
    #[arg(long, value_name = "PATH")]
    wasmtime: Option<PathBuf>,
    /// Sections to measure; all of them unless it is said
    #[arg(long, value_name = "SECTION", value_enum, value_delimiter = ',')]
    only: Vec<sections::Section>,
}

fn main() -> ExitCode {
    // A measurement runs in a process of its own, whose only child is what is measured.
    let mut own = std::env::args_os().skip(1);
    if own.next().is_some_and(|first| first == measure::RUNNER) {
        return measure::runner(&own.collect::<Vec<_>>());
    }
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("enarx-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<(), Error> {
    let built = match (&arguments.enarx, &arguments.native) {
        (Some(_), Some(_)) => None,
        _ => Some(build::build()?),
    };
    let choose = |given: &Option<PathBuf>, built: Option<PathBuf>| {
        given.clone().or(built).unwrap_or_default()
    };
    let programs = Programs {
        enarx: choose(
            &arguments.enarx,
            built.as_ref().map(|all| all.enarx.clone()),
        ),
        native: choose(&arguments.native, built.map(|all| all.native)),
    };
    let plan = Plan {
        runs: arguments
            .runs
            .unwrap_or(if arguments.quick { QUICK_RUNS } else { RUNS }),
        quick: arguments.quick,
        sides: sides(&programs)?,
        programs,
        wasmtime: arguments.wasmtime.clone(),
    };
    machine::print(&plan);
    let all = sections::Section::ALL;
    let wanted = if arguments.only.is_empty() {
        &all[..]
    } else {
        &arguments.only[..]
    };
    for section in wanted {
        section.print(&plan)?;
    }
    machine::print_load("at the end");
    Ok(())
}

/// Returns the sides that can be measured here: the yardstick first, then every kind of Keep that starts.
fn sides(programs: &Programs) -> Result<Vec<Side>, Error> {
    let hello = build::workspace().join("examples/hello.wasm");
    let mut sides = Vec::new();
    for side in [Side::Native, Side::Kvm, Side::Process] {
        match measure::run(programs, side, &measure::Job::new(hello.clone())) {
            Ok(_) => sides.push(side),
            Err(error) if side == Side::Native => return Err(error),
            Err(error) => println!("The {side} is not measured: {error}\n"),
        }
    }
    Ok(sides)
}
