// SPDX-License-Identifier: Apache-2.0

//! The programs of a Keep that this command carries, and their launch digests.

use enarx_attestation::hex::Hex;
use enarx_attestation::reference::PlatformKind;
use enarx_backend::launch::{Images, Runtime};
use enarx_launch::measured::SPARE_VCPUS;
use enarx_measurement::{Build, Measurement};
use enarx_runtime_image::{
    LOADER, MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED, RUNTIME, RUNTIME_SHA256,
};

use crate::failure::Failure;

/// The programs of a Keep.
pub static IMAGES: Images = Images {
    runtime: Runtime::with_digest(RUNTIME, RUNTIME_SHA256),
    microkernel: MICROKERNEL,
    microkernel_plain: MICROKERNEL_PLAIN,
    microkernel_simulated: MICROKERNEL_SIMULATED,
    loader: LOADER,
};

/// This build of Enarx; `vmm` is this command itself.
pub const fn build(vmm: &[u8]) -> Build<'_> {
    Build {
        version: env!("CARGO_PKG_VERSION"),
        vmm,
        microkernel: MICROKERNEL,
        microkernel_simulated: MICROKERNEL_SIMULATED,
        loader: LOADER,
        runtime: IMAGES.runtime,
    }
}

/// The launch digests of this build's Keeps on a platform, by their virtual CPUs.
///
/// # Errors
/// When the programs cannot be laid out.
pub fn launch_digests(platform: PlatformKind) -> Result<Vec<(u32, Hex<48>)>, Failure> {
    let measurement = Measurement::of(&build(&[])).map_err(unmeasurable)?;
    let launches = measurement
        .launches
        .into_iter()
        .map(|measured| measured.launch);
    Ok(launches
        .filter(|launch| launch.platform == platform)
        .filter_map(|launch| {
            let vcpus = launch.vcpus.checked_sub(SPARE_VCPUS)?;
            (vcpus > 0).then_some((vcpus, launch.digest))
        })
        .collect())
}

/// A build that cannot be laid out.
pub fn unmeasurable(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("this build cannot be measured: {error}"))
}
