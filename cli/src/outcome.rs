// SPDX-License-Identifier: Apache-2.0

//! The end of a run as users and measurements see it: exit code, sentences, and the data of `--timings`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use enarx_executor::launch::{Outcome, Report, Run};

use crate::failure::{Exit, Failure};

/// Shows a run and turns its outcome into the command's.
///
/// # Errors
/// [`Failure`] when the Keep ended by a fault or at its `limit`, or the report cannot be written.
pub fn show(
    run: &Run,
    limit: Option<Duration>,
    timings: bool,
    report_to: Option<&Path>,
) -> Result<ExitCode, Failure> {
    warn(&run.report);
    if timings {
        show_timings(&run.report);
    }
    if let Some(path) = report_to {
        write(&run.report, path)?;
    }
    match &run.outcome {
        // As a shell sees it: the lower 8 bits.
        Outcome::Exit(code) => Ok(ExitCode::from(code.to_le_bytes()[0])),
        Outcome::Fault(fault) => Err(Failure::of(Exit::Fault, fault.to_string())),
        Outcome::TimedOut => Err(Failure::of(
            Exit::TimedOut,
            format!(
                "the time limit of {:?} was reached and the Keep was ended: give --timeout more, or leave it out",
                limit.unwrap_or_default()
            ),
        )),
    }
}

/// Prints what an operator should know, whether requested or not.
fn warn(report: &Report) {
    for correction in &report.corrections {
        say!("enarx: the firmware corrected the CPUID page: {correction}");
    }
    for name in &report.left_behind {
        say!(
            "enarx: the thread \"{name}\" hangs in a system call that it made for the Keep, and is left behind: check \
            the granted directories and streams"
        );
    }
}

fn show_timings(report: &Report) {
    for phase in &report.phases {
        say!(
            "enarx: vmm: {} {} us",
            phase.name,
            phase.duration.as_micros()
        );
    }
    for counter in &report.counters {
        say!("enarx: count: {} {}", counter.name, counter.count);
    }
    if !report.confinement.is_empty() {
        let confined = report.confinement.iter().map(|confined| {
            let holds = if confined.holds { "yes" } else { "NO" };
            format!("{} {holds}", confined.by)
        });
        say!(
            "enarx: confinement: {}",
            confined.collect::<Vec<_>>().join(", ")
        );
    }
    if !report.unlimited.is_empty() {
        say!(
            "enarx: this machine does not limit the guest's {}",
            report.unlimited.join(", ")
        );
    }
}

/// Writes the report as JSON.
fn write(report: &Report, path: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string(report).map_err(|error| Failure::new(error.to_string()))?;
    fs::write(path, json).map_err(|error| {
        Failure::of(
            Exit::Output,
            format!(
                "the report could not be written to {}: {error}: correct --report-to",
                crate::output::shown(path)
            ),
        )
    })
}
