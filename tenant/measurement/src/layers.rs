//! What a build of Enarx measures to: its layers one by one, and its launches. Trusts its input, the builder's own.

use enarx_attestation::hex::Hex;
use enarx_attestation::reference::{LaunchDigest, PlatformKind};
use enarx_launch::layout::Page;
use enarx_snp::launch::PageType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::launch_digest;

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
    pub total: u64,
    /// Contents and address are measured.
    pub normal: u64,
    /// States of vCPUs.
    pub vmsa: u64,
    /// Zeroed by the firmware.
    pub zero: u64,
    /// Only the address is measured.
    pub unmeasured: u64,
    /// The secrets page.
    pub secrets: u64,
    /// The CPUID page.
    pub cpuid: u64,
}

impl PageCounts {
    fn count(pages: &[Page]) -> Self {
        let mut counts = Self::default();
        for page in pages {
            counts.total += 1;
            *match page.kind {
                PageType::Normal => &mut counts.normal,
                PageType::Vmsa => &mut counts.vmsa,
                PageType::Zero => &mut counts.zero,
                PageType::Unmeasured => &mut counts.unmeasured,
                PageType::Secrets => &mut counts.secrets,
                PageType::Cpuid => &mut counts.cpuid,
            } += 1;
        }
        counts
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

impl MeasuredLaunch {
    /// Measures the page list of a launch.
    #[must_use]
    pub fn new(platform: PlatformKind, products: Vec<String>, vcpus: u32, pages: &[Page]) -> Self {
        Self {
            launch: LaunchDigest {
                platform,
                products,
                vcpus,
                digest: Hex(launch_digest(pages)),
            },
            pages: PageCounts::count(pages),
        }
    }
}

/// What a build of Enarx measures to.
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
    /// The published schema of a measurement as JSON.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Measurement).to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_hashed_and_pages_counted() {
        // SHA-256 of "abc": FIPS 180-2, appendix B.1.
        let layer = Layer::of(b"abc");
        assert_eq!(
            layer.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(layer.size, 3);
        let pages: Vec<_> = [1, 1, 2, 3, 4, 5, 6, 6]
            .into_iter()
            .map(|number| Page {
                gpa: 0,
                kind: PageType::from_number(number).unwrap(),
                bytes: Box::new([0; 4096]),
            })
            .collect();
        let launch = MeasuredLaunch::new(PlatformKind::Snp, Vec::new(), 1, &pages);
        let expected = PageCounts {
            total: 8,
            normal: 2,
            vmsa: 1,
            zero: 1,
            unmeasured: 1,
            secrets: 1,
            cpuid: 2,
        };
        assert_eq!(launch.pages, expected);
        assert_eq!(launch.launch.digest.0, launch_digest(&pages));
    }
}
