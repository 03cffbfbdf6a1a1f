//! `enarx verify`: evidence in, verdict out. Reads files and the clock; the judgement is `enarx-attestation`'s.

use crate::certs::StoreArgs;
use crate::output::{fail, print_json};
use crate::policy;
use crate::release::ReferenceArgs;
use crate::values::{self, Nonce};
use chrono::DateTime;
use enarx_attestation::hex::Hex;
use enarx_attestation::{
    AmdEndorsements, Endorsements, Evidence, Expected, Policy, Timestamp, Verdict, Verifier,
};
use enarx_collateral::Store;
use enarx_collateral::file::{self, read};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The evidence was refused or could not be read.
pub const REFUSED: u8 = 3;
/// The command was not used properly.
pub const USAGE: u8 = 2;
/// Bytes of the largest application and configuration of a Keep.
const MAX_APPLICATION_LEN: u64 = 1 << 30;
/// Revocation lists that are read from one folder: there are three product lines with two issuers each.
const MAX_LISTS: usize = 64;

/// Verify attestation evidence: an SEV-SNP report, or a TDX or SGX quote.
///
/// Exits with 0 when the policy accepts the evidence, 3 when it is refused, 2 when the arguments are wrong. A kind of
/// evidence is accepted only by a policy with its table: [snp], [tdx] or [sgx]. Whatever a flag names is compared or
/// refused. What accepted evidence was not compared with is said in the last line, and in not_compared of the JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The evidence, as the hardware produced it; `-` for standard input
    file: PathBuf,
    /// A folder with vek.der, ask.der, ark.der and revocation lists (*.crl), for SEV-SNP alone; what it lacks comes from
    /// the store
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Collateral as JSON, for TDX and SGX alone
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A policy file, or the name of a built-in policy: default, insecure-authenticity-only
    #[arg(long, value_name = "FILE|NAME", default_value = enarx_attestation::policy::DEFAULT)]
    policy: String,
    /// The time to verify at, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z); default: now
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
    /// Print the verdict as JSON; where there is none, an object with the member error
    #[arg(long)]
    json: bool,
}

