//! Known attacks on SEV-SNP and what of their mitigation a report shows, as data. A number is here only with its
//! source; where none is published for a product, the entry has none and the policy says what that means.

use enarx_snp::bits::{Bit, GuestPolicy, PlatformInfo};
use enarx_snp::product::Generation;
use enarx_snp::tcb::Component;

/// A least security version number for one product.
#[derive(Debug, PartialEq, Eq)]
pub struct Floor {
    /// Name of the generation (see [`enarx_snp::product::GENERATIONS`]).
    pub product: &'static str,
    /// CPUID stepping, where the numbers differ by it: the parts with stacked cache (Milan-X, Genoa-X) have
    /// stepping 2 and count their microcode apart. `None`: all steppings.
    pub stepping: Option<u8>,
    /// The component.
    pub component: Component,
    /// The least number.
    pub svn: u8,
}

/// What a report must show.
#[derive(Debug, PartialEq, Eq)]
pub enum Defence {
    /// Least numbers; a product without a row has none published.
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
    /// What it does, one sentence.
    pub summary: &'static str,
    /// The vendor's bulletin and identifiers.
    pub bulletin: &'static str,
    /// Where the numbers come from.
    pub source: &'static str,
    /// What a report must show, all of it.
    pub defences: &'static [Defence],
}

const fn floor(
    product: &'static str,
    stepping: Option<u8>,
    component: Component,
    svn: u8,
) -> Floor {
    Floor {
        product,
        stepping,
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
        source: "SNP numbers: AMD-SB-3019 as quoted in microsoft/CCF issue 6812; microcode: low octet of the fixed \
                 revisions in fwupd's table of EntrySign fixes",
        defences: &[Defence::Floors(&[
            floor("milan", None, Component::Snp, 0x18),
            floor("milan", Some(1), Component::Microcode, 0xDB),
            floor("milan", Some(2), Component::Microcode, 0x44),
            floor("genoa", None, Component::Snp, 0x17),
            floor("genoa", Some(1), Component::Microcode, 0x54),
            floor("genoa", Some(2), Component::Microcode, 0x4F),
            floor("bergamo-siena", Some(2), Component::Microcode, 0x19),
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
            floor("genoa", Some(1), Component::Microcode, 0x56),
            floor("genoa", Some(2), Component::Microcode, 0x51),
            floor("turin", None, Component::Snp, 0x04),
            floor("turin", Some(1), Component::Microcode, 0x50),
        ])],
    },
    Attack {
        name: "stackwarp",
        summary: "a sibling thread corrupts the stack pointer of a guest",
        bulletin: "AMD-SB-3027 (CVE-2025-29943)",
        source: "AMD-SB-3027, TCB values for attestation, as quoted in ariofrio/pi-tee's review of 2026-10-08",
        defences: &[Defence::Floors(&[
            floor("genoa", Some(1), Component::Microcode, 0x56),
            floor("genoa", Some(2), Component::Microcode, 0x51),
            floor("turin", Some(1), Component::Microcode, 0x51),
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

impl Floor {
    /// Whether this floor is for a chip of this generation and stepping. A report without a stepping (version 2)
    /// is held to the floors of every stepping.
    pub fn applies(&self, generation: &Generation, stepping: Option<u8>) -> bool {
        self.product == generation.name
            && match (self.stepping, stepping) {
                (Some(of), Some(stepping)) => of == stepping,
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
                        assert!(generation.tcb.octet(floor.component).is_some());
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
