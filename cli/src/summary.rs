// SPDX-License-Identifier: Apache-2.0

//! `--json` of deployments: one JSON document at the end, also of a failure. Standard output is the program's, so the
//! document goes into a file, or as the last line to standard error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use enarx_agent::{DeployError, Deployed, Detached, Refused, Timings};
use enarx_attestation::Verdict;
use enarx_attestation::printable::printable_json;
use enarx_contract::Agreement;
use enarx_session::document::Started;
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};
use crate::output::{check, create, result_line, shown};

/// Version of the document.
const VERSION: u32 = 1;
/// Stands for standard error.
const STDERR: &str = "-";
/// The check that names the revocation lists of a verdict with their dates.
pub const AGE: &str = "crl.age";
/// The flag, as it is typed.
const FLAG: &str = "--json";

/// The form of the result.
#[derive(Args)]
pub struct Json {
    /// At the end, also after a failure, write one JSON document: into FILE, or as the last line on standard error
    #[arg(long = "json", value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = STDERR)]
    json: Option<PathBuf>,
}

/// A document in the making: every member is there from the beginning, and null while it is not known.
pub struct Summary(Map<String, Value>);

impl Default for Summary {
    fn default() -> Self {
        let members = [
            "exit_code",
            "error",
            "code",
            "host",
            "claim",
            "refused",
            "ticket",
            "end",
            "verdict",
            "receipt_verdict",
            "contract",
            "deployment",
            "receipt",
            "missing",
            "resumed",
            "timings_us",
            "keep_timings_us",
        ];
        let mut document = Map::new();
        document.insert("version".to_owned(), VERSION.into());
        document.extend(members.map(|member| (member.to_owned(), Value::Null)));
        document["refused"] = json!([]);
        Self(document)
    }
}

/// The judgement without its single checks.
fn verdict(verdict: &Verdict) -> Value {
    json!({
        "overall": verdict.overall,
        "policy": verdict.policy,
        "at_unix": verdict.at_unix,
        "not_compared": verdict.not_compared,
        "warnings": verdict.warnings,
        "revocation_lists": verdict.check(AGE).map(|check| &check.actual),
    })
}

fn contract(agreement: &Agreement) -> Value {
    // It was checked when it was made.
    let digest = agreement.verify().map(|it| it.digest().to_string()).ok();
    json!({ "sha256": digest, "agreement": agreement })
}

fn timings(timings: &Timings) -> Value {
    let phases = phases(timings);
    let phases = phases.map(|(name, duration)| (name.replace(' ', "_"), duration.as_micros()));
    let phases = phases.map(|(name, micros)| (name, u64::try_from(micros).unwrap_or(u64::MAX)));
    phases
        .into_iter()
        .map(|(name, micros)| (name, Value::from(micros)))
        .collect::<Map<_, _>>()
        .into()
}

/// The phases of the application's start, as the Keep tells them.
fn keep_timings(started: Option<&Started>) -> Option<Value> {
    let timings = &started?.timings;
    let phases = timings
        .iter()
        .map(|it| (it.phase.as_str().to_owned(), it.us.into()));
    Some(Value::Object(phases.collect()))
}

