// SPDX-License-Identifier: Apache-2.0

//! `enarx ear`: attestation results of a verifier, for those who rely on them. The judgement is `enarx-attestation`'s.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_attestation::{AttestationResult, Claim, EarRefusal, Timestamp, Wanted, hex};
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::input::{self, now};
use crate::json::Json;
use crate::options::nearest;
use crate::output::print_json;
use crate::values::{self, Nonce};

/// Seconds by which the clocks of the verifier and of this computer may differ.
const SKEW: u32 = 60;

/// Verify attestation results (EAR tokens) of a verifier.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(Verify),
}

/// Verify a token that `enarx verify --ear-key` made, without the evidence
///
/// A token is valid if this verifier has signed it, until it expires. Exits with 0 when it is valid, the verifier
/// affirms every attester in it, and everything matches the flags; with 3 otherwise. The last line, and not_compared of
/// the JSON, name what was not compared. Clocks may differ by a minute.
#[derive(Args)]
struct Verify {
    /// The token; `-` for standard input
    file: PathBuf,
    /// The verifier's public key (curve P-256, SPKI in PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The nonce that the verifier should have compared (--nonce of `enarx verify`), in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = values::nonce)]
    nonce: Option<Nonce>,
    /// The name of the policy that the verifier should have used
    #[arg(long, value_name = "NAME")]
    policy_name: Option<String>,
    /// A fact that the evidence has to state, such as guest.measurement=DIGEST; the names are those of the verdict's claims
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(Claim, String)>,
    /// The time to verify at, as seconds since 1970 or RFC 3339 (2027-01-01T00:00:00Z); default: now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    #[command(flatten)]
    json: Json,
}

/// A claim and its value.
fn claim(text: &str) -> Result<(Claim, String), String> {
    let (name, Some(value)) = values::pair(text) else {
        return Err("write a claim as NAME=VALUE, such as guest.measurement=DIGEST".to_owned());
    };
    let claim = name.parse().map_err(|_| {
        let names: Vec<_> = Claim::ALL.iter().map(ToString::to_string).collect();
        nearest(name, &names).map_or_else(
            || format!("no claim is named {name}: `enarx verify --json` shows their names"),
            |near| format!("no claim is named {name}: did you mean {near}?"),
        )
    })?;
    Ok((claim, value.trim().to_owned()))
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
/// [`Exit::Input`]; [`Exit::Data`]; [`Exit::Refused`] for a token that does not hold.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Command::Verify(verify) = &arguments.command;
    let key = input::read_text(&verify.key)?;
    let token = input::read_text(&verify.file)?;
    let at = verify.at.unwrap_or_else(now);
    let result = AttestationResult::read(&token, &key, at, SKEW)
        .map_err(|refusal| verify.refused(&refusal))?;
    let wanted = Wanted {
        nonce: verify.nonce.as_ref().map(|Nonce(nonce)| nonce.as_slice()),
        policy: verify.policy_name.as_deref(),
        claims: &verify.claims,
    };
    result
        .check(&wanted)
        .map_err(|refusal| verify.refused(&refusal))?;
    verify.show(&result);
    Ok(ExitCode::SUCCESS)
}

impl Verify {
    /// A failure with the name of the refusal.
    fn refused(&self, refusal: &EarRefusal) -> Failure {
        let (exit, file) = match refusal {
            EarRefusal::Key => (Exit::Data, &self.key),
            EarRefusal::Format(_) => (Exit::Data, &self.file),
            _ => (Exit::Refused, &self.file),
        };
        let sentence = format!("{}: {refusal}", file.display());
        Failure::of(exit, sentence).named(refusal.code())
    }

    /// The flags that were not given, after which any token of this verifier would hold as well.
    fn not_compared(&self) -> Vec<&'static str> {
        [
            ("nonce", self.nonce.is_none()),
            ("policy-name", self.policy_name.is_none()),
            ("claim", self.claims.is_empty()),
        ]
        .into_iter()
        .filter(|(_, is_none)| *is_none)
        .map(|(name, _)| name)
        .collect()
    }

    fn show(&self, result: &AttestationResult) {
        let not_compared = self.not_compared();
        if self.json.on {
            print_json(&json!({
                "issued_unix": result.issued.0,
                "expires_unix": result.expires.0,
                "nonce": result.nonce.as_deref().map(hex::encode),
                "attesters": result.attesters,
                "not_compared": not_compared,
            }));
            return;
        }
        outln!(
            "the token is valid: issued {}, expires {}",
            result.issued,
            result.expires
        );
        for (attester, appraisal) in &result.attesters {
            outln!(
                "{attester}: {} under policy {}",
                appraisal.status,
                appraisal.policies.join(", ")
            );
            for (claim, value) in &appraisal.claims {
                outln!("  {claim}: {value}");
            }
            for warning in &appraisal.warnings {
                outln!("warning: {warning}");
            }
            if !appraisal.not_compared.is_empty() {
                outln!(
                    "not compared by the verifier: {}",
                    appraisal.not_compared.join(", ")
                );
            }
        }
        if !not_compared.is_empty() {
            let flags = not_compared.iter().map(|name| format!("--{name}"));
            outln!(
                "not compared: {}: a token with any other value passes as well",
                flags.collect::<Vec<_>>().join(", ")
            );
        }
    }
}
