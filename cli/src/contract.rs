// SPDX-License-Identifier: Apache-2.0

//! `enarx contract`: contracts of Keeps for people. Their signatures say whose they are; a Keep's evidence says more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_agent::Ticket;
use enarx_attestation::Timestamp;
use enarx_contract::canonical::Base64;
use enarx_contract::{Agreement, Contract, ContractError, Doors, MinTcb, Tenant, Terms};
use enarx_session::receipt::Receipt;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::json::Json;
use crate::output::print_json;

/// Show contracts of Keeps.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Show(Show),
}

/// Show the terms of a contract, its digest, and whether its signatures are valid
///
/// The digest is the HOST_DATA of the contract's Keep. Exits with 3 when a signature is not valid, and with 65 when the
/// file is not a contract in its canonical form.
#[derive(Args)]
struct Show {
    /// A contract (FILE.contract of `enarx deploy --receipt`), with or without signatures, also as Base64; or a ticket of
    /// `enarx deploy --detach`
    file: PathBuf,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        let Command::Show(show) = &self.command;
        show.json.on
    }
}

/// A contract, and the signatures that came with it.
fn read(path: &Path) -> Result<Agreement, Failure> {
    // A ticket has a private key in it.
    let bytes = Zeroizing::new(input::read(path)?);
    let shown = path.display();
    if let Ok(ticket) = Ticket::from_bytes(&bytes) {
        return Ok(ticket.agreement().clone());
    }
    if let Ok(receipt) = Receipt::decode(&bytes) {
        return Err(Failure::data(format!(
            "{shown} is a receipt, which has only the contract's digest, {}: give the contract, which `enarx deploy \
            --receipt` writes beside it",
            receipt.body.contract
        )));
    }
    // An editor may have ended the last line.
    let bytes = bytes.trim_ascii_end();
    // Programs that write Base64 break its lines.
    let packed: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let quoted = [b"\"", packed.as_slice(), b"\""].concat();
    let unpacked = serde_json::from_slice::<Base64>(&quoted).map(|bytes| bytes.0);
    let bytes = unpacked.as_deref().unwrap_or(bytes);
    if let Ok(agreement) = Agreement::decode(bytes) {
        return Ok(agreement);
    }
    let contract = Contract::decode(bytes).map_err(|error| refused(path, &error))?;
    Ok(Agreement {
        contract: Base64(contract.bytes().to_vec()),
        tenant: None,
        host: None,
    })
}

fn refused(path: &Path, error: &ContractError) -> Failure {
    let exit = match error {
        ContractError::Signature(_) | ContractError::TenantKey => Exit::Refused,
        _ => Exit::Data,
    };
    let advice = match error {
        ContractError::Form(_) => {
            ": give FILE.contract of `enarx deploy --receipt`, or a contract of `--json`"
        }
        _ => "",
    };
    Failure::of(
        exit,
        format!("{}: {}: {error}{advice}", path.display(), error.code()),
    )
}

/// Reads a contract with its signatures, all of which hold.
///
/// # Errors [`Exit::Input`]; [`Exit::Data`] for a file that is not a contract; [`Exit::Refused`] when a signature is
/// not valid.
pub fn load(path: &Path) -> Result<(Contract, Agreement), Failure> {
    let agreement = read(path)?;
    let contract = agreement.verify().map_err(|error| refused(path, &error))?;
    Ok((contract, agreement))
}

/// Runs the command.
///
/// # Errors
/// As [`load`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Command::Show(show) = &arguments.command;
    let (contract, agreement) = load(&show.file)?;
    if show.json.on {
        print_json(&described(&contract, &agreement)?);
    } else {
        out!("{}", text(&contract, &agreement));
    }
    Ok(ExitCode::SUCCESS)
}

/// The contract for programs.
fn described(contract: &Contract, agreement: &Agreement) -> Result<Value, Failure> {
    let terms: Value = serde_json::from_slice(contract.bytes())
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(json!({
        "digest": contract.digest().to_string(),
        "keep": contract.keep_id().to_string(),
        "signed_by_tenant": agreement.tenant.is_some(),
        "tenant_key": agreement.tenant.as_ref().map(|by| spki(&by.key)),
        "signed_by_host": agreement.host.is_some(),
        "terms": terms,
    }))
}

