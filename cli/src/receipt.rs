// SPDX-License-Identifier: Apache-2.0

//! `enarx receipt`: what a Keep says that it ran. The judgement is `enarx-agent`'s.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_agent::Trust;
use enarx_agent::receipt::{self, Verified};
use enarx_attestation::{AmdEndorsements, Endorsements, Timestamp};
use enarx_session::receipt::{Receipt, Stream};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::certs::StoreArguments;
use crate::failure::{Exit, Failure};
use crate::input::{self, now};
use crate::json::Json;
use crate::output::print_json;
use crate::verify::certificates;
use crate::{policy, run};

/// Verify receipts of deployments.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(Verify),
}

/// Verify a receipt, without the host and also years later
///
/// The receipt is signed by the Keep's key, and a report of the Keep's hardware is over it: the report is judged as `enarx verify` judges
/// evidence. Exits with 0 when everything holds and 3 when something does not.
#[derive(Args)]
struct Verify {
    /// The receipt, as `enarx deploy --receipt` wrote it
    file: PathBuf,
    /// A policy file that names the launch digests, or the name of a built-in policy
    #[arg(long, value_name = "FILE|NAME")]
    policy: String,
    /// A folder with certificates and revocation lists, as of `enarx verify` [default: FILE.certs, if it is there]
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The application that the receipt is to be of
    #[arg(long, value_name = "FILE")]
    application: Option<PathBuf>,
    /// The time to verify at, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z); default: now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        let Command::Verify(verify) = &self.command;
        verify.json.on
    }
}

/// Runs the command.
pub fn verify(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Command::Verify(verify) = &arguments.command;
    let trust = Trust::new(policy::load(&verify.policy)?);
    let bytes = input::read(&verify.file)?;
    let application = verify.application.as_deref();
    let application = application
        // Text was translated before it was delivered.
        .map(run::read_module)
        .transpose()?;
    let at = verify.at.unwrap_or_else(now);
    if Receipt::decode(&bytes).is_err() {
        let file = verify.file.display();
        return Err(Failure::data(format!(
            "{file} is not a receipt: give what `enarx deploy --receipt` wrote"
        )));
    }
    let endorsements = verify.endorsements(&bytes, at)?;
    let verified = receipt::verify(&bytes, &trust, &endorsements, application.as_deref(), at);
    match verified {
        Ok(verified) => {
            verify.show(&verified);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let checks = error.checks.iter().map(|check| {
                format!(
                    "; {}: expected {}, found {}",
                    check.name, check.expected, check.actual
                )
            });
            Err(Failure::of(
                Exit::Refused,
                format!("{error}{}", checks.collect::<String>()),
            ))
        }
    }
}

impl Verify {
    /// The certificates for the receipt's report, from their folder and the store.
    fn endorsements(&self, receipt: &[u8], at: Timestamp) -> Result<Endorsements, Failure> {
        let report = Receipt::decode(receipt).ok().and_then(|it| it.report);
        let report = report.map_or_else(Vec::new, |report| report.0);
        let beside = certificates_of(&self.file);
        let folder = self
            .certs
            .clone()
            .or_else(|| Some(beside).filter(|folder| folder.is_dir()));
        let given = folder.as_deref().map(certificates).transpose()?;
        let amd = match (self.store.open(), given) {
            (Some(store), Some(given)) => store.complete(given, &report, at),
            (Some(store), None) => store.endorsements(&report, at).amd,
            (None, given) => given.unwrap_or_default(),
        };
        Ok(Endorsements { amd, intel: None })
    }

    fn show(&self, verified: &Verified) {
        let body = &verified.receipt.body;
        if self.json.on {
            print_json(&json!({ "receipt": verified.receipt, "verdict": verified.verdict }));
            return;
        }
        let stream = |stream: &Stream| {
            let lost = match stream.dropped {
                0 => String::new(),
                dropped => format!(", {dropped} of them dropped"),
            };
            format!("{} bytes, SHA-256 {}{lost}", stream.bytes, stream.sha256)
        };
        outln!("the receipt holds: {:?}", verified.verdict.overall);
        outln!("application: SHA-256 {}", body.application);
        outln!("deployment: SHA-256 {}", body.deployment);
        outln!("contract: SHA-256 {}", body.contract);
        outln!(
            "ended: {:?} with {}, after {} s, at {} by the tenant's clock",
            body.exit.kind,
            body.exit.code,
            body.ended.saturating_sub(body.started),
            Timestamp(body.ended)
        );
        outln!("standard input: {}", stream(&body.streams.stdin));
        outln!("standard output: {}", stream(&body.streams.stdout));
        outln!("standard error: {}", stream(&body.streams.stderr));
    }
}

/// The folder of certificates beside a receipt.
fn certificates_of(receipt: &Path) -> PathBuf {
    let mut name = receipt.as_os_str().to_owned();
    name.push(".certs");
    name.into()
}

/// Writes a receipt, and the certificates that verify it beside it.
///
/// # Errors
/// [`Exit::Output`].
pub fn write(
    path: &Path,
    receipt: &Receipt,
    certificates: &AmdEndorsements,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::of(
            Exit::Output,
            format!(
                "the receipt could not be written to {}: {error}",
                path.display()
            ),
        )
    };
    // A new file in the place of what was there, so no link is followed and nobody else can read it.
    let create = |path: &Path, bytes: &[u8]| -> io::Result<()> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    let bytes = receipt.encode().map_err(|error| failed(&error))?;
    create(path, &bytes).map_err(|error| failed(&error))?;
    let folder = certificates_of(path);
    let named = [
        ("vek.der", &certificates.vek),
        ("ask.der", &certificates.ask),
        ("ark.der", &certificates.ark),
    ];
    let lists = certificates.crls.iter().enumerate();
    let files = named
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.to_owned(), bytes.as_deref()?)))
        .chain(lists.map(|(index, list)| (format!("{index}.crl"), &list[..])));
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&folder).map_err(|error| failed(&error))?;
    if !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return Err(failed(&format_args!("{} is a link", folder.display())));
    }
    for (name, bytes) in files {
        create(&folder.join(name), bytes).map_err(|error| failed(&error))?;
    }
    Ok(())
}
