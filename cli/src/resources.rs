// SPDX-License-Identifier: Apache-2.0

//! The Keep that a deployment asks for: its memory, its processors, its times, and the image that this build measures. A
//! host that keeps Keeps ready makes the same.

use enarx_agent::Platforms;
use enarx_attestation::reference::PlatformKind;
use enarx_contract::canonical::Hex;
use enarx_contract::{Image, Resources, Tee};
use enarx_manager_api::PlatformOffer;

use crate::images;
use crate::local::flags::MIN_MEMORY;

/// Least granularity of a Keep's memory, in bytes: a large page.
const GRANULE: u64 = 2 << 20;
/// Memory of a Keep unless `--memory` says otherwise, in bytes, and its virtual CPUs unless `--vcpus` does.
const MEMORY: u64 = 1 << 30;
const VCPUS: u32 = 1;
/// How long the application may run, in seconds, unless `--timeout` says less.
pub const RUNTIME: u32 = 30 * 24 * 3600;
/// How long an application goes on without its tenant with `--detach`, in seconds: the most that a host allows unless its
/// owner says otherwise.
pub const LONG_DETACHED: u32 = 24 * 3600;

/// This build's images, as far as the policy could accept them at all.
pub struct OwnImages {
    /// The policy accepts the simulated platform.
    pub simulated: bool,
}

/// This build's image for a platform, with so many virtual CPUs; `None` where nothing is measured.
pub fn image(offer: &PlatformOffer, vcpus: u32) -> Option<Image> {
    let kind = match offer.tee {
        Tee::Snp => PlatformKind::Snp,
        Tee::Simulated => PlatformKind::Simulated,
        Tee::None => return None,
    };
    let digests = images::launch_digests(kind).ok()?;
    let (_, digest) = digests.into_iter().find(|(count, _)| *count == vcpus)?;
    Some(Image {
        release: None,
        measurement: Hex(digest.0),
    })
}

/// The resources of a Keep with so much memory, in bytes.
pub fn resources(vcpus: u32, memory: u64) -> Resources {
    let memory = memory.max(MIN_MEMORY);
    Resources {
        vcpus,
        memory: memory.checked_next_multiple_of(GRANULE).unwrap_or(memory),
    }
}

/// The resources that a deployment without options asks for.
pub fn plain_resources() -> Resources {
    resources(VCPUS, MEMORY)
}

impl Platforms for OwnImages {
    fn image(&self, offer: &PlatformOffer, vcpus: u32) -> Option<Image> {
        image(offer, vcpus)
    }

    fn accepts(&self, tee: Tee) -> bool {
        match tee {
            Tee::Snp => true,
            Tee::Simulated => self.simulated,
            Tee::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Arguments;
    use crate::values;
    use clap::{Args as _, Command};

    #[test]
    fn a_plain_deployment_asks_for_the_resources_of_the_default_class() {
        let command = Arguments::augment_args(Command::new("deploy"));
        let default = |name: &str| {
            let argument = command.get_arguments().find(|found| found.get_id() == name);
            let values = argument.expect("an option").get_default_values();
            values[0].to_str().expect("text").to_owned()
        };
        assert_eq!(values::size(&default("memory")), Ok(MEMORY));
        assert_eq!(default("vcpus").parse(), Ok(VCPUS));
    }
}