/// The phases by name.
pub fn phases(timings: &Timings) -> [(&'static str, std::time::Duration); 12] {
    [
        ("connect", timings.connect),
        ("post", timings.post),
        ("commit", timings.commit.unwrap_or_default()),
        ("launch", timings.launch),
        ("handshake", timings.handshake),
        ("evidence", timings.evidence),
        ("verdict", timings.verdict),
        ("transfer", timings.transfer),
        ("first byte", timings.first_byte.unwrap_or_default()),
        ("exit", timings.exit.unwrap_or_default()),
        ("run", timings.run),
        ("total", timings.total),
    ]
}

impl Summary {
    fn set(&mut self, member: &str, value: impl Into<Value>) {
        self.0.insert(member.to_owned(), value.into());
    }

    fn refused(&mut self, hosts: &[Refused]) {
        let hosts = hosts.iter().map(|host| {
            json!({
                "host": host.host,
                "code": host.code(),
                "reason": host.fault.to_string(),
                "checks": host.checks,
            })
        });
        self.set("refused", hosts.collect::<Vec<_>>());
    }

    /// Takes up a deployment that came to its end.
    pub fn complete(&mut self, deployed: &Deployed) {
        self.refused(&deployed.passed_over);
        self.set("host", deployed.host.as_str());
        self.set("claim", deployed.timings.claim.name());
        self.set("end", json!(deployed.exit));
        self.set("verdict", deployed.verdict.as_ref().map(verdict));
        let of_receipt = deployed.receipt_verdict.as_ref().map(verdict);
        self.set("receipt_verdict", of_receipt);
        self.set("contract", contract(&deployed.agreement));
        let digest = deployed.receipt.body.deployment;
        // A short secret can be guessed from the document, and what is printed here often ends in a log.
        let document = deployed.deployment.as_ref();
        let document = document.filter(|document| document.secrets.is_empty());
        self.set(
            "deployment",
            json!({ "sha256": digest, "document": document }),
        );
        self.set("receipt", json!(deployed.receipt));
        self.set("resumed", deployed.resumed);
        self.set(
            "missing",
            json!({ "stdout": deployed.missing_stdout, "stderr": deployed.missing_stderr }),
        );
        self.set("timings_us", timings(&deployed.timings));
        self.set("keep_timings_us", keep_timings(deployed.started.as_ref()));
    }

    /// Takes up a deployment that was left running, under this name.
    pub fn detached(&mut self, detached: &Detached, name: &str) {
        self.refused(&detached.passed_over);
        self.set("host", detached.host.as_str());
        self.set("claim", detached.timings.claim.name());
        self.set("ticket", name);
        self.set("verdict", detached.verdict.as_ref().map(verdict));
        self.set("contract", contract(&detached.agreement));
        let digest = enarx_contract::canonical::Hex(*detached.ticket.deployment());
        self.set("deployment", json!({ "sha256": digest, "document": null }));
        self.set("timings_us", timings(&detached.timings));
        self.set("keep_timings_us", keep_timings(detached.started.as_ref()));
    }

    /// Takes up the reason why the command fails.
    fn wrong(&mut self, failure: &Failure) {
        self.set("error", failure.sentence.as_str());
        self.set("code", failure.name());
    }

    /// Takes up a deployment that failed; `name`, if it may run on.
    pub fn failed(&mut self, error: &DeployError, name: Option<&str>) {
        self.set("ticket", name);
        match error {
            DeployError::Refused(hosts) | DeployError::Unavailable(hosts) => self.refused(hosts),
            DeployError::Failed(failed) => {
                self.set("host", failed.host.as_str());
                self.set("end", failed.exit.map(|exit| json!(exit)));
            }
            DeployError::Left { host, .. } => self.set("host", host.as_str()),
            _ => {}
        }
    }
}

impl Json {
    /// Ends the command: says what is wrong, and writes the document if one was asked for. Returns the exit code.
    pub fn end(&self, mut summary: Summary, done: Result<u8, Failure>) -> u8 {
        let (code, error) = match done {
            Ok(code) => (code, None),
            Err(failure) => (failure.code(), Some(failure)),
        };
        summary.set("exit_code", code);
        if let Some(failure) = &error {
            summary.wrong(failure);
        }
        let sentence = error.map(|failure| {
            failure.say();
            failure.sentence
        });
        let Some(to) = &self.json else {
            return code;
        };
        match write(to, &Value::Object(summary.0)) {
            Ok(()) => code,
            Err(failure) => {
                // It may be what ended the command.
                if sentence.as_ref() != Some(&failure.sentence) {
                    failure.say();
                }
                failure.code()
            }
        }
    }

    /// Ends a command that failed before it began.
    pub fn failed(&self, failure: Failure) -> ExitCode {
        self.end(Summary::default(), Err(failure)).into()
    }

    /// The file that the document goes to, if it is one.
    pub fn file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|to| *to != Path::new(STDERR))
    }

    /// Checks that the document can be written, before there is anything to be told.
    ///
    /// # Errors
    /// [`Exit::Output`].
    pub fn check(&self) -> Result<(), Failure> {
        self.file().map_or(Ok(()), |to| {
            check(to).map_err(|error| unwritten(to, &error))
        })
    }
}

fn unwritten(to: &Path, error: &std::io::Error) -> Failure {
    let place = if to == Path::new(STDERR) {
        "standard error".to_owned()
    } else {
        shown(to)
    };
    Failure::of(
        Exit::Output,
        format!(
            "the document could not be written to {place}: {error}: name another place with --json=FILE"
        ),
    )
}

fn write(to: &Path, document: &Value) -> Result<(), Failure> {
    let line = printable_json(&document.to_string());
    let written = if to == Path::new(STDERR) {
        result_line(&line)
    } else {
        create(to, format!("{line}\n").as_bytes())
    };
    written.map_err(|error| unwritten(to, &error))
}

/// Writes the document of a command line that cannot be understood, if these words of it ask for one.
pub fn of_usage(words: impl Iterator<Item = OsString>, sentence: &str) {
    let given = words.take_while(|word| word != "--").find_map(|word| {
        match word.to_str()?.strip_prefix(FLAG)? {
            "" => Some(STDERR.into()),
            rest => rest.strip_prefix('=').map(PathBuf::from),
        }
    });
    let Some(to) = given else {
        return;
    };
    let mut summary = Summary::default();
    let failure = Failure::usage(sentence);
    summary.set("exit_code", failure.code());
    summary.wrong(&failure);
    if let Err(failure) = write(&to, &Value::Object(summary.0)) {
        failure.say();
    }
}
