// SPDX-License-Identifier: Apache-2.0

//! `enarx policy`: make, check and explain policies. The judgement is `enarx-attestation`'s.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use enarx_attestation::attacks::{ATTACKS, Attack, Defence, NOT_VISIBLE};
use enarx_attestation::hex::Hex;
use enarx_attestation::policy::{DEFAULT, INSECURE_AUTHENTICITY_ONLY};
use enarx_attestation::reference::{PlatformKind, ReleaseStatus};
use enarx_attestation::{CATALOGUE, Policy, Verdict};
use enarx_collateral::file;
use enarx_manager_api::PlatformOffer;
use enarx_snp::product::MILAN;
use serde_json::json;

use crate::failure::Failure;
use crate::host::flags::Machine;
use crate::host::serve;
use crate::images;
use crate::input;
use crate::json::Json;
use crate::options::nearest;
use crate::output::print_json;
use crate::release;

/// Create, check and explain policies.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that a policy can be used, and warn about protection that it gives up or does not require
    Check {
        /// A policy file, or the name of a built-in policy
        policy: String,
        #[command(flatten)]
        json: Json,
    },
    /// Print a policy for deployments of this build, or of releases: launch digests, and the default floors
    New {
        #[command(flatten)]
        of: Platform,
        #[command(flatten)]
        machine: Machine,
        #[command(flatten)]
        release: ReleaseArguments,
    },
    /// Show every key of a policy with its meaning and value, and the known attacks
    Explain {
        /// A policy file, or the name of a built-in policy
        policy: String,
    },
    /// Print a schema as JSON
    Schema {
        /// The document that it describes
        #[arg(value_enum, default_value = "policy")]
        of: Schema,
    },
}

/// The platform of a new policy.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Platform {
    /// Keeps on SEV-SNP
    #[arg(long)]
    snp: bool,
    /// Keeps on the simulated platform of this machine, as for `enarx deploy --local`
    #[arg(long)]
    local: bool,
    /// Keeps on simulated platforms with these roots (`enarx host show` of their hosts), which protect nothing
    #[arg(long, value_name = "ROOT", num_args = 1..)]
    simulated: Vec<Hex<32>>,
}

/// The releases of a new policy.
#[derive(Args, Debug)]
struct ReleaseArguments {
    /// Require a release of this signed manifest (see `enarx release`), instead of this build's launch digests. A
    /// verifier that uses the policy needs the manifest, too (--manifest)
    #[arg(long = "release", value_name = "FILE", requires = "keys")]
    manifest: Option<PathBuf>,
    /// A public key of the manifest's publisher, as PEM
    #[arg(long = "manifest-key", value_name = "FILE", requires = "manifest")]
    keys: Vec<PathBuf>,
}

