// SPDX-License-Identifier: Apache-2.0

//! `enarx receipt`: a Keep's statement of what it ran. `enarx-agent` judges it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_agent::receipt::{self, ReceiptSubject, Verified};
use enarx_agent::{Deployed, Trust};
use enarx_attestation::hex::Hex;
use enarx_attestation::{Endorsements, Timestamp};
use enarx_contract::{Contract, PublicKey, Tenant};
use enarx_session::deployment::{Deployment, DeploymentError};
use enarx_session::document::ExitKind;
use enarx_session::receipt::{Receipt, Stream};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::certs::StoreArguments;
use crate::endorsements::certificates;
use crate::failure::{Exit, Failure};
use crate::input::{self, now};
use crate::json::Json;
use crate::local::program::read_delivered;
use crate::output::{self, create, print_json, with_extension};
use crate::release::ReferenceArguments;
use crate::{contract, policy};

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

/// Verify a receipt, without the host, even years later
///
/// The receipt is signed with the Keep's key, and a report of the Keep's hardware covers it: the report is judged as
/// `enarx verify` judges evidence. Exits with 0 when everything is valid and 3 when something is not.
#[derive(Args)]
struct Verify {
    /// The receipt, as `enarx deploy --receipt` wrote it
    file: PathBuf,
    /// A policy file that names the launch digests, or the name of a built-in policy
    #[arg(long, value_name = "FILE|NAME")]
    policy: String,
    /// A folder with certificates and revocation lists, as for `enarx verify` [default: FILE.certs, if it exists]
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The application that the receipt must be about
    #[arg(long, value_name = "FILE")]
    application: Option<PathBuf>,
    /// Accept a receipt of native code, too, which proves only what was started: its end, its times and its streams are
    /// the code's own claim
    #[arg(long)]
    allow_precompiled: bool,
    /// The deployment that it must be about: FILE.deployment of `enarx deploy --receipt`, or its SHA-256
    #[arg(long, value_name = "DIGEST|FILE")]
    deployment: Option<PathBuf>,
    /// The contract that it must be under: FILE.contract of `enarx deploy --receipt`, whose terms the report must then
    /// meet, or its SHA-256
    #[arg(long, value_name = "DIGEST|FILE")]
    contract: Option<PathBuf>,
    /// The time to verify at, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z); default: now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    references: ReferenceArguments,
    #[command(flatten)]
    json: Json,
}

/// The digest of a document, and the document itself if it was given.
struct Named<T> {
    digest: [u8; 32],
    document: Option<T>,
}

impl<T> Named<T> {
    /// A digest where 64 hexadecimal digits are written, or else the file of that name.
    fn read(
        named: &Path,
        load: impl FnOnce(&Path) -> Result<([u8; 32], T), Failure>,
    ) -> Result<Self, Failure> {
        let digest = named.to_str().and_then(|text| text.parse::<Hex<32>>().ok());
        if let Some(Hex(digest)) = digest {
            return Ok(Self {
                digest,
                document: None,
            });
        }
        let (digest, document) = load(named)?;
        Ok(Self {
            digest,
            document: Some(document),
        })
    }
}

/// A contract, and the key of the tenant who signed it.
type Signed = (Contract, Option<PublicKey>);

fn load_contract(path: &Path) -> Result<([u8; 32], Signed), Failure> {
    let (contract, agreement) = contract::load(path)?;
    let tenant = match contract.terms().tenant {
        Tenant::Named(key) => Some(key),
        Tenant::Open => agreement.tenant.map(|by| by.key),
    };
    Ok((contract.digest().0, (contract, tenant)))
}