/// A line for people: its name and its value.
type Row = (&'static str, String);

/// The contract for people.
fn text(contract: &Contract, agreement: &Agreement) -> String {
    let terms = contract.terms();
    let mut rows = vec![
        (
            "contract",
            format!("SHA-256 {} (HOST_DATA)", contract.digest()),
        ),
        ("keep", contract.keep_id().to_string()),
    ];
    rows.extend(parties(terms));
    rows.extend(machine(terms));
    rows.extend(service(terms));
    rows.extend(signatures(agreement, &terms.tenant));
    let rows = rows
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"));
    rows.collect()
}

/// The host and the tenant.
fn parties(Terms { host, tenant, .. }: &Terms) -> [Row; 2] {
    [
        (
            "host",
            format!("{}, key {}", host.name.as_str(), spki(&host.key)),
        ),
        (
            "tenant",
            match tenant {
                Tenant::Named(key) => format!("key {}", spki(key)),
                Tenant::Open => "open: the first to release an application".to_owned(),
            },
        ),
    ]
}

/// The platform, as far as the contract names it, and the image.
fn machine(
    Terms {
        platform, image, ..
    }: &Terms,
) -> Vec<Row> {
    let mut rows = vec![(
        "platform",
        format!(
            "{}, Keeps of the kind {}",
            word(&platform.tee),
            word(&platform.backend)
        ),
    )];
    if let Some(product) = &platform.product {
        rows.push(("product", product.as_str().to_owned()));
    }
    if let Some(policy) = &platform.guest_policy {
        rows.push(("guest policy", format!("0x{policy}")));
    }
    if let Some(floor) = &platform.min_tcb {
        rows.push(("lowest TCB", lowest(*floor)));
    }
    if let Some(image) = image {
        let release = image.release.as_ref();
        let release =
            release.map_or_else(String::new, |name| format!("release {}, ", name.as_str()));
        rows.push((
            "image",
            format!("{release}launch digest {}", image.measurement),
        ));
    }
    rows
}

/// The service of the host: how much, which doors, and when.
fn service(
    Terms {
        resources,
        doors,
        times,
        class,
        ..
    }: &Terms,
) -> [Row; 5] {
    [
        (
            "resources",
            format!(
                "{} MiB of memory, virtual CPUs: {}",
                resources.memory >> 20,
                resources.vcpus
            ),
        ),
        ("doors", open(doors)),
        (
            "holds",
            format!(
                "{} to {}",
                Timestamp(times.not_before),
                Timestamp(times.not_after)
            ),
        ),
        (
            "times",
            format!(
                "{} s without an application, {} s of running, {} s of them without a session",
                times.unprovisioned_seconds, times.runtime_seconds_max, times.detached_seconds_max
            ),
        ),
        ("class", class.as_str().to_owned()),
    ]
}

/// The signatures, all of which hold.
fn signatures(agreement: &Agreement, tenant: &Tenant) -> [Row; 2] {
    let signed = |there: bool| {
        if there {
            "signed, and valid"
        } else {
            "not signed"
        }
    };
    [
        (
            "by the tenant",
            match (&agreement.tenant, tenant) {
                (Some(by), Tenant::Open) => {
                    format!("{}, with the key {}", signed(true), spki(&by.key))
                }
                (by, _) => signed(by.is_some()).to_owned(),
            },
        ),
        ("by the host", signed(agreement.host.is_some()).to_owned()),
    ]
}

/// A key as its SubjectPublicKeyInfo, in hexadecimal.
fn spki(key: &enarx_contract::PublicKey) -> String {
    enarx_attestation::hex::encode(key.spki())
}

/// The components of a TCB version; processors before Turin have no FMC.
fn lowest(floor: MinTcb) -> String {
    let MinTcb {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    } = floor;
    let fmc = fmc.map_or_else(String::new, |fmc| format!("FMC {fmc}, "));
    format!("{fmc}boot loader {bootloader}, TEE {tee}, SNP {snp}, microcode {microcode}")
}

/// The doors in one line, in the words of the flags that ask for them.
fn open(doors: &Doors) -> String {
    let Doors {
        listen,
        connect,
        resolve,
        directories,
    } = doors;
    let directories = directories.iter().map(|door| {
        let rights = if door.read_only { " (read-only)" } else { "" };
        format!("directory {}{rights}", door.name)
    });
    let doors: Vec<_> = listen
        .iter()
        .map(|rule| format!("listen at {rule}"))
        .chain(connect.iter().map(|rule| format!("connect to {rule}")))
        .chain(resolve.iter().map(|rule| format!("look up {rule}")))
        .chain(directories)
        .collect();
    if doors.is_empty() {
        return "none".to_owned();
    }
    doors.join(", ")
}

/// A part of the terms as the contract writes it.
fn word(part: &impl Serialize) -> String {
    // Whatever is in a contract has been written before.
    let text = serde_json::to_string(part).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::Directory;

    #[test]
    fn doors_and_versions_are_printed_in_words() {
        let doors = Doors {
            listen: vec!["443/tcp".parse().unwrap()],
            connect: vec!["db.example:5432/tcp".parse().unwrap()],
            resolve: vec!["*.example".parse().unwrap()],
            directories: vec![Directory {
                name: "/data".to_owned(),
                read_only: true,
            }],
        };
        assert_eq!(
            open(&doors),
            "listen at 443/tcp, connect to db.example:5432/tcp, look up *.example, directory /data (read-only)"
        );
        assert_eq!(open(&Doors::default()), "none");
        let milan = MinTcb {
            fmc: None,
            bootloader: 4,
            tee: 0,
            snp: 24,
            microcode: 219,
        };
        assert_eq!(lowest(milan), "boot loader 4, TEE 0, SNP 24, microcode 219");
        let turin = MinTcb {
            fmc: Some(1),
            ..milan
        };
        assert!(lowest(turin).starts_with("FMC 1, boot loader 4"));
    }
}
