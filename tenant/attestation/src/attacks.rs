// SPDX-License-Identifier: Apache-2.0

//! Known attacks on SEV-SNP and the evidence of their mitigation in a report, as data. Each number has a source; if
//! none is published for a product, the entry has none and the policy says what that means.

use enarx_snp::bits::{Bit, GuestPolicy, PlatformInfo};
use enarx_snp::product::{CpuSignature, Generation};
use enarx_snp::tcb::Component;

/// A least security version number for one product.
#[derive(Debug, PartialEq, Eq)]
pub struct Floor {
    /// Name of the generation (see [`enarx_snp::product::GENERATIONS`]).
    pub product: &'static str,
    /// CPUID model and stepping, where the numbers differ by them: each part counts its microcode apart. `None`: all
    /// parts of the generation.
    pub part: Option<Part>,
    /// The component.
    pub component: Component,
    /// The least number.
    pub svn: u8,
}

/// A part of a generation by CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its name, for people.
    pub name: &'static str,
    /// Model, base and extended model combined.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// A requirement that a report must meet.
#[derive(Debug, PartialEq, Eq)]
pub enum Defence {
    /// Minimum numbers, for the components that any row names: for a part without a row for one of them, none is
    /// published.
    Floors(&'static [Floor]),
    /// A bit of the platform information.
    Platform(Bit),
    /// A bit of the guest policy.
    GuestPolicy(Bit),
    /// No mitigation on these products: they are refused.
    RefuseProducts(&'static [&'static str]),
}

/// A known attack.
#[derive(Debug, PartialEq, Eq)]
pub struct Attack {
    /// Name in lower case, as policies use it.
    pub name: &'static str,
    /// Effect of the attack, one sentence.
    pub summary: &'static str,
    /// The vendor's bulletin and identifiers.
    pub bulletin: &'static str,
    /// Where the numbers come from.
    pub source: &'static str,
    /// The requirements that a report must meet, all of them.
    pub defences: &'static [Defence],
}

const fn part(name: &'static str, model: u8, stepping: u8) -> Part {
    Part {
        name,
        model,
        stepping,
    }
}

/// Parts by CPUID, as fwupd's table of EntrySign fixes and the bulletins' microcode revisions name them.
const MILAN: Option<Part> = Some(part("Milan", 0x01, 1));
const MILAN_X: Option<Part> = Some(part("Milan-X", 0x01, 2));
const GENOA: Option<Part> = Some(part("Genoa", 0x11, 1));
const GENOA_X: Option<Part> = Some(part("Genoa-X", 0x11, 2));
const BERGAMO: Option<Part> = Some(part("Bergamo, Siena", 0xA0, 2));
const TURIN: Option<Part> = Some(part("Turin", 0x02, 1));

const fn floor(product: &'static str, part: Option<Part>, component: Component, svn: u8) -> Floor {
    Floor {
        product,
        part,
        component,
        svn,
    }
}