impl ReleaseArguments {
    /// Has the policy demand the current releases of the manifest, if there is one.
    fn demand(&self, policy: &mut Policy, platform: PlatformKind) -> Result<(), Failure> {
        let Some(path) = &self.manifest else {
            return Ok(());
        };
        let at = input::now();
        let manifest = release::verified(path, &self.keys, None, at)?;
        let releases = manifest.manifest().releases.iter();
        let current = releases.filter(|release| {
            release.status == ReleaseStatus::Current && release.usable(at).is_ok()
        });
        let current: Vec<_> = current.collect();
        if current.is_empty() {
            return Err(Failure::data(format!(
                "{} has no current release: take the newest manifest of the publisher",
                path.display()
            )));
        }
        let fitting = current
            .into_iter()
            .filter(|release| release.launches.iter().any(|it| it.platform == platform));
        policy.snp.releases = fitting.map(|release| release.version.clone()).collect();
        if policy.snp.releases.is_empty() {
            return Err(Failure::data(format!(
                "no current release of {} has a launch digest for the platform {platform}, so the policy would accept \
                nothing: take a manifest that has one, or this build's digests (without --release)",
                path.display()
            )));
        }
        policy.snp.measurements.clear();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Schema {
    /// A policy file
    Policy,
    /// A verdict of `enarx verify --json`
    Verdict,
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        match &self.command {
            Command::Check { json, .. } => json.on,
            Command::New { .. } | Command::Explain { .. } | Command::Schema { .. } => false,
        }
    }
}

/// Loads a policy by the name of a built-in one or from a file.
///
/// # Errors
/// [`crate::failure::Exit::Input`] when there is no such policy, [`crate::failure::Exit::Data`] when it is wrong.
pub fn load(name: &str) -> Result<Policy, Failure> {
    if let Some(policy) = Policy::builtin(name) {
        return Ok(policy);
    }
    let bytes = file::read(Path::new(name)).map_err(|error| {
        let builtin = [DEFAULT, INSECURE_AUTHENTICITY_ONLY].map(str::to_owned);
        let mut failure = input::unreadable(Path::new(name), &error);
        if let (ErrorKind::NotFound, Some(near)) = (error.kind(), nearest(name, &builtin)) {
            failure.sentence = format!("{}; did you mean the policy {near}?", failure.sentence);
        }
        failure
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::data(format!("the policy {name} is not text in UTF-8")))?;
    Policy::from_toml(&text)
        .map_err(|error| Failure::data(format!("the policy {name} is wrong: {error}")))
}

/// Runs the command.
///
/// # Errors
/// [`crate::failure::Exit::Usage`]; [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`];
/// [`crate::failure::Exit::Refused`] for a manifest that does not hold.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Check { policy, json } => {
            let policy = load(policy)?;
            if json.on {
                print_json(&json!({
                    "policy": policy.name,
                    "warnings": policy.warnings(),
                    "gives_protection_away": policy.insecure_switches(),
                }));
            } else {
                out!("{}", checked(&policy));
            }
        }
        Command::New {
            of,
            machine,
            release,
        } => {
            let mut policy = of.policy(machine)?;
            release.demand(&mut policy, of.kind())?;
            out!("{}", written(&policy));
        }
        Command::Explain { policy } => out!("{}", explanation(&load(policy)?)),
        Command::Schema { of } => {
            let schema = match of {
                Schema::Policy => Policy::json_schema(),
                Schema::Verdict => Verdict::json_schema(),
            };
            outln!("{schema:#}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Platform {
    fn kind(&self) -> PlatformKind {
        if self.snp {
            PlatformKind::Snp
        } else {
            PlatformKind::Simulated
        }
    }

    fn policy(&self, machine: &Machine) -> Result<Policy, Failure> {
        if self.snp {
            return of_launches(PlatformKind::Snp, Vec::new());
        }
        let roots = if self.local {
            let root = serve::simulated_root(machine)?;
            vec![
                root.parse()
                    .map_err(|_| Failure::new("the root of the simulated platform"))?,
            ]
        } else {
            self.simulated.clone()
        };
        of_launches(PlatformKind::Simulated, roots)
    }
}

/// The policy that accepts this build's Keeps on platforms that a host offers, and nothing else.
///
/// # Errors
/// When this build cannot be measured.
pub fn of_this_build(platforms: &[PlatformOffer]) -> Result<Policy, Failure> {
    let roots = platforms
        .iter()
        .filter_map(|platform| platform.simulated_root);
    of_launches(
        PlatformKind::Simulated,
        roots.map(|root| Hex(root.0)).collect(),
    )
}

/// The policy that accepts this build's launches on a platform, with the default floors.
fn of_launches(platform: PlatformKind, roots: Vec<Hex<32>>) -> Result<Policy, Failure> {
    let mut policy = Policy {
        name: format!("deploy-{platform}"),
        insecure_simulated_roots: roots,
        ..Policy::default()
    };
    let digests = images::launch_digests(platform)?;
    if platform == PlatformKind::Snp {
        // Any report of such a CPU can be forged (badfuse), so users have to add them explicitly.
        policy.snp.products.retain(|product| product != MILAN.name);
    }
    policy.snp.measurements = digests.into_iter().map(|(_, digest)| digest).collect();
    Ok(policy)
}

/// A new policy as a file: its values, and the keys that every tenant should think about. Everything else is as in the
/// built-in policy `default`, which demands the floors of known attacks.
fn written(policy: &Policy) -> String {
    let accepted = if policy.snp.releases.is_empty() {
        env!("CARGO_PKG_VERSION").to_owned()
    } else {
        policy.snp.releases.join(", ")
    };
    let mut lines = vec![
        format!(
            "# Accepts only Keeps of enarx {accepted}. `enarx policy explain FILE` shows every key, including those that are not here."
        ),
        format!("version = {}", policy.version),
        format!("name = \"{}\"", policy.name),
    ];
    if !policy.insecure_simulated_roots.is_empty() {
        lines.push(
            "\n# Simulated platforms protect nothing: the owner of the machine can read everything."
                .to_owned(),
        );
        lines.push("insecure-simulated-roots = [".to_owned());
        let roots = &policy.insecure_simulated_roots;
        lines.extend(roots.iter().map(|root| format!("    \"{root}\",")));
        lines.push("]".to_owned());
    }
    lines.push("\n[snp]".to_owned());
    let products = &policy.snp.products;
    if !products.iter().any(|product| product == MILAN.name) {
        let products: Vec<_> = products.iter().map(|it| format!("\"{it}\"")).collect();
        lines.push("# Without milan: any report of such a CPU can be forged.".to_owned());
        lines.push(format!("products = [{}]", products.join(", ")));
    }
    if policy.snp.releases.is_empty() {
        lines.push("# Launch digests, by the virtual CPUs of the Keep (--vcpus).".to_owned());
        lines.push("measurements = [".to_owned());
        let digests = (1..).zip(&policy.snp.measurements);
        lines.extend(digests.map(|(vcpus, digest)| format!("    \"{digest}\", # {vcpus}")));
        lines.push("]".to_owned());
    } else {
        let releases = policy.snp.releases.iter();
        let releases: Vec<_> = releases.map(|it| format!("\"{it}\"")).collect();
        lines.push(
            "# Releases, whose launch digests are in a signed manifest (--manifest).".to_owned(),
        );
        lines.push(format!("releases = [{}]", releases.join(", ")));
    }
    lines.push(
        "# Only a list of chips that you trust helps against the key of a chip that was broken into:\n\
         # allowed-chips = [\"CHIP_ID\"]"
            .to_owned(),
    );
    lines.join("\n") + "\n"
}

/// The result of `policy check` for a policy that can be used.
fn checked(policy: &Policy) -> String {
    let (warnings, insecure) = (policy.warnings(), policy.insecure_switches());
    let given_away = insecure
        .into_iter()
        .map(|switch| format!("gives up protection: {switch}"));
    let warnings: Vec<_> = warnings.into_iter().chain(given_away).collect();
    if warnings.is_empty() {
        return format!("{}: good\n", policy.name);
    }
    let warnings: Vec<_> = warnings.iter().map(|w| format!("warning: {w}\n")).collect();
    format!("{}: can be used, but\n{}", policy.name, warnings.concat())
}

/// The result of `policy explain`: every key with its value, and what is known of attacks.
fn explanation(policy: &Policy) -> String {
    let mut lines = vec![
        format!(
            "# The policy {}: every key with its meaning and value.",
            policy.name
        ),
        "# A kind of evidence is accepted only if its table, [snp], [tdx] or [sgx], is in the policy file.\n"
            .to_owned(),
    ];
    lines.push(policy.explained());
    lines.push("# Switches that give up protection:".to_owned());
    let insecure = policy.insecure_switches();
    if insecure.is_empty() {
        lines.push("#   none".to_owned());
    }
    lines.extend(insecure.iter().map(|switch| format!("#   {switch}")));
    let warnings = policy.warnings();
    if !warnings.is_empty() {
        lines.push("#\n# Warnings about this policy:".to_owned());
        lines.extend(warnings.iter().map(|warning| format!("#   {warning}")));
    }
    if !policy.snp.releases.is_empty() {
        lines.push(format!(
            "#\n# Launch digests are judged by the releases {} of a signed manifest:\n\
             #   enarx verify --manifest FILE --manifest-key FILE. Withdrawn and expired releases are refused.",
            policy.snp.releases.join(", ")
        ));
    }
    lines.push(
        "#\n# Known attacks; the policy asks for the mitigation of those marked with *.".to_owned(),
    );
    for attack in &ATTACKS {
        let mark = if policy.snp.required_attacks().any(|a| a == attack) {
            '*'
        } else {
            ' '
        };
        lines.push(format!(
            "# {mark} {}: {}. {}",
            attack.name, attack.summary, attack.bulletin
        ));
        lines.push(format!("#     shown by: {}", defences(attack)));
        lines.push(format!("#     source: {}", attack.source));
    }
    lines.push("# Not visible in any report:".to_owned());
    lines.extend(
        NOT_VISIBLE
            .iter()
            .map(|(name, advice)| format!("#   {name}: {advice}")),
    );
    lines.push("#\n# The checks of a verdict:".to_owned());
    lines.extend(
        CATALOGUE
            .iter()
            .map(|(name, meaning)| format!("#   {name}: {meaning}")),
    );
    lines.join("\n") + "\n"
}

/// The evidence in a report that the attack is mitigated, for people.
fn defences(attack: &Attack) -> String {
    let mut shown = Vec::new();
    for defence in attack.defences {
        match defence {
            Defence::Platform(bit) => shown.push(format!("platform bit {}", bit.name)),
            Defence::GuestPolicy(bit) => shown.push(format!("guest policy bit {}", bit.name)),
            Defence::RefuseProducts(products) => shown.push(format!("not {}", products.join(", "))),
            Defence::Floors(floors) => shown.extend(floors.iter().map(|floor| {
                let name = floor.part.map_or(floor.product, |part| part.name);
                format!("{name} {} ≥ {:#x}", floor.component.name(), floor.svn)
            })),
        }
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_policy_is_read_as_it_was_written() {
        let policy = of_launches(PlatformKind::Simulated, vec![Hex([7; 32])]).unwrap();
        assert_eq!(policy.snp.measurements.len(), 62);
        let read = Policy::from_toml(&written(&policy)).unwrap();
        assert_eq!(
            read.insecure_simulated_roots,
            policy.insecure_simulated_roots
        );
        assert_eq!(read.snp, policy.snp);
        assert_eq!(read.missing, policy.missing);
        let genuine = of_launches(PlatformKind::Snp, Vec::new()).unwrap();
        let read = Policy::from_toml(&written(&genuine)).unwrap();
        assert_eq!(read.snp, genuine.snp);
        assert!(read.insecure_switches().is_empty());
        // Other kinds of evidence are no Keeps.
        assert!(!read.tdx.accept && !read.sgx.accept);
    }
}
