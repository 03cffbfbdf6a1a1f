// SPDX-License-Identifier: Apache-2.0

//! `enarx measure`: what this build of Enarx measures to. The measuring is `enarx-measurement`'s.

use std::process::ExitCode;

use clap::ValueEnum;
use enarx_attestation::reference::PlatformKind;
use enarx_launch::measured::SPARE_VCPUS;
use enarx_launch::variant::Variant;
use enarx_measurement::Measurement;

use crate::failure::Failure;
use crate::images;
use crate::json::Json;
use crate::options::{self, SevOption};
use crate::output::print_json;
use crate::values;

/// Compute the measurements of this build of Enarx: its layers, and its launch digests by number of vCPUs
///
/// The digests are computed from the images alone. They do not depend on the machine, the model of CPU or the
/// memory of a Keep, only on the number of vCPUs: a Keep has two more than `enarx run --vcpus` says, for
/// threads that sleep. The JSON is the input of `enarx release add`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only launches of `enarx run --vcpus NUMBER`
    #[arg(long, value_name = "NUMBER", value_parser = values::vcpus)]
    vcpus: Option<u32>,
    /// Only launches on this platform
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// Print only the launch digest
    #[arg(long, requires_all = ["vcpus", "platform"])]
    digest: bool,
    /// For launches with `enarx run --insecure-fault-addresses`, which no policy should name
    #[arg(long)]
    insecure_fault_addresses: bool,
    /// For launches with these properties, as for `enarx run`: SEV features are measured, the guest policy is in every
    /// report
    #[arg(long = "sev", value_name = "NAME[=y|n]", value_delimiter = ',', value_parser = options::sev)]
    sev: Vec<SevOption>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Platform {
    /// AMD SEV-SNP
    Snp,
    /// The simulated platform
    Sim,
}

impl Platform {
    const fn kind(self) -> PlatformKind {
        match self {
            Self::Snp => PlatformKind::Snp,
            Self::Sim => PlatformKind::Simulated,
        }
    }
}

/// Measures this build.
///
/// # Errors
/// When this command cannot read itself, or its programs cannot be laid out.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let vmm = std::env::current_exe()
        .and_then(std::fs::read)
        .map_err(|error| Failure::new(format!("cannot read the enarx command itself: {error}")))?;
    let build = images::build(&vmm);
    let variant = options::variant(&arguments.sev);
    let addresses = arguments.insecure_fault_addresses;
    let mut measurement =
        Measurement::of_variant(&build, variant, addresses).map_err(images::unmeasurable)?;
    measurement.launches.retain(|measured| {
        let launch = &measured.launch;
        let vcpus = arguments.vcpus.map(|vcpus| vcpus + SPARE_VCPUS);
        let platform = arguments.platform.map(Platform::kind);
        vcpus.is_none_or(|vcpus| launch.vcpus == vcpus)
            && platform.is_none_or(|platform| launch.platform == platform)
    });
    if arguments.json.on && !arguments.digest {
        if addresses {
            return Err(Failure::usage(
                "--insecure-fault-addresses: no release should name such launches: leave out --json",
            ));
        }
        if variant.features() != Variant::PLAIN.features() {
            return Err(Failure::usage(format!(
                "--sev: a release names launches without {variant}: name the digest in a policy's measurements, or leave out --json"
            )));
        }
    }
    if arguments.digest {
        for measured in &measurement.launches {
            let digest = measured.launch.digest;
            if arguments.json.on {
                print_json(&serde_json::json!({ "digest": digest }));
            } else {
                outln!("{digest}");
            }
        }
    } else if arguments.json.on {
        print_json(&serde_json::json!(measurement));
    } else {
        out!("{measurement}");
    }
    Ok(ExitCode::SUCCESS)
}