/// The attacks that policies can name.
pub static ATTACKS: [Attack; 8] = [
    Attack {
        name: "entrysign",
        summary: "microcode of the attacker's making passes the signature check",
        bulletin: "AMD-SB-3019 (CVE-2024-56161), AMD-SB-7033 (CVE-2024-36347)",
        source: "SNP numbers: AMD-SB-3019 as quoted in microsoft/CCF issue 6812; microcode: low byte of the fixed \
                 revisions in fwupd's table of EntrySign fixes",
        defences: &[Defence::Floors(&[
            floor("milan", None, Component::Snp, 0x18),
            floor("milan", MILAN, Component::Microcode, 0xDB),
            floor("milan", MILAN_X, Component::Microcode, 0x44),
            floor("genoa", None, Component::Snp, 0x17),
            floor("genoa", GENOA, Component::Microcode, 0x54),
            floor("genoa", GENOA_X, Component::Microcode, 0x4F),
            floor("bergamo-siena", BERGAMO, Component::Microcode, 0x19),
        ])],
    },
    Attack {
        name: "badram",
        summary: "memory modules that lie about their size alias addresses",
        bulletin: "AMD-SB-3015 (CVE-2024-21944)",
        source: "56860 PLATFORM_INFO bit 5, ALIAS_CHECK_COMPLETE",
        defences: &[Defence::Platform(PlatformInfo::ALIAS_CHECK_COMPLETE)],
    },
    Attack {
        name: "rmpocalypse",
        summary: "the reverse map table is written while the firmware sets it up",
        bulletin: "AMD-SB-3020 (CVE-2025-0033)",
        source: "AMD-SB-3020 as quoted in ariofrio/pi-tee's review of 2026-10-08: Genoa SPL 1Bh with microcode \
                 0A101156h (Genoa-X 0A101251h), Turin SPL 04h with microcode 0B002150h",
        defences: &[Defence::Floors(&[
            floor("genoa", None, Component::Snp, 0x1B),
            floor("genoa", GENOA, Component::Microcode, 0x56),
            floor("genoa", GENOA_X, Component::Microcode, 0x51),
            floor("turin", None, Component::Snp, 0x04),
            floor("turin", TURIN, Component::Microcode, 0x50),
        ])],
    },
    Attack {
        name: "stackwarp",
        summary: "a sibling thread corrupts the stack pointer of a guest",
        bulletin: "AMD-SB-3027 (CVE-2025-29943)",
        source: "AMD-SB-3027, TCB values for attestation, as quoted in ariofrio/pi-tee's review of 2026-10-08",
        defences: &[Defence::Floors(&[
            floor("genoa", GENOA, Component::Microcode, 0x56),
            floor("genoa", GENOA_X, Component::Microcode, 0x51),
            floor("turin", TURIN, Component::Microcode, 0x51),
        ])],
    },
    Attack {
        name: "iommu-write-buffer",
        summary: "late writes of the IOMMU corrupt guest memory",
        bulletin: "AMD-SB-3016 (CVE-2023-20585)",
        source: "56860 PLATFORM_INFO bit 6; the host's kernel must be fixed too, which no report shows",
        defences: &[Defence::Platform(PlatformInfo::IOMMU_WRITE_SAFE)],
    },
    Attack {
        name: "ciphertext-side-channel",
        summary: "the host watches ciphertext to learn about plaintext (CipherLeaks)",
        bulletin: "AMD-SB-3021",
        source: "56860 PLATFORM_INFO bit 4, GUEST_POLICY bit 24",
        defences: &[
            Defence::Platform(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN),
            Defence::GuestPolicy(GuestPolicy::CIPHERTEXT_HIDING_DRAM),
        ],
    },
    Attack {
        name: "heracles",
        summary: "moved and swapped pages become a chosen-plaintext oracle",
        bulletin: "AMD-SB-3021",
        source: "56860 GUEST_POLICY bits 24 and 25",
        defences: &[
            Defence::GuestPolicy(GuestPolicy::PAGE_SWAP_DISABLE),
            Defence::GuestPolicy(GuestPolicy::CIPHERTEXT_HIDING_DRAM),
        ],
    },
    Attack {
        name: "badfuse",
        summary: "software reads the seed of the endorsement keys, so any report can be forged (MilanLaunchy, BadFuse)",
        bulletin: "none",
        source: "Shen and Qin, arXiv 2605.12990: no TCB version helps on Milan",
        defences: &[Defence::RefuseProducts(&["milan"])],
    },
];

/// Attacks that no report can show: physical ones and those that the guest's own software must withstand.
pub static NOT_VISIBLE: [(&str, &str); 3] = [
    (
        "Battering RAM, WireTap, TEE.fail",
        "interposers on the memory bus; the vendors count them out of scope: allow only chips at places you trust",
    ),
    (
        "Heckler, WeSee",
        "malicious interrupts (CVE-2024-25742 to 25744): the guest's measurement must be one that withstands them",
    ),
    (
        "SEV-Step, CounterSEVeillance and other side channels",
        "the guest's software must be written to withstand them",
    ),
];

/// The attack with this name.
pub fn by_name(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|a| a.name == name)
}

/// The attacks that work against every version of this product.
pub fn unmitigated(product: &str) -> impl Iterator<Item = &'static Attack> {
    ATTACKS.iter().filter(move |attack| {
        attack.defences.iter().any(|defence| {
            matches!(defence, Defence::RefuseProducts(products) if products.contains(&product))
        })
    })
}

impl Attack {
    /// A warning for policies that accept this product, against which the attack works in every version.
    pub(crate) fn exposure(&self, product: &str) -> String {
        format!(
            "{product} is accepted: {}; to refuse it, name {} in snp.attacks or leave {product} out of snp.products",
            self.summary, self.name
        )
    }
}

impl Floor {
    /// True if this floor is for this CPU of the generation. A report without a CPU (version 2) is held to the floors of
    /// every part.
    pub fn applies(&self, generation: &Generation, cpu: Option<CpuSignature>) -> bool {
        self.product == generation.name
            && match (self.part, cpu) {
                (Some(part), Some(cpu)) => (part.model, part.stepping) == (cpu.model, cpu.stepping),
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_floor_names_a_known_product_and_component() {
        for attack in &ATTACKS {
            assert!(
                !attack.source.is_empty() && !attack.bulletin.is_empty(),
                "{}",
                attack.name
            );
            for defence in attack.defences {
                if let Defence::Floors(floors) = defence {
                    for floor in *floors {
                        let generation = enarx_snp::product::by_name(floor.product).unwrap();
                        assert!(generation.tcb.byte(floor.component).is_some());
                        if let Some(part) = floor.part {
                            let (first, last) = generation.models;
                            assert!((first..=last).contains(&part.model), "{}", part.name);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in ATTACKS.iter().enumerate() {
            assert!(ATTACKS[i + 1..].iter().all(|b| b.name != a.name));
        }
    }
}
