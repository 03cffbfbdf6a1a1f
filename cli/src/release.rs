//! `enarx release`: the publisher's keys, and signed manifests of what releases measure to. Reads and writes files; the
//! judgement is `enarx-measurement`'s.

use crate::output::{complain, shown};
use crate::verify::{REFUSED, USAGE, now, parse_time};
use enarx_attestation::{ReferenceValue, Timestamp};
use enarx_collateral::file::{self, read};
use enarx_measurement::{
    Manifest, Measurement, PrivateKey, PublicKey, Release, SEED_LEN, VerifiedManifest,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Sign and verify manifests of what releases measure to
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
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
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        not_after: Timestamp,
        /// Time from which it may be used; default: now
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
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
    /// Exits with 0 when it is good, 3 when it is refused, 2 when the arguments are wrong.
    Verify(ManifestArgs),
    /// Verify a signed manifest and list its releases
    List(ManifestArgs),
    /// Print a schema as JSON
    Schema {
        /// Which one
        #[arg(value_enum, default_value = "manifest")]
        of: Schema,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Schema {
    /// Of manifests
    Manifest,
    /// Of what `enarx measure --json` prints
    Measurement,
}

#[derive(Debug, clap::Args)]
struct ManifestArgs {
    /// The manifest; its signature lies beside it as MANIFEST.sig
    manifest: PathBuf,
    /// A public key of the publisher, as PEM; repeat it while the publisher changes its key
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Refuse a manifest with a lower serial number, so that an old one cannot replace the newest
    #[arg(long, value_name = "NUMBER")]
    min_serial: Option<u64>,
    /// The time to verify at, as seconds since 1970 or RFC 3339; default: now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
}

/// The manifest by which `enarx verify` judges launch digests.
#[derive(Debug, clap::Args)]
pub struct ReferenceArgs {
    /// A signed release manifest, for SEV-SNP and a policy that names releases or measurements; its signature lies
    /// beside it
    #[arg(long, value_name = "FILE", requires = "manifest_keys")]
    manifest: Option<PathBuf>,
    /// A public key of the manifest's publisher, as PEM
    #[arg(long = "manifest-key", value_name = "FILE", requires = "manifest")]
    manifest_keys: Vec<PathBuf>,
    /// Refuse a manifest with a lower serial number
    #[arg(long, value_name = "NUMBER", requires = "manifest")]
    min_manifest_serial: Option<u64>,
}

impl ReferenceArgs {
    /// The manifest's reference values; `None` without a manifest.
    ///
    /// # Errors
    ///
    /// Exit code and one sentence for the user, when the manifest is not accepted.
    pub fn values(&self, at: Timestamp) -> Result<Option<Vec<ReferenceValue>>, (u8, String)> {
        let Some(manifest) = &self.manifest else {
            return Ok(None);
        };
        verified(manifest, &self.manifest_keys, self.min_manifest_serial, at)
            .map(|manifest| Some(manifest.reference_values()))
    }
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let usage = |message| (USAGE, message);
    let result = match args.command {
        Command::Keygen { name } => keygen(&name).map_err(usage),
        Command::Add {
            manifest,
            measurement,
            not_after,
            not_before,
        } => {
            let not_before = not_before.unwrap_or_else(now);
            add(&manifest, &measurement, not_before, not_after).map_err(usage)
        }
        Command::Sign { manifest, key } => sign(&manifest, &key).map_err(usage),
        Command::Verify(args) => args.verified().map(|(manifest, _)| summary(&manifest)),
        Command::List(args) => args.verified().map(|(manifest, at)| list(&manifest, at)),
        Command::Schema { of } => Ok(match of {
            Schema::Manifest => format!("{:#}\n", Manifest::json_schema()),
            Schema::Measurement => format!("{:#}\n", Measurement::json_schema()),
        }),
    };
    match result {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err((code, message)) => {
            complain("error", message);
            ExitCode::from(code)
        }
    }
}

impl ManifestArgs {
    fn verified(&self) -> Result<(VerifiedManifest, Timestamp), (u8, String)> {
        let at = self.at.unwrap_or_else(now);
        let manifest = verified(&self.manifest, &self.keys, self.min_serial, at)?;
        Ok((manifest, at))
    }
}

/// Reads and verifies a manifest with the signature beside it.
fn verified(
    path: &Path,
    keys: &[PathBuf],
    minimum_serial: Option<u64>,
    at: Timestamp,
) -> Result<VerifiedManifest, (u8, String)> {
    let usage = |message| (USAGE, message);
    let keys = keys.iter().map(|path| {
        PublicKey::from_pem(&text(path)?).map_err(|e| format!("the key {}: {e}", path.display()))
    });
    let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(usage)?;
    let manifest = bytes(path).map_err(usage)?;
    let signature = bytes(&beside(path)).map_err(usage)?;
    enarx_measurement::verify(&manifest, &signature, &keys, minimum_serial, at)
        .map_err(|e| (REFUSED, format!("{}: {e}", path.display())))
}

/// Where the signature of a manifest lies.
fn beside(manifest: &Path) -> PathBuf {
    ended(manifest, ".sig")
}

fn ended(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(bytes(path)?).map_err(|_| format!("{} is not text in UTF-8", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    file::replace(path, text.as_bytes())
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Writes a file that must not be there yet, readable by nobody else when `secret`.
fn create(path: &Path, text: &str, secret: bool) -> Result<(), String> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if secret { 0o600 } else { 0o644 })
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn keygen(name: &Path) -> Result<String, String> {
    let mut seed = [0; SEED_LEN];
    getrandom::fill(&mut seed).map_err(|e| format!("no random numbers: {e}"))?;
    let key = PrivateKey::from_seed(&seed).map_err(|e| e.to_string())?;
    let public = key.public().map_err(|e| e.to_string())?;
    let (secret_path, public_path) = (ended(name, ".key"), ended(name, ".pub"));
    create(
        &secret_path,
        &key.to_pem().map_err(|e| e.to_string())?,
        true,
    )?;
    let public_text = public.to_pem().map_err(|e| e.to_string())?;
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
) -> Result<String, String> {
    let octets = bytes(measurement)?;
    let measurement: Measurement = serde_json::from_slice(&octets)
        .map_err(|e| format!("{} is no measurement: {e}", measurement.display()))?;
    let mut manifest = if path.exists() {
        Manifest::parse(&bytes(path)?).map_err(|e| format!("{}: {e}", path.display()))?
    } else {
        Manifest::new()
    };
    manifest
        .add(Release::of(&measurement, not_before, not_after))
        .map_err(|e| e.to_string())?;
    write(path, &manifest.to_toml().map_err(|e| e.to_string())?)?;
    Ok(format!(
        "{}: release {} added, serial number {}\n",
        shown(path),
        measurement.version,
        manifest.serial
    ))
}

fn sign(path: &Path, key: &Path) -> Result<String, String> {
    let manifest = bytes(path)?;
    Manifest::parse(&manifest).map_err(|e| format!("{}: {e}", path.display()))?;
    let key =
        PrivateKey::from_pem(&text(key)?).map_err(|e| format!("the key {}: {e}", key.display()))?;
    let signature = enarx_measurement::sign(&manifest, &key).map_err(|e| e.to_string())?;
    let beside = beside(path);
    write(&beside, &signature)?;
    Ok(format!("{}\n", shown(&beside)))
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
