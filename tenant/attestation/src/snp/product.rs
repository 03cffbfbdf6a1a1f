// SPDX-License-Identifier: Apache-2.0

//! The CPU that a report comes from, and the key that signs it, as a report and its certificates name them.

use enarx_snp::bits::SigningKey;
use enarx_snp::product::{CpuSignature, GENERATIONS, Generation};
use enarx_snp::tcb::Layout;
use std::fmt;

/// The CPU of a report, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    /// The generation that the report names; without one (version 2), the first of the root's line.
    pub(super) first: &'static Generation,
    /// Other generations of the line, from which a report that names no CPU may be.
    pub(super) others: Vec<&'static Generation>,
    /// The CPU that the report names.
    pub(super) cpu: Option<CpuSignature>,
}

impl Product {
    /// The product that a CPU is of.
    pub(crate) fn of_cpu(cpu: CpuSignature) -> Option<Self> {
        let first = cpu.generation()?;
        Some(Self {
            first,
            others: Vec::new(),
            cpu: Some(cpu),
        })
    }

    /// The product of a line, as its certificates name it.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let mut generations = GENERATIONS.into_iter().filter(|g| g.line == line);
        Some(Self {
            first: generations.next()?,
            others: generations.collect(),
            cpu: None,
        })
    }

    /// Every generation to which the CPU may belong; a policy's requirements must hold for each.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &'static Generation> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The layout of its TCB versions.
    pub(crate) fn layout(&self) -> Layout {
        self.first.tcb
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.generations().map(|g| g.name).collect();
        f.write_str(&names.join(" or "))
    }
}

/// The name of the key that signs a report, as verdicts and `enarx inspect` have it.
pub(crate) fn signing_key_name(key: SigningKey) -> String {
    match key {
        SigningKey::Vcek => "vcek".to_owned(),
        SigningKey::Vlek => "vlek".to_owned(),
        SigningKey::None => "none".to_owned(),
        SigningKey::Reserved(number) => format!("reserved({number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generations_of_a_line_share_a_layout() {
        for generation in GENERATIONS {
            let product = Product::of_line(generation.line).unwrap();
            let mut generations = product.generations();
            assert!(generations.any(|g| g == generation));
            for other in product.generations() {
                assert_eq!(other.tcb, product.layout());
                assert_eq!(other.chip_id_len, product.first.chip_id_len);
            }
        }
        assert!(Product::of_line("Naples").is_none());
    }
}
