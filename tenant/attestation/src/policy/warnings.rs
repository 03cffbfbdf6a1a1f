// SPDX-License-Identifier: Apache-2.0

//! The switches of a policy that give protection away, and warnings for its author.

use super::keys::{INSECURE, joined};
use super::rules::{Endorser, IntelPolicy, Policy, SnpPolicy};
use crate::attacks::{self, Attack};
use enarx_snp::tcb::Component;

/// True if a key with this value gives protection away.
fn is_insecure(name: &str, value: &toml::Value) -> bool {
    let on = match value {
        toml::Value::Boolean(on) => *on,
        toml::Value::Array(entries) => !entries.is_empty(),
        _ => true,
    };
    name.contains(INSECURE) && on || value.as_str().is_some_and(|v| v.starts_with(INSECURE))
}

impl Policy {
    /// Every switch of this policy that gives protection away, as `key = value`.
    pub fn insecure_switches(&self) -> Vec<String> {
        fn walk(table: &toml::Table, path: &str, found: &mut Vec<String>) {
            for (name, value) in table {
                let path = joined(path, name);
                match value.as_table() {
                    Some(table) => walk(table, &path, found),
                    None if is_insecure(name, value) => found.push(format!("{path} = {value}")),
                    None => {}
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.table(), "", &mut found);
        found
    }

    /// Warnings about this policy, each a sentence; the switches that give protection away
    /// are apart, in [`Self::insecure_switches`].
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let Self { snp, tdx, sgx, .. } = self;
        if snp.accept && snp.pins_nothing() {
            warnings.push(
                "snp: no measurements, releases, id-key-digests or author-key-digests: any guest on a genuine chip \
                 passes"
                    .to_owned(),
            );
        }
        if tdx.accept && tdx.pins_nothing() {
            warnings.push("tdx: no mrtd: any TD on a genuine platform passes".to_owned());
            if tdx.names_registers() {
                warnings.push(
                    "tdx: rtmr0 to rtmr3 prove nothing without mrtd: a TD with its own firmware extends them as it likes"
                        .to_owned(),
                );
            }
        }
        if sgx.accept && sgx.pins_nothing() {
            warnings.push(
                "sgx: no mrenclave, no mrsigner: any enclave on a genuine platform passes"
                    .to_owned(),
            );
        }
        if sgx.accept
            && sgx.mrsigner.is_empty()
            && (sgx.isv_prod_id.is_some() || sgx.min_isv_svn > 0)
        {
            warnings.push(
                "sgx: isv-prod-id and min-isv-svn prove nothing without mrsigner: whoever signs an enclave chooses them"
                    .to_owned(),
            );
        }
        if snp.accept {
            warnings.extend(unprotected(snp));
            warnings.extend(floors(snp));
            warnings.extend(zero_floors(snp));
            warnings.extend(of_id_blocks(snp));
            warnings.extend(providers(snp));
        }
        if !(tdx.accept || sgx.accept) && self.intel != IntelPolicy::default() {
            warnings.push(
                "intel: this table is about quotes, and neither tdx nor sgx is accepted".to_owned(),
            );
        }
        warnings
    }
}

/// Products that are accepted although no version of anything protects them.
fn unprotected(snp: &SnpPolicy) -> impl Iterator<Item = String> {
    snp.products.iter().flat_map(|product| {
        let asked = |attack: &Attack| snp.required_attacks().any(|a| a == attack);
        attacks::unmitigated(product)
            .filter(move |attack| !asked(attack))
            .map(move |attack| format!("snp: {}", attack.exposure(product)))
    })
}

/// Products for which `snp.min-tcb` has no floor, and floors for products that are not accepted.
fn floors(snp: &SnpPolicy) -> Vec<String> {
    let mut found = Vec::new();
    if snp.min_tcb.is_empty() {
        return found;
    }
    let without = |product: &&String| !snp.min_tcb.contains_key(*product);
    for product in snp.products.iter().filter(without) {
        found.push(format!(
            "snp: {product} is among snp.products, but snp.min-tcb has no floor for it: every such report is refused"
        ));
    }
    let unused = |product: &&String| !snp.products.contains(product);
    for product in snp.min_tcb.keys().filter(unused) {
        found.push(format!(
            "snp: snp.min-tcb has a floor for {product}, which is not among snp.products"
        ));
    }
    found
}

/// Floors of 0, which everything reaches.
fn zero_floors(snp: &SnpPolicy) -> Vec<String> {
    let is_zero = |text: &Option<String>| {
        let numbers = text.as_deref().into_iter();
        let digits: Vec<_> = numbers.flat_map(|text| text.split('.')).collect();
        !digits.is_empty() && digits.iter().all(|number| number.parse() == Ok(0))
    };
    let tables = snp.min_tcb.iter().filter(|(_, floor)| {
        let floors = Component::ALL.map(|component| floor.get(component));
        floors.iter().flatten().all(|least| *least == 0)
    });
    let tables = tables.map(|(product, _)| format!("snp.min-tcb.{product}"));
    let firmware = is_zero(&snp.min_firmware).then(|| "snp.min-firmware".to_owned());
    let abi = is_zero(&snp.guest_policy.min_abi).then(|| "snp.guest-policy.min-abi".to_owned());
    tables
        .chain(firmware)
        .chain(abi)
        .map(|key| format!("snp: {key} requires nothing: every value is at least 0"))
        .collect()
}

/// Values of an ID block, although no signer is required.
fn of_id_blocks(snp: &SnpPolicy) -> Option<String> {
    let named = !snp.family_ids.is_empty() || !snp.image_ids.is_empty() || snp.min_guest_svn > 0;
    let signed = !snp.id_key_digests.is_empty() || !snp.author_key_digests.is_empty();
    (named && !signed).then(|| {
        "snp: family-ids, image-ids and min-guest-svn prove nothing without id-key-digests or author-key-digests: whoever \
         launches a guest chooses them"
            .to_owned()
    })
}

/// Keys of chips, which are of no provider, under a policy that names providers.
fn providers(snp: &SnpPolicy) -> Option<String> {
    if snp.allowed_csps.is_empty() || !snp.signing_keys.contains(&Endorser::Vcek) {
        return None;
    }
    let refused = if snp.signing_keys.contains(&Endorser::Vlek) {
        "every report under a VCEK"
    } else {
        "every report"
    };
    Some(format!(
        "snp: snp.allowed-csps names providers, and a VCEK's certificate names none: {refused} is refused"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_insecure_switch_is_off_by_default() {
        assert_eq!(Policy::default().insecure_switches(), [""; 0]);
        let all = Policy::insecure_authenticity_only().insecure_switches();
        for switch in [
            "missing.crl = \"insecure-ignore\"",
            "snp.insecure-vmpl = [1, 2, 3]",
            "snp.insecure-ignored-attacks = [\"badram\", \"entrysign\"]",
            "snp.guest-policy.insecure-allow-debug = true",
            "sgx.insecure-allow-debug = true",
        ] {
            assert!(all.iter().any(|s| s == switch), "{switch}: {all:#?}");
        }
    }
}
