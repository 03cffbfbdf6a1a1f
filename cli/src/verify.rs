// SPDX-License-Identifier: Apache-2.0

//! `enarx verify`: evidence in, verdict out. Reads files and the clock; the judgement is `enarx-attestation`'s.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use enarx_attestation::{
    AmdEndorsements, Endorsements, Evidence, Expected, Timestamp, Verdict, Verifier,
};
use zeroize::Zeroizing;

use crate::certs::StoreArguments;
use crate::endorsements::certificates;
use crate::failure::{Exit, Failure};
use crate::input::{self, MAX_PROGRAM_LEN, now};
use crate::json::Json;
use crate::output::{print_json, print_states};
use crate::policy;
use crate::release::ReferenceArguments;
use crate::values::{self, Nonce};

/// Verify attestation evidence: an SEV-SNP report, or a TDX or SGX quote.
///
/// Exits with 0 when the policy accepts the evidence and 3 when it is refused. A kind of evidence is accepted only by a
/// policy with its table: "snp", "tdx" or "sgx". Every value that a flag names is compared or refused. The last line,
/// and not_compared of the JSON, name what accepted evidence was not compared with.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The evidence, as the hardware produced it; `-` for standard input
    file: PathBuf,
    /// A folder with vek.der, ask.der, ark.der and revocation lists (*.crl), for SEV-SNP only; the file names of
    /// snpguest (vcek.pem …) and cert_chain are understood, and what it lacks comes from the store
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Collateral as JSON, for TDX and SGX only
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A policy file, or the name of a built-in policy: default, insecure-authenticity-only
    #[arg(long, value_name = "FILE|NAME", default_value = enarx_attestation::policy::DEFAULT)]
    policy: String,
    /// The time to verify at, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z); default: now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    keep: KeepArguments,
    #[command(flatten)]
    references: ReferenceArguments,
    #[command(flatten)]
    store: StoreArguments,
    /// Print the verdict as an EAT attestation result (EAR, a JWT) signed ES256 with this PKCS #8 key in PEM
    #[arg(long, value_name = "FILE")]
    ear_key: Option<PathBuf>,
    /// How long the token is valid; never longer than the certificates, revocation lists and release that the verdict
    /// rests on
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = values::duration, requires = "ear_key")]
    ear_lifetime: Duration,
    #[command(flatten)]
    pub json: Json,
}

/// The values that evidence of a Keep is bound to: its report data, whatever its kind, is computed from all three.
#[derive(Args, Debug)]
struct KeepArguments {
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

impl KeepArguments {
    /// The expectations of evidence at the time `at`.
    fn expected(&self, at: Timestamp) -> Result<Expected<'_>, Failure> {
        let expected = Expected::at(at).known_at(now());
        let (Some(Nonce(nonce)), Some(application), Some(configuration)) =
            (&self.nonce, &self.application, &self.configuration)
        else {
            return Ok(expected);
        };
        let read = |path: &Path| input::read_up_to(path, MAX_PROGRAM_LEN);
        Ok(expected.of_keep(nonce, &read(application)?, &read(configuration)?))
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`]; [`Exit::Input`]; [`Exit::Data`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let policy = policy::load(&arguments.policy)?;
    let at = arguments.at.unwrap_or_else(now);
    let mut expected = arguments.keep.expected(at)?;
    if expected.contradicts(&policy) {
        return Err(Failure::usage(
            "the report data in the policy differs from that of --nonce, --application and --configuration: leave out one of them",
        ));
    }
    let (evidence, delivered) = input::read_evidence(&arguments.file)?;
    let endorsements = arguments.endorsements(&evidence, delivered, at)?;
    let references = arguments.references.values(at)?;
    if let Some(references) = &references {
        expected = expected.with_references(references);
    }
    let verdict = Verifier::new(policy).verify(&evidence, &endorsements, &expected);
    arguments.print(&verdict)?;
    Ok(if verdict.is_accepted() {
        ExitCode::SUCCESS
    } else {
        Exit::Refused.into()
    })
}

impl Arguments {
    /// Prints the verdict in the form that was asked for.
    fn print(&self, verdict: &Verdict) -> Result<(), Failure> {
        if let Some(path) = &self.ear_key {
            let lifetime = u32::try_from(self.ear_lifetime.as_secs()).unwrap_or(u32::MAX);
            let token = verdict
                .to_ear(&Zeroizing::new(input::read_text(path)?), lifetime)
                .map_err(|error| {
                    Failure::data(format!("cannot sign with {}: {error}", path.display()))
                })?;
            if self.json.on {
                print_json(&serde_json::json!({ "token": token }));
            } else {
                outln!("{token}");
            }
        } else if self.json.on {
            print_json(&serde_json::json!(verdict));
        } else {
            print_states(&verdict.to_string());
        }
        Ok(())
    }

    /// The given endorsements; what is missing is taken from what was `delivered` with the evidence, and from the store.
    fn endorsements(
        &self,
        evidence: &[u8],
        delivered: AmdEndorsements,
        at: Timestamp,
    ) -> Result<Endorsements, Failure> {
        self.fits(evidence)?;
        let store = self.store.open();
        let mut endorsements = match &store {
            Some(store) => store.endorsements(evidence, at),
            None => Endorsements::default(),
        };
        if let Some(path) = &self.collateral {
            endorsements.intel = Some(input::read(path)?);
        }
        let given = match &self.certs {
            Some(folder) => Some(certificates(folder)?),
            None => Some(delivered).filter(|delivered| *delivered != AmdEndorsements::default()),
        };
        if let Some(given) = given {
            endorsements.amd = match &store {
                Some(store) => store.complete(given, evidence, at),
                None => given,
            };
        }
        Ok(endorsements)
    }

    /// Refuses endorsements for another kind of evidence, which would be of no effect.
    fn fits(&self, evidence: &[u8]) -> Result<(), Failure> {
        match Evidence::parse(evidence) {
            Ok(Evidence::Snp(_)) if self.collateral.is_some() => Err(Failure::usage(
                "--collateral is for TDX and SGX quotes, and this is an SEV-SNP report: give --certs",
            )),
            Ok(Evidence::Quote(quote)) if self.certs.is_some() => Err(Failure::usage(format!(
                "--certs is for SEV-SNP reports, and this is an {} quote: give --collateral",
                quote.tee()
            ))),
            _ => Ok(()),
        }
    }
}
