// SPDX-License-Identifier: Apache-2.0

//! Which contracts the host signs: its own, on a platform that it has, within the limits and doors of its offer. It is the
//! host that these checks protect.

use crate::refusal::Refusal;
use enarx_contract::{
    Cidr, Connect, Contract, ContractError, Doors, Listen, Platform, Resources, Times,
};
use enarx_manager_api::{Limits, Offer, PlatformOffer};
use enarx_snp::product;
use enarx_snp::tcb::TcbVersion;

/// Seconds by which a contract may begin later than now: the tenant's clock is another one.
const MAX_SKEW: u64 = 300;

/// Checks whose contract it is: this host's. The tenant's signature is checked beside.
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
/// Longest time that a contract holds, in seconds: its record is kept as long.
const MAX_VALID: u64 = 366 * 24 * 3600;

fn check_times(times: &Times, limits: &Limits, now: u64) -> Result<(), Refusal> {
    if times.not_before > now.saturating_add(MAX_SKEW) || times.not_after < now {
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
        .map_or_else(String::new, |floor| format!(", at least {floor:?}"));
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
    let product = product.map_or_else(String::new, |name| format!(" {}", name.as_str()));
    let policy = policy.map_or_else(String::new, |policy| format!(" policy {policy}"));
    format!("{tee:?}/{backend:?}{product}{policy}").to_lowercase()
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
        ("bytes of memory", limits.memory, wanted.memory),
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
    for door in &wanted.listen {
        if !offered.listen.iter().any(|offer| listens(*offer, *door)) {
            return Err(Refusal::Doors(format!(
                "listening on {:?} port {}",
                door.protocol, door.port
            )));
        }
    }
    for door in &wanted.connect {
        if !offered.connect.iter().any(|offer| connects(offer, door)) {
            let peer = door.host.clone().or(door.cidr.map(|cidr| cidr.to_string()));
            return Err(Refusal::Doors(format!(
                "connecting to {} by {:?} on port {}",
                peer.unwrap_or_default(),
                door.protocol,
                door.port
            )));
        }
    }
    if wanted.resolve && !offered.resolve {
        return Err(Refusal::Doors("looking up names".to_string()));
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

/// True if the offer has this door. Port 0 of an offer is every port.
fn listens(offer: Listen, wanted: Listen) -> bool {
    offer.protocol == wanted.protocol && (offer.port == 0 || offer.port == wanted.port)
}

/// True if the offer has this door. A host name may have any address, so only an offer of that name or of all addresses has
/// it.
fn connects(offer: &Connect, wanted: &Connect) -> bool {
    let peer = match (&wanted.host, wanted.cidr) {
        (Some(host), _) => {
            offer.host.as_ref() == Some(host) || offer.cidr.is_some_and(|own| prefix(own) == 0)
        }
        (None, Some(cidr)) => offer.cidr.is_some_and(|own| contains(own, cidr)),
        (None, None) => false,
    };
    peer && offer.protocol == wanted.protocol && (offer.port == 0 || offer.port == wanted.port)
}

/// The parts of a block of addresses, which has one form: `ADDRESS/PREFIX`.
fn parts(cidr: Cidr) -> Option<(std::net::IpAddr, u8)> {
    let text = cidr.to_string();
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

fn prefix(cidr: Cidr) -> u8 {
    parts(cidr).map_or(u8::MAX, |(_, prefix)| prefix)
}

/// True if `inner` lies in `outer` as a whole.
fn contains(outer: Cidr, inner: Cidr) -> bool {
    parts(inner)
        .is_some_and(|(address, prefix)| outer.contains(address) && self::prefix(outer) <= prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::{Directory, Protocol};

    fn connect(host: Option<&str>, cidr: Option<&str>, port: u16) -> Connect {
        Connect {
            protocol: Protocol::Tcp,
            host: host.map(str::to_string),
            cidr: cidr.map(|text| Cidr::parse(text).unwrap()),
            port,
        }
    }

    fn listen(protocol: Protocol, port: u16) -> Listen {
        Listen { protocol, port }
    }

    #[test]
    fn only_doors_of_the_offer_open() {
        let offered = Doors {
            listen: vec![listen(Protocol::Tcp, 443), listen(Protocol::Udp, 0)],
            connect: vec![
                connect(Some("db.example"), None, 5432),
                connect(None, Some("10.0.0.0/8"), 0),
                connect(None, Some("2001:db8::/32"), 443),
            ],
            resolve: false,
            directories: vec![Directory {
                name: "/data".to_string(),
                read_only: true,
            }],
        };
        let with = |change: fn(&mut Doors)| {
            let mut doors = Doors::default();
            change(&mut doors);
            check_doors(&doors, &offered).is_ok()
        };
        let admitted: [fn(&mut Doors); 8] = [
            |_| {},
            |doors| doors.listen.push(listen(Protocol::Tcp, 443)),
            |doors| doors.listen.push(listen(Protocol::Udp, 53)),
            |doors| doors.connect.push(connect(Some("db.example"), None, 5432)),
            |doors| doors.connect.push(connect(None, Some("10.0.0.0/8"), 1)),
            |doors| doors.connect.push(connect(None, Some("10.1.0.0/16"), 0)),
            |doors| {
                doors
                    .connect
                    .push(connect(None, Some("2001:db8::1/128"), 443));
            },
            |doors| {
                doors.directories.push(Directory {
                    name: "/data".to_string(),
                    read_only: true,
                });
            },
        ];
        for (index, change) in admitted.into_iter().enumerate() {
            assert!(with(change), "{index}");
        }
        let refused: [fn(&mut Doors); 11] = [
            |doors| doors.listen.push(listen(Protocol::Tcp, 80)),
            |doors| doors.listen.push(listen(Protocol::Tcp, 0)),
            |doors| doors.connect.push(connect(Some("db.example"), None, 1)),
            |doors| {
                doors
                    .connect
                    .push(connect(Some("other.example"), None, 5432));
            },
            |doors| doors.connect.push(connect(None, Some("0.0.0.0/0"), 1)),
            |doors| doors.connect.push(connect(None, Some("8.0.0.0/6"), 1)),
            |doors| doors.connect.push(connect(None, Some("11.0.0.0/8"), 1)),
            |doors| doors.connect.push(connect(None, Some("2001:db8::/32"), 0)),
            |doors| doors.resolve = true,
            |doors| {
                doors.directories.push(Directory {
                    name: "/data".to_string(),
                    read_only: false,
                });
            },
            |doors| {
                doors.directories.push(Directory {
                    name: "/".to_string(),
                    read_only: true,
                });
            },
        ];
        for (index, change) in refused.into_iter().enumerate() {
            assert!(!with(change), "{index}");
        }
        let anywhere = connect(None, Some("0.0.0.0/0"), 0);
        assert!(connects(&anywhere, &connect(Some("a.example"), None, 1)));
    }
}
