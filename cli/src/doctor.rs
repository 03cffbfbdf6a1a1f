//! `enarx doctor`: what this machine offers, and what to do about what is missing.

use std::process::ExitCode;

use clap::Args;
use enarx_vmm::Backend;
use enarx_vmm::doctor::{BackendReport, Host, Report, examine};

use crate::Failure;

/// Show what this machine offers for every kind of Keep, what is missing, and what to type next.
#[derive(Args)]
#[command(after_help = "Examples:\n  enarx doctor\n  enarx doctor --json")]
pub struct Arguments {
    /// Print JSON (its form is stable: field `schema`)
    #[arg(long, env = "ENARX_JSON")]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let report = examine(&Host::new());
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&report);
        json.map_err(|error| {
            Failure::new(format!("the report could not be written as JSON: {error}"))
        })? + "\n"
    } else {
        report.to_tree()
    };
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Why `backend` is no Keep that protects the application from this machine, in one sentence.
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
