// SPDX-License-Identifier: Apache-2.0

//! The end of a deployment as its user sees it: lines on standard error, the receipt, the exit code.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use enarx_agent::Deployed;
use enarx_attestation::{Overall, Verdict};
use enarx_session::document::ExitKind;

use crate::failure::{Exit, Failure};
use crate::summary::{self, Json};
use crate::{receipt, values};

/// The parts of a run that are shown.
#[derive(Args)]
pub struct Shown {
    /// Write the receipt of the run to this file, and beside it FILE.certs, FILE.contract and FILE.deployment, which
    /// are needed to verify it
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Do not say which host was used and what its evidence proves
    #[arg(long, short, env = "ENARX_QUIET")]
    pub quiet: bool,
    /// Print where the time goes
    #[arg(long, env = "ENARX_TIMINGS")]
    timings: bool,
    #[command(flatten)]
    pub json: Json,
}

impl Shown {
    /// Checks that what is to be written can be, before there is anything to be told.
    ///
    /// # Errors
    /// [`Exit::Usage`] for two that go to the same place; [`Exit::Output`].
    pub fn check(&self) -> Result<(), Failure> {
        let receipt = self.receipt.iter().flat_map(|path| receipt::places(path));
        let mut places = HashSet::new();
        for path in receipt.chain(self.json.file().map(Path::to_owned)) {
            if !places.insert(values::place(&path)) {
                return Err(Failure::usage(format!(
                    "--json and --receipt would both write to {}: name two files",
                    path.display()
                )));
            }
        }
        self.json.check()?;
        self.receipt.as_deref().map_or(Ok(()), receipt::check)
    }
}

/// The revocation lists that a verdict rests on, with their dates; `None` for a simulated platform, whose lists say nothing.
fn lists(verdict: &Verdict) -> Option<&str> {
    let check = verdict.check(summary::AGE)?;
    (verdict.overall != Overall::Simulated).then_some(&check.actual)
}

/// Shows the end of a run; `over` is the tenant's time limit, if that was reached before.
///
/// # Errors
/// [`Exit::Output`] where the receipt cannot be written or output is missing; [`Exit::TimedOut`] and [`Exit::Other`] for a program
/// that was ended.
pub fn show(arguments: &Shown, deployed: &Deployed, over: Option<Duration>) -> Result<u8, Failure> {
    if !arguments.quiet {
        let overall = deployed.verdict.as_ref().map(|verdict| verdict.overall);
        let shown = match overall {
            Some(Overall::Simulated) => {
                "its evidence is accepted as simulated, which protects nothing"
            }
            Some(_) => "its evidence is accepted",
            None => "nothing proves what the Keep was",
        };
        for host in &deployed.passed_over {
            say!("enarx: passed over {host}");
        }
        say!("enarx: ran on {}: {shown}", deployed.host);
        if let Some(lists) = deployed.verdict.as_ref().and_then(lists) {
            say!("enarx: revocation lists: {lists}; --fetch-lists asks AMD for newer ones first");
        }
        if deployed.receipt.body.source.is_some() {
            say!(
                "enarx: it was native code: its receipt proves only what was started; the rest is the code's own claim"
            );
        }
    }
    if deployed.verdict.is_some() && deployed.receipt_verdict.is_none() {
        say!(
            "enarx: the receipt has no report, because the host let none through in time: it proves nothing to third parties"
        );
    }
    if arguments.timings {
        say!("enarx: deploy: claim {}", deployed.timings.claim.name());
        for (phase, duration) in summary::phases(&deployed.timings) {
            say!("enarx: deploy: {phase} {} us", duration.as_micros());
        }
        let started = deployed.started.iter().flat_map(|started| &started.timings);
        for timing in started {
            say!("enarx: keep: {} {} us", timing.phase.as_str(), timing.us);
        }
    }
    if let Some(path) = &arguments.receipt {
        receipt::write(path, deployed)?;
    }
    let missing = deployed
        .missing_stdout
        .saturating_add(deployed.missing_stderr);
    let streams = &deployed.receipt.body.streams;
    let dropped = streams
        .stdout
        .dropped
        .saturating_add(streams.stderr.dropped);
    if missing > dropped {
        return Err(Failure::of(
            Exit::Output,
            format!("{missing} bytes of the program's output are lost: another command took them"),
        )
        .named("output.missing"));
    }
    if missing > 0 && !arguments.quiet {
        say!(
            "enarx: {missing} bytes of the program's output are lost: nobody was attached, and there was more than its Keep retains"
        );
    }
    let exit = deployed.exit;
    match exit.kind {
        // As a shell sees it: the lower 8 bits.
        ExitKind::Exited | ExitKind::Trapped | ExitKind::Failed => Ok(exit.code.to_le_bytes()[0]),
        ExitKind::Stopped => Err(match over {
            None => Failure::new("the program was stopped before its end").named("program.stopped"),
            Some(limit) => Failure::of(
                Exit::TimedOut,
                format!(
                    "the time limit of {limit:?} was reached and the program was ended: give --timeout more"
                ),
            ),
        }),
        ExitKind::Expired => Err(Failure::of(
            Exit::TimedOut,
            "the program's time was over and the Keep ended it: give --timeout more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lists_of_genuine_platforms_are_named() {
        let verdict = |overall: &str| -> Verdict {
            let check = json!({
                "name": "crl.age", "outcome": "skipped", "expected": "", "actual": "list 1: of 2026-11-01T00:00:00Z",
            });
            let verdict = json!({
                "overall": overall, "tee": "sev-snp", "policy": "", "at_unix": 0, "claims": {}, "not_compared": [],
                "checks": [check],
            });
            serde_json::from_value(verdict).unwrap()
        };
        let named = verdict("valid");
        assert_eq!(lists(&named), Some("list 1: of 2026-11-01T00:00:00Z"));
        assert_eq!(lists(&verdict("simulated")), None);
    }
}