fn load_deployment(path: &Path) -> Result<([u8; 32], Deployment), Failure> {
    let wrong = |error: DeploymentError| {
        let path = path.display();
        Failure::data(format!(
            "{path} is not a deployment: {error}: give what `enarx deploy --receipt` wrote"
        ))
    };
    let bytes = input::read(path)?;
    let deployment = Deployment::decode(&bytes).map_err(wrong)?;
    Ok((Sha256::digest(&bytes).into(), deployment))
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        let Command::Verify(verify) = &self.command;
        verify.json.on
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`]; [`Exit::Refused`] for a receipt that does not hold.
pub fn verify(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Command::Verify(verify) = &arguments.command;
    let at = verify.at.unwrap_or_else(now);
    let mut trust = Trust::new(policy::load(&verify.policy)?);
    trust.references = verify.references.values(at)?;
    let bytes = input::read(&verify.file)?;
    let application = verify.application.as_deref();
    let application = application.map(read_delivered).transpose()?;
    let contract = verify.contract.as_deref();
    let contract = contract
        .map(|named| Named::read(named, load_contract))
        .transpose()?;
    let deployment = verify.deployment.as_deref();
    let deployment = deployment
        .map(|named| Named::read(named, load_deployment))
        .transpose()?;
    if Receipt::decode(&bytes).is_err() {
        let file = verify.file.display();
        return Err(Failure::data(format!(
            "{file} is not a receipt: give what `enarx deploy --receipt` wrote"
        )));
    }
    let endorsements = verify.endorsements(&bytes, at)?;
    let signed = contract.as_ref().and_then(|named| named.document.as_ref());
    let of = ReceiptSubject {
        application: application.as_deref(),
        deployment: deployment.as_ref().map(|named| &named.digest),
        contract_digest: contract.as_ref().map(|named| &named.digest),
        contract: signed.map(|(contract, _)| contract),
        tenant: signed.and_then(|(_, tenant)| tenant.as_ref()),
        precompiled: verify.allow_precompiled,
    };
    let verified = receipt::verify(&bytes, &trust, &endorsements, of, at, now());
    match verified {
        Ok(verified) => {
            verify.show(&verified, &not_compared(&of));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let (code, failed) = (error.code().to_owned(), error.checks.clone());
            let checks = failed.iter().map(|check| {
                format!(
                    "; {}: expected {}, found {}",
                    check.name, check.expected, check.actual
                )
            });
            let advice = match error.code() {
                "receipt.precompiled" => {
                    "; the program was native code, which can claim anything about its end and its output: --allow-precompiled accepts that"
                }
                _ => "",
            };
            let sentence = format!("{error}{}{advice}", checks.collect::<String>());
            let failure = Failure::of(Exit::Refused, sentence);
            Err(failure.named(code).with_checks(failed))
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

    fn show(&self, verified: &Verified, not_compared: &[&str]) {
        let body = &verified.receipt.body;
        if self.json.on {
            print_json(&json!({
                "receipt": verified.receipt,
                "verdict": verified.verdict,
                "not_compared": not_compared,
            }));
            return;
        }
        let stream = |stream: &Stream| {
            let lost = match stream.dropped {
                0 => String::new(),
                dropped => format!(", {dropped} of them dropped"),
            };
            format!("{} bytes, SHA-256 {}{lost}", stream.bytes, stream.sha256)
        };
        outln!("the receipt is valid: {}", verified.verdict.overall);
        outln!("application: SHA-256 {}", body.application);
        if let Some(source) = body.source {
            outln!("compiled from: SHA-256 {source}, as claimed by whoever compiled it");
            outln!("the end, the times and the streams below are claimed by native code");
        }
        outln!("deployment: SHA-256 {}", body.deployment);
        outln!("contract: SHA-256 {}", body.contract);
        outln!(
            "tenant: SHA-256 of the key {}",
            Hex(body.tenant_key.digest())
        );
        outln!(
            "ended {} with exit code {}, after {} s, at {} by the tenant's clock",
            end(body.exit.kind),
            body.exit.code,
            body.ended.saturating_sub(body.started),
            Timestamp(body.ended)
        );
        outln!("standard input: {}", stream(&body.streams.stdin));
        outln!("standard output: {}", stream(&body.streams.stdout));
        outln!("standard error: {}", stream(&body.streams.stderr));
        if !not_compared.is_empty() {
            let flags = not_compared.iter().map(|name| match *name {
                TENANT => "--contract with its signatures".to_owned(),
                name => format!("--{name}"),
            });
            outln!(
                "not compared: {} ({}): a receipt with any other value passes as well",
                not_compared.join(", "),
                flags.collect::<Vec<_>>().join(", ")
            );
        }
    }
}

/// The tenant, as a part of a receipt: of a contract that names none, its signature tells who it is.
const TENANT: &str = "tenant";

/// How an application ended, for people.
const fn end(kind: ExitKind) -> &'static str {
    match kind {
        ExitKind::Exited => "by itself",
        ExitKind::Trapped => "by a trap",
        ExitKind::Stopped => "because it was stopped",
        ExitKind::Expired => "because the contract's time was over",
        ExitKind::Failed => "before it ran",
    }
}

/// The parts of a receipt that are compared with nothing.
fn not_compared(of: &ReceiptSubject<'_>) -> Vec<&'static str> {
    [
        ("application", of.application.is_none()),
        ("deployment", of.deployment.is_none()),
        ("contract", of.contract_digest.is_none()),
        (TENANT, of.contract_digest.is_some() && of.tenant.is_none()),
    ]
    .into_iter()
    .filter(|(_, is_none)| *is_none)
    .map(|(name, _)| name)
    .collect()
}

/// The folder of certificates beside a receipt.
fn certificates_of(receipt: &Path) -> PathBuf {
    with_extension(receipt, "certs")
}

/// The files and the folder that [`write()`] makes.
pub fn places(receipt: &Path) -> [PathBuf; 4] {
    [
        receipt.to_owned(),
        with_extension(receipt, "contract"),
        with_extension(receipt, "deployment"),
        certificates_of(receipt),
    ]
}

fn unwritten(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::of(
        Exit::Output,
        format!(
            "the receipt could not be written to {}: {error}: name another place with --receipt",
            path.display()
        ),
    )
}

/// Checks that a receipt can be written, before there is one.
///
/// # Errors
/// [`Exit::Output`].
pub fn check(path: &Path) -> Result<(), Failure> {
    let [receipt, contract, deployment, certificates] = places(path);
    let folder = match certificates.symlink_metadata() {
        Ok(found) if found.is_dir() => output::check(&certificates.join("vek.der")),
        Ok(_) => Err(std::io::Error::other(format!(
            "{} is not a folder",
            certificates.display()
        ))),
        // It will be made where the receipt is.
        Err(_) => Ok(()),
    };
    [receipt, contract, deployment]
        .iter()
        .try_for_each(|file| output::check(file))
        .and(folder)
        .map_err(|error| unwritten(path, &error))
}

/// Writes a receipt, and beside it what it is verified with: certificates, contract and deployment.
///
/// # Errors
/// [`Exit::Output`].
pub fn write(path: &Path, deployed: &Deployed) -> Result<(), Failure> {
    let certificates = &deployed.endorsements.amd;
    let failed = |error: &dyn std::fmt::Display| unwritten(path, error);
    let bytes = deployed.receipt.encode().map_err(|error| failed(&error))?;
    create(path, &bytes).map_err(|error| failed(&error))?;
    let contract = deployed.agreement.encode();
    let contract = contract.map_err(|error| failed(&error))?;
    create(&with_extension(path, "contract"), &contract).map_err(|error| failed(&error))?;
    if let Some(deployment) = &deployed.deployment {
        let deployment = deployment.encode().map_err(|error| failed(&error))?;
        create(&with_extension(path, "deployment"), &deployment).map_err(|error| failed(&error))?;
    }
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
        .chain(lists.map(|(index, list)| (format!("{index}.crl"), &list.bytes[..])));
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&folder).map_err(|error| failed(&error))?;
    if !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return Err(failed(&format_args!("{} is a link", folder.display())));
    }
    let mut written = Vec::new();
    for (name, bytes) in files {
        create(&folder.join(&name), bytes).map_err(|error| failed(&error))?;
        written.push(name);
    }
    // A later receipt may have fewer lists, and `receipt verify` reads all that are there.
    let others: Vec<_> = std::fs::read_dir(&folder)
        .map_err(|error| failed(&error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !written.contains(name))
        .collect();
    if !others.is_empty() {
        output::complain(format_args!(
            "{} has files that are not of this receipt, and that `enarx receipt verify` may read: {}",
            folder.display(),
            others.join(", ")
        ));
    }
    Ok(())
}
