// SPDX-License-Identifier: Apache-2.0

//! Which contracts the host signs: its own, on a platform that it has, within the limits and doors of its offer. It is the
//! host that these checks protect.

use crate::refusal::Refusal;
use enarx_contract::{Contract, ContractError, Doors, MAX_CLOCK_SKEW, Platform, Resources, Times};
use enarx_manager_api::{Limits, Offer, PlatformOffer};
use enarx_snp::product;
use enarx_snp::tcb::TcbVersion;

/// Checks that the contract names this host. The tenant's signature is checked separately.
pub(crate) fn check_host(contract: &Contract, offer: &Offer) -> Result<(), Refusal> {
    let host = &contract.terms().host;
    if host.key != offer.key {
        return Err(Refusal::Host {
            term: "the host's",
            expected: format!("{:?}", offer.key),
            actual: format!("{:?}", host.key),
        });
    }
    if host.name != offer.name {
        return Err(Refusal::Host {
            term: "the host's name",
            expected: offer.name.as_str().to_string(),
            actual: host.name.as_str().to_string(),
        });
    }
    Ok(())
}

/// Checks that the contract keeps to the offer at `now`, in seconds since 1970.
pub(crate) fn check_terms(contract: &Contract, offer: &Offer, now: u64) -> Result<(), Refusal> {
    let terms = contract.terms();
    check_times(&terms.times, &offer.limits, now)?;
    check_platform(&terms.platform, &offer.platforms)?;
    check_resources(terms.resources, &offer.limits)?;
    check_doors(&terms.doors, &offer.doors)
}

/// Longest time that a Keep waits for its application, in seconds: it costs what one that runs costs.
const MAX_UNPROVISIONED: u32 = 600;
/// Longest validity of a contract, in seconds: its record is kept as long.
const MAX_VALID: u64 = 366 * 24 * 3600;

fn check_times(times: &Times, limits: &Limits, now: u64) -> Result<(), Refusal> {
    if times.not_before > now.saturating_add(MAX_CLOCK_SKEW) || times.not_after < now {
        return Err(ContractError::Times {
            not_before: times.not_before,
            not_after: times.not_after,
            now,
        }
        .into());
    }
    let latest = now.saturating_add(MAX_VALID);
    if times.not_after > latest {
        return Err(Refusal::Times {
            term: "not_after",
            limit: u32::try_from(latest).unwrap_or(u32::MAX),
            wanted: u32::try_from(times.not_after).unwrap_or(u32::MAX),
        });
    }
    for (term, limit, wanted) in [
        (
            "runtime_seconds_max",
            limits.runtime_seconds_max,
            times.runtime_seconds_max,
        ),
        (
            "detached_seconds_max",
            limits.detached_seconds_max,
            times.detached_seconds_max,
        ),
        // A Keep that waits costs as much as one that runs.
        (
            "unprovisioned_seconds",
            limits.runtime_seconds_max.min(MAX_UNPROVISIONED),
            times.unprovisioned_seconds,
        ),
    ] {
        if wanted > limit {
            return Err(Refusal::Times {
                term,
                limit,
                wanted,
            });
        }
    }
    Ok(())
}

fn check_platform(wanted: &Platform, offered: &[PlatformOffer]) -> Result<(), Refusal> {
    if offered.iter().any(|offer| has(offer, wanted)) {
        return Ok(());
    }
    let names: Vec<_> = offered
        .iter()
        .map(|offer| {
            name(
                offer.tee,
                offer.backend,
                offer.product.as_ref(),
                offer.guest_policy.as_ref(),
            )
        })
        .collect();
    let actual = name(
        wanted.tee,
        wanted.backend,
        wanted.product.as_ref(),
        wanted.guest_policy.as_ref(),
    );
    let floor = wanted
        .min_tcb
        .map_or_else(String::new, |floor| format!(", at least {floor}"));
    Err(Refusal::Platform {
        expected: names.join(" or "),
        actual: format!("{actual}{floor}"),
    })
}

/// A platform in words.
fn name(
    tee: enarx_contract::Tee,
    backend: enarx_contract::Backend,
    product: Option<&enarx_contract::canonical::Name>,
    policy: Option<&enarx_contract::canonical::Hex<8>>,
) -> String {
    let product = product.map_or_else(String::new, |name| {
        format!(" {}", name.as_str().to_lowercase())
    });
    let policy = policy.map_or_else(String::new, |policy| format!(" policy {policy}"));
    format!("{}/{}{product}{policy}", tee.name(), backend.name())
}

