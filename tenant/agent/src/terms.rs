// SPDX-License-Identifier: Apache-2.0

//! From a host's offer to the contract that the tenant proposes. Everything in an offer is a claim: values taken from
//! it become terms, and the Keep's report has to satisfy them.

use crate::fault::Fault;
use crate::order::Order;
use enarx_attestation::Policy;
use enarx_contract::canonical::{Hex, Name};
use enarx_contract::{
    Contract, Host, Image, MAX_CLOCK_SKEW, MinTcb, Platform, PublicKey, Tee, Tenant, Terms, Times,
};
use enarx_manager_api::{Offer, PlatformOffer};
use enarx_snp::product;
use enarx_snp::tcb::Layout;

/// The class of the contracts that the agent makes.
const CLASS: &str = "standard";

/// The platforms that the tenant accepts.
pub trait Platforms: Sync {
    /// The image that runs on this platform with this many virtual CPUs, with the launch digest that the tenant
    /// computed itself; `None`: it has none for this platform. Asked only about platforms that measure.
    fn image(&self, offer: &PlatformOffer, vcpus: u32) -> Option<Image>;

    /// True if the application may run on Keeps whose reports this technology signs.
    fn accepts(&self, tee: Tee) -> bool;
}

/// Chooses the first platform of the offer that the tenant accepts and has an image for. They are few, as the offer is read: for
/// each the tenant may have to compute a launch digest, and each is named where none is taken.
///
/// # Errors
/// [`Fault::Platform`].
pub(crate) fn choose<'a>(
    offer: &'a Offer,
    order: &Order,
    platforms: &dyn Platforms,
) -> Result<(&'a PlatformOffer, Option<Image>), Fault> {
    for platform in &offer.platforms {
        if !platforms.accepts(platform.tee) {
            continue;
        }
        if platform.tee == Tee::None {
            if order.unattested.is_some() {
                return Ok((platform, None));
            }
            continue;
        }
        if let Some(image) = platforms.image(platform, order.resources.vcpus) {
            return Ok((platform, Some(image)));
        }
    }
    let names: Vec<_> = offer
        .platforms
        .iter()
        .map(|platform| {
            let tee = match platform.tee {
                Tee::Snp => "snp",
                Tee::Simulated => "simulated",
                Tee::None => "no TEE",
            };
            let product = platform.product.as_ref();
            product.map_or_else(
                || tee.to_owned(),
                |name| format!("{tee} on {}", name.as_str()),
            )
        })
        .collect();
    Err(Fault::Platform(if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }))
}

/// The lowest TCB version that the policy asks of this product; zeros where it asks for none.
fn floor(policy: &Policy, product: &Name) -> MinTcb {
    let generation = product::by_name(product.as_str());
    let floor = policy
        .snp
        .min_tcb
        .get(product.as_str())
        .copied()
        .unwrap_or_default();
    let turin = generation.is_some_and(|generation| generation.tcb == Layout::Turin);
    MinTcb {
        fmc: turin.then(|| floor.fmc.unwrap_or(0)),
        bootloader: floor.bootloader.unwrap_or(0),
        tee: floor.tee.unwrap_or(0),
        snp: floor.snp.unwrap_or(0),
        microcode: floor.microcode.unwrap_or(0),
    }
}

/// The contract with this host about this platform, from `now` on, in seconds since 1970. `id` is random.
///
/// # Errors
/// [`Fault::Contract`] when the offer or the order has values without a meaning.
pub(crate) fn contract(
    offer: &Offer,
    (platform, image): (&PlatformOffer, Option<Image>),
    order: &Order,
    policy: &Policy,
    tenant: PublicKey,
    now: u64,
    id: [u8; 16],
) -> Result<Contract, Fault> {
    let measured = platform.tee != Tee::None;
    let product = platform.product.clone().filter(|_| measured);
    let terms = Terms {
        version: enarx_contract::VERSION,
        id: Hex(id),
        host: Host {
            key: offer.key,
            name: offer.name.clone(),
        },
        tenant: Tenant::Named(tenant),
        platform: Platform {
            tee: platform.tee,
            backend: platform.backend,
            min_tcb: product.as_ref().map(|product| floor(policy, product)),
            product,
            guest_policy: platform.guest_policy.filter(|_| measured),
        },
        image,
        resources: order.resources,
        doors: order.doors.clone(),
        times: Times {
            not_before: now.saturating_sub(MAX_CLOCK_SKEW),
            not_after: now.saturating_add(u64::from(order.times.valid_seconds)),
            unprovisioned_seconds: order.times.unprovisioned_seconds,
            detached_seconds_max: order.detached.seconds,
            runtime_seconds_max: order.times.runtime_seconds_max,
        },
        class: Name::cleaned(CLASS),
    };
    Ok(Contract::new(terms)?)
}
