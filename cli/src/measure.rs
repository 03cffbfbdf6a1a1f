//! `enarx measure`: what the Keeps of this build measure to, from the images alone.

use std::process::ExitCode;

use enarx_attestation::reference::PlatformKind;
use enarx_keep_image::{LOADER, MICROKERNEL, MICROKERNEL_SIMULATED, RUNTIME};
use enarx_launch::measured::{self, C_BIT, Images, Parameters, SPARE_VCPUS};
use enarx_measurement::{Layer, Layers, MeasuredLaunch, Measurement};
use enarx_snp::product::GENERATIONS;

use crate::Failure;

/// Print the launch digests and layers of this build, as a verifier expects them
///
/// They are computed from the images alone: the same on every machine, for every model of CPU with
/// SEV-SNP, and whatever memory a Keep is given. The number of vCPUs counts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Virtual CPUs, as in `enarx run --vcpus`; default: 1, 2, 4 and 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=62))]
    vcpus: Vec<u32>,
    /// The platform; default: both
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// Print the digest alone; for one number of vCPUs and one platform
    #[arg(long, requires_all = ["vcpus", "platform"], conflicts_with = "json")]
    digest: bool,
    /// Print JSON, as `enarx release add` takes it
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Platform {
    /// AMD SEV-SNP
    Snp,
    /// The simulated platform
    Sim,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let measurement = measure(args)?;
    if args.digest {
        for measured in &measurement.launches {
            println!("{}", measured.launch.digest);
        }
    } else if args.json {
        let text = serde_json::to_string_pretty(&measurement)
            .map_err(|error| Failure::new(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", text(&measurement));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args) -> Result<Measurement, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let own = std::env::current_exe()
        .and_then(std::fs::read)
        .map_err(|error| failed(&format!("this command's own file cannot be read: {error}")))?;
    let numbers = if args.vcpus.is_empty() {
        &[1, 2, 4, 8]
    } else {
        args.vcpus.as_slice()
    };
    let platforms = [
        (Platform::Snp, PlatformKind::Snp, MICROKERNEL),
        (
            Platform::Sim,
            PlatformKind::Simulated,
            MICROKERNEL_SIMULATED,
        ),
    ];
    let products: Vec<String> = GENERATIONS
        .iter()
        .map(|generation| generation.name.to_owned())
        .collect();
    let mut launches = Vec::new();
    for (platform, kind, microkernel) in platforms {
        if args.platform.is_some_and(|wanted| wanted != platform) {
            continue;
        }
        for &vcpus in numbers {
            let images = Images {
                microkernel,
                loader: LOADER,
                runtime: RUNTIME,
            };
            let parameters = Parameters {
                vcpus: vcpus + SPARE_VCPUS,
                c_bit: C_BIT,
            };
            let launch = measured::launch(&images, &parameters).map_err(|error| failed(&error))?;
            launches.push(MeasuredLaunch::new(
                kind,
                products.clone(),
                vcpus,
                &launch.pages,
            ));
        }
    }
    Ok(Measurement {
        version: env!("CARGO_PKG_VERSION").into(),
        layers: Layers {
            vmm: Layer::of(&own),
            microkernel: Layer::of(MICROKERNEL),
            loader: Layer::of(LOADER),
            runtime: Layer::of(RUNTIME),
        },
        launches,
    })
}

fn text(measurement: &Measurement) -> String {
    let layers = &measurement.layers;
    let mut text = format!("enarx {}\n\nlayers (SHA-256, bytes)\n", measurement.version);
    for (name, layer) in [
        ("vmm (untrusted, not measured)", &layers.vmm),
        ("microkernel", &layers.microkernel),
        ("loader", &layers.loader),
        ("runtime: WASM and WASI", &layers.runtime),
    ] {
        text += &format!("  {name:<30} {} {}\n", layer.sha256, layer.size);
    }
    text += "\nlaunch digests (platform, vCPUs, measured pages)\n";
    for MeasuredLaunch { launch, pages } in &measurement.launches {
        let platform = match launch.platform {
            PlatformKind::Snp => "snp",
            PlatformKind::Simulated => "simulated",
        };
        text += &format!(
            "  {platform:<9} {:>2} {:>3} {}\n",
            launch.vcpus, pages.total, launch.digest
        );
    }
    text
}