fn has(offer: &PlatformOffer, wanted: &Platform) -> bool {
    let floor_holds = match (wanted.min_tcb, offer.tcb, &offer.product) {
        (Some(floor), Some(tcb), Some(product)) => {
            product::by_name(product.as_str()).is_some_and(|generation| {
                let layout = generation.tcb;
                TcbVersion(tcb.0).at_least(&floor.version(layout), layout)
            })
        }
        // Values that this host does not know of itself are compared by the Keep with its report.
        _ => true,
    };
    offer.tee == wanted.tee
        && offer.backend == wanted.backend
        && offer.product == wanted.product
        && offer.guest_policy == wanted.guest_policy
        && floor_holds
}

fn check_resources(wanted: Resources, limits: &Limits) -> Result<(), Refusal> {
    for (term, limit, wanted) in [
        ("virtual CPUs", limits.vcpus.into(), wanted.vcpus.into()),
        (
            "MiB of memory",
            limits.memory >> 20,
            wanted.memory.div_ceil(1 << 20),
        ),
    ] {
        if wanted > limit {
            return Err(Refusal::Resources {
                term,
                limit,
                wanted,
            });
        }
    }
    Ok(())
}

/// Checks that every door of the contract is in the offer.
fn check_doors(wanted: &Doors, offered: &Doors) -> Result<(), Refusal> {
    let rules = offered.rules();
    for door in &wanted.listen {
        if !rules.permit_listen(door) {
            return Err(Refusal::Doors(format!("listening on {door}")));
        }
    }
    for door in &wanted.connect {
        if !rules.permit_connect(door) {
            return Err(Refusal::Doors(format!("connecting to {door}")));
        }
    }
    for door in &wanted.resolve {
        if !rules.permit_resolve(door) {
            return Err(Refusal::Doors(format!("looking up {door}")));
        }
    }
    for door in &wanted.directories {
        let offer = offered
            .directories
            .iter()
            .find(|offer| offer.name == door.name);
        if offer.is_none_or(|offer| offer.read_only && !door.read_only) {
            return Err(Refusal::Doors(format!("the directory {}", door.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::Directory;

    #[test]
    fn only_doors_of_the_offer_open() {
        let read_only = |name: &str, read_only| Directory {
            name: name.to_string(),
            read_only,
        };
        let doors = |listen: &[&str], connect: &[&str], resolve: &[&str]| Doors {
            listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
            connect: connect.iter().map(|text| text.parse().unwrap()).collect(),
            resolve: resolve.iter().map(|text| text.parse().unwrap()).collect(),
            directories: Vec::new(),
        };
        let offered = Doors {
            directories: vec![read_only("/data", true)],
            ..doors(
                &["443/tcp", "1-65535/udp", "127.0.0.1:8000-8010"],
                &["db.example:5432", "10.0.0.0/8", "[2001:db8::/32]:443"],
                &["*.cdn.example"],
            )
        };
        let is_admitted = |wanted: &Doors| check_doors(wanted, &offered).is_ok();
        assert!(is_admitted(&Doors::default()));
        for listen in [
            "443/tcp",
            "53/udp",
            "10.0.0.1:443/tcp",
            "127.0.0.1:8001-8002",
        ] {
            assert!(is_admitted(&doors(&[listen], &[], &[])), "{listen}");
        }
        for listen in [
            "80/tcp",
            "443",
            "8001",
            "0.0.0.0:8001",
            "127.0.0.1:8001-8011",
        ] {
            assert!(!is_admitted(&doors(&[listen], &[], &[])), "{listen}");
        }
        for connect in [
            "db.example:5432/tcp",
            "10.0.0.0/8:1",
            "10.1.0.0/16",
            "[2001:db8::1]:443",
        ] {
            assert!(is_admitted(&doors(&[], &[connect], &[])), "{connect}");
        }
        for connect in [
            "db.example:1",
            "db.example",
            "other.example:5432",
            "0.0.0.0/0:1",
            "8.0.0.0/6:1",
            "11.0.0.0/8:1",
            "127.0.0.1",
            "2001:db8::/32",
        ] {
            assert!(!is_admitted(&doors(&[], &[connect], &[])), "{connect}");
        }
        assert!(is_admitted(&doors(&[], &[], &["a.cdn.example"])));
        assert!(!is_admitted(&doors(&[], &[], &["cdn.example"])));
        let directory = |directory| Doors {
            directories: vec![directory],
            ..Doors::default()
        };
        assert!(is_admitted(&directory(read_only("/data", true))));
        assert!(!is_admitted(&directory(read_only("/data", false))));
        assert!(!is_admitted(&directory(read_only("/", true))));
    }
}
