// SPDX-License-Identifier: Apache-2.0

//! `--warm` and `--class` of `enarx host serve`: the sizes of Keep that a host keeps ready.

use clap::Args;
use enarx_contract::canonical::Name;
use enarx_contract::{MAX_VCPUS, MinTcb, Platform, Resources, Tee};
use enarx_manager::{Capacity, Class};
use enarx_manager_api::{Limits, PlatformOffer};
use enarx_snp::product;
use enarx_snp::tcb::TcbVersion;

use crate::failure::Failure;
use crate::resources::{LONG_DETACHED, RUNTIME, image, plain_resources, resources};
use crate::values;

/// The class of what `enarx deploy` asks for without options.
const DEFAULT: &str = "default";

/// Most Keeps of a class that wait.
const MAX_WARM: u32 = 1024;

/// The options about classes.
#[derive(Args, Debug)]
pub struct Classes {
    /// Keep this number of Keeps of a class ready for the next deployments, which then start at once; may be repeated.
    /// A number alone is for the class `default`, which `enarx deploy` asks for without options
    #[arg(long, value_name = "CLASS=N", value_parser = warm)]
    warm: Vec<(Name, u32)>,
    /// Define a class for --warm by the virtual CPUs and the memory of its Keeps; may be repeated
    #[arg(long = "class", value_name = "NAME=VCPUS,MEMORY", value_parser = class)]
    classes: Vec<(Name, Resources)>,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text)
        .filter(|name| name.as_str() != enarx_contract::PROBE)
        .ok_or_else(|| {
            format!(
                "`{text}` is not a name for a class: use 1 to 64 of a-z, 0-9, '.', '-', '_', '+', and not `{}`",
                enarx_contract::PROBE
            )
        })
}

/// `CLASS=N`, or `N`.
fn warm(text: &str) -> Result<(Name, u32), String> {
    let (class, number) = match values::pair(text) {
        (class, Some(number)) => (class, number),
        (number, None) => (DEFAULT, number),
    };
    let number = number
        .parse()
        .ok()
        .filter(|number| *number <= MAX_WARM)
        .ok_or_else(|| format!("write CLASS=N, with a number of Keeps up to {MAX_WARM}"))?;
    Ok((name(class)?, number))
}

/// `NAME=VCPUS,MEMORY`.
fn class(text: &str) -> Result<(Name, Resources), String> {
    const SYNTAX_HINT: &str = "write NAME=VCPUS,MEMORY, as in large=4,8G";
    let (class, Some(size)) = values::pair(text) else {
        return Err(SYNTAX_HINT.to_owned());
    };
    let (vcpus, memory) = size.split_once(',').ok_or(SYNTAX_HINT)?;
    let vcpus = vcpus
        .parse()
        .ok()
        .filter(|vcpus| (1..=MAX_VCPUS).contains(vcpus))
        .ok_or_else(|| format!("a Keep has 1 to {MAX_VCPUS} virtual CPUs: {SYNTAX_HINT}"))?;
    if class == DEFAULT {
        return Err(format!(
            "the class {DEFAULT} is what `enarx deploy` asks for without options: use another name"
        ));
    }
    Ok((name(class)?, resources(vcpus, values::size(memory)?)))
}

impl Classes {
    /// The classes on this platform, each within what a tenant may have.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`] for a class that is not defined, defined twice, or too large.
    pub fn on(&self, offer: &PlatformOffer, limits: &Limits) -> Result<Vec<Class>, Failure> {
        let standard = (Name::cleaned(DEFAULT), plain_resources());
        let asked = |name: &Name| self.warm.iter().any(|(class, _)| class == name);
        let standard = Some(standard).filter(|(name, _)| asked(name));
        let known: Vec<_> = standard.iter().chain(&self.classes).collect();
        for (position, (name, _)) in known.iter().enumerate() {
            if known
                .iter()
                .skip(position + 1)
                .any(|(other, _)| other == name)
            {
                return Err(Failure::usage(format!(
                    "--class {}: it is defined twice",
                    name.as_str()
                )));
            }
        }
        for (name, resources) in &known {
            if resources.vcpus > limits.vcpus || resources.memory > limits.memory {
                return Err(Failure::usage(format!(
                    "--class {}: a tenant of this machine may have at most {} virtual CPUs and {} MiB of memory",
                    name.as_str(),
                    limits.vcpus,
                    limits.memory >> 20
                )));
            }
        }
        for (name, _) in &self.warm {
            if !known.iter().any(|(class, _)| class == name) {
                return Err(Failure::usage(format!(
                    "--warm {0}: there is no such class; define it with --class {0}=VCPUS,MEMORY",
                    name.as_str()
                )));
            }
        }
        let platform = platform(offer);
        let class = |(name, resources): &(Name, Resources)| {
            let warm = self.warm.iter().rev().find(|(class, _)| class == name);
            Class {
                name: name.clone(),
                platform: platform.clone(),
                image: image(offer, resources.vcpus),
                resources: *resources,
                detached_seconds_max: LONG_DETACHED,
                runtime_seconds_max: RUNTIME,
                warm: warm.map_or(0, |(_, number)| *number),
            }
        };
        Ok(known.into_iter().map(class).collect())
    }
}

