// SPDX-License-Identifier: Apache-2.0

//! `enarx release`: the publisher's keys, and signed manifests of what releases measure to. Reads and writes files; the
//! judgement is `enarx-measurement`'s.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use enarx_attestation::{ReferenceValue, Timestamp};
use enarx_collateral::file;
use enarx_measurement::{
    Manifest, ManifestError, Measurement, PrivateKey, PublicKey, Release, ReleaseFault, SEED_LEN,
    VerifiedManifest,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::input::{self, now};
use crate::json::Json;
use crate::output::{print_json, shown, with_extension};
use crate::serials;

/// Sign and verify manifests of the measurements of releases
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key pair: NAME.key, which is secret, and NAME.pub
    Keygen {
        /// File name without extension
        name: PathBuf,
    },
    /// Add the output of `enarx measure --json` to a manifest as a current release, and increase its serial number
    Add {
        /// The manifest; created if it does not exist
        manifest: PathBuf,
        /// The measurement, as JSON
        measurement: PathBuf,
        /// Time until which the release may be used, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z)
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        not_after: Timestamp,
        /// Time from which it may be used; default: now
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        not_before: Option<Timestamp>,
    },
    /// Check a manifest's form and sign it: writes MANIFEST.sig
    Sign {
        /// The manifest
        manifest: PathBuf,
        /// The private key, as PEM (PKCS#8)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Verify a signed manifest
    ///
    /// Exits with 0 when it is good and 3 when it is refused.
    Verify(ManifestArguments),
    /// Verify a signed manifest and list its releases
    List(ManifestArguments),
    /// Print a schema as JSON
    Schema {
        /// The document that it describes
        #[arg(value_enum, default_value = "manifest")]
        of: Schema,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Schema {
    /// A manifest
    Manifest,
    /// A measurement, as `enarx measure --json` prints it
    Measurement,
}

#[derive(Args, Debug)]
struct ManifestArguments {
    /// The manifest; its signature lies beside it as MANIFEST.sig
    manifest: PathBuf,
    /// A public key of the publisher, as PEM; repeat it while the publisher changes its key
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Refuse a manifest with a lower serial number [default: the highest seen from its publisher]
    #[arg(long, value_name = "NUMBER")]
    min_serial: Option<u64>,
    /// The time to verify at, as seconds since 1970 or RFC 3339; default: now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    json: Json,
}

/// The manifest by which `enarx verify` judges launch digests.
#[derive(Args, Debug)]
pub struct ReferenceArguments {
    /// A signed release manifest, for SEV-SNP and a policy that names releases or measurements; its signature is
    /// expected beside it
    #[arg(long, value_name = "FILE", requires = "manifest_keys")]
    manifest: Option<PathBuf>,
    /// A public key of the manifest's publisher, as PEM
    #[arg(long = "manifest-key", value_name = "FILE", requires = "manifest")]
    manifest_keys: Vec<PathBuf>,
    /// Refuse a manifest with a lower serial number [default: the highest seen from its publisher]
    #[arg(long, value_name = "NUMBER", requires = "manifest")]
    min_manifest_serial: Option<u64>,
}

impl ReferenceArguments {
    /// The manifest's reference values; `None` without a manifest.
    ///
    /// # Errors
    /// [`Exit::Refused`] when the manifest is not accepted, or why it cannot be read.
    pub fn values(&self, at: Timestamp) -> Result<Option<Vec<ReferenceValue>>, Failure> {
        let Some(manifest) = &self.manifest else {
            return Ok(None);
        };
        verified(manifest, &self.manifest_keys, self.min_manifest_serial, at)
            .map(|manifest| Some(manifest.reference_values()))
    }
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::Verify(arguments) | Command::List(arguments) => arguments.json.on,
            _ => false,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`]; [`Exit::Refused`] for a manifest that does not hold; [`Exit::Output`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Keygen { name } => out!("{}", keygen(name)?),
        Command::Add {
            manifest,
            measurement,
            not_after,
            not_before,
        } => {
            let not_before = not_before.unwrap_or_else(now);
            out!("{}", add(manifest, measurement, not_before, *not_after)?);
        }
        Command::Sign { manifest, key } => out!("{}", sign(manifest, key)?),
        Command::Verify(arguments) => {
            let (manifest, _) = arguments.verified()?;
            if arguments.json.on {
                print_json(&described(&manifest));
            } else {
                out!("{}", summary(&manifest));
            }
        }
        Command::List(arguments) => {
            let (manifest, at) = arguments.verified()?;
            if arguments.json.on {
                let mut all = described(&manifest);
                all["manifest"] = json!(manifest.manifest());
                print_json(&all);
            } else {
                out!("{}", list(&manifest, at));
            }
        }
        Command::Schema { of } => match of {
            Schema::Manifest => outln!("{:#}", Manifest::json_schema()),
            Schema::Measurement => outln!("{:#}", Measurement::json_schema()),
        },
    }
    Ok(ExitCode::SUCCESS)
}

impl ManifestArguments {
    fn verified(&self) -> Result<(VerifiedManifest, Timestamp), Failure> {
        let at = self.at.unwrap_or_else(now);
        let manifest = verified(&self.manifest, &self.keys, self.min_serial, at)?;
        Ok((manifest, at))
    }
}

/// Reads and verifies a manifest with the signature beside it. Unless a least serial number is given, it must not be older
/// than one that was accepted from the same publisher before.
///
/// # Errors
/// [`Exit::Refused`] when it is not accepted, or why a file cannot be read.
pub fn verified(
    path: &Path,
    keys: &[PathBuf],
    minimum_serial: Option<u64>,
    at: Timestamp,
) -> Result<VerifiedManifest, Failure> {
    let keys = keys.iter().map(|path| {
        let key = PublicKey::from_pem(&input::read_text(path)?);
        key.map_err(|error| Failure::data(format!("the key {}: {error}", path.display())))
    });
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    let manifest = input::read(path)?;
    let signature = input::read(&signature_path(path))?;
    let refused = |error: &dyn std::fmt::Display| {
        Failure::of(Exit::Refused, format!("{}: {error}", path.display()))
    };
    let manifest = enarx_measurement::verify(&manifest, &signature, &keys, minimum_serial, at)
        .map_err(|error| refused(&error))?;
    let publisher = manifest.signed_by().to_string();
    let serial = manifest.manifest().serial;
    let seen = serials::highest(&publisher);
    if let (None, Some(seen)) = (minimum_serial, seen.filter(|seen| *seen > serial)) {
        return Err(refused(&format_args!(
            "its serial number is {serial}, and number {seen} of this publisher was seen here: take the newest manifest, \
             or say with a least serial number that this one may be older"
        )));
    }
    if seen.is_none_or(|seen| seen < serial) {
        serials::remember(&publisher, serial);
    }
    Ok(manifest)
}

/// Where the signature of a manifest lies.
fn signature_path(manifest: &Path) -> PathBuf {
    with_extension(manifest, "sig")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    file::replace(path, text.as_bytes()).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::AlreadyExists => ": name another file, or remove it",
        _ => "",
    };
    Failure::of(
        Exit::Output,
        format!("cannot write {}: {error}{remedy}", path.display()),
    )
}

/// Writes a file that must not be there yet, readable by nobody else when `secret`.
fn create(path: &Path, text: &str, secret: bool) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if secret { 0o600 } else { 0o644 })
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| unwritable(path, &error))
}

fn keygen(name: &Path) -> Result<String, Failure> {
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    let other = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    getrandom::fill(&mut *seed)
        .map_err(|error| Failure::new(format!("no random bytes are available: {error}")))?;
    let key = PrivateKey::from_seed(&seed).map_err(|error| other(&error))?;
    let public = key.public().map_err(|error| other(&error))?;
    let (secret_path, public_path) = (with_extension(name, "key"), with_extension(name, "pub"));
    create(
        &secret_path,
        &key.to_pem().map_err(|error| other(&error))?,
        true,
    )?;
    let public_text = public.to_pem().map_err(|error| other(&error))?;
    create(&public_path, &public_text, false).inspect_err(|_| {
        // A secret key without its public one is of no use, and would be in the way of the next try. It was made here.
        let _ = std::fs::remove_file(&secret_path);
    })?;
    Ok(format!(
        "{}: secret, keep it where releases are signed\n{}: fingerprint {}\n",
        shown(&secret_path),
        shown(&public_path),
        public.fingerprint()
    ))
}

fn add(
    path: &Path,
    measurement: &Path,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<String, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::data(format!("{}: {error}", path.display()));
    let measurement: Measurement =
        serde_json::from_slice(&input::read(measurement)?).map_err(|error| {
            Failure::data(format!(
                "{} is not a measurement: {error}",
                measurement.display()
            ))
        })?;
    let mut manifest = if path.exists() {
        Manifest::parse(&input::read(path)?).map_err(|error| wrong(&error))?
    } else {
        Manifest::new()
    };
    manifest
        .add(Release::of(&measurement, not_before, not_after))
        .map_err(|error| match error {
            ManifestError::Release {
                version,
                fault: ReleaseFault::Twice,
            } => wrong(&format_args!(
                "it has the release {version} already: remove that from the file first, or take another file"
            )),
            ManifestError::Release {
                fault: ReleaseFault::Times,
                ..
            } => Failure::usage(format!(
                "--not-after: the release could be used until {not_after}, which is before it begins, at {not_before}"
            )),
            error => wrong(&error),
        })?;
    write(path, &manifest.to_toml().map_err(|error| wrong(&error))?)?;
    Ok(format!(
        "{}: release {} added, serial number {}\n",
        shown(path),
        measurement.version,
        manifest.serial
    ))
}

fn sign(path: &Path, key_path: &Path) -> Result<String, Failure> {
    let manifest = input::read(path)?;
    Manifest::parse(&manifest)
        .map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::data(format!("the key {}: {error}", key_path.display()))
    };
    let pem = Zeroizing::new(input::read_text(key_path)?);
    let key = PrivateKey::from_pem(&pem).map_err(|error| wrong(&error))?;
    let readable_by_others = std::fs::metadata(key_path)
        .is_ok_and(|key| key.is_file() && key.permissions().mode() & 0o077 != 0);
    if readable_by_others {
        return Err(wrong(
            &"others can read it: chmod 600, and consider who may have copied it",
        ));
    }
    let signature = enarx_measurement::sign(&manifest, &key).map_err(|error| wrong(&error))?;
    let signature_path = signature_path(path);
    write(&signature_path, &signature)?;
    Ok(format!("{}\n", shown(&signature_path)))
}

/// A manifest that is good, for programs.
fn described(verified: &VerifiedManifest) -> serde_json::Value {
    let manifest = verified.manifest();
    json!({
        "serial": manifest.serial,
        "not_after": manifest.not_after,
        "signed_by": verified.signed_by().to_string(),
        "releases": manifest.releases.len(),
    })
}

fn summary(verified: &VerifiedManifest) -> String {
    let manifest = verified.manifest();
    format!(
        "good: serial number {}, until {}, signed with the key {}, releases: {}\n",
        manifest.serial,
        manifest.not_after,
        verified.signed_by(),
        manifest.releases.len()
    )
}

fn list(verified: &VerifiedManifest, at: Timestamp) -> String {
    let releases = verified.manifest().releases.iter().map(|release| {
        let state = match release.usable(at) {
            Ok(()) if release.reason.is_empty() => release.status.to_string(),
            Ok(()) => format!("{}: {}", release.status, release.reason),
            Err(error) => error.to_string(),
        };
        format!(
            "{}: {state} ({} to {}, launch digests: {})\n",
            release.version,
            release.not_before,
            release.not_after,
            release.launches.len()
        )
    });
    summary(verified) + &releases.collect::<String>()
}
