//! `enarx verify`: evidence in, verdict out. Reads files and the clock; the judgement is `enarx-attestation`'s.

use crate::certs::StoreArgs;
use crate::policy;
use crate::release::ReferenceArgs;
use crate::values::{self, Nonce};
use chrono::DateTime;
use enarx_attestation::hex::Hex;
use enarx_attestation::{AmdEndorsements, Endorsements, Timestamp, Verdict, Verifier};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The evidence was refused or could not be read.
pub const REFUSED: u8 = 3;
/// The command was not used properly.
pub const USAGE: u8 = 2;
/// Octets of the largest file that is read.
const MAX_FILE_LEN: u64 = 16 << 20;

/// Verify attestation evidence: an SEV-SNP report, or a TDX or SGX quote.
///
/// Exits with 0 when the policy accepts the evidence, 3 when it is refused, 2 when the arguments are wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The evidence, as the hardware produced it
    file: PathBuf,
    /// A folder with vek.der, ask.der, ark.der and revocation lists (*.crl), for SEV-SNP
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Collateral as JSON, for TDX and SGX
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A policy file, or the name of a built-in policy: default, insecure-authenticity-only
    #[arg(long, value_name = "FILE|NAME", default_value = enarx_attestation::policy::DEFAULT)]
    policy: String,
    /// The time to verify at, as seconds since 1970 or RFC 3339; default: now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Print the verdict as an EAT attestation result (EAR, a JWT) signed ES256 with this PKCS #8 key in PEM
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    ear_key: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// What evidence of a Keep is bound to: its report data is computed from all three.
#[derive(Debug, clap::Args)]
struct KeepArgs {
    /// The nonce that the Keep was given, in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = values::nonce, requires_all = ["application", "configuration"])]
    nonce: Option<Nonce>,
    /// The application that the Keep runs
    #[arg(long, value_name = "FILE", requires = "nonce")]
    application: Option<PathBuf>,
    /// The Keep's configuration (configuration.json of `enarx run --attest-to`)
    #[arg(long, value_name = "FILE", requires = "nonce")]
    configuration: Option<PathBuf>,
}

impl KeepArgs {
    /// The report data that evidence of this Keep has; none where nothing is said of it.
    fn report_data(&self) -> Result<Option<[u8; 64]>, String> {
        let (Some(Nonce(nonce)), Some(application), Some(configuration)) =
            (&self.nonce, &self.application, &self.configuration)
        else {
            return Ok(None);
        };
        let contents = |path: &Path| {
            read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Some(enarx_contract::report_data(
            nonce,
            &contents(application)?,
            &contents(configuration)?,
        )))
    }
}

/// A time as seconds since 1970 or RFC 3339.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Timestamp(seconds));
    }
    let date = DateTime::parse_from_rfc3339(text)
        .map_err(|e| format!("neither seconds since 1970 nor RFC 3339: {e}"))?;
    u64::try_from(date.timestamp())
        .map(Timestamp)
        .map_err(|_| "before 1970".to_owned())
}

/// The clock of this computer.
pub fn now() -> Timestamp {
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}

/// Reads a file of a sane size.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let len = fs::metadata(path)?.len();
    if len > MAX_FILE_LEN {
        return Err(io::Error::other(format!(
            "larger than {MAX_FILE_LEN} octets"
        )));
    }
    fs::read(path)
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let Args {
        file,
        certs,
        collateral,
        policy,
        at,
        keep,
        references,
        store,
        ear_key,
        json,
    } = args;
    let policy = policy::load(&policy).and_then(|mut policy| {
        if let Some(data) = keep.report_data()? {
            policy.snp.report_data = Some(Hex(data));
        }
        Ok(policy)
    });
    let policy = match policy {
        Ok(policy) => policy,
        Err(message) => {
            say!("error: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let evidence = match read(&file) {
        Ok(evidence) => evidence,
        Err(error) => {
            say!(
                "error: cannot read the evidence {}: {error}",
                file.display()
            );
            return ExitCode::from(REFUSED);
        }
    };
    let at = at.unwrap_or_else(now);
    // What is not given comes from the store.
    let stored = store
        .open()
        .map(|s| s.endorsements(&evidence, at))
        .unwrap_or_default();
    let endorsements = match endorsements(certs.as_deref(), collateral.as_deref(), stored) {
        Ok(endorsements) => endorsements,
        Err(message) => {
            say!("error: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let references = match references.values(at) {
        Ok(references) => references,
        Err((code, message)) => {
            say!("error: {message}");
            return ExitCode::from(code);
        }
    };
    let verdict = Verifier::new(policy)
        .with_reference_values(references)
        .verify(&evidence, &endorsements, at);
    if let Some(path) = ear_key {
        if let Err(message) = print_ear(&verdict, &path) {
            say!("error: cannot sign with {}: {message}", path.display());
            return ExitCode::from(USAGE);
        }
        return exit_code(&verdict);
    }
    print(&verdict, json);
    exit_code(&verdict)
}

fn exit_code(verdict: &Verdict) -> ExitCode {
    if verdict.is_accepted() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

fn print_ear(verdict: &Verdict, key: &Path) -> Result<(), String> {
    let key = read(key).map_err(|e| e.to_string())?;
    let key = String::from_utf8(key).map_err(|e| e.to_string())?;
    outln!("{}", verdict.to_ear(&key).map_err(|e| e.to_string())?);
    Ok(())
}

fn print(verdict: &Verdict, json: bool) {
    if json {
        outln!("{:#}", serde_json::json!(verdict));
    } else {
        out!("{verdict}");
    }
}

fn endorsements(
    certs: Option<&Path>,
    collateral: Option<&Path>,
    stored: Endorsements,
) -> Result<Endorsements, String> {
    let intel = match collateral {
        None => stored.intel,
        Some(path) => Some(
            read(path)
                .map_err(|e| format!("cannot read the collateral {}: {e}", path.display()))?,
        ),
    };
    let amd = match certs {
        None => stored.amd,
        Some(folder) => certificates(folder)
            .map_err(|e| format!("cannot read the certificates in {}: {e}", folder.display()))?,
    };
    Ok(Endorsements { amd, intel })
}

/// Reads a folder of certificates; what is missing there is the verdict's to say.
fn certificates(folder: &Path) -> io::Result<AmdEndorsements> {
    let file = |name: &str| match read(&folder.join(name)) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let mut lists = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("crl"))
        {
            lists.push(path);
        }
    }
    lists.sort();
    Ok(AmdEndorsements {
        vek: file("vek.der")?,
        ask: file("ask.der")?,
        ark: file("ark.der")?,
        crls: lists
            .iter()
            .map(|path| read(path))
            .collect::<io::Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1736460861"), Ok(Timestamp(1_736_460_861)));
        assert_eq!(
            parse_time("2025-01-09T22:14:21Z"),
            Ok(Timestamp(1_736_460_861))
        );
        assert_eq!(
            parse_time("2025-01-09T23:14:21+01:00"),
            Ok(Timestamp(1_736_460_861))
        );
        for bad in ["", "-1", "yesterday", "2025-01-09", "1969-12-31T23:59:59Z"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
