// SPDX-License-Identifier: Apache-2.0

//! Measurements of a build of Enarx: its individual layers, and its launches. Trusts its input, which comes from
//! the builder.

use std::fmt;

use enarx_attestation::hex::Hex;
use enarx_attestation::reference::{LaunchDigest, PlatformKind};
use enarx_boot::layout::MAX_VCPUS;
use enarx_launch::Runtime;
use enarx_launch::layout::LaunchError;
use enarx_launch::measured::{self, C_BIT, Images, Parameters, SIMULATED_C_BIT, SPARE_VCPUS};
use enarx_launch::variant::Variant;
use enarx_snp::launch::PageType;
use enarx_snp::product::GENERATIONS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest;

/// One layer of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Layer {
    /// SHA-256 of its file.
    pub sha256: Hex<32>,
    /// Size of its file, in bytes.
    pub size: u64,
}

impl Layer {
    /// The layer with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Hex(Sha256::digest(bytes).into()),
            size: bytes.len() as u64,
        }
    }
}

/// The four layers of Enarx and the loader between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Layers {
    /// The VMM: the `enarx` command. The tenant does not trust it and no launch digest covers it.
    pub vmm: Layer,
    /// The microkernel, an ELF executable.
    pub microkernel: Layer,
    /// The microkernel of the simulated platform.
    pub microkernel_simulated: Layer,
    /// The loader, which checks the runtime before it enters it.
    pub loader: Layer,
    /// The WebAssembly runtime with WASI, one ELF executable.
    pub runtime: Layer,
}

/// How many pages of each type a launch loads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PageCounts {
    /// All pages.
    pub total: u32,
    /// Contents and address are measured.
    pub normal: u32,
    /// States of vCPUs.
    pub vmsa: u32,
    /// Zeroed by the firmware.
    pub zero: u32,
    /// Only the address is measured.
    pub unmeasured: u32,
    /// The secrets page.
    pub secrets: u32,
    /// The CPUID page.
    pub cpuid: u32,
}

impl PageCounts {
    fn count(&mut self, kind: PageType) {
        self.total += 1;
        *match kind {
            PageType::Normal => &mut self.normal,
            PageType::Vmsa => &mut self.vmsa,
            PageType::Zero => &mut self.zero,
            PageType::Unmeasured => &mut self.unmeasured,
            PageType::Secrets => &mut self.secrets,
            PageType::Cpuid => &mut self.cpuid,
        } += 1;
    }
}

/// One launch with its digest and pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MeasuredLaunch {
    /// The launch and its digest.
    pub launch: LaunchDigest,
    /// Its pages.
    pub pages: PageCounts,
}

/// The programs of a build of Enarx.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// Version of Enarx.
    pub version: &'a str,
    /// The VMM: the `enarx` command.
    pub vmm: &'a [u8],
    /// The microkernel.
    pub microkernel: &'a [u8],
    /// The microkernel of the simulated platform.
    pub microkernel_simulated: &'a [u8],
    /// The loader.
    pub loader: &'a [u8],
    /// The runtime.
    pub runtime: Runtime<'a>,
}

/// The measurements of a build of Enarx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Measurement {
    /// Version of Enarx.
    pub version: String,
    /// Its layers.
    pub layers: Layers,
    /// Its launches, by platform and number of vCPUs.
    pub launches: Vec<MeasuredLaunch>,
}

impl Measurement {
    /// Measures a build: its launches with 1 to 64 vCPUs on SEV-SNP and on the simulated platform.
    ///
    /// # Errors
    /// [`LaunchError`] for programs that cannot be laid out.
    pub fn of(build: &Build<'_>) -> Result<Self, LaunchError> {
        Self::of_variant(build, Variant::PLAIN, false)
    }

