//! `enarx measure`: what this build of Enarx measures to. The measuring is `enarx-measurement`'s.

use std::process::ExitCode;

use enarx_keep_image::{MICROKERNEL, RUNTIME};
use enarx_measurement::{Build, Measurement};
use enarx_microkernel_image::{LOADER, MICROKERNEL_SIMULATED};

use crate::Failure;

/// Recompute what this build of Enarx measures to: its layers, and its launch digests by number of vCPUs
#[derive(clap::Args)]
pub struct Arguments {
    /// Only launches with this number of vCPUs, 1 to 64
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: Option<u32>,
    /// Print JSON, which `enarx release add` takes
    #[arg(long)]
    json: bool,
}

/// Measures this build.
///
/// # Errors
/// When this command cannot read itself, or its programs cannot be laid out.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let vmm = std::env::current_exe()
        .and_then(std::fs::read)
        .map_err(|error| Failure::new(format!("cannot read the enarx command itself: {error}")))?;
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        vmm: &vmm,
        microkernel: MICROKERNEL,
        microkernel_simulated: MICROKERNEL_SIMULATED,
        loader: LOADER,
        runtime: RUNTIME,
    };
    let mut measurement = Measurement::of(&build)
        .map_err(|error| Failure::new(format!("this build cannot be measured: {error}")))?;
    if let Some(vcpus) = arguments.vcpus {
        measurement.launches.retain(|l| l.launch.vcpus == vcpus);
    }
    if arguments.json {
        println!("{:#}", serde_json::json!(measurement));
    } else {
        print!("{measurement}");
    }
    Ok(ExitCode::SUCCESS)
}