/// The remark where the Keeps that are to wait are more than the host has room for; `None` where they are not.
pub fn capacity_warning(classes: &[Class], room: &Capacity) -> Option<String> {
    let sum = |of: fn(&Resources) -> u64| {
        let all = classes
            .iter()
            .map(|class| of(&class.resources).saturating_mul(class.warm.into()));
        all.fold(0, u64::saturating_add)
    };
    let keeps = sum(|_| 1);
    let vcpus = sum(|resources| resources.vcpus.into());
    let memory = sum(|resources| resources.memory);
    let fits = keeps <= room.keeps.into() && vcpus <= room.vcpus.into() && memory <= room.memory;
    (!fits).then(|| {
        format!(
            "--warm asks for {keeps} Keeps with {vcpus} virtual CPUs and {} MiB in all, and this host has room for {}, \
            {} and {} MiB: fewer will wait",
            memory >> 20,
            room.keeps,
            room.vcpus,
            room.memory >> 20
        )
    })
}

/// The platform of the contracts. Its floor is the host's own TCB version: a tenant whose policy asks for more would
/// refuse the Keep's evidence.
fn platform(offer: &PlatformOffer) -> Platform {
    let measured = offer.tee != Tee::None;
    let generation = offer
        .product
        .as_ref()
        .and_then(|name| product::by_name(name.as_str()));
    let floor = |generation: &product::Generation| {
        let own = offer.tcb.map_or([0; 8], |tcb| tcb.0);
        MinTcb::of(TcbVersion(own), generation.tcb)
    };
    Platform {
        tee: offer.tee,
        backend: offer.backend,
        product: offer.product.clone().filter(|_| measured),
        guest_policy: offer.guest_policy.filter(|_| measured),
        min_tcb: generation.map(floor).filter(|_| measured),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};
    use enarx_contract::Backend;

    fn parse(arguments: &[&str]) -> Result<Classes, String> {
        let command = Classes::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command
            .try_get_matches_from(arguments)
            .map_err(|error| error.to_string())?;
        Classes::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    /// A platform without measurements, so that no image is needed.
    fn bare() -> PlatformOffer {
        PlatformOffer {
            tee: Tee::None,
            backend: Backend::Kvm,
            product: None,
            guest_policy: None,
            chip_id: None,
            tcb: None,
            simulated_root: None,
        }
    }

    const LIMITS: Limits = Limits {
        vcpus: 8,
        memory: 8 << 30,
        keeps: 1,
        runtime_seconds_max: 1,
        detached_seconds_max: 1,
    };

    fn made(arguments: &[&str]) -> Result<Vec<(String, u32, u64, u32)>, String> {
        let classes = parse(arguments)?.on(&bare(), &LIMITS);
        let classes = classes.map_err(|failure| failure.sentence)?;
        let short = |class: Class| {
            let Resources { vcpus, memory } = class.resources;
            (class.name.as_str().to_owned(), vcpus, memory, class.warm)
        };
        Ok(classes.into_iter().map(short).collect())
    }

    #[test]
    fn classes_are_those_defined_and_the_default_if_requested() {
        let default = |warm| ("default".to_owned(), 1, 1 << 30, warm);
        let large = |warm| ("large".to_owned(), 4, 8 << 30, warm);
        for (arguments, expected) in [
            (&[][..], vec![]),
            (&["--warm", "0"], vec![default(0)]),
            (&["--warm", "2"], vec![default(2)]),
            (&["--warm", "default=2"], vec![default(2)]),
            (&["--class", "large=4,8G"], vec![large(0)]),
            (
                &["--class", "large=4,8G", "--warm", "large=1", "--warm", "3"],
                vec![default(3), large(1)],
            ),
            (&["--warm", "1", "--warm", "2"], vec![default(2)]),
        ] {
            assert_eq!(made(arguments).as_ref(), Ok(&expected), "{arguments:?}");
        }
    }

    #[test]
    fn classes_that_make_no_sense_are_refused() {
        for arguments in [
            &["--warm", "large=1"][..],
            &["--warm", "default=x"],
            &["--warm", "=1"],
            &["--warm", "probe=1"],
            &["--warm", "1025"],
            &["--class", "large"],
            &["--class", "large=4"],
            &["--class", "large=0,1G"],
            &["--class", "large=63,1G"],
            &["--class", "large=9,1G"],
            &["--class", "large=1,9G"],
            &["--class", "large=1,many"],
            &["--class", "Large=1,1G"],
            &["--class", "default=1,1G"],
            &["--class", "a=1,1G", "--class", "a=2,1G"],
        ] {
            assert!(made(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_warning_reports_more_warm_keeps_than_fit() {
        let room = Capacity {
            keeps: 64,
            vcpus: 16,
            memory: 32 << 30,
        };
        for (warm, is_crowded) in [("4", false), ("5", true), ("1024", true)] {
            let warm = format!("large={warm}");
            let classes = parse(&["--class", "large=1,8G", "--warm", &warm]).unwrap();
            let classes = classes.on(&bare(), &LIMITS).unwrap();
            assert_eq!(
                capacity_warning(&classes, &room).is_some(),
                is_crowded,
                "{warm}"
            );
        }
    }

    #[test]
    fn the_floor_is_the_hosts_own_version() {
        let offer = PlatformOffer {
            tee: Tee::Snp,
            backend: Backend::Snp,
            product: Name::new("milan"),
            guest_policy: Some(enarx_contract::canonical::Hex([0; 8])),
            tcb: Some(enarx_contract::canonical::Hex([4, 1, 0, 0, 0, 0, 24, 219])),
            ..bare()
        };
        let floor = MinTcb {
            fmc: None,
            bootloader: 4,
            tee: 1,
            snp: 24,
            microcode: 219,
        };
        assert_eq!(platform(&offer).min_tcb, Some(floor));
    }
}