    /// As [`Self::of`], of launches of this variant; with `fault_addresses` of those whose fault reports have addresses,
    /// which are for development. A release has neither.
    ///
    /// # Errors
    /// [`LaunchError`] for programs that cannot be laid out.
    pub fn of_variant(
        build: &Build<'_>,
        variant: Variant,
        fault_addresses: bool,
    ) -> Result<Self, LaunchError> {
        let images = Images {
            microkernel: build.microkernel,
            loader: build.loader,
            runtime: build.runtime,
        };
        let simulated = Images {
            microkernel: build.microkernel_simulated,
            ..images
        };
        let mut launches = Vec::new();
        for (platform, images) in [
            (PlatformKind::Snp, &images),
            (PlatformKind::Simulated, &simulated),
        ] {
            launches.extend(measured_launches(
                platform,
                images,
                variant,
                fault_addresses,
            )?);
        }
        Ok(Self {
            version: build.version.to_owned(),
            layers: Layers {
                vmm: Layer::of(build.vmm),
                microkernel: Layer::of(build.microkernel),
                microkernel_simulated: Layer::of(build.microkernel_simulated),
                loader: Layer::of(build.loader),
                runtime: Layer {
                    sha256: Hex(build.runtime.sha256()),
                    size: build.runtime.bytes().len() as u64,
                },
            },
            launches,
        })
    }

    /// The published schema of a measurement as JSON.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Measurement).to_value()
    }
}

impl fmt::Display for Measurement {
    /// The measurement for people: a line for each layer, then one for each launch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layers {
            vmm,
            microkernel,
            microkernel_simulated,
            loader,
            runtime,
        } = &self.layers;
        writeln!(f, "enarx {}", self.version)?;
        for (name, layer) in [
            ("vmm (this command, untrusted)", vmm),
            ("microkernel", microkernel),
            ("microkernel (simulated)", microkernel_simulated),
            ("loader", loader),
            ("runtime (WASM and WASI)", runtime),
        ] {
            let Layer { sha256, size } = layer;
            writeln!(f, "{name:<30} {size:>10} bytes  SHA-256 {sha256}")?;
        }
        for MeasuredLaunch { launch, pages } in &self.launches {
            let LaunchDigest {
                platform,
                vcpus,
                digest,
                ..
            } = launch;
            let total = pages.total;
            // The number that the command is given; a Keep has further vCPUs for threads that sleep.
            match vcpus.checked_sub(SPARE_VCPUS) {
                Some(asked) if asked > 0 => writeln!(
                    f,
                    "{platform:<9} --vcpus {asked:>2} ({vcpus:>2} vCPUs, {total} pages)  {digest}"
                )?,
                // Fewer than any Keep of the command has.
                _ => {}
            }
        }
        Ok(())
    }
}

/// The launches with 1 to 64 vCPUs. The states of the vCPUs are the last pages of the list and the only ones that
/// depend on their number, so the digest after each of them is that of a launch.
fn measured_launches(
    platform: PlatformKind,
    images: &Images<'_>,
    variant: Variant,
    fault_addresses: bool,
) -> Result<Vec<MeasuredLaunch>, LaunchError> {
    let parameters = Parameters {
        // One that does not fit is refused as too many.
        vcpus: u32::try_from(MAX_VCPUS).unwrap_or(u32::MAX),
        c_bit: match platform {
            PlatformKind::Snp => C_BIT,
            PlatformKind::Simulated => SIMULATED_C_BIT,
        },
        fault_addresses,
        variant,
    };
    let launch = measured::launch(images, &parameters)?;
    let mut digest = digest::INITIAL;
    let mut pages = PageCounts::default();
    let mut launches = Vec::new();
    for page in &launch.pages {
        digest = digest::extended(digest, page);
        pages.count(page.kind);
        if page.kind == PageType::Vmsa {
            let launch = LaunchDigest {
                platform,
                products: GENERATIONS.iter().map(|g| g.name.to_owned()).collect(),
                vcpus: pages.vmsa,
                digest: Hex(digest),
            };
            launches.push(MeasuredLaunch { launch, pages });
        }
    }
    Ok(launches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_hashed() {
        // SHA-256 of "abc": FIPS 180-2, appendix B.1.
        let layer = Layer::of(b"abc");
        assert_eq!(
            layer.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(layer.size, 3);
    }
}
