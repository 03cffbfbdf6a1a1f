// SPDX-License-Identifier: Apache-2.0

//! Compares open contracts, which hosts write for their Keeps that wait, with the contract that the tenant would write
//! itself. A host could write anything: a field that differs to the tenant's disadvantage is a mismatch, and the tenant
//! makes a contract of its own.

use enarx_contract::canonical::Name;
use enarx_contract::{Contract, Image, MinTcb, Tenant, Terms};
use enarx_manager_api::{Offer, limit};

/// The contract that the tenant would write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Its terms.
    pub terms: &'a Terms,
    /// The tenant's time, in seconds since 1970.
    pub now: u64,
}

/// The first field of an open contract that does not fit, by dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of the open contract does not fit")]
pub(crate) struct Mismatch(pub &'static str);

/// Class of the Keeps that a host keeps ready for tenants without special requirements.
const DEFAULT_CLASS: &str = "default";
/// The longest that an open contract may hold from now, in seconds: a year. Signatures serve accounts, so more is a harm.
const LONGEST: u64 = 365 * 24 * 3600;
/// The longest time without an application, and without a session, that an open contract may name, in seconds: two days.
const LONGEST_WAIT: u32 = 2 * 24 * 3600;

/// Checks that the tenant may sign this open contract in place of its own. Of time it may give more, within bounds.
///
/// # Errors
/// [`Mismatch`].
pub(crate) fn fits(contract: &Contract, wanted: &Wanted<'_>) -> Result<(), Mismatch> {
    let (found, own) = (contract.terms(), wanted.terms);
    // Every field by its name: a new one does not compile until it is compared.
    let Terms {
        version,
        id: _,
        host,
        tenant,
        platform,
        image,
        resources,
        doors,
        times,
        class,
    } = found;
    let enarx_contract::Platform {
        tee,
        backend,
        product,
        guest_policy,
        min_tcb,
    } = platform;
    let enarx_contract::Times {
        not_before,
        not_after,
        unprovisioned_seconds,
        detached_seconds_max,
        runtime_seconds_max,
    } = times;
    for (field, fits) in [
        ("version", *version == own.version),
        ("host.key", host.key == own.host.key),
        ("host.name", host.name == own.host.name),
        ("tenant", *tenant == Tenant::Open),
        ("platform.tee", *tee == own.platform.tee),
        ("platform.backend", *backend == own.platform.backend),
        ("platform.product", *product == own.platform.product),
        (
            "platform.guest_policy",
            *guest_policy == own.platform.guest_policy,
        ),
        (
            "platform.min_tcb",
            is_as_strict(min_tcb.as_ref(), own.platform.min_tcb.as_ref()),
        ),
        (
            "image.measurement",
            measurement(image.as_ref()) == measurement(own.image.as_ref()),
        ),
        (
            "image.release",
            release(image.as_ref()).is_none()
                || release(image.as_ref()) == release(own.image.as_ref()),
        ),
        // The launch digest depends on it.
        ("resources.vcpus", resources.vcpus == own.resources.vcpus),
        ("resources.memory", resources.memory == own.resources.memory),
        ("doors", *doors == own.doors),
        ("times.not_before", *not_before <= wanted.now),
        (
            "times.not_after",
            (own.times.not_after..=wanted.now.saturating_add(LONGEST)).contains(not_after),
        ),
        (
            "times.unprovisioned_seconds",
            (own.times.unprovisioned_seconds..=LONGEST_WAIT).contains(unprovisioned_seconds),
        ),
        // The deployment says how long within this.
        (
            "times.detached_seconds_max",
            (own.times.detached_seconds_max..=LONGEST_WAIT).contains(detached_seconds_max),
        ),
        // The Keep ends the application by this time, so more would be another term.
        (
            "times.runtime_seconds_max",
            *runtime_seconds_max == own.times.runtime_seconds_max,
        ),
        (
            "class",
            class == &own.class || class.as_str() == DEFAULT_CLASS,
        ),
    ] {
        if !fits {
            return Err(Mismatch(field));
        }
    }
    Ok(())
}

fn measurement(image: Option<&Image>) -> Option<[u8; 48]> {
    image.map(|image| image.measurement.0)
}

fn release(image: Option<&Image>) -> Option<&str> {
    image?.release.as_ref().map(Name::as_str)
}

/// True if a floor is nowhere lower than the own one.
fn is_as_strict(found: Option<&MinTcb>, own: Option<&MinTcb>) -> bool {
    match (found, own) {
        (Some(found), Some(own)) => {
            found.fmc.is_some() == own.fmc.is_some()
                && found.fmc >= own.fmc
                && found.bootloader >= own.bootloader
                && found.tee >= own.tee
                && found.snp >= own.snp
                && found.microcode >= own.microcode
        }
        (None, None) => true,
        _ => false,
    }
}

/// The open contracts of an offer that the host has signed and that fit, in the host's order, at most [`limit::READY`]: a
/// host that offers more than it may does not keep the tenant busy.
pub(crate) fn ready(offer: &Offer, wanted: &Wanted<'_>) -> Vec<Contract> {
    let mut fitting = Vec::new();
    for ready in &offer.ready {
        if fitting.len() == limit::READY {
            break;
        }
        match ready.verify() {
            Ok(contract) => match fits(&contract, wanted) {
                Ok(()) => fitting.push(contract),
                Err(mismatch) => {
                    tracing::debug!(keep = %contract.keep_id(), %mismatch, "a Keep that is ready is passed over");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "the host offers an open contract that is not valid");
            }
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_contract::canonical::{Base64, Hex};
    use enarx_contract::{
        Backend, Doors, Host, Platform, Resources, Side, Tee, Times, signing_input,
    };
    use enarx_manager_api::{Limits, Ready, VERSION};
    use enarx_tls::Key;

    const NOW: u64 = 1_000_000;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    /// Terms that a tenant of this key would write.
    fn own(host: &Key, tenant: &Key) -> Terms {
        Terms {
            version: enarx_contract::VERSION,
            id: Hex([1; 16]),
            host: Host {
                key: host.public(),
                name: name("host"),
            },
            tenant: Tenant::Named(tenant.public()),
            platform: Platform {
                tee: Tee::Snp,
                backend: Backend::Snp,
                product: Some(name("turin")),
                guest_policy: Some(Hex([1; 8])),
                min_tcb: Some(MinTcb {
                    fmc: Some(1),
                    bootloader: 1,
                    tee: 1,
                    snp: 1,
                    microcode: 1,
                }),
            },
            image: Some(Image {
                release: Some(name("release")),
                measurement: Hex([2; 48]),
            }),
            resources: Resources {
                vcpus: 2,
                memory: 100,
            },
            doors: Doors::default(),
            times: Times {
                not_before: NOW - 300,
                not_after: NOW + 100,
                unprovisioned_seconds: 10,
                detached_seconds_max: 20,
                runtime_seconds_max: 30,
            },
            class: name("standard"),
        }
    }

    /// The terms of a Keep that waits, for the same.
    fn open(own: &Terms) -> Terms {
        Terms {
            id: Hex([3; 16]),
            tenant: Tenant::Open,
            class: name("default"),
            ..own.clone()
        }
    }

    fn floor(terms: &mut Terms) -> &mut MinTcb {
        terms.platform.min_tcb.as_mut().expect("a floor")
    }

    fn image(terms: &mut Terms) -> &mut Image {
        terms.image.as_mut().expect("an image")
    }

    fn outcome(change: impl FnOnce(&mut Terms)) -> Result<(), Mismatch> {
        let host = Key::generate().expect("a key");
        let own = own(&host, &Key::generate().expect("a key"));
        let mut open = open(&own);
        change(&mut open);
        let contract = Contract::new(open).expect("terms that make sense");
        let wanted = Wanted {
            terms: &own,
            now: NOW,
        };
        fits(&contract, &wanted)
    }

    #[test]
    fn terms_without_a_disadvantage_fit() {
        let changes: [fn(&mut Terms); 10] = [
            |_| {},
            |terms| image(terms).release = None,
            |terms| floor(terms).fmc = Some(2),
            |terms| floor(terms).microcode = 200,
            |terms| terms.class = name("standard"),
            |terms| terms.times.not_before = NOW,
            |terms| terms.times.not_after = NOW + 101,
            |terms| terms.times.unprovisioned_seconds = 11,
            |terms| terms.times.detached_seconds_max = 21,
            |terms| terms.id = Hex([4; 16]),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(outcome(change), Ok(()), "{index}");
        }
    }

    /// A field, and a change of the terms that makes it the first one that does not fit.
    type Case = (&'static str, fn(&mut Terms));

    #[test]
    fn every_field_is_compared() {
        let cases: [Case; 30] = [
            ("host.key", |terms| {
                terms.host.key = Key::generate().expect("a key").public();
            }),
            ("host.name", |terms| terms.host.name = name("other")),
            ("tenant", |terms| {
                terms.tenant = Tenant::Named(terms.host.key);
            }),
            ("platform.tee", |terms| {
                terms.platform.tee = Tee::Simulated;
                terms.platform.backend = Backend::Sim;
            }),
            ("platform.tee", |terms| {
                terms.platform = Platform {
                    tee: Tee::None,
                    backend: Backend::Kvm,
                    product: None,
                    guest_policy: None,
                    min_tcb: None,
                };
                terms.image = None;
            }),
            ("platform.product", |terms| {
                terms.platform.product = Some(name("milan"));
                floor(terms).fmc = None;
            }),
            ("platform.guest_policy", |terms| {
                terms.platform.guest_policy = Some(Hex([2; 8]));
            }),
            ("platform.min_tcb", |terms| floor(terms).fmc = Some(0)),
            ("platform.min_tcb", |terms| floor(terms).bootloader = 0),
            ("platform.min_tcb", |terms| floor(terms).tee = 0),
            ("platform.min_tcb", |terms| floor(terms).snp = 0),
            ("platform.min_tcb", |terms| floor(terms).microcode = 0),
            ("image.measurement", |terms| {
                image(terms).measurement = Hex([3; 48]);
            }),
            ("image.release", |terms| {
                image(terms).release = Some(name("older"));
            }),
            ("resources.vcpus", |terms| terms.resources.vcpus = 1),
            ("resources.vcpus", |terms| terms.resources.vcpus = 3),
            ("resources.memory", |terms| terms.resources.memory = 99),
            ("resources.memory", |terms| terms.resources.memory = 101),
            ("doors", |terms| {
                terms.doors.listen.push("443".parse().expect("a rule"));
            }),
            ("doors", |terms| {
                terms
                    .doors
                    .resolve
                    .push("a.example".parse().expect("a rule"));
            }),
            ("times.not_before", |terms| {
                terms.times.not_before = NOW + 1;
            }),
            ("times.not_after", |terms| terms.times.not_after = NOW + 99),
            ("times.not_after", |terms| {
                terms.times.not_after = NOW + LONGEST + 1;
            }),
            ("times.unprovisioned_seconds", |terms| {
                terms.times.unprovisioned_seconds = 9;
            }),
            ("times.unprovisioned_seconds", |terms| {
                terms.times.unprovisioned_seconds = LONGEST_WAIT + 1;
            }),
            ("times.detached_seconds_max", |terms| {
                terms.times.detached_seconds_max = 19;
            }),
            ("times.detached_seconds_max", |terms| {
                terms.times.detached_seconds_max = LONGEST_WAIT + 1;
            }),
            ("times.runtime_seconds_max", |terms| {
                terms.times.runtime_seconds_max = 31;
            }),
            ("class", |terms| terms.class = name(enarx_contract::PROBE)),
            ("class", |terms| terms.class = name("gold")),
        ];
        for (index, (field, change)) in cases.into_iter().enumerate() {
            assert_eq!(outcome(change), Err(Mismatch(field)), "{index}");
        }
        let shorter = |terms: &mut Terms| terms.times.runtime_seconds_max = 29;
        assert_eq!(outcome(shorter), Err(Mismatch("times.runtime_seconds_max")));
    }

    #[test]
    fn the_kind_of_keep_is_compared_where_nothing_is_measured() {
        let host = Key::generate().expect("a key");
        let mut own = own(&host, &Key::generate().expect("a key"));
        own.image = None;
        own.platform = Platform {
            tee: Tee::None,
            backend: Backend::Kvm,
            product: None,
            guest_policy: None,
            min_tcb: None,
        };
        let mut open = open(&own);
        let wanted = Wanted {
            terms: &own,
            now: NOW,
        };
        let contract = Contract::new(open.clone()).expect("terms");
        assert_eq!(fits(&contract, &wanted), Ok(()));
        open.platform.backend = Backend::Process;
        let contract = Contract::new(open).expect("terms");
        assert_eq!(fits(&contract, &wanted), Err(Mismatch("platform.backend")));
    }

    #[test]
    fn only_contracts_signed_by_the_host_are_accepted() {
        let (host, other) = (
            Key::generate().expect("a key"),
            Key::generate().expect("a key"),
        );
        let own = own(&host, &other);
        let offered = |terms: Terms, signer: &Key| {
            let contract = Contract::new(terms).expect("terms");
            let input = signing_input(Side::Host, contract.digest());
            Ready {
                contract: Base64(contract.bytes().to_vec()),
                host_signature: signer.sign(&input).expect("a signature"),
                class: name("default"),
            }
        };
        let good = open(&own);
        let mut offer = Offer {
            version: VERSION,
            key: host.public(),
            name: name("host"),
            platforms: Vec::new(),
            limits: Limits {
                vcpus: 1,
                memory: 1,
                keeps: 1,
                runtime_seconds_max: 1,
                detached_seconds_max: 1,
            },
            doors: Doors::default(),
            classes: Vec::new(),
            ready: vec![
                offered(good.clone(), &other),
                Ready {
                    contract: Base64(b"junk".to_vec()),
                    ..offered(good.clone(), &host)
                },
                offered(
                    Terms {
                        resources: Resources {
                            vcpus: 1,
                            memory: 100,
                        },
                        ..good.clone()
                    },
                    &host,
                ),
                offered(good.clone(), &host),
            ],
        };
        let wanted = Wanted {
            terms: &own,
            now: NOW,
        };
        let found = ready(&offer, &wanted);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].terms(), &good);
        // However many there are, few are tried.
        offer.ready = vec![offered(good, &host); 100];
        assert_eq!(ready(&offer, &wanted).len(), limit::READY);
    }
}
