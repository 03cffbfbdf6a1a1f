// SPDX-License-Identifier: Apache-2.0

//! The contents of a measured Keep's launch, by `enarx measure`: pages by kind, layers by size.

use std::process::Command;

use serde::Deserialize;

use crate::error::Error;
use crate::measure::Programs;
use crate::table::Table;

/// The output of `enarx measure --json`, as far as it is shown here.
#[derive(Deserialize)]
struct Measurement {
    layers: Layers,
    launches: Vec<Launch>,
}

/// The layers that the secure processor's measurement covers.
#[derive(Deserialize)]
struct Layers {
    microkernel: Layer,
    #[serde(rename = "microkernel-simulated")]
    simulated: Layer,
    loader: Layer,
    runtime: Layer,
}

#[derive(Deserialize)]
struct Layer {
    /// In bytes.
    size: u64,
}

#[derive(Deserialize)]
struct Launch {
    pages: Pages,
}

/// Pages of 4 KiB by the kind in which they are given to the secure processor.
#[derive(Deserialize)]
struct Pages {
    total: u64,
    normal: u64,
    vmsa: u64,
    zero: u64,
    secrets: u64,
    cpuid: u64,
}

/// Prints the tables, for a Keep of one processor.
pub fn print(programs: &Programs) -> Result<(), Error> {
    let output = Command::new(&programs.enarx)
        .args(["measure", "--json", "--platform", "sim", "--vcpus", "1"])
        .output()
        .map_err(Error::system("`enarx measure` could not be started"))?;
    let read = || -> Option<(Layers, Pages)> {
        let measurement: Measurement = serde_json::from_slice(&output.stdout).ok()?;
        let launch = measurement.launches.into_iter().next()?;
        Some((measurement.layers, launch.pages))
    };
    let Some((layers, pages)) = read() else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Wrong(format!(
            "`enarx measure --json` printed something other than a measurement: {said}"
        )));
    };
    let mut table = Table::new(["launch, --vcpus 1", "pages of 4 KiB"]);
    for (kind, count) in [
        ("normal", pages.normal),
        ("zero", pages.zero),
        ("CPUID", pages.cpuid),
        ("secrets", pages.secrets),
        ("VMSA (--vcpus, and 2)", pages.vmsa),
        ("all", pages.total),
    ] {
        table.row([kind.to_owned(), count.to_string()]);
    }
    table.print("Pages given to the secure processor");
    let mut table = Table::new(["layer", "KiB"]);
    for (layer, Layer { size }) in [
        ("microkernel", &layers.microkernel),
        ("microkernel (simulated)", &layers.simulated),
        ("loader", &layers.loader),
        ("runtime, copied and checked by the loader", &layers.runtime),
    ] {
        table.row([layer.to_owned(), size.div_ceil(1024).to_string()]);
    }
    table.print("Sizes of the layers");
    Ok(())
}
