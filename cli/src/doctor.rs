// SPDX-License-Identifier: Apache-2.0

//! `enarx doctor`: what this machine offers, and what to do about missing features.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enarx_doctor::{Backend, BackendReport, Host, Report, examine};

use crate::failure::Failure;
use crate::first_day;
use crate::json::Json;
use crate::output::{print_json, print_states};

/// Show what this machine offers for each kind of Keep, what is missing, and what to type next.
///
/// The JSON is in the form that its field `schema` names.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  enarx doctor\n  enarx doctor --json\n  enarx doctor --first-day --report first-day.txt"
)]
pub struct Arguments {
    #[command(flatten)]
    pub json: Json,
    /// Try SEV-SNP hardware step by step, from a guest of a few instructions to a Keep's evidence, and report what each
    /// step saw; takes some minutes
    #[arg(long)]
    first_day: bool,
    /// Write the report of --first-day to this file too
    #[arg(long, value_name = "FILE", requires = "first_day")]
    report: Option<PathBuf>,
    /// Rehearse --first-day on the simulated platform, on any machine with KVM: what needs hardware is not tried
    #[arg(long, requires = "first_day")]
    rehearse: bool,
    /// Run only this step of --first-day, in this process
    #[arg(long, hide = true, value_name = "NAME", requires = "first_day", conflicts_with_all = ["report", "rehearse"])]
    step: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]: the first day could not begin, or one of its steps failed.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Some(name) = &arguments.step {
        return first_day::step(name);
    }
    let report = examine(&Host::new());
    if arguments.first_day {
        let Arguments { rehearse, json, .. } = arguments;
        return first_day::run(&report, *rehearse, json.on, arguments.report.as_deref());
    }
    if arguments.json.on {
        print_json(&serde_json::json!(report));
    } else {
        print_states(&report.to_tree());
    }
    Ok(ExitCode::SUCCESS)
}

/// One sentence for `--require-tee`: `backend` does not protect the application from this machine, and what would.
pub fn no_tee(backend: Backend) -> String {
    let report = examine(&Host::new());
    let protecting = |other: &&BackendReport| other.protects_application && other.usable;
    if let Some(other) = report.backends.iter().find(protecting) {
        return format!(
            "--require-tee: backend {backend} does not protect the application from this machine; give --backend {}, which does",
            other.name
        );
    }
    let causes: Vec<String> = report
        .backends
        .iter()
        .filter(|backend| backend.protects_application)
        .map(|backend| match backend.obstacle() {
            Some(check) => format!("{}: {} ({})", backend.name, check.name, check.found),
            None => format!("{}: not built into this command", backend.name),
        })
        .collect();
    no_tee_sentence(&causes, &report)
}

fn no_tee_sentence(causes: &[String], report: &Report) -> String {
    format!(
        "--require-tee: no trusted execution environment can be used on {}; missing are {}; `enarx doctor` says what to do",
        report.cpu,
        causes.join("; ")
    )
}