/// The values that evidence of a Keep is bound to: its report data, whatever its kind, is computed from all three.
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
            file::read_up_to(path, MAX_APPLICATION_LEN)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Some(enarx_evidence::report_data(
            nonce,
            &contents(application)?,
            &contents(configuration)?,
        )))
    }

    /// Has a policy ask for this Keep's report data in every kind of evidence.
    fn bind(&self, policy: &mut Policy) -> Result<(), String> {
        let Some(data) = self.report_data()?.map(Hex) else {
            return Ok(());
        };
        for expected in [
            &mut policy.snp.report_data,
            &mut policy.tdx.report_data,
            &mut policy.sgx.report_data,
        ] {
            if expected.replace(data).is_some_and(|named| named != data) {
                return Err(
                    "the policy names other report data than --nonce, --application and --configuration give: \
                     leave out one of them"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// A time as seconds since 1970 or RFC 3339.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        let time = Timestamp(seconds);
        // Seven digits were seconds in 1970, and nine are since 1973.
        if text.len() == 8 && (19_700_101..=99_991_231).contains(&seconds) {
            let [year, month, day] = [&text[..4], &text[4..6], &text[6..]];
            return Err(format!(
                "it reads as a date, and would be {time}: write {year}-{month}-{day}T00:00:00Z"
            ));
        }
        if time > Timestamp::LAST_DATE {
            return Err(
                "after the year 9999: give seconds since 1970, not milliseconds".to_owned(),
            );
        }
        return Ok(time);
    }
    let date = DateTime::parse_from_rfc3339(text).map_err(|_| {
        "neither seconds since 1970 nor RFC 3339, such as 2027-01-31T12:00:00Z".to_owned()
    })?;
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

/// Reads evidence: a file, or standard input for `-`.
pub fn read_evidence(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        return file::read_bounded(io::stdin().lock(), file::MAX_LEN);
    }
    read(path)
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
        keep.bind(&mut policy)?;
        Ok(policy)
    });
    let policy = match policy {
        Ok(policy) => policy,
        Err(message) => {
            fail(json, message);
            return ExitCode::from(USAGE);
        }
    };
    let evidence = match read_evidence(&file) {
        Ok(evidence) => evidence,
        Err(error) => {
            let message = format_args!("cannot read the evidence {}: {error}", file.display());
            fail(json, message);
            return ExitCode::from(REFUSED);
        }
    };
    let at = at.unwrap_or_else(now);
    let store = store.open();
    let given = Given { certs, collateral };
    let endorsements = match given.endorsements(store.as_ref(), &evidence, at) {
        Ok(endorsements) => endorsements,
        Err(message) => {
            fail(json, message);
            return ExitCode::from(USAGE);
        }
    };
    let verifier = Verifier::new(policy);
    let references = match references.values(at) {
        Ok(references) => references,
        Err((code, message)) => {
            fail(json, message);
            return ExitCode::from(code);
        }
    };
    let mut expected = Expected::at(at);
    if let Some(references) = &references {
        expected = expected.with_references(references);
    }
    let verdict = verifier.verify(&evidence, &endorsements, &expected);
    if let Some(path) = ear_key {
        if let Err(message) = print_ear(&verdict, &path) {
            let message = format_args!("cannot sign with {}: {message}", path.display());
            fail(json, message);
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
        print_json(&serde_json::json!(verdict));
    } else {
        out!("{verdict}");
    }
}

/// The endorsements that are given on the command line.
struct Given {
    certs: Option<PathBuf>,
    collateral: Option<PathBuf>,
}

impl Given {
    /// The given endorsements, with those that are missing taken from the store.
    fn endorsements(
        &self,
        store: Option<&Store>,
        evidence: &[u8],
        at: Timestamp,
    ) -> Result<Endorsements, String> {
        self.fits(evidence)?;
        let mut endorsements = match store {
            Some(store) => store.endorsements(evidence, at),
            None => Endorsements::default(),
        };
        if let Some(path) = &self.collateral {
            let collateral = read(path)
                .map_err(|e| format!("cannot read the collateral {}: {e}", path.display()))?;
            endorsements.intel = Some(collateral);
        }
        if let Some(folder) = &self.certs {
            let given = certificates(folder)?;
            endorsements.amd = match store {
                Some(store) => store.complete(given, evidence, at),
                None => given,
            };
        }
        Ok(endorsements)
    }

    /// Refuses endorsements for another kind of evidence, which would be of no effect.
    fn fits(&self, evidence: &[u8]) -> Result<(), String> {
        match Evidence::parse(evidence) {
            Ok(Evidence::Snp(_)) if self.collateral.is_some() => Err(
                "--collateral is for TDX and SGX quotes, and this is an SEV-SNP report: give --certs"
                    .to_owned(),
            ),
            Ok(Evidence::Quote(quote)) if self.certs.is_some() => Err(format!(
                "--certs is for SEV-SNP reports, and this is an {} quote: give --collateral",
                quote.tee()
            )),
            _ => Ok(()),
        }
    }
}

/// Reads a folder of certificates; what is missing there is the verdict's to say.
fn certificates(folder: &Path) -> Result<AmdEndorsements, String> {
    let said = |path: &Path, error| format!("cannot read {}: {error}", path.display());
    let bytes = |path: &Path| read(path).map_err(|error| said(path, error));
    let file = |name: &str| {
        let path = folder.join(name);
        match read(&path) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said(&path, error)),
        }
    };
    let mut lists = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| said(folder, error))? {
        let path = entry.map_err(|error| said(folder, error))?.path();
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("crl"))
        {
            lists.push(path);
        }
        if lists.len() > MAX_LISTS {
            let folder = folder.display();
            return Err(format!(
                "{folder} has more than {MAX_LISTS} revocation lists: leave those of the report's product line"
            ));
        }
    }
    lists.sort();
    Ok(AmdEndorsements {
        vek: file("vek.der")?,
        ask: file("ask.der")?,
        ark: file("ark.der")?,
        crls: lists
            .iter()
            .map(|path| bytes(path))
            .collect::<Result<_, _>>()?,
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
        assert_eq!(parse_time("0"), Ok(Timestamp(0)));
        assert_eq!(parse_time("253402300799"), Ok(Timestamp::LAST_DATE));
        for bad in [
            "",
            "-1",
            "yesterday",
            "2025-01-09",
            "1969-12-31T23:59:59Z",
            "20260330",
            "1793491200000",
            "253402300800",
            "18446744073709551615",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
